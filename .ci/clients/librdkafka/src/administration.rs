//! What operators ask through librdkafka's older admin calls, with the refusals. Its alter call is the
//! legacy one, which replaces all of a topic's settings.

use std::time::Duration;

use futures_executor::block_on;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::Session;
use crate::checks::{Checks, Outcome, eventually, same};

const WAIT: Duration = Duration::from_secs(10);

pub fn run(session: &Session, checks: &Checks) {
    let asked = Asked {
        session,
        topic: session.name("admin"),
        group: session.name("admin-group"),
    };
    checks.run("admin: create topic", || asked.create());
    checks.run("admin: describe and alter configs", || asked.configs());
    checks.run("admin: create partitions", || asked.partitions());
    checks.run("admin: groups: commit, list, delete", || asked.groups());
    checks.run("admin: delete topic", || asked.delete());
}

struct Asked<'a> {
    session: &'a Session,
    topic: String,
    group: String,
}

fn refused<T: std::fmt::Debug>(
    expected: RDKafkaErrorCode,
    answer: Vec<Result<T, (String, RDKafkaErrorCode)>>,
) -> Outcome {
    let codes: Vec<_> = answer
        .into_iter()
        .map(|one| one.map_err(|(_, code)| code).err())
        .collect();
    same("refusal", vec![Some(expected)], codes)
}

fn accepted<T>(answer: Vec<Result<T, (String, RDKafkaErrorCode)>>) -> Outcome {
    answer.into_iter().try_for_each(|one| match one {
        Ok(_) => Ok(()),
        Err((name, code)) => Err(format!("{name}: {code}").into()),
    })
}

impl Asked<'_> {
    fn admin(&self) -> Outcome<AdminClient<DefaultClientContext>> {
        Ok(self.session.config().create()?)
    }

    fn create(&self) -> Outcome {
        self.session
            .create_topic(&self.topic, 3, &[("retention.ms", "3600000")])?;
        let admin = self.admin()?;
        let again = NewTopic::new(&self.topic, 1, TopicReplication::Fixed(1));
        let answer = block_on(admin.create_topics([&again], &AdminOptions::new()))?;
        refused(RDKafkaErrorCode::TopicAlreadyExists, answer)
    }

    fn setting(&self, name: &str) -> Outcome<Option<String>> {
        let wanted = [ResourceSpecifier::Topic(&self.topic)];
        let answer = block_on(
            self.admin()?
                .describe_configs(&wanted, &AdminOptions::new()),
        )?;
        let resource = answer
            .into_iter()
            .next()
            .ok_or("no answer")?
            .map_err(|code| code.to_string())?;
        Ok(resource.get(name).and_then(|entry| entry.value.clone()))
    }

    fn becomes(&self, name: &str, value: &str) -> Outcome {
        eventually(&format!("{name} = {value}"), WAIT, || {
            Ok(self.setting(name)?.as_deref() == Some(value))
        })
    }

    fn configs(&self) -> Outcome {
        self.becomes("retention.ms", "3600000")?;
        let change = AlterConfig::new(ResourceSpecifier::Topic(&self.topic))
            .set("max.message.bytes", "500000");
        let answer = block_on(self.admin()?.alter_configs([&change], &AdminOptions::new()))?;
        for one in answer {
            one.map_err(|(_, code)| code.to_string())?;
        }
        self.becomes("max.message.bytes", "500000")?;
        self.becomes("retention.ms", "604800000")
    }

    fn count(&self) -> Outcome<usize> {
        let metadata = self
            .admin()?
            .inner()
            .fetch_metadata(Some(&self.topic), WAIT)?;
        Ok(metadata.topics()[0].partitions().len())
    }

    fn partitions(&self) -> Outcome {
        let grow = |count| {
            let wanted = NewPartitions::new(&self.topic, count);
            Outcome::Ok(block_on(
                self.admin()?
                    .create_partitions([&wanted], &AdminOptions::new()),
            )?)
        };
        accepted(grow(5)?)?;
        eventually("5 partitions", WAIT, || Ok(self.count()? == 5))?;
        refused(RDKafkaErrorCode::InvalidPartitions, grow(2)?)
    }

    fn listed(&self, consumer: &BaseConsumer) -> Outcome<bool> {
        let groups = consumer.fetch_group_list(None, WAIT)?;
        Ok(groups
            .groups()
            .iter()
            .any(|group| group.name() == self.group))
    }

    fn groups(&self) -> Outcome {
        let consumer: BaseConsumer = self.session.consumer(&self.group).create()?;
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&self.topic, 0, Offset::Offset(42))?;
        consumer.commit(&offsets, CommitMode::Sync)?;
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition(&self.topic, 0);
        let committed = consumer.committed_offsets(wanted, WAIT)?;
        same(
            "committed",
            Offset::Offset(42),
            committed.elements()[0].offset(),
        )?;
        same("listed", true, self.listed(&consumer)?)?;
        let answer = block_on(
            self.admin()?
                .delete_groups(&[&self.group], &AdminOptions::new()),
        )?;
        accepted(answer)?;
        same("listed after the deletion", false, self.listed(&consumer)?)
    }

    fn delete(&self) -> Outcome {
        let answer = block_on(
            self.admin()?
                .delete_topics(&[&self.topic], &AdminOptions::new()),
        )?;
        accepted(answer)?;
        eventually("the topic to go", WAIT, || {
            let metadata = self.admin()?.inner().fetch_metadata(None, WAIT)?;
            Ok(metadata
                .topics()
                .iter()
                .all(|topic| topic.name() != self.topic))
        })
    }
}
