//! A run as a row.

use serde::{Deserialize, Serialize};

use super::jobs::beginning;
use super::{Column, Key, Row, plain, when};
use crate::api::run_list::RunBrief;
use crate::domain::{Ms, RunState};
use crate::tui::text::{brief, short};
use crate::tui::theme::{Tone, run_sign};

/// More of an error is not carried along with a list.
const SHOWN: usize = 1_024;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRow {
    pub id: String,
    pub workflow: String,
    pub state: RunState,
    pub error: Option<String>,
    pub parent: Option<String>,
    #[serde(default)]
    pub key: Option<String>,
    pub created_at: Ms,
    pub started_at: Option<Ms>,
    pub finished_at: Option<Ms>,
    pub steps: usize,
    pub ended: usize,
    #[serde(default)]
    pub failed: usize,
    /// Ids of steps that are under way.
    pub active: Vec<String>,
    #[serde(default)]
    pub approvals: usize,
    #[serde(default)]
    pub owed: Vec<String>,
}

impl From<&RunBrief> for RunRow {
    fn from(run: &RunBrief) -> RunRow {
        RunRow {
            id: run.id.clone(),
            workflow: run.workflow.clone(),
            state: run.state,
            error: run.error.as_deref().map(|error| beginning(error, SHOWN)),
            parent: run.parent.clone(),
            key: run.key.clone(),
            created_at: run.created_at,
            started_at: run.started_at,
            finished_at: run.finished_at,
            steps: run.steps,
            ended: run.ended,
            failed: run.failed,
            active: run.active.iter().take(20).cloned().collect(),
            approvals: run.approvals,
            owed: run.owed.clone(),
        }
    }
}

impl RunRow {
    /// What is said of it in the last column: what it waits for, where it is, why it failed.
    pub fn about(&self) -> (String, Tone) {
        if !self.owed.is_empty() {
            return (format!("owes the undo of {}", self.owed.join(", ")), Tone::Bad);
        }
        if self.approvals > 0 && !self.state.is_terminal() {
            return (format!("waits for an approval: {}", self.active.join(", ")), Tone::Wait);
        }
        match (&self.error, self.active.is_empty()) {
            (Some(error), _) if self.state.is_terminal() => (error.clone(), Tone::Bad),
            (Some(error), true) => (error.clone(), Tone::Bad),
            (_, false) => plain(self.active.join(", ")),
            _ => (String::new(), Tone::Faint),
        }
    }
}

impl Row for RunRow {
    fn id(&self) -> &str {
        &self.id
    }

    fn is_problem(&self) -> bool {
        matches!(self.state, RunState::Failed | RunState::Compensating) || !self.owed.is_empty() || self.approvals > 0
    }
}

type R = Column<RunRow>;

// Sorted only while all of them are here: else live ones come first, the latest first.
pub const RUNS: &[Column<RunRow>] = &[
    R::new("RUN", 8, |run, _| plain(short(&run.id))),
    R::new("WORKFLOW", 18, |run, _| plain(run.workflow.clone())).key(|run| Key::Text(run.workflow.clone())),
    R::new("STATE", 14, |run, look| {
        let sign = run_sign(run.state);
        (sign.text(look.unicode), sign.tone)
    })
    .key(|run| Key::Text(run.state.as_str().to_owned())),
    R::new("STEPS", 6, |run, _| {
        let tone = if run.failed > 0 { Tone::Bad } else { Tone::Plain };
        (format!("{}/{}", run.ended, run.steps), tone)
    })
    .right(),
    R::new("AGE", 6, |run, look| when(Some(run.created_at), look))
        .right()
        .key(|run| Key::Number(-(run.created_at.0 as f64))),
    R::new("TOOK", 7, |run, look| match (run.started_at, run.finished_at) {
        (Some(from), Some(to)) => plain(brief(to.since(from))),
        (Some(from), None) => (brief(look.now.since(from)), Tone::Busy),
        _ => ("-".to_owned(), Tone::Faint),
    })
    .right()
    .from(90)
    .key(|run| {
        let took = run.started_at.zip(run.finished_at).map(|(from, to)| to.0 - from.0);
        Key::Number(took.map_or(f64::MAX, |ms| ms as f64))
    }),
    R::new("KEY", 14, |run, _| plain(run.key.clone().unwrap_or_default())).from(150),
    R::new("PARENT", 8, |run, _| plain(run.parent.as_deref().map_or("", short))).from(160),
    R::new("ABOUT", 14, |run, _| run.about()).grow(),
];
