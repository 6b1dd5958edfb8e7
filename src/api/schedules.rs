//! Schedules: setting, listing, triggering, pausing. Ticks are the scheduler's; here are the verbs.

use serde::Serialize;
use utoipa::ToSchema;

use super::apply::Change;
use super::filter::{Field, Kind, yes_or_no};
use super::queues::number;
use super::wire::{Time, Value};
use super::{ApiError, Client, Result};
use crate::domain::event::EventKind;
use crate::domain::schedule::{Rule, Schedule, Target, Work, Zone};
use crate::domain::{Entropy, Ms, Name};
use crate::store::scheduled::{KEY_IS_TAKEN, event, has_started, ready};
use crate::store::{ScheduleCommit, ScheduleRecord};
use crate::workflow::is_reserved;
use crate::workflow::spec::{ScheduleRule, ScheduleSpec, ScheduleTarget};

/// How often a verb is tried again because a scheduler changed the record meanwhile. It does so at
/// most once a tick.
const TRIES: u32 = 50;

/// A schedule, as every face shows it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ScheduleView {
    pub name: String,
    pub rule: String,
    pub timezone: String,
    pub workflow: Option<String>,
    pub job: Option<String>,
    pub queue: Option<String>,
    #[schema(value_type = serde_json::Value)]
    pub input: Value,
    pub overlap: String,
    pub catchup: String,
    pub paused: bool,
    /// None while it is paused.
    pub next_at: Option<Time>,
    /// When it last started something, and for which tick: none if somebody triggered it.
    pub last_at: Option<Time>,
    pub last_tick: Option<Time>,
    pub last_job_id: Option<String>,
    pub last_run_id: Option<String>,
    /// Ticks in line for the end of what was started last.
    pub waiting: Vec<Time>,
    pub ticked: u64,
    pub skipped: u64,
    pub missed: u64,
}

/// What triggering started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Triggered {
    pub schedule: String,
    pub job_id: Option<String>,
    pub run_id: Option<String>,
}

type F = Field<ScheduleView>;

/// What can be asked of a schedule.
pub const SCHEDULE_FIELDS: &[Field<ScheduleView>] = &[
    F::new("name", Kind::Text, |schedule, _, _| schedule.name.as_str().into()),
    F::new("paused", Kind::Choice(yes_or_no, "value of paused", "yes, no"), |schedule, _, _| {
        if schedule.paused { "yes" } else { "no" }.into()
    }),
    F::new("workflow", Kind::Text, |schedule, _, _| schedule.workflow.as_deref().into()),
    F::new("job", Kind::Text, |schedule, _, _| schedule.job.as_deref().into()),
    F::new("queue", Kind::Text, |schedule, _, _| schedule.queue.as_deref().into()),
    F::new("rule", Kind::Text, |schedule, _, _| schedule.rule.as_str().into()),
    F::new("timezone", Kind::Text, |schedule, _, _| schedule.timezone.as_str().into()),
    F::new("ticked", Kind::Number, |schedule, _, _| number(schedule.ticked)),
    F::new("skipped", Kind::Number, |schedule, _, _| number(schedule.skipped)),
    F::new("missed", Kind::Number, |schedule, _, _| number(schedule.missed)),
];

fn view(record: &ScheduleRecord, schedule: Schedule) -> ScheduleView {
    let (workflow, job, queue) = match schedule.target {
        Target::Workflow(name) => (Some(name.to_string()), None, None),
        Target::Job { kind, queue } => (None, Some(kind.to_string()), Some(queue.to_string())),
    };
    let (last_job_id, last_run_id) = ids(schedule.last.map(|last| last.work));
    ScheduleView {
        name: record.name.to_string(),
        rule: schedule.rule,
        timezone: schedule.timezone,
        workflow,
        job,
        queue,
        input: Value(schedule.input),
        overlap: schedule.overlap.to_string(),
        catchup: schedule.catchup.to_string(),
        paused: schedule.paused,
        next_at: record.due.map(Time),
        last_at: schedule.last.map(|last| Time(last.at)),
        last_tick: schedule.last.and_then(|last| last.tick).map(Time),
        last_job_id,
        last_run_id,
        waiting: schedule.waiting.into_iter().map(Time).collect(),
        ticked: schedule.ticked,
        skipped: schedule.skipped,
        missed: schedule.missed,
    }
}

fn ids(work: Option<Work>) -> (Option<String>, Option<String>) {
    match work {
        Some(Work::Job(job)) => (Some(job.to_string()), None),
        Some(Work::Run(run)) => (None, Some(run.to_string())),
        None => (None, None),
    }
}

impl Client {
    /// Every schedule, by name.
    ///
    /// # Errors
    /// The store's.
    pub async fn schedules(&self) -> Result<Vec<ScheduleView>> {
        let (_, records) = self.store().schedules().await?;
        let shown = records.iter().filter(|record| !is_reserved(&record.name));
        shown.map(|record| Ok(view(record, record.schedule()?))).collect()
    }

