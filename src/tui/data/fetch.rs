//! The content of each page, by the fewest and smallest questions to the store that it takes.

use super::dead::Dead;
use super::events::Events;
use super::shards::Shards;
use super::tail::Tail;
use super::trend::Depths;
use super::{Replies, runs, within};
use crate::api::attention::{Want, Wanted};
use crate::api::filter::{Field, Where};
use crate::api::queues::QUEUE_FIELDS;
use crate::api::schedules::SCHEDULE_FIELDS;
use crate::api::workers::WORKER_FIELDS;
use crate::api::{ApiError, Client, Filter, JobView, QueueView, Stored, WorkerView};
use crate::domain::text::count;
use crate::domain::{JobState, Ms, Name};
use crate::tui::msg::{
    Answer, Ask, AttemptRow, Body, CHUNKS, JobDetail, JobsPart, JobsQuery, Notice, Overview, Query, Reply, Subject,
};
use crate::tui::rows::workers::Held;
use crate::tui::rows::{JobRow, QueueRow, Rows, RunRow, ScheduleRow, WorkerRow};
use crate::tui::text::short;

/// Records that one look at a filter without an index reads at most, and how many at a time.
const LOOKS: usize = 1_000_000;
const AT_ONCE: usize = 1_000;
/// Running jobs that are read to tell what workers do.
const RUNNING: usize = 200;
/// Queues of which the dead are looked at for the latest failures, and how many of each.
const FAILING_QUEUES: usize = 8;
const FAILURES: usize = 20;
/// Ticks of a schedule that are told ahead.
const TICKS: usize = 5;
/// Of a log the end is shown: more than any screen holds.
const LOG_SHOWN: usize = 64 << 10;

type Result<T, E = ApiError> = std::result::Result<T, E>;

/// What is kept between two looks.
#[derive(Debug, Default)]
pub struct Memory {
    tail: Tail,
    runs: runs::Kept,
    dead: Dead,
    events: Events,
    shards: Shards,
    depths: Depths,
}

impl Memory {
    pub async fn fetch(&mut self, client: &Client, ask: &Ask, replies: &Replies) -> Result<Body> {
        match &ask.query {
            Query::Overview => self.overview(client).await,
            Query::Queues { filter } => {
                let filter = read(filter, QUEUE_FIELDS)?;
                let (now, views) = (client.clock().now(), client.queue_views().await?);
                let workers = client.workers().await?;
                self.tail.read(client).await?;
                let rows = self.queue_rows(&views, &workers, now);
                let pairs = views.iter().zip(rows).filter(|(view, _)| filter.matches(view, now));
                Ok(Body::List(Rows::Queues(pairs.map(|(_, row)| row).collect())))
            }
            Query::Workers { filter } => {
                let filter = read(filter, WORKER_FIELDS)?;
                let now = client.clock().now();
                let views = client.workers().await?;
                let views: Vec<WorkerView> = views.into_iter().filter(|view| filter.matches(view, now)).collect();
                Ok(Body::List(Rows::Workers(with_held(client, &views).await?)))
            }
            Query::Jobs(query) => jobs(client, query, ask.generation, replies).await,
            Query::Job { id } => job(client, id).await,
            Query::Runs(query) => runs::list(client, query).await,
            Query::Run { id, log_of } => runs::one(client, &mut self.runs, id, log_of.as_deref()).await,
            Query::Schedules { filter } => schedules(client, filter).await,
            Query::Dlq { filter } => self.dead.look(client, filter).await,
            Query::Events { filter } => self.events.look(client, filter).await,
            Query::Shards { filter } => self.shards.look(client, &mut self.tail, filter).await,
        }
    }

    async fn overview(&mut self, client: &Client) -> Result<Body> {
        let views = client.queue_views().await?;
        let workers = client.workers().await?;
        self.tail.read(client).await?;
        let now = client.clock().now();
        let queues = self.queue_rows(&views, &workers, now);
        let failures = failures(client, &queues).await?;
        let (wanted, failed) = client.looked_over().await?;
        let notices = self.notices(client, &wanted, &queues).await?;
        let failed_runs = failed.iter().take(FAILURES).map(RunRow::from).collect();
        let workers = with_held(client, &workers).await?;
        let rates = self.tail.rates(now);
        Ok(Body::Overview(Box::new(Overview { queues, workers, rates, failures, failed_runs, notices })))
    }

