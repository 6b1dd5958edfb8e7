//! Lists: one file a kind of row, with what the data task tells of it and its columns. Rows hold text
//! as it came; whoever draws a cell makes it harmless. They are kept as they are by `--record`, so a
//! field that is added must have a default.

pub mod columns;
pub mod events;
pub mod groups;
pub mod jobs;
pub mod queues;
pub mod runs;
pub mod schedules;
pub mod shards;
pub mod workers;

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

pub use self::events::EventRow;
pub use self::groups::GroupRow;
pub use self::jobs::JobRow;
pub use self::queues::QueueRow;
pub use self::runs::RunRow;
pub use self::schedules::ScheduleRow;
pub use self::shards::ShardRow;
pub use self::workers::WorkerRow;
use super::theme::Tone;
use crate::domain::Ms;

/// What a cell may look at beside its row.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub now: Ms,
    pub unicode: bool,
}

/// What rows are sorted by.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
pub enum Key {
    Number(f64),
    Text(String),
}

/// One column.
pub struct Column<T> {
    pub title: &'static str,
    /// Its columns on the screen.
    pub width: u16,
    /// It also gets what is left over; the last one that does so gets all of it.
    pub grow: bool,
    pub right: bool,
    /// Shown in a list of so many columns or more; and always if wide is asked for.
    pub from: u16,
    pub cell: fn(&T, Look) -> (String, Tone),
    /// None for a column that nobody sorts by.
    pub key: Option<fn(&T) -> Key>,
}

impl<T> Column<T> {
    pub const fn new(title: &'static str, width: u16, cell: fn(&T, Look) -> (String, Tone)) -> Column<T> {
        Column { title, width, grow: false, right: false, from: 0, cell, key: None }
    }

    pub const fn right(mut self) -> Self {
        self.right = true;
        self
    }

    pub const fn grow(mut self) -> Self {
        self.grow = true;
        self
    }

    pub const fn from(mut self, columns: u16) -> Self {
        self.from = columns;
        self
    }

    pub const fn key(mut self, key: fn(&T) -> Key) -> Self {
        self.key = Some(key);
        self
    }
}

/// A cell that means nothing beyond its text.
pub fn plain(text: impl Into<String>) -> (String, Tone) {
    (text.into(), Tone::Plain)
}

/// A count; nothing to see is faint.
pub fn counted(n: u64, tone: Tone) -> (String, Tone) {
    (crate::domain::text::thousands(n), if n == 0 { Tone::Faint } else { tone })
}

/// How long ago a time was, or how long until it.
pub fn when(at: Option<Ms>, look: Look) -> (String, Tone) {
    match at {
        None => ("-".to_owned(), Tone::Faint),
        Some(at) if at > look.now => plain(format!("in {}", super::text::brief(at.since(look.now)))),
        Some(at) => plain(super::text::brief(look.now.since(at))),
    }
}

/// A count, and whether it grows or falls.
pub fn with_trend(n: u64, trend: i8, look: Look) -> (String, Tone) {
    let arrow = match (trend, look.unicode) {
        (1.., true) => "↑",
        (1.., false) => "+",
        (0, _) => " ",
        (_, true) => "↓",
        (_, false) => "-",
    };
    let (text, tone) = counted(n, Tone::Plain);
    (text + arrow, tone)
}

/// How many a second; not known yet is none.
pub fn per_second(rate: Option<f64>) -> (String, Tone) {
    match rate {
        None => ("-".to_owned(), Tone::Faint),
        Some(rate) if rate > 0.0 && rate < 9.95 => plain(format!("{rate:.1}")),
        Some(rate) => counted(rate.round() as u64, Tone::Plain),
    }
}

/// What every row has.
pub trait Row {
    /// Unique in its list, and what commands are told: a name or an id.
    fn id(&self) -> &str;
    /// Something is wrong with it: what `!` leaves over.
    fn is_problem(&self) -> bool;
}

