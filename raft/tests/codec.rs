//! What travels between nodes and what lies in the log: round trips, and hostile bytes.

#[path = "cluster/random.rs"]
mod random;

use bytes::Bytes;
use raft_group::heartbeats::{Beat, BeatFrame, BeatFrameError};
use raft_group::members::{MEMBERS_MAX, MembershipError, Step};
use raft_group::snapshot::{STATE_BYTES_MAX, SnapshotError};
use raft_group::wire::{FrameError, FrameReader, FrameWriter};
use raft_group::{
    Append, Body, Change, ChangeError, Configuration, Entry, Members, Membership, Message, Reject,
    ReplicaId, Snapshot, Vote,
};
use random::Random;
use storage::{EntryKind, PartitionId};

fn id(node: i32) -> ReplicaId {
    ReplicaId::new(node, 1).unwrap()
}

fn replica(random: &mut Random) -> ReplicaId {
    let incarnation = 1 + random.below(u64::from(u32::MAX)) as u32;
    ReplicaId::new(random.below(1 << 31) as i32, incarnation).unwrap()
}

fn partition(random: &mut Random) -> PartitionId {
    let topic = u128::from(random.next()) << 64 | u128::from(random.next());
    PartitionId {
        topic,
        partition: random.next() as u32,
    }
}

fn data(random: &mut Random, bytes_max: u64) -> Bytes {
    let len = random.below(bytes_max);
    (0..len).map(|_| random.next() as u8).collect()
}

fn entry(random: &mut Random) -> Entry {
    let kinds = [
        EntryKind::Batch,
        EntryKind::NoOp,
        EntryKind::Membership,
        EntryKind::LogStart,
        EntryKind::Command,
    ];
    let kind = kinds[random.below(5) as usize];
    let bytes_max = [1, 40, 2_000][random.below(3) as usize];
    Entry {
        term: random.next(),
        kind,
        data: data(random, bytes_max),
    }
}

fn snapshot(random: &mut Random) -> Snapshot {
    let index = 1 + random.below(1 << 40);
    let mut epochs = Vec::new();
    let (mut epoch, mut offset) = (0, 0);
    for _ in 0..random.below(5) {
        epoch += 1 + random.below(9);
        offset += random.below(1_000) as i64;
        epochs.push((epoch, offset));
    }
    let bytes_max = [1, 100, 3_000][random.below(3) as usize];
    Snapshot {
        index,
        term: epoch + 1 + random.below(3),
        next_offset: offset + random.below(1_000) as i64,
        applied: index + random.below(1_000),
        epochs,
        configuration: Configuration {
            index: random.next(),
            members: membership(random).members,
        },
        state: data(random, bytes_max),
    }
}

fn body(random: &mut Random) -> Body {
    if random.percent(10) {
        return Body::Snapshot(Box::new(snapshot(random)));
    }
    let flag = random.percent(50);
    let mut number = || random.next();
    let reject = Reject {
        hint_index: number(),
        hint_term: number(),
    };
    let [a, b, c, d] = [number(), number(), number(), number()];
    match random.below(8) {
        0 => {
            let entries = (0..random.below(6)).map(|_| entry(random)).collect();
            Body::Append(Append {
                prev_index: a,
                prev_term: b,
                commit: c,
                entries,
            })
        }
        1 => Body::AppendReply {
            index: a,
            commit: b,
            reject: flag.then_some(reject),
        },
        2 => Body::Vote(Vote {
            pre: flag,
            transfer: random.percent(50),
            last_index: a,
            last_term: b,
            commit: c,
            commit_term: d,
        }),
        3 => Body::VoteReply {
            pre: flag,
            reject: random.percent(50),
            commit: a,
            commit_term: b,
        },
        4 => Body::Heartbeat {
            commit: a,
            sleep: flag,
            read: b,
        },
        5 => Body::HeartbeatReply {
            commit: a,
            sleep: flag,
            read: b,
        },
        _ => Body::TimeoutNow,
    }
}

fn message(random: &mut Random) -> Message {
    let (from, to) = (replica(random), replica(random));
    Message {
        from,
        to,
        term: random.next(),
        body: body(random),
    }
}

