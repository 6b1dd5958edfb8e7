//! Jobs and queues as rows of a list: their columns and how each cell reads.

use std::time::Duration;

use crate::api::{JobView, QueueView};
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

/// An id: on a terminal its last eight characters, which are enough to name it.
pub fn id_text(id: &str, ui: &Ui) -> String {
    if ui.is_terminal() && ui.format != crate::cli::args::Format::Wide {
        id[id.len().saturating_sub(8)..].to_owned()
    } else {
        id.to_owned()
    }
}

/// A time: its age on a terminal, itself in a pipe.
fn time_text(at: Ms, ui: &Ui) -> String {
    if !ui.is_terminal() {
        return at.rfc3339();
    }
    let now = SystemClock.now();
    if at > now { format!("in {}", age(at.since(now))) } else { age(now.since(at)) }
}

pub const JOBS: &[Column<JobView>] = &[
    Column::new("ID", |job, ui| id_text(&job.id, ui)),
    Column::new("TYPE", |job, _| job.kind.clone()),
    Column::new("QUEUE", |job, _| job.queue.clone()),
    Column::new("STATE", |job, ui| ui.state(job.state)).tone(|job| state_tone(job.state)),
    Column::new("ATTEMPT", |job, _| format!("{}/{}", job.attempt, job.max_retries + 1)).right(),
    Column::new("PRIORITY", |job, _| job.priority.to_string()).right().wide(),
    Column::new("CREATED", |job, ui| time_text(job.created_at.0, ui)).right(),
    Column::new("RUN AT", |job, ui| time_text(job.run_at.0, ui)).right().wide(),
    Column::new("WORKER", |job, ui| job.worker.as_deref().map_or_else(String::new, |id| id_text(id, ui))).wide(),
    Column::new("RUN", |job, ui| job.run_id.as_deref().map_or_else(String::new, |id| id_text(id, ui))).wide(),
    Column::new("ERROR", |job, _| job.error.as_ref().map_or_else(String::new, |e| format!("{}: {}", e.class, e.message))),
];

pub const QUEUES: &[Column<QueueView>] = &[
    Column::new("QUEUE", |queue, _| queue.name.clone()),
    Column::new("STATE", |queue, ui| match (queue.paused, ui.is_terminal() && ui.unicode) {
        (true, true) => "‖ paused".to_owned(),
        (true, false) => "paused".to_owned(),
        (false, true) => "▶ open".to_owned(),
        (false, false) => "open".to_owned(),
    })
    .tone(|queue| queue.paused.then_some(Tone::Wait)),
    Column::new("PENDING", |queue, _| thousands(queue.pending)).right(),
    Column::new("RUNNING", |queue, _| thousands(queue.running)).right(),
    Column::new("RETRYING", |queue, _| thousands(queue.retrying)).right(),
    Column::new("SCHEDULED", |queue, _| thousands(queue.scheduled)).right(),
    Column::new("DEAD", |queue, _| thousands(queue.dead)).right().tone(|queue| (queue.dead > 0).then_some(Tone::Bad)),
    Column::new("COMPLETED", |queue, _| thousands(queue.completed)).right(),
    Column::new("CANCELLED", |queue, _| thousands(queue.cancelled)).right().wide(),
    Column::new("PARKED", |queue, _| thousands(queue.parked)).right().wide(),
    Column::new("OLDEST", |queue, _| match queue.oldest_pending_ms {
        Some(ms) => age(Duration::from_millis(u64::try_from(ms).unwrap_or(0))),
        None => "-".to_owned(),
    })
    .right(),
];
