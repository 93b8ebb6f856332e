//! Prometheus' text format 0.0.4: families of samples, with their help and type.
//!
//! Knows the format and nothing of what is told in it.

use std::fmt::{self, Write};

use crate::observe::{LATENCY_BOUNDS_US, Latency};

/// What an HTTP answer in this format is called.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Labels of a sample: names and raw values.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// How a figure behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows, from zero at the start of the process.
    Counter,
    /// May go up and down.
    Gauge,
    Histogram,
}

/// A figure, written without loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    Count(u64),
    Offset(i64),
    Real(f64),
}

/// A page under way.
#[derive(Debug, Default)]
pub(super) struct Exposition(String);

/// A family that has been introduced; its samples follow.
pub(super) struct Family<'a> {
    page: &'a mut String,
    name: &'a str,
}

impl Exposition {
    /// Introduces a family. The format wants all samples of a family together, so each name is
    /// introduced once.
    pub(super) fn family<'a>(&'a mut self, kind: Kind, name: &'a str, help: &str) -> Family<'a> {
        let page = &mut self.0;
        put(page, format_args!("# HELP {name} {}\n", EscapedHelp(help)));
        put(page, format_args!("# TYPE {name} {kind}\n"));
        Family { page, name }
    }

    /// A family of one sample without labels.
    pub(super) fn single(&mut self, kind: Kind, name: &str, help: &str, value: impl Into<Value>) {
        self.family(kind, name, help).sample(&[], value);
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

impl Family<'_> {
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: impl Into<Value>) {
        self.put("", labels, None, value.into());
    }

    /// The buckets in seconds, each with what is in those below it, then sum and count.
    pub(super) fn histogram(&mut self, labels: Labels<'_>, latency: &Latency) {
        let mut cumulative = 0;
        let bounds = LATENCY_BOUNDS_US.iter().map(|bound_us| seconds(*bound_us));
        for (bound, count) in bounds.chain([f64::INFINITY]).zip(latency.counts) {
            cumulative += count;
            self.put("_bucket", labels, Some(bound), Value::Count(cumulative));
        }
        self.put("_sum", labels, None, Value::Real(seconds(latency.sum_us)));
        self.put("_count", labels, None, Value::Count(cumulative));
    }

    fn put(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<f64>, value: Value) {
        put(self.page, format_args!("{}{suffix}", self.name));
        let mut before = '{';
        for (name, value) in labels {
            put(
                self.page,
                format_args!("{before}{name}=\"{}\"", EscapedLabel(value)),
            );
            before = ',';
        }
        if let Some(bound) = bound {
            put(
                self.page,
                format_args!("{before}le=\"{}\"", Value::Real(bound)),
            );
            before = ',';
        }
        let end = if before == '{' { "" } else { "}" };
        put(self.page, format_args!("{end} {value}\n"));
    }
}

/// Microseconds in Prometheus' base unit.
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn put(page: &mut String, piece: fmt::Arguments<'_>) {
    page.write_fmt(piece).expect("a string takes everything");
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Value::Count(count) => count.fmt(f),
            Value::Offset(offset) => offset.fmt(f),
            Value::Real(real) if real == f64::INFINITY => f.write_str("+Inf"),
            Value::Real(real) if real == f64::NEG_INFINITY => f.write_str("-Inf"),
            Value::Real(real) => real.fmt(f),
        }
    }
}

impl From<u64> for Value {
    fn from(count: u64) -> Value {
        Value::Count(count)
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Value {
        Value::Count(count as u64)
    }
}

impl From<bool> for Value {
    fn from(holds: bool) -> Value {
        Value::Count(u64::from(holds))
    }
}

impl From<i64> for Value {
    fn from(offset: i64) -> Value {
        Value::Offset(offset)
    }
}

impl From<f64> for Value {
    fn from(real: f64) -> Value {
        Value::Real(real)
    }
}

/// A label's value: backslash, quote and line feed are escaped.
struct EscapedLabel<'a>(&'a str);

impl fmt::Display for EscapedLabel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(self.0, "\\\"\n", f)
    }
}

/// A help text: backslash and line feed are escaped, quotes stand for themselves.
struct EscapedHelp<'a>(&'a str);

impl fmt::Display for EscapedHelp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(self.0, "\\\n", f)
    }
}

fn escape(text: &str, special: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for c in text.chars() {
        match c {
            '\n' if special.contains(c) => f.write_str("\\n")?,
            c if special.contains(c) => write!(f, "\\{c}")?,
            c => f.write_char(c)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_of_strangers_cannot_break_out_of_a_label() {
        let mut page = Exposition::default();
        let mut family = page.family(Kind::Gauge, "corelane_lag", "of \"groups\"\nand \\ such");
        family.sample(&[("group", "a\"} 1\nb\\"), ("topic", "t")], 7_i64);
        assert_eq!(
            page.into_text(),
            "# HELP corelane_lag of \"groups\"\\nand \\\\ such\n\
             # TYPE corelane_lag gauge\n\
             corelane_lag{group=\"a\\\"} 1\\nb\\\\\",topic=\"t\"} 7\n"
        );
    }

    #[test]
    fn buckets_are_cumulative_and_in_seconds() {
        let mut latency = Latency::default();
        for us in [40, 50, 90, 1_000_000, 9_000_000] {
            latency.record(Duration::from_micros(us));
        }
        let mut page = Exposition::default();
        page.family(Kind::Histogram, "h", "help")
            .histogram(&[("api", "Fetch")], &latency);
        let text = page.into_text();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(lines.len(), LATENCY_BOUNDS_US.len() + 3);
        assert_eq!(lines[0], "h_bucket{api=\"Fetch\",le=\"0.00005\"} 2");
        assert_eq!(lines[1], "h_bucket{api=\"Fetch\",le=\"0.0001\"} 3");
        assert_eq!(lines[13], "h_bucket{api=\"Fetch\",le=\"0.5\"} 3");
        assert_eq!(lines[14], "h_bucket{api=\"Fetch\",le=\"1\"} 4");
        assert_eq!(lines[16], "h_bucket{api=\"Fetch\",le=\"+Inf\"} 5");
        assert_eq!(lines[17], "h_sum{api=\"Fetch\"} 10.00018");
        assert_eq!(lines[18], "h_count{api=\"Fetch\"} 5");
    }

    #[test]
    fn figures_are_written_without_loss() {
        let written = |value: Value| value.to_string();
        assert_eq!(written(u64::MAX.into()), "18446744073709551615");
        assert_eq!(written((-1_i64).into()), "-1");
        assert_eq!(written(0.25.into()), "0.25");
        assert_eq!(written(f64::NEG_INFINITY.into()), "-Inf");
        assert_eq!(written(f64::NAN.into()), "NaN");
        assert_eq!(written(true.into()), "1");
    }
}
