//! Election timeouts as a pure function.
//!
//! The raft crate draws its randomized election timeout from a thread-local generator whenever a
//! replica changes its role. That breaks replay: the same seed never gives the same run twice.
//! So the draw is overwritten after *every* call that may have made one, and always, not only when
//! the value changed: a draw that happens to give the same number would go unseen.
//!
//! The function knows nothing but its arguments. Deliberately absent: a generator with state, and
//! the role of the replica (a change of role without a change of term keeps the timeout, which is
//! harmless: two replicas that collide in one term draw anew in the next).

use crate::members::ReplicaId;

/// The number of ticks without a sign of a leader after which `replica` campaigns in `term`.
///
/// In `[election_ticks, 2 * election_ticks)`, as the Raft paper (section 5.2) asks. `seed` should
/// differ between groups, or all the groups of a core would campaign at the same tick.
pub fn election_timeout_ticks(
    seed: u64,
    replica: ReplicaId,
    term: u64,
    election_ticks: usize,
) -> usize {
    assert!(
        election_ticks > 0,
        "an election timeout of {election_ticks} ticks"
    );
    let drawn = mix(mix(mix(seed) ^ replica.as_u64()) ^ term);
    let spread = (u128::from(drawn) * election_ticks as u128) >> 64;
    election_ticks + spread as usize
}

/// The number of ticks after which `replica` campaigns when the leader's node `lost` was reported
/// lost; `None` if it has no vote.
///
/// The voters that are left take turns: the first one after as many ticks as a heartbeat of a
/// leader that lives after all may take, each further one two ticks later, so that usually one wins
/// before the next begins. Where they begin depends on the group's seed, so that a lost node's
/// groups are spread over the others; and on the round, which counts the attempts that came to
/// nothing. Those after the first give the one before a heartbeat longer to succeed after all.
pub fn alarm_ticks(
    seed: u64,
    voters: &[ReplicaId],
    replica: ReplicaId,
    lost: i32,
    heartbeat_ticks: usize,
    round: u32,
) -> Option<usize> {
    let mut left = voters.iter().filter(|voter| voter.node() != lost);
    let place = left.clone().position(|voter| *voter == replica)?;
    let count = left.by_ref().count();
    let first = mix(seed) % count as u64 + u64::from(round);
    let turn = (place as u64 + first) % count as u64;
    let pause = if round == 0 { 1 } else { 2 };
    Some(pause * heartbeat_ticks + 1 + 2 * turn as usize)
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): every input bit moves every output bit.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(node: i32) -> ReplicaId {
        ReplicaId::new(node, 1).unwrap()
    }

    #[test]
    fn stays_in_range_and_reaches_both_ends() {
        let drawn: Vec<usize> = (0..1_000)
            .map(|term| election_timeout_ticks(7, replica(1), term, 10))
            .collect();
        assert_eq!(drawn.iter().min(), Some(&10));
        assert_eq!(drawn.iter().max(), Some(&19));
    }

    #[test]
    fn after_an_alarm_everybody_has_a_tick_of_its_own() {
        let voters: Vec<ReplicaId> = (1..=5).map(replica).collect();
        for seed in 0..50 {
            let of = |node| alarm_ticks(seed, &voters, replica(node), 3, 2, 0);
            let mut ticks: Vec<usize> = [1, 2, 4, 5].into_iter().flat_map(of).collect();
            ticks.sort_unstable();
            assert_eq!(ticks, [3, 5, 7, 9]);
            assert_eq!((of(3), of(6)), (None, None));
            let again = |node| alarm_ticks(seed, &voters, replica(node), 3, 2, 1);
            let mut ticks: Vec<usize> = [1, 2, 4, 5].into_iter().flat_map(again).collect();
            assert_ne!(ticks[0] - 2, of(1).unwrap(), "it is somebody else's turn");
            ticks.sort_unstable();
            assert_eq!(ticks, [5, 7, 9, 11]);
        }
        let first =
            (0..50).filter(|seed| alarm_ticks(*seed, &voters, replica(1), 3, 2, 0) == Some(3));
        assert!((5..25).contains(&first.count()), "spread over the groups");
    }

    #[test]
    fn each_argument_matters() {
        let of = |seed, node, term| election_timeout_ticks(seed, replica(node), term, 1 << 20);
        assert_eq!(of(1, 1, 1), of(1, 1, 1));
        assert_ne!(of(1, 1, 1), of(2, 1, 1));
        assert_ne!(of(1, 1, 1), of(1, 2, 1));
        assert_ne!(of(1, 1, 1), of(1, 1, 2));
    }
}
