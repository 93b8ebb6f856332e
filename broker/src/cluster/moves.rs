//! Decisions about where partitions are, and about nodes that go: see [`super::decide`].
//!
//! A move is over when the leader of the partition says so, and says it about this very move. What it was given up for
//! in between (a cancelled move, another target, a deleted topic) makes its word count for nothing.

use super::decide::{Context, Draft, PartitionMove, Refusal};
use super::record::Record;
use protocol::error::ErrorCode;
use raft_group::ReplicaId;
use std::collections::BTreeSet;
use uuid::Uuid;

impl Draft<'_> {
    pub(super) fn move_partition(
        &mut self,
        wanted: &PartitionMove,
        may_change_factor: bool,
        context: &Context,
    ) -> Result<(), Refusal> {
        let unknown = |what: String| Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, what);
        let Some(topic) = self.state.topic(&wanted.topic) else {
            let message = format!("Unable to find a topic named {}.", wanted.topic);
            return Err(unknown(message));
        };
        let partition = u32::try_from(wanted.partition).ok();
        let partition =
            partition.filter(|partition| (*partition as usize) < topic.partitions.len());
        let Some(partition) = partition else {
            let (name, index) = (&wanted.topic, wanted.partition);
            return Err(unknown(format!("Unable to find partition {name}:{index}.")));
        };
        let moving = topic.moves.get(&partition);
        let origin = match moving {
            Some(moving) => &moving.origin,
            None => &topic.partitions[partition as usize],
        };
        let target = match &wanted.target {
            // On its way back it is not being moved any more.
            None => match moving.filter(|moving| moving.target != moving.origin) {
                Some(moving) => &moving.origin,
                None => {
                    let code = ErrorCode::NO_REASSIGNMENT_IN_PROGRESS;
                    return Err(Refusal::new(code, code.description()));
                }
            },
            Some(target) => {
                self.check_replicas(target, context)?;
                if !may_change_factor && target.len() != origin.len() {
                    let message = format!(
                        "The replication factor is changed from {} to {}, which the request does not allow.",
                        origin.len(),
                        target.len()
                    );
                    let code = ErrorCode::INVALID_REPLICATION_FACTOR;
                    return Err(Refusal::new(code, message));
                }
                target
            }
        };
        if topic.wanted(partition) == Some(target) {
            return Ok(());
        }
        let (id, replicas) = (topic.id, target.clone());
        self.push(Record::ReplicasChanged {
            id,
            partition,
            replicas,
            automatic: false,
        });
        Ok(())
    }

    /// A word about a topic that is gone, or about another move than the one under way, comes too late.
    pub(super) fn move_done(&mut self, id: Uuid, partition: u32, number: u64, members: &[u64]) {
        let topic = self.state.topic_by_id(id);
        let moving = topic.and_then(|topic| topic.moves.get(&partition));
        let Some(moving) = moving.filter(|moving| moving.number == number) else {
            return;
        };
        let there: Option<BTreeSet<i32>> = members
            .iter()
            .map(|id| ReplicaId::from_u64(*id).map(ReplicaId::node))
            .collect();
        let wanted: BTreeSet<i32> = moving.target.iter().copied().collect();
        if there == Some(wanted) {
            let members = members.to_vec();
            self.push(Record::ReplicasSettled {
                id,
                partition,
                members,
            });
        }
    }

    pub(super) fn unregister(&mut self, node: i32, context: &Context) -> Result<(), Refusal> {
        if !self.state.nodes().contains_key(&node) {
            let message = format!("Broker ID {node} is not currently registered");
            return Err(Refusal::new(ErrorCode::BROKER_ID_NOT_REGISTERED, message));
        }
        let refused = |message: String| Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
        if node == context.node_id || context.connected.contains_key(&node) {
            return refused(format!(
                "Broker {node} runs: stop it first, or it would be registered again at once."
            ));
        }
        let held = self.state.topics().flat_map(|topic| &topic.partitions);
        match held.filter(|replicas| replicas.contains(&node)).count() {
            0 => {
                self.let_go(node);
                Ok(())
            }
            held => refused(format!(
                "Broker {node} holds replicas of {held} partition(s): move them to other brokers first."
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cluster::decide::{
        ClusterAnswer, ClusterAsk, Context, MorePartitions, NewTopic, PartitionMove, Refusal,
        TopicRef, decide,
    };
    use crate::cluster::{Cluster, Move, Record, Records, Registration, Topic};
    use crate::config::BrokerConfig;
    use protocol::error::ErrorCode;
    use raft_group::ReplicaId;
    use std::collections::{BTreeMap, BTreeSet};
    use uuid::Uuid;

    const ID: Uuid = Uuid::from_u128(7);

    /// The deciding node is 1; the others are connected to it unless a test says otherwise.
    struct House {
        cluster: Cluster,
        connected: BTreeMap<i32, u32>,
    }

    impl House {
        /// Nodes 1 to 5, and a topic whose two partitions are on 1, 2 and 3.
        fn new() -> House {
            let mut house = House {
                cluster: Cluster::default(),
                connected: (2..=5).map(|node| (node, 1)).collect(),
            };
            for node in 1..=5 {
                let registration = Registration {
                    node,
                    incarnation: 1,
                    start: storage::Start::default(),
                    peer: format!("127.0.0.1:{node}"),
                    endpoints: Vec::new(),
                    rack: None,
                    cores: 1,
                    level: 1,
                };
                house.cluster.apply(&Record::NodeRegistered(registration));
            }
            let topic = NewTopic {
                name: "orders".to_owned(),
                partitions: -1,
                replication_factor: -1,
                assignments: vec![(0, vec![1, 2, 3]), (1, vec![1, 2, 3])],
                configs: Vec::new(),
                internal: false,
            };
            let ask = ClusterAsk::CreateTopics {
                topics: vec![topic],
                validate_only: false,
            };
            house.decide(ask);
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
            // What a restart would read back is what there is.
            let state = Box::new(self.cluster.image());
            let written = Records(vec![Record::Snapshot { state }]).encode();
            let read = Records::decode(&written, 1).expect("a state that can be read back");
            let mut again = Cluster::default();
            again.apply(&read.0[0]);
            assert_eq!(again, self.cluster);
            self.cluster.verify();
            decided
        }

        fn move_to(&mut self, partition: i32, target: Option<&[i32]>) -> Result<(), Refusal> {
            self.move_named("orders", partition, target, true)
        }

        fn move_named(
            &mut self,
            topic: &str,
            partition: i32,
            target: Option<&[i32]>,
            may_change_factor: bool,
        ) -> Result<(), Refusal> {
            let wanted = PartitionMove {
                topic: topic.to_owned(),
                partition,
                target: target.map(<[i32]>::to_vec),
            };
            let ask = ClusterAsk::MovePartitions {
                moves: vec![wanted],
                may_change_factor,
            };
            match self.decide(ask).1 {
                ClusterAnswer::MovePartitions(mut outcomes) => outcomes.remove(0),
                other => panic!("{other:?}"),
            }
        }

        fn grow(&mut self, count: i32) -> Result<(), Refusal> {
            let topic = MorePartitions {
                name: "orders".to_owned(),
                count,
                assignments: None,
            };
            let ask = ClusterAsk::CreatePartitions {
                topics: vec![topic],
                validate_only: false,
            };
            match self.decide(ask).1 {
                ClusterAnswer::CreatePartitions(mut outcomes) => outcomes.remove(0),
                other => panic!("{other:?}"),
            }
        }

        fn done(&mut self, partition: u32, number: u64, nodes: &[i32]) -> Vec<Record> {
            let ask = ClusterAsk::MoveDone {
                topic: ID,
                partition,
                number,
                members: identities(nodes),
            };
            self.decide(ask).0
        }

        fn unregister(&mut self, node: i32) -> Result<(), Refusal> {
            match self.decide(ClusterAsk::UnregisterNode(node)).1 {
                ClusterAnswer::UnregisterNode(outcome) => outcome,
                other => panic!("{other:?}"),
            }
        }

        fn topic(&self) -> &Topic {
            self.cluster.topic("orders").expect("it was created")
        }

        fn moving(&self) -> &Move {
            &self.topic().moves[&0]
        }
    }

    fn identities(nodes: &[i32]) -> Vec<u64> {
        let identity = |node: &i32| ReplicaId::new(*node, 1).expect("a valid id").as_u64();
        nodes.iter().map(identity).collect()
    }

    fn code(outcome: Result<(), Refusal>) -> ErrorCode {
        outcome.map_or_else(|refusal| refusal.code, |()| ErrorCode::NONE)
    }

    #[test]
    fn a_move_names_all_replicas_until_it_is_done() {
        let mut house = House::new();
        house.move_to(0, Some(&[4, 1, 5])).expect("a valid target");
        let topic = house.topic();
        assert_eq!(topic.partitions[0], [4, 1, 5, 2, 3]);
        assert_eq!(topic.wanted(0), Some(&vec![4, 1, 5]));
        assert_eq!(topic.coming_and_going(0), (vec![4, 5], vec![2, 3]));
        // The founders are who they were: newcomers have no say by themselves.
        assert_eq!(topic.founders[0], identities(&[1, 2, 3]));
        assert_eq!(topic.coming_and_going(1), (vec![], vec![]));

        let number = house.moving().number;
        assert_eq!(house.done(0, number, &[1, 4, 5]).len(), 1);
        let topic = house.topic();
        assert_eq!(topic.partitions, [vec![4, 1, 5], vec![1, 2, 3]]);
        assert_eq!(topic.founders[0], identities(&[1, 4, 5]));
        assert_eq!(topic.founders[1], identities(&[1, 2, 3]));
        assert!(topic.moves.is_empty());
        assert_eq!(topic.former, BTreeSet::from([2, 3]));
        // Said again, since the first word may have been lost.
        assert_eq!(house.done(0, number, &[1, 4, 5]), []);
    }

    #[test]
    fn what_a_topic_grows_by_has_as_many_replicas_as_a_move_leaves() {
        let mut house = House::new();
        house.move_to(0, Some(&[4, 1, 5])).expect("a valid target");
        let count = house.topic().partitions.len() as i32 + 1;
        house.grow(count).expect("nodes enough");
        assert_eq!(house.topic().partitions.last().map(Vec::len), Some(3));
    }

    #[test]
    fn a_cancelled_move_goes_back_and_is_over_only_then() {
        let mut house = House::new();
        let none = house.move_to(0, None);
        assert_eq!(code(none), ErrorCode::NO_REASSIGNMENT_IN_PROGRESS);
        house.move_to(0, Some(&[4, 5])).expect("a valid target");
        let forth = house.moving().number;
        house.move_to(0, None).expect("a move is under way");
        assert_eq!(house.topic().wanted(0), Some(&vec![1, 2, 3]));
        // They may be members by now, so they hold what they have until the group is without them.
        assert_eq!(house.topic().partitions[0], [1, 2, 3, 4, 5]);
        assert_eq!(house.topic().coming_and_going(0), (vec![], vec![4, 5]));
        let again = house.move_to(0, None);
        assert_eq!(code(again), ErrorCode::NO_REASSIGNMENT_IN_PROGRESS);
        // It had arrived, and the leader's word was under way when the move was cancelled.
        assert_eq!(house.done(0, forth, &[4, 5]), []);
        let back = house.moving().number;
        assert_eq!(house.done(0, back, &[1, 2, 3]).len(), 1);
        assert_eq!(house.topic().partitions[0], [1, 2, 3]);
        assert_eq!(house.topic().former, BTreeSet::from([4, 5]));
    }

    #[test]
    fn another_target_keeps_everybody_who_may_be_a_member() {
        let mut house = House::new();
        house.move_to(0, Some(&[1, 2, 4])).expect("a valid target");
        let first = house.moving().number;
        house.move_to(0, Some(&[1, 2, 5])).expect("a valid target");
        assert_eq!(house.topic().partitions[0], [1, 2, 5, 4, 3]);
        assert_eq!(house.topic().coming_and_going(0), (vec![5], vec![4, 3]));
        // There and back: the word about the first time there is not one about the second.
        house.move_to(0, Some(&[1, 2, 4])).expect("a valid target");
        assert_eq!(house.done(0, first, &[1, 2, 4]), []);
        house.move_to(0, None).expect("a move is under way");
        assert_eq!(house.topic().wanted(0), Some(&vec![1, 2, 3]));
    }

    #[test]
    fn the_same_replicas_in_another_order_need_no_move() {
        let mut house = House::new();
        house.move_to(0, Some(&[3, 1, 2])).expect("a valid target");
        assert_eq!(house.topic().partitions[0], [3, 1, 2]);
        assert!(house.topic().moves.is_empty());
        // What is there already is no change at all.
        let before = house.cluster.clone();
        house.move_to(0, Some(&[3, 1, 2])).expect("a valid target");
        assert_eq!(house.cluster, before);
    }

    #[test]
    fn targets_are_checked() {
        let mut house = House::new();
        for target in [&[][..], &[1, 1], &[1, 9], &[-1]] {
            let refused = house.move_to(0, Some(target));
            assert_eq!(
                code(refused),
                ErrorCode::INVALID_REPLICA_ASSIGNMENT,
                "{target:?}"
            );
        }
        for partition in [2, -1, i32::MAX] {
            let refused = house.move_to(partition, Some(&[1]));
            assert_eq!(code(refused), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        }
        let refused = house.move_named("absent", 0, None, true);
        assert_eq!(code(refused), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        let refused = house.move_named("orders", 0, Some(&[1, 2]), false);
        assert_eq!(code(refused), ErrorCode::INVALID_REPLICATION_FACTOR);
        house
            .move_to(0, Some(&[1, 2]))
            .expect("the factor may change");
        // The factor that counts is the one before the move.
        let moved = house.move_named("orders", 0, Some(&[1, 2, 4]), false);
        assert_eq!(code(moved), ErrorCode::NONE);
    }

    #[test]
    fn the_word_of_a_leader_counts_only_for_what_it_says() {
        let mut house = House::new();
        house.move_to(0, Some(&[1, 4])).expect("a valid target");
        let number = house.moving().number;
        assert_eq!(house.done(0, number, &[1, 2, 3]), []);
        assert_eq!(house.done(0, number, &[1]), []);
        assert_eq!(house.done(1, number, &[1, 4]), []);
        assert_eq!(house.done(9, number, &[1, 4]), []);
        assert_eq!(house.done(0, number + 1, &[1, 4]), []);
        assert_eq!(house.done(0, number, &[4, 1]).len(), 1);
    }

    #[test]
    fn a_topic_is_deleted_under_its_move() {
        let mut house = House::new();
        house.move_to(1, Some(&[1, 2, 4])).expect("a valid target");
        let settled = house.topic().moves[&1].number;
        house.done(1, settled, &[1, 2, 4]);
        house.move_to(1, Some(&[1, 4])).expect("a valid target");
        house.move_to(0, Some(&[1, 2, 5])).expect("a valid target");
        let number = house.moving().number;
        house.decide(ClusterAsk::DeleteTopics(vec![TopicRef::Id(ID)]));
        assert_eq!(house.done(0, number, &[1, 2, 5]), []);
        // Who held some of it, holds some, or was to: all of them may have files.
        let holders = &house.cluster.deleted()[&ID].holders;
        assert_eq!(*holders, BTreeSet::from([1, 2, 3, 4, 5]));
        let refused = house.move_to(0, None);
        assert_eq!(code(refused), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }

    #[test]
    fn a_node_is_let_go_when_it_is_gone_and_holds_nothing() {
        let mut house = House::new();
        assert_eq!(
            code(house.unregister(9)),
            ErrorCode::BROKER_ID_NOT_REGISTERED
        );
        for running in [1, 5] {
            let refused = house.unregister(running).expect_err("it runs");
            assert_eq!(refused.code, ErrorCode::INVALID_REQUEST);
            assert!(refused.message.contains("runs"), "{refused:?}");
        }
        house.connected.clear();
        let refused = house.unregister(3).expect_err("it holds replicas");
        assert!(refused.message.contains("2 partition"), "{refused:?}");
        // A node that a partition is only on its way to counts as well.
        house.move_to(0, Some(&[1, 2, 5])).expect("a valid target");
        assert!(house.unregister(5).is_err());
        house.unregister(4).expect("it holds nothing");
        assert!(!house.cluster.nodes().contains_key(&4));
        let identity = ReplicaId::new(4, 1).expect("a valid id");
        assert!(house.cluster.is_retired(identity));
        let refused = house.move_to(1, Some(&[1, 2, 4]));
        assert_eq!(code(refused), ErrorCode::INVALID_REPLICA_ASSIGNMENT);
    }

    #[test]
    fn what_an_older_release_wrote_is_read() {
        let state = r#"{"topics":[{"id":"00000000-0000-0000-0000-000000000007","name":"orders",
            "partitions":[[1]]}],"configs":[],"deleted":{},"next_producer_id":0}"#;
        let image = serde_json::from_str(state).expect("an image");
        let mut cluster = Cluster::default();
        let state = Box::new(image);
        cluster.apply(&Record::Snapshot { state });
        let topic = cluster.topic("orders").expect("it is there");
        assert_eq!(
            (&topic.moves, &topic.former),
            (&BTreeMap::new(), &BTreeSet::new())
        );
        assert_eq!(topic.wanted(0), Some(&vec![1]));
        assert_eq!(topic.wanted(1), None);
    }
}
