//! `--record` and `--replay`: what the data task told, a JSON object a line, and a task that tells it
//! again. What was drawn is not kept: it follows from what was told. Knows no files, only lines.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::data::Replies;
use super::msg::{Answer, Ask, Reply};
use super::state::Page;
use super::views::View;
use crate::domain::{Clock, Ms};

/// The form of the lines. It rises when an older console could not read them.
pub const VERSION: u32 = 1;

/// One answer of the data task, with what it was an answer to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    #[serde(rename = "v")]
    pub version: u32,
    pub at: Ms,
    pub view: View,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// Milliseconds from the question to this answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took: Option<f64>,
    pub answer: Answer,
}

impl Kept {
    /// What is kept of a reply to the page that is shown; none of what is no content.
    pub fn of(page: &Page, reply: &Reply, took: Option<Duration>) -> Option<Kept> {
        // While a store is lost the data task asks by itself, and a recording has none: the gap stays a gap.
        let is_kept = matches!(reply.answer, Answer::Body(_));
        is_kept.then(|| Kept {
            version: VERSION,
            at: reply.at,
            view: page.view,
            of: page.of.clone(),
            // To a hundredth: more is noise.
            took: took.map(|took| (took.as_secs_f64() * 100_000.0).round() / 100.0),
            answer: reply.answer.clone(),
        })
    }

    /// As a line of the file.
    ///
    /// # Errors
    /// What cannot be written as JSON.
    pub fn line(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }
}

/// A line that cannot be read, counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum BadRecording {
    #[error("line {line} is not of a recorded session: {why}")]
    Line { line: usize, why: serde_json::Error },
    #[error("line {line} was recorded by a later goflow (form {version}, and {VERSION} is known here)")]
    Later { line: usize, version: u32 },
}

/// The form of a line, which is looked at before anything else.
#[derive(Deserialize)]
struct Form {
    #[serde(rename = "v")]
    version: u32,
}

/// Reads a recorded session. A last line that was cut off by the end of its session is left out.
///
/// # Errors
/// [`BadRecording`]
pub fn read(text: &str) -> Result<Vec<Kept>, BadRecording> {
    let mut kept = Vec::new();
    for (nth, line) in text.lines().enumerate() {
        let nth = nth + 1;
        if let Ok(Form { version }) = serde_json::from_str(line)
            && version > VERSION
        {
            return Err(BadRecording::Later { line: nth, version });
        }
        match serde_json::from_str(line) {
            Ok(one) => kept.push(one),
            Err(why) if why.is_eof() && !text.ends_with('\n') => break,
            Err(why) => return Err(BadRecording::Line { line: nth, why }),
        }
    }
    Ok(kept)
}

/// A clock that goes on from the first answer of a session: ages are as they were then.
pub struct Then {
    clock: Arc<dyn Clock>,
    back_ms: i64,
}

impl Then {
    pub fn new(clock: Arc<dyn Clock>, kept: &[Kept]) -> Then {
        let first = kept.first().map_or(clock.now(), |one| one.at);
        Then { back_ms: clock.now().0.saturating_sub(first.0), clock }
    }
}

impl Clock for Then {
    fn now(&self) -> Ms {
        Ms(self.clock.now().0.saturating_sub(self.back_ms))
    }
}

/// What was told last before a time about what an ask is about; else what was told first.
fn answer<'a>(kept: &'a [Kept], ask: &Ask, now: Ms) -> Option<&'a Kept> {
    let is_of = |one: &&Kept| match &ask.query {
        super::msg::Query::Job { id } | super::msg::Query::Run { id, .. } => one.of.as_ref() == Some(id),
        query => one.view == query.view(),
    };
    let before = kept.iter().rev().filter(is_of).find(|one| one.at <= now);
    before.or_else(|| kept.iter().find(is_of))
}

/// Where in a session one is: it goes on as fast as it was, or stands at one of its answers.
struct Playing {
    from: Ms,
    since: Instant,
    at: Option<usize>,
}

impl Playing {
    fn now(&self, kept: &[Kept]) -> Ms {
        let last = kept.last().map_or(self.from, |one| one.at);
        match self.at.and_then(|at| kept.get(at)) {
            Some(one) => one.at,
            None => self.from.after(self.since.elapsed()).min(last),
        }
    }