fn frame(random: &mut Random, count: u64) -> (Vec<(PartitionId, Message)>, Vec<Bytes>) {
    let mut writer = FrameWriter::new();
    assert!(writer.is_empty());
    let sent: Vec<_> = (0..count)
        .map(|_| (partition(random), message(random)))
        .collect();
    for (partition, message) in &sent {
        writer.push(*partition, message);
    }
    let len = writer.len();
    let parts = writer.finish();
    assert_eq!(parts.iter().map(Bytes::len).sum::<usize>(), len);
    (sent, parts)
}

#[test]
fn messages_come_back() {
    let mut random = Random::new(1);
    for _ in 0..2_000 {
        let count = random.below(5);
        let (sent, parts) = frame(&mut random, count);
        let reader = FrameReader::new(Bytes::from(parts.concat())).unwrap();
        assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap(), sent);
    }
}

#[test]
fn large_payloads_are_not_copied() {
    let payload = Bytes::from(vec![7; 5_000]);
    let entry = Entry {
        term: 1,
        kind: EntryKind::Batch,
        data: payload.clone(),
    };
    let append = Append {
        prev_index: 0,
        prev_term: 0,
        commit: 0,
        entries: vec![entry],
    };
    let sent = Message {
        from: id(1),
        to: id(2),
        term: 1,
        body: Body::Append(append),
    };
    let mut writer = FrameWriter::new();
    writer.push(
        PartitionId {
            topic: 1,
            partition: 2,
        },
        &sent,
    );
    let parts = writer.finish();
    assert!(
        parts.iter().any(|part| part.as_ptr() == payload.as_ptr()),
        "copied on the way out"
    );
    let frame = Bytes::from(parts.concat());
    let (_, got) = FrameReader::new(frame.clone())
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let Body::Append(append) = got.body else {
        panic!("{got:?}")
    };
    let inside = frame
        .as_ptr_range()
        .contains(&append.entries[0].data.as_ptr());
    assert!(inside, "copied on the way in");
}

#[test]
fn the_wire_is_what_it_always_was() {
    let append = Append {
        prev_index: 3,
        prev_term: 2,
        commit: 1,
        entries: vec![Entry {
            term: 2,
            kind: EntryKind::Command,
            data: Bytes::from_static(b"hi"),
        }],
    };
    let sent = Message {
        from: id(1),
        to: id(2),
        term: 5,
        body: Body::Append(append),
    };
    let mut writer = FrameWriter::new();
    writer.push(
        PartitionId {
            topic: 9,
            partition: 4,
        },
        &sent,
    );
    let mut golden = vec![1];
    golden.extend(9u128.to_le_bytes());
    golden.extend(4u32.to_le_bytes());
    golden.extend([1, 0, 0, 0, 1, 0, 0, 0]);
    golden.extend([1, 0, 0, 0, 2, 0, 0, 0]);
    golden.extend(5u64.to_le_bytes());
    golden.push(1);
    golden.extend([3u64, 2, 1].iter().flat_map(|number| number.to_le_bytes()));
    golden.extend(1u32.to_le_bytes());
    golden.extend(2u64.to_le_bytes());
    golden.push(4);
    golden.extend([2, 0, 0, 0, b'h', b'i']);
    assert_eq!(writer.finish().concat(), golden);
}

