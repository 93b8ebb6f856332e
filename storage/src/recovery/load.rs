//! Reading the data of entries that went straight to their segment and were not drained: they
//! must be in memory like every other undrained entry.

use std::io;

use runtime::Disk;

use super::replay::Replay;
use crate::error::ReadError;
use crate::log::Log;
use crate::log::reader::{FoundFrame, SegmentReader};

pub(super) async fn hollow_entries(disk: &Disk, replay: &mut Replay) -> io::Result<()> {
    for replayed in replay.logs.values_mut() {
        let log = &mut replayed.log;
        let hollow: Vec<u64> = log
            .tail
            .from(log.drained + 1)
            .filter(|(_, e)| e.is_hollow())
            .map(|(i, _)| i)
            .collect();
        for index in hollow {
            match read(disk, log, index).await {
                Ok(data) => log.tail.get_mut(index).expect("it was listed").data = data,
                Err(error) => {
                    log.fence(format!("entry {index}: {error}"));
                    log.lose_from(index);
                    break;
                }
            }
        }
    }
    Ok(())
}

async fn read(disk: &Disk, log: &Log, index: u64) -> Result<bytes::Bytes, ReadError> {
    let entry = log.tail.get(index).expect("it was listed");
    let place = entry.place.expect("only an entry in a segment is hollow");
    let segment = log
        .segments
        .iter()
        .find(|s| s.generation == place.generation);
    let mut segment = *segment.expect("a placed entry has its segment");
    segment.size = place.position + entry.frame_bytes();
    let reader = SegmentReader::new(&log.cache, disk, log.id, segment);
    let want = entry.segment_frame(log.id, index, place.generation);
    match reader.frame_at(place.position).await? {
        Some(frame) if frame.header == want => {
            reader
                .data(&FoundFrame {
                    header: want,
                    position: place.position,
                })
                .await
        }
        _ => Err(reader.damaged(place.position, "another frame than the journal says")),
    }
}

impl Log {
    /// The entries from `index` on cannot be read. The log is fenced; what is before them stays.
    fn lose_from(&mut self, index: u64) {
        let last = index - 1;
        self.commit = self.commit.min(last);
        self.high_watermark = self
            .offset_after(self.commit)
            .unwrap_or(self.drained_offset);
        self.log_start_offset = self.log_start_offset.min(self.high_watermark);
        self.forget_above(last);
    }
}