    /// What a person has to do something about: what waits for one first.
    async fn notices(&mut self, client: &Client, wanted: &[Wanted], queues: &[QueueRow]) -> Result<Vec<Notice>> {
        let mut notices = self.shards.notices(client).await?;
        notices.extend(wanted.iter().map(notice));
        for (name, (times, at)) in self.tail.missed() {
            let text = format!("schedule {name} missed ticks {}", count(times, "time"));
            let (id, subject) = (format!("missed/{name}"), Some(Subject::Schedule(name.to_owned())));
            notices.push(Notice { id, subject, text, since: Some(at), bad: true });
        }
        for queue in queues {
            if queue.parked > 0 {
                let text =
                    format!("{} on {} wait for a worker that knows their type", count(queue.parked, "job"), queue.name);
                let (id, subject) = (format!("parked/{}", queue.name), Some(Subject::Queue(queue.name.clone())));
                notices.push(Notice { id, subject, text, since: None, bad: true });
            }
            if queue.paused && queue.pending > 0 {
                let text = format!("queue {} is paused with {} waiting", queue.name, count(queue.pending, "job"));
                let (id, subject) = (format!("paused/{}", queue.name), Some(Subject::Queue(queue.name.clone())));
                notices.push(Notice { id, subject, text, since: None, bad: false });
            }
        }
        Ok(notices)
    }

    fn queue_rows(&mut self, views: &[QueueView], workers: &[WorkerView], now: Ms) -> Vec<QueueRow> {
        let depths = views.iter().map(|view| (view.name.clone(), view.pending)).collect();
        let trends = self.depths.trends(now, depths);
        let row = |view: &QueueView| {
            let served = |worker: &&WorkerView| worker.queues.is_empty() || worker.queues.contains(&view.name);
            let room: u64 = workers.iter().filter(served).map(|worker| u64::from(worker.concurrency)).sum();
            QueueRow {
                room: Some(view.concurrency.map_or(room, |limit| room.min(u64::from(limit)))),
                done_per_s: self.tail.rate(&view.name, now),
                trend: trends.get(&view.name).copied().unwrap_or(0),
                ..QueueRow::new(view)
            }
        };
        views.iter().map(row).collect()
    }
}

/// The schedules that match, with their next ticks.
async fn schedules(client: &Client, filter: &str) -> Result<Body> {
    let filter = read(filter, SCHEDULE_FIELDS)?;
    let now = client.clock().now();
    let found = client.schedules_with_ticks(TICKS).await?;
    let matching = found.into_iter().filter(|(view, _)| filter.matches(view, now));
    Ok(Body::List(Rows::Schedules(matching.map(|(view, ticks)| ScheduleRow::new(&view, ticks)).collect())))
}

fn notice(wanted: &Wanted) -> Notice {
    let (workflow, run) = (&wanted.workflow, short(&wanted.run_id));
    let (text, bad) = match &wanted.what {
        Want::Answer(path) => (format!("run {run} of {workflow}: {path} waits for an approval"), false),
        Want::Undo(n) => (format!("run {run} of {workflow} failed and owes {}", count(*n as u64, "undo")), true),
    };
    let run = wanted.run_id.clone();
    let (id, subject) = match &wanted.what {
        Want::Answer(path) => {
            (format!("approval/{run}/{path}"), Subject::Approval { run: run.clone(), step: path.clone() })
        }
        Want::Undo(_) => (format!("owed/{run}"), Subject::Run(run.clone())),
    };
    Notice { id, subject: Some(subject), text, since: wanted.since.map(|since| since.0), bad }
}

fn read<T>(filter: &str, fields: &'static [Field<T>]) -> Result<Where<T>> {
    Where::parse(filter, fields).map_err(|error| ApiError::Conflict(error.to_string()))
}

fn row(stored: &Stored) -> JobRow {
    JobRow::from(&JobView::from(stored))
}

/// Workers with what they run, held longest first.
async fn with_held(client: &Client, workers: &[WorkerView]) -> Result<Vec<WorkerRow>> {
    let mut rows: Vec<WorkerRow> = workers.iter().map(WorkerRow::from).collect();
    if rows.iter().all(|row| row.running == 0) {
        return Ok(rows);
    }
    let running = Filter::default().only_states(&[JobState::Running]);
    let found = client.jobs_from(&running, None, RUNNING, RUNNING).await?;
    for view in found.jobs.iter().map(JobView::from) {
        let (Some(worker), Some(since)) = (view.worker, view.started_at) else { continue };
        if let Some(row) = rows.iter_mut().find(|row| row.id == worker) {
            row.held.push(Held { id: view.id, kind: view.kind, since: since.0 });
        }
    }
    for row in &mut rows {
        row.held.sort_by_key(|held| held.since);
    }
    Ok(rows)
}

