//! A queue as a row.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Column, Key, Row, counted, plain};
use crate::api::QueueView;
use crate::domain::text::thousands;
use crate::tui::text::brief;
use crate::tui::theme::{OPEN, PAUSED, Tone};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueRow {
    pub name: String,
    pub paused: bool,
    pub pending: u64,
    pub running: u64,
    /// Room of the live workers that serve it, and its own limit: the smaller of both.
    pub room: Option<u64>,
    pub retrying: u64,
    pub scheduled: u64,
    pub dead: u64,
    pub completed: u64,
    pub cancelled: u64,
    pub parked: u64,
    pub oldest_ms: Option<i64>,
    /// What is set, for people.
    pub settings: String,
    /// Completed a second, over the last ten; none until the event log was read to its end.
    pub done_per_s: Option<f64>,
    /// More wait (1) or fewer (-1) than some ten seconds ago.
    pub trend: i8,
}

impl QueueRow {
    pub fn new(view: &QueueView) -> QueueRow {
        QueueRow {
            name: view.name.clone(),
            paused: view.paused,
            pending: view.pending,
            running: view.running,
            retrying: view.retrying,
            scheduled: view.scheduled,
            dead: view.dead,
            completed: view.completed,
            cancelled: view.cancelled,
            parked: view.parked,
            oldest_ms: view.oldest_pending_ms,
            settings: view.settings_text(),
            ..QueueRow::default()
        }
    }

    pub fn oldest(&self) -> Option<Duration> {
        self.oldest_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
    }
}

impl Row for QueueRow {
    fn id(&self) -> &str {
        &self.name
    }

    fn is_problem(&self) -> bool {
        self.dead > 0 || self.retrying > 0 || self.parked > 0 || (self.paused && self.pending > 0)
    }
}

fn number(n: u64) -> Key {
    Key::Number(n as f64)
}

type Q = Column<QueueRow>;

pub const QUEUES: &[Column<QueueRow>] = &[
    Q::new("QUEUE", 10, |queue, _| plain(queue.name.clone())).key(|queue| Key::Text(queue.name.clone())).grow(),
    Q::new("STATE", 8, |queue, look| {
        let sign = if queue.paused { PAUSED } else { OPEN };
        (sign.text(look.unicode), sign.tone)
    })
    .key(|queue| Key::Number(f64::from(u8::from(queue.paused)))),
    Q::new("PENDING", 10, |queue, look| super::with_trend(queue.pending, queue.trend, look))
        .right()
        .key(|queue| number(queue.pending)),
    Q::new("RUN/MAX", 8, |queue, look| {
        let most = match (queue.room, look.unicode) {
            (Some(room), _) => room.to_string(),
            (None, true) => "–".to_owned(),
            (None, false) => "-".to_owned(),
        };
        (format!("{}/{most}", queue.running), if queue.running > 0 { Tone::Busy } else { Tone::Faint })
    })
    .right()
    .key(|queue| number(queue.running)),
    Q::new("RETRY", 6, |queue, _| counted(queue.retrying, Tone::Wait)).right().key(|queue| number(queue.retrying)),
    Q::new("SCHED", 7, |queue, _| counted(queue.scheduled, Tone::Plain)).right().key(|queue| number(queue.scheduled)),
    Q::new("DEAD", 6, |queue, _| counted(queue.dead, Tone::Bad)).right().key(|queue| number(queue.dead)),
    Q::new("DONE/S", 7, |queue, _| super::per_second(queue.done_per_s))
        .right()
        .key(|queue| Key::Number(queue.done_per_s.unwrap_or(0.0))),
    Q::new("OLDEST", 7, |queue, _| match queue.oldest() {
        Some(age) => plain(brief(age)),
        None => ("-".to_owned(), Tone::Faint),
    })
    .right()
    .key(|queue| Key::Number(queue.oldest_ms.unwrap_or(-1) as f64)),
    Q::new("COMPLETED", 11, |queue, _| counted(queue.completed, Tone::Plain))
        .right()
        .from(120)
        .key(|queue| number(queue.completed)),
    Q::new("CANCELLED", 10, |queue, _| counted(queue.cancelled, Tone::Plain))
        .right()
        .from(130)
        .key(|queue| number(queue.cancelled)),
    Q::new("PARKED", 8, |queue, _| (thousands(queue.parked), if queue.parked > 0 { Tone::Wait } else { Tone::Faint }))
        .right()
        .from(140)
        .key(|queue| number(queue.parked)),
    Q::new("SETTINGS", 40, |queue, _| (queue.settings.clone(), Tone::Faint)).from(190),
];
