//! Everything the console knows, as plain data. Changed by [`update`](super::update) alone.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::Action;
use super::msg::{Body, JobsPart, JobsQuery, Order, Query, RunsQuery};
use super::rows::{Row, Rows, Sort};
use super::run_page::{Known, TreeRow};
use super::theme::Theme;
use super::views::View;
use crate::domain::{JobState, Ms, RunState};

/// What does not change while the console is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The store's URL, with the password hidden.
    pub store: String,
    /// No verb does anything.
    pub read_only: bool,
    /// What is shown was recorded.
    pub is_recording: bool,
    /// The store is one of several shards.
    pub sharded: bool,
    /// Who sits at the keyboard, for those who are asked for their name.
    pub user: String,
}

/// How it stands with the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Nothing was heard yet.
    Waiting,
    Live,
    Lost {
        since: Ms,
        retry_at: Ms,
        why: String,
    },
}

/// A line about what has just happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flash {
    pub text: String,
    /// The command that does the same.
    pub command: Option<String>,
    pub bad: bool,
}

/// Which row is selected: by its id, so that it stays so when rows move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    pub id: Option<String>,
    pub at: usize,
    /// The first row on the screen.
    pub top: usize,
}

/// Which part of the jobs that match is here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Where it begins; none is the beginning.
    pub from: Option<String>,
    /// Where the chunks before it begin.
    pub before: Vec<Option<String>>,
}

/// A page: a view of something, with where one is in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub view: View,
    /// Of which thing, if it shows one.
    pub of: Option<String>,
    /// Which of its tabs.
    pub tab: usize,
    pub filter: String,
    pub problems: bool,
    pub sort: Option<Sort>,
    /// All columns are led through, and this is the first behind the pinned one.
    pub wide: Option<usize>,
    pub cursor: Cursor,
    pub marks: BTreeSet<String>,
    /// All that match are marked, known or not.
    pub all_marked: bool,
    /// Where the last mark was set.
    pub anchor: Option<String>,
    pub window: Window,
    pub body: Option<Body>,
    /// Why the store would not tell it.
    pub refused: Option<String>,
    /// When its content was told.
    pub at: Option<Ms>,
    /// In answer to which question.
    pub told: u64,
    /// Lines by which a page that is no list is scrolled.
    pub scroll: usize,
    /// Shown to its end, whatever comes.
    pub follow: bool,
    /// Of a run: as it was after so many events; none is now.
    pub moment: Option<usize>,
    /// Rows that somebody folded, or opened, against what they would be.
    pub folds: BTreeSet<String>,
    /// The rows of its graph, made anew after each message.
    pub tree: Vec<TreeRow>,
    /// What is known of it at the moment that is shown.
    pub known: Option<Known>,
    /// The job whose log was asked for last.
    pub log_asked: Option<String>,
}

impl Page {
    pub fn new(view: View) -> Page {
        Page {
            view,
            of: None,
            tab: 0,
            filter: String::new(),
            problems: false,
            sort: None,
            wide: None,
            cursor: Cursor::default(),
            marks: BTreeSet::new(),
            all_marked: false,
            anchor: None,
            window: Window::default(),
            body: None,
            refused: None,
            at: None,
            told: 0,
            scroll: 0,
            follow: matches!(view, View::Events | View::Run),
            moment: None,
            folds: BTreeSet::new(),
            tree: Vec::new(),
            known: None,
            log_asked: None,
        }
    }

    pub fn of(view: View, id: &str) -> Page {
        Page { of: Some(id.to_owned()), ..Page::new(view) }
    }

    /// What is shown in its place in line 1.
    pub fn title(&self) -> String {
        match &self.of {
            Some(id) => format!("{} {}", self.view.title(), super::text::short(id)),
            None => self.view.title().to_owned(),
        }
    }

