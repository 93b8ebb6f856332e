//! The rules of the house, held against the source tree.
//!
//! A rule is a function from the tree to its violations, each as `path:line: what`. Every rule has a
//! test with two halves: the workspace keeps it, and small made-up trees that break it are caught.
//! The messages say how to comply. A rule that is in the way is changed here, with a reason, and not
//! worked around.

#[path = "house/manifest.rs"]
mod manifest;
#[path = "house/source.rs"]
mod source;

use manifest::dependencies;
use source::{Source, Tree};

/// The crates by the folder they live in, from the ground up. A crate may use those below it.
const FLOORS: [(&str, &str, u32); 6] = [
    ("runtime", "runtime", 0),
    ("protocol", "protocol", 0),
    ("storage", "storage", 1),
    ("raft", "raft-group", 2),
    ("broker", "broker", 3),
    ("bench", "bench", 4),
];

/// What decides: state machines that must replay, and those who feed them.
const DECIDING: &[&str] = &[
    "protocol/src",
    "storage/src",
    "raft/src",
    "broker/src/cluster",
    "broker/src/connection.rs",
    "broker/src/groups",
    "broker/src/handlers",
    "broker/src/node.rs",
    "broker/src/partition",
    "broker/src/shard",
    "broker/src/transactions",
];

/// Who may ask the operating system without the runtime, each for a reason.
const OUTSIDE: &[&str] = &[
    "runtime/",
    "bench/",
    // The process around a node: before the cores run and after.
    "broker/src/start.rs",
    // What the machine has is asked before the cores run.
    "broker/src/machine.rs",
    // A client like any other, on blocking sockets.
    "broker/src/shell",
    // The side thread (DESIGN D9).
    "broker/src/admin",
    // The configuration file is read before the cores run.
    "broker/src/config/load.rs",
    // Names of listeners are resolved before the cores run.
    "broker/src/config/listener.rs",
    // The lock of a data directory belongs to the process, not to a core.
    "storage/src/data_dir.rs",
];

/// Fails with all violations of a rule and the way to comply.
fn keeps(rule: fn(&Tree) -> Vec<String>, comply: &str) {
    let violations = rule(&Tree::of_workspace());
    assert!(
        violations.is_empty(),
        "\n{}\n\n{comply}\n",
        violations.join("\n")
    );
}

/// The violations of a rule in a tree of one file.
fn in_file(rule: fn(&Tree) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
    rule(&Tree::of(vec![(path.to_owned(), text.to_owned())]))
}

fn floor(folder: &str) -> Option<u32> {
    FLOORS
        .iter()
        .find(|(name, ..)| *name == folder)
        .map(|(.., floor)| *floor)
}

fn upward_dependencies(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for dependency in dependencies(tree) {
        let Some((folder, ..)) = FLOORS.iter().find(|(_, name, _)| *name == dependency.name) else {
            continue;
        };
        let (from, to) = (floor(&dependency.of), floor(folder));
        let is_itself = dependency.is_for_tests && dependency.of == *folder;
        if from <= to && !is_itself {
            found.push(format!(
                "{}: {} uses {folder}",
                dependency.place, dependency.of
            ));
        }
    }
    found
}

#[test]
fn dependencies_run_downhill() {
    keeps(
        upward_dependencies,
        "Crates use those below them only: runtime, protocol <- storage <- raft <- broker <- bench. \
         Move what is wanted down, or hand it in as a value or a closure.",
    );
    let breaks = |path, text| in_file(upward_dependencies, path, text).len();
    assert_eq!(
        breaks("storage/Cargo.toml", "[dependencies]\nraft-group = {}"),
        1
    );
    assert_eq!(
        breaks("protocol/Cargo.toml", "[dev-dependencies]\nruntime = {}"),
        1
    );
    assert_eq!(
        breaks("protocol/Cargo.toml", "[dependencies]\nprotocol = {}"),
        1
    );
    assert_eq!(
        breaks("protocol/Cargo.toml", "[dev-dependencies]\nprotocol = {}"),
        0
    );
    assert_eq!(
        breaks(
            "broker/Cargo.toml",
            "[dependencies]\nraft-group.workspace = true"
        ),
        0
    );
}