#[test]
fn a_snapshot_is_what_it_always_was() {
    let members = Members::of_voters([id(1)]);
    let sent = Snapshot {
        index: 7,
        term: 3,
        next_offset: 40,
        applied: 9,
        epochs: vec![(2, 10), (3, 30)],
        configuration: Configuration { index: 5, members },
        state: Bytes::from_static(b"state"),
    };
    let mut golden = vec![1];
    golden.extend(
        [7u64, 3, 40, 9]
            .iter()
            .flat_map(|number| number.to_le_bytes()),
    );
    golden.extend(2u32.to_le_bytes());
    golden.extend(
        [2u64, 10, 3, 30]
            .iter()
            .flat_map(|number| number.to_le_bytes()),
    );
    golden.extend(5u64.to_le_bytes());
    let record = [1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    golden.extend(15u32.to_le_bytes());
    golden.extend(record);
    golden.extend(5u32.to_le_bytes());
    golden.extend(b"state");
    assert_eq!(sent.encode(), golden);
    assert_eq!(Snapshot::decode(&sent.encode()), Ok(sent));
    golden[0] = 2;
    let newer = Snapshot::decode(&Bytes::from(golden));
    assert_eq!(newer, Err(SnapshotError::Version(2)));
}

#[test]
fn snapshots_are_bounded_and_must_make_sense() {
    let mut random = Random::new(7);
    for _ in 0..500 {
        let sound = snapshot(&mut random);
        let bytes = sound.encode();
        for len in 0..bytes.len() {
            assert!(Snapshot::decode(&bytes.slice(..len)).is_err());
        }
        let longer = [&bytes[..], &[0]].concat();
        let left = Snapshot::decode(&Bytes::from(longer));
        assert_eq!(left, Err(SnapshotError::Damaged("bytes left over")));
        let breaks: [fn(&mut Snapshot); 6] = [
            |s| s.index = 0,
            |s| s.term = 0,
            |s| s.next_offset = -1,
            |s| s.applied = s.index - 1,
            |s| s.epochs = vec![(s.term + 1, 0)],
            |s| s.epochs = vec![(1, s.next_offset + 1)],
        ];
        for change in breaks {
            let mut senseless = sound.clone();
            change(&mut senseless);
            let read = Snapshot::decode(&senseless.encode());
            assert!(matches!(read, Err(SnapshotError::Damaged(_))), "{read:?}");
        }
    }
    let mut large = snapshot(&mut random);
    large.state = Bytes::from(vec![0; STATE_BYTES_MAX + 1]);
    let read = Snapshot::decode(&large.encode());
    assert_eq!(read, Err(SnapshotError::Damaged("the state is too large")));
}

#[test]
fn the_state_of_a_snapshot_is_not_copied() {
    let mut sent = snapshot(&mut Random::new(8));
    sent.state = Bytes::from(vec![7; 5_000]);
    let payload = sent.state.clone();
    let sent = Message {
        from: id(1),
        to: id(2),
        term: sent.term,
        body: Body::Snapshot(Box::new(sent)),
    };
    let mut writer = FrameWriter::new();
    let partition = PartitionId {
        topic: 1,
        partition: 2,
    };
    writer.push(partition, &sent);
    let parts = writer.finish();
    assert!(
        parts.iter().any(|part| part.as_ptr() == payload.as_ptr()),
        "copied on the way out"
    );
    let frame = Bytes::from(parts.concat());
    let mut reader = FrameReader::new(frame.clone()).unwrap();
    assert_eq!(reader.next(), Some(Ok((partition, sent.clone()))));
    let (_, got) = FrameReader::new(frame.clone())
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let Body::Snapshot(got) = got.body else {
        panic!("{got:?}")
    };
    let inside = frame.as_ptr_range().contains(&got.state.as_ptr());
    assert!(inside, "copied on the way in");
}

#[test]
fn every_cut_of_a_frame_is_refused_or_ends_between_messages() {
    let mut random = Random::new(2);
    for _ in 0..200 {
        let (sent, parts) = frame(&mut random, 2);
        let whole = Bytes::from(parts.concat());
        for len in 1..whole.len() {
            let read: Vec<_> = FrameReader::new(whole.slice(..len)).unwrap().collect();
            let good = read.iter().take_while(|read| read.is_ok()).count();
            assert!(read.len() - good <= 1, "nothing follows an error");
            assert!(good < 2, "{len} bytes of {} hold everything", whole.len());
            for (read, sent) in read.into_iter().zip(&sent) {
                assert!(read.as_ref().is_err() || read.as_ref() == Ok(sent));
            }
        }
    }
    assert!(matches!(
        FrameReader::new(Bytes::new()),
        Err(FrameError::Damaged(_))
    ));
    assert!(matches!(
        FrameReader::new(Bytes::from_static(&[2])),
        Err(FrameError::Version(2))
    ));
}

/// Whatever comes in: no panic, and no more read than was there.
#[test]
fn hostile_frames_do_no_harm() {
    let mut random = Random::new(3);
    let mut understood = 0;
    for _ in 0..15_000 {
        let (_, parts) = frame(&mut random, 1);
        let mut bytes = parts.concat();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(4) {
                0 => bytes[at] = random.next() as u8,
                1 => bytes[at] ^= 1 << random.below(8),
                2 => bytes.truncate(at.max(1)),
                _ => {
                    let end = bytes.len().min(at + 4);
                    bytes[at..end].fill(0xff);
                }
            }
        }
        let total = bytes.len();
        let Ok(reader) = FrameReader::new(Bytes::from(bytes)) else {
            continue;
        };
        for read in reader {
            let Ok((_, message)) = read else { break };
            understood += 1;
            if let Body::Append(append) = message.body {
                let payload: usize = append.entries.iter().map(|entry| entry.data.len()).sum();
                assert!(payload + append.entries.len() * 13 <= total);
            } else if let Body::Snapshot(snapshot) = message.body {
                assert!(snapshot.state.len() + snapshot.epochs.len() * 16 <= total);
                snapshot.configuration.members.verify();
                assert!(snapshot.applied >= snapshot.index && snapshot.index > 0);
            }
        }
    }
    assert!(
        understood > 1_000,
        "{understood} frames got through: the damage is too coarse"
    );
}

