//! The built-in handlers: no process, no files. `noop` and its like end at once, without waiting,
//! because queues do a hundred thousand of them a second.

use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::verdict::{failed, timed_out};
use super::{Ended, LogSink, Stream, Work};
use crate::domain::job::{Outcome, RetryHint};
use crate::domain::text::size;
use crate::domain::time::parse_duration;
use crate::domain::{Name, limits};

/// A handler that every worker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Builtin {
    /// Completes without a result.
    Noop,
    /// Completes with the payload as result.
    Echo,
    /// Completes after a while: payload `"1s"`, `{"ms": 250}` or `{"seconds": 1.5}`.
    Sleep,
    /// Fails. Payload, all optional: `{"message": …, "class": …, "retry": bool}`.
    Fail,
    /// Writes the payload to the log and completes.
    Log,
}

impl Builtin {
    pub const ALL: [Builtin; 5] = [Builtin::Noop, Builtin::Echo, Builtin::Sleep, Builtin::Fail, Builtin::Log];

    pub fn as_str(self) -> &'static str {
        match self {
            Builtin::Noop => "noop",
            Builtin::Echo => "echo",
            Builtin::Sleep => "sleep",
            Builtin::Fail => "fail",
            Builtin::Log => "log",
        }
    }

    pub fn by_name(name: &str) -> Option<Builtin> {
        Builtin::ALL.into_iter().find(|builtin| builtin.as_str() == name)
    }

    /// The outcome, if it takes neither time nor a log to know it. `noop` allocates nothing.
    pub fn immediate(self, work: &Work) -> Option<Outcome> {
        match self {
            Builtin::Noop => Some(Outcome::Completed { result: None }),
            Builtin::Echo => Some(echo(work)),
            Builtin::Fail => Some(fail(work)),
            Builtin::Sleep | Builtin::Log => None,
        }
    }

    pub(super) async fn perform(self, work: &Work, sink: &dyn LogSink, stop: &CancellationToken) -> Ended {
        if let Some(outcome) = self.immediate(work) {
            return Ended::Outcome(outcome);
        }
        match self {
            Builtin::Sleep => sleep(work, stop).await,
            _ => {
                let line = format!("{}\n", work.payload);
                sink.chunk(work, Stream::Stdout, line.as_bytes());
                Ended::Outcome(Outcome::Completed { result: None })
            }
        }
    }
}

fn echo(work: &Work) -> Outcome {
    let length = work.payload.as_str().len();
    if length > limits::VALUE_BYTES {
        let (is, limit) = (size(length as u64), size(limits::VALUE_BYTES as u64));
        return failed(
            "output",
            format!("the payload of {is} is larger than the {limit} a result may have"),
            RetryHint::Never,
        );
    }
    Outcome::Completed { result: Some(work.payload.clone()) }
}

#[derive(Deserialize)]
#[serde(default)]
struct Failure {
    message: String,
    class: String,
    retry: bool,
}

impl Default for Failure {
    fn default() -> Failure {
        Failure { message: "failed as told".to_owned(), class: "fail".to_owned(), retry: true }
    }
}

/// A payload that says nothing about the failure is no mistake: any job can be sent here to fail.
fn fail(work: &Work) -> Outcome {
    let value = work.payload.to_value();
    let wish = if value.is_object() { Failure::deserialize(&value) } else { Ok(Failure::default()) };
    match wish {
        Ok(wish) if wish.class.parse::<Name>().is_err() => bad_payload("`class` must be a name such as `exit:1`", work),
        Ok(wish) => {
            let retry = if wish.retry { RetryHint::Policy } else { RetryHint::Never };
            failed(wish.class, wish.message, retry)
        }
        Err(error) => bad_payload(&error.to_string(), work),
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Pause {
    Text(String),
    Ms(PauseMs),
    Seconds(PauseSeconds),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PauseMs {
    ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PauseSeconds {
    seconds: f64,
}

/// The length of a sleep; `None` if the payload does not say one of at most ten years.
fn pause(work: &Work) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);
    let pause = match serde_json::from_str(work.payload.as_str()).ok()? {
        Pause::Text(text) => parse_duration(&text).ok()?,
        Pause::Ms(PauseMs { ms }) => Duration::from_millis(ms),
        Pause::Seconds(PauseSeconds { seconds }) => Duration::try_from_secs_f64(seconds).ok()?,
    };
    (pause <= LONGEST).then_some(pause)
}

async fn sleep(work: &Work, stop: &CancellationToken) -> Ended {
    let Some(pause) = pause(work) else {
        let form = "write `\"250ms\"`, `{\"ms\": 250}` or `{\"seconds\": 0.25}`, at most ten years";
        return Ended::Outcome(bad_payload(form, work));
    };
    let limit = work.timeout.filter(|limit| *limit < pause);
    tokio::select! {
        biased;
        () = stop.cancelled() => Ended::Stopped,
        () = tokio::time::sleep(limit.unwrap_or(pause)) => Ended::Outcome(match limit {
            Some(limit) => timed_out(limit, None),
            None => Outcome::Completed { result: None },
        }),
    }
}

fn bad_payload(why: &str, work: &Work) -> Outcome {
    failed("payload", format!("`{}` cannot use this payload: {why}", work.kind), RetryHint::Never)
}
