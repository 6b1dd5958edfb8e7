//! What the state is told, and what it asks for. [`Reply`] is what the data task tells; it is plain data
//! that serde keeps, so that a session can be written down and shown again.

use serde::{Deserialize, Serialize};

use super::rows::{JobRow, Rows, RunRow};
use super::run_page::RunDetail;
use super::views::View;
use crate::domain::{JobState, Ms, RunState};

/// A key, as far as the console tells keys apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    Char(char),
    Up,
    Down,
    Left,
    Right,
    Enter,
    Esc,
    Tab,
    BackTab,
    Backspace,
    Delete,
    Home,
    End,
    PageUp,
    PageDown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub code: Code,
    pub ctrl: bool,
}

/// What the mouse did, in columns and rows of the screen from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mouse {
    Click(u16, u16),
    Up,
    Down,
}

/// Everything that changes the state.
#[derive(Clone, Debug, PartialEq)]
pub enum Msg {
    Key(Key),
    /// Esc and a key that came as one: maybe both, maybe a key with Alt.
    EscAnd(Key),
    Mouse(Mouse),
    Paste(String),
    Resize(u16, u16),
    /// The time has come to look again.
    Tick(Ms),
    Reply(Reply),
    /// What became of something done beside the data task.
    Told(String),
    /// Why it was not done.
    Failed(String),
}

/// What has to be done outside of the state.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Answer with the content of a page; an earlier question is void.
    Fetch(Ask),
    Act(Order),
    /// Tell what an order would do.
    Survey(Order),
    /// To the clipboard, by the terminal.
    Copy(String),
    /// A job's text goes to the editor, and what comes back is enqueued.
    Edit(String),
    /// By how many answers of a recording to go; by none: on, as fast as it was.
    Step(isize),
    Suspend,
    /// Everything anew.
    Redraw,
    /// The time between two looks, in milliseconds.
    Interval(u64),
    Quit,
}

/// A question to the data task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Rises whenever another page, tab or filter is shown: an answer with an older one is dropped.
    pub generation: u64,
    pub query: Query,
}

/// The content of which page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    Overview,
    Queues {
        filter: String,
    },
    Jobs(JobsQuery),
    Workers {
        filter: String,
    },
    Job {
        id: String,
    },
    Runs(RunsQuery),
    /// With the log of this job of it.
    Run {
        id: String,
        log_of: Option<String>,
    },
    Schedules {
        filter: String,
    },
    Dlq {
        filter: String,
    },
    Events {
        filter: String,
    },
    Shards {
        filter: String,
    },
}

/// A part of the runs that match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunsQuery {
    /// Empty means every state.
    pub states: Vec<RunState>,
    pub filter: String,
    /// Only those that something is wrong with.
    pub problems: bool,
    pub from: Option<String>,
    pub chunk: usize,
}

/// A part of the jobs that match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobsQuery {
    /// Empty means every state.
    pub states: Vec<JobState>,
    pub filter: String,
    /// Where the part begins: a cursor of an earlier answer. None is the beginning.
    pub from: Option<String>,
    /// Rows of one chunk: about a screen.
    pub chunk: usize,
}

/// The chunks that are asked for at once: what is on the screen and one each side.
pub const CHUNKS: usize = 3;

/// What the data task tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    pub generation: u64,
    /// By the clock of this machine.
    pub at: Ms,
    pub answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// A page's content.
    Body(Body),
    /// The store does not answer; it will be asked again.
    Lost { why: String, retry_at: Ms },
    /// The store answered that it will not: no use in asking again before something changes.
    Refused(String),
    /// A verb was done, or not.
    Acted(Acted),
    /// What an order would do, in words.
    Surveyed { order: Order, sentence: String },
}

/// What a verb did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acted {
    /// `retried 3 jobs; 1 was already finished`, or why nothing was done.
    pub sentence: String,
    /// The command that does the same.
    pub command: String,
    pub failed: bool,
}

/// The content of a page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Body {
    Overview(Box<Overview>),
    /// All there is.
    List(Rows),
    Jobs(JobsPart),
    Job(Box<JobDetail>),
    /// What is here of a list that is not here as a whole, or is still being gathered.
    Part(Part),
    Run(Box<RunDetail>),
}

/// Rows, and how far they reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    pub rows: Rows,
    /// Where the second chunk begins, in rows, and its cursor; none if there is but one.
    #[serde(default)]
    pub second: Option<(usize, String)>,
    /// More follow.
    #[serde(default)]
    pub more: bool,
    /// Records looked at, where these are more than are shown.
    #[serde(default)]
    pub looked: Option<u64>,
    /// Still being filled.
    #[serde(default)]
    pub filling: bool,
}