    /// Every schedule, by name, with its next `n` ticks; of a paused one, those it would have. One whose
    /// rule cannot be read has none.
    ///
    /// # Errors
    /// The store's.
    pub async fn schedules_with_ticks(&self, n: usize) -> Result<Vec<(ScheduleView, Vec<Ms>)>> {
        let (now, records) = self.store().schedules().await?;
        let mut found = Vec::new();
        for record in records.iter().filter(|record| !is_reserved(&record.name)) {
            let schedule = record.schedule()?;
            let ticks = ticks(record, &schedule, now, n).map(|(_, ticks)| ticks).unwrap_or_default();
            found.push((view(record, schedule), ticks));
        }
        Ok(found)
    }

    /// The next `n` ticks of a schedule, from the one it is due for on; of a paused one, those it would
    /// have.
    ///
    /// # Errors
    /// [`ApiError::NoSchedule`].
    pub async fn schedule_ticks(&self, name: &Name, n: usize) -> Result<(Zone, Vec<Ms>)> {
        let (now, record) = self.schedule_record(name).await?;
        let schedule = record.schedule()?;
        let unreadable = |why: String| ApiError::Conflict(format!("the schedule {name} cannot be read: {why}"));
        ticks(&record, &schedule, now, n).map_err(unreadable)
    }

    /// Sets a schedule as a manifest says. What it has counted and started stays; its next tick stays
    /// too while the rule does.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] for a rule or a zone that was not checked before.
    pub async fn set_schedule(&self, spec: &ScheduleSpec) -> Result<Change> {
        let conflict = |why: String| ApiError::Conflict(format!("schedule {}: {why}", spec.name));
        let zone = Zone::parse(&spec.timezone).map_err(|error| conflict(error.to_string()))?;
        let rule = match &spec.rule {
            ScheduleRule::Cron(text) => Rule::parse(text, &zone),
            ScheduleRule::Every(distance) => Rule::every(*distance),
        };
        let rule = rule.map_err(|error| conflict(error.to_string()))?;
        for _ in 0..TRIES {
            let (now, records) = self.store().schedules().await?;
            let kept = records.into_iter().find(|record| record.name == spec.name);
            let before = kept.as_ref().map(ScheduleRecord::schedule).transpose()?;
            let mut next = wanted(spec, &rule, &zone, now);
            let mut due = rule.next_after(now, now);
            if let (Some(kept), Some(before)) = (&kept, &before) {
                (next.paused, next.last, next.waiting) = (before.paused, before.last, before.waiting.clone());
                (next.ticked, next.skipped, next.missed) = (before.ticked, before.skipped, before.missed);
                if (&next.rule, &next.timezone) == (&before.rule, &before.timezone) {
                    (next.anchor, due) = (before.anchor, kept.due);
                }
                due = due.filter(|_| !next.paused);
                if next == *before {
                    return Ok(Change::Unchanged);
                }
            }
            let from_rev = kept.map_or(0, |kept| kept.rev);
            let mut commit = ScheduleCommit::of(&spec.name, from_rev, &next, due)?;
            commit.events.push(event(EventKind::ScheduleSet, &spec.name, &next.rule));
            if self.store().set_schedule(&commit).await?.is_some() {
                return Ok(if from_rev == 0 { Change::Created } else { Change::Changed });
            }
        }
        Err(busy(&spec.name))
    }

    /// Removes a schedule; what it has started goes on. False if there was none.
    ///
    /// # Errors
    /// The store's.
    pub async fn delete_schedule(&self, name: &Name) -> Result<bool> {
        for _ in 0..TRIES {
            let (_, records) = self.store().schedules().await?;
            let Some(record) = records.into_iter().find(|record| record.name == *name) else { return Ok(false) };
            let mut commit = ScheduleCommit::deleting(name, record.rev);
            commit.events.push(event(EventKind::ScheduleDeleted, name, ""));
            if self.store().set_schedule(&commit).await?.is_some() {
                return Ok(true);
            }
        }
        Err(busy(name))
    }

    /// Pauses or resumes a schedule; whether that changed anything. What would have been due in a pause
    /// is neither made up for nor missed.
    ///
    /// # Errors
    /// [`ApiError::NoSchedule`].
    pub async fn pause_schedule(&self, name: &Name, paused: bool) -> Result<bool> {
        for _ in 0..TRIES {
            let (now, record) = self.schedule_record(name).await?;
            let mut schedule = record.schedule()?;
            if schedule.paused == paused {
                return Ok(false);
            }
            schedule.paused = paused;
            let due = if paused {
                None
            } else {
                let rule =
                    schedule.parsed().map_err(|error| ApiError::Conflict(format!("schedule {name}: {error}")))?;
                rule.next_after(now, schedule.anchor)
            };
            let kind = if paused { EventKind::SchedulePaused } else { EventKind::ScheduleResumed };
            let mut commit = ScheduleCommit::of(name, record.rev, &schedule, due)?;
            commit.events.push(event(kind, name, ""));
            if self.store().set_schedule(&commit).await?.is_some() {
                return Ok(true);
            }
        }
        Err(busy(name))
    }