#[test]
fn every_crate_has_its_floor() {
    let tree = Tree::of_workspace();
    let root = tree
        .0
        .iter()
        .find(|source| source.path == "Cargo.toml")
        .expect("the root's manifest");
    let line = root
        .text
        .lines()
        .find(|line| line.starts_with("members = "))
        .expect("members");
    let members: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
    let known: Vec<&str> = FLOORS.iter().map(|(folder, ..)| *folder).collect();
    assert_eq!(
        members, known,
        "give a new crate its floor in broker/tests/house.rs (FLOORS)"
    );
}

fn ring_named(tree: &Tree) -> Vec<String> {
    let rooms = ["runtime/", "bench/"];
    let mut found = Vec::new();
    for source in tree.ending(".rs").filter(|source| !source.is_below(&rooms)) {
        found.extend(source.uses(&["io_uring", "glommio"]));
    }
    for dependency in dependencies(tree) {
        let is_ring = ["io-uring", "glommio", "tokio-uring"].contains(&dependency.name.as_str());
        if is_ring && !["runtime", "bench"].contains(&dependency.of.as_str()) {
            found.push(format!("{}: {}", dependency.place, dependency.name));
        }
    }
    found
}

#[test]
fn the_ring_is_named_in_runtime_only() {
    keeps(
        ring_named,
        "Only runtime/ (and bench/, to compare) may name io_uring or glommio. Ask runtime for files, \
         sockets, timers and mail; add to its seam what it lacks.",
    );
    assert_eq!(
        in_file(ring_named, "storage/src/a.rs", "use io_uring::IoUring;").len(),
        1
    );
    assert_eq!(
        in_file(ring_named, "storage/src/a.rs", "// io_uring\n\"io_uring\"").len(),
        0
    );
    assert_eq!(
        in_file(
            ring_named,
            "broker/Cargo.toml",
            "[dependencies]\nglommio = {}"
        )
        .len(),
        1
    );
}

fn replays_entangled(tree: &Tree) -> Vec<String> {
    let replays = ["partition", "groups", "transactions", "share", "cluster"];
    let mut found = Vec::new();
    for replay in replays {
        let folder = format!("broker/src/{replay}");
        for source in tree
            .ending(".rs")
            .filter(|source| source.is_below(&[&folder]))
        {
            for module in source.modules_named() {
                let is_other = replays.contains(&module.as_str()) && module != replay;
                let waits = ["handlers", "shard", "connection", "node", "admin", "shell"];
                if is_other || waits.contains(&module.as_str()) {
                    found.push(format!("{}: crate::{module}", source.path));
                }
            }
        }
    }
    found
}

#[test]
fn replays_know_neither_each_other_nor_who_waits() {
    keeps(
        replays_entangled,
        "partition, groups, transactions, share and cluster are replays of their own committed logs. \
         They never import each other, a handler or the shard: take a value as an argument and give \
         one back; shard/ brings them together.",
    );
    let breaks = |path, text| in_file(replays_entangled, path, text);
    let told = ["broker/src/groups/join.rs: crate::shard"];
    assert_eq!(
        breaks(
            "broker/src/groups/join.rs",
            "use crate::{config::X, shard::Shard};"
        ),
        told
    );
    assert_eq!(
        breaks(
            "broker/src/groups/join.rs",
            "fn f(x: super::super::shard::X) {}"
        ),
        told
    );
    assert_eq!(
        breaks("broker/src/partition/mod.rs", "use super::cluster::Topic;").len(),
        1
    );
    assert_eq!(
        breaks("broker/src/groups/join.rs", "use super::cluster;").len(),
        0
    );
    assert_eq!(
        breaks("broker/src/groups/join.rs", "use crate::groups::X;").len(),
        0
    );
}

