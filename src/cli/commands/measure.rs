//! What `goflow bench` measures, with the same client and worker as everything else: bulk enqueue by
//! four producers, a drain by one worker, and the pick-up of single jobs by an idle worker.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::enqueue::Patience;
use crate::api::{ApiError, Client};
use crate::cli::codes::Code;
use crate::cli::context::Context;
use crate::cli::error::{Result, fail};
use crate::domain::job::Outcome;
use crate::domain::{Job, Json, Name, limits};
use crate::engine::{Ending, Handler, Handlers, Summary, Task, Worker, WorkerOptions};
use crate::store::advanced::effects;
use crate::store::{NewJob, Start};
use crate::workflow::{self, Manifest};

/// Batches under way at once.
const PRODUCERS: u64 = 4;
/// Single jobs whose pick-up is timed.
const SAMPLES: usize = 200;
/// Runs in one enqueue: each brings its first job.
const RUNS: u64 = 100;

#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Measured {
    pub enqueue_per_second: f64,
    pub drain_per_second: f64,
    pub pickup_p50_ms: Option<f64>,
    pub pickup_p99_ms: Option<f64>,
}

/// Does nothing, and says when it did.
#[derive(Default)]
struct Probe {
    done: AtomicU64,
    last: Mutex<Option<Instant>>,
    happened: Notify,
}

impl Handler for Probe {
    fn immediate(&self, _job: &Job) -> Option<Outcome> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.done.fetch_add(1, Ordering::Relaxed);
        self.happened.notify_one();
        Some(Outcome::Completed { result: None })
    }

    fn run(&self, task: Task) -> Ending {
        let outcome = self.immediate(&task.job);
        Box::pin(async move { outcome })
    }
}

/// A queue and a job type that nobody else uses.
struct Lane {
    queue: Name,
    kind: Name,
    probe: Arc<Probe>,
}

impl Lane {
    fn new(context: &Context) -> Result<Lane> {
        let name = |text: String| text.parse().map_err(|error| fail(Code::Bug, format!("{error}")));
        let nth = context.entropy.next() >> 32;
        Ok(Lane {
            queue: name(format!("bench-{nth:08x}"))?,
            kind: name(format!("bench-{nth:08x}"))?,
            probe: Arc::default(),
        })
    }

    fn job(&self, client: &Client, payload: &Json) -> NewJob {
        let job = Job::new(client.job_id(), self.kind.clone(), self.queue.clone(), payload.clone());
        NewJob { job, start: Start::Now }
    }

    fn worker(&self, context: &Context, client: &Client, concurrency: u32) -> Working {
        let mut handlers = Handlers::new();
        handlers.set(self.kind.clone(), self.probe.clone());
        let options = WorkerOptions {
            concurrency: concurrency as usize,
            queues: vec![(self.queue.clone(), 1)],
            ..WorkerOptions::default()
        };
        let (store, stop) = (client.store().clone(), CancellationToken::new());
        let worker = Worker::new(store, options, handlers, context.clock.clone(), context.entropy.clone());
        let task = tokio::spawn(worker.run(stop.clone(), CancellationToken::new()));
        Working { task, stop }
    }

    /// Waits until so many were done and settled.
    async fn settled(
        &self,
        client: &Client,
        count: u64,
        working: &mut Working,
        told: &indicatif::ProgressBar,
    ) -> Result {
        loop {
            let done = self.probe.done.load(Ordering::Relaxed);
            told.set_position(done.min(count));
            if done >= count {
                let busy = client.queue(&self.queue).await.map(|stats| stats.is_busy());
                if matches!(busy, Ok(false) | Err(ApiError::NoQueue(_))) {
                    return Ok(());
                }
            }
            tokio::select! {
                biased;
                ended = &mut working.task => {
                    return Err(match ended {
                        Ok(Err(error)) => error.into(),
                        Ok(Ok(_)) | Err(_) => fail(Code::Bug, "the worker ended before its work"),
                    });
                }
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
            }
        }
    }
}

struct Working {
    task: tokio::task::JoinHandle<crate::store::Result<Summary>>,
    stop: CancellationToken,
}

impl Working {
    async fn end(self) -> Result {
        self.stop.cancel();
        self.task.await.map_err(|error| fail(Code::Bug, format!("the worker broke: {error}")))??;
        Ok(())
    }
}

