//! Batches and compressed streams that lie: bombs by hand, and a fuzzer that mutates honest ones.
//!
//! The fuzzer draws from a fixed seed, so a failure names the case that reproduces it. This binary
//! counts what each thread allocates: nothing may hold more than its input and its budget justify.
//! What the C library of zstd allocates for itself is not seen here; it gets no window to allocate,
//! since it decompresses straight into a buffer that is counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::compression::{Budget, Codec, Compression, DecompressError, compress, decompress};
use protocol::records::*;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const NOW_MS: i64 = 1_760_000_000_000;

struct Counting;

thread_local! {
    static LIVE_BYTES: Cell<isize> = const { Cell::new(0) };
    static PEAK_BYTES: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let live = LIVE_BYTES.get() + bytes;
    LIVE_BYTES.set(live);
    PEAK_BYTES.set(PEAK_BYTES.get().max(live));
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both blocks may live for a moment.
        count(size as isize);
        let moved = unsafe { System.realloc(block, layout, size) };
        count(-(layout.size() as isize));
        moved
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` returns, and by how much this thread's memory grew at most meanwhile.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE_BYTES.get();
    PEAK_BYTES.set(before);
    let result = work();
    (result, (PEAK_BYTES.get() - before).max(0) as usize)
}

/// The same numbers on every machine (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

fn compressed(codec: Codec, plain: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    compress(Compression::of(codec), plain, &mut output);
    output
}

/// A decoder's fixed state: tables, a block.
const DECODER_BYTES: usize = 128 * KIB;

/// Decompresses a bomb under `budget_bytes` and asserts that memory stayed near the budget: the
/// buffer, and its predecessor while it grows.
fn defuse(codec: Codec, bomb: &[u8], budget_bytes: usize) -> DecompressError {
    let mut budget = Budget::new(budget_bytes);
    let (result, peak) = measured(|| decompress(codec, bomb, &mut budget));
    let allowed = 2 * budget_bytes + DECODER_BYTES;
    assert!(
        peak <= allowed,
        "{}: {peak} bytes held, {allowed} allowed",
        codec.name()
    );
    assert_eq!(budget.bytes_left(), budget_bytes);
    result.expect_err("a bomb must not decompress")
}

const OVER_A_MIB: DecompressError = DecompressError::OverBudget { limit_bytes: MIB };

fn is_corrupt(error: &DecompressError) -> bool {
    matches!(error, DecompressError::Corrupt { .. })
}

#[test]
fn a_honest_bomb_of_each_codec_stops_at_the_budget() {
    let zeros = vec![0; 8 * MIB];
    for codec in Codec::ALL {
        let bomb = compressed(codec, &zeros);
        assert_eq!(defuse(codec, &bomb, MIB), OVER_A_MIB, "{}", codec.name());
        let mut budget = Budget::new(8 * MIB);
        let (plain, peak) = measured(|| decompress(codec, &bomb, &mut budget));
        assert_eq!(plain.as_ref(), Ok(&zeros), "exactly the budget is enough");
        assert_eq!(budget.bytes_left(), 0);
        assert!(peak <= 16 * MIB + DECODER_BYTES, "{}: {peak}", codec.name());
        assert!(codec == Codec::None || codec == Codec::Snappy || bomb.len() < 64 * KIB);
    }
}

#[test]
fn a_ratio_limit_spares_small_outputs() {
    let bomb = compressed(Codec::Gzip, &vec![0; 8 * MIB]);
    let mut budget = Budget::new(64 * MIB).with_ratio_max(100, 64 * KIB);
    let limit_bytes = bomb.len() * 100;
    let refused = decompress(Codec::Gzip, &bomb, &mut budget);
    assert_eq!(refused, Err(DecompressError::OverRatio { limit_bytes }));
    let small = compressed(Codec::Gzip, &vec![0; 64 * KIB]);
    assert!(
        small.len() * 100 < 64 * KIB,
        "the small one breaks the ratio too"
    );
    assert!(decompress(Codec::Gzip, &small, &mut budget).is_ok());
}

const ZSTD_MAGIC: [u8; 4] = 0xFD2F_B528u32.to_le_bytes();

/// Header of a last or middle block that repeats one byte.
fn zstd_repeat(size: u32, last: bool) -> [u8; 4] {
    let [a, b, c, _] = (size << 3 | 1 << 1 | u32::from(last)).to_le_bytes();
    [a, b, c, 0]
}

#[test]
fn zstd_windows_and_sizes_are_not_believed() {
    // Window descriptor 21 << 3: 2 GiB. Then one block of 1000 equal bytes.
    let mut window = ZSTD_MAGIC.to_vec();
    window.extend([0, 21 << 3]);
    window.extend(zstd_repeat(1000, true));
    assert!(is_corrupt(&defuse(Codec::Zstd, &window, MIB)));
    // The largest window that clients read, 128 MiB, costs nothing: the output is 1000 bytes.
    window[5] = 17 << 3;
    let (plain, peak) = measured(|| decompress(Codec::Zstd, &window, &mut Budget::new(MIB)));
    assert_eq!(plain, Ok(vec![0; 1000]));
    assert!(peak < DECODER_BYTES, "{peak}");

    // 4 bytes for each 128 KiB: 4 KB become 128 MiB. Refused before anything is decoded.
    let mut repeats = ZSTD_MAGIC.to_vec();
    repeats.extend([0, 17 << 3]);
    repeats.extend((1..=1024).flat_map(|n| zstd_repeat(128 * 1024, n == 1024)));
    let (_, peak) = measured(|| assert_eq!(defuse(Codec::Zstd, &repeats, MIB), OVER_A_MIB));
    assert!(peak < 4 * KIB, "{peak}");

    // A content size of 2^60 over one small block, in a frame of a single segment.
    let mut size = ZSTD_MAGIC.to_vec();
    size.push(0b1110_0000);
    size.extend((1u64 << 60).to_le_bytes());
    size.extend(zstd_repeat(1000, true));
    assert!(is_corrupt(&defuse(Codec::Zstd, &size, MIB)));
}

/// Frame header with content size, block size code (4 to 7) and a right header checksum.
fn lz4_header(content_bytes: u64, block_code: u8) -> Vec<u8> {
    let mut header = 0x184D_2204u32.to_le_bytes().to_vec();
    header.extend([0b0110_1000, block_code << 4]);
    header.extend(content_bytes.to_le_bytes());
    let checksum = twox_hash::XxHash32::oneshot(0, &header[4..]);
    header.push((checksum >> 8) as u8);
    header
}

#[test]
fn lz4_sizes_are_not_believed() {
    let stored = |bytes: &[u8]| {
        let mut block = (bytes.len() as u32 | 1 << 31).to_le_bytes().to_vec();
        block.extend(bytes);
        block
    };
    // An honest frame of this make first, then the lies.
    let honest = [&lz4_header(3, 7)[..], &stored(b"abc"), &[0; 4]].concat();
    let (plain, peak) = measured(|| decompress(Codec::Lz4, &honest, &mut Budget::new(64 * MIB)));
    assert_eq!(plain.as_deref(), Ok(&b"abc"[..]));
    assert!(
        peak < KIB,
        "a frame with blocks of 4 MiB reserved {peak} bytes"
    );
    let huge = [&lz4_header(1 << 62, 7)[..], &stored(b"abc"), &[0; 4]].concat();
    assert!(is_corrupt(&defuse(Codec::Lz4, &huge, MIB)));
    let cut = [&lz4_header(3, 4)[..], &stored(b"abc")].concat();
    assert!(is_corrupt(&defuse(Codec::Lz4, &cut, MIB)), "no end mark");
    let long = [&lz4_header(3, 4)[..], &(60_000u32).to_le_bytes(), b"abc"].concat();
    assert!(
        is_corrupt(&defuse(Codec::Lz4, &long, MIB)),
        "the block is not there"
    );
    let too_large = [
        &lz4_header(70_000, 4)[..],
        &stored(&vec![0; 70_000]),
        &[0; 4],
    ]
    .concat();
    assert!(
        is_corrupt(&defuse(Codec::Lz4, &too_large, MIB)),
        "larger than the frame's blocks"
    );
}

#[test]
fn lz4_blocks_that_refer_to_each_other_are_read_and_checksums_hold() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let plain: Vec<u8> = (0..300_000u32).map(|i| (i / 7 % 251) as u8).collect();
    for of_blocks in [true, false] {
        let info = FrameInfo::new()
            .block_mode(BlockMode::Linked)
            .block_size(BlockSize::Max64KB)
            .block_checksums(of_blocks)
            .content_checksum(!of_blocks);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        std::io::Write::write_all(&mut encoder, &plain).expect("memory");
        let frame = encoder.finish().expect("memory");
        assert_eq!(
            decompress(Codec::Lz4, &frame, &mut Budget::new(MIB)).as_ref(),
            Ok(&plain)
        );
        // The last four bytes are the content's checksum, or the end mark behind the last block's.
        let checksum_at = frame.len() - if of_blocks { 5 } else { 1 };
        for at in [6, checksum_at] {
            let mut damaged = frame.clone();
            damaged[at] ^= 1;
            let error = defuse(Codec::Lz4, &damaged, MIB);
            assert!(error.to_string().contains("checksum"), "byte {at}: {error}");
        }
    }
}

#[test]
fn snappy_lengths_are_not_believed() {
    // Bare blocks that claim 4 GiB and 1 MiB out of a few bytes.
    assert!(is_corrupt(&defuse(
        Codec::Snappy,
        &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, b'a'],
        MIB
    )));
    assert!(is_corrupt(&defuse(
        Codec::Snappy,
        &[0x80, 0x80, 0x40, 0, b'a'],
        MIB
    )));
    // Framed: a block longer than what is there, a negative length, a lie inside a block.
    let framed = |length: u32, block: &[u8]| {
        let header = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
        [&header[..], &length.to_be_bytes(), block].concat()
    };
    assert!(is_corrupt(&defuse(
        Codec::Snappy,
        &framed(1 << 30, b"abc"),
        MIB
    )));
    assert!(is_corrupt(&defuse(
        Codec::Snappy,
        &framed(u32::MAX, b"abc"),
        MIB
    )));
    let lie = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, b'a'];
    assert!(is_corrupt(&defuse(
        Codec::Snappy,
        &framed(lie.len() as u32, &lie),
        MIB
    )));
    // Bare and framed forms of the same bytes are both read, and streams may follow each other.
    let block = snap::raw::Encoder::new()
        .compress_vec(b"hello hello hello")
        .expect("small");
    let twice = framed(block.len() as u32, &block).repeat(2);
    let read = |bytes: &[u8]| decompress(Codec::Snappy, bytes, &mut Budget::new(MIB));
    assert_eq!(read(&block).as_deref(), Ok(&b"hello hello hello"[..]));
    assert_eq!(
        read(&twice).as_deref(),
        Ok(&b"hello hello hellohello hello hello"[..])
    );
}

#[test]
fn a_stream_that_breaks_off_is_never_taken_for_a_whole_one() {
    let plain: Vec<u8> = (0..3000u32).map(|i| (i * i / 11) as u8).collect();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let whole = compressed(codec, &plain);
        for end in 0..whole.len() {
            let cut = decompress(codec, &whole[..end], &mut Budget::new(MIB));
            // A framed snappy stream states neither its blocks nor its size, so one without any
            // block is whole.
            let only_header = codec == Codec::Snappy && end == 16;
            assert_eq!(cut.is_ok(), only_header, "{} of {end} bytes", codec.name());
        }
        assert_eq!(
            decompress(codec, &whole, &mut Budget::new(MIB)).as_ref(),
            Ok(&plain)
        );
    }
}

/// Honest batches of all shapes: codecs, one to thirty records, nulls, headers, producers. Half
/// are not compressed: in these a mutation reaches the records.
fn corpus() -> Vec<Batch> {
    let mut numbers = Numbers(1);
    let mut corpus = Vec::new();
    for round in 0..6 {
        for codec in [Codec::None, Codec::None, Codec::None]
            .into_iter()
            .chain(Codec::ALL)
        {
            let mut builder = BatchBuilder::new().compression(Compression::of(codec));
            if round % 2 == 1 {
                builder = builder.producer(round, 1, 5).transactional(round % 4 == 1);
            }
            for _ in 0..1 + numbers.below(1 + round as usize * 5) {
                let text = [b'v'; 40];
                let value = &text[..numbers.below(40)];
                let headers: [HeaderRef; 2] = [(b"name", Some(value)), (b"name", None)];
                let headers = &headers[..numbers.below(3)];
                let key = [None, Some(&b"key"[..])][numbers.below(2)];
                let timestamp = NOW_MS + numbers.below(1000) as i64 - 500;
                builder.push(timestamp, key, Some(value), headers);
            }
            corpus.push(builder.build());
        }
    }
    corpus
}

const NASTY: [i64; 12] = [
    0,
    1,
    -1,
    2,
    127,
    128,
    255,
    0x7fff,
    i32::MAX as i64,
    i32::MIN as i64,
    i64::MAX,
    i64::MIN,
];

fn mutate(numbers: &mut Numbers, bytes: &mut Vec<u8>) {
    for _ in 0..1 + numbers.below(3) {
        if bytes.is_empty() {
            return;
        }
        let at = numbers.below(bytes.len());
        match numbers.below(7) {
            0 => bytes[at] ^= 1 << numbers.below(8),
            1 => bytes[at] = numbers.next() as u8,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, numbers.next() as u8),
            4 => drop(bytes.remove(at)),
            5 => {
                let width = [1, 2, 4, 8][numbers.below(4)];
                let nasty = NASTY[numbers.below(NASTY.len())].to_be_bytes();
                let end = bytes.len().min(at + width);
                bytes[at..end].copy_from_slice(&nasty[8 - (end - at)..]);
            }
            _ => {
                let end = bytes.len().min(at + numbers.below(64));
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

/// Makes length and CRC right again, so that the checks behind them are reached.
fn mend(bytes: &mut [u8]) {
    if bytes.len() >= HEADER_BYTES {
        let length = (bytes.len() - LOG_OVERHEAD_BYTES) as i32;
        bytes[at::BATCH_LENGTH..at::PARTITION_LEADER_EPOCH].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[at::ATTRIBUTES..]);
        bytes[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    }
}

fn rules(numbers: &mut Numbers) -> Rules {
    Rules {
        max_message_bytes: [400, 100_000, 100_000][numbers.below(3)],
        timestamp_type: [TimestampType::CreateTime, TimestampType::LogAppendTime][numbers.below(2)],
        timestamp_before_max_ms: [i64::MAX, 1000][numbers.below(2)],
        timestamp_after_max_ms: 1000,
        require_key: numbers.below(2) == 0,
        compression: Codec::from_id(numbers.below(24) as u8).map(Compression::of),
    }
}

/// What the broker does to batches that it did not check before: reads them, looks for times.
fn exercise_readers(bytes: &Bytes, budget_bytes: usize, way: usize) {
    let mut budget = Budget::new(budget_bytes);
    for batch in split(bytes.clone()).flatten() {
        match way {
            0 => drop(find_by_timestamp(&batch, NOW_MS, &mut budget)),
            1 => drop(max_timestamp_offset(&batch, &mut budget)),
            _ => {
                let records = records(&batch, &mut budget).into_iter().flatten();
                let _ = records
                    .map(|record| record.map(|record| record.headers.len()))
                    .last();
            }
        }
    }
}

/// What the broker does at produce; says how it ended.
fn exercise_produce(bytes: &Bytes, rules: &Rules, budget_bytes: usize) -> &'static str {
    let checked = produced_batch(bytes, 13)
        .and_then(|batch| validate(&batch, rules, NOW_MS, &mut Budget::new(budget_bytes)));
    match checked {
        Ok(validated) => {
            assert_sound(&validated);
            if validated.rewritten {
                "rewritten"
            } else {
                "accepted"
            }
        }
        Err(error) => {
            assert!(error.to_string().len() < 200, "{error}");
            error.code().name()
        }
    }
}

/// What the log may rely on after `validate`.
fn assert_sound(validated: &Validated) {
    let view = validated.batch.view();
    assert_eq!(view.check_crc(), Ok(()));
    assert_eq!(view.record_count(), validated.record_count);
    assert_eq!(view.last_offset_delta(), validated.record_count - 1);
    assert_eq!(view.max_timestamp(), validated.max_timestamp);
    let mut budget = Budget::new(validated.plain_bytes * 2 + KIB);
    let records = records(&validated.batch, &mut budget).expect("a checked batch decompresses");
    let mut next_offset = 0;
    for record in records {
        let record = record.expect("a checked batch has its framing right");
        assert_eq!(record.offset, next_offset);
        assert!(record.timestamp <= validated.max_timestamp.max(NO_TIMESTAMP));
        next_offset += 1;
    }
    assert_eq!(next_offset, i64::from(validated.record_count));
}

/// Runs `cases` mutations from `seed` and returns how often each end was reached.
fn fuzz_batches(seed: u64, cases: usize) -> BTreeMap<&'static str, usize> {
    let corpus = corpus();
    let mut numbers = Numbers(seed);
    let mut ends = BTreeMap::new();
    for case in 0..cases {
        let mut bytes = corpus[numbers.below(corpus.len())].bytes().to_vec();
        mutate(&mut numbers, &mut bytes);
        if numbers.below(8) != 0 {
            mend(&mut bytes);
        }
        let (rules, bytes) = (rules(&mut numbers), Bytes::from(bytes));
        let budget_bytes = [64, 64, 64, 1][numbers.below(4)] * KIB;
        let way = numbers.below(9);
        let (end, peak) = measured(|| {
            if way < 3 {
                exercise_readers(&bytes, budget_bytes, way);
            }
            exercise_produce(&bytes, &rules, budget_bytes)
        });
        // The plain body, once more while it grows, and a rewritten copy; a codec's own state.
        let allowed = 4 * (budget_bytes + bytes.len()) + 512 * KIB;
        assert!(
            peak <= allowed,
            "seed {seed} case {case}: {peak} bytes held"
        );
        *ends.entry(end).or_insert(0) += 1;
    }
    ends
}

/// A fuzzer that stops at the first check proves nothing about those behind it.
fn assert_all_reached(ends: &BTreeMap<&'static str, usize>) {
    let wanted = [
        "accepted",
        "rewritten",
        "CORRUPT_MESSAGE",
        "INVALID_RECORD",
        "INVALID_TIMESTAMP",
        "MESSAGE_TOO_LARGE",
        "UNSUPPORTED_COMPRESSION_TYPE",
    ];
    for end in wanted {
        let reached = ends.get(end).copied().unwrap_or(0);
        assert!(
            reached >= 100,
            "{end} was reached {reached} times of {ends:?}"
        );
    }
}

#[test]
fn mutated_batches_do_no_harm() {
    assert_all_reached(&fuzz_batches(0x636f_7265, 70_000));
}

#[test]
fn mutated_batches_of_another_seed_do_no_harm() {
    assert_all_reached(&fuzz_batches(0x7365_6564, 70_000));
}

#[test]
fn mutated_streams_do_no_harm() {
    const BUDGET_BYTES: usize = 16 * KIB;
    const CASES: usize = 80_000;
    let plain: Vec<u8> = (0..400u32).map(|i| (i / 9 * 7) as u8).collect();
    let codecs = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    let mut streams: Vec<(Codec, Vec<u8>)> = codecs
        .map(|codec| (codec, compressed(codec, &plain)))
        .to_vec();
    let bare = snap::raw::Encoder::new()
        .compress_vec(&plain)
        .expect("small");
    streams.push((Codec::Snappy, bare));
    let mut numbers = Numbers(0x6c61_6e65);
    let mut read = BTreeMap::new();
    for case in 0..CASES {
        let (codec, stream) = &streams[numbers.below(streams.len())];
        let mut stream = stream.clone();
        mutate(&mut numbers, &mut stream);
        let mut budget = Budget::new(BUDGET_BYTES);
        let (result, peak) = measured(|| decompress(*codec, &stream, &mut budget));
        let allowed = 2 * BUDGET_BYTES + DECODER_BYTES;
        assert!(
            peak <= allowed,
            "case {case}: {} held {peak} bytes",
            codec.name()
        );
        if let Ok(plain) = result {
            assert_eq!(budget.bytes_left() + plain.len(), BUDGET_BYTES);
            *read.entry(codec.name()).or_insert(0) += 1;
        }
    }
    // Some mutations are harmless (a time stamp of gzip, a flag of zstd): the inner loops ran.
    assert_eq!(read.len(), codecs.len(), "{read:?}");
}

#[test]
fn nothing_compresses_to_something_and_back() {
    for codec in Codec::ALL {
        let stream = compressed(codec, &[]);
        let plain = decompress(codec, &stream, &mut Budget::new(0));
        assert_eq!(plain, Ok(vec![]), "{}", codec.name());
        let nothing = decompress(codec, &[], &mut Budget::new(0));
        assert_eq!(nothing.is_ok(), codec == Codec::None, "{}", codec.name());
    }
}
