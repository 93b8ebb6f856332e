//! Members join and leave while records flow, eagerly and cooperatively.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::Session;
use crate::checks::{Checks, Outcome, eventually, same};

const PARTITIONS: usize = 6;
const PATIENCE: Duration = Duration::from_secs(45);
const PROTOCOLS: [(&str, &str); 2] = [("eager", "range"), ("cooperative", "cooperative-sticky")];

pub fn run(session: &Session, checks: &Checks) {
    thread::scope(|scope| {
        for (protocol, strategy) in PROTOCOLS {
            scope.spawn(move || run_protocol(session, checks, protocol, strategy));
        }
    });
}

fn run_protocol(session: &Session, checks: &Checks, protocol: &str, strategy: &'static str) {
    let topic = session.name(&format!("group-{protocol}"));
    let ledger = Arc::new(Ledger::default());
    let group = Group {
        session,
        topic: &topic,
        strategy,
    };
    let name = |what: &str| format!("groups: {protocol}: {what}");
    checks.run(&name("rebalance while records flow"), || {
        group.rebalance(&ledger)
    });
    checks.run(
        &name("every record handled, no partition owned twice"),
        || ledger.verify(),
    );
    checks.run(&name("committed offsets reach the end"), || {
        group.committed()
    });
    checks.run(&name("resumes where it stopped"), || group.resume());
}

/// What a group was given, who owned it and what it handled, as its members report it.
#[derive(Default)]
struct Ledger {
    facts: Mutex<Facts>,
}

#[derive(Default)]
struct Facts {
    produced: [i64; PARTITIONS],
    following: [i64; PARTITIONS],
    owners: BTreeMap<i32, usize>,
    violations: Vec<String>,
}

impl Ledger {
    fn with<T>(&self, act: impl FnOnce(&mut Facts) -> T) -> T {
        act(&mut self.facts.lock().expect("no reporter panics"))
    }

    fn assigned(&self, member: usize, partition: i32) {
        self.with(|facts| match facts.owners.insert(partition, member) {
            Some(owner) if owner != member => {
                facts
                    .violations
                    .push(format!("{partition} given to {member}, owned by {owner}"));
            }
            _ => {}
        });
    }

    fn released(&self, member: usize, partition: i32) {
        self.with(|facts| {
            if facts.owners.get(&partition) == Some(&member) {
                facts.owners.remove(&partition);
            }
        });
    }

    /// No record may be skipped. Some may come again: librdkafka 2.0 commits a cooperative revocation
    /// with the generation that has just ended, so what was handled since the last commit is refused.
    fn handled(&self, member: usize, partition: i32, offset: i64) {
        self.with(|facts| {
            let expected = facts.following[partition as usize];
            if offset > expected {
                let place = format!("{offset} of {partition}");
                facts
                    .violations
                    .push(format!("{member} got {place} instead of {expected}"));
            }
            facts.following[partition as usize] = expected.max(offset + 1);
        });
    }

    fn complete(&self) -> bool {
        self.with(|facts| facts.produced == facts.following)
    }

    fn verify(&self) -> Outcome {
        self.with(|facts| {
            same(
                "anything was produced",
                true,
                facts.produced.iter().sum::<i64>() > 0,
            )?;
            same("handled up to", facts.produced, facts.following)?;
            same("violations", &Vec::new(), &facts.violations)
        })
    }
}

/// What the rebalance callbacks of a member need; they run inside its poll.
struct MemberContext {
    number: usize,
    topic: String,
    ledger: Arc<Ledger>,
    owned: AtomicUsize,
    handled: AtomicUsize,
    /// Next offsets that are not committed yet.
    uncommitted: Mutex<BTreeMap<i32, i64>>,
    /// The consumer that this belongs to: a revocation must commit through it.
    consumer: OnceLock<Weak<BaseConsumer<MemberContext>>>,
    problem: Mutex<Option<String>>,
}

impl ClientContext for MemberContext {}

impl ConsumerContext for MemberContext {
    fn pre_rebalance<'a>(&self, rebalance: &Rebalance<'a>) {
        if let Rebalance::Revoke(partitions) = rebalance {
            let consumer = self.consumer.get().and_then(Weak::upgrade);
            if let Some(Err(problem)) = consumer.map(|consumer| commit_if_possible(&consumer)) {
                *self.problem.lock().expect("one thread only") = Some(problem.to_string());
            }
            let mut uncommitted = self.uncommitted.lock().expect("one thread only");
            for partition in numbers(partitions) {
                // What was refused comes again, to the next owner. Committed later from here, it would undo
                // what that one has committed meanwhile.
                uncommitted.remove(&partition);
                self.ledger.released(self.number, partition);
            }
            self.owned.fetch_sub(partitions.count(), Ordering::Relaxed);
        }
    }

    fn post_rebalance<'a>(&self, rebalance: &Rebalance<'a>) {
        if let Rebalance::Assign(partitions) = rebalance {
            for partition in numbers(partitions) {
                self.ledger.assigned(self.number, partition);
            }
            self.owned.fetch_add(partitions.count(), Ordering::Relaxed);
        }
    }
}

