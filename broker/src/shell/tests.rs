//! The command line as a whole: what it is called, what it means, and what it refuses.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::arguments::{Acks, Begin, GroupCommand, RecordFormat, TopicCommand};
use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

fn command(line: &str) -> Command {
    let cli = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    cli.command.unwrap_or(Command::Start(cli.start))
}

/// The names that scripts rely on. A change here is a change of the interface.
const NAMES: &str = "\
corelane [config cores data listen memory node-id overprovisioned set]
corelane cluster
corelane cluster decommission [bootstrap cancel format timeout wait]
corelane cluster health [bootstrap format nodes timeout wait]
corelane cluster nodes [bootstrap format timeout]
corelane cluster recover-metadata [accept-data-loss admin by format lost]
corelane cluster status [bootstrap format timeout]
corelane completion
corelane consume [bootstrap count exit-at-end format from group isolation partition template \
timeout]
corelane dev
corelane dev cluster
corelane dev cluster add [data format timeout]
corelane dev cluster cut [data format one-way reset]
corelane dev cluster down [data format remove timeout]
corelane dev cluster heal [data format]
corelane dev cluster isolate [data format reset]
corelane dev cluster kill [data format timeout]
corelane dev cluster pause [data format timeout]
corelane dev cluster resume [data format timeout]
corelane dev cluster show [data format]
corelane dev cluster start [cores data format fresh memory nodes port set]
corelane dev cluster start-node [data format timeout]
corelane dev cluster stop [data format timeout]
corelane dev cluster wipe [data format timeout]
corelane group
corelane group delete [bootstrap format timeout]
corelane group describe [bootstrap format timeout]
corelane group list [bootstrap format state timeout]
corelane group reset [all-topics bootstrap execute format shift-by timeout to-earliest to-latest \
to-offset to-time topic]
corelane partition
corelane partition list [bootstrap format moving node offline timeout topic under-replicated]
corelane partition move [bootstrap cancel format timeout to wait]
corelane partition recover [accept-data-loss admin bootstrap by format lost offline timeout]
corelane partition recoveries [admin format]
corelane partition transfer [admin bootstrap format timeout to]
corelane produce [acks batch-bytes bootstrap compression count file format header key \
key-separator null partition size timeout]
corelane start [config cores data listen memory node-id overprovisioned set]
corelane topic
corelane topic alter [append-config bootstrap config delete-config dry-run format partitions \
subtract-config timeout]
corelane topic create [bootstrap config dry-run format if-not-exists partitions \
replication-factor timeout]
corelane topic delete [bootstrap format if-exists timeout]
corelane topic describe [all-configs bootstrap format timeout]
corelane topic list [bootstrap format internal timeout]
";

fn names(command: &clap::Command, path: &str, lines: &mut Vec<String>) {
    let mut flags: Vec<&str> = command
        .get_arguments()
        .filter_map(clap::Arg::get_long)
        .filter(|name| !["help", "version"].contains(name))
        .collect();
    flags.sort_unstable();
    lines.push(match flags.is_empty() {
        true => path.to_owned(),
        false => format!("{path} [{}]", flags.join(" ")),
    });
    for inner in command
        .get_subcommands()
        .filter(|inner| inner.get_name() != "help")
    {
        names(inner, &format!("{path} {}", inner.get_name()), lines);
    }
}

#[test]
fn commands_and_flags_keep_their_names() {
    let mut cli = Cli::command();
    cli.build();
    let mut lines = Vec::new();
    names(&cli, "corelane", &mut lines);
    lines.sort();
    assert_eq!(lines.join("\n") + "\n", NAMES);
}

#[test]
fn everything_is_explained() {
    fn explained(command: &clap::Command) {
        assert!(
            command.get_about().is_some(),
            "{} is not explained",
            command.get_name()
        );
        for argument in command.get_arguments() {
            let name = (command.get_name().to_owned(), argument.get_id().to_string());
            assert!(argument.get_help().is_some(), "{name:?} is not explained");
        }
        command.get_subcommands().for_each(explained);
    }
    let cli = Cli::command();
    cli.clone().debug_assert();
    explained(&cli);
}

#[test]
fn no_command_starts_a_broker() {
    let Command::Start(start) = command("corelane") else {
        panic!("not start")
    };
    assert!(start.settings().is_empty());
    let line = "corelane --set node.id=7 --listen 0.0.0.0:1 --data /d";
    let Command::Start(start) = command(line) else {
        panic!("not start")
    };
    let settings: Vec<(String, String)> = start.settings();
    let expected = [
        ("log.dirs", "/d"),
        ("listeners", "PLAINTEXT://0.0.0.0:1"),
        ("node.id", "7"),
    ];
    let expected: Vec<(String, String)> = expected
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    assert_eq!(settings, expected);
}

