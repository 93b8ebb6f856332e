//! What is done about states of which it is known what should be; [`walk`] asks the same of any state.

mod walk;

use super::super::leaving::{LEAVING, rebalance};
use super::super::{Record, Registration, Resource, Topic};
use super::*;
use raft_group::ReplicaId;

/// A cluster with what the deciding node sees of it. It carries moves out when it is told to.
#[derive(Clone)]
struct World {
    cluster: Cluster,
    sight: Sight,
    next_topic: u128,
}

const RULES: Rules = Rules {
    evens_out: true,
    moves_max: 4,
    full_percent: 85,
    internal_factor: 3,
};

impl World {
    /// Nodes 1 and up, in these racks.
    fn new(racks: &[Option<&str>]) -> World {
        let mut world = World {
            cluster: Cluster::default(),
            sight: Sight {
                heard: BTreeSet::new(),
                is_settled: true,
                gone: BTreeSet::new(),
                voters: BTreeSet::new(),
                disks: BTreeMap::new(),
                rules: RULES,
            },
            next_topic: 1,
        };
        for (node, rack) in (1..).zip(racks) {
            world.join(node, *rack, 2);
        }
        world
    }

    fn of(nodes: usize) -> World {
        World::new(&vec![None; nodes])
    }

    fn join(&mut self, node: i32, rack: Option<&str>, cores: u16) {
        let registration = Registration {
            node,
            incarnation: 1,
            start: storage::Start::default(),
            peer: String::new(),
            endpoints: Vec::new(),
            rack: rack.map(str::to_owned),
            cores,
            level: 1,
        };
        self.cluster.apply(&Record::NodeRegistered(registration));
        self.sight.heard.insert(node);
    }

    fn fence(&mut self, node: i32) {
        self.cluster
            .apply(&Record::NodeFenced { node, fenced: true });
        self.sight.heard.remove(&node);
    }

    fn unfence(&mut self, node: i32) {
        let fenced = false;
        self.cluster.apply(&Record::NodeFenced { node, fenced });
        self.sight.heard.insert(node);
        self.sight.gone.remove(&node);
    }

    fn leave(&mut self, nodes: &[i32]) {
        let list: Vec<String> = nodes.iter().map(i32::to_string).collect();
        self.cluster.apply(&Record::ConfigSet {
            resource: Resource::BrokerDefault,
            name: LEAVING.to_owned(),
            value: (!list.is_empty()).then(|| list.join(",")),
        });
    }

    fn create(&mut self, partitions: Vec<Vec<i32>>, internal: bool) -> Uuid {
        let id = Uuid::from_u128(self.next_topic);
        self.next_topic += 1;
        self.cluster.apply(&Record::TopicCreated {
            id,
            name: format!("topic-{id}"),
            partitions,
            configs: BTreeMap::new(),
            internal,
        });
        id
    }

    fn topic(&self, id: Uuid) -> &Topic {
        self.cluster.topic_by_id(id).expect("it was created")
    }

    fn look(&mut self) -> Vec<Step> {
        rebalance(&mut self.cluster, &self.sight).0
    }

    fn moves(&self) -> Vec<(Uuid, u32)> {
        let topics = self.cluster.topics();
        let all = topics.flat_map(|topic| topic.moves.keys().map(|index| (topic.id, *index)));
        all.collect()
    }

    fn is_sound(&self, node: i32) -> bool {
        let known = self.cluster.nodes().get(&node);
        known.is_some_and(|known| !known.fenced) && self.sight.heard.contains(&node)
    }

    /// The partition's leader says that it has arrived, if it can have.
    fn arrive(&mut self, (id, partition): (Uuid, u32)) {
        let moving = self.topic(id).moves[&partition].clone();
        let up = |nodes: &[i32]| nodes.iter().filter(|node| self.is_sound(**node)).count();
        if up(&moving.target) < moving.target.len() || up(&moving.origin) * 2 <= moving.origin.len()
        {
            return;
        }
        let member = |node: &i32| ReplicaId::new(*node, 1).expect("a valid id").as_u64();
        let members = moving.target.iter().map(member).collect();
        self.cluster.apply(&Record::ReplicasSettled {
            id,
            partition,
            members,
        });
    }