    /// The tabs within it.
    pub fn tabs(&self) -> &'static [&'static str] {
        match self.view {
            View::Jobs => &["all", "pending", "running", "retrying", "scheduled", "dead", "completed", "cancelled"],
            View::Runs => &[
                "all",
                "pending",
                "running",
                "paused",
                "compensating",
                "failed",
                "compensated",
                "cancelled",
                "completed",
            ],
            _ => &[],
        }
    }

    /// The states of the jobs of its tab; empty is every state.
    pub fn states(&self) -> Vec<JobState> {
        match self.tabs().get(self.tab) {
            Some(word) => JobState::parse(word).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// The states of the runs of its tab; empty is every state.
    pub fn run_states(&self) -> Vec<RunState> {
        self.tabs().get(self.tab).and_then(|word| RunState::parse(word)).into_iter().collect()
    }

    /// The rows that keys move over.
    pub fn len(&self) -> usize {
        match &self.body {
            Some(body) if body.rows().is_some() => body.rows().map_or(0, Rows::len),
            Some(Body::Run(_)) => self.tree.len(),
            Some(Body::Jobs(JobsPart { rows, .. })) => rows.len(),
            Some(Body::Overview(overview)) => overview.len(),
            _ => 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn id_at(&self, at: usize) -> Option<&str> {
        match &self.body {
            Some(Body::List(rows)) => rows.id(at),
            Some(Body::Part(part)) => part.rows.id(at),
            Some(Body::Jobs(part)) => part.rows.get(at).map(Row::id),
            Some(Body::Overview(overview)) => overview.id(at),
            Some(Body::Run(_)) => self.tree.get(at).map(|row| row.path.as_str()),
            _ => None,
        }
    }

    pub fn position(&self, id: &str) -> Option<usize> {
        match &self.body {
            Some(Body::List(rows)) => rows.position(id),
            Some(Body::Part(part)) => part.rows.position(id),
            Some(Body::Run(_)) => self.tree.iter().position(|row| row.path == id),
            Some(Body::Jobs(part)) => part.rows.iter().position(|row| row.id == id),
            Some(Body::Overview(overview)) => overview.position(id),
            _ => None,
        }
    }

    /// What keys act on: the id of the selected row, or of the page.
    pub fn subject(&self) -> Option<&str> {
        self.id_at(self.cursor.at).or(self.of.as_deref())
    }

    pub fn rows(&self) -> Option<&Rows> {
        self.body.as_ref().and_then(Body::rows)
    }

    /// Rows of the part of it that scrolls.
    pub fn scrolled(&self) -> usize {
        match &self.body {
            Some(Body::Overview(overview)) => overview.queues.len(),
            _ => self.len(),
        }
    }

    /// The selected row of a run's graph.
    pub fn tree_row(&self) -> Option<&TreeRow> {
        self.tree.get(self.cursor.at)
    }

    /// What its content is asked for by; `height` is how many rows are on the screen.
    pub fn query(&self, height: usize) -> Query {
        let filter = self.filter.clone();
        match (self.view, &self.of) {
            (View::Overview, _) => Query::Overview,
            (View::Queues, _) => Query::Queues { filter },
            (View::Workers, _) => Query::Workers { filter },
            (View::Job, Some(id)) => Query::Job { id: id.clone() },
            (View::Run, Some(id)) => {
                Query::Run { id: id.clone(), log_of: self.tree_row().and_then(TreeRow::job).map(str::to_owned) }
            }
            (View::Schedules, _) => Query::Schedules { filter },
            (View::Dlq, _) => Query::Dlq { filter },
            (View::Events, _) => Query::Events { filter },
            (View::Shards, _) => Query::Shards { filter },
            (View::Runs, _) | (View::Run, None) => Query::Runs(RunsQuery {
                states: self.run_states(),
                filter,
                problems: self.problems,
                from: self.window.from.clone(),
                chunk: height.clamp(20, 200),
            }),
            (View::Jobs, _) | (View::Job, None) => Query::Jobs(JobsQuery {
                states: self.asked_states(),
                filter,
                from: self.window.from.clone(),
                chunk: height.clamp(20, 200),
            }),
        }
    }

    /// With `!`, what is well is not asked for.
    pub fn asked_states(&self) -> Vec<JobState> {
        let states = self.states();
        if self.problems && states.is_empty() { vec![JobState::Retrying, JobState::Dead] } else { states }
    }
}

/// What lies over the page and takes the keys.
#[derive(Clone, Debug, PartialEq)]
pub enum Overlay {
    Help {
        scroll: usize,
    },
    /// What is written, and why it is no filter.
    Filter {
        input: String,
        before: String,
        error: Option<String>,
    },
    Palette {
        input: String,
        at: usize,
    },
    Confirm(Confirm),
    Form(Form),
    Raw {
        text: String,
        scroll: usize,
    },
}

/// A question before something that is hard to undo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirm {
    pub question: String,
    pub order: Order,
    /// What would be done, once it was counted; none where the question says it.
    pub counted: Option<String>,
    /// Whether Yes has the focus; at first Cancel has.
    pub yes: bool,
}

/// Lines to be filled in before something is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    pub title: String,
    pub asks: Asks,
    /// What an empty line means, if that is not plain.
    pub hint: &'static str,
    pub fields: Vec<FormField>,
    /// The one that is being written.
    pub at: usize,
    pub error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormField {
    pub name: &'static str,
    pub text: String,
}

/// What a form is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asks {
    /// Who answers, and why.
    Answer { run: String, step: Option<String>, approved: bool },
    /// Which signal, and what it carries.
    Signal { run: String },
    /// Where what lies on a shard goes.
    DrainShard { id: u16 },
    /// Where another shard lies.
    AddShard,
}

/// A line of the palette.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub text: String,
    pub key: String,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub size: (u16, u16),
    pub now: Ms,
    pub about: About,
    pub theme: Theme,
    pub link: Link,
    /// From the first to what is shown; never empty.
    pub stack: Vec<Page>,
    /// The tabs that are not shown, as they were left.
    pub left: BTreeMap<View, Page>,
    pub overlay: Option<Overlay>,
    pub flash: Option<Flash>,
    /// Milliseconds between two looks.
    pub interval: u64,
    pub frozen: bool,
    pub generation: u64,
    /// A question is open since.
    pub asked: Option<Ms>,
    pub has_quit: bool,
}

