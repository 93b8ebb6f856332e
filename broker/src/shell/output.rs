//! Where results go: to people as text, to programs as JSON.

use std::io::{self, Write};

use serde_json::Value;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Tables and sentences for people
    Table,
    /// One JSON document for programs
    Json,
}

/// The standard output, or a buffer in tests.
pub(crate) struct Output<W> {
    writer: W,
}

impl<W: Write> Output<W> {
    pub(crate) fn new(writer: W) -> Output<W> {
        Output { writer }
    }

    /// Prints one result: `text` as it is, or `json` with a line feed.
    pub(crate) fn show(
        &mut self,
        format: Format,
        text: impl FnOnce() -> String,
        json: impl FnOnce() -> Value,
    ) -> io::Result<()> {
        match format {
            Format::Table => self.writer.write_all(text().as_bytes()),
            Format::Json => {
                serde_json::to_writer_pretty(&mut self.writer, &json())?;
                self.writer.write_all(b"\n")
            }
        }
    }

    /// Prints bytes as they are.
    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_result_in_two_forms() {
        let mut bytes = Vec::new();
        let mut output = Output::new(&mut bytes);
        output
            .show(Format::Table, || "a\n".into(), || json!({"a": 1}))
            .unwrap();
        output
            .show(Format::Json, || "a\n".into(), || json!({"a": 1}))
            .unwrap();
        assert_eq!(bytes, b"a\n{\n  \"a\": 1\n}\n");
    }
}
