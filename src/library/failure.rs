//! How a function says that a job failed, and what is to become of it.

use std::fmt;
use std::time::Duration;

use crate::domain::Name;
use crate::domain::job::{JobError, Outcome, RetryHint};
use crate::domain::time::format_duration;

/// Why an attempt failed, and whether to try again. Every error becomes one by `?`, and is then tried
/// again by the job's policy:
///
/// ```
/// use goflow::Failure;
/// use std::time::Duration;
///
/// fn parse(text: &str) -> Result<u16, Failure> {
///     match text {
///         "" => Err(Failure::bury("nothing to parse")),
///         "busy" => Err(Failure::retry_in(Duration::from_secs(30), "not now").class("busy")),
///         "early" => Err(Failure::snooze(Duration::from_secs(3600))),
///         text => Ok(text.parse()?),
///     }
/// }
/// assert_eq!(parse("x").unwrap_err().to_string(), "error: invalid digit found in string");
/// assert_eq!(parse("busy").unwrap_err().to_string(), "busy: not now");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    class: String,
    message: String,
    hint: RetryHint,
}

impl Failure {
    /// Fails the attempt; whether there is another is for the job's policy to say.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure { class: "error".to_owned(), message: message.into(), hint: RetryHint::Policy }
    }

    /// As [`Failure::new`], and the next attempt not sooner than this.
    pub fn retry_in(delay: Duration, message: impl Into<String>) -> Failure {
        Failure { hint: RetryHint::NotBefore(delay), ..Failure::new(message) }
    }

    /// Fails the job for good: no other attempt could save it.
    pub fn bury(message: impl Into<String>) -> Failure {
        Failure { hint: RetryHint::Never, ..Failure::new(message) }
    }

    /// Puts the job off: it is scheduled anew, and no attempt is counted.
    pub fn snooze(delay: Duration) -> Failure {
        let message = format!("its handler asked for {}", format_duration(delay));
        Failure { class: "snooze".to_owned(), message, hint: RetryHint::Snooze(delay) }
    }

    /// Names the class of the error, which retry rules and filters match: a word, or several joined by
    /// `:`, such as `smtp:550`. What could be no class is not taken for one.
    pub fn class(mut self, class: &str) -> Failure {
        if class.parse::<Name>().is_ok() {
            class.clone_into(&mut self.class);
        }
        self
    }

    pub(super) fn outcome(self) -> Outcome {
        if let RetryHint::Snooze(delay) = self.hint {
            return Outcome::Snoozed { delay };
        }
        Outcome::Failed { error: JobError::new(self.class, self.message), retry: self.hint }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

/// With all the reasons that it names, down to the first.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(reason) = source {
            message.push_str(": ");
            message.push_str(&reason.to_string());
            source = reason.source();
        }
        Failure::new(message)
    }
}
