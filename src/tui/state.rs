//! Everything the console knows, as plain data. Changed by [`update`](super::update) alone.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::Action;
use super::msg::{Body, JobsPart, JobsQuery, Order, Query};
use super::rows::{Row, Rows, Sort};
use super::theme::Theme;
use super::views::View;
use crate::domain::{JobState, Ms};

/// What does not change while the console is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The store's URL, with the password hidden.
    pub store: String,
    /// No verb does anything.
    pub read_only: bool,
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
    pub wide: bool,
    pub cursor: Cursor,
    pub marks: BTreeSet<String>,
    /// All that match are marked, known or not.
    pub all_marked: bool,
    /// Where the last mark was set.
    pub anchor: Option<String>,
    pub window: Window,
    pub body: Option<Body>,
    /// When its content was told.
    pub at: Option<Ms>,
    /// Lines by which a page that is no list is scrolled.
    pub scroll: usize,
    /// Shown to its end, whatever comes.
    pub follow: bool,
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
            wide: false,
            cursor: Cursor::default(),
            marks: BTreeSet::new(),
            all_marked: false,
            anchor: None,
            window: Window::default(),
            body: None,
            at: None,
            scroll: 0,
            follow: false,
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

    /// The rows that keys move over.
    pub fn len(&self) -> usize {
        match &self.body {
            Some(Body::List(rows)) => rows.len(),
            Some(Body::Jobs(JobsPart { rows, .. })) => rows.len(),
            Some(Body::Overview(overview)) => overview.queues.len(),
            _ => 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn id_at(&self, at: usize) -> Option<&str> {
        match &self.body {
            Some(Body::List(rows)) => rows.id(at),
            Some(Body::Jobs(part)) => part.rows.get(at).map(Row::id),
            Some(Body::Overview(overview)) => overview.queues.get(at).map(Row::id),
            _ => None,
        }
    }

    pub fn position(&self, id: &str) -> Option<usize> {
        match &self.body {
            Some(Body::List(rows)) => rows.position(id),
            Some(Body::Jobs(part)) => part.rows.iter().position(|row| row.id == id),
            Some(Body::Overview(overview)) => overview.queues.iter().position(|row| row.name == id),
            _ => None,
        }
    }

    /// What keys act on: the id of the selected row, or of the page.
    pub fn subject(&self) -> Option<&str> {
        self.id_at(self.cursor.at).or(self.of.as_deref())
    }

    pub fn rows(&self) -> Option<&Rows> {
        match &self.body {
            Some(Body::List(rows)) => Some(rows),
            _ => None,
        }
    }

    /// What its content is asked for by; `height` is how many rows are on the screen.
    pub fn query(&self, height: usize) -> Query {
        let filter = self.filter.clone();
        match (self.view, &self.of) {
            (View::Overview, _) => Query::Overview,
            (View::Queues, _) => Query::Queues { filter },
            (View::Workers, _) => Query::Workers { filter },
            (View::Job, Some(id)) => Query::Job { id: id.clone() },
            (View::Jobs, _) | (View::Job, None) => Query::Jobs(JobsQuery {
                states: self.asked_states(),
                filter,
                from: self.window.from.clone(),
                chunk: height.clamp(20, 200),
            }),
        }
    }

    /// With `!`, what is well is not asked for.
    fn asked_states(&self) -> Vec<JobState> {
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
    /// Whether Yes has the focus; at first Cancel has.
    pub yes: bool,
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
            _ if self.about.read_only => Some("read-only: started with --read-only".to_owned()),
            Link::Lost { .. } => Some("no connection: nothing can be changed until the store answers".to_owned()),
            Link::Waiting => Some("not connected yet".to_owned()),
            Link::Live => None,
        }
    }
}
