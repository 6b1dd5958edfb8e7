//! The output formats. A list is the same rows in every format: a table for people, JSON, JSON
//! lines, YAML and names for programs. Knows nothing of what the rows are.

use std::borrow::Cow;

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Table, TableStyle,
};
use serde::Serialize;

use super::args::Format;
use super::error::{Result, fail};
use super::ui::Ui;
use crate::domain::JobState;
use crate::domain::text::{display_safe, display_safe_lines, json_safe};

/// The colour of a cell, by meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Good,
    Busy,
    Wait,
    Bad,
    Faint,
}

/// One column of a table. `cell` gets the row and whether the full form is wanted (wide, or no
/// terminal).
pub struct Column<T> {
    pub title: &'static str,
    /// Shown in `-o wide` only.
    pub wide: bool,
    pub right: bool,
    /// The least width where rows come one by one and nothing aligns them.
    pub least: usize,
    pub cell: fn(&T, &Ui) -> String,
    pub tone: fn(&T) -> Option<Tone>,
}

impl<T> Column<T> {
    pub const fn new(title: &'static str, cell: fn(&T, &Ui) -> String) -> Column<T> {
        Column { title, wide: false, right: false, least: 0, cell, tone: |_| None }
    }

    pub const fn wide(mut self) -> Self {
        self.wide = true;
        self
    }

    pub const fn right(mut self) -> Self {
        self.right = true;
        self
    }

    pub const fn least(mut self, width: usize) -> Self {
        self.least = width;
        self
    }

    pub const fn tone(mut self, tone: fn(&T) -> Option<Tone>) -> Self {
        self.tone = tone;
        self
    }
}

/// What a list is made of: its value for programs and its name.
pub trait Listed: Serialize {
    /// What `-o name` prints: enough to give to another command.
    fn name(&self) -> &str;
}

impl Ui {
    /// Prints a list. Empty is `[]`, or nothing where there is no frame around the rows.
    ///
    /// # Errors
    /// Only of writing.
    pub fn list<T: Listed>(&self, rows: &[T], columns: &[Column<T>]) -> Result {
        match self.format {
            Format::Json => self.line(&to_json(&rows, true)?),
            Format::Jsonl => rows.iter().try_for_each(|row| self.line(&to_json(row, false)?)),
            Format::Yaml => self.block(&to_yaml(&rows)?),
            Format::Name => rows.iter().try_for_each(|row| self.line(&display_safe(row.name()))),
            Format::Table | Format::Wide if rows.is_empty() => Ok(()),
            Format::Table | Format::Wide => self.block(&self.table(rows, columns)),
        }
    }

    /// Prints some rows of a list that goes on: without a header, and aligned by the least widths.
    ///
    /// # Errors
    /// Only of writing.
    pub fn rows<T: Listed>(&self, rows: &[T], columns: &[Column<T>]) -> Result {
        if !matches!(self.format, Format::Table | Format::Wide) {
            return if rows.is_empty() { Ok(()) } else { self.list(rows, columns) };
        }
        for row in rows {
            let mut line = String::new();
            for column in columns.iter().filter(|column| self.format == Format::Wide || !column.wide) {
                let text = (column.cell)(row, self);
                let (text, least) = (display_safe(&text), column.least);
                let (on, off) = (column.tone)(row).map_or(("", ""), |tone| ink(self.color, tone));
                line.push_str(&match column.right {
                    true => format!("{on}{text:>least$}{off}  "),
                    false => format!("{on}{text:<least$}{off}  "),
                });
            }
            self.line(line.trim_end())?;
        }
        Ok(())
    }

    /// Prints one value as JSON, without a line break behind it.
    ///
    /// # Errors
    /// Only of writing.
    pub fn bare(&self, value: &impl Serialize) -> Result {
        self.block(&to_json(value, false)?)
    }

    /// Prints one thing: its fields for people, or its value for programs.
    ///
    /// # Errors
    /// Only of writing.
    pub fn one<T: Listed>(&self, value: &T, fields: &[(&str, String)]) -> Result {
        match self.format {
            Format::Json => self.line(&to_json(value, true)?),
            Format::Jsonl => self.line(&to_json(value, false)?),
            Format::Yaml => self.block(&to_yaml(value)?),
            Format::Name => self.line(&display_safe(value.name())),
            Format::Table | Format::Wide => {
                let widest = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
                for (name, text) in fields {
                    // A block, such as pretty JSON, keeps its lines, each of them indented and safe.
                    let indent = format!("\n{:widest$}  ", "");
                    let lines: Vec<_> = text.lines().map(display_safe).collect();
                    self.line(format!("{name:widest$}  {}", lines.join(&indent)).trim_end())?;
                }
                Ok(())
            }
        }
    }

    /// Prints the result of a verb: a sentence for people, its value for programs.
    ///
    /// # Errors
    /// Only of writing.
    pub fn result(&self, value: &impl Serialize, sentence: &str) -> Result {
        match self.format {
            Format::Json => self.line(&to_json(value, true)?),
            Format::Jsonl => self.line(&to_json(value, false)?),
            Format::Yaml => self.block(&to_yaml(value)?),
            Format::Table | Format::Wide | Format::Name => self.line(&display_safe(sentence)),
        }
    }

    /// As [`Ui::result`], with lines that are safe and painted already.
    ///
    /// # Errors
    /// Only of writing.
    pub fn result_lines(&self, value: &impl Serialize, lines: &[String]) -> Result {
        match self.format {
            Format::Table | Format::Wide | Format::Name => lines.iter().try_for_each(|line| self.line(line)),
            Format::Json | Format::Jsonl | Format::Yaml => self.result(value, ""),
        }
    }

