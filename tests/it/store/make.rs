//! Short ways to make what the laws talk about.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use goflow::domain::job::{JobError, Outcome, RetryHint};
use goflow::domain::{
    Epoch, Job, JobId, Json, Ms, Name, Place, ProducerId, RetryPolicy, RunId, RunState, Shard, To, WorkerId,
};
use goflow::store::*;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A number that no other call gave, well mixed (SplitMix64).
fn fresh() -> u64 {
    let mut z = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub const BIRTH: Ms = Ms(1_770_000_000_000);

pub fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub fn job_id() -> JobId {
    JobId::from_parts(BIRTH, Shard(0), fresh())
}

pub fn run_id() -> RunId {
    RunId::from_parts(BIRTH, Shard(0), fresh())
}

pub fn producer() -> ProducerId {
    ProducerId::from_parts(BIRTH, Shard(0), fresh())
}

pub fn worker() -> WorkerId {
    WorkerId::from_parts(BIRTH, Shard(0), fresh())
}

pub fn job_in(queue: &str, kind: &str) -> Job {
    Job::new(job_id(), name(kind), name(queue), Json::parse(r#"{"to":"a@b.c"}"#, 100).expect("JSON"))
}

pub fn job() -> Job {
    job_in("default", "noop")
}

pub fn with_priority(priority: i8) -> Job {
    Job { priority, ..job() }
}

/// Retries without a delay worth speaking of.
pub fn impatient() -> RetryPolicy {
    RetryPolicy { initial_ms: 1, max_delay_ms: 1, jitter: 0.0, ..RetryPolicy::default() }
}

pub fn now(job: Job) -> NewJob {
    NewJob::now(job)
}

pub fn later(job: Job, delay: Duration) -> NewJob {
    NewJob { start: Start::After(delay), ..NewJob::now(job) }
}

pub async fn enqueue(store: &dyn Store, jobs: Vec<NewJob>) -> Vec<Enqueued> {
    let batch = Enqueue { producer: producer(), sequence: 1, jobs, runs: vec![] };
    store.enqueue(&batch).await.expect("enqueue answers").jobs
}

/// Enqueues one job that must be taken, and gives its id.
pub async fn put(store: &dyn Store, job: Job) -> JobId {
    let id = job.id;
    assert_eq!(enqueue(store, vec![now(job)]).await, [Enqueued::Created]);
    id
}

pub fn info(worker: WorkerId, types: &[&str]) -> WorkerInfo {
    WorkerInfo {
        id: worker,
        host: "here".into(),
        pid: 1,
        version: "0".into(),
        concurrency: 1,
        queues: vec![],
        types: types.iter().map(|kind| name(kind)).collect(),
        started_at: BIRTH,
    }
}

pub async fn beat(store: &dyn Store, worker: WorkerId, lease: Duration) -> Beat {
    let beat = Heartbeat { info: info(worker, &["noop"]), lease };
    store.heartbeat(&beat).await.expect("heartbeat answers")
}

/// A registered worker with a long lease.
pub async fn hired(store: &dyn Store) -> WorkerId {
    let worker = worker();
    beat(store, worker, Duration::from_secs(600)).await;
    worker
}

pub fn wish(worker: WorkerId, queues: &[&str], want: usize) -> Claim {
    Claim { worker, queues: queues.iter().map(|queue| name(queue)).collect(), want, alone: false }
}

pub async fn exchange(store: &dyn Store, commits: Vec<Commit>, claim: Option<Claim>) -> Exchanged {
    store.exchange(&Exchange { commits, claim }).await.expect("exchange answers")
}

pub async fn claim(store: &dyn Store, worker: WorkerId, want: usize) -> Vec<Claimed> {
    exchange(store, vec![], Some(wish(worker, &["default"], want))).await.claimed
}

/// Claims exactly one job.
pub async fn claim_one(store: &dyn Store, worker: WorkerId) -> Claimed {
    let mut claimed = claim(store, worker, 1).await;
    assert_eq!(claimed.len(), 1, "one job waits");
    claimed.remove(0)
}

/// The move by which a worker ends a lease.
pub fn settle(claimed: &Claimed, outcome: Outcome) -> Move {
    settle_at(claimed, claimed.epoch, outcome)
}

pub fn settle_at(claimed: &Claimed, epoch: Epoch, outcome: Outcome) -> Move {
    let settled = claimed.job.clone().settle(outcome, BIRTH, 0.5);
    Move { expect: Expect::Lease(epoch), to: settled.to, job: settled.job, event: settled.event }
}

pub fn done() -> Outcome {
    Outcome::Completed { result: Some(Json::parse("42", 10).expect("JSON")) }
}

pub fn failed() -> Outcome {
    Outcome::Failed { error: JobError::new("exit:1", "no"), retry: RetryHint::Policy }
}

pub fn hopeless() -> Outcome {
    Outcome::Failed { error: JobError::new("exit:65", "never"), retry: RetryHint::Never }
}

pub fn alone(step: Move) -> Commit {
    Commit { moves: vec![step], run: None }
}

pub async fn commit(store: &dyn Store, commit: Commit) -> Committed {
    exchange(store, vec![commit], None).await.commits.remove(0)
}

/// Makes one plain move and tells what became of it.
pub async fn make(store: &dyn Store, step: Move) -> Moved {
    commit(store, alone(step)).await.moves.remove(0)
}

pub async fn stored(store: &dyn Store, id: JobId) -> Stored {
    store.get(&[id]).await.expect("get answers").remove(0).expect("the job is kept")
}

pub async fn place(store: &dyn Store, id: JobId) -> Place {
    stored(store, id).await.place
}

pub fn idle(stored: &Stored, to: To, event: goflow::domain::EventKind) -> Move {
    let mut job = stored.job.clone();
    job.rev += 1;
    Move { expect: Expect::Idle(stored.place, stored.job.rev), to, job, event }
}

pub fn record(id: RunId, rev: u64, state: RunState) -> RunRecord {
    RunRecord { id, workflow: name("order"), state, rev, body: format!("body {rev}").into_bytes() }
}

pub fn effects(record: RunRecord, jobs: Vec<Job>) -> Effects {
    Effects { jobs, ..Effects::of(record) }
}

pub fn step_job(run: RunId, step: &str) -> Job {
    let link = goflow::domain::Link { run, step: step.into(), undo: false };
    Job { link: Some(link), ..job() }
}

pub async fn ids(store: &dyn Store, place: Place) -> Vec<JobId> {
    let query = ListQuery { place, queue: None, after: None, budget: 1_000 };
    store.list(&query).await.expect("list answers").items.into_iter().map(|stored| stored.job.id).collect()
}
