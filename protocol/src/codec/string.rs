//! A string that lives in the frame it came with.

use bytes::Bytes;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::str::Utf8Error;

/// An immutable UTF-8 string: a checked slice of shared bytes. A clone costs a reference count.
///
/// A decoded `Str` keeps its whole frame in memory for as long as it lives. Whoever stores one
/// beyond the request (a group, a topic's config) stores [`Str::detached`].
#[derive(Clone, Default)]
pub struct Str(Bytes);

impl Str {
    /// The empty string.
    pub const fn new() -> Str {
        Str(Bytes::new())
    }

    /// A string of the program text; costs nothing.
    pub const fn from_static(text: &'static str) -> Str {
        Str(Bytes::from_static(text.as_bytes()))
    }

    /// Takes the bytes if they are UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Result<Str, Utf8Error> {
        std::str::from_utf8(&bytes)?;
        Ok(Str(bytes))
    }

    /// A copy of `text` in memory of its own.
    pub fn copied(text: &str) -> Str {
        Str(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// The same text in memory of its own, so that it no longer holds a frame.
    pub fn detached(&self) -> Str {
        Str::copied(self)
    }

    pub fn as_str(&self) -> &str {
        // SAFETY: every constructor either takes a `str` or has checked the bytes, and nothing
        // changes them afterwards.
        unsafe { std::str::from_utf8_unchecked(&self.0) }
    }

    /// The text as shared bytes.
    pub fn as_shared_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl Deref for Str {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Str {
    fn as_ref(&self) -> &str {
        self
    }
}

/// Maps keyed by `Str` are looked up by `&str`; hence `Eq`, `Ord` and `Hash` are those of `str`.
impl Borrow<str> for Str {
    fn borrow(&self) -> &str {
        self
    }
}

impl From<&'static str> for Str {
    fn from(text: &'static str) -> Str {
        Str::from_static(text)
    }
}

impl From<String> for Str {
    fn from(text: String) -> Str {
        Str(Bytes::from(text.into_bytes()))
    }
}

impl From<&Str> for String {
    fn from(text: &Str) -> String {
        text.as_str().to_owned()
    }
}

impl PartialEq for Str {
    fn eq(&self, other: &Str) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Str {}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialOrd for Str {
    fn partial_cmp(&self, other: &Str) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Str {
    fn cmp(&self, other: &Str) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Str {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), out)
    }
}

impl fmt::Display for Str {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn refuses_what_is_not_utf8() {
        assert!(Str::from_utf8(Bytes::from_static(&[0x61, 0xff])).is_err());
        assert!(
            Str::from_utf8(Bytes::from_static(&[0xed, 0xa0, 0x80])).is_err(),
            "surrogate"
        );
        assert_eq!(
            Str::from_utf8(Bytes::from_static("Ωmega".as_bytes())).unwrap(),
            "Ωmega"
        );
    }

    #[test]
    fn is_found_in_a_map_by_str() {
        let map = BTreeMap::from([(Str::from("a"), 1), (Str::from(String::from("b")), 2)]);
        assert_eq!(map.get("b"), Some(&2));
        assert_eq!(map.get("c"), None);
    }

    #[test]
    fn detached_lives_elsewhere() {
        let frame = Bytes::from(vec![b'x'; 100]);
        let slice = Str::from_utf8(frame.slice(10..20)).unwrap();
        assert_eq!(slice.as_ptr(), frame[10..].as_ptr());
        let copy = slice.detached();
        assert_eq!(copy, slice);
        assert_ne!(copy.as_ptr(), slice.as_ptr());
    }
}
