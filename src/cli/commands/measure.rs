//! What `goflow bench` measures, with the same client and worker as everything else: bulk enqueue by
//! four producers, what a waiting job takes up, a drain by one worker, and single jobs and runs with an idle
//! worker. What is single comes as from another process ([`apart`]): nothing that a process tells itself shortens
//! its way, and no thread of the worker's carries it.

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
use crate::store::{Effects, NewJob};
use crate::workflow::{self, Definition, Manifest};

/// Batches under way at once.
const PRODUCERS: u64 = 4;
/// Single jobs whose pick-up is timed, and single runs that are timed whole.
const SAMPLES: usize = 200;
/// The pauses between them, in ms, at least and at most: the worker has settled the last one and is
/// idle, and no period of anybody's is met each time.
const PAUSE_MS: (f64, f64) = (5.0, 20.0);
/// Runs in one enqueue: each brings its first job.
const RUNS: u64 = 100;
/// Steps of a run in sequence.
const SEQUENCE: u64 = 5;
/// Steps side by side in a run that splits up and joins.
const FAN: u64 = 100;
/// One run of so many is measured as one that splits up, which makes about as many steps.
const FAN_SHARE: u64 = 20;

/// Rates are per second: jobs, or whole runs.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Measured {
    pub enqueue_per_second: f64,
    pub drain_per_second: f64,
    /// Runs of one step, a hundred side by side, and one that joins them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fan_out_per_second: Option<f64>,
    /// What the store took up more with all jobs waiting, per job; none if it does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_waiting_job: Option<f64>,
    /// From before the enqueue until the handler was called, on an idle worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pickup_p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pickup_p99_ms: Option<f64>,
    /// From before the start of a run of five steps in sequence until it is seen to have ended, on an idle
    /// worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_p99_ms: Option<f64>,
}

/// Times of what was done singly.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn add(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1e3);
        self.0.sort_by(f64::total_cmp);
    }

    /// In milliseconds; none if nothing was timed.
    fn percentile(&self, share: f64) -> Option<f64> {
        let last = self.0.len().checked_sub(1)?;
        self.0.get(((self.0.len() as f64 * share) as usize).min(last)).copied()
    }
}

/// Lets the worker become idle, and meets no period of anybody's each time.
async fn pause(context: &Context) {
    let pause = PAUSE_MS.0 + (PAUSE_MS.1 - PAUSE_MS.0) * context.entropy.fraction();
    tokio::time::sleep(Duration::from_secs_f64(pause / 1e3)).await;
}

/// How a store is opened for what is single, where it can be opened twice.
pub trait Open: AsyncFn() -> Result<Client> {}

impl<F: AsyncFn() -> Result<Client>> Open for F {}

/// Does something with a client, a thread and a runtime of its own, as `goflow enqueue` has them.
fn apart<T>(context: &Context, open: &impl Open, work: impl AsyncFnOnce(&Client) -> Result<T>) -> Result<T> {
    tokio::task::block_in_place(|| {
        context.block_on(async {
            let client = open().await?;
            work(&client).await
        })
    })
}