    /// To the answer before or after the one that is shown, and stands there; by none, goes on.
    fn step(&mut self, by: isize, kept: &[Kept]) {
        let now = self.now(kept);
        if by == 0 {
            *self = Playing { from: now, since: Instant::now(), at: None };
            return;
        }
        let shown = kept.iter().rposition(|one| one.at <= now).unwrap_or(0);
        self.at = Some(self.at.unwrap_or(shown).saturating_add_signed(by).min(kept.len().saturating_sub(1)));
    }
}

/// Tells a session again from its first answer on; after its last it stands still. `steps` says when to
/// go by single answers instead.
pub async fn replay(
    kept: Vec<Kept>,
    mut asks: mpsc::UnboundedReceiver<Ask>,
    mut steps: mpsc::UnboundedReceiver<isize>,
    replies: Replies,
) {
    let Some(first) = kept.first().map(|one| one.at) else { return };
    let mut playing = Playing { from: first, since: Instant::now(), at: None };
    loop {
        let ask = tokio::select! {
            biased;
            step = steps.recv() => match step {
                Some(by) => {
                    playing.step(by, &kept);
                    continue;
                }
                None => return,
            },
            ask = asks.recv() => match ask {
                Some(ask) => ask,
                None => return,
            },
        };
        let now = playing.now(&kept);
        let told = match answer(&kept, &ask, now) {
            Some(one) => one.answer.clone(),
            None => Answer::Refused(format!("the recording has no {}", ask.query.view().title().to_lowercase())),
        };
        if replies.send(Reply { generation: ask.generation, at: now, answer: told }).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::msg::Query;
    use crate::tui::tests::samples;

    fn kept(view: View, at: i64) -> Kept {
        Kept {
            version: VERSION,
            at: Ms(at),
            view,
            of: None,
            took: Some(1.25),
            answer: Answer::Body(samples::typical(view)),
        }
    }

    #[test]
    fn a_session_is_read_as_it_was_written() {
        let all: Vec<Kept> = View::ALL.iter().map(|view| kept(*view, 7)).collect();
        let text: String = all.iter().map(|one| one.line().expect("a line")).collect();
        assert_eq!(read(&text).expect("a session"), all);
        let cut = &text[..text.len() - 9];
        assert_eq!(read(cut).expect("a session that was cut").len(), all.len() - 1);
        let error = read(&format!("{text}nonsense\n")).expect_err("nonsense");
        assert!(error.to_string().starts_with(&format!("line {}", all.len() + 1)), "{error}");
        let later = text.replacen("\"v\":1", "\"v\":2", 1);
        assert!(matches!(read(&later), Err(BadRecording::Later { line: 1, version: 2 })));
    }

    #[test]
    fn it_stands_where_one_stepped_to_and_goes_on_from_there() {
        let all = [kept(View::Queues, 10), kept(View::Queues, 20), kept(View::Queues, 30)];
        let mut playing = Playing { from: Ms(10), since: Instant::now(), at: None };
        let mut seen = Vec::new();
        for by in [1, 1, 1, -1, -1, -1] {
            playing.step(by, &all);
            seen.push(playing.now(&all).0);
        }
        assert_eq!(seen, [20, 30, 30, 20, 10, 10]);
        playing.step(1, &all);
        playing.step(0, &all);
        assert!(playing.at.is_none() && playing.now(&all) >= Ms(20));
    }

    #[test]
    fn what_was_last_is_told() {
        let all = [kept(View::Queues, 10), kept(View::Overview, 20), kept(View::Queues, 30)];
        let ask = Ask { generation: 1, query: Query::Queues { filter: String::new() } };
        let at = |now| answer(&all, &ask, Ms(now)).map(|one| one.at.0);
        assert_eq!((at(5), at(10), at(29), at(30)), (Some(10), Some(10), Some(10), Some(30)));
        let ask = Ask { generation: 1, query: Query::Job { id: "x".to_owned() } };
        assert_eq!(answer(&all, &ask, Ms(99)), None);
    }
}
