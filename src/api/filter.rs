//! The one filter language of every list and every bulk verb: words, all of which must hold.
//! `state:dead type:mail* queue:default error~timeout age>5m`. Pure: the time is an argument.

use std::time::Duration;

use crate::domain::text::nearest;
use crate::domain::time::{Ms, parse_duration};
use crate::domain::{JobState, Name, Place};
use crate::store::Stored;

/// Which jobs are meant. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Any of these; empty means every state.
    pub states: Vec<JobState>,
    kinds: Vec<Glob>,
    queues: Vec<Glob>,
    errors: Vec<String>,
    older: Option<Duration>,
    younger: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFilter {
    #[error("`{word}` is not a filter: {}", known(near))]
    Word { word: String, near: Option<&'static str> },
    #[error("`{0}` is not a state: scheduled, pending, running, retrying, completed, dead, cancelled")]
    State(String),
    #[error("`{0}` has no value")]
    Empty(String),
    #[error(transparent)]
    Age(#[from] crate::domain::time::BadDuration),
}

fn known(near: &Option<&'static str>) -> String {
    match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => "known are state: type: queue: error~ age> age<".to_owned(),
    }
}

impl Filter {
    /// Reads the words of `--where`.
    ///
    /// # Errors
    /// [`BadFilter`] with the word that was not understood.
    pub fn parse(text: &str) -> Result<Filter, BadFilter> {
        let mut filter = Filter::default();
        for word in text.split_whitespace() {
            filter.add(word)?;
        }
        Ok(filter)
    }

    fn add(&mut self, word: &str) -> Result<(), BadFilter> {
        let Some(at) = word.find([':', '~', '>', '<']) else { return Err(unknown(word)) };
        let (field, value) = (&word[..at], &word[at + 1..]);
        if value.is_empty() {
            return Err(BadFilter::Empty(word.to_owned()));
        }
        match (field, &word[at..=at]) {
            ("state", ":") => {
                for state in value.split(',') {
                    self.add_state(state)?;
                }
            }
            ("type", ":") => self.kinds.push(Glob(value.to_owned())),
            ("queue", ":") => self.queues.push(Glob(value.to_owned())),
            ("error", "~") => self.errors.push(value.to_lowercase()),
            ("age", ">") => self.older = Some(parse_duration(value)?),
            ("age", "<") => self.younger = Some(parse_duration(value)?),
            _ => return Err(unknown(word)),
        }
        Ok(())
    }

    /// Adds a state by its own or by another system's name for it.
    ///
    /// # Errors
    /// [`BadFilter::State`].
    pub fn add_state(&mut self, word: &str) -> Result<(), BadFilter> {
        let state = JobState::parse(&word.to_lowercase()).ok_or_else(|| BadFilter::State(word.to_owned()))?;
        self.states.push(state);
        Ok(())
    }

    /// The same filter for one state, whatever states it named.
    pub fn only_state(mut self, state: JobState) -> Filter {
        self.states = vec![state];
        self
    }

    /// Narrows to one queue.
    pub fn add_queue(&mut self, queue: &Name) {
        self.queues.push(Glob(queue.to_string()));
    }

    /// The places to look at, in the order lists show them.
    pub fn places(&self) -> Vec<Place> {
        let wanted = |place: &Place| self.states.is_empty() || self.states.contains(&place.state());
        Place::ALL.into_iter().filter(wanted).collect()
    }

    /// The only queue that can match, if the filter names just one.
    pub fn queue(&self) -> Option<Name> {
        match self.queues.as_slice() {
            [Glob(name)] if !name.contains(['*', '?']) => name.parse().ok(),
            _ => None,
        }
    }

    /// Whether records in the right place may still not match, so that a list must look at more of
    /// them than it shows.
    pub fn is_selective(&self) -> bool {
        let queues = self.queues.len() - usize::from(self.queue().is_some());
        queues + self.kinds.len() + self.errors.len() > 0 || self.older.is_some() || self.younger.is_some()
    }

    /// Whether this job is meant, at this time.
    pub fn matches(&self, stored: &Stored, now: Ms) -> bool {
        let job = &stored.job;
        let age = now.since(job.id.created_at());
        let has_error = |part: &String| {
            job.error.as_ref().is_some_and(|error| error.to_string().to_lowercase().contains(part.as_str()))
        };
        (self.states.is_empty() || self.states.contains(&stored.place.state()))
            && self.kinds.iter().all(|glob| glob.matches(job.kind.as_str()))
            && self.queues.iter().all(|glob| glob.matches(job.queue.as_str()))
            && self.errors.iter().all(has_error)
            && self.older.is_none_or(|least| age > least)
            && self.younger.is_none_or(|most| age < most)
    }
}

fn unknown(word: &str) -> BadFilter {
    const WORDS: [&str; 6] = ["state:", "type:", "queue:", "error~", "age>", "age<"];
    let field: &str = word.split([':', '~', '>', '<']).next().unwrap_or(word);
    BadFilter::Word { word: word.to_owned(), near: nearest(field, WORDS) }
}

/// A name in which `*` stands for any text and `?` for one character.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Glob(String);

impl Glob {
    fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        // Where to go on from if the text after the last `*` did not fit.
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            if p < pattern.len() && pattern[p] == b'*' {
                star = Some((p, t));
                p += 1;
            } else if p < pattern.len() && (pattern[p] == b'?' || pattern[p] == text[t]) {
                p += 1;
                t += 1;
            } else if let Some((star_p, star_t)) = star {
                p = star_p + 1;
                t = star_t + 1;
                star = Some((star_p, star_t + 1));
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::JobError;
    use crate::domain::{Job, JobId, Json};

    #[test]
    fn globs() {
        let yes = [
            ("mail*", "mail"),
            ("mail*", "mail.send"),
            ("*", "x"),
            ("a*b*c", "a1b2b3c"),
            ("m?il", "mail"),
            ("*.x", "a.x.x"),
        ];
        let no = [("mail*", "email"), ("a*b", "abc"), ("m?il", "mil"), ("", "x")];
        for (pattern, text) in yes {
            assert!(Glob(pattern.into()).matches(text), "{pattern} {text}");
        }
        for (pattern, text) in no {
            assert!(!Glob(pattern.into()).matches(text), "{pattern} {text}");
        }
    }

    #[test]
    fn all_words_must_hold() {
        let name = |text: &str| text.parse::<Name>().expect("a name");
        let mut job =
            Job::new(JobId::from_parts(Ms(0), Default::default(), 1), name("mail.send"), name("q1"), Json::null());
        job.error = Some(JobError::new("timeout", "Gateway slow"));
        let stored = Stored::idle(job, Place::Dead, Ms(0));
        let now = Ms(600_000);
        let matches = |text: &str| Filter::parse(text).expect(text).matches(&stored, now);
        for text in [
            "",
            "state:dead",
            "state:failed,running",
            "type:mail* age>5m error~TIMEOUT error~gateway",
            "queue:q? age<11m",
        ] {
            assert!(matches(text), "{text}");
        }
        for text in ["state:pending", "type:mail", "error~disk", "age>10m", "age<10m", "queue:q1 queue:q2"] {
            assert!(!matches(text), "{text}");
        }
        assert_eq!(Filter::parse("queue:q1").expect("reads").queue(), Some(name("q1")));
        assert_eq!(Filter::parse("queue:q*").expect("reads").queue(), None);
        assert_eq!(
            Filter::parse("state:waiting").expect("reads").places(),
            [Place::Suspect, Place::Pending, Place::Parked]
        );
    }

    #[test]
    fn mistakes_name_the_word_and_the_cure() {
        let error = |text: &str| Filter::parse(text).expect_err(text).to_string();
        assert_eq!(error("stat:dead"), "`stat:dead` is not a filter: did you mean `state:`?");
        assert_eq!(error("zzz"), "`zzz` is not a filter: known are state: type: queue: error~ age> age<");
        assert_eq!(error("type:"), "`type:` has no value");
        assert!(error("state:ded").starts_with("`ded` is not a state"));
        assert_eq!(error("age>5"), "`5` has no unit: write `5s` for seconds, or ms, m, h, d");
        assert_eq!(error("state~dead"), "`state~dead` is not a filter: did you mean `state:`?");
    }
}