/// The rows of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Rows {
    Queues(Vec<QueueRow>),
    Jobs(Vec<JobRow>),
    Workers(Vec<WorkerRow>),
    Runs(Vec<RunRow>),
    Schedules(Vec<ScheduleRow>),
    Groups(Vec<GroupRow>),
    Events(Vec<EventRow>),
    Shards(Vec<ShardRow>),
}

/// Does the same with rows of any kind: `each!(rows, list, columns => …)`.
macro_rules! each {
    ($rows:expr, $list:ident, $columns:ident => $body:expr) => {
        match $rows {
            $crate::tui::rows::Rows::Queues($list) => {
                let $columns = $crate::tui::rows::queues::QUEUES;
                $body
            }
            $crate::tui::rows::Rows::Jobs($list) => {
                let $columns = $crate::tui::rows::jobs::JOBS;
                $body
            }
            $crate::tui::rows::Rows::Workers($list) => {
                let $columns = $crate::tui::rows::workers::WORKERS;
                $body
            }
            $crate::tui::rows::Rows::Runs($list) => {
                let $columns = $crate::tui::rows::runs::RUNS;
                $body
            }
            $crate::tui::rows::Rows::Schedules($list) => {
                let $columns = $crate::tui::rows::schedules::SCHEDULES;
                $body
            }
            $crate::tui::rows::Rows::Groups($list) => {
                let $columns = $crate::tui::rows::groups::GROUPS;
                $body
            }
            $crate::tui::rows::Rows::Events($list) => {
                let $columns = $crate::tui::rows::events::EVENTS;
                $body
            }
            $crate::tui::rows::Rows::Shards($list) => {
                let $columns = $crate::tui::rows::shards::SHARDS;
                $body
            }
        }
    };
}
pub(crate) use each;

/// By which column, and in which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    pub column: usize,
    pub reverse: bool,
}

impl Rows {
    pub fn len(&self) -> usize {
        each!(self, list, _columns => list.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn id(&self, at: usize) -> Option<&str> {
        each!(self, list, _columns => list.get(at).map(Row::id))
    }

    pub fn position(&self, id: &str) -> Option<usize> {
        each!(self, list, _columns => list.iter().position(|row| row.id() == id))
    }

    pub fn ids(&self) -> Vec<String> {
        each!(self, list, _columns => list.iter().map(|row| row.id().to_owned()).collect())
    }

    /// One row as JSON on several lines.
    pub fn raw(&self, at: usize) -> Option<String> {
        each!(self, list, _columns => list.get(at).and_then(|row| serde_json::to_string_pretty(row).ok()))
    }

    /// Takes rows off the beginning.
    pub fn drop_first(&mut self, rows: usize) {
        each!(self, list, _columns => {
            list.drain(..rows.min(list.len()));
        });
    }

    /// Keeps only what something is wrong with.
    pub fn keep_problems(&mut self) {
        each!(self, list, _columns => list.retain(Row::is_problem));
    }

    /// As [`sortable`].
    pub fn sortable(&self) -> Vec<Sort> {
        each!(self, list, columns => sortable(list, columns))
    }

    /// As [`sort`].
    pub fn sort(&mut self, by: Sort) {
        each!(self, list, columns => sort(list, columns, by));
    }
}

/// The columns that rows can be sorted by, each in the order that is of use first: numbers from the
/// largest, words from their beginning.
pub fn sortable<T>(rows: &[T], columns: &[Column<T>]) -> Vec<Sort> {
    let first = |key: fn(&T) -> Key| rows.first().is_some_and(|row| matches!(key(row), Key::Number(_)));
    let keys = columns.iter().enumerate().filter_map(|(column, one)| Some((column, one.key?)));
    keys.map(|(column, key)| Sort { column, reverse: first(key) }).collect()
}

/// Sorts by a column; equal rows stay in their order.
pub fn sort<T>(rows: &mut [T], columns: &[Column<T>], by: Sort) {
    let Some(key) = columns.get(by.column).and_then(|column| column.key) else { return };
    rows.sort_by(|a, b| {
        let order = key(a).partial_cmp(&key(b)).unwrap_or(Ordering::Equal);
        if by.reverse { order.reverse() } else { order }
    });
}