fn handlers_touch_storage(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for source in tree.below(&["broker/src/handlers"]) {
        let names = [
            "raft_group",
            "Journal",
            "ReadJob",
            "ReadPlan",
            "File",
            "Disk",
            "Replica",
        ];
        found.extend(source.uses(&names));
        for (at, path) in source.code.match_indices("storage::") {
            let item = source.code[at + path.len()..].trim_start_matches(['{', ' ']);
            if !item.starts_with("PartitionId") || item.split(';').next().unwrap().contains(',') {
                let line = source.code[..at].matches('\n').count() + 1;
                found.push(format!(
                    "{}:{line}: storage beyond PartitionId",
                    source.path
                ));
            }
        }
    }
    found
}

#[test]
fn handlers_touch_no_storage() {
    keeps(
        handlers_touch_storage,
        "A handler decodes, asks the owners by mail, awaits and answers. Of storage it may name \
         PartitionId; whatever reads or writes is asked of the owner (shard/mail.rs).",
    );
    let breaks = |text| in_file(handlers_touch_storage, "broker/src/handlers/a.rs", text).len();
    assert_eq!(breaks("use storage::PartitionId;"), 0);
    assert_eq!(breaks("use storage::{PartitionId, Options};"), 1);
    assert_eq!(breaks("fn f(log: storage::Log) {}"), 1);
    assert_eq!(breaks("fn f(job: ReadJob) {}"), 1);
}

const LINES_MAX: usize = 800;

fn long_files(tree: &Tree) -> Vec<String> {
    let long = |source: &&Source| source.text.lines().count() > LINES_MAX;
    let told = |source: &Source| format!("{}: {}", source.path, source.text.lines().count());
    tree.ending(".rs").filter(long).map(told).collect()
}

#[test]
fn files_are_short() {
    keeps(
        long_files,
        "A file has at most 800 lines. Split it by meaning, not by count.",
    );
    assert_eq!(
        in_file(long_files, "raft/src/a.rs", &"\n".repeat(LINES_MAX)).len(),
        0
    );
    assert_eq!(
        in_file(long_files, "raft/src/a.rs", &"\n".repeat(LINES_MAX + 1)).len(),
        1
    );
}

fn unfinished(tree: &Tree) -> Vec<String> {
    // Spelt in pieces, so that this file keeps the rule as well.
    let words = [
        concat!("to", "do!"),
        concat!("unimple", "mented!"),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("#[ig", "nore"),
    ];
    let mut found = Vec::new();
    for source in &tree.0 {
        for (number, line) in source.text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                found.push(format!("{}:{}: {word}", source.path, number + 1));
            }
        }
    }
    found
}

#[test]
fn nothing_is_left_for_later() {
    keeps(
        unfinished,
        "No stubs, no notes to oneself, no tests that are switched off: finish it, or say in the \
         module's documentation what is deliberately absent.",
    );
    let later = concat!("// TO", "DO: later");
    assert_eq!(in_file(unfinished, "raft/src/a.rs", later).len(), 1);
    let off = concat!("#[test]\n#[ig", "nore = \"slow\"]\nfn f() {}");
    assert_eq!(
        in_file(unfinished, "raft/tests/a.rs", off),
        [concat!("raft/tests/a.rs:2: #[ig", "nore")]
    );
}

fn vague_names(tree: &Tree) -> Vec<String> {
    let vague = [
        "manager", "helper", "util", "common", "impl", "deps", "misc",
    ];
    let is_vague = |part: &str| {
        let words = part.trim_end_matches(".rs").split(['_', '-', '.']);
        words.map(|word| word.trim_end_matches('s')).any(|word| {
            vague
                .iter()
                .any(|vague| word == vague.trim_end_matches('s'))
        })
    };
    let has_vague = |source: &&Source| source.path.split('/').any(is_vague);
    tree.ending(".rs")
        .filter(has_vague)
        .map(|source| source.path.clone())
        .collect()
}

