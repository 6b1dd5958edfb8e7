//! A schedule as a row.

use serde::{Deserialize, Serialize};

use super::jobs::beginning;
use super::{Column, Key, Row, counted, plain, when};
use crate::api::ScheduleView;
use crate::domain::Ms;
use crate::tui::theme::{OPEN, PAUSED, Tone};

/// More of an input is not carried along with a list.
const SHOWN: usize = 2_048;
/// A tick that is due for longer was seen by no scheduler.
pub const LATE_MS: i64 = 15_000;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScheduleRow {
    pub name: String,
    pub rule: String,
    pub timezone: String,
    /// `workflow nightly`, `job mail on default`.
    pub starts: String,
    pub input: String,
    pub overlap: String,
    pub catchup: String,
    pub paused: bool,
    pub next_at: Option<Ms>,
    /// The ticks that come, the next one first.
    pub ticks: Vec<Ms>,
    pub last_at: Option<Ms>,
    pub last_job: Option<String>,
    pub last_run: Option<String>,
    pub waiting: usize,
    pub ticked: u64,
    pub skipped: u64,
    pub missed: u64,
}

impl ScheduleRow {
    pub fn new(view: &ScheduleView, ticks: Vec<Ms>) -> ScheduleRow {
        let starts = match (&view.workflow, &view.job, &view.queue) {
            (Some(workflow), ..) => format!("workflow {workflow}"),
            (_, Some(job), Some(queue)) => format!("job {job} on {queue}"),
            (_, job, _) => format!("job {}", job.as_deref().unwrap_or("?")),
        };
        ScheduleRow {
            name: view.name.clone(),
            rule: view.rule.clone(),
            timezone: view.timezone.clone(),
            starts,
            input: beginning(view.input.0.as_str(), SHOWN),
            overlap: view.overlap.clone(),
            catchup: view.catchup.clone(),
            paused: view.paused,
            next_at: view.next_at.map(|at| at.0),
            ticks,
            last_at: view.last_at.map(|at| at.0),
            last_job: view.last_job_id.clone(),
            last_run: view.last_run_id.clone(),
            waiting: view.waiting.len(),
            ticked: view.ticked,
            skipped: view.skipped,
            missed: view.missed,
        }
    }

    /// For how long a tick has been due that nobody saw to.
    pub fn late(&self, now: Ms) -> Option<std::time::Duration> {
        self.next_at.filter(|at| now.0 - at.0 > LATE_MS).map(|at| now.since(at))
    }
}

impl Row for ScheduleRow {
    fn id(&self) -> &str {
        &self.name
    }

    fn is_problem(&self) -> bool {
        self.missed > 0 || self.skipped > 0 || self.waiting > 0
    }
}

type S = Column<ScheduleRow>;

pub const SCHEDULES: &[Column<ScheduleRow>] = &[
    S::new("SCHEDULE", 14, |one, _| plain(one.name.clone())).key(|one| Key::Text(one.name.clone())).grow(),
    S::new("STATE", 8, |one, look| match (one.paused, one.late(look.now)) {
        (true, _) => (PAUSED.text(look.unicode), PAUSED.tone),
        (_, Some(_)) => (if look.unicode { "✗ late" } else { "! late" }.to_owned(), Tone::Bad),
        _ => (OPEN.text(look.unicode), OPEN.tone),
    })
    .key(|one| Key::Number(f64::from(u8::from(one.paused)))),
    S::new("RULE", 14, |one, _| plain(one.rule.clone())).key(|one| Key::Text(one.rule.clone())),
    S::new("NEXT", 8, |one, look| match one.late(look.now) {
        Some(late) => (format!("-{}", crate::tui::text::brief(late)), Tone::Bad),
        None => when(one.next_at, look),
    })
    .right()
    .key(|one| Key::Number(one.next_at.map_or(f64::MIN, |at| -(at.0 as f64)))),
    S::new("LAST", 7, |one, look| when(one.last_at, look))
        .right()
        .key(|one| Key::Number(one.last_at.map_or(f64::MIN, |at| at.0 as f64))),
    S::new("TICKED", 7, |one, _| counted(one.ticked, Tone::Plain)).right().key(|one| Key::Number(one.ticked as f64)),
    S::new("MISSED", 7, |one, _| counted(one.missed, Tone::Bad)).right().key(|one| Key::Number(one.missed as f64)),
    S::new("SKIPPED", 7, |one, _| counted(one.skipped, Tone::Wait))
        .right()
        .from(90)
        .key(|one| Key::Number(one.skipped as f64)),
    S::new("ZONE", 16, |one, _| (one.timezone.clone(), Tone::Faint)).from(130),
    S::new("STARTS", 30, |one, _| plain(one.starts.clone())).from(150),
];
