//! What a run keeps of each step: its state, and of a step with others inside what is under way
//! there. What has ended inside of a list is forgotten here and lies outside the header.

use serde::{Deserialize, Serialize};

use super::set::IndexSet;
use crate::domain::job::JobError;
use crate::domain::run::StepState;
use crate::domain::{Epoch, JobId, Json, Ms, RunId};

/// One step of a run, one item of a list, or one round of a loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Empty for an item and a round, which have the id of their step.
    #[serde(rename = "i", default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(rename = "s")]
    pub state: StepState,
    /// Attempts that its last job took, once it has ended; of a step without a job, attempts begun.
    #[serde(rename = "a", default, skip_serializing_if = "is_default")]
    pub attempt: u32,
    #[serde(rename = "j", default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub undo_job: Option<JobId>,
    /// The lease under which it ended, and the one under which its undo did.
    #[serde(rename = "e", default, skip_serializing_if = "is_default")]
    pub epoch: Epoch,
    #[serde(rename = "h", default, skip_serializing_if = "is_default")]
    pub undo_epoch: Epoch,
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// Why its undo is owed.
    #[serde(rename = "z", default, skip_serializing_if = "Option::is_none")]
    pub undo_error: Option<JobError>,
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Ms>,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Ms>,
    /// Its place among the steps that began and ended, from 1; 0 for one that did not.
    #[serde(rename = "o", default, skip_serializing_if = "is_default")]
    pub order: u32,
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Slot>,
    /// Nobody waits for it any more, or it cannot end well: how it is to end.
    #[serde(rename = "q", default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    #[serde(rename = "y", default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Box<Body>>,
}

/// Why nothing more is done inside of a step, or for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stop {
    /// What is inside has failed, or the time is over: the step's `error` says why.
    #[serde(rename = "f")]
    Failed,
    /// As `Failed`, and it is not tried again: its deadline is over.
    #[serde(rename = "e")]
    Expired,
    /// It stops with what is around it; how it ends is no failure of anything.
    #[serde(rename = "c")]
    Cancelled,
    /// It is cancelled because nobody waits for it any more; how it ends is no failure of anything.
    #[serde(rename = "d")]
    Dropped,
    /// It goes on; how it ends is no failure of anything.
    #[serde(rename = "i")]
    Ignored,
}

impl Stop {
    /// Whether an end without completion is as good as being skipped.
    pub fn is_neutral(self) -> bool {
        matches!(self, Stop::Cancelled | Stop::Dropped | Stop::Ignored)
    }

    /// Whether nothing more may start inside.
    pub fn closes(self) -> bool {
        self != Stop::Ignored
    }
}

/// What is inside of a step that is under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Body {
    /// Steps, by branch.
    #[serde(rename = "f")]
    Frames(Vec<Frame>),
    #[serde(rename = "e")]
    Each(Each),
    #[serde(rename = "l")]
    Loop {
        #[serde(rename = "n")]
        round: u32,
        #[serde(rename = "s")]
        step: StepRecord,
    },
    /// Those who may answer; none lets anybody.
    #[serde(rename = "a")]
    Approval(Vec<String>),
    #[serde(rename = "c")]
    Call(RunId),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    #[serde(rename = "b", default, skip_serializing_if = "is_default")]
    pub branch: u32,
    #[serde(rename = "s")]
    pub steps: Vec<StepRecord>,
}

/// A `foreach` under way: its live items and, of all others, as little as can be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Each {
    #[serde(rename = "i")]
    pub items: Items,
    /// The next item that was never started.
    #[serde(rename = "n", default, skip_serializing_if = "is_default")]
    pub next: u32,
    /// Items to be started before that one: those that an operator has tried again.
    #[serde(rename = "a", default, skip_serializing_if = "IndexSet::is_empty")]
    pub again: IndexSet,
    /// Ordered by index.
    #[serde(rename = "l", default, skip_serializing_if = "Vec::is_empty")]
    pub live: Vec<(u32, StepRecord)>,
    #[serde(rename = "c", default, skip_serializing_if = "is_default")]
    pub completed: u32,
    #[serde(rename = "f", default, skip_serializing_if = "IndexSet::is_empty")]
    pub failed: IndexSet,
    /// Completed items that have an output, each under `o/PATH[INDEX]`.
    #[serde(rename = "o", default, skip_serializing_if = "IndexSet::is_empty")]
    pub with_output: IndexSet,
}

