//! The nearest known name, for a name with a slip of the pen.

/// The candidate with the fewest edits from `name`, if few enough that it was probably meant.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let edits_max = (name.len() / 4).clamp(1, 6);
    candidates
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|(edits, _)| *edits <= edits_max)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in bytes, with one row of memory.
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.bytes().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted_in_edits() {
        for (from, to, expected) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("ab", "ba", 2),
        ] {
            assert_eq!(edits(from, to), expected, "{from} {to}");
        }
    }

    #[test]
    fn only_a_near_name_is_offered() {
        let names = ["log.retention.hours", "log.retention.ms", "listeners"];
        assert_eq!(
            nearest("log.retention.hour", names.into_iter()),
            Some("log.retention.hours")
        );
        assert_eq!(
            nearest("log_retention_ms", names.into_iter()),
            Some("log.retention.ms")
        );
        assert_eq!(nearest("x", names.into_iter()), None);
    }
}
