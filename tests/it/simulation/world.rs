//! What a simulated process stands on: seeded numbers, the paused clock, a line to the store that
//! can be cut, and the witness to whom every handler tells what it does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use goflow::domain::job::{JobError, Outcome, RetryHint};
use goflow::domain::{Clock, Entropy, Epoch, Job, JobId, Link, Ms, Name, RunId};
use goflow::engine::{Handler, Task};
use tokio::time::Instant;

/// Numbers that depend on the seed alone (SplitMix64).
pub struct Seeded(AtomicU64);

impl Seeded {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Seeded(AtomicU64::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))))
    }

    pub fn below(&self, sides: u64) -> u64 {
        self.next() % sides
    }

    pub fn chance(&self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    pub fn millis(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

impl Entropy for Seeded {
    fn next(&self) -> u64 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The runtime's paused clock as the store's.
pub struct PausedClock(Instant);

impl PausedClock {
    pub fn new() -> Arc<Self> {
        Arc::new(PausedClock(Instant::now()))
    }
}

impl Clock for PausedClock {
    fn now(&self) -> Ms {
        Ms(1_770_000_000_000).after(self.0.elapsed())
    }
}

/// One execution, as the handler saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Execution {
    pub link: Option<Link>,
    pub epoch: Epoch,
    pub begun: Duration,
    pub ended: Option<Duration>,
    pub failed: bool,
}

/// What happened outside of goflow, by job.
pub struct Witness {
    start: Instant,
    executions: Mutex<BTreeMap<JobId, Vec<Execution>>>,
}

impl Witness {
    pub fn new() -> Arc<Self> {
        Arc::new(Witness { start: Instant::now(), executions: Mutex::new(BTreeMap::new()) })
    }

    fn begun(&self, job: &Job) {
        let (link, epoch) = (job.link.clone(), job.epoch);
        let execution = Execution { link, epoch, begun: self.start.elapsed(), ended: None, failed: false };
        self.executions.lock().expect("no panic holds it").entry(job.id).or_default().push(execution);
    }

    fn ended(&self, job: JobId, epoch: Epoch, failed: bool) {
        let mut executions = self.executions.lock().expect("no panic holds it");
        let mine = executions.entry(job).or_default().iter_mut().find(|execution| execution.epoch == epoch);
        let mine = mine.expect("an execution begins before it ends");
        (mine.ended, mine.failed) = (Some(self.start.elapsed()), failed);
    }

    pub fn of(&self, job: JobId) -> Vec<Execution> {
        self.executions.lock().expect("no panic holds it").get(&job).cloned().unwrap_or_default()
    }

    /// Every execution of a run's step, or of its undo, in the order of their beginnings.
    pub fn of_step(&self, run: RunId, step: &str, undo: bool) -> Vec<Execution> {
        let executions = self.executions.lock().expect("no panic holds it");
        let mine = |execution: &&Execution| {
            execution.link.as_ref().is_some_and(|link| link.run == run && link.step == step && link.undo == undo)
        };
        let mut found: Vec<_> = executions.values().flatten().filter(mine).cloned().collect();
        found.sort_by_key(|execution| (execution.begun, execution.epoch));
        found
    }

    /// Every execution for a run.
    pub fn of_run(&self, run: RunId) -> Vec<Execution> {
        let executions = self.executions.lock().expect("no panic holds it");
        let mine = |execution: &&Execution| execution.link.as_ref().is_some_and(|link| link.run == run);
        executions.values().flatten().filter(mine).cloned().collect()
    }

    pub fn total(&self) -> usize {
        self.executions.lock().expect("no panic holds it").values().map(Vec::len).sum()
    }
}

/// A handler that does what the payload says: `{"ms": 20, "fail": 2, "final": false}` takes 20 ms
/// and fails in the first two attempts.
pub struct Scripted {
    pub witness: Arc<Witness>,
}

#[derive(serde::Deserialize)]
pub struct Script {
    pub ms: u64,
    pub fail: u32,
    #[serde(default, rename = "final")]
    pub is_final: bool,
}

impl Handler for Scripted {
    fn run(&self, task: Task) -> goflow::engine::Ending {
        let witness = self.witness.clone();
        Box::pin(async move {
            let script: Script = serde_json::from_str(task.job.payload.as_str()).expect("a script");
            let (id, epoch) = (task.job.id, task.job.epoch);
            witness.begun(&task.job);
            tokio::select! {
                biased;
                () = task.stop.cancelled() => return None,
                () = tokio::time::sleep(Duration::from_millis(script.ms)) => {}
            }
            let fails = task.job.failures < script.fail;
            witness.ended(id, epoch, fails);
            if fails {
                let retry = if script.is_final { RetryHint::Never } else { RetryHint::Policy };
                return Some(Outcome::Failed { error: JobError::new("exit:1", "as scripted"), retry });
            }
            let result = goflow::domain::Json::from_value(&serde_json::json!({ "epoch": epoch.0 }));
            Some(Outcome::Completed { result: Some(result) })
        })
    }
}

pub fn name(text: &str) -> Name {
    text.parse().expect("a name")
}