#[test]
fn files_are_named_for_what_they_are() {
    keeps(
        vague_names,
        "manager, helper, util, common, impl, deps and misc mean that the thing is not yet \
         understood. Name the file after what it knows or does, in the field's nouns.",
    );
    for path in [
        "raft/src/log_utils.rs",
        "broker/src/common/a.rs",
        "bench/src/deps.rs",
    ] {
        assert_eq!(in_file(vague_names, path, "").len(), 1, "{path}");
    }
    assert_eq!(in_file(vague_names, "raft/src/commonest.rs", "").len(), 0);
}

/// The generic arguments that follow, at the top level of their brackets.
fn arguments(code: &str) -> usize {
    let mut depth = 0;
    let mut count = 1;
    let mut before = ' ';
    for c in code.chars() {
        match c {
            '<' | '(' | '[' => depth += 1,
            // Not the arrow of a function's type.
            '>' if before == '-' => {}
            '>' | ')' | ']' => {
                depth -= 1;
                if depth == 0 {
                    return count;
                }
            }
            ',' if depth == 1 => count += 1,
            _ => {}
        }
        before = c;
    }
    count
}

fn random_order(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for source in tree.below(DECIDING) {
        let names = [
            "RandomState",
            "HashMap::new",
            "HashSet::new",
            "HashMap::with_capacity",
        ];
        found.extend(source.uses(&names));
        for (name, own) in [("HashMap<", 2), ("HashSet<", 1)] {
            for (at, _) in source.code.match_indices(name) {
                if arguments(&source.code[at + name.len() - 1..]) <= own {
                    let line = source.code[..at].matches('\n').count() + 1;
                    found.push(format!("{}:{line}: {name} without a hasher", source.path));
                }
            }
        }
    }
    found
}

#[test]
fn what_decides_iterates_in_a_fixed_order() {
    keeps(
        random_order,
        "A map with random keys iterates differently in every run, and a seed would not replay. Use \
         a BTreeMap, or a HashMap with a fixed hasher (shard::FixedHasher) that is never iterated.",
    );
    let breaks = |text| in_file(random_order, "storage/src/a.rs", text).len();
    assert_eq!(breaks("struct S { m: HashMap<u32, Vec<(u8, u8)>> }"), 1);
    assert_eq!(
        breaks("struct S { m: HashMap<u32, fn(u8) -> u8, Fixed> }"),
        0
    );
    assert_eq!(breaks("let m = HashMap::new();"), 1);
    assert_eq!(
        breaks("#[cfg(test)]\nmod tests { fn f() { HashSet::new(); } }"),
        0
    );
    assert_eq!(
        in_file(random_order, "broker/src/shell/a.rs", "HashMap::new()").len(),
        0
    );
}

fn asks_the_system(tree: &Tree) -> Vec<String> {
    let names = [
        "Instant::now",
        "SystemTime",
        "thread::sleep",
        "thread::spawn",
        "thread_rng",
        "std::fs",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "ToSocketAddrs",
    ];
    let inside = tree
        .ending(".rs")
        .filter(|source| !source.is_below(OUTSIDE));
    inside.flat_map(|source| source.uses(&names)).collect()
}

#[test]
fn clocks_files_and_sockets_come_from_the_runtime() {
    keeps(
        asks_the_system,
        "Time is an argument (`now`, `wall_ms`), randomness a seed, and whatever waits asks \
         runtime::Core. Only those in OUTSIDE (broker/tests/house.rs) may ask the system, each for a \
         reason; the simulator controls everything else.",
    );
    let breaks = |text| in_file(asks_the_system, "broker/src/shard/a.rs", text).len();
    assert_eq!(breaks("let t = std::time::Instant::now();"), 1);
    assert_eq!(
        breaks("fn f(now: Instant) { std::fs::read(p); thread::sleep(d); }"),
        2
    );
    assert_eq!(breaks("use std::net::SocketAddr; fn f(i: Instant) {}"), 0);
    assert_eq!(
        breaks("fn f() {}\n#[cfg(test)]\nmod tests { use std::fs; }"),
        0
    );
}

