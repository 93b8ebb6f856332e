//! What the nodes of a cluster say of it in the end: the same, with a leader and with all replicas in sync everywhere,
//! and nothing on the move.

use super::Stage;
use super::client::Client;
use super::history::Place;
use protocol::api::Message;
use protocol::messages::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// One node's word on a partition.
#[derive(Clone, PartialEq, Eq)]
struct Seen {
    leader: i32,
    epoch: i32,
    replicas: Vec<i32>,
    in_sync: BTreeSet<i32>,
}

impl Seen {
    fn is_whole_but_for(&self, may_lack: impl Fn(i32) -> bool) -> bool {
        let mut replicas = self.replicas.iter();
        self.leader >= 0 && replicas.all(|id| self.in_sync.contains(id) || may_lack(*id))
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (leader, epoch) = (self.leader, self.epoch);
        let (replicas, in_sync) = (&self.replicas, &self.in_sync);
        write!(
            f,
            "{leader} since {epoch} of {replicas:?}, in sync {in_sync:?}"
        )
    }
}

type View = BTreeMap<Place, Seen>;

/// Looks at every node until all say the same; keeps who holds what.
pub(super) async fn compare(stage: Rc<Stage>, mut client: Client) {
    let mut told = String::new();
    while !stage.is_over() {
        let (mut views, mut moving) = (Vec::new(), Vec::new());
        for node in stage.members() {
            client.at = node;
            let Some((view, moves)) = look(&mut client).await else {
                continue;
            };
            views.push(view);
            moving.extend(moves);
        }
        let same = views.windows(2).all(|pair| pair[0] == pair[1]);
        // A node with a damaged disk may keep replicas to itself.
        let may_lack = |id: i32| {
            stage
                .damaged
                .get()
                .is_some_and(|at| stage.node_of(id) == Some(at))
        };
        let holds = |seen: &Seen| {
            let mut replicas = seen.replicas.iter().filter_map(|id| stage.node_of(*id));
            seen.is_whole_but_for(may_lack) && !replicas.any(|node| stage.has_left(node))
        };
        let whole = views.iter().flat_map(View::values).all(holds);
        if views.len() == stage.members().count() && same && whole && moving.is_empty() {
            let view = views.swap_remove(0).into_iter();
            let replicas = view.map(|(place, seen)| {
                let nodes = seen.replicas.iter();
                (place, nodes.filter_map(|id| stage.node_of(*id)).collect())
            });
            *stage.replicas.borrow_mut() = replicas.collect();
            stage.history().count("views compared");
            return;
        }
        // Again and again the same is told once.
        let differ = format!(
            "views differ: {}; on the move: {moving:?}",
            differences(&views)
        );
        if differ != told {
            stage.history().tell(|| differ.clone());
            told = differ;
        }
        client.core.sleep(Duration::from_millis(200)).await;
    }
}

/// What a node says of the cluster, and of what moves in it.
async fn look(client: &mut Client) -> Option<(View, Vec<String>)> {
    let request = MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    };
    let version = MetadataRequest::KEY.api().versions.max;
    let metadata = client.call(&request, version).await?;
    let request = ListPartitionReassignmentsRequest {
        timeout_ms: 1_000,
        topics: None,
    };
    let listed = client.call(&request, 0).await?;
    listed.error_code.ok().ok()?;
    let topics = listed.topics.iter();
    let moving = topics.flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|moving| {
            let (index, replicas) = (moving.partition_index, &moving.replicas);
            let (adding, removing) = (&moving.adding_replicas, &moving.removing_replicas);
            format!(
                "{}/{index} on {replicas:?}, {adding:?} come, {removing:?} go",
                topic.name
            )
        })
    });
    Some((seen(metadata), moving.collect()))
}

fn seen(response: MetadataResponse) -> View {
    let partitions = response.topics.into_iter().flat_map(|topic| {
        let id = topic.topic_id;
        topic.partitions.into_iter().map(move |partition| {
            let seen = Seen {
                leader: partition.leader_id,
                epoch: partition.leader_epoch,
                replicas: partition.replica_nodes,
                in_sync: partition.isr_nodes.into_iter().collect(),
            };
            ((id, partition.partition_index), seen)
        })
    });
    partitions.collect()
}

/// What nodes do not agree on, and what is not whole.
fn differences(views: &[View]) -> String {
    let places: BTreeSet<&Place> = views.iter().flat_map(View::keys).collect();
    let told = places.into_iter().filter_map(|place| {
        let told: Vec<Option<&Seen>> = views.iter().map(|view| view.get(place)).collect();
        let agreed = told.windows(2).all(|pair| pair[0] == pair[1]);
        let whole = told
            .iter()
            .flatten()
            .all(|seen| seen.is_whole_but_for(|_| false));
        (!agreed || !whole).then(|| format!("{}/{}: {told:?}", place.0, place.1))
    });
    let told: Vec<String> = told.collect();
    format!("{} nodes answered; {}", views.len(), told.join(", "))
}