#[test]
fn a_count_that_cannot_be_is_refused_before_anything_is_allocated() {
    let append = Append {
        prev_index: 1,
        prev_term: 1,
        commit: 1,
        entries: Vec::new(),
    };
    let sent = Message {
        from: id(1),
        to: id(2),
        term: 1,
        body: Body::Append(append),
    };
    let mut writer = FrameWriter::new();
    writer.push(
        PartitionId {
            topic: 1,
            partition: 1,
        },
        &sent,
    );
    let mut bytes = writer.finish().concat();
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&u32::MAX.to_le_bytes());
    let read = FrameReader::new(Bytes::from(bytes))
        .unwrap()
        .next()
        .unwrap();
    assert_eq!(read, Err(FrameError::Damaged("cut short")));
}

fn beats(random: &mut Random) -> BeatFrame {
    let mut topic = random.next();
    let beats = (0..random.below(40)).map(|_| {
        if random.percent(20) {
            topic = random.next();
        }
        let small = random.percent(50);
        let number = random.next();
        Beat {
            partition: PartitionId {
                topic: topic.into(),
                partition: random.next() as u32,
            },
            answer: random.percent(30),
            sleep: random.percent(10),
            term: if small { number % 200 } else { number },
            commit: random.next() >> random.below(64),
            read: if small { 0 } else { number },
        }
    });
    let beats = beats.collect();
    BeatFrame {
        from: replica(random),
        to: replica(random),
        beats,
    }
}

#[test]
fn heartbeats_come_back() {
    let mut random = Random::new(4);
    for _ in 0..200 {
        let sent = beats(&mut random);
        let bytes = sent.encode();
        assert_eq!(BeatFrame::decode(&bytes), Ok(sent));
        for len in 0..bytes.len() {
            assert!(
                BeatFrame::decode(&bytes[..len]).is_err(),
                "{len} of {}",
                bytes.len()
            );
        }
    }
}

#[test]
fn a_thousand_idle_groups_beat_in_nine_kilobytes() {
    let beats = (0..1_000u32).map(|partition| Beat {
        partition: PartitionId {
            topic: 77,
            partition,
        },
        answer: false,
        sleep: false,
        term: 3,
        commit: 1_000_000,
        read: 0,
    });
    let frame = BeatFrame {
        from: id(1),
        to: id(2),
        beats: beats.collect(),
    };
    assert!(
        frame.encode().len() < 9_000,
        "{} bytes",
        frame.encode().len()
    );
}

#[test]
fn hostile_heartbeats_do_no_harm() {
    let mut random = Random::new(5);
    let mut understood = 0;
    for _ in 0..20_000 {
        let mut bytes = beats(&mut random).encode();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(3) {
                0 => bytes[at] = random.next() as u8,
                1 => bytes.truncate(at.max(1)),
                _ => bytes[at] ^= 1 << random.below(8),
            }
        }
        match BeatFrame::decode(&bytes) {
            Ok(frame) => understood += usize::from(frame.beats.len() * 4 < bytes.len()),
            Err(BeatFrameError::Version(version)) => assert_ne!(version, 1),
            Err(BeatFrameError::Damaged(_)) => {}
        }
    }
    assert!(understood > 1_000, "{understood}");
}

