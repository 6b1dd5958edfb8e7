//! `/metrics` in Prometheus' text format (version 0.0.4). Everything but the latency of the store speaks
//! for the whole store: scrape one server, or take any one of several; never add them up.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

use super::app::App;
use super::problem::Problem;
use crate::api::metrics::{BUCKETS, Counted, Counters, Histogram};
use crate::domain::{Ms, QueueStats};
use crate::store::ScheduleRecord;

/// Counts so often what has happened, scraped or not: the log is bounded, and what falls out of it is
/// counted no more.
const EVERY: Duration = Duration::from_secs(2);
/// Queues with labels of their own; the counters of the others are added up.
const MOST_QUEUES: usize = 200;

/// Keeps the counters up with the log until the server stops.
pub(super) async fn keep_up(app: App) {
    loop {
        let folded = tokio::select! {
            biased;
            () = app.stop().cancelled() => return,
            folded = app.client().fold_metrics() => folded,
        };
        let more = match folded {
            Ok((_, more)) => more,
            Err(error) => {
                tracing::debug!("metrics were not counted: {error}");
                false
            }
        };
        let pause = if more { Duration::from_millis(50) } else { EVERY };
        tokio::select! {
            biased;
            () = app.stop().cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

pub(super) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let client = app.client();
    let (counters, _) = client.fold_metrics().await?;
    let began = tokio::time::Instant::now();
    let queues = client.queue_stats().await?;
    let latency = began.elapsed();
    let workers = client.workers().await?.len();
    let (now, schedules) = client.store().schedules().await?;
    let mut page = Page::default();
    gauges(&mut page, &queues);
    page.family("goflow_workers_active", "gauge", "Workers that are registered.");
    page.sample("goflow_workers_active", &[], workers as f64);
    page.family("goflow_schedule_lag_seconds", "gauge", "How late the latest schedule is.");
    page.sample("goflow_schedule_lag_seconds", &[], lag(now, &schedules).as_secs_f64());
    page.family("goflow_store_latency_seconds", "gauge", "How long this server's last look at the store took.");
    page.sample("goflow_store_latency_seconds", &[], latency.as_secs_f64());
    counted(&mut page, &counters);
    page.family("goflow_build_info", "gauge", "The version of this server.");
    page.sample("goflow_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.0).into_response())
}

fn lag(now: Ms, schedules: &[ScheduleRecord]) -> Duration {
    schedules.iter().filter_map(|schedule| schedule.due).map(|due| now.since(due)).max().unwrap_or_default()
}

type Gauge = (&'static str, &'static str, fn(&QueueStats) -> f64);

const GAUGES: [Gauge; 6] = [
    ("goflow_queue_depth", "Jobs that wait to be run now.", |queue| queue.pending as f64),
    ("goflow_queue_scheduled", "Jobs that wait for their time, or for others.", |queue| queue.scheduled as f64),
    ("goflow_queue_running", "Jobs that are leased.", |queue| queue.running as f64),
    ("goflow_queue_retrying", "Jobs that wait for their next attempt.", |queue| queue.retrying as f64),
    ("goflow_dlq_size", "Dead jobs that are kept.", |queue| queue.dead as f64),
    ("goflow_queue_paused", "Whether the queue gives nothing out.", |queue| f64::from(u8::from(queue.paused))),
];

fn gauges(page: &mut Page, queues: &[QueueStats]) {
    for (name, help, value) in GAUGES {
        page.family(name, "gauge", help);
        let (own, others) = queues.split_at(queues.len().min(MOST_QUEUES));
        for queue in own {
            page.sample(name, &[("queue", queue.name.as_str())], value(queue));
        }
        if !others.is_empty() {
            page.sample(name, &[("queue", crate::api::metrics::OTHER)], others.iter().map(value).sum());
        }
    }
    let name = "goflow_queue_oldest_pending_seconds";
    page.family(name, "gauge", "How long the job at the head of the line has existed.");
    for queue in queues.iter().take(MOST_QUEUES) {
        let age = queue.oldest_pending_ms.unwrap_or_default().max(0) as f64 / 1e3;
        page.sample(name, &[("queue", queue.name.as_str())], age);
    }
}

type Counter = (&'static str, &'static str, fn(&Counted) -> u64);

const COUNTERS: [Counter; 5] = [
    ("goflow_jobs_completed_total", "Jobs that have completed.", |row| row.completed),
    ("goflow_jobs_failed_total", "Jobs that were buried.", |row| row.failed),
    ("goflow_jobs_retried_total", "Attempts that failed and were followed by another.", |row| row.retried),
    ("goflow_jobs_cancelled_total", "Jobs that were cancelled.", |row| row.cancelled),
    ("goflow_leases_lost_total", "Leases that lapsed, because a worker died or was silent.", |row| row.lost),
];

fn counted(page: &mut Page, counters: &Counters) {
    for (name, help, value) in COUNTERS {
        page.family(name, "counter", help);
        each(counters, |labels, row| page.sample(name, labels, value(row) as f64));
    }
    page.family("goflow_workers_lost_total", "counter", "Workers that were silent for too long.");
    page.sample("goflow_workers_lost_total", &[], counters.workers_lost as f64);
    let name = "goflow_job_duration_seconds";
    page.family(name, "histogram", "From the last start to the end of jobs that completed.");
    each(counters, |labels, row| page.histogram(name, labels, &row.duration));
    let name = "goflow_job_wait_seconds";
    page.family(name, "histogram", "From creation to start of jobs that completed at the first attempt.");
    each(counters, |labels, row| page.histogram(name, labels, &row.wait));
}

fn each(counters: &Counters, mut tell: impl FnMut(&[(&str, &str)], &Counted)) {
    for (queue, types) in &counters.rows {
        let types: &BTreeMap<String, Counted> = types;
        for (kind, row) in types {
            tell(&[("queue", queue), ("type", kind)], row);
        }
    }
}

/// The text as it grows. Names and labels are ours or names of `domain::Name`: nothing is to be escaped.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        if !labels.is_empty() {
            let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
            let _ = write!(self.0, "{{{}}}", pairs.join(","));
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut so_far = 0;
        let bucket = format!("{name}_bucket");
        for (nth, bound) in BUCKETS.iter().map(f64::to_string).chain(["+Inf".to_owned()]).enumerate() {
            so_far += histogram.counts.get(nth).copied().unwrap_or_default();
            let mut labels = labels.to_vec();
            labels.push(("le", &bound));
            self.sample(&bucket, &labels, so_far as f64);
        }
        self.sample(&format!("{name}_sum"), labels, histogram.sum);
        self.sample(&format!("{name}_count"), labels, so_far as f64);
    }
}
