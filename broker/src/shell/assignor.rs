//! The range assignor and the bytes that members exchange through it.
//!
//! Format: Kafka's consumer protocol, version 0 of subscription and assignment. Whoever sends a
//! newer version appends fields, which are left unread, so a group may mix this program with other
//! clients.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use protocol::codec::{DecodeError, Decoder};

/// Name of the assignor in the join request.
pub(crate) const RANGE: &str = "range";

/// Partitions by topic.
pub(crate) type Partitions = BTreeMap<String, Vec<i32>>;

/// The topics that a member wants, as bytes.
pub(crate) fn subscription(topics: &[String]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(topics.len() as i32);
    for topic in topics {
        put_string(&mut out, topic);
    }
    out.put_i32(-1);
    out.freeze()
}

/// The topics of a subscription.
pub(crate) fn read_subscription(bytes: &Bytes) -> Result<Vec<String>, DecodeError> {
    let mut input = Decoder::new(bytes.clone());
    input.i16()?;
    let count = input
        .array_count(false, 2, size_of::<String>())?
        .unwrap_or(0);
    (0..count).map(|_| read_string(&mut input)).collect()
}

/// What a member gets, as bytes.
pub(crate) fn assignment(partitions: &Partitions) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(partitions.len() as i32);
    for (topic, numbers) in partitions {
        put_string(&mut out, topic);
        out.put_i32(numbers.len() as i32);
        numbers.iter().for_each(|number| out.put_i32(*number));
    }
    out.put_i32(-1);
    out.freeze()
}

/// What a member got. No bytes are no partitions.
pub(crate) fn read_assignment(bytes: &Bytes) -> Result<Partitions, DecodeError> {
    if bytes.is_empty() {
        return Ok(Partitions::new());
    }
    let mut input = Decoder::new(bytes.clone());
    input.i16()?;
    let count = input
        .array_count(false, 6, size_of::<(String, Vec<i32>)>())?
        .unwrap_or(0);
    (0..count)
        .map(|_| {
            let topic = read_string(&mut input)?;
            let count = input.array_count(false, 4, size_of::<i32>())?.unwrap_or(0);
            let numbers = (0..count).map(|_| input.i32()).collect::<Result<_, _>>()?;
            Ok((topic, numbers))
        })
        .collect()
}

fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

fn read_string(input: &mut Decoder) -> Result<String, DecodeError> {
    Ok(input
        .string(false)?
        .map(|text| text.as_str().to_owned())
        .unwrap_or_default())
}

/// Shares the partitions out: of each topic every subscriber gets a consecutive run, the first ones
/// by member id one partition more if it does not divide.
pub(crate) fn range(
    members: &BTreeMap<String, Vec<String>>,
    partition_counts: &BTreeMap<String, i32>,
) -> BTreeMap<String, Partitions> {
    let mut shares: BTreeMap<String, Partitions> = members
        .keys()
        .map(|member| (member.clone(), Partitions::new()))
        .collect();
    for (topic, count) in partition_counts {
        let subscribers: Vec<&String> = members
            .iter()
            .filter(|(_, topics)| topics.contains(topic))
            .map(|(id, _)| id)
            .collect();
        let Some(each) = (*count as usize).checked_div(subscribers.len()) else {
            continue;
        };
        let larger = *count as usize % subscribers.len();
        let mut next = 0;
        for (place, member) in subscribers.into_iter().enumerate() {
            let size = (each + usize::from(place < larger)) as i32;
            if size > 0 {
                let share = shares.entry(member.clone()).or_default();
                share.insert(topic.clone(), (next..next + size).collect());
            }
            next += size;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(members: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        let owned = |topics: &[&str]| topics.iter().map(|topic| topic.to_string()).collect();
        members
            .iter()
            .map(|(id, topics)| (id.to_string(), owned(topics)))
            .collect()
    }

    #[test]
    fn runs_are_consecutive_and_the_first_get_more() {
        let counts = BTreeMap::from([("t".to_owned(), 7), ("u".to_owned(), 1)]);
        let shares = range(
            &members(&[("a", &["t", "u"]), ("b", &["t"]), ("c", &["t", "u"])]),
            &counts,
        );
        assert_eq!(
            shares["a"],
            Partitions::from([("t".into(), vec![0, 1, 2]), ("u".into(), vec![0])])
        );
        assert_eq!(shares["b"], Partitions::from([("t".into(), vec![3, 4])]));
        assert_eq!(shares["c"], Partitions::from([("t".into(), vec![5, 6])]));
    }

    #[test]
    fn nobody_wants_it_and_nothing_to_get() {
        let counts = BTreeMap::from([("t".to_owned(), 2)]);
        assert!(range(&members(&[]), &counts).is_empty());
        let shares = range(&members(&[("a", &["other"])]), &counts);
        assert!(shares["a"].is_empty());
    }

    #[test]
    fn members_understand_each_other() {
        let topics = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(read_subscription(&subscription(&topics)).unwrap(), topics);
        let partitions = Partitions::from([("a".into(), vec![0, 2]), ("b".into(), vec![])]);
        assert_eq!(
            read_assignment(&assignment(&partitions)).unwrap(),
            partitions
        );
        assert!(read_assignment(&Bytes::new()).unwrap().is_empty());
    }

    #[test]
    fn broken_bytes_are_refused() {
        let whole = assignment(&Partitions::from([("a".into(), vec![0, 2])]));
        for cut in 1..whole.len() - 4 {
            assert!(read_assignment(&whole.slice(..cut)).is_err(), "{cut}");
        }
        let huge = Bytes::from_static(&[0, 0, 0x7f, 0xff, 0xff, 0xff]);
        assert!(read_assignment(&huge).is_err());
        assert!(read_subscription(&huge).is_err());
    }
}
