//! Eight processes on one file, all of them producing and consuming.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use goflow::domain::job::Outcome;
use goflow::domain::{ProducerId, Shard, WorkerId};
use goflow::store::contract::*;

use super::*;

const PROCESSES: usize = 8;

/// How long they work: ten seconds, or what `GOFLOW_SOAK_SECONDS` says.
fn work_time() -> Duration {
    let told = environment("GOFLOW_SOAK_SECONDS").and_then(|text| text.parse().ok());
    Duration::from_secs(told.unwrap_or(10))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_processes_share_one_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("queue.db");
    // None of them finds it made: they race for the migration too.
    let spawn = |nth: usize| {
        let mut command = child("sqlite::crowd::one_of_many", &path);
        command.env("GOFLOW_TEST_NTH", nth.to_string()).stdout(Stdio::null());
        command.spawn().expect("a child starts")
    };
    let children: Vec<_> = (0..PROCESSES).map(spawn).collect();
    for mut child in children {
        assert!(child.wait().expect("a child ends").success());
    }

    let store = open(&path).expect("the store opens");
    let mut rest = fs::File::create(witness(&path, PROCESSES)).expect("a witness file");
    let worker = WorkerId::from_parts(Wall.now(), Shard(0), bits());
    beat(&store, worker).await;
    let mut held = Vec::new();
    while consume(&store, worker, &mut held, &mut rest).await > 0 {}

    let mut enqueued = BTreeSet::new();
    let mut claimed = BTreeSet::new();
    for nth in 0..=PROCESSES {
        let mut claims = 0;
        for line in fs::read_to_string(witness(&path, nth)).expect("a witness").lines() {
            let (what, id) = line.split_once(' ').expect("a word and an id");
            match what {
                "enqueued" => assert!(enqueued.insert(id.to_owned())),
                _ => assert!(claimed.insert(id.to_owned()), "job {id} was claimed twice"),
            }
            claims += usize::from(what == "claimed");
        }
        assert!(nth == PROCESSES || claims > 0, "process {nth} got no work");
    }
    assert!(enqueued == claimed, "{} jobs enqueued, {} claimed", enqueued.len(), claimed.len());
    println!("{} jobs in {:?}", enqueued.len(), work_time());
    let stats = store.stats().await.expect("stats").remove(0);
    assert_eq!((stats.completed, stats.running, stats.pending), (enqueued.len() as u64, 0, 0));
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
}

fn witness(path: &Path, nth: usize) -> std::path::PathBuf {
    path.with_file_name(format!("witness-{nth}"))
}

async fn beat(store: &SqliteStore, worker: WorkerId) {
    let info = WorkerInfo {
        id: worker,
        host: "here".into(),
        pid: std::process::id(),
        version: "0".into(),
        concurrency: 1,
        queues: vec![],
        types: vec![],
        started_at: Wall.now(),
    };
    store.heartbeat(&Heartbeat { info, lease: Duration::from_secs(600) }).await.expect("heartbeat");
}

/// Settles what is held and claims more; how many jobs that moved.
async fn consume(store: &SqliteStore, worker: WorkerId, held: &mut Vec<Claimed>, witness: &mut File) -> usize {
    let settle = |claimed: Claimed| {
        let settled = claimed.job.settle(Outcome::Completed { result: None }, Wall.now(), 0.5);
        let expect = Expect::Lease(claimed.epoch);
        Commit { moves: vec![Move { expect, to: settled.to, job: settled.job, event: settled.event }], run: None }
    };
    let commits: Vec<_> = held.drain(..).map(settle).collect();
    let claim = Some(Claim { worker, queues: vec![name("default")], want: 32, alone: false });
    let settles = commits.len();
    let answer = store.exchange(&Exchange { commits, claim }).await.expect("exchange");
    assert!(answer.commits.iter().all(|commit| commit.moves == [Moved::Applied]));
    for claimed in &answer.claimed {
        writeln!(witness, "claimed {}", claimed.job.id).expect("a line");
    }
    let moved = settles + answer.claimed.len();
    held.extend(answer.claimed);
    moved
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a child of eight_processes_share_one_file"]
async fn one_of_many() {
    let Some(path) = told() else { return };
    let nth = environment("GOFLOW_TEST_NTH").expect("told which").parse().expect("a number");
    let store = open(&path).expect("the store opens");
    let mut witness = File::create(self::witness(&path, nth)).expect("a witness file");
    let worker = WorkerId::from_parts(Wall.now(), Shard(0), bits());
    let producer = ProducerId::from_parts(Wall.now(), Shard(0), bits());
    beat(&store, worker).await;
    let until = tokio::time::Instant::now() + work_time();
    let mut held = Vec::new();
    let mut sequence = 0;
    while tokio::time::Instant::now() < until {
        sequence += 1;
        let jobs: Vec<_> = (0..20).map(|_| NewJob::now(job())).collect();
        let batch = Enqueue { producer, sequence, jobs, runs: vec![] };
        store.enqueue(&batch).await.expect("enqueue");
        for new in &batch.jobs {
            writeln!(witness, "enqueued {}", new.job.id).expect("a line");
        }
        consume(&store, worker, &mut held, &mut witness).await;
    }
    while !held.is_empty() {
        consume(&store, worker, &mut held, &mut witness).await;
    }
}
