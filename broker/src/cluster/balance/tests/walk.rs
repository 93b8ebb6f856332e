//! The rules hold at each step from any state, and when nothing happens any more it comes to rest in an even one.

use super::*;

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