    /// Starts what a schedule starts now, whatever its rule, its pause and its overlap policy say.
    ///
    /// # Errors
    /// [`ApiError::NoSchedule`]; [`ApiError::Conflict`] when its workflow is gone or takes another input.
    pub async fn trigger(&self, name: &Name) -> Result<Triggered> {
        // The same in every try, and of a request that comes again the same as before.
        let number = Fixed(self.entropy().next());
        for _ in 0..TRIES {
            let (now, record) = self.schedule_record(name).await?;
            let now = self.once.as_ref().map_or(now, |once| once.at);
            let mut schedule = record.schedule()?;
            let started = ready(&**self.store(), name, &schedule, None, now, &number).await?;
            let started = started.map_err(|why| ApiError::Conflict(format!("schedule {name}: {why}")))?;
            let work = started.work;
            if let Some(work) = self.started_before(&schedule, work).await? {
                let (job_id, run_id) = ids(Some(work));
                return Ok(Triggered { schedule: name.to_string(), job_id, run_id });
            }
            schedule.last = Some(crate::domain::schedule::Last { tick: None, at: now, work });
            let mut commit = ScheduleCommit::of(name, record.rev, &schedule, record.due)?;
            commit.start(EventKind::ScheduleTriggered, None, started);
            if let Some(answer) = self.store().set_schedule(&commit).await? {
                if !has_started(&answer) {
                    return Err(ApiError::Conflict(format!("schedule {name}: {KEY_IS_TAKEN}")));
                }
                let (job_id, run_id) = ids(Some(work));
                return Ok(Triggered { schedule: name.to_string(), job_id, run_id });
            }
        }
        Err(busy(name))
    }

    /// What was started when this request came before, if it is this very work. The schedule may have been
    /// carried to another shard since then: so the shard in the id may be another.
    async fn started_before(&self, schedule: &Schedule, work: Work) -> Result<Option<Work>> {
        if self.came_before().is_none() {
            return Ok(None);
        }
        let kept = match work {
            Work::Job(id) => self.made_before(&[id]).await?.pop().flatten().map(|stored| Work::Job(stored.job.id)),
            Work::Run(id) => self.begun_before(id).await?.map(Work::Run),
        };
        let is_same = |last: &Work| match (*last, work) {
            (Work::Job(last), Work::Job(id)) => last.on(id.shard()) == id,
            (Work::Run(last), Work::Run(id)) => last.on(id.shard()) == id,
            _ => false,
        };
        Ok(kept.or_else(|| schedule.last.map(|last| last.work).filter(is_same)))
    }

    async fn schedule_record(&self, name: &Name) -> Result<(Ms, ScheduleRecord)> {
        let (now, records) = self.store().schedules().await?;
        let found = records.into_iter().find(|record| record.name == *name && !is_reserved(name));
        Ok((now, found.ok_or_else(|| ApiError::NoSchedule(name.clone()))?))
    }
}

/// One number again and again.
struct Fixed(u64);

impl Entropy for Fixed {
    fn next(&self) -> u64 {
        self.0
    }
}

fn ticks(record: &ScheduleRecord, schedule: &Schedule, now: Ms, n: usize) -> Result<(Zone, Vec<Ms>), String> {
    let rule = schedule.parsed().map_err(|error| error.to_string())?;
    let zone = Zone::parse(&schedule.timezone).map_err(|error| error.to_string())?;
    let next = |at: &Ms| rule.next_after(*at, schedule.anchor);
    let first = record.due.or_else(|| next(&now));
    Ok((zone, std::iter::successors(first, next).take(n).collect()))
}

fn wanted(spec: &ScheduleSpec, rule: &Rule, zone: &Zone, now: Ms) -> Schedule {
    let target = match &spec.target {
        ScheduleTarget::Workflow(name) => Target::Workflow(name.clone()),
        ScheduleTarget::Job { kind, queue } => {
            Target::Job { kind: kind.clone(), queue: queue.clone().unwrap_or_else(|| Name::literal("default")) }
        }
    };
    Schedule {
        rule: rule.as_str().to_owned(),
        timezone: zone.name().to_owned(),
        target,
        input: crate::domain::Json::from_value(&spec.input),
        overlap: spec.overlap,
        catchup: spec.catchup,
        anchor: now,
        paused: false,
        last: None,
        waiting: Vec::new(),
        ticked: 0,
        skipped: 0,
        missed: 0,
    }
}

fn busy(name: &Name) -> ApiError {
    ApiError::Conflict(format!("the schedule {name} changes all the time: try again"))
}
