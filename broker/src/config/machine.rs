//! What a node takes of its machine, as an operator writes it: cores and memory.
//!
//! Grammar only: what the machine has is asked by the process that starts (`crate::machine`).

use std::fmt;
use std::str::FromStr;

/// CPU numbers that the kernel's affinity calls can name.
const CPUS_MAX: usize = 1024;

/// The CPUs that get an executor each (`corelane.cores`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// Every CPU that this process may use.
    All,
    /// As many, from the first that this process may use.
    Count(usize),
    /// These, in this order: core 0 is the first of them.
    Named(Vec<usize>),
}

/// Memory for all cores together (`corelane.memory`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    Bytes(u64),
    /// Of what is available to the process, 1 to 100.
    Percent(u8),
}

/// Not a way to write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a way to write it")]
pub struct Unreadable;

impl FromStr for Cores {
    type Err = Unreadable;

    /// Reads a count, or a list such as `0,2-3`. A number alone is a count; CPU 3 alone is `3-3`.
    fn from_str(text: &str) -> Result<Cores, Unreadable> {
        if let Ok(count) = text.parse::<usize>() {
            return match count {
                0 => Ok(Cores::All),
                1..=CPUS_MAX => Ok(Cores::Count(count)),
                _ => Err(Unreadable),
            };
        }
        let mut named = Vec::new();
        for range in text.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (cpu(first)?, cpu(last)?);
            if first > last || (first..=last).any(|cpu| named.contains(&cpu)) {
                return Err(Unreadable);
            }
            named.extend(first..=last);
        }
        Ok(Cores::Named(named))
    }
}

fn cpu(text: &str) -> Result<usize, Unreadable> {
    let number = text.trim().parse().map_err(|_| Unreadable)?;
    (number < CPUS_MAX).then_some(number).ok_or(Unreadable)
}

impl FromStr for Memory {
    type Err = Unreadable;

    /// Reads bytes, with a unit (`512MiB`, `2GiB`) or without, or a percentage (`80%`). Units are
    /// powers of two, as memory is sold; `M` and `MB` are read as `MiB`.
    fn from_str(text: &str) -> Result<Memory, Unreadable> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| Unreadable)?;
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "%" => {
                let percent = u8::try_from(number).map_err(|_| Unreadable)?;
                return match percent {
                    1..=100 => Ok(Memory::Percent(percent)),
                    _ => Err(Unreadable),
                };
            }
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(Unreadable),
        };
        let bytes = number.checked_mul(1 << shift).ok_or(Unreadable)?;
        Ok(Memory::Bytes(bytes))
    }
}

/// Bytes as people say them: `512 MiB`, `7.6 GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = match self.0 {
            bytes if bytes >= 1 << 30 => (1u64 << 30, "GiB"),
            bytes if bytes >= 1 << 20 => (1 << 20, "MiB"),
            bytes if bytes >= 1 << 10 => (1 << 10, "KiB"),
            bytes => return write!(f, "{bytes} bytes"),
        };
        match self.0 % unit {
            0 => write!(f, "{} {name}", self.0 / unit),
            _ => write!(f, "{:.1} {name}", self.0 as f64 / unit as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_counted_or_named() {
        let read = |text: &str| text.parse::<Cores>();
        assert_eq!(read("0"), Ok(Cores::All));
        assert_eq!(read("12"), Ok(Cores::Count(12)));
        assert_eq!(read("3-3"), Ok(Cores::Named(vec![3])));
        assert_eq!(read("6, 0,2-3"), Ok(Cores::Named(vec![6, 0, 2, 3])));
        let wrong = [
            "",
            "-1",
            "1-",
            "3-1",
            "0,0",
            "0-2,1",
            "a",
            "0,,1",
            "0,",
            "1024-1025",
        ];
        for text in wrong.into_iter().chain(["0-18446744073709551615", "1025"]) {
            assert_eq!(read(text), Err(Unreadable), "{text:?}");
        }
    }

    #[test]
    fn memory_has_units() {
        let read = |text: &str| text.parse::<Memory>();
        for (text, bytes) in [
            ("1048576", 1 << 20),
            ("512MiB", 512 << 20),
            ("2 gib", 2 << 30),
            ("2G", 2 << 30),
            ("64kb", 64 << 10),
        ] {
            assert_eq!(read(text), Ok(Memory::Bytes(bytes)), "{text}");
        }
        assert_eq!(read("80%"), Ok(Memory::Percent(80)));
        for text in [
            "",
            "0%",
            "101%",
            "80 percent",
            "-1",
            "1.5GiB",
            "99999999TiB",
            "MiB",
        ] {
            assert_eq!(read(text), Err(Unreadable), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_readable() {
        for (bytes, text) in [
            (5, "5 bytes"),
            (64 << 20, "64 MiB"),
            ((7 << 30) + (614 << 20), "7.6 GiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
