//! Figures of all brokers and rounds, and the table of their ratios.

use std::collections::BTreeMap;

use crate::arguments::BrokerName;
use crate::table::{Table, number, time_us};

/// What a figure counts; decides how it is written and which direction is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Us,
    Seconds,
    MbPerS,
    RequestsPerS,
    Mb,
    /// A number of which more is better.
    More,
    /// CPU time for each GB of message values.
    CpuSPerGb,
    CpuUsEach,
    CpuSeconds,
    PercentOfACore,
    MiB,
    KiBEach,
    Count,
    /// How often something was done: neither good nor bad.
    Times,
    /// Bytes on the disk for each byte of message values.
    Amplification,
}

impl Unit {
    fn more_is_better(self) -> bool {
        matches!(
            self,
            Unit::MbPerS | Unit::RequestsPerS | Unit::Mb | Unit::More
        )
    }

    fn show(self, value: f64) -> String {
        let text = number(value);
        match self {
            Unit::Us => time_us(value),
            Unit::Seconds => time_us(value * 1e6),
            Unit::MbPerS => format!("{text} MB/s"),
            Unit::RequestsPerS => format!("{text}/s"),
            Unit::CpuSPerGb => format!("{text} s/GB"),
            Unit::CpuUsEach => format!("{text} us"),
            Unit::CpuSeconds => format!("{text} s"),
            Unit::PercentOfACore => format!("{text} %"),
            Unit::MiB => format!("{text} MiB"),
            Unit::KiBEach => format!("{text} KiB"),
            Unit::Mb => format!("{text} MB"),
            Unit::Count | Unit::More | Unit::Times => text,
            Unit::Amplification => format!("{text} x"),
        }
    }
}

/// One figure of a workload, of all brokers. `None` is a run that did not sustain its load.
struct Row {
    workload: &'static str,
    name: String,
    unit: Unit,
    values: BTreeMap<BrokerName, Vec<Option<f64>>>,
}

/// In the order in which figures were first added.
#[derive(Default)]
pub struct Figures {
    rows: Vec<Row>,
}

impl Figures {
    /// Adds one round's value.
    pub fn add(
        &mut self,
        broker: BrokerName,
        workload: &'static str,
        name: impl Into<String>,
        unit: Unit,
        value: Option<f64>,
    ) {
        let name = name.into();
        let known = |row: &Row| row.workload == workload && row.name == name;
        let place = self.rows.iter().position(known).unwrap_or_else(|| {
            let values = BTreeMap::new();
            self.rows.push(Row {
                workload,
                name: name.clone(),
                unit,
                values,
            });
            self.rows.len() - 1
        });
        let value = value.filter(|value| value.is_finite());
        self.rows[place]
            .values
            .entry(broker)
            .or_default()
            .push(value);
    }

    /// The median of a figure over the rounds.
    pub fn median(&self, broker: BrokerName, workload: &str, name: &str) -> Option<f64> {
        let row = self
            .rows
            .iter()
            .find(|row| row.workload == workload && row.name == name)?;
        Spread::of(row.values.get(&broker)?).map(|spread| spread.median)
    }

    /// One row for each figure, one column for each broker, and factors: above one, Corelane is
    /// better by so much.
    pub fn table(&self, brokers: &[BrokerName]) -> Table {
        let rivals: Vec<BrokerName> = brokers
            .iter()
            .copied()
            .filter(|broker| *broker != BrokerName::Corelane)
            .collect();
        let has_factors = rivals.len() < brokers.len();
        let mut head = vec!["workload".to_owned(), "figure".to_owned()];
        head.extend(brokers.iter().map(|broker| title(*broker).to_owned()));
        if has_factors {
            head.extend(
                rivals
                    .iter()
                    .map(|rival| format!("factor to {}", short(*rival))),
            );
        }
        let mut table = Table::with_names(2, head);
        for row in &self.rows {
            let mut cells = vec![row.workload.to_owned(), row.name.clone()];
            cells.extend(brokers.iter().map(|broker| row.cell(*broker)));
            if has_factors {
                cells.extend(rivals.iter().map(|rival| row.factor(*rival)));
            }
            table.row(cells);
        }
        table
    }
}

