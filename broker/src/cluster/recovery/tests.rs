//! Plans by themselves, and what is decided, written down and read back.

use super::*;
use crate::cluster::decide::{ClusterAnswer, ClusterAsk, NewTopic, PartitionMove, decide};
use crate::cluster::{Records, Registration};
use crate::config::BrokerConfig;
use std::collections::BTreeMap;
use storage::Start;

const ID: Uuid = Uuid::from_u128(7);

fn id(node: i32, incarnation: u32) -> u64 {
    let id = ReplicaId::new(node, incarnation);
    id.expect("a valid id").as_u64()
}

/// A replica of a group on nodes 1 to 3 whose log ends there.
fn holding(node: i32, last_term: u64, last_index: u64) -> Holding {
    Holding {
        node,
        incarnation: 1,
        term: last_term,
        last_term,
        last_index,
        commit_index: last_index - 1,
        end_offset: last_index as i64,
        high_watermark: last_index as i64 - 1,
        voters: [1, 2, 3].map(|node| id(node, 1)).into(),
        ..Holding::default()
    }
}

fn lost(nodes: &[i32]) -> BTreeSet<i32> {
    nodes.iter().copied().collect()
}

fn planned(
    replicas: &[i32],
    lost_nodes: &[i32],
    holdings: &[Holding],
) -> Result<RecoveryPlan, String> {
    plan(replicas, &lost(lost_nodes), holdings, -1, |_| false)
}

#[test]
fn the_longest_log_goes_on_by_term_first() {
    let of_five = |mut holding: Holding| {
        holding.voters = (1..=5).map(|node| id(node, 1)).collect();
        holding
    };
    let holdings = [of_five(holding(1, 3, 90)), of_five(holding(2, 4, 10))];
    let plan = planned(&[1, 2, 3, 4, 5], &[3, 4, 5], &holdings).expect("a minority is left");
    assert_eq!(plan.survivor.node, 2);
    assert_eq!(plan.followers, [holdings[0].clone()]);
    assert_eq!(plan.gone, [3, 4, 5].map(|node| id(node, 1)));
    assert!(plan.term >= 4 + TERM_JUMP);
    // Of equal ones the more preferred.
    let holdings = [of_five(holding(2, 4, 10)), of_five(holding(1, 4, 10))];
    let plan = planned(&[1, 2, 3, 4, 5], &[3, 4, 5], &holdings).expect("a minority is left");
    assert_eq!(plan.survivor.node, 1);
}

#[test]
fn the_term_is_beyond_every_epoch_that_was_heard_of() {
    let plan = plan(&[1, 2, 3], &lost(&[2, 3]), &[holding(1, 3, 9)], 77, |_| {
        false
    });
    assert_eq!(plan.expect("a minority").term, 77 + TERM_JUMP);
}

#[test]
fn a_majority_that_may_be_there_is_waited_for() {
    // Node 3 is silent, and not named: it may have more.
    let refused = planned(&[1, 2, 3], &[2], &[holding(1, 3, 9)]).unwrap_err();
    assert!(refused.contains("node 3 has a replica"), "{refused}");
    // Two of three are there.
    let both = [holding(1, 3, 9), holding(3, 3, 9)];
    let refused = planned(&[1, 2, 3], &[2], &both).unwrap_err();
    assert!(
        refused.contains("a majority may still be there (nodes 1, 3)"),
        "{refused}"
    );
    // Somebody leads.
    let mut led = holding(1, 3, 9);
    led.leader = Some(1);
    let refused = planned(&[1, 2, 3], &[2, 3], &[led.clone()]).unwrap_err();
    assert!(refused.contains("node 1 leads it"), "{refused}");
    // A follower may still believe in one that is lost.
    led.leader = Some(2);
    assert!(planned(&[1, 2, 3], &[2, 3], &[led]).is_ok());
}

#[test]
fn who_is_reached_by_anybody_is_not_lost() {
    let mut sees = holding(1, 3, 9);
    sees.reaches = vec![3];
    let refused = planned(&[1, 2, 3], &[2, 3], &[sees]).unwrap_err();
    assert!(
        refused.contains("node 3 is not lost: node 1 reaches it"),
        "{refused}"
    );
}

