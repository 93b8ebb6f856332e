//! The rules hold at each step from any state, and when nothing happens any more it comes to rest in an even one.

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

/// A small generator, seeded: the walk below is the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound.max(1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len())])
    }

    /// Nodes are of different sizes where there are racks: without either, all come out even.
    fn cores(&mut self, racks: &[Option<&str>]) -> u16 {
        match racks.len() {
            1 => 2,
            _ => 1 + self.below(3) as u16,
        }
    }

    /// Distinct nodes, in any order.
    fn nodes(&mut self, mut from: Vec<i32>, count: usize) -> Vec<i32> {
        let count = count.min(from.len());
        (0..count)
            .map(|_| from.swap_remove(self.below(from.len())))
            .collect()
    }
}

impl World {
    /// Something happens.
    fn happen(&mut self, dice: &mut Dice, racks: &[Option<&str>]) {
        let nodes: Vec<i32> = self.cluster.nodes().keys().copied().collect();
        let fenced: Vec<i32> = nodes
            .iter()
            .copied()
            .filter(|node| !self.is_sound(*node))
            .collect();
        match dice.below(14) {
            0 if nodes.len() < 8 => {
                let free = (1..=9)
                    .find(|node| !nodes.contains(node))
                    .expect("nine ids");
                let rack = dice.pick(racks).flatten();
                let cores = dice.cores(racks);
                self.join(free, rack, cores);
            }
            1 if fenced.len() < nodes.len() / 2 => {
                let node = dice.pick(&nodes).expect("some");
                self.fence(node);
            }
            2 => self.sight.gone.extend(dice.pick(&fenced)),
            3 | 4 => {
                if let Some(node) = dice.pick(&fenced) {
                    self.unfence(node);
                }
            }
            5 if nodes.len() > 3 => {
                let leaving = dice.nodes(nodes, 1);
                self.leave(&leaving);
            }
            6 => self.leave(&[]),
            7 | 8 if self.next_topic < 12 => {
                let factor = 1 + dice.below(3);
                let count = 1 + dice.below(6);
                let partitions = (0..count)
                    .map(|_| dice.nodes(nodes.clone(), factor))
                    .collect();
                let internal = dice.below(4) == 0;
                self.create(partitions, internal);
            }
            9 => {
                let topics: Vec<(Uuid, usize)> = self
                    .cluster
                    .topics()
                    .map(|topic| (topic.id, topic.partitions.len()))
                    .collect();
                if let Some((id, count)) = dice.pick(&topics) {
                    let partition = dice.below(count) as u32;
                    let factor = 1 + dice.below(3);
                    let replicas = dice.nodes(nodes, factor);
                    self.cluster.apply(&Record::ReplicasChanged {
                        id,
                        partition,
                        replicas,
                        automatic: false,
                    });
                }
            }
            10 => {
                let node = dice.pick(&nodes).expect("some");
                let percent = dice.below(100) as u64;
                let topics = self.cluster.topics();
                let largest = topics.map(|topic| Held {
                    topic: topic.id,
                    partition: 0,
                    bytes: 50,
                });
                let disk = disk(percent, largest.collect());
                self.sight.disks.insert(node, disk);
            }
            _ => {
                if let Some(moving) = dice.pick(&self.moves()) {
                    self.arrive(moving);
                }
            }
        }
    }

    fn shared_racks(&self, replicas: &[i32]) -> usize {
        let rack = |node: &i32| self.cluster.nodes()[node].registration.rack.as_deref();
        let racks: Vec<&str> = replicas.iter().filter_map(rack).collect();
        racks.len() - racks.iter().collect::<BTreeSet<_>>().len()
    }

