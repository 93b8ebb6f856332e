//! What a type implements to be part of a message, and that for Kafka's primitive types.

#[cfg(any(test, feature = "arbitrary"))]
use super::arbitrary::Random;
use super::decoder::{DecodeError, DecodeProblem, Decoder};
use super::encoder::{EncodeError, Encoder};
use super::field::Form;
use super::string::Str;
use crate::error::ErrorCode;
use bytes::Bytes;
use uuid::Uuid;

/// A value that can be read from and written to a message.
pub trait Wire: Sized {
    /// The fewest bytes that a value can take. Array counts are checked against it.
    fn min_bytes(form: Form) -> usize;

    fn read(input: &mut Decoder, form: Form) -> Result<Self, DecodeError>;

    fn write(&self, out: &mut Encoder, form: Form) -> Result<(), EncodeError>;

    /// A random value that survives a round trip in this form.
    #[cfg(any(test, feature = "arbitrary"))]
    fn arbitrary(random: &mut Random, form: Form) -> Self;
}

/// A value that has a null of its own. The provided methods are those of a struct, which carries a
/// byte before it: negative for null.
pub trait Nullable: Wire {
    fn read_nullable(input: &mut Decoder, form: Form) -> Result<Option<Self>, DecodeError> {
        match input.i8()? {
            ..0 => Ok(None),
            _ => Self::read(input, form).map(Some),
        }
    }

    fn write_nullable(
        value: Option<&Self>,
        out: &mut Encoder,
        form: Form,
    ) -> Result<(), EncodeError> {
        match value {
            None => out.put_i8(-1),
            Some(value) => {
                out.put_i8(1);
                value.write(out, form)?;
            }
        }
        Ok(())
    }

    /// The fewest bytes that a value or a null can take.
    fn min_bytes_nullable(_: Form) -> usize {
        1
    }
}

impl<T: Nullable> Wire for Option<T> {
    fn min_bytes(form: Form) -> usize {
        T::min_bytes_nullable(form)
    }

    fn read(input: &mut Decoder, form: Form) -> Result<Option<T>, DecodeError> {
        let value = T::read_nullable(input, form)?;
        match value {
            None if !form.nullable => Err(input.error(DecodeProblem::Null)),
            value => Ok(value),
        }
    }

    fn write(&self, out: &mut Encoder, form: Form) -> Result<(), EncodeError> {
        if self.is_none() && !form.nullable {
            return Err(EncodeError::Null {
                version: form.version,
            });
        }
        T::write_nullable(self.as_ref(), out, form)
    }

    #[cfg(any(test, feature = "arbitrary"))]
    fn arbitrary(random: &mut Random, form: Form) -> Option<T> {
        let null = form.nullable && random.below(4) == 0;
        (!null).then(|| T::arbitrary(random, form))
    }
}

macro_rules! fixed_size {
    ($($type:ty, $bytes:literal, $read:ident, $put:ident, $arbitrary:expr;)*) => {$(
        impl Wire for $type {
            fn min_bytes(_: Form) -> usize {
                $bytes
            }

            fn read(input: &mut Decoder, _: Form) -> Result<$type, DecodeError> {
                input.$read()
            }

            fn write(&self, out: &mut Encoder, _: Form) -> Result<(), EncodeError> {
                out.$put(*self);
                Ok(())
            }

            #[cfg(any(test, feature = "arbitrary"))]
            fn arbitrary(random: &mut Random, _: Form) -> $type {
                let make: fn(&mut Random) -> $type = $arbitrary;
                make(random)
            }
        }
    )*};
}

fixed_size! {
    bool, 1, bool, put_bool, |random| random.below(2) == 1;
    i8, 1, i8, put_i8, |random| random.integer() as i8;
    i16, 2, i16, put_i16, |random| random.integer() as i16;
    u16, 2, u16, put_u16, |random| random.integer() as u16;
    i32, 4, i32, put_i32, |random| random.integer() as i32;
    i64, 8, i64, put_i64, |random| random.integer();
    Uuid, 16, uuid, put_uuid, |random| {
        Uuid::from_u64_pair(random.integer() as u64, random.integer() as u64)
    };
}

impl Wire for ErrorCode {
    fn min_bytes(form: Form) -> usize {
        i16::min_bytes(form)
    }

    fn read(input: &mut Decoder, form: Form) -> Result<ErrorCode, DecodeError> {
        i16::read(input, form).map(ErrorCode)
    }