#[test]
fn the_machine_is_shared_out_by_flags() {
    let settings = |line: &str| match command(line) {
        Command::Start(start) => start.settings(),
        _ => panic!("not start"),
    };
    let set = settings("corelane --cores 0,2-3 --memory 2GiB --overprovisioned --node-id 3");
    assert_eq!(set[1], ("corelane.cores".into(), "0,2-3".into()));
    assert_eq!(set[2], ("corelane.memory".into(), "2GiB".into()));
    assert_eq!(set[3], ("corelane.overprovisioned".into(), "true".into()));
    let set = settings("corelane start --overprovisioned=false");
    assert_eq!(set, [("corelane.overprovisioned".into(), "false".into())]);
}

#[test]
fn arguments_reach_their_commands() {
    let Command::Topic(TopicCommand::Create(create)) =
        command("corelane topic create a b -p 3 -c retention.ms=5 -c x=a=b")
    else {
        panic!("not create")
    };
    assert_eq!((create.topics.len(), create.partitions), (2, Some(3)));
    assert_eq!(create.config[1], ("x".to_owned(), "a=b".to_owned()));
    let Command::Produce(produce) = command("corelane produce t -a 1 -c zstd -n 5 --size 9") else {
        panic!("not produce")
    };
    assert_eq!(
        (produce.acks, produce.count, produce.size),
        (Acks::Leader, Some(5), 9)
    );
    let Command::Consume(consume) = command("corelane consume t --from -5 -p 0,2 --format json")
    else {
        panic!("not consume")
    };
    assert_eq!(
        (&consume.from, consume.format),
        (&Begin::BeforeEnd(5), RecordFormat::Json)
    );
    assert_eq!(consume.partition, [0, 2]);
    let Command::Group(GroupCommand::Reset(reset)) =
        command("corelane group reset g -t a:0 --shift-by -5 --execute")
    else {
        panic!("not reset")
    };
    assert_eq!((reset.shift_by, reset.execute), (Some(-5), true));
}

#[test]
fn wrong_usage_is_refused() {
    let cases = [
        ("corelane topic create", ErrorKind::MissingRequiredArgument),
        ("corelane topic create t -p 0", ErrorKind::ValueValidation),
        ("corelane topic alter t", ErrorKind::MissingRequiredArgument),
        (
            "corelane produce t --size 5",
            ErrorKind::MissingRequiredArgument,
        ),
        ("corelane produce t -c brotli", ErrorKind::ValueValidation),
        (
            "corelane consume t --from middle",
            ErrorKind::ValueValidation,
        ),
        ("corelane consume t -g g -p 0", ErrorKind::ArgumentConflict),
        (
            "corelane group reset g --all-topics",
            ErrorKind::MissingRequiredArgument,
        ),
        (
            "corelane group reset g -t a --to-latest --to-earliest",
            ErrorKind::ArgumentConflict,
        ),
        (
            "corelane group reset g --to-latest",
            ErrorKind::MissingRequiredArgument,
        ),
        (
            "corelane topic list --timeout soon",
            ErrorKind::ValueValidation,
        ),
        ("corelane --set node.id", ErrorKind::ValueValidation),
        ("corelane fly", ErrorKind::InvalidSubcommand),
    ];
    for (line, expected) in cases {
        match parse(line) {
            Ok(_) => panic!("{line} was taken"),
            Err(error) => assert_eq!(error.kind(), expected, "{line}: {error}"),
        }
    }
}

#[test]
fn every_shell_gets_a_script() {
    for shell in ["bash", "zsh", "fish"] {
        let mut bytes = Vec::new();
        let command = command(&format!("corelane completion {shell}"));
        run(command, &mut Output::new(&mut bytes)).unwrap();
        let script = String::from_utf8(bytes).unwrap();
        assert!(
            script.contains("corelane") && script.contains("produce"),
            "{shell}"
        );
    }
}

#[test]
fn nobody_there_is_one_sentence_with_a_remedy() {
    // A port that was just free: nobody listens on it.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let line = format!("corelane topic list -b {free}");
    let error = run(command(&line), &mut Output::new(Vec::new()))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&free.to_string()) && error.contains("corelane start"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1);
}

#[test]
fn someone_else_on_the_port_is_noticed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stranger = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let line = format!("corelane topic list -b {address}");
    let error = run(command(&line), &mut Output::new(Vec::new()))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("does not answer like a Kafka broker"),
        "{error}"
    );
    stranger.join().unwrap();
}

#[test]
fn a_wrong_configuration_stops_the_start() {
    let Command::Start(start) = command("corelane --set num.partitons=1") else {
        panic!()
    };
    let error = settle(&start).unwrap_err().to_string();
    assert!(error.contains("Did you mean num.partitions?"), "{error}");
    let Command::Start(start) = command("corelane --config /no/such.toml") else {
        panic!()
    };
    assert!(
        settle(&start)
            .unwrap_err()
            .to_string()
            .contains("/no/such.toml")
    );
    let Command::Start(start) = command("corelane --listen 127.0.0.1:1") else {
        panic!()
    };
    assert_eq!(settle(&start).unwrap().0.node.listeners[0].bind.port, 1);
}
