//! InitProducerId (22), v0-5.
//!
//! Behaviour: each core holds a block of producer ids that the metadata log has set aside for it, so an id costs no
//! round trip. Ids are never given twice: a block is lost with a crash. An idempotent producer that bumps its epoch
//! (v3, KIP-360) gets the next epoch of its id, and a new id when epochs run out.
//!
//! Not done: transactions. A transactional id is answered with TRANSACTIONAL_ID_AUTHORIZATION_FAILED, here and by
//! FindCoordinator: the one code that every client family takes as final at once. librdkafka retries all others
//! until its time is up.

use super::Session;
use crate::cluster::decide::PRODUCER_ID_BLOCK;
use crate::cluster::{ClusterAnswer, ClusterAsk, METADATA_CORE};
use protocol::error::ErrorCode;
use protocol::messages::*;

/// Producer ids that this core may still give out.
#[derive(Default)]
pub struct Block {
    next: i64,
    end: i64,
}

impl Block {
    fn take(&mut self) -> Option<i64> {
        (self.next < self.end).then(|| {
            self.next += 1;
            self.next - 1
        })
    }
}

pub async fn handle(session: &Session, request: InitProducerIdRequest) -> InitProducerIdResponse {
    if request.transactional_id.is_some() {
        return refused(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    }
    let known = (request.producer_id >= 0, request.producer_epoch >= 0);
    match known {
        (true, true) if request.producer_epoch < i16::MAX - 1 => InitProducerIdResponse {
            producer_id: request.producer_id,
            producer_epoch: request.producer_epoch + 1,
            ..InitProducerIdResponse::default()
        },
        (false, false) | (true, true) => fresh(session).await,
        _ => refused(ErrorCode::INVALID_REQUEST),
    }
}

async fn fresh(session: &Session) -> InitProducerIdResponse {
    let shard = &session.shard;
    loop {
        let taken = shard.producer_ids.borrow_mut().take();
        if let Some(producer_id) = taken {
            return InitProducerIdResponse {
                producer_id,
                producer_epoch: 0,
                ..InitProducerIdResponse::default()
            };
        }
        match *shard
            .ask(METADATA_CORE, ClusterAsk::AllocateProducerIds)
            .await
        {
            ClusterAnswer::ProducerIds(first) => {
                // Another request may have brought a block meanwhile; ids left in it are not reused.
                let block = Block {
                    next: first,
                    end: first + PRODUCER_ID_BLOCK,
                };
                *shard.producer_ids.borrow_mut() = block;
            }
            // Retriable: the client asks again.
            _ => return refused(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        }
    }
}

fn refused(code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse {
        error_code: code,
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdResponse::default()
    }
}
