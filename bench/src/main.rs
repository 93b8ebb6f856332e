//! `bench`: what a broker can do, in figures that can be trusted.
//!
//! [`load`] is the load generator, [`compare`] runs the workloads of docs/benchmarks.md on Corelane
//! and on Apache Kafka in turn, [`echo`] compares runtimes, [`machine`] reads what was spent and
//! what is possible, [`null`] is the floor, [`sim`] plays
//! the broker's simulation. But for that, nothing in here knows how a broker works inside: it
//! talks Kafka's protocol and watches processes.

mod arguments;
mod clock;
mod compare;
mod echo;
mod error;
mod failover;
mod latency;
mod load;
mod machine;
mod null;
mod schedule;
mod sim;
mod table;
mod wire;

use std::fs;
use std::net::TcpListener;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use arguments::{Arguments, Command, LimitsArguments, LoadArguments, NullArguments};
use error::{During, Result};
use load::{Pace, Producing, ReadFrom, Reading, Spec};
use table::{Table, number, time_us};

/// That of the broker, which is played in here by [`sim`].
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long a topic may take to be created and led.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(60);
const LIMITS_FILE_BYTES: u64 = 1 << 30;

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Load(arguments) => load(arguments),
        Command::Compare(arguments) => compare::compare(arguments),
        Command::Echo(arguments) => echo::compare(arguments),
        Command::EchoServe(arguments) => echo::serve(arguments),
        Command::Limits(arguments) => limits(arguments),
        Command::Null(arguments) => null(arguments),
        Command::Sim(arguments) => sim::simulate(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn load(arguments: LoadArguments) -> Result<()> {
    if let Some(cpu) = arguments.cpu {
        machine::pin_thread(&[cpu]).during(format!("pinning to CPU {cpu}"))?;
    }
    let mut control = wire::Control::connect(arguments.bootstrap, TOPIC_TIMEOUT)?;
    let placement = wire::Placement::Anywhere(arguments.replicas);
    control.create_topic(
        &arguments.topic,
        arguments.partitions,
        placement,
        &arguments.config,
    )?;
    let topic = control.topic(&arguments.topic)?;
    let outcome = load::run(&spec(&arguments, topic))?;
    if arguments.json {
        println!("{}", json(&outcome));
    } else {
        print!("{}", outcome.table());
    }
    Ok(())
}

fn spec(arguments: &LoadArguments, topic: wire::Topic) -> Spec {
    let pace = match (arguments.unbounded, arguments.closed) {
        (true, _) => Pace::Unbounded,
        (_, true) => Pace::OneByOne,
        _ => Pace::PerSecond(arguments.rate),
    };
    let producing = Producing {
        producers: arguments.producers,
        pace,
        linger: Duration::from_micros(arguments.linger_us),
        batch_bytes: arguments.batch_bytes,
        request_bytes: arguments.request_bytes,
        in_flight_max: arguments.in_flight,
        acks: arguments.acks,
        idempotent: !arguments.not_idempotent,
        keyed: arguments.keyed,
    };
    let from = if arguments.from_beginning {
        ReadFrom::Beginning
    } else {
        ReadFrom::End
    };
    Spec {
        address: arguments.bootstrap,
        topic,
        message_bytes: arguments.size,
        producing: (arguments.producers > 0).then_some(producing),
        reading: (arguments.readers > 0).then(|| Reading::new(arguments.readers, from)),
        warm_up: arguments.warm_up,
        duration: arguments.duration,
        brokers: arguments
            .pid
            .iter()
            .copied()
            .map(machine::Process)
            .collect(),
    }
}

fn limits(arguments: LimitsArguments) -> Result<()> {
    let LimitsArguments {
        data,
        duration,
        json: as_json,
    } = arguments;
    fs::create_dir_all(&data).during(format!("creating {}", data.display()))?;
    let cpus = machine::available_cpus();
    let limits = machine::measure_limits(&data, LIMITS_FILE_BYTES, duration, &cpus)?;
    if as_json {
        println!("{}", json(&limits));
    } else {
        print!("{}", limits_table(&limits));
    }
    Ok(())
}

/// The limits for people.
fn limits_table(limits: &machine::Limits) -> Table {
    let mut table = Table::new(["limit", "value"]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    let mb_s = |value: f64| format!("{} MB/s", number(value));
    row(
        "sequential O_DIRECT write, 1 MiB pieces, rewritten extents",
        mb_s(limits.direct_write_mb_s),
    );
    row(
        "durable write (O_DIRECT, O_DSYNC) of 16 KiB, rewritten extents",
        format!(
            "{}/s, p50 {}",
            number(limits.durable_writes_per_s),
            time_us(limits.durable_write_p50_us)
        ),
    );
    row(
        "loopback round trip, 64 bytes, two cores, p50",
        time_us(limits.loopback_rtt_p50_us),
    );
    let cpu = limits
        .loopback_cpu_s_per_gb
        .map_or_else(String::new, |cpu| {
            format!(", {} CPU-s/GB of the machine", number(cpu))
        });
    row(
        "loopback stream, 256 KiB pieces",
        format!("{}{cpu}", mb_s(limits.loopback_mb_s)),
    );
    table
}

fn null(arguments: NullArguments) -> Result<()> {
    if let Some(cpu) = arguments.cpu {
        machine::pin_thread(&[cpu]).during(format!("pinning to CPU {cpu}"))?;
    }
    let what = format!("listening at {}", arguments.listen);
    let listener = TcpListener::bind(arguments.listen).during(what)?;
    null::serve(listener)
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("results are plain numbers and names")
}
