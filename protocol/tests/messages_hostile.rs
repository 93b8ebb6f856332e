//! Bytes from strangers: damaged messages of every kind and version, and lies about lengths.
//!
//! For each case: decoding does not panic; what it allocates stays within the budget, measured by
//! the allocator of this test; and what it accepts can be written and comes back the same.
//!
//! `FUZZ_SEED=n` repeats another run, `FUZZ_CASES=n` makes it longer.

use bytes::Bytes;
use protocol::api::{ApiKey, Message};
use protocol::codec::{BUDGET_BYTES_PER_INPUT_BYTE, BUDGET_FLOOR_BYTES, Decoder, Encoder};
use protocol::codec::{Form, Random};
use protocol::frame;
use protocol::messages::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The system's allocator, which also counts what each thread asks for.
struct Counting;

thread_local! {
    static ASKED_BYTES: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    // The cell is gone while a thread ends; nothing is measured then.
    let _ = ASKED_BYTES.try_with(|asked| asked.set(asked.get() + bytes));
}

// SAFETY: all the work is done by `System`.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn asked_bytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ASKED_BYTES.get();
    let result = work();
    (result, ASKED_BYTES.get() - before)
}

/// Beyond the arrays, decoding allocates only the reference count that all slices of the input
/// share.
const SHARED_COUNT_BYTES: usize = 64;

/// A message's type, hidden behind what the tests do with it.
#[derive(Clone, Copy)]
struct Kind {
    key: ApiKey,
    make: fn(&mut Random, i16) -> Vec<u8>,
    check: fn(&[u8], i16, usize) -> bool,
}

fn form(key: ApiKey, version: i16) -> Form {
    Form::new(version, key.api().is_flexible(version))
}

fn encoded<M: Message>(value: &M, version: i16) -> Vec<u8> {
    let mut out = Encoder::new();
    value
        .encode(&mut out, version)
        .expect("a value that was made, or read, in this version");
    out.into_bytes().to_vec()
}

fn make<M: Message>(random: &mut Random, version: i16) -> Vec<u8> {
    encoded(&M::arbitrary(random, form(M::KEY, version)), version)
}

/// Decodes under a budget, and says whether the bytes were accepted.
fn check<M: Message>(bytes: &[u8], version: i16, budget_bytes: usize) -> bool {
    let input = Bytes::copy_from_slice(bytes);
    let decode = || M::decode(&mut Decoder::with_budget(input, budget_bytes), version);
    let (result, asked) = asked_bytes(decode);
    let limit = budget_bytes + SHARED_COUNT_BYTES;
    assert!(
        asked <= limit,
        "{asked} bytes were allocated, {limit} are allowed"
    );
    let Ok(value) = result else { return false };
    let again = encoded(&value, version);
    let mut input = Decoder::with_budget(again.into(), usize::MAX);
    assert_eq!(
        M::decode(&mut input, version),
        Ok(value),
        "what was accepted comes back"
    );
    input.finish().expect("nothing is left");
    true
}

macro_rules! kinds {
    ($(
        $name:ident = $key:literal, $min:literal ..= $max:literal, flexible $flexible:tt,
            $request:ident, $response:ident;
    )*) => {
        const KINDS: &[Kind] = &[$(
            Kind { key: ApiKey::$name, make: make::<$request>, check: check::<$request> },
            Kind { key: ApiKey::$name, make: make::<$response>, check: check::<$response> },
        )*];
    };
}

protocol::every_api!(kinds);

/// Damages a message in one of the ways in which strangers do.
fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        bytes.push(random.bits() as u8);
    }
    let at = random.below(bytes.len());
    match random.below(7) {
        0 => bytes.truncate(at),
        1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff][random.below(7)],
        3 => overwrite(bytes, at, &length_lie(random)),
        4 => {
            bytes.insert(at, random.bits() as u8);
        }
        5 => {
            bytes.remove(at);
        }
        _ => {
            let end = at + random.below(bytes.len() - at + 1);
            let piece = bytes[at..end].to_vec();
            let to = random.below(bytes.len());
            bytes.splice(to..to, piece);
        }
    }
}

/// A length in one of the forms of the wire, too large in one way or another.
fn length_lie(random: &mut Random) -> Vec<u8> {
    let length = match random.below(4) {
        0 => i32::MAX,
        1 => i32::MIN,
        2 => -1 - random.below(3) as i32,
        _ => random.below(100_000) as i32,
    };
    match random.below(3) {
        0 => length.to_be_bytes().to_vec(),
        1 => (length as i16).to_be_bytes().to_vec(),
        _ => {
            let mut out = Encoder::new();
            out.put_uvarint(length as u32);
            out.into_bytes().to_vec()
        }
    }
}

