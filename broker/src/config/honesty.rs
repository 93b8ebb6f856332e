//! Whether the documentation tells the truth about what is honoured.
//!
//! A knob is honoured if some code outside this module uses the field that it sets. The sources are
//! searched for the names of the fields: crude, but it catches a knob that is documented and
//! ignored, and one that works and is documented as without effect.

use std::collections::BTreeSet;
use std::path::Path;

use super::knob::Effect;
use super::{broker, table, topic};

/// The words of all code that may use a configuration; of `node.id`, both parts in a row.
fn used_words() -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut open = vec![sources.clone()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let ours = path == sources.join("config") || path == sources.join("shell");
            if path.is_dir() && !ours {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                collect(&std::fs::read_to_string(&path).unwrap(), &mut words);
            }
        }
    }
    words
}

fn collect(source: &str, words: &mut BTreeSet<String>) {
    let code = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    for line in code {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        for path in line.split(|c| !is_part(c) && c != '.') {
            let parts: Vec<&str> = path.split('.').collect();
            words.extend(parts.iter().map(|part| part.to_string()));
            words.extend(parts.windows(2).map(|pair| pair.join(".")));
        }
    }
}

/// To repair a failure: give the row in `table` the effect that is true (`Honoured` with a
/// sentence, or `Reported` with the reason), and renew docs/configuration.md.
#[test]
fn what_is_documented_as_honoured_is_used_and_the_reverse() {
    let words = used_words();
    let mut wrong = Vec::new();
    let settings = broker::SETTINGS.iter().chain(broker::NODE_SETTINGS);
    for (field, name) in settings {
        let knob = table::broker_knob(name).unwrap();
        if words.contains(*field) != (knob.effect == Effect::Honoured) {
            wrong.push((name, words.contains(*field)));
        }
    }
    for (field, name) in topic::SETTINGS {
        let knob = table::topic()
            .iter()
            .find(|knob| knob.name == *name)
            .unwrap();
        if words.contains(*field) != (knob.effect == Effect::Honoured) {
            wrong.push((name, words.contains(*field)));
        }
    }
    assert!(wrong.is_empty(), "(knob, is used): {wrong:#?}");
}

#[test]
fn what_is_documented_as_honoured_has_a_field() {
    let inherited = table::topic()
        .iter()
        .filter(|knob| knob.effect == Effect::Honoured)
        .flat_map(|knob| table::server_synonyms(knob.name))
        .map(|synonym| synonym.name);
    let settings = broker::SETTINGS
        .iter()
        .chain(broker::NODE_SETTINGS)
        .map(|(_, name)| *name);
    let read: BTreeSet<&str> = settings.chain(inherited).collect();
    for knob in table::broker().filter(|knob| knob.effect == Effect::Honoured) {
        assert!(read.contains(knob.name), "{} is read by nobody", knob.name);
    }
    let fields: BTreeSet<&str> = topic::SETTINGS.iter().map(|(_, name)| *name).collect();
    for knob in table::topic()
        .iter()
        .filter(|knob| knob.effect == Effect::Honoured)
    {
        assert!(
            fields.contains(knob.name),
            "{} is read by nobody",
            knob.name
        );
    }
}
