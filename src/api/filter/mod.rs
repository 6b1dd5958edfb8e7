//! The one filter language of every list and every bulk verb: words, all of which must hold.
//! `state:dead type:mail* queue:default error~timeout age>5m !meta.customer:42`. Here is what it
//! means for jobs; [`Where`] is the same for any other thing. Pure: the time is an argument.

mod fields;
mod pattern;
mod words;

use std::collections::BTreeSet;
use std::fmt;

pub use self::fields::{Field, Found, Kind};
pub use self::words::{Sign, Span};

use self::fields::Test;
use self::words::{Word, words};
use crate::domain::time::{BadDuration, Ms};
use crate::domain::{JobState, Name, Place};
use crate::store::Stored;

/// A filter that was not understood: why, and which part of the text it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct BadFilter {
    pub problem: Problem,
    /// `None` for a value that came by a flag of its own.
    pub span: Option<Span>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("`{raw}` is not a filter: {}", suggestion(near, known))]
    Word { raw: String, near: Option<String>, known: String },
    /// Only within this module: it becomes a `Word` once the fields are known.
    #[error("`{raw}` is not a filter")]
    NoSign { raw: String, field: String },
    #[error("`{text}` is not a {noun}: {known}")]
    Choice { text: String, noun: &'static str, known: &'static str },
    #[error("`{0}` has no value")]
    Empty(String),
    #[error("`{raw}` cannot be asked: write {shown}")]
    Sign { raw: String, shown: String },
    #[error("`{0}` is not a part of an id: digits, a to f, and hyphens")]
    Id(String),
    #[error("`{0}` is not a whole number")]
    Number(String),
    #[error("the quote {0} is not closed")]
    Quote(char),
    #[error(transparent)]
    Age(#[from] BadDuration),
}

fn suggestion(near: &Option<String>, known: &str) -> String {
    match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are {known}"),
    }
}

/// A filter over things of one kind. The default holds for all of them.
pub struct Where<T: 'static> {
    fields: &'static [Field<T>],
    tests: Vec<Test>,
}

impl<T> Where<T> {
    /// Reads the words of `--where`.
    ///
    /// # Errors
    /// [`BadFilter`] with the word that was not understood.
    pub fn parse(text: &str, fields: &'static [Field<T>]) -> Result<Where<T>, BadFilter> {
        let tests = parse(text, fields)?.iter().map(|word| Test::read(word, fields)).collect::<Result<_, _>>()?;
        Ok(Where { fields, tests })
    }

    pub fn matches(&self, thing: &T, now: Ms) -> bool {
        self.tests.iter().all(|test| test.holds(thing, self.fields, now))
    }

    /// Whether anything is asked at all.
    pub fn is_selective(&self) -> bool {
        !self.tests.is_empty()
    }
}

/// As [`words`], with the known fields named to who wrote none.
fn parse<T>(text: &str, fields: &[Field<T>]) -> Result<Vec<Word>, BadFilter> {
    words(text).map_err(|error| match error.problem {
        Problem::NoSign { raw, field } => BadFilter { problem: fields::unknown(&raw, &field, fields), ..error },
        problem => BadFilter { problem, ..error },
    })
}

/// For fields that are true or not.
pub(super) fn yes_or_no(word: &str) -> Option<&'static str> {
    match word {
        "yes" | "true" => Some("yes"),
        "no" | "false" => Some("no"),
        _ => None,
    }
}

const STATES: &str = "scheduled, pending, running, retrying, completed, dead, cancelled";

fn state_word(word: &str) -> Option<&'static str> {
    JobState::parse(word).map(JobState::as_str)
}

type F = Field<Stored>;

