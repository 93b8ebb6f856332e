//! What a checkpoint keeps of a partition beside its log: the configuration of its Raft group, and the state that
//! was replayed from it.
//!
//! Layout, version 1: version u8, length of the configuration u32 (0: none), its index u64, its membership record,
//! then the state. Migration to N+1: read N here, write N+1 with the next checkpoint. What cannot be read is
//! replayed from the log, which is the truth.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use raft_group::Configuration;
use raft_group::members::{Membership, Step};

const VERSION: u8 = 1;
/// Version and length.
const HEAD_BYTES: usize = 1 + 4;

/// Puts both into the bytes that the checkpoint stores.
pub fn encode(configuration: &Configuration, state: &[u8]) -> Bytes {
    let members = configuration.members.clone();
    let record = Membership {
        step: Step::Declare,
        members,
    }
    .encode();
    let mut out = BytesMut::with_capacity(HEAD_BYTES + 8 + record.len() + state.len());
    out.put_u8(VERSION);
    out.put_u32_le(record.len() as u32);
    out.put_u64_le(configuration.index);
    out.put_slice(&record);
    out.put_slice(state);
    out.freeze()
}

/// Takes them apart again. `None`: nothing that this build can read.
pub fn decode(mut kept: Bytes) -> Option<(Configuration, Bytes)> {
    if kept.len() < HEAD_BYTES + 8 || kept.get_u8() != VERSION {
        return None;
    }
    let length = kept.get_u32_le() as usize;
    let index = kept.get_u64_le();
    if kept.len() < length {
        return None;
    }
    let record = kept.split_to(length);
    let members = Membership::decode(&record).ok()?.members;
    Some((Configuration { index, members }, kept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_group::{Members, ReplicaId};

    #[test]
    fn what_was_put_in_comes_out() {
        let id = ReplicaId::new(3, 7).expect("a valid id");
        let configuration = Configuration {
            index: 2,
            members: Members::of_voters([id]),
        };
        let kept = encode(&configuration, b"state");
        let (found, state) = decode(kept.clone()).expect("own encoding");
        assert_eq!(
            (found, state.as_ref()),
            (configuration, b"state".as_slice())
        );
        for cut in 0..kept.len() - b"state".len() {
            assert!(decode(kept.slice(..cut)).is_none(), "cut at {cut}");
        }
    }
}
