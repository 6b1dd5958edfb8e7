//! What a pool process says: lines out of bytes, and answers out of lines. Pure.
//!
//! A line that begins with `{` is an answer, and one that cannot be understood is a mistake of the
//! handler. Anything else is what a handler prints by the way, and goes to the log.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::domain::job::{JobError, RetryHint};
use crate::domain::json::BadJson;
use crate::domain::text::{clip, size};
use crate::domain::{JobId, Json, Name, Progress, limits};

/// Longest answer, in bytes: a result as large as one may be, with every character escaped, and the
/// rest of a batch beside it.
pub(super) const LONGEST: usize = 16 << 20;
/// Of a line that is no answer so much is passed on at once.
const LOG_PIECE: usize = 64 << 10;
/// The longest delay that a handler may ask for.
const LONGEST_DELAY: Duration = Duration::from_secs(366 * 86_400);

/// One thing said about one job.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub id: JobId,
    pub what: Said,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Result(Option<Json>),
    Error(JobError, RetryHint),
    Snooze(Duration),
    Progress(Progress),
}

/// A line of standard output, or a part of a long one that is no answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Line {
    Answers(Vec<Answer>),
    Log(Vec<u8>),
    /// It begins like an answer and is none; what is wrong with it.
    Broken(String),
    /// An answer longer than [`LONGEST`].
    TooLong,
}

/// Cuts a stream into lines.
#[derive(Default)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// How much of the buffer has been searched for an end of line.
    seen: usize,
}

impl Lines {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next line that is complete, without its end.
    pub fn next(&mut self) -> Option<Line> {
        loop {
            if let Some(end) = self.buffer[self.seen..].iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..self.seen + end + 1).collect();
                self.seen = 0;
                line.pop();
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Some(understand(line));
            }
            self.seen = self.buffer.len();
            let is_answer = looks_like_an_answer(&self.buffer);
            if is_answer && self.buffer.len() > LONGEST {
                return Some(Line::TooLong);
            }
            if !is_answer && self.buffer.len() > LOG_PIECE {
                self.seen = 0;
                return Some(Line::Log(std::mem::take(&mut self.buffer)));
            }
            return None;
        }
    }

    /// What is left at the end of the stream: a last line without an end.
    pub fn rest(&mut self) -> Option<Line> {
        if self.buffer.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        self.seen = 0;
        Some(understand(std::mem::take(&mut self.buffer)))
    }
}

fn looks_like_an_answer(line: &[u8]) -> bool {
    line.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

fn understand(line: Vec<u8>) -> Line {
    if !looks_like_an_answer(&line) {
        return Line::Log(line);
    }
    let broken = |why: String| Line::Broken(format!("{why}: {}", clip(&String::from_utf8_lossy(&line), 200)));
    let raw: Raw = match serde_json::from_slice(&line) {
        Ok(raw) => raw,
        Err(error) => return broken(format!("it answered what is not an answer ({error})")),
    };
    let all = match raw.batch {
        Some(batch) => batch,
        None => vec![raw],
    };
    match all.into_iter().map(Raw::answer).collect() {
        Ok(answers) => Line::Answers(answers),
        Err(why) => broken(why),
    }
}

#[derive(Deserialize)]
struct Raw {
    id: Option<String>,
    #[serde(default, deserialize_with = "present")]
    result: Option<Box<RawValue>>,
    error: Option<RawError>,
    class: Option<String>,
    retry: Option<bool>,
    delay_ms: Option<u64>,
    snooze_ms: Option<u64>,
    progress: Option<RawProgress>,
    batch: Option<Vec<Raw>>,
}

/// Tells `null` from nothing: the first is a result.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(from).map(Some)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawError {
    Message(String),
    Both { class: Option<String>, message: Option<String> },
}

#[derive(Deserialize)]
struct RawProgress {
    percent: Option<f64>,
    message: Option<String>,
}

impl Raw {
    fn answer(self) -> Result<Answer, String> {
        let id = self.id.ok_or("it answered without the job's `id`")?;
        let id = JobId::from_str(&id).map_err(|_| "it answered with an `id` that is no job's".to_owned())?;
        let delay = |ms: u64| Duration::from_millis(ms).min(LONGEST_DELAY);
        let what = match (self.result, self.error, self.snooze_ms, self.progress) {
            (Some(result), None, None, None) => result_of(result.get()),
            (None, Some(error), None, None) => {
                let (class, message) = match error {
                    RawError::Message(message) => (self.class, message),
                    RawError::Both { class, message } => (class.or(self.class), message.unwrap_or_default()),
                };
                // Retry rules match it: what could be none is not taken for one.
                let class = class.filter(|class| class.parse::<Name>().is_ok()).unwrap_or_else(|| "error".to_owned());
                let hint = match (self.retry, self.delay_ms) {
                    (Some(false), _) => RetryHint::Never,
                    (_, Some(ms)) => RetryHint::NotBefore(delay(ms)),
                    (_, None) => RetryHint::Policy,
                };
                Said::Error(JobError::new(class, message), hint)
            }
            (None, None, Some(ms), None) => Said::Snooze(delay(ms)),
            (None, None, None, Some(progress)) => {
                Said::Progress(Progress::new(progress.percent, progress.message.as_deref().unwrap_or_default()))
            }
            _ => return Err("an answer has one of `result`, `error`, `snooze_ms` and `progress`".to_owned()),
        };
        Ok(Answer { id, what })
    }
}