/// What can be asked of a job.
pub const JOB_FIELDS: &[Field<Stored>] = &[
    F::new("state", Kind::Choice(state_word, "state", STATES), |stored, _, _| stored.place.state().as_str().into()),
    F::new("type", Kind::Text, |stored, _, _| stored.job.kind.as_str().into()),
    F::new("queue", Kind::Text, |stored, _, _| stored.job.queue.as_str().into()),
    F::new("error", Kind::Text, |stored, _, _| stored.job.error.as_ref().map(ToString::to_string).into()),
    F::new("age", Kind::Age, |stored, _, now| Found::Age(now.since(stored.job.id.created_at()))),
    F::new("id", Kind::Id, |stored, _, _| stored.job.id.to_string().into()),
    F::new("key", Kind::Text, |stored, _, _| stored.job.unique_key.as_deref().into()),
    F::new("meta.", Kind::Text, |stored, key, _| stored.job.metadata.get(key).map(String::as_str).into()),
    F::new("priority", Kind::Number, |stored, _, _| Found::Number(stored.job.priority.into())),
    F::new("attempt", Kind::Number, |stored, _, _| Found::Number(stored.job.attempt(stored.place.state()).into())),
    F::new("crashes", Kind::Number, |stored, _, _| Found::Number(stored.job.crashes.len() as i64)),
    F::new("run", Kind::Id, |stored, _, _| stored.job.link.as_ref().map(|link| link.run.to_string()).into()),
    F::new("step", Kind::Text, |stored, _, _| stored.job.link.as_ref().map(|link| link.step.as_str()).into()),
    F::new("worker", Kind::Id, |stored, _, _| {
        stored.lease.as_ref().map(|lease| lease.worker).or(stored.job.worker).map(|id| id.to_string()).into()
    }),
];

/// Which jobs are meant. The default is all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    states: BTreeSet<JobState>,
    /// The one queue that is meant, if it is but one: lists read it alone.
    queue: Option<Name>,
    tests: Vec<Test>,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter { states: JobState::ALL.into(), queue: None, tests: Vec::new() }
    }
}

impl Filter {
    /// Reads the words of `--where`.
    ///
    /// # Errors
    /// [`BadFilter`] with the word that was not understood.
    pub fn parse(text: &str) -> Result<Filter, BadFilter> {
        let mut filter = Filter::default();
        for word in parse(text, JOB_FIELDS)? {
            let test = Test::read(&word, JOB_FIELDS)?;
            match (word.field.as_str(), sole_queue(&word)) {
                ("state", _) => {
                    let named: BTreeSet<JobState> =
                        word.texts().iter().filter_map(|text| JobState::parse(&text.to_lowercase())).collect();
                    filter.states.retain(|state| named.contains(state) != word.negated);
                }
                ("queue", Some(queue)) if filter.queue.is_none() => filter.queue = Some(queue),
                _ => filter.tests.push(test),
            }
        }
        Ok(filter)
    }

    /// Narrows to these states, by their own or by another system's names for them.
    ///
    /// # Errors
    /// [`Problem::Choice`].
    pub fn only_states_named(mut self, words: &[String]) -> Result<Filter, BadFilter> {
        let mut named = Vec::new();
        for word in words {
            let unknown = || Problem::Choice { text: word.clone(), noun: "state", known: STATES };
            let state = JobState::parse(&word.to_lowercase());
            named.push(state.ok_or_else(|| BadFilter { problem: unknown(), span: None })?);
        }
        if !named.is_empty() {
            self.states.retain(|state| named.contains(state));
        }
        Ok(self)
    }

    /// Narrows to these states.
    #[must_use]
    pub fn only_states(mut self, states: &[JobState]) -> Filter {
        self.states.retain(|state| states.contains(state));
        self
    }

    /// Narrows to one queue.
    #[must_use]
    pub fn only_queue(mut self, queue: &Name) -> Filter {
        match &self.queue {
            None => self.queue = Some(queue.clone()),
            Some(already) if already == queue => {}
            // It cannot be in two queues.
            Some(_) => self.states.clear(),
        }
        self
    }

    /// The places to look at, in the order lists show them.
    pub fn places(&self) -> Vec<Place> {
        Place::ALL.into_iter().filter(|place| self.states.contains(&place.state())).collect()
    }

    /// The only queue that can match, if the filter names just one.
    pub fn queue(&self) -> Option<&Name> {
        self.queue.as_ref()
    }

    /// Whether records in the right place may still not match, so that a list must look at more of
    /// them than it shows.
    pub fn is_selective(&self) -> bool {
        !self.tests.is_empty()
    }

    /// Whether this job is meant, at this time.
    pub fn matches(&self, stored: &Stored, now: Ms) -> bool {
        self.states.contains(&stored.place.state())
            && self.queue.as_ref().is_none_or(|queue| *queue == stored.job.queue)
            && self.tests.iter().all(|test| test.holds(stored, JOB_FIELDS, now))
    }
}

/// The queue that a word names, if it names exactly one.
fn sole_queue(word: &Word) -> Option<Name> {
    match word.globs().as_slice() {
        [glob] if !word.negated && word.sign == Sign::Is => glob.exact()?.parse().ok(),
        _ => None,
    }
}

impl<T> fmt::Debug for Where<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tests.fmt(f)
    }
}

#[cfg(test)]
mod tests;
