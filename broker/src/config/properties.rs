//! The syntax of Java's property files, in which Kafka's `server.properties` is written.

/// The pairs of a file in their order. The error is a line number and what is wrong there.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, String)>, (usize, String)> {
    logical_lines(text)
        .map(|(number, line)| {
            let (name, value) = split(&line);
            let unescaped = |text| unescape(text).map_err(|message| (number, message));
            Ok((unescaped(name)?, unescaped(value)?))
        })
        .collect()
}

/// Lines without comments and blanks, with continuations joined, and the number of their first
/// line.
fn logical_lines(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut lines = text.lines().enumerate();
    std::iter::from_fn(move || {
        loop {
            let (index, first) = lines.next()?;
            let first = first.trim_start();
            if first.is_empty() || first.starts_with(['#', '!']) {
                continue;
            }
            let mut line = first.to_owned();
            while ends_with_continuation(&line) {
                line.pop();
                match lines.next() {
                    Some((_, more)) => line.push_str(more.trim_start()),
                    None => break,
                }
            }
            return Some((index + 1, line));
        }
    })
}

/// An odd number of backslashes at the end: the last one is not itself escaped.
fn ends_with_continuation(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Name and value, parted by the first unescaped `=`, `:` or blank.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let parts = !escaped && (c == '=' || c == ':' || c.is_whitespace());
        escaped = c == '\\' && !escaped;
        parts
    });
    let Some(end) = end else { return (line, "") };
    let (name, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (name, rest.trim_start())
}

fn unescape(text: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => plain.push('\n'),
                Some('r') => plain.push('\r'),
                Some('t') => plain.push('\t'),
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    let code = u32::from_str_radix(&digits, 16)
                        .ok()
                        .and_then(char::from_u32);
                    plain.push(code.ok_or_else(|| format!("\\u{digits} is not a character"))?);
                }
                Some(other) => plain.push(other),
                None => {}
            },
            other => plain.push(other),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_pair() {
        let text = "# comment\n! another\n\n a=1\nb = 2\nc: 3\nd 4\ne\n\
            f=x\\\n   y\ng=a\\\\\nh\\=i=\\u0041\n";
        let expected = [
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
            ("d", "4"),
            ("e", ""),
            ("f", "xy"),
            ("g", "a\\"),
            ("h=i", "A"),
        ];
        let parsed = parse(text).unwrap();
        let parsed: Vec<_> = parsed
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!(parsed, expected);
    }

    #[test]
    fn a_wrong_escape_is_placed() {
        assert_eq!(parse("a=1\nb=\\uZZZZ").unwrap_err().0, 2);
    }
}