    fn write(&self, out: &mut Encoder, form: Form) -> Result<(), EncodeError> {
        self.0.write(out, form)
    }

    #[cfg(any(test, feature = "arbitrary"))]
    fn arbitrary(random: &mut Random, form: Form) -> ErrorCode {
        ErrorCode(i16::arbitrary(random, form))
    }
}

impl Wire for Str {
    fn min_bytes(form: Form) -> usize {
        if form.flexible { 1 } else { 2 }
    }

    fn read(input: &mut Decoder, form: Form) -> Result<Str, DecodeError> {
        let value = input.string(form.flexible)?;
        value.ok_or_else(|| input.error(DecodeProblem::Null))
    }

    fn write(&self, out: &mut Encoder, form: Form) -> Result<(), EncodeError> {
        out.put_string(Some(self), form.flexible)
    }

    #[cfg(any(test, feature = "arbitrary"))]
    fn arbitrary(random: &mut Random, _: Form) -> Str {
        Str::from(random.text())
    }
}

impl Nullable for Str {
    fn read_nullable(input: &mut Decoder, form: Form) -> Result<Option<Str>, DecodeError> {
        input.string(form.flexible)
    }

    fn write_nullable(
        value: Option<&Str>,
        out: &mut Encoder,
        form: Form,
    ) -> Result<(), EncodeError> {
        out.put_string(value.map(Str::as_str), form.flexible)
    }

    fn min_bytes_nullable(form: Form) -> usize {
        Str::min_bytes(form)
    }
}

/// Byte fields, and records: both are written alike.
impl Wire for Bytes {
    fn min_bytes(form: Form) -> usize {
        if form.flexible { 1 } else { 4 }
    }

    fn read(input: &mut Decoder, form: Form) -> Result<Bytes, DecodeError> {
        let value = input.bytes(form.flexible)?;
        value.ok_or_else(|| input.error(DecodeProblem::Null))
    }

    fn write(&self, out: &mut Encoder, form: Form) -> Result<(), EncodeError> {
        out.put_bytes(Some(self), form.flexible)
    }

    #[cfg(any(test, feature = "arbitrary"))]
    fn arbitrary(random: &mut Random, _: Form) -> Bytes {
        random.bytes()
    }
}

impl Nullable for Bytes {
    fn read_nullable(input: &mut Decoder, form: Form) -> Result<Option<Bytes>, DecodeError> {
        input.bytes(form.flexible)
    }

    fn write_nullable(
        value: Option<&Bytes>,
        out: &mut Encoder,
        form: Form,
    ) -> Result<(), EncodeError> {
        out.put_bytes(value, form.flexible)
    }

    fn min_bytes_nullable(form: Form) -> usize {
        Bytes::min_bytes(form)
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn min_bytes(form: Form) -> usize {
        if form.flexible { 1 } else { 4 }
    }

    fn read(input: &mut Decoder, form: Form) -> Result<Vec<T>, DecodeError> {
        let value = Self::read_nullable(input, form)?;
        value.ok_or_else(|| input.error(DecodeProblem::Null))
    }

    fn write(&self, out: &mut Encoder, form: Form) -> Result<(), EncodeError> {
        Self::write_nullable(Some(self), out, form)
    }

    #[cfg(any(test, feature = "arbitrary"))]
    fn arbitrary(random: &mut Random, form: Form) -> Vec<T> {
        let form = form.of_elements();
        (0..random.below(4))
            .map(|_| T::arbitrary(random, form))
            .collect()
    }
}

impl<T: Wire> Nullable for Vec<T> {
    fn read_nullable(input: &mut Decoder, form: Form) -> Result<Option<Vec<T>>, DecodeError> {
        let form = form.of_elements();
        let count = input.array_count(form.flexible, T::min_bytes(form), size_of::<T>())?;
        let Some(count) = count else { return Ok(None) };
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(T::read(input, form)?);
        }
        Ok(Some(elements))
    }

    fn write_nullable(
        value: Option<&Vec<T>>,
        out: &mut Encoder,
        form: Form,
    ) -> Result<(), EncodeError> {
        out.put_array_count(value.map(Vec::len), form.flexible)?;
        let form = form.of_elements();
        value
            .into_iter()
            .flatten()
            .try_for_each(|element| element.write(out, form))
    }

    fn min_bytes_nullable(form: Form) -> usize {
        Self::min_bytes(form)
    }
}