/// This version of the crate makes a slice of a null pointer when a list is empty.
fn numbers(partitions: &TopicPartitionList) -> Vec<i32> {
    match partitions.count() {
        0 => Vec::new(),
        _ => partitions
            .elements()
            .iter()
            .map(|at| at.partition())
            .collect(),
    }
}

struct Member {
    consumer: Arc<BaseConsumer<MemberContext>>,
    leaving: Arc<AtomicBool>,
    thread: JoinHandle<Outcome>,
}

impl Member {
    fn owned(&self) -> usize {
        self.consumer.context().owned.load(Ordering::Relaxed)
    }

    fn handled(&self) -> usize {
        self.consumer.context().handled.load(Ordering::Relaxed)
    }

    fn leave(self) -> Outcome {
        self.leaving.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "a member panicked")?
    }
}

fn consume(consumer: &BaseConsumer<MemberContext>, leaving: &AtomicBool) -> Outcome {
    let context = consumer.context();
    let mut waiting = 0;
    loop {
        let leaves = leaving.load(Ordering::Relaxed);
        let polled = consumer.poll(Duration::from_millis(20)).transpose()?;
        let idle = polled.is_none();
        if let Some(message) = polled {
            context
                .ledger
                .handled(context.number, message.partition(), message.offset());
            context.handled.fetch_add(1, Ordering::Relaxed);
            let mut uncommitted = context.uncommitted.lock().expect("one thread only");
            uncommitted.insert(message.partition(), message.offset() + 1);
            waiting += 1;
        }
        if idle || leaves || waiting >= 100 {
            waiting = 0;
            commit_if_possible(consumer)?;
        }
        if let Some(problem) = context.problem.lock().expect("one thread only").take() {
            return Err(format!("commit at a revocation: {problem}").into());
        }
        // One that left before may have begun a rebalance, which refuses commits until polls have ended it.
        let settled = context
            .uncommitted
            .lock()
            .expect("one thread only")
            .is_empty();
        if leaves && settled {
            consumer.unsubscribe();
            return Ok(());
        }
    }
}

/// During a rebalance the offsets stay, and go out at the revocation or the next time.
fn commit_if_possible(consumer: &BaseConsumer<MemberContext>) -> Outcome {
    match commit(consumer) {
        Err(KafkaError::ConsumerCommit(
            RDKafkaErrorCode::RebalanceInProgress | RDKafkaErrorCode::IllegalGeneration,
        )) => Ok(()),
        other => Ok(other?),
    }
}

fn commit(consumer: &BaseConsumer<MemberContext>) -> KafkaResult<()> {
    let context = consumer.context();
    let mut uncommitted = context.uncommitted.lock().expect("one thread only");
    if uncommitted.is_empty() {
        return Ok(());
    }
    let mut offsets = TopicPartitionList::new();
    for (&partition, &next) in uncommitted.iter() {
        offsets.add_partition_offset(&context.topic, partition, Offset::Offset(next))?;
    }
    consumer.commit(&offsets, CommitMode::Sync)?;
    uncommitted.clear();
    Ok(())
}

struct Group<'a> {
    session: &'a Session,
    topic: &'a str,
    strategy: &'static str,
}

