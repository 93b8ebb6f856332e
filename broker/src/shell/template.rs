//! How `consume` prints a record: its value, a JSON object, or whatever a template says.

use std::io::{self, Write};

use protocol::records::Record;
use serde_json::{Map, Value, json};

/// A record with the place that it came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Consumed<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub record: &'a Record,
}

/// A template, cut into its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Value,
    Headers,
    KeyLength,
    ValueLength,
}

impl Template {
    /// The value and a line feed.
    pub(crate) fn value() -> Template {
        Template(vec![Part::Value, Part::Text("\n".to_owned())])
    }

    /// Reads a template. The error names what it does not know.
    pub(crate) fn parse(text: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '%' => {
                    let letter = chars.next();
                    if letter == Some('%') {
                        plain.push('%');
                        continue;
                    }
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(part_of(letter)?);
                }
                '\\' => plain.push(escaped(chars.next())?),
                other => plain.push(other),
            }
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Template(parts))
    }

    /// Prints a record. Keys and values go out byte for byte; null prints nothing.
    pub(crate) fn write(&self, out: &mut Vec<u8>, consumed: &Consumed<'_>) -> io::Result<()> {
        let record = consumed.record;
        let length = |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| bytes.len() as i64);
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        for part in &self.0 {
            match part {
                Part::Text(text) => out.write_all(text.as_bytes())?,
                Part::Topic => out.write_all(consumed.topic.as_bytes())?,
                Part::Partition => write!(out, "{}", consumed.partition)?,
                Part::Offset => write!(out, "{}", record.offset)?,
                Part::Timestamp => write!(out, "{}", record.timestamp)?,
                Part::Key => out.write_all(key.unwrap_or_default())?,
                Part::Value => out.write_all(value.unwrap_or_default())?,
                Part::KeyLength => write!(out, "{}", length(key))?,
                Part::ValueLength => write!(out, "{}", length(value))?,
                Part::Headers => write_headers(out, record)?,
            }
        }
        Ok(())
    }
}

fn part_of(letter: Option<char>) -> Result<Part, String> {
    Ok(match letter {
        Some('t') => Part::Topic,
        Some('p') => Part::Partition,
        Some('o') => Part::Offset,
        Some('T') => Part::Timestamp,
        Some('k') => Part::Key,
        Some('v' | 's') => Part::Value,
        Some('h') => Part::Headers,
        Some('K') => Part::KeyLength,
        Some('S') => Part::ValueLength,
        Some(other) => {
            return Err(format!(
                "%{other} is unknown; use %t %p %o %T %k %v %h %K %S or %%"
            ));
        }
        None => return Err("it ends with a single %; write %% for one".to_owned()),
    })
}

fn escaped(letter: Option<char>) -> Result<char, String> {
    match letter {
        Some('n') => Ok('\n'),
        Some('t') => Ok('\t'),
        Some('r') => Ok('\r'),
        Some('0') => Ok('\0'),
        Some('\\') => Ok('\\'),
        Some(other) => Err(format!("\\{other} is unknown; use \\n \\t \\r \\0 or \\\\")),
        None => Err("it ends with a single \\; write \\\\ for one".to_owned()),
    }
}

fn write_headers(out: &mut Vec<u8>, record: &Record) -> io::Result<()> {
    for (index, header) in record.headers.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.write_all(&header.key)?;
        out.push(b'=');
        out.write_all(header.value.as_deref().unwrap_or_default())?;
    }
    Ok(())
}

/// A record as a JSON object on one line. What is no UTF-8 becomes `{"base64": "..."}`.
pub(crate) fn write_json(out: &mut Vec<u8>, consumed: &Consumed<'_>) -> io::Result<()> {
    let record = consumed.record;
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|header| {
            let (key, value) = (text(Some(&header.key)), text(header.value.as_deref()));
            json!({"key": key, "value": value})
        })
        .collect();
    let mut object = Map::new();
    object.insert("topic".to_owned(), json!(consumed.topic));
    object.insert("partition".to_owned(), json!(consumed.partition));
    object.insert("offset".to_owned(), json!(record.offset));
    object.insert("timestamp".to_owned(), json!(record.timestamp));
    object.insert("headers".to_owned(), Value::Array(headers));
    object.insert("key".to_owned(), text(record.key.as_deref()));
    object.insert("value".to_owned(), text(record.value.as_deref()));
    serde_json::to_writer(&mut *out, &object)?;
    out.push(b'\n');
    Ok(())
}

fn text(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => Value::Null,
        Some((_, Ok(text))) => json!(text),
        Some((bytes, Err(_))) => json!({"base64": base64(bytes)}),
    }
}

/// RFC 4648 with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for position in 0..4 {
            let digit = (group >> (18 - 6 * position) & 63) as usize;
            text.push(if position > chunk.len() {
                '='
            } else {
                ALPHABET[digit].into()
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use protocol::records::RecordHeader;

    use super::*;

    fn record() -> Record {
        let header = |key, value| RecordHeader {
            key: Bytes::from_static(key),
            value,
        };
        Record {
            offset: 7,
            timestamp: 1_000,
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"hello")),
            headers: vec![
                header(b"a", Some(Bytes::from_static(b"1"))),
                header(b"b", None),
            ],
        }
    }

    fn print(template: &str, record: &Record) -> String {
        let mut out = Vec::new();
        let consumed = Consumed {
            topic: "t",
            partition: 3,
            record,
        };
        Template::parse(template)
            .unwrap()
            .write(&mut out, &consumed)
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn templates_print_every_part() {
        let text = print("%t/%p@%o %T [%h] %k(%K)=%v(%S) 100%%\\n", &record());
        assert_eq!(text, "t/3@7 1000 [a=1,b=] k(1)=hello(5) 100%\n");
        let null = Record {
            key: None,
            value: None,
            ..record()
        };
        assert_eq!(print("%k%v%K%S", &null), "-1-1");
    }

    #[test]
    fn mistakes_in_templates_are_named() {
        for (template, part) in [("%x", "%x"), ("a%", "%%"), ("\\q", "\\q"), ("\\", "\\\\")] {
            assert!(
                Template::parse(template).unwrap_err().contains(part),
                "{template}"
            );
        }
    }

    #[test]
    fn json_keeps_what_is_no_text() {
        let mut out = Vec::new();
        let odd = Record {
            key: None,
            value: Some(Bytes::from_static(&[0xff, 0xfe])),
            ..record()
        };
        write_json(
            &mut out,
            &Consumed {
                topic: "t",
                partition: 0,
                record: &odd,
            },
        )
        .unwrap();
        let parsed: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(parsed["value"], json!({"base64": "//4="}));
        assert_eq!(parsed["key"], Value::Null);
        assert_eq!(parsed["headers"][1], json!({"key": "b", "value": null}));
        assert_eq!(out.last(), Some(&b'\n'));
    }

    #[test]
    fn base64_follows_the_standard() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ];
        for (plain, expected) in cases {
            assert_eq!(base64(plain.as_bytes()), expected);
        }
    }
}