#[test]
fn what_is_unfit_does_not_go_on() {
    let mut fenced = holding(1, 3, 9);
    fenced.unfit = Some("its log was found damaged".to_owned());
    let refused = planned(&[1, 2, 3], &[2, 3], &[fenced.clone()]).unwrap_err();
    assert!(
        refused.contains("node 1: its log was found damaged"),
        "{refused}"
    );
    let refused = planned(&[2, 3], &[2, 3], &[]).unwrap_err();
    assert!(refused.contains("nothing is left"), "{refused}");
}

#[test]
fn either_half_of_a_joint_configuration_may_be_the_one_that_is_gone() {
    let mut joint = holding(1, 3, 9);
    joint.voters = vec![id(1, 1), id(4, 1), id(5, 1)];
    joint.outgoing = vec![id(1, 1), id(2, 1), id(3, 1)];
    let others = [holding(4, 2, 3), holding(5, 2, 3)];
    let mut holdings = vec![joint];
    holdings.extend(others);
    let plan = planned(&[4, 5, 1, 2, 3], &[2, 3], &holdings).expect("one half has no majority");
    assert_eq!(plan.gone, [id(2, 1), id(3, 1)]);
    assert_eq!(plan.survivor.node, 1);
}

#[test]
fn disks_that_were_replaced_are_gone_without_being_named() {
    let mut fresh = holding(2, 1, 1);
    fresh.incarnation = 2;
    let holdings = [
        holding(1, 3, 9),
        fresh.clone(),
        Holding { node: 3, ..fresh },
    ];
    let retired = |of: ReplicaId| [id(2, 1), id(3, 1)].contains(&of.as_u64());
    let plan = plan(&[1, 2, 3], &lost(&[]), &holdings, -1, retired).expect("a minority is left");
    assert_eq!(
        (plan.survivor.node, plan.gone),
        (1, vec![id(2, 1), id(3, 1)])
    );
}

/// The deciding node is 1; a topic whose partition is on 1, 2 and 3.
struct House {
    cluster: Cluster,
    connected: BTreeMap<i32, u32>,
}

impl House {
    fn new() -> House {
        let mut house = House {
            cluster: Cluster::default(),
            connected: (2..=5).map(|node| (node, 1)).collect(),
        };
        (1..=5).for_each(|node| house.register(node, 1).expect("nobody has it"));
        let topic = NewTopic {
            name: "orders".to_owned(),
            partitions: -1,
            replication_factor: -1,
            assignments: vec![(0, vec![2, 1, 3])],
            configs: Vec::new(),
            internal: false,
        };
        house.decide(ClusterAsk::CreateTopics {
            topics: vec![topic],
            validate_only: false,
        });
        house
    }

    fn decide(&mut self, ask: ClusterAsk) -> (Vec<Record>, ClusterAnswer) {
        let broker = BrokerConfig::default();
        let mut context = Context {
            node_id: 1,
            connected: &self.connected,
            full: &BTreeSet::new(),
            broker: &broker,
            next_id: &mut || ID,
        };
        let decided = decide(&mut self.cluster, &ask, &mut context);
        self.cluster.verify();
        // What another node reads, and what a start reads after the log was begun anew.
        let written = Records(decided.0.clone()).encode();
        assert_eq!(
            Records::decode(&written, 1).expect("own encoding").0,
            decided.0
        );
        let state = Box::new(self.cluster.image());
        let written = Records(vec![Record::Snapshot { state }]).encode();
        let mut again = Cluster::default();
        for record in Records::decode(&written, 1).expect("own encoding").0 {
            again.apply(&record);
        }
        assert_eq!(again, self.cluster);
        decided
    }

    fn register(&mut self, node: i32, incarnation: u32) -> Result<(), Refusal> {
        let start = Start {
            number: 1,
            drawn: 0,
        };
        self.register_start(node, incarnation, start)
    }