impl Group<'_> {
    fn config(&self) -> rdkafka::ClientConfig {
        let mut config = self.session.consumer(self.topic);
        config
            .set("partition.assignment.strategy", self.strategy)
            .set("session.timeout.ms", "15000")
            .set("heartbeat.interval.ms", "500");
        config
    }

    fn join(&self, number: usize, ledger: &Arc<Ledger>) -> Outcome<Member> {
        let context = MemberContext {
            number,
            topic: self.topic.to_owned(),
            ledger: Arc::clone(ledger),
            owned: AtomicUsize::new(0),
            handled: AtomicUsize::new(0),
            uncommitted: Mutex::default(),
            consumer: OnceLock::new(),
            problem: Mutex::default(),
        };
        let consumer = BaseConsumer::from_config_and_context(&self.config(), context)?;
        let (consumer, leaving) = (Arc::new(consumer), Arc::new(AtomicBool::new(false)));
        consumer
            .context()
            .consumer
            .get_or_init(|| Arc::downgrade(&consumer));
        consumer.subscribe(&[self.topic])?;
        let thread = thread::spawn({
            let (consumer, leaving) = (Arc::clone(&consumer), Arc::clone(&leaving));
            move || consume(&consumer, &leaving)
        });
        Ok(Member {
            consumer,
            leaving,
            thread,
        })
    }

    fn rebalance(&self, ledger: &Arc<Ledger>) -> Outcome {
        self.session
            .create_topic(self.topic, PARTITIONS as i32, &[])?;
        let enough = AtomicBool::new(false);
        thread::scope(|scope| {
            let producing = scope.spawn(|| self.produce_until(&enough, ledger));
            let mut members = Vec::new();
            let outcome = self.join_and_leave(&mut members, ledger);
            enough.store(true, Ordering::Relaxed);
            let produced = producing.join().map_err(|_| "the producer panicked")?;
            let handled = outcome.and(produced).and_then(|()| {
                eventually("all records handled", PATIENCE, || Ok(ledger.complete()))
            });
            let left: Outcome = members.into_iter().try_for_each(Member::leave);
            // A member that failed explains why its group did.
            left.and(handled)
        })
    }

    fn join_and_leave(&self, members: &mut Vec<Member>, ledger: &Arc<Ledger>) -> Outcome {
        for number in 0..4 {
            if number == 3 {
                members.remove(0).leave()?;
                balanced(members)?;
            }
            members.push(self.join(number, ledger)?);
            balanced(members)?;
        }
        Ok(())
    }

    fn produce_until(&self, enough: &AtomicBool, ledger: &Ledger) -> Outcome {
        let producer = self.producer()?;
        for number in 0.. {
            if enough.load(Ordering::Relaxed) {
                break;
            }
            let partition = number % PARTITIONS;
            self.send(&producer, partition)?;
            // Counted when sent: the suite ends only when all of them were handled.
            ledger.with(|facts| facts.produced[partition] += 1);
            producer.poll(Duration::from_millis(2));
        }
        Ok(producer.flush(PATIENCE)?)
    }

    fn producer(&self) -> Outcome<BaseProducer> {
        let mut config = self.session.config();
        Ok(config
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            .create()?)
    }

    fn send(&self, producer: &BaseProducer, partition: usize) -> Outcome {
        let record = BaseRecord::<(), str>::to(self.topic).partition(partition as i32);
        producer
            .send(record.payload("record"))
            .map_err(|(error, _)| error.into())
    }

    fn committed(&self) -> Outcome {
        let consumer: BaseConsumer = self.config().create()?;
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_range(self.topic, 0, PARTITIONS as i32 - 1);
        for at in consumer.committed_offsets(wanted, PATIENCE)?.elements() {
            let (_, end) = consumer.fetch_watermarks(self.topic, at.partition(), PATIENCE)?;
            same(
                &format!("partition {}", at.partition()),
                Offset::Offset(end),
                at.offset(),
            )?;
        }
        Ok(())
    }

    /// A new member of the old group gets exactly what was produced since the last commit.
    fn resume(&self) -> Outcome {
        const EXTRA: usize = 60;
        let producer = self.producer()?;
        for number in 0..EXTRA {
            self.send(&producer, number % PARTITIONS)?;
        }
        producer.flush(PATIENCE)?;
        let consumer: BaseConsumer = self.config().create()?;
        consumer.subscribe(&[self.topic])?;
        let mut seen = 0;
        eventually("the new records", PATIENCE, || {
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                message?;
                seen += 1;
            }
            Ok(seen >= EXTRA)
        })?;
        let more = consumer.poll(Duration::from_millis(300)).is_some();
        same("a record beyond the new ones", false, more)
    }
}

/// All partitions are owned, each member has its share, and each goes on handling records.
fn balanced(members: &[Member]) -> Outcome {
    eventually(
        &format!("balance of {} members", members.len()),
        PATIENCE,
        || {
            if members.iter().any(|member| member.thread.is_finished()) {
                return Err("a member ended by itself".into());
            }
            let owned: Vec<usize> = members.iter().map(Member::owned).collect();
            let fair = owned.iter().all(|has| *has >= PARTITIONS / members.len());
            Ok(fair && owned.iter().sum::<usize>() == PARTITIONS)
        },
    )?;
    for member in members {
        let before = member.handled();
        eventually("progress of each member", PATIENCE, || {
            Ok(member.handled() > before)
        })?;
    }
    Ok(())
}