    /// What is done about this world keeps all rules. Gives the steps.
    fn look_closely(&mut self) -> Vec<Step> {
        let before = self.clone();
        let steps = self.look();
        assert_eq!(
            next(&before.cluster, &before.sight),
            steps,
            "the same each time"
        );
        self.cluster.verify();
        let missed = |node: &i32| !before.is_sound(*node) && !before.sight.gone.contains(node);
        let leaving = before.cluster.leaving();
        let is_missed = before
            .cluster
            .nodes()
            .keys()
            .any(|node| missed(node) && !leaving.contains(node));
        let mut new_moves = 0;
        for step in &steps {
            let Step::Replicas {
                topic,
                partition,
                replicas,
                why,
            } = step
            else {
                let Step::LetGo(node) = step else {
                    unreachable!()
                };
                assert!(leaving.contains(node));
                let mut held = before
                    .cluster
                    .topics()
                    .flat_map(|topic| topic.partitions.iter().flatten());
                assert!(
                    !held.any(|holder| holder == node),
                    "node {node} holds something"
                );
                continue;
            };
            let known = before.topic(*topic);
            let wanted = known.wanted(*partition).expect("it is there");
            let distinct: BTreeSet<&i32> = replicas.iter().collect();
            assert_eq!(distinct.len(), replicas.len(), "twice on a node: {step:?}");
            let moving = known.moves.get(partition);
            assert!(
                moving.is_none_or(|moving| moving.automatic),
                "an operator's: {step:?}"
            );
            new_moves += usize::from(moving.is_none() && *why != Why::Leads);
            let goes_back = moving.is_some_and(|moving| moving.origin == *replicas);
            for node in replicas.iter().filter(|node| !wanted.contains(node)) {
                let full = before
                    .sight
                    .disks
                    .get(node)
                    .is_some_and(|disk| disk.is_above(85, 0));
                let fits = before.is_sound(*node) && !leaving.contains(node) && !full;
                assert!(fits || goes_back, "{node} gets something: {step:?}");
            }
            if moving.is_some() {
                continue;
            }
            match why {
                Why::Grow => assert!(replicas.len() > wanted.len() && known.internal, "{step:?}"),
                Why::Empty if known.internal => assert!(replicas.len() <= wanted.len(), "{step:?}"),
                Why::Rebuild if known.internal => assert!(replicas.len() <= wanted.len()),
                _ => assert_eq!(replicas.len(), wanted.len(), "{step:?}"),
            }
            if *why != Why::Rebuild {
                assert!(!is_missed, "somebody may come back: {step:?}");
            }
            if matches!(why, Why::Even | Why::Relieve | Why::Leads) {
                assert!(
                    before.shared_racks(replicas) <= before.shared_racks(wanted),
                    "{step:?}"
                );
            }
        }
        let under_way = before.moves().len();
        assert!(
            new_moves <= RULES.moves_max.saturating_sub(under_way),
            "{steps:?}"
        );
        steps
    }
}

#[test]
fn from_any_state_it_keeps_the_rules_and_comes_to_rest() {
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let racks: &[Option<&str>] = match seed % 2 {
            0 => &[None],
            _ => &[Some("a"), Some("b"), Some("c"), None],
        };
        let mut world = World::of(0);
        for node in 1..=3 {
            let rack = dice.pick(racks).flatten();
            let cores = dice.cores(racks);
            world.join(node, rack, cores);
        }
        for _ in 0..60 {
            world.happen(&mut dice, racks);
            seen.extend(reasons(&world.look_closely()));
        }
        // From here on nothing happens but what was begun.
        let nodes: Vec<i32> = world.cluster.nodes().keys().copied().collect();
        nodes.into_iter().for_each(|node| world.unfence(node));
        world.leave(&[]);
        world.sight.disks.clear();
        world.come_to_rest();
        world.assert_best(seed % 2 == 0);
    }
    for why in [
        "Rebuild", "Empty", "Grow", "Racks", "Relieve", "Even", "Leads",
    ] {
        assert!(seen.contains(why), "{why} never happened");
    }
    assert!(seen.iter().any(|why| why.starts_with("LetGo")));
}

impl World {
    /// No replica and no lead elsewhere would make the numbers more even; between equal nodes they differ by one at most.
    fn assert_best(&self, are_equal: bool) {
        let loads = self.loads();
        let cores = |node: i32| u64::from(self.cluster.nodes()[&node].registration.cores);
        let better = |from: i32, to: i32, pick: fn(&(u64, u64)) -> u64| {
            let (from_load, to_load) = (pick(&loads[&from]), pick(&loads[&to]));
            from_load > 0 && (2 * to_load + 1) * cores(from) < (2 * from_load - 1) * cores(to)
        };
        for replicas in self.cluster.topics().flat_map(|topic| &topic.partitions) {
            for (at, from) in replicas.iter().enumerate() {
                for to in loads.keys().filter(|to| !replicas.contains(to)) {
                    let mut moved = replicas.clone();
                    moved[at] = *to;
                    let may = self.shared_racks(&moved) <= self.shared_racks(replicas);
                    assert!(
                        !may || !better(*from, *to, |load| load.0),
                        "{replicas:?}: {loads:?}"
                    );
                }
            }
            for to in &replicas[1..] {
                assert!(
                    !better(replicas[0], *to, |load| load.1),
                    "{replicas:?}: {loads:?}"
                );
            }
        }
        for from in loads.keys().filter(|_| are_equal) {
            for to in loads.keys() {
                assert!(
                    !better(*from, *to, |load| load.0),
                    "{from} to {to}: {loads:?}"
                );
            }
        }
    }
}
