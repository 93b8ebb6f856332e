//! One knob: a row of the table, and the grammar of its value.
//!
//! A row says what the knob is called, how its value is spelled, what it is when nobody sets it,
//! who may change it, and what the broker does with it. Parser, documentation and DescribeConfigs
//! all read this one row. Nothing here knows where values come from (`layers`) or what they are
//! used for (`topic`, `broker`).

use std::fmt;
use std::net::IpAddr;

use protocol::error::ErrorCode;

use super::machine::{Cores, Memory};

/// Kafka's type of a config; the numbers are those of DescribeConfigs v3 and later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    /// Values separated by commas.
    List = 7,
    Class = 8,
    /// A secret: stored, never told.
    Password = 9,
}

impl Kind {
    /// The code of this type in a DescribeConfigs response.
    pub fn code(self) -> i8 {
        self as i8
    }

    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Boolean => "boolean",
            Kind::String => "string",
            Kind::Int => "int",
            Kind::Short => "short",
            Kind::Long => "long",
            Kind::Double => "double",
            Kind::List => "list",
            Kind::Class => "class",
            Kind::Password => "password",
        }
    }
}

/// Which values of a kind are accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Valid {
    Any,
    AtLeast(i64),
    Between(i64, i64),
    /// A fraction between two bounds, both included.
    Share(f64, f64),
    OneOf(&'static [&'static str]),
    /// Each element of a list is one of these, none twice.
    EachOf(&'static [&'static str]),
    /// No element of a list comes twice.
    Distinct,
    NonEmpty,
    /// 1 to 9, or -1 for the codec's own choice.
    GzipLevel,
    /// `*`, or a list of `partition:broker`.
    ThrottledReplicas,
    /// `latest`, `earliest` or `by_duration:` with an ISO 8601 duration.
    OffsetReset,
    /// A list of `address:limit`.
    AddressLimits,
    /// A count of CPUs or a list of their numbers.
    Cores,
    /// Bytes with or without a unit, or a percentage.
    Memory,
}

/// Who may change a broker knob while the broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Nobody: read at start.
    Static,
    /// An operator, for one node.
    Node,
    /// An operator, for the whole cluster or one node.
    Cluster,
}

impl Scope {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Scope::Static => "read-only",
            Scope::Node => "per-broker",
            Scope::Cluster => "cluster-wide",
        }
    }
}

/// What the broker does with the value. Nothing is accepted and silently ignored: a value either
/// works, or is documented to need no effect, or is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The broker acts on it.
    Honoured,
    /// Any valid value is stored and reported; the sentence says why it changes nothing.
    Reported(&'static str),
    /// Only the default is accepted; the sentence says why.
    Refused(&'static str),
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Knob {
    pub name: &'static str,
    pub kind: Kind,
    /// The value if nobody sets one, in canonical spelling. `None` is Kafka's null.
    pub default: Option<&'static str>,
    pub valid: Valid,
    pub scope: Scope,
    pub effect: Effect,
    doc: &'static str,
}

/// Why a value was not accepted. `message` is fit for a client; it names the config.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidConfig {
    pub name: String,
    pub cause: Cause,
    /// What a client is told.
    pub code: ErrorCode,
    pub message: String,
}

/// The question that the value failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No config has this name.
    Unknown,
    /// Not a value of the config's type.
    Malformed,
    /// Of the right type, but outside what is allowed.
    OutOfRange,
    /// At odds with another config.
    Conflict,
    /// Can be set at start only.
    ReadOnly,
    /// Can be set for one broker only, not for the whole cluster.
    PerBroker,
    /// APPEND or SUBTRACT on something that is not a list.
    NotAList,
    /// Known and well-formed, but this broker does not do it.
    Refused,
}

impl InvalidConfig {
    pub(crate) fn new(name: &str, cause: Cause, message: String) -> Self {
        // Kafka answers INVALID_REQUEST to a dynamic change of what is not dynamic.
        let code = match cause {
            Cause::ReadOnly | Cause::PerBroker => ErrorCode::INVALID_REQUEST,
            _ => ErrorCode::INVALID_CONFIG,
        };
        InvalidConfig {
            name: name.to_owned(),
            cause,
            code,
            message,
        }
    }
}