    fn register_start(&mut self, node: i32, incarnation: u32, start: Start) -> Result<(), Refusal> {
        let registration = Registration {
            node,
            incarnation,
            start,
            peer: format!("127.0.0.1:{node}"),
            endpoints: Vec::new(),
            rack: None,
            cores: 1,
            level: 1,
        };
        match self.decide(ClusterAsk::RegisterNode(registration)).1 {
            ClusterAnswer::RegisterNode(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// The others do not hear of these any more.
    fn lose(&mut self, nodes: &[i32]) {
        for node in nodes.iter().copied() {
            self.connected.remove(&node);
            self.decide(ClusterAsk::FenceNode { node, fenced: true });
        }
    }

    fn recover(&mut self, lost_nodes: &[i32], accept: bool) -> (Vec<Record>, Result<i32, String>) {
        let ask = RecoveryAsk {
            topic: "orders".to_owned(),
            partition: 0,
            lost: lost(lost_nodes),
            holdings: vec![holding(1, 3, 9)],
            epoch: 3,
            by: "ada@here".to_owned(),
            at_ms: 5,
            accept_data_loss: accept,
        };
        let (records, answer) = self.decide(ClusterAsk::RecoverPartition(Box::new(ask)));
        match answer {
            ClusterAnswer::Recovery(Ok(plan)) => (records, Ok(plan.survivor.node)),
            ClusterAnswer::Recovery(Err(refusal)) => (records, Err(refusal.message)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn nodes_that_run_or_were_just_heard_of_are_not_lost() {
    let mut house = House::new();
    let refused = |house: &mut House, nodes: &[i32]| {
        let (records, outcome) = house.recover(nodes, true);
        assert_eq!(records, [], "nothing is changed");
        outcome.unwrap_err()
    };
    assert!(refused(&mut house, &[2, 3]).contains("Node 2 runs"));
    house.connected.clear();
    assert!(refused(&mut house, &[2, 3]).contains("a moment ago"));
    assert!(
        refused(&mut house, &[1]).contains("Node 1 runs"),
        "it is asked itself"
    );
    assert!(refused(&mut house, &[9]).contains("Node 9 is not known"));
}

#[test]
fn a_plan_changes_nothing_and_the_word_for_it_retires_the_disks() {
    let mut house = House::new();
    house.lose(&[2, 3]);
    assert_eq!(house.recover(&[2, 3], false), (Vec::new(), Ok(1)));
    let (records, outcome) = house.recover(&[2, 3], true);
    assert_eq!((records.len(), outcome), (3, Ok(1)));
    let topic = house.cluster.topic("orders").expect("it was created");
    assert_eq!(topic.founders[0], [id(1, 1)]);
    assert_eq!(
        topic.partitions[0],
        [2, 1, 3],
        "the others are to come back, with other disks"
    );
    let pending = topic.recoveries[0].clone();
    assert_eq!((pending.survivor, pending.gone.len()), (id(1, 1), 2));
    let told = house.cluster.recoveries().next().expect("it is kept");
    assert_eq!(
        (told.by.as_str(), told.at_ms, told.end_offset),
        ("ada@here", 5, 9)
    );

    // The old disks are refused, new ones are not.
    assert!(house.register(2, 1).is_err());
    assert!(
        house
            .cluster
            .is_retired(ReplicaId::from_u64(id(2, 1)).expect("valid"))
    );
    house.register(2, 2).expect("a new disk");
    // It is under way.
    let again = house.recover(&[3], true).1.unwrap_err();
    assert!(again.contains("about to go on alone"), "{again}");

    // The survivor's word ends it; one about another recovery does not.
    let done = |number| ClusterAsk::RecoveryDone {
        topic: ID,
        partition: 0,
        number,
    };
    assert_eq!(house.decide(done(pending.number + 1)).0, []);
    assert_eq!(house.decide(done(pending.number)).0.len(), 1);
    assert_eq!(house.decide(done(pending.number)).0, [], "said again");
    let topic = house.cluster.topic("orders").expect("it was created");
    assert_eq!(topic.recoveries, []);
    assert_eq!(house.cluster.recoveries().count(), 1, "it is remembered");
}

#[test]
fn a_move_under_way_survives_it_and_is_written_down() {
    let mut house = House::new();
    let wanted = PartitionMove {
        topic: "orders".to_owned(),
        partition: 0,
        target: Some(vec![1, 4, 5]),
    };
    house.decide(ClusterAsk::MovePartitions {
        moves: vec![wanted],
        may_change_factor: true,
    });
    house.lose(&[2, 3]);
    // Newcomers have to say what they have, too.
    let refused = house.recover(&[2, 3], true).1.unwrap_err();
    assert!(refused.contains("nodes 4, 5"), "{refused}");
    house.lose(&[4, 5]);
    assert_eq!(house.recover(&[2, 3, 4, 5], true).1, Ok(1));
    let topic = house.cluster.topic("orders").expect("it was created");
    assert_eq!(topic.wanted(0), Some(&vec![1, 4, 5]));
}

#[test]
fn who_asks_is_written_down_and_has_a_name() {
    for by in ["", "  ", "a\nb", &"a".repeat(BY_BYTES_MAX + 1)] {
        assert!(check_by(by).is_err(), "{by:?}");
    }
    assert!(check_by("Ada Löwe").is_ok());
}

#[test]
fn the_metadata_goes_on_where_most_of_it_is() {
    let mut house = House::new();
    let members = [1, 2, 3];
    let holdings = [holding(1, 3, 9)];
    let plan = |house: &House, own, nodes: &[i32], holdings: &[Holding]| {
        let connected = |node| house.connected.contains_key(&node);
        house
            .cluster
            .plan_metadata(&members, &lost(nodes), holdings, own, connected)
    };
    assert!(
        plan(&house, 1, &[2, 3], &holdings)
            .unwrap_err()
            .contains("Node 2 runs")
    );
    house.connected.clear();
    let planned = plan(&house, 1, &[2, 3], &holdings).expect("nobody else is there");
    assert_eq!(planned.survivor.node, 1);
    // With five voters, two of which are left, the other one has more.
    let mut two = [holding(1, 3, 9), holding(2, 3, 10)];
    for holding in &mut two {
        holding.voters = (1..=5).map(|node| id(node, 1)).collect();
    }
    let refused = plan(&house, 1, &[3], &two).unwrap_err();
    assert!(
        refused.contains("a majority may still be there"),
        "{refused}"
    );
    let five = [1, 2, 3, 4, 5];
    let at = |own| {
        let nobody = |_| false;
        house
            .cluster
            .plan_metadata(&five, &lost(&[3, 4, 5]), &two, own, nobody)
    };
    assert!(at(1).unwrap_err().contains("Node 2 has more"));
    assert_eq!(at(2).expect("it has the most").survivor.node, 2);

    let recovery = Recovery::of("__cluster_metadata", 0, &planned, "ada", 7);
    let ask = ClusterAsk::MetadataRecovered {
        recovery,
        lost: lost(&[2, 3]),
    };
    assert_eq!(house.decide(ask).0.len(), 3);
    assert_eq!(house.cluster.recoveries().count(), 1);
    assert!(house.register(3, 1).is_err());
}

#[test]
fn only_so_many_are_remembered() {
    let plan = planned(&[1, 2, 3], &[2, 3], &[holding(1, 3, 9)]).expect("a minority");
    let mut cluster = Cluster::default();
    for at_ms in 0..REMEMBERED_MAX as i64 + 5 {
        let recovery = Recovery::of("orders", 0, &plan, "ada", at_ms);
        cluster.apply(&Record::MetadataRecovered { recovery });
    }
    assert_eq!(cluster.recoveries().count(), REMEMBERED_MAX);
    assert_eq!(
        cluster.recoveries().next().map(|first| first.at_ms),
        Some(5)
    );
}

#[test]
fn an_older_copy_of_a_disk_is_not_taken_in() {
    let mut house = House::new();
    let start = |number, drawn| Start { number, drawn };
    let known = start(4, 7);
    house.register_start(2, 1, known).expect("a later start");
    house.register_start(2, 1, known).expect("it asks again");
    for copy in [start(3, 9), start(4, 8)] {
        let refused = house.register_start(2, 1, copy).unwrap_err();
        assert!(
            refused.message.contains("was started 4 times"),
            "{refused:?}"
        );
    }
    house.connected.remove(&2);
    house.register_start(2, 2, start(1, 3)).expect("a new disk");
}
