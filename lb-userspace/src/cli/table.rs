//! Aligned columns, with colours that do not disturb the alignment.

use std::fmt::Write;

use anstyle::Style;

/// Between two columns.
const GAP: &str = "  ";

/// Lines longer than this have their last column cut.
const WIDTH_MAX: usize = 120;

/// The last column keeps at least this much, however wide the others are.
const LAST_WIDTH_MIN: usize = 24;

/// Titles of columns.
const TITLE: Style = Style::new().bold();

/// On which side a column's cells are flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// One field of a table.
#[derive(Debug, Clone, Default)]
pub(super) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(super) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self {
            text: text.into(),
            style,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::new())
    }
}

/// Rows under titles.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    columns: [(&'static str, Side); N],
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(columns: [(&'static str, Side); N]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells);
    }

    /// The lines of the table; none without rows.
    pub(super) fn render(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let widths = self.widths();
        let titles = self.columns.map(|(title, _)| Cell::styled(title, TITLE));
        std::iter::once(&titles)
            .chain(&self.rows)
            .map(|row| self.line(row, &widths))
            .collect()
    }

    fn widths(&self) -> [usize; N] {
        let mut widths = self.columns.map(|(title, _)| title.chars().count());
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        if let Some((last, others)) = widths.split_last_mut() {
            let taken: usize = others.iter().map(|width| width + GAP.len()).sum();
            *last = (*last).min(WIDTH_MAX.saturating_sub(taken).max(LAST_WIDTH_MIN));
        }
        widths
    }

    fn line(&self, row: &[Cell; N], widths: &[usize; N]) -> String {
        let mut line = String::new();
        for (index, (cell, &width)) in row.iter().zip(widths).enumerate() {
            let (_, side) = self.columns[index];
            let text = cut(&cell.text, width);
            let padding = " ".repeat(width - text.chars().count());
            let style = cell.style;
            let _ = match side {
                // What follows the last column is nobody's to align.
                Side::Left if index + 1 == N => write!(line, "{style}{text}{style:#}"),
                Side::Left => write!(line, "{style}{text}{style:#}{padding}{GAP}"),
                Side::Right if index + 1 == N => write!(line, "{padding}{style}{text}{style:#}"),
                Side::Right => write!(line, "{padding}{style}{text}{style:#}{GAP}"),
            };
        }
        let mut line = line.trim_end().to_owned();
        line.push('\n');
        line
    }
}

/// The text, with `…` in place of what goes beyond `width` characters.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

#[cfg(test)]
mod tests {
    use anstyle::AnsiColor;

    use super::*;

    fn table(why: &str) -> String {
        let mut table = Table::new([
            ("NAME", Side::Left),
            ("PKT/S", Side::Right),
            ("WHY", Side::Left),
        ]);
        let green = AnsiColor::Green.on_default();
        table.row(["a".into(), "1".into(), "".into()]);
        table.row([Cell::styled("logic-1", green), "12.3k".into(), why.into()]);
        table.render()
    }

    #[test]
    fn columns_are_aligned_whatever_their_colours() {
        let table = table("ok");
        assert!(table.contains('\x1b'));
        assert_eq!(
            anstream::adapter::strip_str(&table).to_string(),
            "NAME     PKT/S  WHY\n\
             a            1\n\
             logic-1  12.3k  ok\n"
        );
    }

    #[test]
    fn only_the_last_column_is_cut() {
        let table = table(&"x".repeat(300));
        let table = anstream::adapter::strip_str(&table).to_string();
        let longest = table.lines().map(|line| line.chars().count()).max();
        assert_eq!(longest, Some(WIDTH_MAX));
        assert!(table.ends_with("x…\n"));
    }

    #[test]
    fn a_table_without_rows_is_nothing() {
        assert_eq!(Table::new([("NAME", Side::Left)]).render(), "");
    }
}