impl Knob {
    pub(crate) const fn new(
        name: &'static str,
        kind: Kind,
        default: Option<&'static str>,
        valid: Valid,
        scope: Scope,
        effect: Effect,
        doc: &'static str,
    ) -> Knob {
        Knob {
            name,
            kind,
            default,
            valid,
            scope,
            effect,
            doc,
        }
    }

    /// What the knob means, or why it means nothing here.
    pub fn documentation(&self) -> &'static str {
        match self.effect {
            Effect::Honoured => self.doc,
            Effect::Reported(why) | Effect::Refused(why) => why,
        }
    }

    /// A secret, whose value no answer carries.
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    /// Checks a value from outside and returns its canonical spelling: trimmed, `TRUE` as `true`,
    /// lists without blanks.
    pub fn canonical(&self, value: &str) -> Result<String, InvalidConfig> {
        let canonical = self.spell(value.trim())?;
        self.check(&canonical)?;
        if let Effect::Refused(why) = self.effect
            && self.default != Some(canonical.as_str())
        {
            let shown = self.shown(&canonical);
            let message = format!("{}={shown} is not supported. {why}", self.name);
            return Err(InvalidConfig::new(self.name, Cause::Refused, message));
        }
        Ok(canonical)
    }

    fn spell(&self, value: &str) -> Result<String, InvalidConfig> {
        let integer = |min: i64, max: i64| match value.parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(number.to_string()),
            _ => Err(self.malformed(value)),
        };
        match self.kind {
            Kind::Boolean if value.eq_ignore_ascii_case("true") => Ok("true".into()),
            Kind::Boolean if value.eq_ignore_ascii_case("false") => Ok("false".into()),
            Kind::Boolean => Err(self.malformed(value)),
            Kind::Short => integer(i16::MIN.into(), i16::MAX.into()),
            Kind::Int => integer(i32::MIN.into(), i32::MAX.into()),
            Kind::Long => integer(i64::MIN, i64::MAX),
            Kind::Double => match value.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(spell_double(number)),
                _ => Err(self.malformed(value)),
            },
            Kind::List => Ok(elements(value).collect::<Vec<_>>().join(",")),
            Kind::String | Kind::Class | Kind::Password => Ok(value.to_owned()),
        }
    }

    fn check(&self, value: &str) -> Result<(), InvalidConfig> {
        let number = || value.parse::<i64>().ok();
        let within = match self.valid {
            Valid::Any => true,
            Valid::AtLeast(min) => number().is_some_and(|n| n >= min),
            Valid::Between(min, max) => number().is_some_and(|n| (min..=max).contains(&n)),
            Valid::Share(min, max) => value
                .parse::<f64>()
                .is_ok_and(|share| (min..=max).contains(&share)),
            Valid::OneOf(words) => words.contains(&value),
            Valid::EachOf(words) => {
                is_distinct(value) && elements(value).all(|word| words.contains(&word))
            }
            Valid::Distinct => is_distinct(value),
            Valid::NonEmpty => !value.is_empty(),
            Valid::GzipLevel => number().is_some_and(|n| n == -1 || (1..=9).contains(&n)),
            Valid::ThrottledReplicas => value == "*" || elements(value).all(is_throttled_replica),
            Valid::OffsetReset => is_offset_reset(value),
            Valid::AddressLimits => elements(value).all(|limit| address_limit(limit).is_some()),
            Valid::Cores => value.parse::<Cores>().is_ok(),
            Valid::Memory => value.parse::<Memory>().is_ok(),
        };
        if within {
            return Ok(());
        }
        let shown = self.shown(value);
        let message = format!(
            "Invalid value {shown} for configuration {}: it must be {}.",
            self.name, self.valid
        );
        Err(InvalidConfig::new(self.name, Cause::OutOfRange, message))
    }

    fn malformed(&self, value: &str) -> InvalidConfig {
        let shown = self.shown(value);
        let kind = self.kind.word();
        let message = format!(
            "Invalid value {shown} for configuration {}: not a valid {kind}.",
            self.name
        );
        InvalidConfig::new(self.name, Cause::Malformed, message)
    }

    /// The value for a message: secrets hidden, long ones cut.
    fn shown(&self, value: &str) -> String {
        const SHOWN_CHARS: usize = 80;
        if self.is_sensitive() {
            return "[hidden]".into();
        }
        match value.char_indices().nth(SHOWN_CHARS) {
            Some((cut, _)) => format!("{}...", &value[..cut]),
            None => value.to_owned(),
        }
    }
}