/// The latest dead jobs, and those that failed and wait to be tried again.
async fn failures(client: &Client, queues: &[QueueRow]) -> Result<Vec<JobRow>> {
    let mut found = Vec::new();
    let mut failing: Vec<&QueueRow> = queues.iter().filter(|queue| queue.dead > 0 || queue.retrying > 0).collect();
    failing.sort_by_key(|queue| std::cmp::Reverse(queue.dead + queue.retrying));
    for queue in failing.into_iter().take(FAILING_QUEUES) {
        let Ok(name) = queue.name.parse::<Name>() else { continue };
        for (state, count) in [(JobState::Dead, queue.dead), (JobState::Retrying, queue.retrying)] {
            if count > 0 {
                let filter = Filter::default().only_states(&[state]).only_queue(&name);
                found.extend(client.jobs_from(&filter, None, FAILURES, FAILURES).await?.jobs.iter().map(row));
            }
        }
    }
    found.sort_by_key(|job: &JobRow| std::cmp::Reverse(job.finished_at.unwrap_or(job.updated_at)));
    found.truncate(FAILURES);
    Ok(found)
}

/// The part of the jobs that is asked for. A filter that has no index is told of as it fills.
async fn jobs(client: &Client, query: &JobsQuery, generation: u64, replies: &Replies) -> Result<Body> {
    let filter = Filter::parse(&query.filter).map_err(|error| ApiError::Conflict(error.to_string()))?;
    let totals = within(totals(client, &filter)).await?;
    let filter = if query.states.is_empty() { filter } else { filter.only_states(&query.states) };
    let mut part = JobsPart { totals, ..JobsPart::default() };
    let mut looked = 0;
    let mut from = query.from.clone();
    for nth in 0..CHUNKS {
        if nth == 1 {
            part.second = from.clone().map(|from| (part.rows.len(), from));
        }
        let wanted = part.rows.len() + query.chunk;
        while part.rows.len() < wanted && looked < LOOKS {
            let want = wanted - part.rows.len();
            let found = within(client.jobs_from(&filter, from.as_deref(), want, AT_ONCE)).await?;
            looked += found.looked;
            part.rows.extend(found.jobs.iter().map(row));
            part.more = found.next.is_some();
            if filter.is_selective() {
                part.looked = Some(looked as u64);
            }
            match found.next {
                Some(next) => from = Some(next),
                None => return Ok(Body::Jobs(part)),
            }
            if filter.is_selective() {
                let answer = Answer::Body(Body::Jobs(JobsPart { filling: true, ..part.clone() }));
                // Nobody listens any more: the end is noticed where the whole answer is sent.
                let _ = replies.send(Reply { generation, at: client.clock().now(), answer }).await;
            }
        }
    }
    Ok(Body::Jobs(part))
}

/// How many jobs there are in each state that a filter asks for: of the queue that it names, or of all.
async fn totals(client: &Client, filter: &Filter) -> Result<Vec<u64>> {
    let (queue, places) = (filter.queue(), filter.places());
    let stats = client.queue_stats().await?;
    let mut totals = [0u64; JobState::ALL.len()];
    for one in stats.iter().filter(|one| queue.is_none_or(|queue| *queue == one.name)) {
        for (total, state) in totals.iter_mut().zip(JobState::ALL) {
            if !places.iter().any(|place| place.state() == state) {
                continue;
            }
            *total += match state {
                JobState::Scheduled => one.scheduled,
                JobState::Pending => one.pending,
                JobState::Running => one.running,
                JobState::Retrying => one.retrying,
                JobState::Dead => one.dead,
                JobState::Completed => one.completed,
                JobState::Cancelled => one.cancelled,
            };
        }
    }
    Ok(totals.to_vec())
}

async fn job(client: &Client, id: &str) -> Result<Body> {
    let stored = client.job(id).await?;
    let view = JobView::from(&stored);
    let log = client.log(stored.job.id, 0).await?;
    let text: String = log.chunks.iter().map(|chunk| chunk.text.as_str()).collect();
    let mut start = text.len().saturating_sub(LOG_SHOWN);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let pretty = |json: &crate::domain::Json| serde_json::to_string_pretty(&json.to_value()).unwrap_or_default();
    let attempts = stored.job.history.iter().map(|attempt| AttemptRow {
        ended_at: attempt.ended_at,
        started_at: attempt.started_at,
        worker: attempt.worker.map(|worker| worker.to_string()),
        error: attempt.error.to_string(),
    });
    Ok(Body::Job(Box::new(JobDetail {
        payload: pretty(&stored.job.payload),
        result: stored.job.result.as_ref().map(pretty),
        raw: serde_json::to_string_pretty(&view).unwrap_or_default(),
        attempts: attempts.collect(),
        log: text[start..].to_owned(),
        log_cut: log.truncated || start > 0,
        job: JobRow::from(&view),
    })))
}