/// The items of a `foreach`: in the header while they are small, else in chunks of
/// [`Items::CHUNK`] under `f/PATH/NUMBER`. Of a map each item is a pair of key and value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Items {
    #[serde(rename = "c")]
    pub count: u32,
    #[serde(rename = "m", default, skip_serializing_if = "is_default")]
    pub map: bool,
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<Json>,
    /// The path of the step.
    #[serde(rename = "p", default, skip_serializing_if = "String::is_empty")]
    pub path: String,
}

impl Items {
    pub const CHUNK: usize = 1_000;

    /// The key of the value that holds an item.
    pub fn chunk(&self, index: u32) -> String {
        format!("f/{}/{}", self.path, index as usize / Self::CHUNK)
    }
}

/// A value of a run, or where it lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Slot {
    #[serde(rename = "i")]
    Inline(Json),
    /// Under `key` among the values of the run; `size` in bytes of JSON text.
    #[serde(rename = "s")]
    Stored {
        #[serde(rename = "k")]
        key: String,
        #[serde(rename = "n")]
        size: u64,
    },
    /// An object of others.
    #[serde(rename = "m")]
    Map(Vec<(String, Slot)>),
    /// What the items of a `foreach` gave, in their order; of those not in `with_output`, null.
    #[serde(rename = "l")]
    List {
        #[serde(rename = "i")]
        items: Items,
        #[serde(rename = "p")]
        path: String,
        #[serde(rename = "o", default, skip_serializing_if = "IndexSet::is_empty")]
        with_output: IndexSet,
    },
}

impl Slot {
    /// The keys of the values that must be loaded for it.
    pub fn keys(&self, into: &mut Vec<String>) {
        match self {
            Slot::Inline(_) => {}
            Slot::Stored { key, .. } => into.push(key.clone()),
            Slot::Map(fields) => fields.iter().for_each(|(_, field)| field.keys(into)),
            Slot::List { items, path, with_output } => {
                into.extend(with_output.iter().map(|index| item_output(path, index)));
                if items.map && items.inline.is_none() {
                    into.extend((0..items.count).step_by(Items::CHUNK).map(|index| items.chunk(index)));
                }
            }
        }
    }

    /// The value, with those that `load` gives in their places; null where one is missing.
    pub fn resolve(&self, load: &mut dyn FnMut(&str) -> Option<serde_json::Value>) -> serde_json::Value {
        use serde_json::Value;
        match self {
            Slot::Inline(json) => json.to_value(),
            Slot::Stored { key, .. } => load(key).unwrap_or_default(),
            Slot::Map(fields) => {
                Value::Object(fields.iter().map(|(name, field)| (name.clone(), field.resolve(load))).collect())
            }
            Slot::List { items, path, with_output } => {
                let outputs: Vec<Value> = (0..items.count)
                    .map(|index| match with_output.contains(index) {
                        true => load(&item_output(path, index)).unwrap_or_default(),
                        false => Value::Null,
                    })
                    .collect();
                if !items.map {
                    return Value::Array(outputs);
                }
                let chunks: Vec<Value> = match &items.inline {
                    Some(inline) => vec![inline.to_value()],
                    None => {
                        let chunks = (0..items.count).step_by(Items::CHUNK);
                        chunks.filter_map(|index| load(&items.chunk(index))).collect()
                    }
                };
                let pairs = chunks.iter().flat_map(|chunk| chunk.as_array().into_iter().flatten());
                let keys = pairs.map(|pair| pair[0].as_str().unwrap_or_default().to_owned());
                Value::Object(keys.zip(outputs).collect())
            }
        }
    }
}

