//! Jobs, queues, workers and events as rows of a list: their columns and how each cell reads.

use std::time::Duration;

use crate::api::locks::LockView;
use crate::api::{EventView, JobView, QueueView, WorkerView};
use crate::cli::output::{Column, Listed, Tone, state_tone};
use crate::cli::ui::Ui;
use crate::domain::text::{age, thousands};
use crate::domain::{Clock, Ms};
use crate::sys::clock::SystemClock;

impl Listed for JobView {
    fn name(&self) -> &str {
        &self.id
    }
}

impl Listed for QueueView {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Listed for WorkerView {
    fn name(&self) -> &str {
        &self.id
    }
}

impl Listed for LockView {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Listed for EventView {
    fn name(&self) -> &str {
        &self.id
    }
}

/// An id: on a terminal its last eight characters, which are enough to name it.
pub fn id_text(id: &str, ui: &Ui) -> String {
    if ui.is_terminal() && ui.format != crate::cli::args::Format::Wide {
        id[id.len().saturating_sub(8)..].to_owned()
    } else {
        id.to_owned()
    }
}

/// A time: its age on a terminal, itself in a pipe.
pub fn time_text(at: Ms, ui: &Ui) -> String {
    if !ui.is_terminal() {
        return at.rfc3339();
    }
    let now = SystemClock.now();
    if at > now { format!("in {}", age(at.since(now))) } else { age(now.since(at)) }
}

// With the type said once, the cells below need no annotations.
type J = Column<JobView>;
type Q = Column<QueueView>;
type W = Column<WorkerView>;
type E = Column<EventView>;
type L = Column<LockView>;

pub const LOCKS: &[Column<LockView>] = &[
    L::new("NAME", |lock, _| lock.name.clone()),
    L::new("HELD", |lock, _| format!("{}/{}", lock.holders.len(), lock.slots)).right(),
    L::new("FENCE", |lock, _| lock.holders.last().map_or_else(String::new, |one| one.fence.to_string())).right(),
    L::new("SINCE", |lock, ui| lock.holders.first().map_or_else(String::new, |one| time_text(one.since.0, ui))).right(),
    L::new("UNTIL", |lock, ui| lock.holders.last().map_or_else(String::new, |one| time_text(one.until.0, ui))).right(),
    L::new("HOLDERS", |lock, _| lock.who()),
    L::new("IDS", |lock, ui| lock.holders.iter().map(|one| id_text(&one.id, ui)).collect::<Vec<_>>().join(" ")).wide(),
];

pub const JOBS: &[Column<JobView>] = &[
    J::new("ID", |job, ui| id_text(&job.id, ui)),
    J::new("TYPE", |job, _| job.kind.clone()),
    J::new("QUEUE", |job, _| job.queue.clone()),
    J::new("STATE", |job, ui| ui.state(job.state)).tone(|job| state_tone(job.state)),
    J::new("ATTEMPT", |job, _| format!("{}/{}", job.attempt, job.max_retries.saturating_add(1))).right(),
    J::new("PRIORITY", |job, _| job.priority.to_string()).right().wide(),
    J::new("CREATED", |job, ui| time_text(job.created_at.0, ui)).right(),
    J::new("RUN AT", |job, ui| time_text(job.run_at.0, ui)).right().wide(),
    J::new("WORKER", |job, ui| job.worker.as_deref().map_or_else(String::new, |id| id_text(id, ui))).wide(),
    J::new("RUN", |job, ui| job.run_id.as_deref().map_or_else(String::new, |id| id_text(id, ui))).wide(),
    J::new("STEP", |job, _| job.step.clone().unwrap_or_default()).wide(),
    J::new("ERROR", |job, _| job.error.as_ref().map_or_else(String::new, |e| format!("{}: {}", e.class, e.message))),
];

pub const QUEUES: &[Column<QueueView>] = &[
    Q::new("QUEUE", |queue, _| queue.name.clone()),
    Q::new("STATE", |queue, ui| match (queue.paused, ui.is_terminal() && ui.unicode) {
        (true, true) => "‖ paused".to_owned(),
        (true, false) => "paused".to_owned(),
        (false, true) => "▶ open".to_owned(),
        (false, false) => "open".to_owned(),
    })
    .tone(|queue| queue.paused.then_some(Tone::Wait)),
    Q::new("PENDING", |queue, _| thousands(queue.pending)).right(),
    Q::new("RUNNING", |queue, _| thousands(queue.running)).right(),
    Q::new("RETRYING", |queue, _| thousands(queue.retrying)).right(),
    Q::new("SCHEDULED", |queue, _| thousands(queue.scheduled)).right(),
    Q::new("DEAD", |queue, _| thousands(queue.dead)).right().tone(|queue| (queue.dead > 0).then_some(Tone::Bad)),
    Q::new("COMPLETED", |queue, _| thousands(queue.completed)).right(),
    Q::new("CANCELLED", |queue, _| thousands(queue.cancelled)).right().wide(),
    Q::new("PARKED", |queue, _| thousands(queue.parked)).right().wide(),
    Q::new("SETTINGS", |queue, _| queue.settings_text()).wide(),
    Q::new("OLDEST", |queue, _| match queue.oldest_pending_ms {
        Some(ms) => age(Duration::from_millis(u64::try_from(ms).unwrap_or(0))),
        None => "-".to_owned(),
    })
    .right(),
];

fn some_id(id: Option<&String>, ui: &Ui) -> String {
    id.map_or_else(String::new, |id| id_text(id, ui))
}

pub const WORKERS: &[Column<WorkerView>] = &[
    W::new("ID", |worker, ui| id_text(&worker.id, ui)),
    W::new("HOST", |worker, _| worker.host.clone()),
    W::new("PID", |worker, _| worker.pid.to_string()).right(),
    W::new("STATE", |worker, _| if worker.draining { "draining" } else { "serving" }.to_owned())
        .tone(|worker| worker.draining.then_some(Tone::Wait)),
    W::new("RUNNING", |worker, _| format!("{}/{}", worker.running, worker.concurrency)).right(),
    W::new("QUEUES", |worker, _| if worker.queues.is_empty() { "*".to_owned() } else { worker.queues.join(",") }),
    W::new("TYPES", |worker, _| worker.types.join(",")).wide(),
    W::new("VERSION", |worker, _| worker.version.clone()).wide(),
    W::new("STARTED", |worker, ui| time_text(worker.started_at.0, ui)).right(),
];

/// Each with a width that suits most, for rows that come one by one.
pub const EVENTS: &[Column<EventView>] = &[
    E::new("AT", |event, ui| if ui.is_terminal() { clock_text(event.at.0) } else { event.at.0.rfc3339() }).least(12),
    E::new("TYPE", |event, _| event.kind.to_owned()).tone(|event| event_tone(event.kind)).least(17),
    E::new("QUEUE", |event, _| event.queue.clone().unwrap_or_default()).least(10),
    E::new("JOB", |event, ui| some_id(event.job_id.as_ref(), ui)).least(8),
    E::new("RUN", |event, ui| some_id(event.run_id.as_ref(), ui)).least(8),
    E::new("STEP", |event, _| event.step.clone().unwrap_or_default()).least(8),
    E::new("ATTEMPT", |event, _| event.attempt.map_or_else(String::new, |n| n.to_string())).right().wide().least(7),
    E::new("WORKER", |event, ui| some_id(event.worker.as_ref(), ui)).least(8),
    E::new("DATA", |event, _| event.data.clone().unwrap_or_default()),
];

/// The time of day in UTC: who reads along knows the day.
fn clock_text(at: Ms) -> String {
    let whole = at.rfc3339();
    whole.get(11..23).unwrap_or(&whole).to_owned()
}

fn event_tone(kind: &str) -> Option<Tone> {
    match kind.split_once('.').map_or(kind, |(_, what)| what) {
        "completed" | "resumed" => Some(Tone::Good),
        "dead" | "failed" | "lost" | "undo_failed" => Some(Tone::Bad),
        "started" => Some(Tone::Busy),
        "retried" | "compensating" | "paused" => Some(Tone::Wait),
        "released" | "cancelled" | "deleted" | "skipped" | "trimmed" => Some(Tone::Faint),
        _ => None,
    }
}
