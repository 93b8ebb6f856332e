//! Latencies: one histogram from 1 us to 60 s with three significant digits.
//!
//! All producers, or all readers, of a run share one histogram: percentiles are never averaged. A
//! quantile is only told if at least a hundred samples lie beyond it.

use hdrhistogram::Histogram;
use serde::Serialize;

const MAX_US: u64 = 60_000_000;
const DIGITS: u8 = 3;
/// Samples that must lie beyond a quantile for it to mean something.
const SAMPLES_BEYOND: f64 = 100.0;

/// Latencies of one kind.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Latency {
        Latency(Histogram::new_with_bounds(1, MAX_US, DIGITS).expect("the bounds are in order"))
    }
}

impl Latency {
    /// The time from `from_ns` to `to_ns`. What lies outside the bounds counts as the bound.
    pub fn record(&mut self, from_ns: u64, to_ns: u64) {
        self.0
            .saturating_record((to_ns.saturating_sub(from_ns) / 1000).max(1));
    }

    /// `None` if there are too few samples even for a median.
    pub fn quantiles(&self) -> Option<Quantiles> {
        Some(Quantiles {
            count: self.0.len(),
            p50_us: self.at(0.5)?,
            p90_us: self.at(0.9),
            p99_us: self.at(0.99),
            p999_us: self.at(0.999),
            p9999_us: self.at(0.9999),
            max_us: self.0.max(),
        })
    }

    fn at(&self, quantile: f64) -> Option<u64> {
        // Rounded, since 1 - 0.99 is a little less than a hundredth.
        let beyond = (self.0.len() as f64 * (1.0 - quantile) * 1e6).round() / 1e6;
        (beyond >= SAMPLES_BEYOND).then(|| self.0.value_at_quantile(quantile))
    }
}

/// What is told of a histogram; a quantile without enough samples is absent. In us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    pub count: u64,
    pub p50_us: u64,
    pub p90_us: Option<u64>,
    pub p99_us: Option<u64>,
    pub p999_us: Option<u64>,
    pub p9999_us: Option<u64>,
    pub max_us: u64,
}

impl Quantiles {
    /// Name and value of each that is told.
    pub fn told(&self) -> Vec<(&'static str, u64)> {
        let all = [
            ("p50", Some(self.p50_us)),
            ("p90", self.p90_us),
            ("p99", self.p99_us),
            ("p99.9", self.p999_us),
            ("p99.99", self.p9999_us),
            ("max", Some(self.max_us)),
        ];
        all.into_iter()
            .filter_map(|(name, us)| Some((name, us?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn microseconds(values: impl IntoIterator<Item = u64>) -> Latency {
        let mut latency = Latency::default();
        values
            .into_iter()
            .for_each(|us| latency.record(0, us * 1000));
        latency
    }

    #[test]
    fn quantiles_need_a_hundred_samples_beyond_them() {
        assert_eq!(microseconds(0..199).quantiles(), None);
        let told = microseconds(1..=10_000).quantiles().unwrap();
        assert_eq!((told.count, told.p50_us), (10_000, 5_003));
        assert!((9_895..=9_910).contains(&told.p99_us.unwrap()), "{told:?}");
        assert_eq!(told.p999_us, None);
        assert!(
            microseconds(1..=100_000)
                .quantiles()
                .unwrap()
                .p999_us
                .is_some()
        );
    }

    #[test]
    fn values_outside_the_bounds_count_as_the_bounds() {
        let mut latency = microseconds([0; 300]);
        latency.record(0, 100 * 1_000_000_000);
        latency.record(5, 3);
        let told = latency.quantiles().unwrap();
        assert_eq!((told.count, told.p50_us), (302, 1));
        assert!(told.max_us >= MAX_US && told.max_us < MAX_US + MAX_US / 1000);
    }
}