impl fmt::Display for Valid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Valid::Any => f.write_str("any value"),
            Valid::AtLeast(min) => write!(f, "at least {min}"),
            Valid::Between(min, max) => write!(f, "between {min} and {max}"),
            Valid::Share(min, max) => write!(f, "between {min:?} and {max:?}"),
            Valid::OneOf(words) => write!(f, "one of {}", words.join(", ")),
            Valid::EachOf(words) => write!(f, "a list of {}, none twice", words.join(", ")),
            Valid::Distinct => f.write_str("a list without repetitions"),
            Valid::NonEmpty => f.write_str("a non-empty string"),
            Valid::GzipLevel => f.write_str("between 1 and 9, or -1"),
            Valid::ThrottledReplicas => f.write_str("* or a list of partition:broker"),
            Valid::OffsetReset => {
                f.write_str("latest, earliest or by_duration:<ISO 8601 duration>")
            }
            Valid::AddressLimits => f.write_str("a list of <IP address>:<limit>"),
            Valid::Cores => {
                f.write_str("a count of CPUs (0 for all), or their numbers as in 0,2-3, none twice")
            }
            Valid::Memory => f.write_str("bytes, as in 512MiB or 2GiB, or 1% to 100%"),
        }
    }
}

/// The elements of a list in canonical or loose spelling; an empty string has none.
pub(crate) fn elements(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|element| !element.is_empty())
}

/// As Java prints it, since that is what clients have always seen: `0.5`, `1.0`, `1.5E300`.
fn spell_double(number: f64) -> String {
    format!("{number:?}").replace('e', "E")
}

/// One `address:limit`; an IPv6 address may stand in brackets.
pub(crate) fn address_limit(element: &str) -> Option<(IpAddr, u32)> {
    let (address, limit) = element.rsplit_once(':')?;
    let address = address.trim().trim_start_matches('[').trim_end_matches(']');
    Some((address.parse().ok()?, limit.trim().parse().ok()?))
}

fn is_distinct(list: &str) -> bool {
    let mut seen: Vec<&str> = elements(list).collect();
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    seen.len() == count
}

fn is_throttled_replica(element: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().is_ok();
    element
        .split_once(':')
        .is_some_and(|(partition, broker)| number(partition) && number(broker))
}

fn is_offset_reset(value: &str) -> bool {
    match value.split_once(':') {
        None => value == "latest" || value == "earliest",
        Some((prefix, duration)) => prefix == "by_duration" && is_iso_duration(duration),
    }
}

/// `P[nD][T[nH][nM][n[.n]S]]`, not negative, with at least one part.
fn is_iso_duration(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    let Some(rest) = upper.strip_prefix('P') else {
        return false;
    };
    let (date, time) = match rest.split_once('T') {
        Some((date, time)) if !time.is_empty() => (date, time),
        Some(_) => return false,
        None => (rest, ""),
    };
    !rest.is_empty() && is_parts(date, "D") && is_parts(time, "HMS")
}

