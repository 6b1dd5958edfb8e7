//! What the page of a run shows: the run as it is or was, its graph as rows, the log of one step. Here
//! is the data, as the data task tells it and `--record` keeps it; `moments` makes of its history the
//! run as it was, `tree` the rows, `lanes` the graph at their left. Pure.

mod lanes;
mod moments;
pub mod tree;

use serde::{Deserialize, Serialize};

pub use self::lanes::NODE;
pub use self::moments::{Known, at};
pub use self::tree::{Mark, TreeRow, rows};

use crate::domain::event::EventKind;
use crate::domain::{Ms, StepState};
use crate::tui::rows::RunRow;
use crate::workflow;

/// A run with all there is to tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunDetail {
    pub head: RunRow,
    #[serde(default)]
    pub version: String,
    /// The beginning of it, as JSON.
    pub input: String,
    #[serde(default)]
    pub output: Option<String>,
    pub outline: Vec<Outline>,
    /// Steps as they are now, as far as the run's header knows them.
    pub steps: Vec<StepNow>,
    /// What has happened, oldest first.
    pub moments: Vec<Moment>,
    /// Some of it is left out: what happened to items of lists.
    #[serde(default)]
    pub is_cut: bool,
    #[serde(default)]
    pub log: Option<StepLog>,
}

/// A step as the manifest has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outline {
    pub id: String,
    pub does: String,
    pub needs: Vec<String>,
    pub each: bool,
    pub repeats: bool,
    pub last: bool,
    pub signal: Option<String>,
    pub inside: Vec<(Option<String>, Vec<Outline>)>,
}

impl From<workflow::Outline> for Outline {
    fn from(step: workflow::Outline) -> Outline {
        let inside = step.inside.into_iter();
        Outline {
            id: step.id,
            does: step.does,
            needs: step.needs,
            each: step.each,
            repeats: step.repeats,
            last: step.last,
            signal: step.signal,
            inside: inside.map(|(name, steps)| (name, steps.into_iter().map(Outline::from).collect())).collect(),
        }
    }
}

/// A step, an item or a round as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepNow {
    pub path: String,
    pub state: StepState,
    #[serde(default)]
    pub attempt: u32,
    #[serde(default)]
    pub job: Option<String>,
    /// The run that it called.
    #[serde(default)]
    pub child: Option<String>,
    #[serde(default)]
    pub error: Option<String>,
    #[serde(default)]
    pub started_at: Option<Ms>,
    #[serde(default)]
    pub finished_at: Option<Ms>,
    #[serde(default)]
    pub worker: Option<String>,
    #[serde(default)]
    pub progress: Option<String>,
    /// It waits for one of these to say yes or no; none named lets anybody.
    #[serde(default)]
    pub approvers: Option<Vec<String>>,
    #[serde(default)]
    pub items: Option<Items>,
}

impl StepNow {
    pub fn new(path: &str, state: StepState) -> StepNow {
        StepNow {
            path: path.to_owned(),
            state,
            attempt: 0,
            job: None,
            child: None,
            error: None,
            started_at: None,
            finished_at: None,
            worker: None,
            progress: None,
            approvers: None,
            items: None,
        }
    }
}

/// The items of a list in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Items {
    /// None while it is not known how many there are.
    pub count: Option<u32>,
    pub completed: u32,
    pub failed: u32,
    pub active: u32,
}

impl Items {
    /// `12 of 40 done, 2 failed, 3 under way`.
    pub fn text(self) -> String {
        let all = self.count.map_or(String::new(), |count| format!(" of {count}"));
        let mut text = format!("{}{all} done", self.completed);
        for (n, word) in [(self.failed, "failed"), (self.active, "under way")] {
            if n > 0 {
                text = format!("{text}, {n} {word}");
            }
        }
        text
    }
}

/// One thing that happened to a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    pub at: Ms,
    pub kind: EventKind,
    #[serde(default)]
    pub step: Option<String>,
    #[serde(default)]
    pub attempt: Option<u32>,
    #[serde(default)]
    pub job: Option<String>,
    #[serde(default)]
    pub data: Option<String>,
}

/// The end of what one step has printed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepLog {
    pub job: String,
    pub text: String,
    pub cut: bool,
}
