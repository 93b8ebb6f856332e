//! `corelane consume`: records of topics to the standard output, alone or as a member of a group.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::arguments::{Begin, ConsumeArguments, Isolation, RecordFormat};
use super::client::{Client, now_ms, topic_name};
use super::committed;
use super::error::ShellError;
use super::fetching::{Fetched, Fetcher};
use super::membership::Member;
use super::moment;
use super::offsets::{self, Place, Wanted};
use super::output::Output;
use super::template::{Consumed, Template, write_json};

/// How often a member commits what it has printed.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) fn run(
    arguments: &ConsumeArguments,
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    let printer = Printer::new(arguments)?;
    let mut client = Client::connect(&arguments.client)?;
    let mut reading = Reading {
        arguments,
        printer,
        output,
        left: arguments.count,
    };
    match &arguments.group {
        Some(group) => reading.as_member(&mut client, group),
        None => reading.alone(&mut client),
    }
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Again,
    Rejoin,
    Stop,
}

struct Reading<'a, W> {
    arguments: &'a ConsumeArguments,
    printer: Printer,
    output: &'a mut Output<W>,
    /// Records still to print, if they are counted.
    left: Option<u64>,
}

impl<W: Write> Reading<'_, W> {
    fn alone(&mut self, client: &mut Client) -> Result<(), ShellError> {
        let places = self.places(client)?;
        let begin = beginnings(client, &places, &self.arguments.from)?;
        let ends = self.ends(client, &places)?;
        let mut fetcher = Fetcher::new(begin, self.arguments.isolation);
        loop {
            if ends.as_ref().is_some_and(|ends| fetcher.has_reached(ends)) {
                return Ok(());
            }
            for fetched in fetcher.poll(client)? {
                let end = ends
                    .as_ref()
                    .and_then(|ends| ends.get(&fetched.place))
                    .copied();
                self.print(&fetched, end)?;
                if self.left == Some(0) {
                    return Ok(());
                }
                if end.is_some_and(|end| fetched.next_offset >= end) {
                    fetcher.drop_place(&fetched.place);
                }
            }
            self.output.flush()?;
            if fetcher.is_idle() {
                return Ok(());
            }
        }
    }

    fn as_member(&mut self, client: &mut Client, group: &str) -> Result<(), ShellError> {
        let mut member = Member::new(group, &self.arguments.topics);
        // Ctrl-C commits and leaves, so that nothing is printed twice and nobody waits for us.
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let result = self.read_as_member(client, group, &mut member, &mut signals);
        // Leaving is a courtesy: what went wrong before is what counts.
        let left = member.leave(client);
        result.and(left)
    }

    fn read_as_member(
        &mut self,
        client: &mut Client,
        group: &str,
        member: &mut Member,
        signals: &mut Signals,
    ) -> Result<(), ShellError> {
        loop {
            let share = member.join(client)?;
            let places: Vec<Place> = share
                .into_iter()
                .flat_map(|(topic, numbers)| {
                    numbers
                        .into_iter()
                        .map(move |number| (topic.clone(), number))
                })
                .collect();
            let mut committed = committed::fetch(client, group)?;
            committed.retain(|place, _| places.contains(place));
            let fresh: Vec<Place> = places
                .iter()
                .filter(|place| !committed.contains_key(place))
                .cloned()
                .collect();
            let mut begin = beginnings(client, &fresh, &self.arguments.from)?;
            begin.extend(committed);
            let ends = self.ends(client, &places)?;
            let fetcher = Fetcher::new(begin, self.arguments.isolation);
            if self.read_share(client, member, fetcher, ends, signals)? == Next::Stop {
                return Ok(());
            }
        }
    }

    /// Reads until this member's share is taken away, or is read, or enough is printed.
    fn read_share(
        &mut self,
        client: &mut Client,
        member: &mut Member,
        mut fetcher: Fetcher,
        ends: Option<BTreeMap<Place, i64>>,
        signals: &mut Signals,
    ) -> Result<Next, ShellError> {
        let mut printed: BTreeMap<Place, i64> = BTreeMap::new();
        let mut commit_due = Instant::now() + COMMIT_INTERVAL;
        let mut next = Next::Again;
        while next == Next::Again {
            let finished = ends.as_ref().is_some_and(|ends| fetcher.has_reached(ends));
            if finished || signals.pending().next().is_some() {
                next = Next::Stop;
                break;
            }
            for fetched in poll_or_wait(&mut fetcher, client)? {
                let offset = self.print(&fetched, None)?;
                printed.insert(fetched.place, offset);
                if self.left == Some(0) {
                    next = Next::Stop;
                    break;
                }
            }
            self.output.flush()?;
            if Instant::now() >= commit_due && !printed.is_empty() {
                commit_due = Instant::now() + COMMIT_INTERVAL;
                if member.commit(client, &printed)? {
                    printed.clear();
                } else {
                    next = Next::Rejoin;
                }
            }
            if next == Next::Again && !member.keep(client)? {
                next = Next::Rejoin;
            }
        }
        // In a rebalance too: the group still takes the offsets of those who are about to rejoin.
        if !printed.is_empty() {
            member.commit(client, &printed)?;
        }
        Ok(next)
    }

    /// Prints records up to `end` and up to the count; returns the offset after the last one that
    /// is done with.
    fn print(&mut self, fetched: &Fetched, end: Option<i64>) -> Result<i64, ShellError> {
        let (topic, partition) = &fetched.place;
        let mut line = Vec::new();
        for record in &fetched.records {
            if self.left == Some(0) || end.is_some_and(|end| record.offset >= end) {
                return Ok(record.offset);
            }
            line.clear();
            self.printer.write(
                &mut line,
                &Consumed {
                    topic,
                    partition: *partition,
                    record,
                },
            )?;
            self.output.write_all(&line)?;
            self.left = self.left.map(|left| left - 1);
        }
        Ok(fetched.next_offset)
    }

    /// The partitions that were asked for; all of them if none were named.
    fn places(&self, client: &mut Client) -> Result<Vec<Place>, ShellError> {
        let wanted = &self.arguments.partition;
        let mut places = Vec::new();
        for topic in client.topics(&self.arguments.topics, false)? {
            let name = topic_name(&topic);
            let known = topic
                .partitions
                .iter()
                .map(|partition| partition.partition_index);
            let known: Vec<i32> = known.collect();
            if let Some(missing) = wanted.iter().find(|number| !known.contains(number)) {
                return Err(ShellError::impossible(
                    format!("read partition {missing} of {name}"),
                    format!(
                        "the topic has {} partition(s), counted from 0.",
                        known.len()
                    ),
                ));
            }
            let numbers = if wanted.is_empty() {
                known
            } else {
                wanted.clone()
            };
            places.extend(numbers.into_iter().map(|number| (name.clone(), number)));
        }
        Ok(places)
    }

    fn ends(
        &self,
        client: &mut Client,
        places: &[Place],
    ) -> Result<Option<BTreeMap<Place, i64>>, ShellError> {
        let wanted = match self.arguments.isolation {
            Isolation::ReadCommitted => Wanted::StableEnd,
            Isolation::ReadUncommitted => Wanted::End,
        };
        match self.arguments.exit_at_end {
            true => offsets::list(client, places, wanted).map(Some),
            false => Ok(None),
        }
    }
}

