//! A job as a row, and the whole of one for its own page.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Column, Key, Row, counted, plain, when};
use crate::api::JobView;
use crate::domain::{JobState, Ms};
use crate::tui::text::short;
use crate::tui::theme::{Tone, job_sign};

/// More of a payload or an error is not carried along with a list.
const SHOWN: usize = 2_048;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRow {
    pub id: String,
    pub kind: String,
    pub queue: String,
    pub state: JobState,
    pub priority: i8,
    pub attempt: u32,
    pub max_retries: u32,
    pub crashes: u32,
    /// The beginning of it, as JSON.
    pub payload: String,
    /// The beginning of it, as JSON.
    #[serde(default)]
    pub result: Option<String>,
    /// Class and message.
    pub error: Option<String>,
    /// `40% half way`.
    pub progress: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub unique_key: Option<String>,
    pub run_id: Option<String>,
    pub step: Option<String>,
    pub worker: Option<String>,
    pub created_at: Ms,
    pub updated_at: Ms,
    pub run_at: Ms,
    pub started_at: Option<Ms>,
    pub finished_at: Option<Ms>,
}

/// The beginning of a text.
pub fn beginning(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

impl From<&JobView> for JobRow {
    fn from(view: &JobView) -> JobRow {
        let error = view.error.as_ref().map(|error| format!("{}: {}", error.class, error.message));
        let progress = view.progress.as_ref().map(|progress| match progress.percent {
            Some(percent) => format!("{percent:.0}% {}", progress.message),
            None => progress.message.clone(),
        });
        JobRow {
            id: view.id.clone(),
            kind: view.kind.clone(),
            queue: view.queue.clone(),
            state: view.state,
            priority: view.priority,
            attempt: view.attempt,
            max_retries: view.max_retries,
            crashes: u32::try_from(view.crashes).unwrap_or(u32::MAX),
            payload: beginning(view.payload.0.as_str(), SHOWN),
            result: view.result.as_ref().map(|result| beginning(result.0.as_str(), SHOWN)),
            error: error.map(|error| beginning(&error, SHOWN)),
            progress: progress.map(|text| text.trim_end().to_owned()),
            metadata: view.metadata.clone(),
            unique_key: view.unique_key.clone(),
            run_id: view.run_id.clone(),
            step: view.step.clone(),
            worker: view.worker.clone(),
            created_at: view.created_at.0,
            updated_at: view.updated_at.0,
            run_at: view.run_at.0,
            started_at: view.started_at.map(|at| at.0),
            finished_at: view.finished_at.map(|at| at.0),
        }
    }
}

impl JobRow {
    /// What is said of it in the last column: why it failed, how far it is, where it runs.
    pub fn about(&self) -> (String, Tone) {
        match (&self.error, &self.progress, self.state) {
            (_, Some(progress), JobState::Running) => plain(progress.clone()),
            (Some(error), _, JobState::Dead) => (error.clone(), Tone::Bad),
            (Some(error), _, JobState::Completed) => (error.clone(), Tone::Faint),
            (Some(error), ..) => plain(error.clone()),
            _ => (self.payload.clone(), Tone::Faint),
        }
    }
}

impl Row for JobRow {
    fn id(&self) -> &str {
        &self.id
    }

    fn is_problem(&self) -> bool {
        matches!(self.state, JobState::Dead | JobState::Retrying) || self.crashes > 0
    }
}

type J = Column<JobRow>;

fn ran(job: &JobRow) -> Key {
    let took = job.started_at.zip(job.finished_at).map(|(from, to)| to.0 - from.0);
    Key::Number(took.map_or(f64::MIN, |ms| ms as f64))
}

// Sorted only while the whole list is here: else it comes in the order of its index.
pub const JOBS: &[Column<JobRow>] = &[
    J::new("JOB", 8, |job, _| plain(short(&job.id))),
    J::new("TYPE", 16, |job, _| plain(job.kind.clone())).key(|job| Key::Text(job.kind.clone())),
    J::new("QUEUE", 10, |job, _| plain(job.queue.clone())).key(|job| Key::Text(job.queue.clone())),
    J::new("STATE", 11, |job, look| {
        let sign = job_sign(job.state);
        (sign.text(look.unicode), sign.tone)
    })
    .key(|job| Key::Text(job.state.as_str().to_owned())),
    J::new("TRY", 5, |job, _| {
        let tone = if job.attempt > 1 { Tone::Wait } else { Tone::Plain };
        (format!("{}/{}", job.attempt, job.max_retries.saturating_add(1)), tone)
    })
    .right()
    .key(|job| Key::Number(f64::from(job.attempt))),
    J::new("AGE", 6, |job, look| when(Some(job.created_at), look))
        .right()
        .key(|job| Key::Number(-(job.created_at.0 as f64))),
    J::new("DUE", 9, |job, look| match job.state {
        JobState::Scheduled | JobState::Retrying => when(Some(job.run_at), look),
        _ => ("-".to_owned(), Tone::Faint),
    })
    .right()
    .from(100)
    .key(|job| Key::Number(-(job.run_at.0 as f64))),
    J::new("RAN", 7, |job, look| match (job.started_at, job.finished_at, job.state) {
        (Some(from), _, JobState::Running) => (crate::tui::text::brief(look.now.since(from)), Tone::Busy),
        (Some(from), Some(to), _) if to >= from => plain(crate::tui::text::brief(to.since(from))),
        _ => ("-".to_owned(), Tone::Faint),
    })
    .right()
    .from(100)
    .key(ran),
    J::new("PRIO", 5, |job, _| counted_signed(job.priority))
        .right()
        .from(130)
        .key(|job| Key::Number(f64::from(job.priority))),
    J::new("CRASH", 5, |job, _| counted(u64::from(job.crashes), Tone::Bad)).right().from(160),
    J::new("WORKER", 8, |job, _| plain(job.worker.as_deref().map_or("", short))).from(150),
    J::new("RUN", 8, |job, _| plain(job.run_id.as_deref().map_or("", short))).from(160),
    J::new("STEP", 14, |job, _| plain(job.step.clone().unwrap_or_default())).from(180),
    J::new("ABOUT", 14, |job, _| job.about()).grow(),
];

fn counted_signed(n: i8) -> (String, Tone) {
    (n.to_string(), if n == 0 { Tone::Faint } else { Tone::Plain })
}