/// A few steps from a group of three voters, each legal.
fn membership(random: &mut Random) -> Membership {
    let mut now = Membership {
        step: Step::Declare,
        members: Members::of_voters([id(1), id(2), id(3)]),
    };
    for _ in 0..random.below(6) {
        if let Some(members) = now.members.leave_joint() {
            now = Membership {
                step: Step::Leave,
                members,
            };
            continue;
        }
        let changes: Vec<Change> = (0..1 + random.below(3))
            .map(|_| {
                let id = id(1 + random.below(6) as i32);
                match random.below(3) {
                    0 => Change::AddVoter(id),
                    1 => Change::AddLearner(id),
                    _ => Change::Remove(id),
                }
            })
            .collect();
        if let Ok(members) = now.members.enter_joint(&changes) {
            now = Membership {
                step: Step::Enter(changes),
                members,
            };
        }
    }
    now
}

#[test]
fn membership_records_come_back() {
    let mut random = Random::new(6);
    for _ in 0..2_000 {
        let record = membership(&mut random);
        record.members.verify();
        let bytes = record.encode();
        assert_eq!(Membership::decode(&bytes), Ok(record));
        for len in 0..bytes.len() {
            assert!(Membership::decode(&bytes[..len]).is_err());
        }
        let at = random.below(bytes.len() as u64) as usize;
        let mut damaged = bytes.to_vec();
        damaged[at] = random.next() as u8;
        if let Ok(record) = Membership::decode(&damaged) {
            record.members.verify();
        }
    }
    assert_eq!(Membership::decode(&[9]), Err(MembershipError::Version(9)));
}

#[test]
fn changes_of_members_are_checked() {
    let three = Members::of_voters([id(1), id(2), id(3)]);
    let enter = |changes: &[Change]| three.enter_joint(changes);
    assert_eq!(enter(&[]), Err(ChangeError::Unchanged));
    assert_eq!(
        enter(&[Change::AddVoter(id(1))]),
        Err(ChangeError::Unchanged)
    );
    let twice = [Change::AddLearner(id(4)), Change::AddVoter(id(4))];
    assert_eq!(enter(&twice), Err(ChangeError::Twice(id(4))));
    let all = [1, 2, 3].map(|node| Change::Remove(id(node)));
    assert_eq!(enter(&all), Err(ChangeError::NoVoters));
    let crowd: Vec<Change> = (4..80).map(|node| Change::AddLearner(id(node))).collect();
    assert_eq!(enter(&crowd), Err(ChangeError::TooMany(79)));
    const { assert!(MEMBERS_MAX < 79) };

    let joint = enter(&[Change::AddLearner(id(3)), Change::AddVoter(id(4))]).unwrap();
    assert_eq!(joint.voters(), [id(1), id(2), id(4)]);
    assert_eq!(joint.outgoing(), [id(1), id(2), id(3)]);
    assert_eq!(joint.learners_next(), [id(3)], "it still votes");
    assert_eq!(
        joint.enter_joint(&[Change::Remove(id(1))]),
        Err(ChangeError::Joint)
    );
    let left = joint.leave_joint().unwrap();
    assert_eq!(
        (left.voters(), left.learners()),
        (&[id(1), id(2), id(4)][..], &[id(3)][..])
    );
    assert_eq!(left.leave_joint(), None);
}

#[test]
fn identities_are_a_node_and_an_incarnation_of_its_disk() {
    assert_eq!(ReplicaId::new(-1, 1), None);
    assert_eq!(ReplicaId::new(1, 0), None);
    let replica = ReplicaId::new(7, 3).unwrap();
    assert_eq!((replica.node(), replica.incarnation()), (7, 3));
    assert_eq!(replica.to_string(), "7.3");
    assert_eq!(ReplicaId::from_u64(replica.as_u64()), Some(replica));
    assert_ne!(
        ReplicaId::new(0, 1).unwrap().as_u64(),
        0,
        "0 means nobody in Raft"
    );
    assert_eq!(ReplicaId::from_u64(0), None);
    assert_eq!(ReplicaId::from_u64(u64::MAX), None);
    assert!(ReplicaId::new(1, 9) < ReplicaId::new(2, 1));
}