impl Default for Part {
    fn default() -> Part {
        Part { rows: Rows::Events(Vec::new()), second: None, more: false, looked: None, filling: false }
    }
}

/// What the first view tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overview {
    pub queues: Vec<super::rows::QueueRow>,
    pub workers: Vec<super::rows::WorkerRow>,
    pub rates: Rates,
    pub failures: Vec<JobRow>,
    /// Runs that failed, the latest first.
    pub failed_runs: Vec<RunRow>,
    /// What goes on only when somebody does something.
    pub notices: Vec<Notice>,
}

/// Something for a person to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notice {
    /// Unique among them.
    pub id: String,
    /// What it is about.
    pub subject: Option<Subject>,
    pub text: String,
    pub since: Option<Ms>,
    /// Something is broken, not only waiting.
    pub bad: bool,
}

/// What a line of the overview is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    Queue(String),
    Job(String),
    Run(String),
    Approval { run: String, step: String },
    Schedule(String),
    Shard(String),
}

/// One of the latest failures.
#[derive(Clone, Copy, Debug)]
pub enum Failure<'a> {
    Job(&'a JobRow),
    Run(&'a RunRow),
}

impl<'a> Failure<'a> {
    pub fn id(&self) -> &'a str {
        match self {
            Failure::Job(job) => &job.id,
            Failure::Run(run) => &run.id,
        }
    }

    /// When it failed.
    pub fn at(&self) -> Ms {
        match self {
            Failure::Job(job) => job.finished_at.unwrap_or(job.updated_at),
            Failure::Run(run) => run.finished_at.unwrap_or(run.created_at),
        }
    }
}

impl Overview {
    /// How many lines keys move over: the queues, what waits for a person, what failed.
    pub fn len(&self) -> usize {
        self.queues.len() + self.notices.len() + self.failures.len() + self.failed_runs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What failed last, the latest first. Both lists are in that order.
    pub fn latest(&self) -> Vec<Failure<'_>> {
        let mut all: Vec<Failure<'_>> = self.failures.iter().map(Failure::Job).collect();
        all.extend(self.failed_runs.iter().map(Failure::Run));
        all.sort_by_key(|failure| std::cmp::Reverse(failure.at()));
        all
    }

    /// Where the lines of each kind begin.
    pub fn starts(&self) -> (usize, usize) {
        (self.queues.len(), self.queues.len() + self.notices.len())
    }

    pub fn id(&self, at: usize) -> Option<&str> {
        let (notices, failures) = self.starts();
        match at {
            at if at < notices => self.queues.get(at).map(|queue| queue.name.as_str()),
            at if at < failures => self.notices.get(at - notices).map(|notice| notice.id.as_str()),
            at => self.latest().get(at - failures).map(Failure::id),
        }
    }

    pub fn position(&self, id: &str) -> Option<usize> {
        let (notices, failures) = self.starts();
        let queue = self.queues.iter().position(|queue| queue.name == id);
        let notice = || self.notices.iter().position(|notice| notice.id == id).map(|at| at + notices);
        let failure = || self.latest().iter().position(|failure| failure.id() == id).map(|at| at + failures);
        queue.or_else(notice).or_else(failure)
    }

    pub fn subject(&self, at: usize) -> Option<Subject> {
        let (notices, failures) = self.starts();
        match at {
            at if at < notices => self.queues.get(at).map(|queue| Subject::Queue(queue.name.clone())),
            at if at < failures => self.notices.get(at - notices).and_then(|notice| notice.subject.clone()),
            at => match self.latest().get(at - failures)? {
                Failure::Job(job) => Some(Subject::Job(job.id.clone())),
                Failure::Run(run) => Some(Subject::Run(run.id.clone())),
            },
        }
    }
}

/// How much was done and how long it took, from the tail of the event log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rates {
    /// The log was read to its end: without it the numbers are of the past.
    pub is_current: bool,
    /// Completed in each of the last seconds, the latest last.
    pub done: Vec<u32>,
    /// Failed attempts and deaths in each of the last seconds.
    pub failed: Vec<u32>,
    pub wait: Option<Percentiles>,
    pub run: Option<Percentiles>,
}

/// In milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    pub p50: u64,
    pub p95: u64,
    pub p99: u64,
}