    /// What switches a tone on and off again within a line of stdout.
    pub fn ink(&self, tone: Tone) -> (&'static str, &'static str) {
        ink(self.color, tone)
    }

    fn table<T>(&self, rows: &[T], columns: &[Column<T>]) -> String {
        let wide = self.format == Format::Wide;
        let columns: Vec<&Column<T>> = columns.iter().filter(|column| wide || !column.wide).collect();
        let mut table = Table::new();
        table.load_style(TableStyle::new());
        match self.width {
            Some(width) => {
                table
                    .set_content_arrangement(ContentArrangement::Dynamic)
                    .set_width(width)
                    .set_truncation_indicator("…");
            }
            None => {
                table.set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        if self.color {
            table.enforce_styling()
        } else {
            table.force_no_tty()
        };
        let mut header = Row::new();
        for column in &columns {
            let cell = Cell::new(column.title);
            header.add_cell(if self.color { cell.add_attribute(Attribute::Bold) } else { cell });
        }
        header.max_height(1);
        table.set_header(header);
        for row in rows {
            let mut cells = Row::new();
            for column in &columns {
                let text = (column.cell)(row, self);
                cells.add_cell(self.paint(Cell::new(display_safe(&text)), (column.tone)(row)));
            }
            if self.width.is_some() {
                cells.max_height(1);
            }
            table.add_row(cells);
        }
        for (place, column) in columns.iter().enumerate() {
            if let Some(drawn) = table.column_mut(place) {
                drawn.set_padding((0, if place + 1 < columns.len() { 2 } else { 0 }));
                if column.right {
                    // Of a number nothing can be left out; texts give way.
                    drawn.set_cell_alignment(CellAlignment::Right);
                    drawn.set_constraint(ColumnConstraint::ContentWidth);
                }
            }
        }
        table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }

    fn paint(&self, cell: Cell, tone: Option<Tone>) -> Cell {
        match tone.filter(|_| self.color) {
            None => cell,
            Some(Tone::Good) => cell.fg(Color::DarkGreen),
            Some(Tone::Busy) => cell.fg(Color::DarkBlue),
            Some(Tone::Wait) => cell.fg(Color::DarkYellow),
            Some(Tone::Bad) => cell.fg(Color::DarkRed),
            Some(Tone::Faint) => cell.add_attribute(Attribute::Dim),
        }
    }

    /// A job's state: on a terminal its glyph before the word.
    pub fn state(&self, state: JobState) -> String {
        if !self.is_terminal() {
            return state.to_string();
        }
        let (glyph, ascii) = match state {
            JobState::Pending => ("○", "o"),
            JobState::Running => ("▶", ">"),
            JobState::Scheduled => ("◷", "@"),
            JobState::Retrying => ("↻", "~"),
            JobState::Completed => ("✓", "+"),
            JobState::Dead => ("■", "#"),
            JobState::Cancelled => ("⊘", "x"),
        };
        format!("{} {state}", if self.unicode { glyph } else { ascii })
    }
}

/// The tone of a job's state.
pub fn state_tone(state: JobState) -> Option<Tone> {
    match state {
        JobState::Running => Some(Tone::Busy),
        JobState::Retrying | JobState::Scheduled => Some(Tone::Wait),
        JobState::Dead => Some(Tone::Bad),
        JobState::Completed => Some(Tone::Good),
        JobState::Cancelled => Some(Tone::Faint),
        JobState::Pending => None,
    }
}

/// What switches a tone on and off again within a line; nothing without colours.
pub fn ink(color: bool, tone: Tone) -> (&'static str, &'static str) {
    if !color {
        return ("", "");
    }
    let on = match tone {
        Tone::Good => "\u{1b}[32m",
        Tone::Busy => "\u{1b}[34m",
        Tone::Wait => "\u{1b}[33m",
        Tone::Bad => "\u{1b}[31m",
        Tone::Faint => "\u{1b}[2m",
    };
    (on, "\u{1b}[0m")
}

fn to_json(value: &impl Serialize, pretty: bool) -> Result<String> {
    let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    let text =
        text.map_err(|error| fail(super::codes::Code::Bug, format!("a value cannot be written as JSON: {error}")))?;
    Ok(match json_safe(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(safe) => safe,
    })
}

/// The lines of a text, harmless on a terminal.
pub fn to_lines(text: &str) -> Vec<String> {
    text.lines().map(|line| display_safe(line).into_owned()).collect()
}

/// A manifest's canonical JSON as YAML that reads as the same manifest; harmless on a terminal.
///
/// # Errors
/// Text that is not JSON.
pub fn yaml_of(json: &str) -> Result<String> {
    let value: serde_json::Value = serde_json::from_str(json)
        .map_err(|error| fail(super::codes::Code::StoreCorrupt, format!("a definition is not JSON: {error}")))?;
    to_yaml(&value)
}

fn to_yaml(value: &impl Serialize) -> Result<String> {
    // Folded text is for people who write YAML; here every string is to be seen as it is.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false, compact_list_indent: true };
    let text = serde_saphyr::to_string_with_options(value, options)
        .map_err(|error| fail(super::codes::Code::Bug, format!("a value cannot be written as YAML: {error}")))?;
    if display_safe_lines(&text) != text.trim_end_matches('\n') {
        // A plain scalar has no escapes. JSON has, and is YAML.
        return Ok(to_json(value, true)? + "\n");
    }
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}
