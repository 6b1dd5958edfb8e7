//! What becomes of a tick: whether it is on time, late or lost, and whether it may start work while
//! the work of the tick before goes on. Pure functions of a schedule's record and the hour; the
//! engine carries them out, one tick a commit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Ms, Rule};
use crate::domain::text::nearest;

/// A tick that is taken up within this time counts as on time: a scheduler that is restarted, or
/// takes over from one that died, owes nobody a decision.
pub const LATE: Duration = Duration::from_secs(60);
/// At most so many missed ticks are made up for, and so many ticks wait in line; the rest is counted.
pub const LIMIT: usize = 1_000;
/// Missed ticks are counted up to here.
const COUNTED: u64 = 10_000;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal, $($(#[$word_doc:meta])* $word:ident = $text:literal;)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$word_doc])* $word,)* }

        impl $name {
            pub const ALL: &[$name] = &[$($name::$word,)*];
            /// Each as it is written.
            pub const WORDS: [(&str, $name); $name::ALL.len()] = [$(($text, $name::$word),)*];

            pub fn as_str(self) -> &'static str {
                match self { $($name::$word => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let words = $name::ALL.iter().map(|word| word.as_str());
                $name::ALL.iter().copied().find(|word| word.as_str() == text).ok_or_else(|| {
                    let all = words.clone().collect::<Vec<_>>().join(", ");
                    match nearest(text, words) {
                        Some(near) => format!("`{text}` is no {}: did you mean {near}? ({all})", $what),
                        None => format!("`{text}` is no {}: one of {all}", $what),
                    }
                })
            }
        }
    };
}

words! {
    /// What a tick does while the work of the one before goes on.
    Overlap, "overlap policy",
    /// Nothing: the tick is skipped, and told.
    #[default]
    Skip = "skip";
    /// It waits until the other has ended.
    Queue = "queue";
    /// It starts beside it.
    Allow = "allow";
    /// The other is cancelled, and it starts when that has ended.
    Replace = "replace";
}

words! {
    /// What becomes of ticks that nobody was there for.
    Catchup, "catch-up policy",
    /// They are counted and told.
    #[default]
    None = "none";
    /// The latest one is made up for.
    Last = "last";
    /// All are, up to [`LIMIT`].
    All = "all";
}

/// Ticks that came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    pub count: u64,
    /// There are more than were counted.
    pub more: bool,
    pub first: Ms,
    pub last: Ms,
}

/// The next thing that a schedule owes. One commit carries it out whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Passed over before the tick.
    pub missed: Option<Late>,
    /// The tick whose work is to be started now.
    pub tick: Option<Ms>,
    /// The schedule's next tick from then on.
    pub next: Option<Ms>,
}

/// What a schedule owes at `now` when its next tick is `due`; none while that lies ahead. Asked again
/// after each commit, with the new `next`, it names tick by tick.
pub fn turn(rule: &Rule, anchor: Ms, due: Ms, now: Ms, catch_up: Catchup) -> Option<Turn> {
    if due > now {
        return None;
    }
    let on_time = Ms(now.0.saturating_sub(crate::domain::time::millis(LATE)));
    if due >= on_time {
        return Some(Turn { missed: None, tick: Some(due), next: rule.next_after(due, anchor) });
    }
    // Ticks that are on time are done in any case, so that `last` makes up for nothing beside them.
    let first_on_time = rule.next_after(Ms(on_time.0 - 1), anchor).filter(|tick| *tick <= now);
    let tick = match catch_up {
        // What cannot be too many need not be counted tick by tick.
        Catchup::All if rule.at_most(due, now) <= LIMIT as u64 => Some(due),
        Catchup::All => rule.latest(due, now, anchor, LIMIT).first().copied(),
        Catchup::Last if first_on_time.is_none() => rule.latest(due, now, anchor, 1).first().copied(),
        Catchup::Last | Catchup::None => first_on_time,
    };
    let until = tick.unwrap_or(on_time);
    let next = match tick {
        Some(tick) => rule.next_after(tick, anchor),
        None => rule.next_after(Ms(until.0 - 1), anchor),
    };
    Some(Turn { missed: missed(rule, anchor, due, until), tick, next })
}

/// The ticks from `due` to before `until`.
fn missed(rule: &Rule, anchor: Ms, due: Ms, until: Ms) -> Option<Late> {
    let count = rule.count(due, until, anchor, COUNTED + 1);
    let last = rule.latest(due, Ms(until.0 - 1), anchor, 1);
    let last = last.first().copied()?;
    Some(Late { count: count.min(COUNTED), more: count > COUNTED, first: due, last })
}

/// What a tick that is due does, by what the schedule last started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// Its work starts.
    Start,
    /// It comes to nothing.
    Skip,
    /// It waits in line; nothing else happens.
    Wait,
    /// What was last started is cancelled, and the tick waits for its end.
    Replace,
}

/// Whether a tick may start work. `live`: what the schedule last started has not ended. `waiting`:
/// so many ticks stand in line before it.
pub fn admit(overlap: Overlap, live: bool, waiting: usize) -> Admit {
    match (overlap, live || waiting > 0) {
        (Overlap::Allow, _) | (_, false) => Admit::Start,
        (Overlap::Skip, true) => Admit::Skip,
        (Overlap::Queue, true) if waiting >= LIMIT => Admit::Skip,
        (Overlap::Queue, true) => Admit::Wait,
        (Overlap::Replace, true) => Admit::Replace,
    }
}
