//! Which step brings the members of a Raft group nearer to what is wanted. Pure.
//!
//! A change goes in at most three steps, each safe by itself: newcomers become learners and catch up; then they
//! become voters, and in the same joint change those that are to go stop voting; then who does not vote and is not
//! wanted leaves. A leader that is to go hands its lead over before it goes. Nothing is removed before its
//! replacement has caught up, so a group never has fewer sound voters than before.

use raft_group::{Change, Members, ReplicaId};

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The group is as it is wanted.
    Nothing,
    /// Somebody has to catch up, or a change is under way.
    Wait,
    /// Propose this, as one joint change.
    Propose(Vec<Change>),
    /// Hand the lead to one of these first: they stay, and have caught up.
    HandOver(Vec<ReplicaId>),
}

/// The next step for a group led by `leader`, which is to have the voters `wanted`, and the learners `listening`, who
/// only follow. `caught_up` says who is near enough to the end of the log to vote.
pub fn next(
    members: &Members,
    leader: ReplicaId,
    wanted: &[ReplicaId],
    listening: &[ReplicaId],
    caught_up: impl Fn(ReplicaId) -> bool,
) -> Next {
    if members.is_joint() {
        return Next::Wait;
    }
    let both = wanted.iter().chain(listening);
    let missing = both.filter(|id| !members.contains(**id));
    let missing: Vec<Change> = missing.map(|id| Change::AddLearner(*id)).collect();
    if !missing.is_empty() {
        return Next::Propose(missing);
    }
    let learning = wanted.iter().filter(|id| !members.is_voter(**id));
    let (ready, behind): (Vec<ReplicaId>, Vec<ReplicaId>) =
        learning.partition(|id| caught_up(**id));
    let leaving: Vec<ReplicaId> = members
        .voters()
        .iter()
        .copied()
        .filter(|id| !wanted.contains(id))
        .collect();
    // As long as somebody has to catch up, those that are to go stay: they may be what makes a majority.
    if !behind.is_empty() && ready.is_empty() {
        return Next::Wait;
    }
    let removable: &[ReplicaId] = if behind.is_empty() { &leaving } else { &[] };
    if removable.contains(&leader) {
        let voters = members.voters().iter().copied();
        let heirs: Vec<ReplicaId> = voters
            .filter(|id| wanted.contains(id) && caught_up(*id))
            .collect();
        if !heirs.is_empty() {
            return Next::HandOver(heirs);
        }
        // Nobody who stays votes yet: newcomers do first.
        return match ready.is_empty() {
            true => Next::Wait,
            false => Next::Propose(ready.into_iter().map(Change::AddVoter).collect()),
        };
    }
    let idle = members
        .learners()
        .iter()
        .filter(|id| !wanted.contains(id) && !listening.contains(id));
    let leaves = |id: ReplicaId| match listening.contains(&id) {
        true => Change::AddLearner(id),
        false => Change::Remove(id),
    };
    let changes: Vec<Change> = ready
        .into_iter()
        .map(Change::AddVoter)
        .chain(removable.iter().copied().map(leaves))
        .chain(idle.copied().map(Change::Remove))
        .collect();
    match changes.is_empty() {
        true => Next::Nothing,
        false => Next::Propose(changes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(node: i32, incarnation: u32) -> ReplicaId {
        ReplicaId::new(node, incarnation).expect("a valid id")
    }

    fn carried_out(members: &Members, changes: &[Change]) -> Members {
        let joint = members.enter_joint(changes).expect("a valid change");
        joint.leave_joint().expect("joint")
    }

    /// Carries steps out until nothing is left, with everybody caught up at once.
    fn steps(mut members: Members, mut leader: ReplicaId, wanted: &[ReplicaId]) -> Vec<Next> {
        let mut taken = Vec::new();
        for _ in 0..10 {
            let step = next(&members, leader, wanted, &[], |_| true);
            match &step {
                Next::Nothing => {
                    assert_eq!(members, Members::of_voters(wanted.iter().copied()));
                    return taken;
                }
                Next::Propose(changes) => members = carried_out(&members, changes),
                Next::HandOver(heirs) => leader = heirs[0],
                Next::Wait => panic!("nobody is behind: {members:?}"),
            }
            taken.push(step);
        }
        panic!("no end: {taken:?}");
    }

    #[test]
    fn a_wiped_disk_is_replaced_without_losing_a_vote_first() {
        let old = [id(1, 1), id(2, 1), id(3, 1)];
        let wanted = [id(1, 1), id(2, 1), id(3, 2)];
        let taken = steps(Members::of_voters(old), old[0], &wanted);
        let expected = [
            Next::Propose(vec![Change::AddLearner(id(3, 2))]),
            Next::Propose(vec![Change::AddVoter(id(3, 2)), Change::Remove(id(3, 1))]),
        ];
        assert_eq!(taken, expected);
    }

    #[test]
    fn a_group_moves_to_other_nodes_altogether() {
        let old = [id(1, 1), id(2, 1), id(3, 1)];
        let wanted = [id(4, 1), id(5, 1), id(6, 1)];
        let taken = steps(Members::of_voters(old), old[1], &wanted);
        assert_eq!(taken.len(), 4, "{taken:?}");
        assert!(matches!(taken[2], Next::HandOver(_)), "{taken:?}");
    }

    #[test]
    fn factors_grow_and_shrink() {
        let three = [id(1, 1), id(2, 1), id(3, 1)];
        assert_eq!(
            steps(Members::of_voters([three[0]]), three[0], &three).len(),
            2
        );
        let one = steps(Members::of_voters(three), three[0], &three[..1]);
        assert_eq!(one.len(), 1);
        // Also if it is the leader that goes.
        assert_eq!(
            steps(Members::of_voters(three), three[2], &three[..2]).len(),
            2
        );
    }

    #[test]
    fn nobody_leaves_while_the_replacement_is_behind() {
        let members = Members::of_voters([id(1, 1), id(2, 1), id(3, 1)]);
        let wanted = [id(1, 1), id(2, 1), id(4, 1)];
        let with_learner = carried_out(&members, &[Change::AddLearner(id(4, 1))]);
        let behind = |id: ReplicaId| id.node() != 4;
        assert_eq!(
            next(&with_learner, id(1, 1), &wanted, &[], behind),
            Next::Wait
        );
        let joint = members.enter_joint(&[Change::AddLearner(id(4, 1))]);
        let joint = joint.expect("a valid change");
        assert_eq!(next(&joint, id(1, 1), &wanted, &[], |_| true), Next::Wait);
    }

    #[test]
    fn who_only_follows_stays_a_learner() {
        let voters = [id(1, 1), id(2, 1), id(3, 1)];
        let members = Members::of_voters(voters);
        let listening = [id(4, 1)];
        let step = next(&members, voters[0], &voters, &listening, |_| true);
        let added = vec![Change::AddLearner(id(4, 1))];
        assert_eq!(step, Next::Propose(added.clone()));
        let members = carried_out(&members, &added);
        let step = next(&members, voters[0], &voters, &listening, |_| true);
        assert_eq!(step, Next::Nothing);
        // A voter that is to follow only is demoted in the change that promotes another.
        let wanted = [id(1, 1), id(2, 1), id(4, 1)];
        let step = next(&members, voters[0], &wanted, &[id(3, 1)], |_| true);
        let changes = vec![Change::AddVoter(id(4, 1)), Change::AddLearner(id(3, 1))];
        assert_eq!(step, Next::Propose(changes));
    }
}
