//! How a client of a cluster finds whom to ask: leaders by Metadata, coordinators by FindCoordinator.
//!
//! It believes what it was told until an answer or a connection says otherwise, as real clients do. With one node
//! there is nothing to find, and nothing is asked or drawn.

use super::Stage;
use super::client::Client;
use super::history::Place;
use protocol::codec::Str;
use protocol::error::ErrorCode;
use protocol::messages::*;
use std::time::Duration;
use uuid::Uuid;

/// Pause of a client that did not find a leader.
const SEEK_AGAIN_US: u64 = 20_000;

impl Stage {
    pub fn is_cluster(&self) -> bool {
        self.nodes.len() > 1
    }

    /// The index of a node by its id, which counts from one.
    pub fn node_of(&self, id: i32) -> Option<usize> {
        let index = usize::try_from(id).ok()?.checked_sub(1)?;
        (index < self.nodes.len()).then_some(index)
    }

    /// The client asks the leader of a partition next. False if it does not know one, after a pause.
    pub async fn go_to_leader(&self, client: &mut Client, topic: &str, place: Place) -> bool {
        if !self.is_cluster() {
            return true;
        }
        if !client.leaders.contains_key(&place) {
            client.roam();
            self.learn_leaders(client, topic, place.0).await;
        }
        match client.leaders.get(&place) {
            Some((node, _)) => {
                client.at = *node;
                true
            }
            None => {
                let pause = Duration::from_micros(1_000 + client.below(SEEK_AGAIN_US));
                client.core.sleep(pause).await;
                false
            }
        }
    }

    async fn learn_leaders(&self, client: &mut Client, topic: &str, id: Uuid) -> Option<()> {
        let by_name = self.is_lasting(topic) && client.below(2) == 0;
        let asked = match by_name {
            true => MetadataRequestTopic {
                name: Some(Str::copied(topic)),
                topic_id: Uuid::nil(),
            },
            false => MetadataRequestTopic {
                name: None,
                topic_id: id,
            },
        };
        let request = MetadataRequest {
            topics: Some(vec![asked]),
            ..MetadataRequest::default()
        };
        let min = if by_name { 10 } else { 12 };
        let version = client.version::<MetadataRequest>(min);
        let response = client.call(&request, version).await?;
        let topic = response.topics.first()?;
        let mut history = self.history();
        if history.code("Metadata", topic.error_code) != ErrorCode::NONE || topic.topic_id != id {
            return None;
        }
        history.count("leaders looked up");
        for partition in &topic.partitions {
            let place = (id, partition.partition_index);
            let leader = self.node_of(partition.leader_id);
            history.code("Metadata", partition.error_code);
            if let Some(leader) = leader.filter(|_| partition.error_code == ErrorCode::NONE) {
                history.leads(place, partition.leader_epoch, leader);
                client
                    .leaders
                    .insert(place, (leader, partition.leader_epoch));
            }
        }
        Some(())
    }

    /// What an answer says about the way: after an error the client looks for leaders again.
    pub fn follow(&self, client: &mut Client, code: ErrorCode) {
        if code != ErrorCode::NONE {
            client.leaders.clear();
        }
    }
}