    /// Looks and lets everything arrive until there is nothing to do; gives the steps that were taken.
    fn come_to_rest(&mut self) -> Vec<Step> {
        let replicas: usize = self
            .cluster
            .topics()
            .flat_map(|topic| &topic.partitions)
            .map(Vec::len)
            .sum();
        let mut taken = Vec::new();
        for _ in 0..replicas * 4 + 50 {
            let steps = self.look();
            if steps.is_empty() && self.moves().is_empty() {
                return taken;
            }
            taken.extend(steps);
            for moving in self.moves() {
                self.arrive(moving);
            }
        }
        panic!(
            "no rest after {} steps, the last {:?}",
            taken.len(),
            taken.last()
        );
    }

    /// By node: how many replicas, and how many partitions prefer it.
    fn loads(&self) -> BTreeMap<i32, (u64, u64)> {
        let nodes = self.cluster.nodes().keys();
        let mut loads: BTreeMap<i32, (u64, u64)> = nodes.map(|node| (*node, (0, 0))).collect();
        for replicas in self.cluster.topics().flat_map(|topic| &topic.partitions) {
            for (rank, node) in replicas.iter().enumerate() {
                let load = loads.get_mut(node).expect("registered");
                load.0 += 1;
                load.1 += u64::from(rank == 0);
            }
        }
        loads
    }

    fn assert_even(&self) {
        for pick in [|load: &(u64, u64)| load.0, |load: &(u64, u64)| load.1] {
            let loads = self.loads();
            let counts: Vec<u64> = loads.values().map(pick).collect();
            let spread = counts.iter().max().unwrap() - counts.iter().min().unwrap();
            assert!(spread <= 1, "{loads:?}");
        }
    }
}

fn reasons(steps: &[Step]) -> BTreeSet<String> {
    let names = steps.iter().map(|step| match step {
        Step::Replicas { why, .. } => format!("{why:?}"),
        Step::LetGo(node) => format!("LetGo {node}"),
    });
    names.collect()
}

#[test]
fn an_even_cluster_is_left_alone() {
    let mut world = World::of(3);
    world.create(
        vec![vec![1, 2, 3], vec![2, 3, 1], vec![3, 1, 2], vec![1, 2, 3]],
        false,
    );
    assert_eq!(world.look(), []);
    world.create(vec![vec![2], vec![3]], false);
    assert_eq!(world.look(), [], "a difference of one");
}

#[test]
fn a_new_node_is_filled_a_few_at_a_time_and_from_all_topics() {
    let mut world = World::of(3);
    let topics = [0, 1].map(|_| world.create(vec![vec![1, 2, 3]; 12], false));
    // Preferred leaders first: nothing moves for that.
    let taken = world.come_to_rest();
    assert_eq!(reasons(&taken), ["Leads".to_owned()].into());
    world.join(4, None, 2);
    let steps = world.look();
    assert_eq!(steps.len(), RULES.moves_max);
    assert_eq!(world.look(), [], "what is under way counts");
    world.come_to_rest();
    world.assert_even();
    for topic in topics {
        let of_new = world
            .topic(topic)
            .partitions
            .iter()
            .filter(|replicas| replicas.contains(&4));
        assert_eq!(of_new.count(), 9);
    }
}

#[test]
fn a_larger_node_gets_more() {
    let mut world = World::of(2);
    world.create(vec![vec![1]; 10], false);
    world.create(vec![vec![2]; 10], false);
    world.join(3, None, 4);
    world.come_to_rest();
    assert_eq!(
        world.loads(),
        BTreeMap::from([(1, (5, 5)), (2, (5, 5)), (3, (10, 10))])
    );
}

