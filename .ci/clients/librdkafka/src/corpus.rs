//! The records that every client suite writes and reads: a pure function of their number. The rules
//! stand in `../README.md`.

use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};

use crate::checks::{Outcome, same};

pub const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
pub const PER_CODEC: usize = 20_000;
pub const TOTAL: usize = PER_CODEC * CODECS.len();
pub const PARTITIONS: usize = 6;
pub const FIRST_TIMESTAMP: i64 = 1_700_000_000_000;

pub fn partition(number: usize) -> i32 {
    (number % PARTITIONS) as i32
}

/// The one offset a record can have when its partition holds the corpus from the start.
pub fn offset(number: usize) -> i64 {
    (number / PARTITIONS) as i64
}

/// How many records of the corpus a partition holds.
pub fn length(partition: i32) -> i64 {
    ((TOTAL - partition as usize).div_ceil(PARTITIONS)) as i64
}

pub fn timestamp(number: usize) -> i64 {
    FIRST_TIMESTAMP + number as i64
}

pub fn key(number: usize) -> Option<Vec<u8>> {
    (number % 1000 != 7).then(|| format!("key-{number}").into_bytes())
}

pub fn value(number: usize) -> Option<Vec<u8>> {
    match number % 1000 {
        9 => None,
        11 => Some(Vec::new()),
        _ => {
            let mut value = format!("value-{number}-").into_bytes();
            value.extend(b"corelane ".iter().cycle().take(100 + number % 150));
            Some(value)
        }
    }
}

fn header_values(number: usize) -> [(&'static str, String); 4] {
    [
        ("codec", CODECS[number / PER_CODEC].to_owned()),
        ("number", number.to_string()),
        ("twice", "a".to_owned()),
        ("twice", "b".to_owned()),
    ]
}

pub fn headers(number: usize) -> OwnedHeaders {
    header_values(number)
        .iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(value),
            })
        })
}

/// Every field of a record that was read; its number follows from where it lay.
pub fn verify(message: &BorrowedMessage<'_>) -> Outcome {
    let number = message.offset() as usize * PARTITIONS + message.partition() as usize;
    let place = format!(
        "partition {} offset {}",
        message.partition(),
        message.offset()
    );
    if number >= TOTAL {
        return Err(format!("{place}: beyond the corpus").into());
    }
    same(
        &format!("{place}: key"),
        key(number).as_deref(),
        message.key(),
    )?;
    same(
        &format!("{place}: value"),
        value(number).as_deref(),
        message.payload(),
    )?;
    let read_at = message.timestamp().to_millis();
    same(
        &format!("{place}: timestamp"),
        Some(timestamp(number)),
        read_at,
    )?;
    let headers = message
        .headers()
        .ok_or_else(|| format!("{place}: no headers"))?;
    let read: Vec<_> = headers
        .iter()
        .map(|header| (header.key, header.value))
        .collect();
    let expected = header_values(number);
    let expected: Vec<_> = expected
        .iter()
        .map(|(key, value)| (*key, Some(value.as_bytes())))
        .collect();
    same(&format!("{place}: headers"), expected, read)
}
