//! Where a group's offsets go when they are reset. Pure: the positions are given.

/// The rule of a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Earliest,
    Latest,
    Offset(i64),
    /// The first record at or after a moment, in Unix ms; the end if there is none.
    Moment(i64),
    /// Forward, or back if negative.
    Shift(i64),
}

/// What is known of a partition before the reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub topic: String,
    pub partition: i32,
    pub committed: Option<i64>,
    pub start: i64,
    pub end: i64,
    /// Offset at the rule's moment; only looked up for [`Rule::Moment`].
    pub at_moment: Option<i64>,
}

/// One partition's step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub topic: String,
    pub partition: i32,
    pub from: Option<i64>,
    pub to: i64,
    /// Why the offset is not the one that the rule names.
    pub note: Option<&'static str>,
}

impl Step {
    /// Records that are read again (negative) or passed over.
    pub(crate) fn moves_by(&self) -> Option<i64> {
        self.from.map(|from| self.to - from)
    }
}

/// The step of each partition. Every target lies within what the partition holds.
pub(crate) fn plan(positions: &[Position], rule: Rule) -> Vec<Step> {
    positions
        .iter()
        .map(|position| step(position, rule))
        .collect()
}

fn step(position: &Position, rule: Rule) -> Step {
    let Position { start, end, .. } = *position;
    let (wanted, note) = match (rule, position.committed, position.at_moment) {
        (Rule::Earliest, ..) => (start, None),
        (Rule::Latest, ..) => (end, None),
        (Rule::Offset(offset), ..) => (offset, None),
        (Rule::Moment(_), _, Some(offset)) => (offset, None),
        (Rule::Moment(_), _, None) => (end, Some("no record that late: end")),
        (Rule::Shift(by), Some(committed), _) => (committed.saturating_add(by), None),
        (Rule::Shift(_), None, _) => (start, Some("nothing committed: start")),
    };
    let to = wanted.clamp(start, end.max(start));
    let note = match wanted {
        _ if note.is_some() => note,
        wanted if wanted < to => Some("before the start: start"),
        wanted if wanted > to => Some("beyond the end: end"),
        _ => None,
    };
    let (topic, partition) = (position.topic.clone(), position.partition);
    Step {
        topic,
        partition,
        from: position.committed,
        to,
        note,
    }
}

/// One `--topic` of a reset: the topic, and its partitions if only some are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicScope {
    pub topic: String,
    pub partitions: Option<Vec<i32>>,
}

impl TopicScope {
    /// Reads `topic` or `topic:0,2`.
    pub(crate) fn parse(text: &str) -> Result<TopicScope, String> {
        let Some((topic, numbers)) = text.split_once(':') else {
            return Ok(TopicScope {
                topic: text.to_owned(),
                partitions: None,
            });
        };
        let numbers: Result<Vec<i32>, _> = numbers
            .split(',')
            .map(|number| number.trim().parse())
            .collect();
        match numbers {
            Ok(numbers) => Ok(TopicScope {
                topic: topic.to_owned(),
                partitions: Some(numbers),
            }),
            Err(_) => Err(format!(
                "{text:?} is not TOPIC or TOPIC:PARTITION,PARTITION"
            )),
        }
    }

    pub(crate) fn includes(&self, topic: &str, partition: i32) -> bool {
        let listed = self
            .partitions
            .as_ref()
            .is_none_or(|numbers| numbers.contains(&partition));
        self.topic == topic && listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(committed: Option<i64>, at_moment: Option<i64>) -> Position {
        Position {
            topic: "t".into(),
            partition: 0,
            committed,
            start: 10,
            end: 20,
            at_moment,
        }
    }

    fn to(
        rule: Rule,
        committed: Option<i64>,
        at_moment: Option<i64>,
    ) -> (i64, Option<&'static str>) {
        let step = plan(&[position(committed, at_moment)], rule).remove(0);
        (step.to, step.note)
    }

    #[test]
    fn each_rule_finds_its_offset() {
        assert_eq!(to(Rule::Earliest, Some(15), None), (10, None));
        assert_eq!(to(Rule::Latest, Some(15), None), (20, None));
        assert_eq!(to(Rule::Offset(12), None, None), (12, None));
        assert_eq!(to(Rule::Moment(5), Some(15), Some(17)), (17, None));
        assert_eq!(to(Rule::Shift(-3), Some(15), None), (12, None));
    }

    #[test]
    fn targets_stay_within_the_partition_and_say_so() {
        assert_eq!(to(Rule::Offset(3), None, None).0, 10);
        assert!(to(Rule::Offset(3), None, None).1.is_some());
        assert_eq!(to(Rule::Shift(i64::MAX), Some(15), None).0, 20);
        assert!(
            to(Rule::Shift(100), Some(15), None)
                .1
                .unwrap()
                .contains("end")
        );
        assert_eq!(to(Rule::Moment(5), Some(15), None).0, 20);
        assert!(
            to(Rule::Moment(5), Some(15), None)
                .1
                .unwrap()
                .contains("no record")
        );
        assert_eq!(to(Rule::Shift(1), None, None).0, 10);
    }

    #[test]
    fn an_empty_partition_has_one_place() {
        let empty = Position {
            start: 5,
            end: 5,
            ..position(None, None)
        };
        for rule in [
            Rule::Earliest,
            Rule::Latest,
            Rule::Offset(99),
            Rule::Shift(-1),
        ] {
            assert_eq!(
                plan(std::slice::from_ref(&empty), rule)[0].to,
                5,
                "{rule:?}"
            );
        }
    }

    #[test]
    fn steps_know_how_far_they_go() {
        let steps = plan(
            &[position(Some(15), None), position(None, None)],
            Rule::Earliest,
        );
        assert_eq!(steps[0].moves_by(), Some(-5));
        assert_eq!(steps[1].moves_by(), None);
    }

    #[test]
    fn scopes_name_topics_and_partitions() {
        let all = TopicScope::parse("t").unwrap();
        assert!(all.includes("t", 7) && !all.includes("u", 7));
        let some = TopicScope::parse("t:0, 2").unwrap();
        assert!(some.includes("t", 2) && !some.includes("t", 1));
        assert!(TopicScope::parse("t:x").is_err());
    }
}
