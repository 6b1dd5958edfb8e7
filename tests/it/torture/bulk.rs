//! A hundred thousand dead jobs: a bulk retry moves exactly those that it names, and one that was
//! interrupted can be done again.

use std::sync::Arc;
use std::time::Duration;

use goflow::domain::job::JobError;
use goflow::domain::{Clock, Entropy, EventKind, Job, JobId, Json, Name, Place, ProducerId, Shard, To};
use goflow::store::{Commit, Enqueue, Exchange, Expect, Move, NewJob, SqliteOptions, SqliteStore, Store, Stored};
use goflow::sys::clock::SystemClock;
use goflow::sys::entropy::SystemEntropy;
use rustix::process::Signal;

use super::site::Site;

const DEAD: usize = 100_000;
/// Three of five are of the type and died of the time-out.
const MEANT: usize = DEAD / 5 * 3;
const BATCH: usize = 1_000;
const FILTER: &str = "type:mail error~timeout";

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

async fn bury(store: &dyn Store) {
    let (clock, dice) = (SystemClock, SystemEntropy::default());
    let producer = ProducerId::from_parts(clock.now(), Shard::default(), dice.next());
    for batch in 0..DEAD / BATCH {
        let job = |nth: usize| {
            let id = JobId::from_parts(clock.now(), Shard::default(), dice.next());
            Job::new(id, name(if nth % 5 < 4 { "mail" } else { "image" }), name("default"), Json::null())
        };
        let jobs: Vec<Job> = (0..BATCH).map(job).collect();
        let new = jobs.iter().cloned().map(NewJob::now).collect();
        let enqueue = Enqueue { producer, sequence: batch as u64 + 1, jobs: new, runs: vec![] };
        store.enqueue(&enqueue).await.expect("enqueued");
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        let kept: Vec<Stored> = store.get(&ids).await.expect("a look").into_iter().flatten().collect();
        let commits = kept.into_iter().enumerate().map(|(nth, stored)| {
            let class = if nth % 5 == 3 { "exit:1" } else { "timeout" };
            let dead = Job {
                error: Some(JobError::new(class, "no answer")),
                finished_at: Some(clock.now()),
                ..stored.job.clone()
            };
            let expect = Expect::Idle(Place::Pending, stored.job.rev);
            let step = Move { expect, to: To::Dead, job: dead, event: EventKind::JobDead };
            Commit { moves: vec![step], run: None }
        });
        let exchange = Exchange { commits: commits.collect(), claim: None };
        store.exchange(&exchange).await.expect("buried");
    }
}

#[test]
fn an_interrupted_retry_of_many_is_done_again_and_moves_exactly_those_that_are_meant() {
    let site = Site::sqlite();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let store = SqliteStore::open(&site.env.path().join("goflow.db"), Arc::new(SystemClock), SqliteOptions::default());
    let store = store.expect("the store opens");
    runtime.block_on(bury(&store));
    let counts = || {
        let stats = runtime.block_on(store.stats()).expect("counters").remove(0);
        (stats.pending as usize, stats.dead as usize)
    };
    assert_eq!(counts(), (0, DEAD));

    let would = site.env.args(["dlq", "retry", "--where", FILTER, "--dry-run", "-o", "json"]).ok().json();
    assert_eq!(would["retried"].as_array().map(Vec::len), Some(MEANT));
    assert_eq!(counts(), (0, DEAD), "nothing is done yet");

    let retry = site.env.command(["dlq", "retry", "--where", FILTER, "--yes"]).spawn().expect("it starts");
    site.wait("some are retried", Duration::from_secs(120), || counts().0 > 0);
    let pid = i32::try_from(retry.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
    rustix::process::kill_process(pid, Signal::INT).expect("it runs");
    let output = retry.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{told}");
    assert!(told.contains("of 60,000 dead jobs had been retried; the same command goes on"), "{told}");
    let (pending, dead) = counts();
    assert!(pending < MEANT && pending + dead == DEAD, "{pending} + {dead}");

    let again = site.env.args(["dlq", "retry", "--where", FILTER, "--yes"]).ok();
    assert!(again.line().starts_with("retried "), "{}", again.text());
    assert_eq!(counts(), (MEANT, DEAD - MEANT), "exactly those, and nothing is lost");
    let left = site.env.args(["dlq", "retry", "--where", FILTER, "--dry-run", "-o", "json"]).ok().json();
    assert_eq!(left["retried"].as_array().map(Vec::len), Some(0));
    site.verify();
}