#[test]
fn nothing_moves_while_a_node_is_missed_and_it_is_rebuilt_when_it_is_gone() {
    let mut world = World::of(4);
    let topic = world.create(vec![vec![1, 2, 3]; 8], false);
    let in_even_times = world.clone().look();
    assert!(!in_even_times.is_empty());
    world.sight.is_settled = false;
    assert_eq!(world.look(), []);
    world.sight.is_settled = true;
    world.fence(3);
    assert_eq!(world.look(), []);
    world.sight.gone.insert(3);
    let steps = world.look();
    assert_eq!(reasons(&steps), ["Rebuild".to_owned()].into());
    assert_eq!(steps.len(), RULES.moves_max);
    world.come_to_rest();
    assert!(
        world
            .topic(topic)
            .partitions
            .iter()
            .all(|replicas| !replicas.contains(&3))
    );
    assert_eq!(world.loads()[&4].0, 8);
    // It comes back after all, and is filled again.
    world.unfence(3);
    world.come_to_rest();
    world.assert_even();
}

#[test]
fn what_has_no_majority_or_nowhere_to_go_stays() {
    let mut world = World::of(3);
    world.create(vec![vec![1, 2, 3], vec![1, 2], vec![2, 3]], false);
    world.fence(3);
    world.sight.gone.insert(3);
    assert_eq!(
        world.look(),
        [],
        "no node is free for the first, and the third has no majority"
    );
    world.join(4, None, 2);
    let steps = world.look();
    let Step::Replicas {
        replicas,
        partition,
        ..
    } = &steps[0]
    else {
        panic!("{steps:?}");
    };
    assert_eq!((steps.len(), *partition, replicas), (1, 0, &vec![1, 2, 4]));
}

#[test]
fn a_move_to_a_node_that_is_gone_gets_another_target() {
    let mut world = World::of(4);
    world.create(vec![vec![1, 2, 3]; 4], false);
    let steps = world.look();
    assert_eq!(reasons(&steps), ["Even".to_owned()].into());
    world.fence(4);
    assert_eq!(world.look(), []);
    world.sight.gone.insert(4);
    world.come_to_rest();
    assert_eq!(world.loads()[&4], (0, 0));
}

#[test]
fn what_an_operator_moves_is_left_alone() {
    let mut world = World::of(4);
    let id = world.create(vec![vec![1, 2, 3]; 4], false);
    world.cluster.apply(&Record::ReplicasChanged {
        id,
        partition: 0,
        replicas: vec![1, 2, 4],
        automatic: false,
    });
    world.fence(4);
    world.sight.gone.insert(4);
    world.leave(&[4]);
    let before = world.topic(id).moves[&0].clone();
    world.look();
    assert_eq!(world.topic(id).moves[&0], before);
}

#[test]
fn a_node_that_leaves_is_emptied_and_let_go() {
    let mut world = World::of(4);
    world.create(
        vec![vec![1, 2, 4], vec![4, 2, 3], vec![3, 4, 1], vec![2, 1, 3]],
        false,
    );
    world.sight.voters = BTreeSet::from([1, 2, 4]);
    world.leave(&[4]);
    let taken = world.come_to_rest();
    assert_eq!(reasons(&taken), ["Empty".to_owned()].into());
    assert_eq!(world.loads()[&4], (0, 0));
    world.sight.voters = BTreeSet::from([1, 2, 3]);
    assert_eq!(world.look(), [Step::LetGo(4)]);
    assert!(!world.cluster.nodes().contains_key(&4));
    assert!(
        world.cluster.leaving().is_empty(),
        "if it comes back it is to stay"
    );
    world.come_to_rest();
    world.assert_even();
}

#[test]
fn leaving_goes_on_where_balancing_is_switched_off() {
    let mut world = World::of(4);
    world.create(vec![vec![1, 2, 3]; 6], false);
    world.sight.rules.evens_out = false;
    assert_eq!(world.look(), []);
    world.leave(&[3]);
    world.come_to_rest();
    assert!(!world.cluster.nodes().contains_key(&3));
}