/// How often one may look, in milliseconds.
pub const INTERVALS: [u64; 7] = [250, 500, 1_000, 2_000, 5_000, 10_000, 30_000];

impl State {
    pub fn new(about: About, theme: Theme, size: (u16, u16), now: Ms) -> State {
        State {
            size,
            now,
            about,
            theme,
            link: Link::Waiting,
            stack: vec![Page::new(View::Overview)],
            left: BTreeMap::new(),
            overlay: None,
            flash: None,
            interval: 1_000,
            frozen: false,
            generation: 0,
            asked: None,
            has_quit: false,
        }
    }

    /// The page that is shown.
    pub fn page(&self) -> &Page {
        // The stack is never empty: nothing takes the first page away.
        &self.stack[self.stack.len() - 1]
    }

    pub fn page_mut(&mut self) -> &mut Page {
        let last = self.stack.len() - 1;
        &mut self.stack[last]
    }

    /// What is said of the console itself at the end of line 2.
    pub fn note(&self) -> &'static str {
        match (self.about.is_recording, self.about.read_only) {
            (true, _) => "a recording ",
            (_, true) => "read-only ",
            _ => "",
        }
    }

    /// The tab that the page was reached from.
    pub fn tab(&self) -> View {
        self.stack[0].view
    }

    pub fn is_lost(&self) -> bool {
        matches!(self.link, Link::Lost { .. })
    }

    /// Why verbs do nothing now, if they do not.
    pub fn why_no_verbs(&self) -> Option<String> {
        match &self.link {
            _ if self.about.is_recording => Some("this is a recording".to_owned()),
            _ if self.about.read_only => Some("read-only: started with --read-only".to_owned()),
            Link::Lost { .. } => Some("no connection: nothing changes until the store answers".to_owned()),
            Link::Waiting => Some("not connected yet".to_owned()),
            Link::Live => None,
        }
    }
}