/// Enqueue, drain, pick-up.
pub async fn jobs(context: &Context, client: &Client, count: u64, concurrency: u32, bytes: usize) -> Result<Measured> {
    let lane = Arc::new(Lane::new(context)?);
    let payload = Json::string(&"x".repeat(bytes.saturating_sub(2)));
    let bar = context.ui.progress(count, "jobs enqueued");
    let begin = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let mut producers = tokio::task::JoinSet::new();
    for _ in 0..PRODUCERS {
        let (lane, next, client, payload, bar) =
            (lane.clone(), next.clone(), client.clone(), payload.clone(), bar.clone());
        producers.spawn(async move {
            let mut producer = client.producer(Patience::default());
            let batch = (limits::ENQUEUE_BATCH as u64).min((4 << 20) / bytes as u64 + 1);
            loop {
                let from = next.fetch_add(batch, Ordering::Relaxed);
                if from >= count {
                    return Ok::<(), ApiError>(());
                }
                let size = batch.min(count - from);
                producer.send((0..size).map(|_| lane.job(&client, &payload)).collect()).await?;
                bar.inc(size);
            }
        });
    }
    while let Some(ended) = producers.join_next().await {
        ended.map_err(|error| fail(Code::Bug, format!("a producer broke: {error}")))??;
    }
    let enqueue = begin.elapsed();
    bar.finish_and_clear();

    let bar = context.ui.progress(count, "jobs done");
    let begin = Instant::now();
    let mut working = lane.worker(context, client, concurrency);
    lane.settled(client, count, &mut working, &bar).await?;
    let drain = begin.elapsed();
    bar.finish_and_clear();

    let mut waits = Vec::with_capacity(SAMPLES);
    let mut producer = client.producer(Patience::default());
    for nth in 1..=SAMPLES as u64 {
        // Long enough for the worker to have settled the last one and to be idle.
        tokio::time::sleep(Duration::from_millis(5)).await;
        let begin = Instant::now();
        producer.send(vec![lane.job(client, &payload)]).await?;
        while lane.probe.done.load(Ordering::Relaxed) < count + nth {
            let noticed = lane.probe.happened.notified();
            let _ = tokio::time::timeout(Duration::from_millis(100), noticed).await;
        }
        let last = *lane.probe.last.lock().unwrap_or_else(PoisonError::into_inner);
        waits.push(last.map_or(0.0, |at| at.saturating_duration_since(begin).as_secs_f64() * 1e3));
    }
    working.end().await?;
    waits.sort_by(f64::total_cmp);
    let percentile = |share: f64| waits.get(((waits.len() as f64 * share) as usize).min(waits.len() - 1)).copied();
    Ok(Measured {
        enqueue_per_second: count as f64 / enqueue.as_secs_f64(),
        drain_per_second: count as f64 / drain.as_secs_f64(),
        pickup_p50_ms: percentile(0.50),
        pickup_p99_ms: percentile(0.99),
    })
}

/// Runs of five steps in sequence.
pub async fn workflows(context: &Context, client: &Client, count: u64, concurrency: u32) -> Result<Measured> {
    const STEPS: u64 = 5;
    let lane = Lane::new(context)?;
    let mut text = format!("name: {}\nsteps:\n", lane.kind);
    for nth in 1..=STEPS {
        let needs = if nth > 1 { format!(", needs: [s{}]", nth - 1) } else { String::new() };
        text.push_str(&format!("  - {{id: s{nth}, job: {}, queue: {}{needs}}}\n", lane.kind, lane.queue));
    }
    let manifests = workflow::parse("bench", &text);
    let manifests = manifests.map_err(|problems| crate::cli::manifests::wrong(&problems.0))?;
    let Some(Manifest::Workflow(definition)) = manifests.first() else {
        return Err(fail(Code::Bug, "the workflow to measure is none"));
    };
    let definitions = [crate::cli::manifests::definition(&manifests[0])];
    let plan = client.plan(&definitions).await?;
    client.apply(&definitions, &plan).await?;

    let bar = context.ui.progress(count, "runs started");
    let begin = Instant::now();
    let mut producer = client.producer(Patience::default());
    let mut started = 0;
    while started < count {
        let size = RUNS.min(count - started);
        let mut batch = Vec::with_capacity(size as usize);
        for _ in 0..size {
            let now = context.clock.now();
            let advanced = workflow::start(definition, client.run_id(), Json::null(), now);
            let advanced = advanced.map_err(|error| fail(Code::Bug, format!("a run does not start: {error}")))?;
            batch.push(effects(advanced, now)?);
        }
        producer.send_runs(batch).await?;
        started += size;
        bar.set_position(started);
    }
    let enqueue = begin.elapsed();
    bar.finish_and_clear();

    let bar = context.ui.progress(count * STEPS, "steps done");
    let begin = Instant::now();
    let mut working = lane.worker(context, client, concurrency);
    lane.settled(client, count * STEPS, &mut working, &bar).await?;
    let drain = begin.elapsed();
    bar.finish_and_clear();
    working.end().await?;
    Ok(Measured {
        enqueue_per_second: count as f64 / enqueue.as_secs_f64(),
        drain_per_second: count as f64 / drain.as_secs_f64(),
        pickup_p50_ms: None,
        pickup_p99_ms: None,
    })
}