/// The key of what an item gave.
pub fn item_output(path: &str, index: u32) -> String {
    format!("o/{path}[{index}]")
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl StepRecord {
    pub fn new(id: String) -> StepRecord {
        StepRecord {
            id,
            state: StepState::Pending,
            attempt: 0,
            job: None,
            undo_job: None,
            epoch: Epoch(0),
            undo_epoch: Epoch(0),
            error: None,
            undo_error: None,
            started_at: None,
            finished_at: None,
            order: 0,
            output: None,
            stop: None,
            body: None,
        }
    }

    /// Whether its forward work is under way.
    pub fn is_active(&self) -> bool {
        matches!(self.state, StepState::Running | StepState::Retrying | StepState::Waiting)
    }

    /// Whether anything is under way for it: it may have ended before what is inside of it.
    pub fn is_alive(&self) -> bool {
        self.is_active() || self.frames().any(|(_, steps)| steps.iter().any(StepRecord::is_alive))
    }

    /// The jobs that this record and those inside of it name, whether they have ended or not.
    pub fn jobs(&self, into: &mut Vec<JobId>) {
        into.extend(self.job.into_iter().chain(self.undo_job));
        for (_, steps) in self.frames() {
            steps.iter().for_each(|step| step.jobs(into));
        }
    }

    /// The record of the step whose job this is: this one, or one inside.
    pub fn of_job(&self, job: JobId) -> Option<&StepRecord> {
        if self.job == Some(job) {
            return Some(self);
        }
        self.frames().find_map(|(_, steps)| steps.iter().find_map(|step| step.of_job(job)))
    }

    /// The runs that this step and those inside of it have called.
    pub fn calls(&self, into: &mut Vec<RunId>) {
        if let Some(Body::Call(run)) = self.body.as_deref() {
            into.push(*run);
        }
        for (_, steps) in self.frames() {
            steps.iter().for_each(|step| step.calls(into));
        }
    }

    /// The steps inside, by branch, item or round.
    pub fn frames(&self) -> impl Iterator<Item = (u32, &[StepRecord])> {
        let (frames, each, round) = match self.body.as_deref() {
            Some(Body::Frames(frames)) => (frames.as_slice(), &[][..], None),
            Some(Body::Each(each)) => (&[][..], each.live.as_slice(), None),
            Some(Body::Loop { round, step }) => (&[][..], &[][..], Some((*round, std::slice::from_ref(step)))),
            _ => (&[][..], &[][..], None),
        };
        let frames = frames.iter().map(|frame| (frame.branch, frame.steps.as_slice()));
        frames.chain(each.iter().map(|(index, step)| (*index, std::slice::from_ref(step)))).chain(round)
    }

    pub fn frame(&self, key: u32) -> Option<&[StepRecord]> {
        match self.body.as_deref()? {
            Body::Frames(frames) => frames.iter().find(|frame| frame.branch == key).map(|frame| frame.steps.as_slice()),
            Body::Each(each) => each.find(key).map(|at| std::slice::from_ref(&each.live[at].1)),
            Body::Loop { round, step } => (*round == key).then(|| std::slice::from_ref(step)),
            Body::Approval(_) | Body::Call(_) => None,
        }
    }

    pub fn frame_mut(&mut self, key: u32) -> Option<&mut [StepRecord]> {
        match self.body.as_deref_mut()? {
            Body::Frames(frames) => {
                frames.iter_mut().find(|frame| frame.branch == key).map(|frame| frame.steps.as_mut_slice())
            }
            Body::Each(each) => each.find(key).map(|at| std::slice::from_mut(&mut each.live[at].1)),
            Body::Loop { round, step } => (*round == key).then(|| std::slice::from_mut(step)),
            Body::Approval(_) | Body::Call(_) => None,
        }
    }

    pub fn each(&self) -> Option<&Each> {
        match self.body.as_deref() {
            Some(Body::Each(each)) => Some(each),
            _ => None,
        }
    }

    pub fn each_mut(&mut self) -> Option<&mut Each> {
        match self.body.as_deref_mut() {
            Some(Body::Each(each)) => Some(each),
            _ => None,
        }
    }
}

impl Each {
    pub fn new(items: Items) -> Each {
        Each {
            items,
            next: 0,
            again: IndexSet::default(),
            live: Vec::new(),
            completed: 0,
            failed: IndexSet::default(),
            with_output: IndexSet::default(),
        }
    }

    /// Where a live item is.
    pub fn find(&self, index: u32) -> Option<usize> {
        self.live.binary_search_by_key(&index, |(index, _)| *index).ok()
    }

    /// Whether every item has been started.
    pub fn is_exhausted(&self) -> bool {
        self.next >= self.items.count && self.again.is_empty()
    }

    /// Takes the next item to start.
    pub fn take_next(&mut self) -> Option<u32> {
        if let Some(index) = self.again.pop_first() {
            return Some(index);
        }
        (self.next < self.items.count).then(|| {
            self.next += 1;
            self.next - 1
        })
    }
}
