//! Schedules: a rule (a crontab's five fields in a time zone, or a fixed distance), the ticks it
//! names, and what becomes of ticks that come late or while the last one's work goes on. Pure: the
//! hour is an argument, and time zones are those of the binary, so that every scheduler names the
//! same ticks on every machine.

mod cron;
mod field;
mod policy;
mod record;
mod zone;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

pub use cron::Cron;
pub use policy::{Admit, Catchup, LATE, LIMIT, Late, Overlap, Turn, admit, turn};
pub use record::{Last, Note, Schedule, Step, Target, Work};
pub use zone::{BadZone, Zone};

use super::text::nearest;
use super::time::{BadDuration, Ms, format_duration, millis, parse_duration};

/// The shortest distance of `@every`.
pub const SHORTEST: Duration = Duration::from_secs(1);

/// What names the ticks.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    text: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Cron(Box<Cron>),
    /// Counted from the schedule's creation.
    Every(Duration),
}

/// Why a rule was refused. The messages name the cure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRule {
    #[error("a cron rule is empty: write five fields, as in `0 9 * * *`, or @daily, or @every 5m")]
    Empty,
    #[error(
        "`{rule}` has {found} {}: a cron rule has five (minute, hour, day of month, month, day of week){}",
        if *found == 1 { "field" } else { "fields" },
        if *found == 6 { "; for seconds, write @every 30s" } else { "" }
    )]
    Fields { rule: String, found: usize },
    /// One field is not what a crontab takes.
    #[error("the {field} field of `{rule}`: {why}")]
    Field { rule: String, field: &'static str, why: String },
    #[error("`{rule}` never fires: {why}")]
    Never { rule: String, why: String },
    #[error("`{word}` is not known{}", near.map(|near| format!(": did you mean {near}?")).unwrap_or_default())]
    Word { word: String, near: Option<&'static str> },
    #[error("@reboot has no meaning here: no machine's start is waited for")]
    Reboot,
    #[error("@every needs a distance, as in @every 5m")]
    NoDistance,
    #[error("@every: {0}")]
    Distance(#[from] BadDuration),
    #[error("`{}` is too often: at least {} from tick to tick", format_duration(*.0), format_duration(SHORTEST))]
    TooOften(Duration),
    /// The library that finds the ticks takes it for something else than we do.
    #[error("`{rule}` is not understood: {why}")]
    Refused { rule: String, why: String },
}

/// Words for whole rules, as crontab(5) has them.
const WORDS: &[(&str, &str)] = &[
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

impl Rule {
    /// Reads `0 9 * * mon-fri`, `@daily` or `@every 5m`. Five fields as crontab(5) of Vixie's cron
    /// has them: 0 and 7 are Sunday, and a day matches by day of month *or* day of week when neither
    /// field begins with `*`.
    ///
    /// # Errors
    /// [`BadRule`], also when it would never fire.
    pub fn parse(text: &str, zone: &Zone) -> Result<Rule, BadRule> {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let kind = match text.strip_prefix('@') {
            Some(word) => word_rule(&text, word, zone)?,
            None => Kind::Cron(Box::new(Cron::parse(&text, zone)?)),
        };
        Ok(Rule { text, kind })
    }

    /// One tick each `distance` from the schedule's creation on.
    ///
    /// # Errors
    /// [`BadRule::TooOften`] below [`SHORTEST`].
    pub fn every(distance: Duration) -> Result<Rule, BadRule> {
        if distance < SHORTEST {
            return Err(BadRule::TooOften(distance));
        }
        Ok(Rule { text: format!("@every {}", exact(distance)), kind: Kind::Every(distance) })
    }

    /// As it was written, with single spaces.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What its writer may not have meant, in whole sentences.
    pub fn remarks(&self) -> &[String] {
        match &self.kind {
            Kind::Cron(cron) => cron.remarks(),
            Kind::Every(_) => &[],
        }
    }

    /// The first tick later than `after`. `anchor` is the schedule's creation: `@every` counts from
    /// there, and its first tick is one distance later. None once the calendar ends.
    pub fn next_after(&self, after: Ms, anchor: Ms) -> Option<Ms> {
        match &self.kind {
            Kind::Cron(cron) => cron.next_after(after),
            Kind::Every(distance) => {
                let distance = millis(*distance);
                let passed = after.0.saturating_sub(anchor.0).div_euclid(distance).max(0);
                anchor.0.checked_add(distance.checked_mul(passed.checked_add(1)?)?).map(Ms)
            }
        }
    }

    /// The latest `n` ticks not earlier than `from` and not later than `until`, in order. Costs about
    /// as much as the ticks it looks at, however far `from` lies back.
    pub fn latest(&self, from: Ms, until: Ms, anchor: Ms, n: usize) -> Vec<Ms> {
        let mut window = millis(Duration::from_secs(3600));
        loop {
            let start = Ms(until.0.saturating_sub(window).max(from.0));
            let mut ticks = std::collections::VecDeque::new();
            let mut at = Ms(start.0.saturating_sub(1));
            while let Some(tick) = self.next_after(at, anchor).filter(|tick| *tick <= until) {
                ticks.push_back(tick);
                if ticks.len() > n {
                    ticks.pop_front();
                }
                at = tick;
            }
            if ticks.len() >= n || start == from {
                return ticks.into();
            }
            window = window.saturating_mul(4);
        }
    }

    /// No more ticks than these lie from `from` to `until`.
    pub fn at_most(&self, from: Ms, until: Ms) -> u64 {
        let closest = match &self.kind {
            Kind::Cron(_) => 60_000,
            Kind::Every(distance) => millis(*distance),
        };
        (until.0.saturating_sub(from.0).max(0) / closest) as u64 + 1
    }

    /// How many ticks lie from `from` to before `until`, counted up to `most`.
    pub fn count(&self, from: Ms, until: Ms, anchor: Ms, most: u64) -> u64 {
        let mut n = 0;
        let mut at = Ms(from.0.saturating_sub(1));
        while n < most {
            match self.next_after(at, anchor).filter(|tick| *tick < until) {
                Some(tick) => at = tick,
                None => break,
            }
            n += 1;
        }
        n
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

fn word_rule(text: &str, word: &str, zone: &Zone) -> Result<Kind, BadRule> {
    let (word, rest) = word.split_once(' ').unwrap_or((word, ""));
    let word = format!("@{}", word.to_ascii_lowercase());
    match (&*word, rest) {
        ("@every", "") => return Err(BadRule::NoDistance),
        ("@every", rest) => match parse_duration(rest)? {
            distance if distance < SHORTEST => return Err(BadRule::TooOften(distance)),
            distance => return Ok(Kind::Every(distance)),
        },
        ("@reboot", _) => return Err(BadRule::Reboot),
        _ => {}
    }
    match WORDS.iter().find(|(known, _)| *known == word && rest.is_empty()) {
        Some((_, fields)) => Ok(Kind::Cron(Box::new(Cron::parse(fields, zone)?))),
        None => {
            let known = WORDS.iter().map(|(known, _)| *known).chain(["@every"]);
            Err(BadRule::Word { word: text.to_owned(), near: nearest(&word, known) })
        }
    }
}

/// A duration in as many units as it takes to lose nothing.
fn exact(duration: Duration) -> String {
    const UNITS: [(u128, &str); 5] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let mut left = duration.as_millis();
    let mut text = String::new();
    for (size, unit) in UNITS {
        if left >= size {
            text.push_str(&format!("{}{unit}", left / size));
            left %= size;
        }
    }
    text
}
