//! Tables for people: aligned on a terminal and cut to its width, whole anywhere else.

use super::{Screen, text};

/// Where the cells of a column stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Align {
    /// Text.
    #[default]
    Left,
    /// Numbers.
    Right,
}

/// One column.
#[derive(Clone, Debug)]
pub struct Column {
    title: String,
    align: Align,
    /// Columns it may be cut down to where the terminal is narrow; `None`: never cut.
    min: Option<usize>,
}

impl Column {
    /// A column of text that is never cut.
    #[must_use]
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), align: Align::Left, min: None }
    }

    /// A column of numbers.
    #[must_use]
    pub fn number(title: &str) -> Self {
        Self { align: Align::Right, ..Self::new(title) }
    }

    /// A column of text that may be cut down to `min` columns.
    #[must_use]
    pub fn flexible(title: &str, min: usize) -> Self {
        Self { min: Some(min), ..Self::new(title) }
    }
}

/// A cell: its text, and how it is painted once it is cut and padded.
#[derive(Clone, Debug)]
struct Cell {
    text: String,
    paint: Option<fn(super::Style, &str) -> String>,
}

/// Rows under titles.
///
/// # Example
/// ```
/// use patchloom::output::{Column, Screen, Table};
/// let mut table = Table::new(vec![Column::new("PACKAGE"), Column::number("CVES")]);
/// table.row(["jq", "3"]);
/// assert_eq!(table.render(Screen::PLAIN), "PACKAGE  CVES\njq          3\n");
/// ```
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    indent: usize,
}

const GAP: usize = 2;

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new(), indent: 0 }
    }

    /// Moves the whole table to the right.
    #[must_use]
    pub fn indented(mut self, by: usize) -> Self {
        self.indent = by;
        self
    }

    /// Adds a row. Cells may hold any text: what could steer a terminal is written out.
    pub fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells = cells.into_iter().map(|cell| Cell { text: text::plain(cell.as_ref()), paint: None });
        self.rows.push(cells.collect());
    }

    /// Paints one cell of the row that was added last.
    pub fn paint(&mut self, column: usize, paint: fn(super::Style, &str) -> String) {
        if let Some(cell) = self.rows.last_mut().and_then(|row| row.get_mut(column)) {
            cell.paint = Some(paint);
        }
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text; every line ends with a newline and none with a space.
    #[must_use]
    pub fn render(&self, screen: Screen) -> String {
        let widths = self.widths(screen.width);
        let mut out = String::new();
        let titles: Vec<Cell> =
            self.columns.iter().map(|column| Cell { text: column.title.clone(), paint: None }).collect();
        out.push_str(&screen.style.bold(&self.line(&titles, &widths, Screen::PLAIN)));
        out.push('\n');
        for row in &self.rows {
            out.push_str(&self.line(row, &widths, screen));
            out.push('\n');
        }
        out
    }

    fn line(&self, cells: &[Cell], widths: &[usize], screen: Screen) -> String {
        let mut out = " ".repeat(self.indent);
        // Spaces are held back until something follows them.
        let mut owed = 0;
        for ((column, cell), width) in self.columns.iter().zip(cells).zip(widths) {
            let shown = text::fit(&cell.text, *width);
            let spare = width.saturating_sub(text::width(&shown));
            let (before, after) = if column.align == Align::Right { (spare, 0) } else { (0, spare) };
            if !shown.is_empty() {
                out.push_str(&" ".repeat(owed + before));
                out.push_str(&cell.paint.map_or_else(|| shown.clone(), |paint| paint(screen.style, &shown)));
                owed = after + GAP;
            } else {
                owed += spare + GAP;
            }
        }
        out
    }

    /// The width of each column: what it needs, or less where the screen is narrow and it may be cut.
    fn widths(&self, screen: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| text::width(&cell.text));
                cells.chain([text::width(&column.title)]).max().unwrap_or(0)
            })
            .collect();
        let Some(screen) = screen else { return widths };
        let gaps = GAP * widths.len().saturating_sub(1) + self.indent;
        let mut excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(screen);
        while excess > 0 {
            // The widest that can still give, gives one.
            let give = self.columns.iter().zip(widths.iter_mut()).filter_map(|(column, width)| {
                let min = column.min?;
                (*width > min).then_some(width)
            });
            let Some(width) = give.max_by_key(|width| **width) else { break };
            *width -= 1;
            excess -= 1;
        }
        widths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table =
            Table::new(vec![Column::new("PACKAGE"), Column::flexible("WHY", 6), Column::number("CVES")]).indented(2);
        table.row(["jq", "a heap overflow that anybody can trigger", "3"]);
        table.row(["tzdata", "", ""]);
        table
    }

    #[test]
    fn off_a_terminal_nothing_is_cut_and_no_line_ends_in_spaces() {
        let text = sample().render(Screen::PLAIN);
        assert!(text.contains("a heap overflow that anybody can trigger"));
        assert!(text.lines().all(|line| line == line.trim_end()));
    }

    #[test]
    fn on_a_narrow_terminal_only_flexible_columns_give_and_not_below_their_least() {
        let narrow = |width| sample().render(Screen { width: Some(width), ..Screen::PLAIN });
        assert!(narrow(40).lines().all(|line| text::width(line) <= 40), "{}", narrow(40));
        assert_eq!(narrow(1), "  PACKAGE  WHY     CVES\n  jq       a hea…     3\n  tzdata\n");
    }

    #[test]
    fn paint_does_not_disturb_the_columns() {
        let mut table = Table::new(vec![Column::new("A"), Column::new("B")]);
        table.row(["x", "y"]);
        table.paint(0, super::super::Style::red);
        let screen = Screen { style: super::super::Style::PAINTED, ..Screen::PLAIN };
        assert!(table.render(screen).contains("\x1b[31;1mx\x1b[0m  y"));
    }
}
