//! librdkafka, unmodified, against the broker at BOOTSTRAP. PARTS may name some of its parts.

mod administration;
mod checks;
mod content;
mod corpus;
mod groups;

use std::env;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;

use checks::{Checks, Outcome, eventually};

/// One run against one broker: configures clients and gives names that no run used before.
pub struct Session {
    bootstrap: String,
    run: u128,
}

impl Session {
    fn name(&self, purpose: &str) -> String {
        format!("librdkafka-{purpose}-{:x}", self.run)
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.config();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest");
        config
    }

    fn create_topic(&self, topic: &str, partitions: i32, configs: &[(&str, &str)]) -> Outcome {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        let mut wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(replication()));
        for (name, value) in configs {
            wanted = wanted.set(name, value);
        }
        let limit = Duration::from_secs(30);
        let mut lost = false;
        eventually("the topic's creation", limit, || {
            let answers = block_on(admin.create_topics([&wanted], &AdminOptions::new()))?;
            for answer in answers {
                match answer {
                    Ok(_) => {}
                    // librdkafka asks once: a node that is killed takes the answer with it, and the topic may be there.
                    Err((_, RDKafkaErrorCode::BrokerTransportFailure)) => {
                        lost = true;
                        return Ok(false);
                    }
                    Err((_, RDKafkaErrorCode::TopicAlreadyExists)) if lost => {}
                    Err((name, code)) => return Err(format!("{name}: {code}").into()),
                }
            }
            Ok(true)
        })?;
        // The broker that serves a topic may hear of it later than the one that created it.
        eventually("the new topic in the metadata", limit, || {
            let metadata = admin.inner().fetch_metadata(Some(topic), limit)?;
            let found = &metadata.topics()[0];
            Ok(found.error().is_none() && found.partitions().len() == partitions as usize)
        })
    }
}

/// What a topic gets: REPLICATION, or 1.
fn replication() -> i32 {
    let named = env::var("REPLICATION").ok();
    named.map_or(1, |factor| factor.parse().expect("REPLICATION is a number"))
}

fn main() -> ExitCode {
    let session = Session {
        bootstrap: env::var("BOOTSTRAP").unwrap_or_else(|_| "127.0.0.1:9092".to_owned()),
        run: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_millis(),
    };
    let checks = Checks::default();
    let parts: [(&str, fn(&Session, &Checks)); 3] = [
        ("content", content::run),
        ("groups", groups::run),
        ("administration", administration::run),
    ];
    let wanted = env::var("PARTS").unwrap_or_else(|_| "content,groups,administration".to_owned());
    let chosen = wanted.split(',').map(|name| {
        let part = parts.iter().find(|(known, _)| *known == name);
        part.unwrap_or_else(|| panic!("no part is named {name:?}")).1
    });
    // Groups wait far more than they work, so all parts share the clock.
    thread::scope(|scope| {
        let (session, checks) = (&session, &checks);
        for part in chosen {
            scope.spawn(move || part(session, checks));
        }
    });
    checks.close()
}