fn overwrite(bytes: &mut Vec<u8>, at: usize, with: &[u8]) {
    let end = bytes.len().min(at + with.len());
    bytes.splice(at..end, with.iter().copied());
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

#[test]
fn damaged_messages_are_refused_or_understood() {
    let seed = from_environment("FUZZ_SEED", 1);
    let cases = from_environment("FUZZ_CASES", 200_000);
    let mut accepted = 0u64;
    for case in seed << 32..(seed << 32) + cases {
        let mut random = Random::new(case);
        let kind = KINDS[random.below(KINDS.len())];
        let versions = kind.key.api().versions;
        let version =
            versions.min + random.below((versions.max - versions.min + 1) as usize) as i16;
        let mut bytes = (kind.make)(&mut random, version);
        for _ in 0..1 + random.below(3) {
            damage(&mut random, &mut bytes);
        }
        let floor = if random.below(2) == 0 {
            0
        } else {
            BUDGET_FLOOR_BYTES
        };
        let budget = bytes.len() * BUDGET_BYTES_PER_INPUT_BYTE + floor;
        let outcome = catch_unwind(AssertUnwindSafe(|| (kind.check)(&bytes, version, budget)));
        let key = kind.key;
        accepted += u64::from(
            outcome.unwrap_or_else(|_| panic!("case {case:#x}: {key} {version} of {bytes:x?}")),
        );
    }
    // A fuzzer whose cases are all refused at the first byte, or never, would show nothing.
    assert!(
        (cases / 20..cases * 19 / 20).contains(&accepted),
        "{accepted} of {cases} accepted"
    );
}

#[test]
fn undamaged_messages_fit_their_budget() {
    for kind in KINDS {
        for version in kind.key.api().versions.iter() {
            for seed in 0..20 {
                let bytes = (kind.make)(&mut Random::new(seed), version);
                let budget = bytes.len() * BUDGET_BYTES_PER_INPUT_BYTE + BUDGET_FLOOR_BYTES;
                assert!(
                    (kind.check)(&bytes, version, budget),
                    "{} {version}",
                    kind.key
                );
            }
        }
    }
}

/// A large frame that repeats one byte is, depending on the byte and the message, an array of very
/// many tiny elements, arrays in arrays, or tagged fields without end.
#[test]
fn monotonous_frames_do_not_blow_up() {
    const BYTES: usize = 64 * 1024;
    for kind in KINDS {
        for version in kind.key.api().versions.iter() {
            for byte in [0, 1, 2, 3, 0x7f, 0xff] {
                let mut bytes = vec![byte; BYTES];
                // Let the first lengths be plausible for the size of the frame.
                bytes[..4].copy_from_slice(&(BYTES as i32 / 16).to_be_bytes());
                let budget = BYTES * BUDGET_BYTES_PER_INPUT_BYTE + BUDGET_FLOOR_BYTES;
                (kind.check)(&bytes, version, budget);
                bytes[..4].copy_from_slice(&[0x80, 0x80, 1, byte]);
                (kind.check)(&bytes, version, budget);
            }
        }
    }
}

/// The largest count that a few bytes can claim. A decoder that believed it would allocate 4 GB;
/// not even a budget without limit makes this one do so.
#[test]
fn a_count_without_elements_allocates_nothing() {
    let decode = |bytes: &'static [u8], version: i16| {
        let mut input = Decoder::with_budget(Bytes::from_static(bytes), usize::MAX);
        asked_bytes(|| MetadataRequest::decode(&mut input, version))
    };
    for version in 0..=13 {
        let (result, asked) = match version {
            0..9 => decode(&[0x7f, 0xff, 0xff, 0xff, 0], version),
            _ => decode(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0], version),
        };
        assert!(result.is_err());
        assert_eq!(asked, 0, "version {version}");
    }
}

/// Tiny elements that are all there still may not take much more memory than they have bytes.
#[test]
fn many_tiny_elements_are_over_budget() {
    const COUNT: usize = 1_000_000;
    let mut out = Encoder::new();
    out.put_i8(0);
    out.put_array_count(Some(COUNT), true).unwrap();
    out.put_raw(&vec![1; COUNT].into());
    out.put_uvarint(0);
    let input = out.into_bytes();
    // A million empty strings: 32 MB in memory.
    let decode = |decoder: &mut Decoder| FindCoordinatorRequest::decode(decoder, 4);
    let (result, asked) = asked_bytes(|| decode(&mut Decoder::new(input.clone())));
    assert!(result.is_err());
    assert!(asked <= SHARED_COUNT_BYTES, "{asked} bytes");
    let whole = decode(&mut Decoder::with_budget(input, 40 * COUNT)).unwrap();
    assert_eq!(whole.coordinator_keys.len(), COUNT);
}

#[test]
fn damaged_headers_and_frames_do_not_panic() {
    for case in 0..20_000 {
        let mut random = Random::new(case);
        let kind = KINDS[random.below(KINDS.len())];
        let header = RequestHeader {
            key: kind.key,
            version: kind.key.api().versions.max,
            correlation_id: random.bits() as i32,
            client_id: Some(random.text().into()),
        };
        let mut out = Encoder::new();
        header.encode(&mut out).unwrap();
        let mut bytes = out.into_bytes().to_vec();
        damage(&mut random, &mut bytes);
        let length = bytes.len();
        let mut input = Decoder::new(bytes.clone().into());
        if let Ok(header) = RequestHeader::decode(&mut input) {
            let _ = protocol::api::Request::decode(&header, &mut input);
        }
        let mut input = Decoder::new(bytes.clone().into());
        let _ = ResponseHeader::decode(&mut input, kind.key, header.version);
        let mut buffer = bytes::BytesMut::from(&bytes[..]);
        if let Ok(Some(frame)) = frame::cut(&mut buffer, length) {
            assert_eq!(frame.len() + buffer.len() + frame::PREFIX_BYTES, length);
        }
    }
}
