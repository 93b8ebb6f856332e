//! Bytes to values and back, for everything that Kafka's messages are made of.
//!
//! - [`Decoder`] reads a frame that a stranger sent: it hands out slices of the frame, checks every
//!   length against the bytes that are there, and keeps what it allocates within a budget.
//! - [`Encoder`] gathers: small values are copied into one buffer, record data is only referenced.
//! - [`Wire`] is what a type implements to be part of a message; the macro in `describe` implements
//!   it for the structs of [`crate::messages`].
//!
//! This module knows types and versions, but no message and no api key. Deliberately absent:
//! recursion (no Kafka message is recursive) and the keeping of unknown tagged fields, which are
//! counted, skipped and forgotten, since a broker never forwards a message that it decoded.

mod chunks;
mod decoder;
mod describe;
mod encoder;
mod field;
mod string;
mod wire;

#[cfg(any(test, feature = "arbitrary"))]
mod arbitrary;

#[cfg(any(test, feature = "arbitrary"))]
pub use arbitrary::Random;
pub use chunks::Chunks;
pub(crate) use decoder::peek_i32;
pub use decoder::{
    BUDGET_BYTES_PER_INPUT_BYTE, BUDGET_FLOOR_BYTES, DecodeError, DecodeProblem, Decoder,
    MAX_STRING_BYTES, MAX_TAGGED_FIELDS,
};
pub(crate) use describe::describe;
pub use encoder::{EncodeError, Encoder, GATHER_MIN_BYTES};
pub(crate) use field::ALWAYS;
pub use field::{Field, Form, since, until};
pub use string::Str;
pub use wire::{Nullable, Wire};