#[test]
fn a_node_that_leaves_and_does_not_run_is_not_waited_for() {
    let mut world = World::of(4);
    world.create(vec![vec![1, 2, 3]; 3], false);
    world.fence(3);
    world.leave(&[3]);
    world.come_to_rest();
    assert!(!world.cluster.nodes().contains_key(&3));
    assert_eq!(world.loads()[&4].0, 3);
}

#[test]
fn the_clusters_own_topics_grow_and_shrink_with_it() {
    let mut world = World::of(1);
    let own = world.create(vec![vec![1]; 6], true);
    let other = world.create(vec![vec![1]; 3], false);
    world.join(2, None, 2);
    world.come_to_rest();
    let factors = |world: &World, id| {
        let all = world.topic(id).partitions.iter().map(Vec::len);
        all.collect::<BTreeSet<usize>>()
    };
    assert_eq!(
        (factors(&world, own), factors(&world, other)),
        ([2].into(), [1].into())
    );
    for node in [3, 4] {
        world.join(node, None, 2);
        world.come_to_rest();
        assert_eq!(factors(&world, own), [3].into());
    }
    world.assert_even();
    for (left, factor) in [(4, 3), (3, 2), (2, 1)] {
        world.leave(&[left]);
        world.come_to_rest();
        assert_eq!(factors(&world, own), [factor].into());
        assert_eq!(world.cluster.nodes().len(), factor);
    }
}

#[test]
fn replicas_that_share_a_rack_are_parted_when_another_comes() {
    let mut world = World::new(&[Some("a"), Some("a"), Some("b")]);
    let topic = world.create(vec![vec![1, 2, 3]; 6], false);
    world.come_to_rest();
    world.join(4, Some("c"), 2);
    world.come_to_rest();
    for replicas in &world.topic(topic).partitions {
        assert!(
            !(replicas.contains(&1) && replicas.contains(&2)),
            "{replicas:?}"
        );
    }
    assert_eq!(world.loads()[&1].0, world.loads()[&2].0);
}

fn disk(used_percent: u64, largest: Vec<Held>) -> Disk {
    Disk {
        total_bytes: 1_000,
        available_bytes: 1_000 - used_percent * 10,
        largest,
    }
}

#[test]
fn a_full_disk_gives_its_largest_partition_to_one_with_room_and_gets_nothing_back() {
    let mut world = World::of(3);
    let topic = world.create(vec![vec![1], vec![1], vec![2], vec![3]], false);
    let held = |partition, bytes| Held {
        topic,
        partition,
        bytes,
    };
    let largest = vec![held(1, 600), held(0, 100)];
    world.sight.disks = BTreeMap::from([
        (1, disk(90, largest)),
        (2, disk(76, vec![])),
        (3, disk(30, vec![])),
    ]);
    let steps = world.look();
    let expected = Step::Replicas {
        topic,
        partition: 0,
        replicas: vec![3],
        why: Why::Relieve,
    };
    // The largest fits nowhere.
    assert_eq!(steps, [expected]);
    world.come_to_rest();
    // Now it is neither full nor empty enough, though it holds less than others.
    world.sight.disks.insert(1, disk(80, vec![]));
    world.create(vec![vec![3]; 3], false);
    world.come_to_rest();
    assert_eq!(world.loads()[&1].0, 1);
    world.sight.disks.insert(1, disk(60, vec![]));
    world.come_to_rest();
    assert!(world.loads()[&1].0 > 1);
}

#[test]
fn leads_go_over_others_where_there_is_no_direct_way() {
    let mut world = World::of(3);
    // Node 1 is preferred by three and shares nothing with node 3, which is preferred by one.
    world.create(
        vec![
            vec![1, 2],
            vec![1, 2],
            vec![1, 2],
            vec![2, 3],
            vec![2, 3],
            vec![3, 2],
        ],
        false,
    );
    world.sight.rules.moves_max = 0;
    let steps = world.look();
    assert_eq!(
        (steps.len(), reasons(&steps)),
        (2, ["Leads".to_owned()].into())
    );
    let preferred: Vec<u64> = world.loads().values().map(|load| load.1).collect();
    assert_eq!(preferred, [2, 2, 2]);
}
