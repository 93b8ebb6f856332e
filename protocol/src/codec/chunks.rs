//! A byte field in several pieces.

#[cfg(any(test, feature = "arbitrary"))]
use super::arbitrary::Random;
use super::decoder::{DecodeError, Decoder};
use super::encoder::{EncodeError, Encoder};
use super::field::Form;
use super::wire::{Nullable, Wire};
use bytes::{Bytes, BytesMut};

/// Bytes that lie in several places and are one field on the wire, such as the batches of a fetch:
/// each piece goes out by reference. Decoded, it is one piece.
#[derive(Clone, Debug, Default)]
pub struct Chunks(Vec<Bytes>);

impl Chunks {
    /// The list of one piece is memory too, and a message may have many tiny byte fields.
    fn decoded(bytes: Bytes, input: &mut Decoder) -> Result<Chunks, DecodeError> {
        input.spend(size_of::<Bytes>())?;
        Ok(Chunks::from(bytes))
    }

    /// Bytes in all pieces together.
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    /// The pieces in their order.
    pub fn pieces(&self) -> &[Bytes] {
        &self.0
    }

    /// All of it in one piece; copies if there are several.
    pub fn joined(&self) -> Bytes {
        match self.0.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            several => {
                let mut joined = BytesMut::with_capacity(self.len());
                several
                    .iter()
                    .for_each(|piece| joined.extend_from_slice(piece));
                joined.freeze()
            }
        }
    }
}

impl From<Vec<Bytes>> for Chunks {
    fn from(pieces: Vec<Bytes>) -> Chunks {
        Chunks(pieces)
    }
}

impl From<Bytes> for Chunks {
    fn from(piece: Bytes) -> Chunks {
        Chunks(vec![piece])
    }
}

/// Equal if the bytes are, wherever they are cut.
impl PartialEq for Chunks {
    fn eq(&self, other: &Chunks) -> bool {
        let (mine, others) = (self.0.iter().flatten(), other.0.iter().flatten());
        self.len() == other.len() && mine.eq(others)
    }
}

impl Wire for Chunks {
    fn min_bytes(form: Form) -> usize {
        Bytes::min_bytes(form)
    }

    fn read(input: &mut Decoder, form: Form) -> Result<Chunks, DecodeError> {
        let bytes = Bytes::read(input, form)?;
        Chunks::decoded(bytes, input)
    }

    fn write(&self, out: &mut Encoder, form: Form) -> Result<(), EncodeError> {
        Chunks::write_nullable(Some(self), out, form)
    }

    #[cfg(any(test, feature = "arbitrary"))]
    fn arbitrary(random: &mut Random, _: Form) -> Chunks {
        Chunks((0..random.below(4)).map(|_| random.bytes()).collect())
    }
}

impl Nullable for Chunks {
    fn read_nullable(input: &mut Decoder, form: Form) -> Result<Option<Chunks>, DecodeError> {
        let bytes = Bytes::read_nullable(input, form)?;
        bytes.map(|bytes| Chunks::decoded(bytes, input)).transpose()
    }

    fn write_nullable(
        value: Option<&Chunks>,
        out: &mut Encoder,
        form: Form,
    ) -> Result<(), EncodeError> {
        out.put_array_count(value.map(Chunks::len), form.flexible)?;
        value
            .into_iter()
            .flat_map(|chunks| &chunks.0)
            .for_each(|piece| out.put_raw(piece));
        Ok(())
    }

    fn min_bytes_nullable(form: Form) -> usize {
        Bytes::min_bytes(form)
    }
}
