//! Alerts: what is worth one, and how often it is told. Pure: what is seen of a store at an hour goes
//! in, what is to be told comes out. Knows no way to tell anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::text::{clip, count, nearest, thousands};
use super::{JobId, Ms, Name};

/// Of one key, no more than one alert in this time.
pub const QUIET: Duration = Duration::from_secs(300);
/// Jobs that died so shortly before the latest one may become visible after it.
const SETTLING: Duration = Duration::from_secs(5);
/// Deaths remembered as told. Of more in so short a time, a late one that is older than all of them is
/// taken for told.
const REMEMBERED: usize = 100_000;
/// Keys of which nothing was heard for so long are forgotten.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);
/// Of a job's error, in bytes.
const ERROR_SHOWN: usize = 300;

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum On {
    /// A job was buried; one key a job type.
    JobDead,
    /// More jobs wait in a queue than this; one key a queue. Told when the line is crossed.
    QueueDepth { above: u64 },
    /// Ticks came to nothing because nobody was there; one key a schedule.
    ScheduleMissed,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` cannot be watched{}: job.dead, \"queue.depth > 1000\" or schedule.missed",
    near.map(|near| format!("; did you mean {near}")).unwrap_or_default()
)]
pub struct BadOn {
    pub text: String,
    pub near: Option<&'static str>,
}

impl FromStr for On {
    type Err = BadOn;

    fn from_str(text: &str) -> Result<Self, BadOn> {
        let bad = |near| BadOn { text: text.to_owned(), near };
        match text.split_once('>') {
            Some((what, above)) if what.trim() == "queue.depth" => {
                let above = above.trim().parse().map_err(|_| bad(None))?;
                Ok(On::QueueDepth { above })
            }
            None if text == "job.dead" => Ok(On::JobDead),
            None if text == "schedule.missed" => Ok(On::ScheduleMissed),
            _ => Err(bad(nearest(text, ["job.dead", "schedule.missed", "queue.depth"]))),
        }
    }
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            On::JobDead => f.write_str("job.dead"),
            On::QueueDepth { above } => write!(f, "queue.depth > {above}"),
            On::ScheduleMissed => f.write_str("schedule.missed"),
        }
    }
}

/// One thing to tell. Its serialised form is what webhooks and commands get.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alert {
    /// What was watched: `job.dead`.
    pub on: String,
    /// The job type, the queue or the schedule.
    pub subject: String,
    /// A sentence; may hold what a handler printed.
    pub text: String,
    /// So many others of this key were not told one by one.
    pub more: u64,
    #[serde(serialize_with = "rfc3339")]
    pub at: Ms,
    pub job_id: Option<String>,
}

fn rfc3339<S: serde::Serializer>(at: &Ms, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(at)
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match self.more {
            0 => Ok(()),
            more => write!(f, " (and {} more)", thousands(more)),
        }
    }
}

/// A job that was buried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    pub job: JobId,
    pub kind: Name,
    pub queue: Name,
    pub at: Ms,
    pub error: String,
}

/// What is seen of a store at an hour. Only what somebody watches need be filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    pub now: Ms,
    /// Those that no [`Watch::note`] was given.
    pub deaths: Vec<Death>,
    /// How many jobs wait, by queue.
    pub depths: Vec<(Name, u64)>,
    /// How many ticks each schedule has missed since its creation.
    pub missed: Vec<(Name, u64)>,
}

/// What one rule has seen and told: kept in the store, shared by all who watch by that rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// None before the first look: what lies further back than this one is nobody's news.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    since: Option<Ms>,
    /// Told deaths not older than [`SETTLING`] before the latest.
    #[serde(rename = "d", default, skip_serializing_if = "BTreeMap::is_empty")]
    dead: BTreeMap<JobId, Ms>,
    /// Up to here all deaths are told, where more than are remembered came since.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    floor: Option<Ms>,
    /// New deaths since the last look, by type: how many, and the latest.
    #[serde(skip)]
    fresh: BTreeMap<Name, (u64, Death)>,
    #[serde(rename = "a", default, skip_serializing_if = "BTreeSet::is_empty")]
    above: BTreeSet<Name>,
    #[serde(rename = "m", default, skip_serializing_if = "BTreeMap::is_empty")]
    missed: BTreeMap<Name, u64>,
    #[serde(rename = "k", default, skip_serializing_if = "BTreeMap::is_empty")]
    keys: BTreeMap<Name, Key>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    #[serde(rename = "t")]
    told: Ms,
    /// Held back since then, and the latest of them.
    #[serde(rename = "n", default)]
    held: u64,
    #[serde(rename = "x", default, skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(rename = "j", default, skip_serializing_if = "Option::is_none")]
    job: Option<JobId>,
}

/// News of one key.
struct News {
    subject: Name,
    count: u64,
    text: String,
    job: Option<JobId>,
}

impl Watch {
    /// Takes in what is seen, and answers what is to be told now.
    pub fn look(&mut self, on: &On, sight: &Sight) -> Vec<Alert> {
        let first = self.since.is_none();
        let news = match on {
            On::JobDead => self.deaths(sight),
            On::QueueDepth { above } => self.depths(*above, sight),
            On::ScheduleMissed => self.misses(sight, first),
        };
        if first {
            self.since = Some(sight.now);
        }
        self.tell(on, news, sight.now)
    }

    /// How far back a look must go: what was buried at this time, or before, is old news.
    pub fn horizon(&self, now: Ms) -> Ms {
        let edge = self.since.unwrap_or(now);
        Ms(edge.0.saturating_sub(super::time::millis(SETTLING))).max(self.floor.unwrap_or(Ms(i64::MIN)))
    }

    /// Takes in some of the jobs that were buried, before a [`Watch::look`]: it may be given them in
    /// parts, in any order, and old ones among them.
    pub fn note(&mut self, deaths: &[Death], now: Ms) {
        let horizon = self.horizon(now);
        for death in deaths {
            if death.at <= horizon || self.dead.insert(death.job, death.at).is_some() {
                continue;
            }
            // At the first look the dead of the last seconds are old news, to be remembered as such.
            if self.since.is_none() {
                continue;
            }
            let (count, latest) = self.fresh.entry(death.kind.clone()).or_insert_with(|| (0, death.clone()));
            *count += 1;
            if death.at > latest.at {
                *latest = death.clone();
            }
        }
    }

    /// Jobs buried since the last look, by type.
    fn deaths(&mut self, sight: &Sight) -> Vec<News> {
        self.note(&sight.deaths, sight.now);
        let edge = self.since.unwrap_or(sight.now);
        self.since = Some(self.dead.values().max().copied().unwrap_or(edge).max(edge));
        let horizon = self.horizon(sight.now);
        self.dead.retain(|_, at| *at > horizon);
        if self.dead.len() > REMEMBERED {
            let mut times: Vec<Ms> = self.dead.values().copied().collect();
            times.sort_unstable();
            let floor = times[times.len() - REMEMBERED];
            self.floor = Some(floor);
            self.dead.retain(|_, at| *at > floor);
        }
        let news = |(kind, (count, death)): (Name, (u64, Death))| News {
            text: format!(
                "job {} of type {kind} in queue {} died: {}",
                death.job,
                death.queue,
                clip(&death.error, ERROR_SHOWN)
            ),
            subject: kind,
            count,
            job: Some(death.job),
        };
        std::mem::take(&mut self.fresh).into_iter().map(news).collect()
    }

    /// Queues that have grown beyond the line since the last look.
    fn depths(&mut self, above: u64, sight: &Sight) -> Vec<News> {
        let over: BTreeMap<&Name, u64> =
            sight.depths.iter().filter(|(_, depth)| *depth > above).map(|(name, depth)| (name, *depth)).collect();
        self.above.retain(|name| over.contains_key(name));
        let mut news = Vec::new();
        for (name, depth) in over {
            if self.above.insert(name.clone()) {
                let text = format!("{} in queue {name}, more than {}", waiting(depth), thousands(above));
                news.push(News { subject: name.clone(), count: 1, text, job: None });
            }
        }
        news
    }

    /// Schedules that have missed ticks since the last look.
    fn misses(&mut self, sight: &Sight, first: bool) -> Vec<News> {
        let mut news = Vec::new();
        for (name, missed) in &sight.missed {
            // A schedule that was not there before had missed nothing.
            let before = self.missed.insert(name.clone(), *missed).unwrap_or(if first { *missed } else { 0 });
            if *missed > before {
                let text = format!("schedule {name} missed {}", count(missed - before, "tick"));
                news.push(News { subject: name.clone(), count: 1, text, job: None });
            }
        }
        self.missed.retain(|name, _| sight.missed.iter().any(|(known, _)| known == name));
        news
    }

    /// At most one a key in [`QUIET`]; the others are held, and counted in the next.
    fn tell(&mut self, on: &On, news: Vec<News>, now: Ms) -> Vec<Alert> {
        let mut alerts = Vec::new();
        let alert = |subject: &Name, text: &str, more, job: Option<JobId>| Alert {
            on: on.to_string(),
            subject: subject.to_string(),
            text: text.to_owned(),
            more,
            at: now,
            job_id: job.map(|job| job.to_string()),
        };
        for one in news {
            match self.keys.get_mut(&one.subject) {
                Some(key) if now.since(key.told) < QUIET => {
                    key.held += one.count;
                    (key.text, key.job) = (one.text, one.job);
                }
                kept => {
                    let held = kept.map_or(0, |key| key.held);
                    alerts.push(alert(&one.subject, &one.text, held + one.count - 1, one.job));
                    let told = Key { told: now, held: 0, text: String::new(), job: None };
                    self.keys.insert(one.subject, told);
                }
            }
        }
        for (subject, key) in &mut self.keys {
            if key.held > 0 && now.since(key.told) >= QUIET {
                alerts.push(alert(subject, &key.text, key.held - 1, key.job));
                *key = Key { told: now, held: 0, text: String::new(), job: None };
            }
        }
        self.keys.retain(|_, key| now.since(key.told) < FORGOTTEN);
        alerts
    }
}

fn waiting(depth: u64) -> String {
    if depth == 1 { "1 job waits".to_owned() } else { format!("{} jobs wait", thousands(depth)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Shard;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn death(n: u64, kind: &str, at: i64) -> Death {
        let job = JobId::from_parts(Ms(0), Shard(0), n);
        Death { job, kind: name(kind), queue: name("default"), at: Ms(at), error: "exit:1: no".to_owned() }
    }

    fn told(alerts: &[Alert]) -> Vec<(String, u64)> {
        alerts.iter().map(|alert| (alert.subject.clone(), alert.more)).collect()
    }

    #[test]
    fn what_can_be_watched() {
        assert_eq!("job.dead".parse(), Ok(On::JobDead));
        assert_eq!("queue.depth > 1000".parse(), Ok(On::QueueDepth { above: 1000 }));
        assert_eq!("queue.depth>0".parse(), Ok(On::QueueDepth { above: 0 }));
        assert_eq!("schedule.missed".parse(), Ok(On::ScheduleMissed));
        let bad = |text: &str| text.parse::<On>().expect_err(text).to_string();
        assert!(bad("job.died").contains("did you mean job.dead"), "{}", bad("job.died"));
        assert!(bad("queue.depth > many").contains("\"queue.depth > 1000\""));
        assert!(bad("queue.depth < 5").contains("cannot be watched"));
    }

    #[test]
    fn each_death_is_told_once_or_counted() {
        let mut watch = Watch::default();
        let mut look = |now: i64, deaths: Vec<Death>| {
            let mut kept = deaths;
            kept.sort_by_key(|death| std::cmp::Reverse(death.at));
            told(&watch.look(&On::JobDead, &Sight { now: Ms(now), deaths: kept, ..Sight::default() }))
        };
        // What had died before anybody looked is no news.
        let old = death(1, "mail", 900);
        assert_eq!(look(1_000, vec![old.clone()]), []);
        assert_eq!(look(2_000, vec![old.clone()]), []);
        let new = [old.clone(), death(2, "mail", 2_500), death(3, "mail", 2_500), death(4, "image", 2_600)];
        assert_eq!(look(3_000, new.to_vec()), [("image".to_owned(), 0), ("mail".to_owned(), 1)]);
        assert_eq!(look(4_000, new.to_vec()), []);
        // Five minutes of silence, then what was held, as one.
        let more: Vec<Death> = new.iter().cloned().chain((5..15).map(|n| death(n, "mail", 10_000))).collect();
        assert_eq!(look(11_000, more.clone()), []);
        assert_eq!(look(302_999, more.clone()), []);
        assert_eq!(look(303_000, more.clone()), [("mail".to_owned(), 9)]);
        assert_eq!(look(900_000, more.clone()), []);
        // One that became visible late is not lost.
        let late: Vec<Death> = more.iter().cloned().chain([death(20, "late", 9_000)]).collect();
        assert_eq!(look(901_000, late), [("late".to_owned(), 0)]);
    }

    #[test]
    fn as_many_deaths_as_there_are_come_in_parts_and_are_counted_exactly() {
        let mut watch = Watch::default();
        let look =
            |watch: &mut Watch, now: i64| told(&watch.look(&On::JobDead, &Sight { now: Ms(now), ..Sight::default() }));
        assert_eq!(look(&mut watch, 1_000), []);
        let all: Vec<Death> = (0..150_000).map(|n| death(n, "mail", 6_001 + n as i64 / 100)).collect();
        for part in all.rchunks(500) {
            watch.note(part, Ms(8_000));
        }
        assert_eq!(look(&mut watch, 8_000), [("mail".to_owned(), 149_999)]);
        // The same again is no news, though not all of them are remembered.
        watch.note(&all, Ms(9_000));
        watch.note(&[death(200_000, "mail", 7_600)], Ms(9_000));
        assert_eq!(look(&mut watch, 309_000), [("mail".to_owned(), 0)]);
        assert!(watch.dead.len() <= REMEMBERED);
    }

    #[test]
    fn a_queue_is_told_when_it_crosses_the_line() {
        let (mut watch, on) = (Watch::default(), On::QueueDepth { above: 10 });
        let mut look = |now: i64, depth: u64| {
            let depths = vec![(name("default"), depth)];
            watch.look(&on, &Sight { now: Ms(now), depths, ..Sight::default() })
        };
        assert_eq!(look(0, 10), []);
        let alerts = look(1_000, 11);
        assert_eq!(alerts[0].to_string(), "11 jobs wait in queue default, more than 10");
        assert_eq!(look(2_000, 5_000), [], "it is above already");
        assert_eq!(look(3_000, 3), []);
        assert_eq!(look(4_000, 12), [], "one in five minutes");
        assert_eq!(look(302_000, 12)[0].more, 0);
    }

    #[test]
    fn missed_ticks_are_told_by_schedule() {
        let mut watch = Watch::default();
        let mut look = |now: i64, missed: &[(&str, u64)]| {
            let missed = missed.iter().map(|(schedule, n)| (name(schedule), *n)).collect();
            watch.look(&On::ScheduleMissed, &Sight { now: Ms(now), missed, ..Sight::default() })
        };
        assert_eq!(look(0, &[("nightly", 7)]), []);
        assert_eq!(look(1_000, &[("nightly", 9)])[0].text, "schedule nightly missed 2 ticks");
        assert_eq!(look(2_000, &[("nightly", 9), ("new", 1)])[0].text, "schedule new missed 1 tick");
    }

    #[test]
    fn what_was_seen_reads_back() {
        let mut watch = Watch::default();
        watch.look(&On::JobDead, &Sight { now: Ms(0), ..Sight::default() });
        watch.look(&On::JobDead, &Sight { now: Ms(9), deaths: vec![death(2, "mail", 5)], ..Sight::default() });
        let bytes = rmp_serde::to_vec_named(&watch).expect("encodes");
        assert_eq!(rmp_serde::from_slice::<Watch>(&bytes).expect("decodes"), watch);
    }
}
