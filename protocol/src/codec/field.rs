//! In which versions a field exists, and in which form a value is written there.

/// How the value at hand is written: the message's version and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Version of the whole message; nested structs share it.
    pub version: i16,
    /// Compact lengths and tagged fields (KIP-482).
    pub flexible: bool,
    /// Whether null is a legal value here; only read by types that can be null.
    pub nullable: bool,
}

impl Form {
    /// The form of a message's body, or of a header.
    pub const fn new(version: i16, flexible: bool) -> Form {
        Form {
            version,
            flexible,
            nullable: false,
        }
    }

    /// The form of an array's elements: as the array, but never null.
    pub(crate) const fn of_elements(self) -> Form {
        Form {
            nullable: false,
            ..self
        }
    }
}

/// The versions in which a field is on the wire, and what to do in the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    since: i16,
    until: i16,
    null_since: i16,
    ignorable: bool,
}

/// On the wire in every version.
pub(crate) const ALWAYS: Field = since(0);

/// On the wire from `version` on.
pub const fn since(version: i16) -> Field {
    Field {
        since: version,
        until: i16::MAX,
        null_since: 0,
        ignorable: false,
    }
}

/// On the wire up to and including `version`.
pub const fn until(version: i16) -> Field {
    since(0).until(version)
}

impl Field {
    /// Gone after `version`.
    pub const fn until(self, version: i16) -> Field {
        Field {
            until: version,
            ..self
        }
    }

    /// Null only from `version` on. Without this, a field of type `Option` may be null wherever it
    /// exists.
    pub const fn null_since(self, version: i16) -> Field {
        Field {
            null_since: version,
            ..self
        }
    }

    /// In a version that lacks the field, a value in it is dropped silently. Without this, such a
    /// value is a mistake of the sender.
    pub const fn ignorable(self) -> Field {
        Field {
            ignorable: true,
            ..self
        }
    }

    /// The form of the field's value, if the field exists in `form.version`.
    pub(crate) const fn form(self, form: Form) -> Option<Form> {
        if form.version < self.since || form.version > self.until {
            return None;
        }
        Some(Form {
            nullable: form.version >= self.null_since,
            ..form
        })
    }

    /// Whether a value in a version that lacks the field is reported. Only in debug builds: the
    /// mistake is ours, tests find it, and in production an answer without one field is better than
    /// a closed connection.
    pub(crate) const fn is_checked_when_absent(self) -> bool {
        cfg!(debug_assertions) && !self.ignorable
    }
}
