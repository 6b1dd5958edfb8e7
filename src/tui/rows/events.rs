//! An event as a row.

use serde::{Deserialize, Serialize};

use super::jobs::beginning;
use super::{Column, Row, plain};
use crate::api::EventView;
use crate::domain::Ms;
use crate::tui::text::short;
use crate::tui::theme::Tone;

/// More of what an event tells is not carried along with a list.
const SHOWN: usize = 4_096;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventRow {
    pub id: String,
    pub at: Ms,
    pub kind: String,
    pub job: Option<String>,
    pub run: Option<String>,
    pub step: Option<String>,
    pub queue: Option<String>,
    pub worker: Option<String>,
    pub attempt: Option<u32>,
    pub data: Option<String>,
}

impl From<&EventView> for EventRow {
    fn from(event: &EventView) -> EventRow {
        EventRow {
            id: event.id.clone(),
            at: event.at.0,
            kind: event.kind.to_owned(),
            job: event.job_id.clone(),
            run: event.run_id.clone(),
            step: event.step.clone(),
            queue: event.queue.clone(),
            worker: event.worker.clone(),
            attempt: event.attempt,
            data: event.data.as_deref().map(|data| beginning(data, SHOWN)),
        }
    }
}

/// What an event means for those who look for trouble.
pub fn tone(kind: &str) -> Tone {
    let what = kind.split_once('.').map_or(kind, |(_, what)| what);
    match what {
        "failed" | "dead" | "lost" | "missed" | "undo_failed" => Tone::Bad,
        "retried" | "retrying" | "released" | "paused" | "skipped" | "waiting" | "compensating" | "draining"
        | "cancelled" => Tone::Wait,
        "completed" | "compensated" => Tone::Good,
        "started" | "created" => Tone::Busy,
        _ => Tone::Plain,
    }
}

impl EventRow {
    /// What it is about, in a few words.
    pub fn subject(&self) -> String {
        let parts = [
            self.job.as_deref().map(|id| format!("job {}", short(id))),
            self.run.as_deref().map(|id| format!("run {}", short(id))),
            self.step.clone(),
            self.worker.as_deref().filter(|_| self.job.is_none()).map(|id| format!("worker {}", short(id))),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

impl Row for EventRow {
    fn id(&self) -> &str {
        &self.id
    }

    fn is_problem(&self) -> bool {
        tone(&self.kind) == Tone::Bad
    }
}

type E = Column<EventRow>;

// Without keys: events come in the order in which they happened.
pub const EVENTS: &[Column<EventRow>] = &[
    E::new("AT", 12, |event, _| {
        let text = event.at.rfc3339();
        plain(text.get(11..23).unwrap_or(&text))
    }),
    E::new("EVENT", 18, |event, _| (event.kind.clone(), tone(&event.kind))),
    E::new("ABOUT", 30, |event, _| plain(event.subject())),
    E::new("QUEUE", 10, |event, _| plain(event.queue.clone().unwrap_or_default())).from(100),
    E::new("TRY", 3, |event, _| plain(event.attempt.map_or(String::new(), |n| n.to_string()))).right().from(110),
    E::new("WORKER", 8, |event, _| plain(event.worker.as_deref().map_or("", short))).from(140),
    E::new("DATA", 10, |event, _| (event.data.clone().unwrap_or_default(), Tone::Plain)).grow(),
];