/// A member without partitions has nothing to fetch, and waits.
fn poll_or_wait(fetcher: &mut Fetcher, client: &mut Client) -> Result<Vec<Fetched>, ShellError> {
    if fetcher.is_idle() {
        std::thread::sleep(super::fetching::FETCH_WAIT);
        return Ok(Vec::new());
    }
    fetcher.poll(client)
}

/// Where reading begins in each partition.
fn beginnings(
    client: &mut Client,
    places: &[Place],
    begin: &Begin,
) -> Result<BTreeMap<Place, i64>, ShellError> {
    match begin {
        Begin::Beginning => offsets::list(client, places, Wanted::Start),
        Begin::End => offsets::list(client, places, Wanted::End),
        Begin::Offset(offset) => Ok(places
            .iter()
            .map(|place| (place.clone(), *offset))
            .collect()),
        Begin::BeforeEnd(count) => {
            let starts = offsets::list(client, places, Wanted::Start)?;
            let mut ends = offsets::list(client, places, Wanted::End)?;
            for (place, end) in &mut ends {
                let start = starts.get(place).copied().unwrap_or(0);
                *end = end.saturating_sub(*count).max(start);
            }
            Ok(ends)
        }
        Begin::Time(text) => {
            let now_ms = now_ms();
            let at = moment::parse(text, now_ms).unwrap_or(now_ms);
            let mut found = offsets::list(client, places, Wanted::Moment(at))?;
            // Nothing that late: whatever comes next.
            for (place, end) in offsets::list(client, places, Wanted::End)? {
                found.entry(place).or_insert(end);
            }
            Ok(found)
        }
    }
}

/// How records are printed.
enum Printer {
    Template(Template),
    Json,
}

impl Printer {
    fn new(arguments: &ConsumeArguments) -> Result<Printer, ShellError> {
        match (&arguments.template, arguments.format) {
            (Some(template), _) => {
                let template = Template::parse(template).map_err(|problem| {
                    ShellError::impossible("use the template", format!("{problem}."))
                })?;
                Ok(Printer::Template(template))
            }
            (None, RecordFormat::Json) => Ok(Printer::Json),
            (None, RecordFormat::Value) => Ok(Printer::Template(Template::value())),
        }
    }

    fn write(&self, out: &mut Vec<u8>, consumed: &Consumed<'_>) -> std::io::Result<()> {
        match self {
            Printer::Template(template) => template.write(out, consumed),
            Printer::Json => write_json(out, consumed),
        }
    }
}