/// A result that cannot be kept is no reason to do the work again.
fn result_of(text: &str) -> Said {
    match Json::parse(text, limits::VALUE_BYTES) {
        Ok(json) => Said::Result(Some(json).filter(|json| !json.is_null())),
        Err(error) => {
            let message = match error {
                BadJson::TooLarge { size: is, limit } => format!(
                    "the result is {} as JSON, more than the {} a result may have: store it elsewhere and return its address",
                    size(is as u64),
                    size(limit as u64)
                ),
                error => format!("the result cannot be kept: {error}"),
            };
            Said::Error(JobError::new("output", message), RetryHint::Never)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Ms, Shard};

    fn id(n: u64) -> JobId {
        JobId::from_parts(Ms(1), Shard(0), n)
    }

    fn one(text: &str) -> Said {
        match understand(text.replace("ID", &id(7).to_string()).into_bytes()) {
            Line::Answers(answers) => match <[Answer; 1]>::try_from(answers) {
                Ok([answer]) if answer.id == id(7) => answer.what,
                other => panic!("{text}: {other:?}"),
            },
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn each_answer_means_one_thing() {
        let json = |text: &str| Json::parse(text, 100).expect("JSON");
        assert_eq!(one(r#"{"id":"ID","result":{"n": 1.50}}"#), Said::Result(Some(json("{\"n\": 1.50}"))));
        assert_eq!(one(r#" {"id":"ID","result":null}"#), Said::Result(None));
        let error = |class: &str, message: &str, hint| Said::Error(JobError::new(class, message), hint);
        assert_eq!(one(r#"{"id":"ID","error":"no"}"#), error("error", "no", RetryHint::Policy));
        assert_eq!(one(r#"{"id":"ID","error":"no","retry":false}"#), error("error", "no", RetryHint::Never));
        let later = RetryHint::NotBefore(Duration::from_millis(1500));
        assert_eq!(one(r#"{"id":"ID","error":"no","retry":true,"delay_ms":1500}"#), error("error", "no", later));
        let both = r#"{"id":"ID","error":{"class":"smtp:550","message":"no such user"}}"#;
        assert_eq!(one(both), error("smtp:550", "no such user", RetryHint::Policy));
        assert_eq!(one(r#"{"id":"ID","error":"no","class":"a b"}"#), error("error", "no", RetryHint::Policy));
        assert_eq!(one(r#"{"id":"ID","snooze_ms":60000}"#), Said::Snooze(Duration::from_secs(60)));
        let progress = one(r#"{"id":"ID","progress":{"percent":40,"message":"half"}}"#);
        assert_eq!(progress, Said::Progress(Progress::new(Some(40.0), "half")));
    }

    #[test]
    fn what_cannot_be_kept_is_told_and_not_repeated() {
        let large = format!(r#"{{"id":"ID","result":"{}"}}"#, "x".repeat(limits::VALUE_BYTES));
        let Said::Error(error, RetryHint::Never) = one(&large) else { panic!("taken") };
        assert!(error.class == "output" && error.message.contains("more than the 256.0 KiB"), "{error}");
    }

    #[test]
    fn what_is_no_answer_is_told_apart() {
        let broken = |text: &str| match understand(text.replace("ID", &id(7).to_string()).into_bytes()) {
            Line::Broken(why) => why,
            other => panic!("{text}: {other:?}"),
        };
        for (text, part) in [
            ("{\"id\": oops", "not an answer"),
            ("{\"result\": 1}", "without the job's `id`"),
            ("{\"id\":\"x\",\"result\": 1}", "no job's"),
            ("{\"id\":\"ID\"}", "one of `result`, `error`"),
            ("{\"id\":\"ID\",\"result\":1,\"error\":\"x\"}", "one of `result`, `error`"),
            ("{\"id\":\"ID\",\"result\":1} {}", "not an answer"),
        ] {
            assert!(broken(text).contains(part), "{text}: {}", broken(text));
        }
        assert_eq!(understand(b"debug".to_vec()), Line::Log(b"debug".to_vec()));
        let batch = format!(r#"{{"batch":[{{"id":"{}","result":1}},{{"id":"{}","error":"x"}}]}}"#, id(1), id(2));
        let Line::Answers(answers) = understand(batch.into_bytes()) else { panic!("no batch") };
        assert_eq!(answers.iter().map(|answer| answer.id).collect::<Vec<_>>(), [id(1), id(2)]);
    }

    #[test]
    fn lines_come_whole_however_they_arrive() {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for byte in b"one\n\n \ntwo\nrest" {
            lines.push(&[*byte]);
            found.extend(std::iter::from_fn(|| lines.next()));
        }
        found.extend(lines.rest());
        let log = |text: &str| Line::Log(text.as_bytes().to_vec());
        assert_eq!(found, [log("one"), log("two"), log("rest")]);
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; LOG_PIECE + 1]);
        assert!(matches!(lines.next(), Some(Line::Log(piece)) if piece.len() == LOG_PIECE + 1));
        lines.push(b" {");
        lines.push(&vec![b' '; LONGEST]);
        assert_eq!(lines.next(), Some(Line::TooLong));
    }
}
