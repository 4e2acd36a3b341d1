//! Tables on the terminal.

use std::io::{self, Write};

use anyhow::Result;
use arrow_array::RecordBatch;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{ArrowError, SchemaRef};

/// A longer value is cut, so that one cannot push all others off the screen.
const CHARS_MAX: usize = 60;

/// Rows of text in aligned columns; numbers are aligned to the right.
#[derive(Default)]
pub struct Table {
    header: Vec<String>,
    is_number: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A column's name with `>` before it is one of numbers.
    pub fn new(header: &[&str]) -> Self {
        Self {
            header: header.iter().map(|name| name.trim_start_matches('>').to_owned()).collect(),
            is_number: header.iter().map(|name| name.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    /// At most `rows_max` rows of these.
    pub fn of(schema: &SchemaRef, batches: &[RecordBatch], rows_max: usize) -> Result<Self, ArrowError> {
        let fields = schema.fields();
        let mut table = Self {
            header: fields.iter().map(|field| field.name().clone()).collect(),
            is_number: fields.iter().map(|field| field.data_type().is_numeric()).collect(),
            rows: Vec::new(),
        };
        let options = FormatOptions::default();
        for batch in batches {
            let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            for row in 0..batch.num_rows().min(rows_max - table.rows.len()) {
                table.rows.push(columns.iter().map(|column| column.value(row).to_string()).collect());
            }
        }
        Ok(table)
    }

    pub fn push(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| &row[column]).chain([&self.header[column]]);
            cells.map(|cell| cell.chars().count().min(CHARS_MAX)).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        for row in std::iter::once(&self.header).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), is_number) in row.iter().zip(&widths).zip(&self.is_number) {
                let cell = shown(cell);
                let cell = if *is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
                line.push_str(&cell);
                line.push_str("  ");
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// What is said of an amount by whoever reads it: `2358`, `1.4 KB`, `12 MB`.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} KB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// Text from the log in one line, without what could steer a terminal.
fn shown(cell: &str) -> String {
    let cell: String = cell.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if cell.chars().count() <= CHARS_MAX {
        return cell;
    }
    cell.chars().take(CHARS_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(table: &Table) -> String {
        let mut out = Vec::new();
        table.print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_aligned_and_numbers_to_the_right() {
        let mut table = Table::new(&["name", ">n"]);
        table.push(["ada".to_owned(), "5".to_owned()]);
        table.push(["b".to_owned(), "100".to_owned()]);
        assert_eq!(printed(&table), "name    n\nada     5\nb     100\n");
    }

    #[test]
    fn a_cell_is_one_short_line() {
        let mut table = Table::new(&["name"]);
        table.push([format!("\u{1b}[31m{}", "a".repeat(100))]);
        let text = printed(&table);
        assert!(!text.contains('\u{1b}') && text.lines().last().unwrap().ends_with('…'), "{text}");
    }
}