impl Row {
    fn cell(&self, broker: BrokerName) -> String {
        let Some(values) = self.values.get(&broker) else {
            return "-".to_owned();
        };
        let Some(spread) = Spread::of(values) else {
            return "unsustained".to_owned();
        };
        let show = |value| self.unit.show(value);
        let failed = values.iter().filter(|value| value.is_none()).count();
        let mut text = show(spread.median);
        if values.len() > 1 {
            text += &format!(" ({} - {})", show(spread.min), show(spread.max));
        }
        if failed > 0 {
            text += &format!(", {failed} of {} unsustained", values.len());
        }
        text
    }

    fn factor(&self, rival: BrokerName) -> String {
        if self.unit == Unit::Times {
            return "-".to_owned();
        }
        let median = |broker| Spread::of(self.values.get(&broker)?).map(|spread| spread.median);
        match median(BrokerName::Corelane).zip(median(rival)) {
            Some((own, other)) if own > 0.0 && other > 0.0 => {
                let factor = if self.unit.more_is_better() {
                    own / other
                } else {
                    other / own
                };
                format!("{} x", number(factor))
            }
            _ => "-".to_owned(),
        }
    }
}

/// Median and extremes of the rounds that sustained their load.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(values: &[Option<f64>]) -> Option<Spread> {
        let mut values: Vec<f64> = values.iter().flatten().copied().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 if values.is_empty() => return None,
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Some(Spread {
            min: values[0],
            median,
            max: values[values.len() - 1],
        })
    }
}

/// A broker with its durability class.
pub fn title(broker: BrokerName) -> &'static str {
    match broker {
        BrokerName::Corelane => "Corelane (fsync-before-ack)",
        BrokerName::KafkaSync => "Kafka, flush.messages=1 (fsync-before-ack)",
        BrokerName::Kafka => "Kafka, default (page-cache)",
    }
}

pub fn short(broker: BrokerName) -> &'static str {
    match broker {
        BrokerName::Corelane => "Corelane",
        BrokerName::KafkaSync => "Kafka, flush.messages=1",
        BrokerName::Kafka => "Kafka, default",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BrokerName::{Corelane, Kafka, KafkaSync};

    fn figures(values: &[(BrokerName, Option<f64>)], unit: Unit) -> Figures {
        let mut figures = Figures::default();
        for (broker, value) in values {
            figures.add(*broker, "W1", "x", unit, *value);
        }
        figures
    }

    fn cells(figures: &Figures) -> Vec<String> {
        let table = figures.table(&[Corelane, KafkaSync, Kafka]).to_string();
        let row = table.lines().nth(2).unwrap();
        row.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    }

    #[test]
    fn factors_say_how_much_better_corelane_is() {
        let values = [
            (Corelane, Some(200.0)),
            (KafkaSync, Some(1000.0)),
            (Kafka, Some(100.0)),
        ];
        let less = cells(&figures(&values, Unit::Us));
        assert_eq!(
            less,
            [
                "W1", "x", "200 us", "1.00 ms", "100 us", "5.00 x", "0.500 x"
            ]
        );
        let more = cells(&figures(&values, Unit::MbPerS));
        assert_eq!(more[5..], ["0.200 x", "2.00 x"]);
    }

    #[test]
    fn several_rounds_show_median_and_extremes() {
        let values = [
            (Corelane, Some(3.0)),
            (Corelane, Some(1.0)),
            (Corelane, Some(2.0)),
        ];
        let figures = figures(&values, Unit::Count);
        assert_eq!(cells(&figures)[2..5], ["2.00 (1.00 - 3.00)", "-", "-"]);
        assert_eq!(figures.median(Corelane, "W1", "x"), Some(2.0));
        assert_eq!(figures.median(Kafka, "W1", "x"), None);
    }

    #[test]
    fn an_unsustained_run_has_no_value() {
        let values = [(Corelane, Some(3.0)), (Corelane, None), (Kafka, None)];
        let cells = cells(&figures(&values, Unit::Count));
        assert_eq!(cells[2], "3.00 (3.00 - 3.00), 1 of 2 unsustained");
        assert_eq!(cells[4..], ["unsustained", "-", "-"]);
    }

    #[test]
    fn an_even_number_of_rounds_has_a_median_between() {
        let spread = Spread::of(&[Some(4.0), None, Some(1.0)]);
        assert_eq!(
            spread,
            Some(Spread {
                min: 1.0,
                median: 2.5,
                max: 4.0
            })
        );
        assert_eq!(Spread::of(&[None]), None);
    }
}
