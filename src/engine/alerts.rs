//! The loop that watches and tells. Any number of processes may run it over one store: what was seen
//! and told lies in the store, under a name that no schedule can have, and changes only if nobody else
//! has changed it meanwhile. Whoever wins tells; so each alert is told once, and the five minutes of
//! silence hold over all processes. Who dies between winning and telling has told nobody: an alert may
//! be lost, never doubled. Knows no rules of what is worth an alert: that is `domain::alert`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::domain::alert::{Alert, Death, On, Sight, Watch};
use crate::domain::{Ms, Name, Place, limits, secret};
use crate::exec::{self, notify};
use crate::store::codec::{decode, encode};
use crate::store::{ListQuery, Result, ScheduleCommit, ScheduleRecord, Store};
use crate::workflow::is_reserved;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// Tries to change what was seen while others do, in one look.
const TRIES: usize = 5;
/// What nobody has watched by for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(7 * 24 * 3600);
/// How exactly that is kept: not each look is worth a write.
const TOUCH: Duration = Duration::from_secs(3600);
/// Alerts being told at once; more are told by the log alone.
const TELLING: usize = 64;
/// Before the second and the third try to tell.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// How long a stop waits for what is being told.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The record under which the board is kept.
const BOARD: &str = "goflow:alerts";

/// A function of the library's user.
pub type Callback = Arc<dyn Fn(&Alert) + Send + Sync>;

/// Who is told.
#[derive(Clone)]
pub enum Target {
    Slack { url: String, channel: Option<String> },
    Webhook { url: String },
    Command(Vec<String>),
    Log,
    Callback(Callback),
}

impl fmt::Debug for Target {
    /// Without what may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Target {
    /// For people; of a URL only the host.
    pub fn shown(&self) -> String {
        match self {
            Target::Slack { url, .. } => format!("slack {}/***", secret::origin(url)),
            Target::Webhook { url } => format!("webhook {}/***", secret::origin(url)),
            Target::Command(argv) => format!("command {}", argv.first().map(String::as_str).unwrap_or_default()),
            Target::Log => "log".to_owned(),
            Target::Callback(_) => "callback".to_owned(),
        }
    }

    /// Everything that makes it this target, for its fingerprint.
    fn identity(&self) -> String {
        match self {
            Target::Slack { url, channel } => format!("slack {url} {}", channel.as_deref().unwrap_or_default()),
            Target::Webhook { url } => format!("webhook {url}"),
            Target::Command(argv) => format!("command {argv:?}"),
            Target::Log | Target::Callback(_) => self.shown(),
        }
    }
}

/// What is watched, and who is told.
#[derive(Clone, Debug)]
pub struct AlertRule {
    pub on: On,
    pub targets: Vec<Target>,
}