#[test]
fn every_exception_is_still_needed() {
    let tree = Tree::of_workspace();
    for place in OUTSIDE {
        let known = tree.ending(".rs").any(|source| source.is_below(&[place]));
        assert!(
            known,
            "{place} is no more: remove it from OUTSIDE (broker/tests/house.rs)"
        );
    }
}

fn shared_state(tree: &Tree) -> Vec<String> {
    let names = [
        "Mutex",
        "RwLock",
        "Condvar",
        "std::sync::atomic",
        "thread_local!",
        "static mut",
    ];
    let inside = tree
        .ending(".rs")
        .filter(|source| !source.is_below(OUTSIDE));
    inside.flat_map(|source| source.uses(&names)).collect()
}

#[test]
fn cores_share_nothing() {
    keeps(
        shared_state,
        "Each fact has one owner (DESIGN, law 2). A lock, an atomic or a thread-local outside \
         runtime/ means that a second owner was found: send mail instead.",
    );
    let breaks = |text| in_file(shared_state, "broker/src/shard/a.rs", text).len();
    assert_eq!(breaks("use std::sync::Mutex;"), 1);
    assert_eq!(breaks("use std::sync::atomic::AtomicU64;"), 1);
    assert_eq!(breaks("use std::sync::Arc;"), 0);
}

fn dependencies_without_reason(tree: &Tree) -> Vec<String> {
    let told = dependencies(tree)
        .into_iter()
        .filter(|dependency| dependency.reason.is_empty());
    told.map(|dependency| format!("{}: {}", dependency.place, dependency.name))
        .collect()
}

#[test]
fn every_dependency_has_its_reason() {
    keeps(
        dependencies_without_reason,
        "Say behind the dependency, or on the line above, what it is for: `bytes = { workspace = \
         true } # batches are slices`.",
    );
    let breaks = |text| in_file(dependencies_without_reason, "raft/Cargo.toml", text);
    let bare =
        "[dependencies]\nslab = { workspace = true }\nbytes = {} # slices\n[lib]\nname = \"x\"";
    assert_eq!(breaks(bare), ["raft/Cargo.toml:2: slab"]);
    assert_eq!(breaks("[dependencies]\n# Tickets.\nslab = {}").len(), 0);
    assert_eq!(breaks("# All.\n[dependencies]\nslab = {}").len(), 1);
    assert_eq!(breaks("[dependencies]\n# All.\n\nslab = {}").len(), 1);
    assert_eq!(
        breaks("[target.'cfg(unix)'.dev-dependencies]\nlibc = {} #").len(),
        1
    );
}

fn versions_in_crates(tree: &Tree) -> Vec<String> {
    let has_version = |line: &str| !line.contains("workspace") && !line.contains("path");
    let told = dependencies(tree)
        .into_iter()
        .filter(|dependency| has_version(&dependency.line));
    told.map(|dependency| format!("{}: {}", dependency.place, dependency.line))
        .collect()
}

#[test]
fn versions_stand_in_the_root_only() {
    keeps(
        versions_in_crates,
        "One version of each crate for the whole house: put it into [workspace.dependencies] of the \
         root and say `workspace = true` here.",
    );
    let breaks = |text| in_file(versions_in_crates, "raft/Cargo.toml", text).len();
    assert_eq!(breaks("[dependencies]\nslab = \"0.4\" # tickets"), 1);
    assert_eq!(
        breaks("[dependencies]\nslab = { workspace = true } # tickets"),
        0
    );
}