/// Numbers, each followed by one of `units`, in their order; only seconds may have a fraction.
fn is_parts(mut text: &str, units: &str) -> bool {
    let mut allowed = units;
    while !text.is_empty() {
        let digits = text
            .bytes()
            .take_while(|b| b.is_ascii_digit() || *b == b'.')
            .count();
        let (number, rest) = text.split_at(digits);
        let Some(unit) = rest.chars().next() else {
            return false;
        };
        let Some(place) = allowed.find(unit) else {
            return false;
        };
        let whole = number.parse::<u64>().is_ok();
        if !(whole || unit == 'S' && number.parse::<f64>().is_ok()) {
            return false;
        }
        allowed = &allowed[place + 1..];
        text = &rest[1..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knob(kind: Kind, valid: Valid) -> Knob {
        Knob::new(
            "a.knob",
            kind,
            None,
            valid,
            Scope::Cluster,
            Effect::Honoured,
            "",
        )
    }

    #[test]
    fn values_get_their_canonical_spelling() {
        let cases = [
            (Kind::Boolean, " TRUE ", "true"),
            (Kind::Int, " +10 ", "10"),
            (Kind::Long, "-1", "-1"),
            (Kind::Double, "1", "1.0"),
            (Kind::Double, "1.5e300", "1.5E300"),
            (Kind::List, " a , b,,c ", "a,b,c"),
            (Kind::List, "", ""),
            (Kind::String, " x y ", "x y"),
        ];
        for (kind, given, expected) in cases {
            assert_eq!(
                knob(kind, Valid::Any).canonical(given).unwrap(),
                expected,
                "{given:?}"
            );
        }
    }

    #[test]
    fn malformed_values_are_refused_by_name() {
        let cases = [
            (Kind::Boolean, "yes"),
            (Kind::Int, "2147483648"),
            (Kind::Short, "32768"),
            (Kind::Long, "1.0"),
            (Kind::Long, "9223372036854775808"),
            (Kind::Double, "NaN"),
            (Kind::Int, ""),
        ];
        for (kind, given) in cases {
            let error = knob(kind, Valid::Any).canonical(given).unwrap_err();
            assert_eq!(error.cause, Cause::Malformed, "{given:?}");
            assert!(error.message.contains("a.knob"), "{error}");
        }
    }

    #[test]
    fn ranges_are_inclusive() {
        let gzip = knob(Kind::Int, Valid::GzipLevel);
        for (value, fits) in [
            ("-2", false),
            ("-1", true),
            ("0", false),
            ("1", true),
            ("10", false),
        ] {
            assert_eq!(gzip.canonical(value).is_ok(), fits, "{value}");
        }
        let share = knob(Kind::Double, Valid::Share(0.0, 1.0));
        assert!(share.canonical("1").is_ok());
        assert_eq!(
            share.canonical("1.01").unwrap_err().cause,
            Cause::OutOfRange
        );
        let throttled = knob(Kind::List, Valid::ThrottledReplicas);
        for (value, fits) in [
            ("*", true),
            ("", true),
            ("0:1, 2:3", true),
            ("0", false),
            ("*,0:1", false),
        ] {
            assert_eq!(throttled.canonical(value).is_ok(), fits, "{value}");
        }
        assert!(knob(Kind::List, Valid::Distinct).canonical("a,a").is_err());
    }

    #[test]
    fn offset_reset_takes_iso_durations() {
        let knob = knob(Kind::String, Valid::OffsetReset);
        for value in [
            "latest",
            "earliest",
            "by_duration:PT1H30M",
            "by_duration:P1DT0.5S",
        ] {
            assert!(knob.canonical(value).is_ok(), "{value}");
        }
        for value in [
            "none",
            "by_duration:",
            "by_duration:P",
            "by_duration:PT",
            "by_duration:-PT1H",
            "by_duration:PT1M1H",
            "by_duration:PT1.5H",
            "earliest:PT1H",
        ] {
            assert!(knob.canonical(value).is_err(), "{value}");
        }
    }

    #[test]
    fn secrets_stay_out_of_messages() {
        let mut secret = knob(Kind::Password, Valid::Any);
        secret.effect = Effect::Refused("Not here.");
        let error = secret.canonical("hunter2").unwrap_err();
        assert_eq!(error.cause, Cause::Refused);
        assert!(!error.message.contains("hunter2"), "{error}");
    }
}
