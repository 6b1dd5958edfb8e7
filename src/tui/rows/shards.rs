//! A shard as a row, with how far it has been drained.

use serde::{Deserialize, Serialize};

use super::{Column, Key, Row, counted, plain};
use crate::api::shards::ShardView;
use crate::domain::text::{count, thousands};
use crate::tui::theme::{Sign, Tone, shard_sign};

/// What is left to do until a shard is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drain {
    pub left: u64,
    /// The most that was seen left: what the progress is told of.
    pub most: u64,
}

impl Drain {
    /// How much of it is done, in hundredths.
    pub fn percent(self) -> u64 {
        (self.most - self.left.min(self.most)).saturating_mul(100).checked_div(self.most).unwrap_or(100)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShardRow {
    pub id: String,
    pub url: String,
    pub state: String,
    pub moved_to: Option<u16>,
    /// Where a drain carries what lies there, of all shards that there are.
    pub carried_to: Option<u16>,
    pub trouble: Option<String>,
    pub workers: u64,
    pub pending: u64,
    pub running: u64,
    pub retrying: u64,
    pub scheduled: u64,
    pub dead: u64,
    pub finished: u64,
    pub runs: u64,
    pub finished_runs: u64,
    pub schedules: u64,
    /// Completed a second, over the last ten; none until the event log was read to its end.
    pub done_per_s: Option<f64>,
    /// More wait (1) or fewer (-1) than some ten seconds ago.
    pub trend: i8,
    pub drain: Option<Drain>,
    /// Jobs wait, and no worker is registered with it.
    pub unclaimed: bool,
    /// The map that says so, and how it spreads new work.
    pub map: u64,
    pub strategy: String,
}

impl From<&ShardView> for ShardRow {
    fn from(view: &ShardView) -> ShardRow {
        ShardRow {
            id: view.id.clone(),
            url: view.url.clone(),
            state: view.state.clone(),
            moved_to: view.moved_to,
            trouble: view.trouble.clone(),
            workers: view.workers,
            pending: view.pending,
            running: view.running,
            retrying: view.retrying,
            scheduled: view.scheduled,
            dead: view.dead,
            finished: view.finished,
            runs: view.runs,
            finished_runs: view.finished_runs,
            schedules: view.schedules,
            unclaimed: view.is_unclaimed(),
            ..ShardRow::default()
        }
    }
}

impl ShardRow {
    pub fn number(&self) -> Option<u16> {
        self.id.parse().ok()
    }

    pub fn sign(&self) -> Sign {
        shard_sign(if self.trouble.is_some() { "away" } else { &self.state })
    }

    /// What is said of it in the last column: what is wrong, how far its drain is, where it lies.
    pub fn about(&self, unicode: bool) -> (String, Tone) {
        if let Some(trouble) = &self.trouble {
            return (trouble.clone(), Tone::Bad);
        }
        if let Some(drain) = self.drain {
            return (drained(drain, self.moved_to, unicode), Tone::Wait);
        }
        if self.unclaimed {
            return (format!("no worker: {} wait", count(self.pending + self.retrying, "job")), Tone::Bad);
        }
        (self.url.clone(), Tone::Faint)
    }
}

/// `62% █████░░░ to 0, 1,204 left`
fn drained(drain: Drain, to: Option<u16>, unicode: bool) -> String {
    const CELLS: u64 = 8;
    if drain.left == 0 {
        return "empty: D removes".to_owned();
    }
    let full = usize::try_from(drain.percent() * CELLS / 100).unwrap_or(0);
    let (done, open) = if unicode { ("█", "░") } else { ("#", ".") };
    let bar = done.repeat(full) + &open.repeat(CELLS as usize - full);
    let to = to.map_or(String::new(), |to| format!(" to {to}"));
    format!("{}% {bar}{to}, {} left", drain.percent(), thousands(drain.left))
}

impl Row for ShardRow {
    fn id(&self) -> &str {
        &self.id
    }

    fn is_problem(&self) -> bool {
        self.trouble.is_some() || self.unclaimed || self.dead > 0
    }
}

fn number(n: u64) -> Key {
    Key::Number(n as f64)
}

type S = Column<ShardRow>;

pub const SHARDS: &[Column<ShardRow>] = &[
    S::new("SHARD", 5, |shard, _| plain(shard.id.clone())).key(|shard| number(shard.number().map_or(0, u64::from))),
    S::new("STATE", 10, |shard, look| {
        let sign = shard.sign();
        (sign.text(look.unicode), sign.tone)
    })
    .key(|shard| Key::Text(shard.sign().word.to_owned())),
    S::new("PENDING", 10, |shard, look| super::with_trend(shard.pending, shard.trend, look))
        .right()
        .key(|shard| number(shard.pending)),
    S::new("RUNNING", 7, |shard, _| counted(shard.running, Tone::Busy)).right().key(|shard| number(shard.running)),
    S::new("DONE/S", 7, |shard, _| super::per_second(shard.done_per_s))
        .right()
        .key(|shard| Key::Number(shard.done_per_s.unwrap_or(0.0))),
    S::new("DEAD", 6, |shard, _| counted(shard.dead, Tone::Bad)).right().key(|shard| number(shard.dead)),
    S::new("WORKERS", 7, |shard, _| (shard.workers.to_string(), if shard.unclaimed { Tone::Bad } else { Tone::Plain }))
        .right()
        .key(|shard| number(shard.workers)),
    S::new("RETRY", 6, |shard, _| counted(shard.retrying, Tone::Wait))
        .right()
        .from(100)
        .key(|shard| number(shard.retrying)),
    S::new("SCHED", 7, |shard, _| counted(shard.scheduled, Tone::Plain))
        .right()
        .from(100)
        .key(|shard| number(shard.scheduled)),
    S::new("RUNS", 6, |shard, _| counted(shard.runs, Tone::Plain)).right().from(110).key(|shard| number(shard.runs)),
    S::new("FINISHED", 11, |shard, _| counted(shard.finished, Tone::Plain))
        .right()
        .from(130)
        .key(|shard| number(shard.finished)),
    S::new("ABOUT", 18, |shard, look| shard.about(look.unicode)).grow(),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_told_by_what_is_left() {
        let told = |left, most, unicode| drained(Drain { left, most }, Some(0), unicode);
        assert_eq!(told(500, 1_000, true), "50% ████░░░░ to 0, 500 left");
        assert_eq!(told(1_204, 1_204, false), "0% ........ to 0, 1,204 left");
        assert_eq!(told(0, 9, true), "empty: D removes");
        assert_eq!(Drain { left: 9, most: 3 }.percent(), 0);
    }
}
