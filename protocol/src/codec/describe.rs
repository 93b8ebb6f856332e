//! The small language in which messages are described.
//!
//! ```text
//! describe! {
//!     /// What the struct is.
//!     pub struct Name {
//!         /// What the field means.
//!         field: Type [since(2).until(9).ignorable()] = default;
//!     } tagged {
//!         /// A field that is written only if it differs from its default (KIP-482).
//!         0 => field: Type [since(10)];
//!     }
//! }
//! ```
//!
//! Order is the order on the wire. `[...]` is a [`Field`](super::Field) and says in which versions
//! the field exists; without it the field is in all of them. `Option` means nullable, in all
//! versions that have the field unless `null_since` says otherwise. A default that is not written
//! is that of the type.
//!
//! Each struct becomes a plain Rust struct with public fields and three short functions of
//! [`Wire`](super::Wire); the work is done by the types of the fields.

/// Turns descriptions into structs. See the module's head for the language.
macro_rules! describe {
    ($(
        $(#[$about:meta])*
        pub struct $name:ident {
            $(
                $(#[$field_about:meta])*
                $field:ident : $type:ty $([$spec:expr])? $(= $default:expr)? ;
            )*
        }
        $(tagged {
            $(
                $(#[$tagged_about:meta])*
                $tag:literal => $tagged:ident : $tagged_type:ty
                    $([$tagged_spec:expr])? $(= $tagged_default:expr)? ;
            )*
        })?
    )*) => {$(
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( $(#[$field_about])* pub $field: $type, )*
            $($( $(#[$tagged_about])* pub $tagged: $tagged_type, )*)?
        }

        impl Default for $name {
            fn default() -> $name {
                $name {
                    $( $field: $crate::codec::describe!(@default $type $(, $default)?), )*
                    $($(
                        $tagged:
                            $crate::codec::describe!(@default $tagged_type $(, $tagged_default)?),
                    )*)?
                }
            }
        }

        impl $crate::codec::Wire for $name {
            fn min_bytes(form: $crate::codec::Form) -> usize {
                let mut sum = usize::from(form.flexible);
                $(
                    if let Some(form) = $crate::codec::describe!(@spec $($spec)?).form(form) {
                        sum += <$type as $crate::codec::Wire>::min_bytes(form);
                    }
                )*
                sum
            }

            fn read(
                input: &mut $crate::codec::Decoder,
                form: $crate::codec::Form,
            ) -> Result<$name, $crate::codec::DecodeError> {
                #[allow(unused_mut)] // a struct may have no fields
                let mut value = $name::default();
                $(
                    if let Some(form) = $crate::codec::describe!(@spec $($spec)?).form(form) {
                        value.$field = $crate::codec::Wire::read(input, form)?;
                    }
                )*
                if form.flexible {
                    #[allow(unused_variables)]
                    input.tagged_fields(|tag, input| {
                        $($(
                            let spec = $crate::codec::describe!(@spec $($tagged_spec)?);
                            if let (true, Some(form)) = (tag == $tag, spec.form(form)) {
                                value.$tagged = $crate::codec::Wire::read(input, form)?;
                                return Ok(true);
                            }
                        )*)?
                        Ok(false)
                    })?;
                }
                Ok(value)
            }

            fn write(
                &self,
                out: &mut $crate::codec::Encoder,
                form: $crate::codec::Form,
            ) -> Result<(), $crate::codec::EncodeError> {
                $(
                    let spec = $crate::codec::describe!(@spec $($spec)?);
                    if let Some(form) = spec.form(form) {
                        $crate::codec::Wire::write(&self.$field, out, form)?;
                    } else if spec.is_checked_when_absent()
                        && self.$field != $crate::codec::describe!(@default $type $(, $default)?)
                    {
                        return Err($crate::codec::EncodeError::FieldAbsent {
                            message: stringify!($name),
                            field: stringify!($field),
                            version: form.version,
                        });
                    }
                )*
                #[allow(unused_mut)] // most structs have no tagged fields
                let mut tagged_fields = 0;
                $($(
                    let spec = $crate::codec::describe!(@spec $($tagged_spec)?);
                    let default =
                        $crate::codec::describe!(@default $tagged_type $(, $tagged_default)?);
                    let differs = self.$tagged != default;
                    let $tagged = match spec.form(form) {
                        Some(form) if form.flexible && differs => Some(form),
                        Some(_) => None,
                        None if differs && spec.is_checked_when_absent() => {
                            return Err($crate::codec::EncodeError::FieldAbsent {
                                message: stringify!($name),
                                field: stringify!($tagged),
                                version: form.version,
                            });
                        }
                        None => None,
                    };
                    tagged_fields += u32::from($tagged.is_some());
                )*)?
                if form.flexible {
                    out.put_uvarint(tagged_fields);
                }
                $($(
                    if let Some(form) = $tagged {
                        out.put_tagged($tag, |out| {
                            $crate::codec::Wire::write(&self.$tagged, out, form)
                        })?;
                    }
                )*)?
                Ok(())
            }

            #[cfg(any(test, feature = "arbitrary"))]
            fn arbitrary(
                random: &mut $crate::codec::Random,
                form: $crate::codec::Form,
            ) -> $name {
                #[allow(unused_mut)]
                let mut value = $name::default();
                $(
                    if let Some(form) = $crate::codec::describe!(@spec $($spec)?).form(form) {
                        value.$field = $crate::codec::Wire::arbitrary(random, form);
                    }
                )*
                $($(
                    let spec = $crate::codec::describe!(@spec $($tagged_spec)?);
                    if let (Some(form), true) = (spec.form(form), form.flexible) {
                        if random.below(2) == 0 {
                            value.$tagged = $crate::codec::Wire::arbitrary(random, form);
                        }
                    }
                )*)?
                value
            }
        }
    )*};

    (@spec) => { $crate::codec::ALWAYS };
    (@spec $spec:expr) => { $spec };
    (@default $type:ty) => { <$type as Default>::default() };
    (@default $type:ty, $default:expr) => { $default };
}

pub(crate) use describe;
