//! Tables in Markdown that can also be read in a terminal, and sections of a document that a run
//! replaces.

use std::fmt;

use crate::error::{BenchError, Result};

/// Rows of text under a head. The first columns are names, aligned left; the others right.
#[derive(Clone, Debug)]
pub struct Table {
    names: usize,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// One column of names.
    pub fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Table {
        Table::with_names(1, head)
    }

    /// So many columns of names.
    pub fn with_names<S: Into<String>>(names: usize, head: impl IntoIterator<Item = S>) -> Table {
        let head = head.into_iter().map(Into::into).collect();
        Table {
            names,
            head,
            rows: Vec::new(),
        }
    }

    /// # Panics
    /// If the row has not as many cells as the head.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let row: Vec<String> = cells.into_iter().map(Into::into).collect();
        assert_eq!(row.len(), self.head.len(), "cells of the row {row:?}");
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let rows = self.rows.iter().chain([&self.head]);
            rows.map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
                .max(3)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |f: &mut fmt::Formatter<'_>, row: &[String]| {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                match column < self.names {
                    true => write!(f, "| {cell:<width$} ")?,
                    false => write!(f, "| {cell:>width$} ")?,
                }
            }
            writeln!(f, "|")
        };
        line(f, &self.head)?;
        for (column, width) in widths.iter().enumerate() {
            let dashes = "-".repeat(width - 1);
            let end = if column < self.names { '-' } else { ':' };
            write!(f, "| {dashes}{end} ")?;
        }
        writeln!(f, "|")?;
        self.rows.iter().try_for_each(|row| line(f, row))
    }
}

/// A number with three significant digits, and thousands separated.
pub fn number(value: f64) -> String {
    let magnitude = value.abs();
    let decimals = match magnitude {
        m if m == 0.0 || m >= 99.95 => 0,
        m if m >= 9.995 => 1,
        m if m >= 0.9995 => 2,
        _ => 3,
    };
    let text = format!("{magnitude:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if value < 0.0 { "-" } else { "" };
    match fraction {
        "" => format!("{sign}{grouped}"),
        fraction => format!("{sign}{grouped}.{fraction}"),
    }
}

/// A number of us as us, ms or s.
pub fn time_us(us: f64) -> String {
    match us {
        us if us < 999.5 => format!("{} us", number(us)),
        us if us < 999_500.0 => format!("{} ms", number(us / 1e3)),
        us => format!("{} s", number(us / 1e6)),
    }
}

/// `document` with what stands between the markers of `section` replaced.
pub fn replace_section(document: &str, section: &str, content: &str) -> Result<String> {
    let (begin, end) = markers(section);
    let parts = document
        .split_once(&begin)
        .and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let Some((before, after)) = parts else {
        return Err(BenchError::Unusable(format!(
            "the document has no section {section}: it needs the lines {begin} and {end}"
        )));
    };
    Ok(format!(
        "{before}{begin}\n\n{}\n\n{end}{after}",
        content.trim()
    ))
}

fn markers(section: &str) -> (String, String) {
    (
        format!("<!-- bench:{section}:begin -->"),
        format!("<!-- bench:{section}:end -->"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown_with_aligned_columns() {
        let mut table = Table::new(["name", "µs"]);
        table.row(["a", "1"]);
        table.row(["longer", "1,000"]);
        let expected = "\
| name   |    µs |
| ------ | ----: |
| a      |     1 |
| longer | 1,000 |
";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    #[should_panic(expected = "cells of the row")]
    fn a_row_has_as_many_cells_as_the_head() {
        Table::new(["a", "b"]).row(["1"]);
    }

    #[test]
    fn numbers_have_three_digits() {
        let cases = [
            (0.0, "0"),
            (0.1234, "0.123"),
            (0.9996, "1.00"),
            (3.1449, "3.14"),
            (9.999, "10.0"),
            (42.04, "42.0"),
            (99.96, "100"),
            (1234.5, "1,234"),
            (-1_234_567.0, "-1,234,567"),
        ];
        for (value, expected) in cases {
            assert_eq!(number(value), expected, "{value}");
        }
    }

    #[test]
    fn times_choose_their_unit() {
        assert_eq!(time_us(43.0), "43.0 us");
        assert_eq!(time_us(999.6), "1.00 ms");
        assert_eq!(time_us(65_300.0), "65.3 ms");
        assert_eq!(time_us(1_900_000.0), "1.90 s");
    }

    #[test]
    fn only_the_section_is_replaced() {
        let document = "a\n<!-- bench:x:begin -->\nold\n<!-- bench:x:end -->\nb\n";
        let expected = "a\n<!-- bench:x:begin -->\n\nnew\n\n<!-- bench:x:end -->\nb\n";
        let replaced = replace_section(document, "x", "new\n").unwrap();
        assert_eq!(replaced, expected);
        assert_eq!(replace_section(&replaced, "x", "new").unwrap(), expected);
        assert!(replace_section(document, "y", "new").is_err());
    }
}