/// Between two looks at a run, on a thread that does nothing else.
#[expect(clippy::disallowed_methods, reason = "a sleep of the runtime ends with a whole millisecond")]
fn briefly() {
    std::thread::sleep(Duration::from_micros(100));
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

/// A queue that nobody else uses.
struct Lane {
    queue: Name,
    kind: Name,
    probe: Arc<Probe>,
}

impl Lane {
    fn new(context: &Context) -> Result<Lane> {
        let name = |text: String| text.parse().map_err(|error| fail(Code::Bug, format!("{error}")));
        // As long as names are in practice: they are part of what a job takes up.
        let nth = context.entropy.next() >> 40;
        Ok(Lane { queue: name(format!("bench{nth:06x}"))?, kind: name("noop".to_owned())?, probe: Arc::default() })
    }

    fn job(&self, client: &Client, payload: &Json) -> NewJob {
        let job = Job::new(client.job_id(), self.kind.clone(), self.queue.clone(), payload.clone());
        NewJob::now(job)
    }

    /// A step that does nothing, as a line of a manifest.
    fn step(&self, id: &str, needs: &str) -> String {
        format!("  - {{id: {id}, job: {}, queue: {}, needs: [{needs}]}}\n", self.kind, self.queue)
    }

    fn worker(&self, context: &Context, client: &Client, concurrency: u32) -> Working {
        let mut handlers = Handlers::new();
        handlers.set(self.kind.clone(), self.probe.clone());
        let options = WorkerOptions {
            concurrency: concurrency as usize,
            queues: vec![(self.queue.clone(), None)],
            ..WorkerOptions::default()
        };
        let (store, stop) = (client.store().clone(), CancellationToken::new());
        let worker = Worker::new(store, options, handlers, context.clock.clone(), context.entropy.clone());
        let task = tokio::spawn(worker.run(stop.clone(), CancellationToken::new()));
        Working { task, stop }
    }

    /// Waits until the handler was called so often.
    async fn called(&self, count: u64) {
        while self.probe.done.load(Ordering::Relaxed) < count {
            let noticed = self.probe.happened.notified();
            let _ = tokio::time::timeout(Duration::from_millis(100), noticed).await;
        }
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
pub async fn jobs(
    context: &Context,
    client: &Client,
    open: &impl Open,
    count: u64,
    concurrency: u32,
    bytes: usize,
) -> Result<Measured> {
    let lane = Arc::new(Lane::new(context)?);
    let payload = Json::string(&"x".repeat(bytes.saturating_sub(2)));
    let bar = context.ui.progress(count, "jobs enqueued");
    let empty = client.store().health().await?.bytes;
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
    let full = client.store().health().await?.bytes;
    let grown = empty.zip(full).map(|(empty, full)| full.saturating_sub(empty) as f64);

    let bar = context.ui.progress(count, "jobs done");
    let begin = Instant::now();
    let mut working = lane.worker(context, client, concurrency);
    lane.settled(client, count, &mut working, &bar).await?;
    let drain = begin.elapsed();
    bar.finish_and_clear();

    let waits = apart(context, open, async |client| {
        let (mut waits, mut producer) = (Times::default(), client.producer(Patience::default()));
        for nth in 1..=SAMPLES as u64 {
            pause(context).await;
            let begin = Instant::now();
            producer.send(vec![lane.job(client, &payload)]).await?;
            lane.called(count + nth).await;
            let last = *lane.probe.last.lock().unwrap_or_else(PoisonError::into_inner);
            waits.add(last.map_or(Duration::ZERO, |at| at.saturating_duration_since(begin)));
        }
        Ok(waits)
    })?;
    working.end().await?;
    Ok(Measured {
        enqueue_per_second: count as f64 / enqueue.as_secs_f64(),
        drain_per_second: count as f64 / drain.as_secs_f64(),
        bytes_per_waiting_job: grown.map(|grown| grown / count as f64),
        pickup_p50_ms: waits.percentile(0.50),
        pickup_p99_ms: waits.percentile(0.99),
        ..Measured::default()
    })
}

/// Runs of five steps in sequence, at once and then singly, and some that split up into a hundred and join.
pub async fn workflows(
    context: &Context,
    client: &Client,
    open: &impl Open,
    count: u64,
    concurrency: u32,
) -> Result<Measured> {
    let sequence = |lane: &Lane| {
        let line = |nth| match nth {
            1 => lane.step("s1", ""),
            nth => lane.step(&format!("s{nth}"), &format!("s{}", nth - 1)),
        };
        (1..=SEQUENCE).map(line).collect::<String>()
    };
    let mut flow = Flow::apply(context, client, SEQUENCE, sequence).await?;
    let (enqueue_per_second, drain_per_second) = flow.together(context, client, count, concurrency).await?;
    let singly = flow.singly(context, client, open, concurrency).await?;
    let fan = |lane: &Lane| {
        let names: Vec<String> = (1..=FAN).map(|nth| format!("f{nth}")).collect();
        let side: String = names.iter().map(|name| lane.step(name, "split")).collect();
        lane.step("split", "") + &side + &lane.step("join", &names.join(", "))
    };
    let mut flow = Flow::apply(context, client, FAN + 2, fan).await?;
    let (_, fan_out) = flow.together(context, client, count.div_ceil(FAN_SHARE), concurrency).await?;
    Ok(Measured {
        enqueue_per_second,
        drain_per_second,
        fan_out_per_second: Some(fan_out),
        run_p50_ms: singly.percentile(0.50),
        run_p99_ms: singly.percentile(0.99),
        ..Measured::default()
    })
}

/// A workflow whose steps do nothing, on a queue of its own.
struct Flow {
    lane: Lane,
    definition: Definition,
    /// Of one run.
    steps: u64,
    /// Of all runs so far.
    done: u64,
}

impl Flow {
    async fn apply(context: &Context, client: &Client, steps: u64, lines: impl Fn(&Lane) -> String) -> Result<Flow> {
        let lane = Lane::new(context)?;
        let text = format!("name: {}\nsteps:\n{}", lane.queue, lines(&lane));
        let manifests = workflow::parse("bench", &text);
        let manifests = manifests.map_err(|problems| crate::cli::manifests::wrong(&problems.0))?;
        let Some(Manifest::Workflow(definition)) = manifests.first() else {
            return Err(fail(Code::Bug, "the workflow to measure is none"));
        };
        let plan = client.plan(vec![manifests[0].clone()]).await?;
        client.apply(&plan).await?;
        Ok(Flow { definition: definition.clone(), lane, steps, done: 0 })
    }

    fn begin(&self, context: &Context, client: &Client) -> Result<Effects> {
        let now = context.clock.now();
        let advanced = workflow::start(&self.definition, client.run_id(None), Json::null(), now);
        Ok(effects(advanced.map_err(|error| fail(Code::Bug, format!("a run does not start: {error}")))?, now)?)
    }

    /// Starts so many runs, then works them off; answers both rates.
    async fn together(
        &mut self,
        context: &Context,
        client: &Client,
        count: u64,
        concurrency: u32,
    ) -> Result<(f64, f64)> {
        let bar = context.ui.progress(count, "runs started");
        let begin = Instant::now();
        let mut producer = client.producer(Patience::default());
        let mut started = 0;
        while started < count {
            let size = RUNS.min(count - started);
            let batch = (0..size).map(|_| self.begin(context, client)).collect::<Result<Vec<_>>>()?;
            producer.send_runs(batch).await?;
            started += size;
            bar.set_position(started);
        }
        let enqueue = begin.elapsed();
        bar.finish_and_clear();

        let bar = context.ui.progress(count * self.steps, "steps done");
        let begin = Instant::now();
        let mut working = self.lane.worker(context, client, concurrency);
        self.done += count * self.steps;
        self.lane.settled(client, self.done, &mut working, &bar).await?;
        let drain = begin.elapsed();
        bar.finish_and_clear();
        working.end().await?;
        Ok((count as f64 / enqueue.as_secs_f64(), count as f64 / drain.as_secs_f64()))
    }

    /// One run after the other, each when the worker is idle.
    async fn singly(
        &mut self,
        context: &Context,
        client: &Client,
        open: &impl Open,
        concurrency: u32,
    ) -> Result<Times> {
        let working = self.lane.worker(context, client, concurrency);
        let times = apart(context, open, async |client| {
            let (mut times, mut producer) = (Times::default(), client.producer(Patience::default()));
            for _ in 0..SAMPLES {
                pause(context).await;
                let begin = Instant::now();
                let run = self.begin(context, client)?;
                let id = run.record.id;
                producer.send_runs(vec![run]).await?;
                self.done += self.steps;
                self.lane.called(self.done).await;
                while !client.run_header(id).await?.state.is_terminal() {
                    briefly();
                }
                times.add(begin.elapsed());
            }
            Ok(times)
        })?;
        working.end().await?;
        Ok(times)
    }
}