impl AlertRule {
    /// The same in every process that has the same rule. A digest: it is kept in the store.
    fn fingerprint(&self) -> String {
        let targets: Vec<String> = self.targets.iter().map(Target::identity).collect();
        let digest = Sha256::digest(format!("{}\n{}", self.on, targets.join("\n")).as_bytes());
        digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What all rules have seen and told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Board {
    #[serde(rename = "w", default)]
    watches: BTreeMap<String, Kept>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Kept {
    #[serde(rename = "t", default)]
    touched: Ms,
    #[serde(rename = "w", default)]
    watch: Watch,
}

/// Watches a store and tells. [`Alerts::run`] is its life.
pub struct Alerts {
    store: Arc<dyn Store>,
    /// Runs commands.
    machine: Arc<exec::Context>,
    rules: Vec<(String, AlertRule)>,
    telling: JoinSet<()>,
    away: bool,
}

impl Alerts {
    pub fn new(store: Arc<dyn Store>, machine: Arc<exec::Context>, rules: Vec<AlertRule>) -> Alerts {
        let rules = rules.into_iter().map(|rule| (rule.fingerprint(), rule)).collect();
        Alerts { store, machine, rules, telling: JoinSet::new(), away: false }
    }

    /// Watches until `stop` is cancelled. Whatever goes wrong is told by the log: alerts never stop
    /// the work that they watch.
    pub async fn run(mut self, stop: CancellationToken) {
        if self.rules.is_empty() {
            return;
        }
        loop {
            match self.look().await {
                Ok(()) => self.away = false,
                Err(error) if self.away => debug!(%error, "still nothing can be watched"),
                Err(error) => {
                    warn!(%error, "nothing can be watched for alerts: tried again each {} s", LOOK.as_secs());
                    self.away = true;
                }
            }
            while self.telling.try_join_next().is_some() {}
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        // What has died since the last look is told as well.
        if !matches!(tokio::time::timeout(LAST_WORDS, self.look()).await, Ok(Ok(()))) {
            debug!("the last look did not succeed");
        }
        let told = async { while self.telling.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WORDS, told).await.is_err() {
            warn!("alerts were not told in time");
        }
    }

    async fn look(&mut self) -> Result<()> {
        for _ in 0..TRIES {
            let (now, records) = self.store.schedules().await?;
            let board = Name::literal(BOARD);
            let record = records.iter().find(|record| record.name == board);
            let before: Board = record.map(|record| decode(&record.body)).transpose()?.unwrap_or_default();
            let mut after = before.clone();
            let sight = self.sight(now, &records, &mut after).await?;
            let mut alerts = Vec::new();
            for (fingerprint, rule) in &self.rules {
                let kept = after.watches.entry(fingerprint.clone()).or_default();
                if now.since(kept.touched) > TOUCH {
                    kept.touched = now;
                }
                alerts.extend(kept.watch.look(&rule.on, &sight).into_iter().map(|alert| (rule.clone(), alert)));
            }
            if before == after {
                return Ok(());
            }
            after.watches.retain(|_, kept| now.since(kept.touched) < FORGOTTEN);
            let commit = ScheduleCommit {
                next: Some((None, encode(&after)?)),
                ..ScheduleCommit::deleting(&board, record.map_or(0, |record| record.rev))
            };
            if self.store.set_schedule(&commit).await?.is_some() {
                alerts.into_iter().for_each(|(rule, alert)| self.tell(&rule, alert));
                return Ok(());
            }
        }
        // Somebody else is looking all the time, and tells.
        Ok(())
    }

    /// Sees what the rules watch, and no more. Deaths are noted on the board at once: there may be more
    /// than fit anywhere.
    async fn sight(&self, now: Ms, records: &[ScheduleRecord], board: &mut Board) -> Result<Sight> {
        let watches = |wanted: fn(&On) -> bool| self.rules.iter().any(|(_, rule)| wanted(&rule.on));
        let mut sight = Sight { now, ..Sight::default() };
        let dead = watches(|on| *on == On::JobDead);
        if dead || watches(|on| matches!(on, On::QueueDepth { .. })) {
            let stats = self.store.stats().await?;
            if dead {
                for queue in stats.iter().filter(|queue| queue.dead > 0) {
                    self.note_deaths(&queue.name, now, board).await?;
                }
            }
            sight.depths = stats.into_iter().map(|queue| (queue.name, queue.pending)).collect();
        }
        if watches(|on| *on == On::ScheduleMissed) {
            // One that cannot be read is told of by the scheduler.
            let readable = records.iter().filter(|record| !is_reserved(&record.name));
            sight.missed =
                readable.filter_map(|record| Some((record.name.clone(), record.schedule().ok()?.missed))).collect();
        }
        Ok(sight)
    }

    /// Reads a queue's dead, the latest first, as far back as any rule has not seen them.
    async fn note_deaths(&self, queue: &Name, now: Ms, board: &mut Board) -> Result<()> {
        let rules: Vec<&str> =
            self.rules.iter().filter(|(_, rule)| rule.on == On::JobDead).map(|(print, _)| print.as_str()).collect();
        let mut horizon = now;
        for fingerprint in &rules {
            horizon = horizon.min(board.watches.entry((*fingerprint).to_owned()).or_default().watch.horizon(now));
        }
        let mut after = None;
        loop {
            let (place, queue) = (Place::Dead, Some(queue.clone()));
            let query = ListQuery { place, queue, after: after.take(), budget: limits::LIST_BUDGET / 4 };
            let page = self.store.list(&query).await?;
            let deaths: Vec<Death> = page.items.into_iter().map(death).collect();
            for fingerprint in &rules {
                if let Some(kept) = board.watches.get_mut(*fingerprint) {
                    kept.watch.note(&deaths, now);
                }
            }
            let all_seen = deaths.last().is_some_and(|oldest| oldest.at <= horizon);
            match page.next {
                Some(next) if !all_seen => after = Some(next),
                _ => return Ok(()),
            }
        }
    }

    fn tell(&mut self, rule: &AlertRule, alert: Alert) {
        for target in &rule.targets {
            if self.telling.len() >= TELLING {
                warn!(target = %target.shown(), "too many alerts at once, this one is only logged: {alert}");
                continue;
            }
            self.telling.spawn(tell(target.clone(), alert.clone(), self.machine.clone()));
        }
    }
}

/// A job that was buried, at the time of the store's clock.
fn death(stored: crate::store::Stored) -> Death {
    let job = stored.job;
    Death {
        job: job.id,
        kind: job.kind,
        queue: job.queue,
        at: stored.at,
        error: job.error.map(|error| error.to_string()).unwrap_or_default(),
    }
}

/// Tells one target, up to three times.
async fn tell(target: Target, alert: Alert, machine: Arc<exec::Context>) {
    let mut pauses = AGAIN.iter();
    loop {
        let told = try_to_tell(&target, &alert, &machine).await;
        match (told, pauses.next()) {
            (Ok(()), _) => return,
            (Err(error), Some(pause)) if error.again => tokio::time::sleep(*pause).await,
            (Err(error), _) => {
                warn!(target = %target.shown(), "an alert was not told: {error}; it was: {alert}");
                return;
            }
        }
    }
}

async fn try_to_tell(
    target: &Target,
    alert: &Alert,
    machine: &exec::Context,
) -> std::result::Result<(), notify::NotTold> {
    let json = || serde_json::to_value(alert).unwrap_or_default();
    match target {
        Target::Slack { url, channel } => {
            let mut body = serde_json::json!({ "text": slack_text(alert) });
            if let Some(channel) = channel {
                body["channel"] = channel.clone().into();
            }
            notify::post(url, &body).await
        }
        Target::Webhook { url } => notify::post(url, &json()).await,
        Target::Command(argv) => {
            let env = [
                ("GOFLOW_ALERT_ON", alert.on.clone()),
                ("GOFLOW_ALERT_SUBJECT", alert.subject.clone()),
                // A variable cannot hold a NUL, and what a handler printed may.
                ("GOFLOW_ALERT_TEXT", alert.to_string().replace('\0', "\u{fffd}")),
                ("GOFLOW_ALERT_MORE", alert.more.to_string()),
            ];
            let env = env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            notify::command(argv, env, &json(), machine).await
        }
        Target::Log => {
            warn!(on = %alert.on, subject = %alert.subject, "alert: {alert}");
            Ok(())
        }
        Target::Callback(callback) => {
            // A panic of the caller's own code is no reason to stop watching.
            let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| callback(alert)));
            called.map_err(|_| notify::NotTold { why: "the callback panicked".to_owned(), again: false })
        }
    }
}

/// Slack reads `&`, `<` and `>` as its own.
fn slack_text(alert: &Alert) -> String {
    let text = crate::domain::text::display_safe(&alert.to_string()).into_owned();
    format!("goflow: {}", text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_hide_their_secrets_and_rules_have_fingerprints() {
        let url = "https://hooks.slack.com/services/T0/B0/s3cret".to_owned();
        let rule = |url: &str| AlertRule {
            on: On::JobDead,
            targets: vec![Target::Slack { url: url.to_owned(), channel: None }],
        };
        assert!(!format!("{:?}", rule(&url)).contains("s3cret"));
        assert!(!rule(&url).fingerprint().contains("s3cret"));
        assert_eq!(rule(&url).fingerprint(), rule(&url).fingerprint());
        assert_ne!(rule(&url).fingerprint(), rule("https://hooks.slack.com/other").fingerprint());
    }

    #[test]
    fn slack_is_told_nothing_that_it_would_obey() {
        let alert = Alert {
            on: "job.dead".to_owned(),
            subject: "mail".to_owned(),
            text: "died: <!channel> & \u{1b}[31m".to_owned(),
            more: 3,
            at: Ms(0),
            job_id: None,
        };
        assert_eq!(slack_text(&alert), "goflow: died: &lt;!channel&gt; &amp; \\u{1b}[31m (and 3 more)");
    }
}