/// Some chunks of the jobs that match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobsPart {
    pub rows: Vec<JobRow>,
    /// Where the second chunk begins, in rows, and its cursor; none if there is but one.
    pub second: Option<(usize, String)>,
    /// More follow.
    pub more: bool,
    /// How many jobs there are in each state, by the counters: all, or of the one queue that the filter
    /// names. In the order of [`JobState::ALL`].
    pub totals: Vec<u64>,
    /// Records looked at, when the filter has to look at more than it shows.
    pub looked: Option<u64>,
    /// Still being filled.
    pub filling: bool,
}

/// One job with all there is to tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobDetail {
    pub job: JobRow,
    /// The payload on several lines.
    pub payload: String,
    pub result: Option<String>,
    /// The whole of it as JSON.
    pub raw: String,
    /// Earlier attempts, oldest first.
    #[serde(default)]
    pub attempts: Vec<AttemptRow>,
    /// The end of what it has printed.
    pub log: String,
    pub log_cut: bool,
}

/// A failed, lost or released execution.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttemptRow {
    pub ended_at: Ms,
    pub started_at: Option<Ms>,
    pub worker: Option<String>,
    pub error: String,
}

/// What is to be done to what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub verb: Verb,
    pub target: Target,
}

/// What the letters do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Verb {
    Retry,
    Cancel,
    /// Or resume, if it is paused.
    Pause,
    Delete,
    Drain,
    /// A tick of a schedule, now.
    Trigger,
    Approve,
    Reject,
    Signal,
    /// Another shard.
    Add,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    Jobs(Vec<String>),
    /// All that match.
    Matching {
        states: Vec<JobState>,
        filter: String,
    },
    /// With whether each is paused now.
    Queues(Vec<(String, bool)>),
    Workers(Vec<String>),
    /// With whether each is paused now.
    Runs(Vec<(String, bool)>),
    /// With whether each is paused now.
    Schedules(Vec<(String, bool)>),
    /// The dead jobs that match any of these filters.
    Dead(Vec<String>),
    /// An approval: of the step, or the only one that waits.
    Answer {
        run: String,
        step: Option<String>,
        by: Vec<String>,
        comment: Option<String>,
    },
    Signal {
        run: String,
        name: String,
        /// As JSON.
        data: String,
    },
    /// The runs that match.
    RunsMatching {
        states: Vec<RunState>,
        filter: String,
        problems: bool,
    },
    Shard(u16),
    /// A shard, and where what lies on it is carried to; none lets it be done there.
    DrainShard {
        id: u16,
        into: Option<u16>,
    },
    /// The store that becomes a shard; none is a key space beside those there are.
    AddShard {
        url: Option<String>,
    },
}

impl Query {
    /// The view whose page it fills.
    pub fn view(&self) -> View {
        match self {
            Query::Overview => View::Overview,
            Query::Queues { .. } => View::Queues,
            Query::Jobs(_) => View::Jobs,
            Query::Workers { .. } => View::Workers,
            Query::Job { .. } => View::Job,
            Query::Runs(_) => View::Runs,
            Query::Run { .. } => View::Run,
            Query::Schedules { .. } => View::Schedules,
            Query::Dlq { .. } => View::Dlq,
            Query::Events { .. } => View::Events,
            Query::Shards { .. } => View::Shards,
        }
    }
}

impl Body {
    /// Whether it is the content of a page of this view.
    pub fn is_of(&self, view: View) -> bool {
        match self {
            Body::Overview(_) => view == View::Overview,
            Body::Jobs(_) => view == View::Jobs,
            Body::Job(_) => view == View::Job,
            Body::Run(_) => view == View::Run,
            Body::Part(Part { rows, .. }) | Body::List(rows) => match rows {
                Rows::Queues(_) => view == View::Queues,
                Rows::Workers(_) => view == View::Workers,
                Rows::Runs(_) => view == View::Runs,
                Rows::Schedules(_) => view == View::Schedules,
                Rows::Groups(_) => view == View::Dlq,
                Rows::Events(_) => view == View::Events,
                Rows::Shards(_) => view == View::Shards,
                Rows::Jobs(_) => false,
            },
        }
    }

    /// The rows of a list, but for those of jobs.
    pub fn rows(&self) -> Option<&Rows> {
        match self {
            Body::List(rows) | Body::Part(Part { rows, .. }) => Some(rows),
            _ => None,
        }
    }

    pub fn rows_mut(&mut self) -> Option<&mut Rows> {
        match self {
            Body::List(rows) | Body::Part(Part { rows, .. }) => Some(rows),
            _ => None,
        }
    }

    /// Whether its rows are all there are, so that what is not among them is gone.
    pub fn is_whole(&self) -> bool {
        match self {
            Body::List(_) => true,
            Body::Part(part) => matches!(part.rows, Rows::Groups(_)) && !part.filling,
            _ => false,
        }
    }
}