fn crates_without_page(tree: &Tree) -> Vec<String> {
    let has = |path: &str| tree.0.iter().any(|source| source.path == path);
    let pages = tree
        .ending("/Cargo.toml")
        .map(|source| source.path.replace("Cargo.toml", "README.md"));
    pages.filter(|page| !has(page)).collect()
}

#[test]
fn every_crate_has_a_page() {
    keeps(
        crates_without_page,
        "Each crate has a README.md: what it does, its files in a sentence each, its invariants.",
    );
    assert_eq!(
        in_file(crates_without_page, "raft/Cargo.toml", ""),
        ["raft/README.md"]
    );
}

fn files_that_pages_miss(tree: &Tree) -> Vec<String> {
    let has = |path: &str| tree.0.iter().any(|source| source.path == path);
    let mut found = Vec::new();
    for page in tree.ending("/README.md") {
        let folder = page.path.trim_end_matches("README.md");
        let named = page.text.split('`').skip(1).step_by(2);
        for file in named.filter(|name| name.ends_with(".rs") && !name.contains(' ')) {
            if !has(&format!("{folder}{file}")) && !has(&format!("{folder}src/{file}")) {
                found.push(format!("{}: {file}", page.path));
            }
        }
    }
    found
}

#[test]
fn pages_name_files_that_are_there() {
    keeps(
        files_that_pages_miss,
        "A README.md that names a file of its crate, by its path below the crate or below src/, \
         moves with that file.",
    );
    assert_eq!(
        in_file(
            files_that_pages_miss,
            "raft/README.md",
            "See `votes.rs` and `cargo`."
        ),
        ["raft/README.md: votes.rs"]
    );
}

fn modules_without_head(tree: &Tree) -> Vec<String> {
    let crates = tree
        .ending(".rs")
        .filter(|source| source.path.contains("/src/"));
    let bare = crates.filter(|source| !source.text.trim_start().starts_with("//!"));
    bare.map(|source| source.path.clone()).collect()
}

#[test]
fn every_file_says_what_it_is() {
    keeps(
        modules_without_head,
        "A file opens with `//!`: what it does, what it must not know, what is deliberately absent.",
    );
    assert_eq!(
        in_file(modules_without_head, "raft/src/a.rs", "use std::fmt;").len(),
        1
    );
    assert_eq!(
        in_file(modules_without_head, "raft/src/a.rs", "//! Votes.").len(),
        0
    );
}

/// The rules are only as good as what they are shown.
#[test]
fn the_scanner_sees_code_and_nothing_else() {
    let code = |text: &str| {
        Tree::of(vec![("raft/src/a.rs".into(), text.into())])
            .0
            .remove(0)
            .code
    };
    let kept = |text: &str| code(text).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(kept("a /* b /* c */ d */ e // f\n g"), "a e g");
    assert_eq!(kept(r##"a "b \" c" d r#"e " f"# g br"h" i"##), "a d g b i");
    assert_eq!(kept(r"a '\'' b '{' c 'd f<'e>('x')"), "a b c 'd f<'e>( )");
    assert_eq!(kept("for x in y {}"), "for x in y {}");
    assert_eq!(kept("a #[cfg(test)] const X: [u8; 2] = [1; 2]; b"), "a b");
    assert_eq!(kept("a #[cfg(test)] mod t { fn f() { {} } } b"), "a b");
    assert_eq!(code("a\n/*\n*/\"\n\"\nb").lines().nth(4), Some("b"));
    let files = [
        ("raft/src/lib.rs", "#[cfg(test)]\nmod oracle;"),
        ("raft/src/oracle/b.rs", "x"),
    ];
    let tree = Tree::of(
        files
            .map(|(path, text)| (path.into(), text.into()))
            .to_vec(),
    );
    assert_eq!(tree.0[1].code, "", "a module for tests is a test");
}
