//! Tables on a terminal: columns as wide as they need to be, no lines.

use std::fmt;

/// Rows under a heading. Columns of numbers stand flush right.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    heads: Vec<String>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings. One that begins with `>` stands, with its column, flush right.
    pub(crate) fn new(heads: &[&str]) -> Table {
        let right = heads.iter().map(|head| head.starts_with('>')).collect();
        let heads = heads
            .iter()
            .map(|head| head.trim_start_matches('>').to_owned())
            .collect();
        Table {
            heads,
            right,
            rows: Vec::new(),
        }
    }

    /// Appends a row.
    ///
    /// # Panics
    /// If it does not have as many cells as there are headings.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(
            N,
            self.heads.len(),
            "a row of {N} cells under {:?}",
            self.heads
        );
        self.rows.push(cells.into());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn line(&self, f: &mut fmt::Formatter<'_>, cells: &[String], widths: &[usize]) -> fmt::Result {
        let mut line = String::new();
        for ((cell, width), right) in cells.iter().zip(widths).zip(&self.right) {
            let blanks = " ".repeat(width - cell.chars().count());
            let (before, after) = if *right {
                (blanks.as_str(), "")
            } else {
                ("", &*blanks)
            };
            line.push_str(before);
            line.push_str(cell);
            line.push_str(after);
            line.push_str("  ");
        }
        writeln!(f, "{}", line.trim_end())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<usize> = (0..self.heads.len())
            .map(|column| {
                let cells = self.rows.iter().map(|row| &row[column]);
                cells
                    .chain([&self.heads[column]])
                    .map(|cell| cell.chars().count())
                    .max()
            })
            .map(Option::unwrap_or_default)
            .collect();
        self.line(f, &self.heads, &widths)?;
        self.rows
            .iter()
            .try_for_each(|row| self.line(f, row, &widths))
    }
}

/// `1,2,3`, or a dash for none.
pub(crate) fn list<T: ToString>(items: &[T]) -> String {
    match items {
        [] => "-".to_owned(),
        items => items.iter().map(T::to_string).collect::<Vec<_>>().join(","),
    }
}

/// A count with a dash where it is not known.
pub(crate) fn known(number: Option<i64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// `1.5 MiB`, for sizes that are read by people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", ">COUNT"]);
        table.row(["a".into(), "5".into()]);
        table.row(["größer".into(), "1000".into()]);
        assert_eq!(
            table.to_string(),
            "NAME    COUNT\na           5\ngrößer   1000\n"
        );
    }

    #[test]
    fn sizes_are_rounded_to_their_unit() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (1 << 30, "1.0 GiB"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn nothing_is_a_dash() {
        assert_eq!(
            (list::<i32>(&[]), list(&[1, 2])),
            ("-".into(), "1,2".into())
        );
        assert_eq!((known(None), known(Some(3))), ("-".into(), "3".into()));
    }
}
