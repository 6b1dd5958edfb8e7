//! A disk that fails, and death at a write: whatever was acknowledged is there afterwards.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use goflow::domain::job::Outcome;
use goflow::domain::{Epoch, EventKind, JobId, Place, ProducerId, Shard, To, WorkerId};
use goflow::store::contract::*;

use super::*;

/// Points at which the fault strikes, spread over the child's whole work.
const POINTS: u64 = 20;

#[tokio::test]
async fn killed_at_any_write_loses_nothing_acknowledged() {
    strike("kill", |_, status, _| assert_eq!(status.signal(), Some(9), "the child outlived its death")).await;
}

#[tokio::test]
async fn a_disk_that_fills_up_refuses_work_and_keeps_the_rest() {
    strike("enospc", |point, _, errors| {
        assert!(errors.iter().all(|class| class == "full"), "point {point}: {errors:?}");
    })
    .await;
}

#[tokio::test]
async fn a_failed_write_is_told_and_undone() {
    strike("eio", |point, _, errors| {
        assert!(errors.iter().all(|class| class == "unavailable" || class == "unknown"), "point {point}: {errors:?}");
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_still_takes_settles() {
    let shim = Shim::build();
    let folder = shim.folder.path().join("full");
    fs::create_dir(&folder).expect("a folder");
    let path = folder.join("queue.db");
    let mut command = shim.command("sqlite::faults::on_a_full_disk", &path, "quota", 32 << 20);
    assert!(command.stdout(Stdio::null()).status().expect("the child runs").success());
    let said = fs::read_to_string(path.with_file_name("witness")).expect("a witness");
    let settled: u64 = said.trim().parse().expect("how many were settled");
    assert!(settled > 2_000, "the disk was full after {settled} jobs");
    let store = open(&path).expect("the store opens");
    let stats = store.stats().await.expect("stats").remove(0);
    assert_eq!((stats.completed, stats.pending, stats.running), (settled, 0, 0));
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
}

#[tokio::test]
#[ignore = "a child of a_full_disk_still_takes_settles"]
async fn on_a_full_disk() {
    let Some(path) = told() else { return };
    let store = open(&path).expect("the store opens");
    let producer = ProducerId::from_parts(Wall.now(), Shard(0), bits());
    let worker = WorkerId::from_parts(Wall.now(), Shard(0), bits());
    let batch = |sequence| {
        let payload = Json::string(&"x".repeat(2_000));
        let large = || goflow::domain::Job { payload: payload.clone(), ..job() };
        let jobs = (0..100).map(|_| NewJob::now(large())).collect();
        Enqueue { producer, sequence, jobs, runs: vec![] }
    };
    let mut sequence = 1;
    while let Ok(answer) = store.enqueue(&batch(sequence)).await {
        assert_eq!(answer.jobs.len(), 100);
        sequence += 1;
        assert!(sequence < 1_000, "the disk never filled up");
    }
    let mut settled = 0;
    let mut commits = Vec::new();
    loop {
        let claim = Some(Claim { worker, queues: vec![name("default")], want: 64, alone: false });
        let exchange = Exchange { commits, claim };
        let answer = store.exchange(&exchange).await.expect("settles go through");
        settled += answer.commits.len();
        assert!(answer.commits.iter().all(|commit| commit.moves == [Moved::Applied]));
        if settled == 64 {
            let refused = store.enqueue(&batch(sequence)).await;
            assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
        }
        if answer.claimed.is_empty() {
            break;
        }
        commits = answer.claimed.iter().map(settle).collect();
    }
    assert_eq!(settled, (sequence as usize - 1) * 100);
    fs::write(path.with_file_name("witness"), settled.to_string()).expect("a witness");
}

/// Lets a child work on a fresh store with the fault at each point, and checks what it left.
async fn strike(kind: &str, check: impl Fn(u64, ExitStatus, &[String])) {
    let shim = Shim::build();
    let (_, _, total) = shim.run("count", 0).await;
    let total: u64 = total.parse().expect("the shim counts");
    assert!(total > 3 * POINTS, "only {total} operations");
    let mut told = 0;
    for point in 0..POINTS {
        let nth = 1 + point * (total - 2) / (POINTS - 1);
        let (status, errors, fired) = shim.run(kind, nth).await;
        assert!(kind == "kill" || fired.starts_with("fired"), "{kind} at {nth} of {total} did not fire");
        check(nth, status, &errors);
        told += usize::from(!errors.is_empty() || kind == "kill");
    }
    assert!(told as u64 > POINTS / 3, "only {told} of {POINTS} points were noticed");
}

struct Shim {
    folder: tempfile::TempDir,
    library: PathBuf,
}

impl Shim {
    fn build() -> Shim {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let library = folder.path().join("shim.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/fault_shim.c");
        let status = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
        assert!(status.expect("a C compiler").success());
        Shim { folder, library }
    }

    fn command(&self, test: &str, path: &Path, kind: &str, nth: u64) -> Command {
        let mut command = child(test, path);
        command.env("LD_PRELOAD", &self.library).env("FAULT_KIND", kind).env("FAULT_NTH", nth.to_string());
        command.env("FAULT_PREFIX", path);
        command
    }

    /// One child on a fresh store: how it ended, the classes of the errors it got, and the shim's
    /// report. What it left is checked.
    async fn run(&self, kind: &str, nth: u64) -> (ExitStatus, Vec<String>, String) {
        let folder = self.folder.path().join(format!("{kind}-{nth}"));
        fs::create_dir(&folder).expect("a folder");
        let (path, report) = (folder.join("queue.db"), folder.join("report"));
        let mut command = self.command("sqlite::faults::on_a_bad_disk", &path, kind, nth);
        command.env("FAULT_REPORT", &report);
        let status = command.stdout(Stdio::null()).status().expect("the child runs");
        assert!(status.success() || status.signal() == Some(9), "{kind} at {nth}: the child {status}");
        let errors = inspect(&path, &format!("{kind} at {nth}")).await;
        (status, errors, fs::read_to_string(report).unwrap_or_default())
    }
}

/// Holds the store against the child's witness, and finishes what it left.
async fn inspect(path: &Path, context: &str) -> Vec<String> {
    let store = open(path).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new(), "{context}");
    let mut last: BTreeMap<JobId, &str> = BTreeMap::new();
    let mut errors = Vec::new();
    let text = fs::read_to_string(path.with_file_name("witness")).unwrap_or_default();
    // The last line may be cut.
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        match line.split_once(' ').expect("two words") {
            ("error", class) => errors.push(class.to_owned()),
            (what, id) => drop(last.insert(id.parse().expect("an id"), what)),
        }
    }
    for (id, what) in &last {
        let place = store.get(&[*id]).await.expect("get").remove(0).map(|stored| stored.place);
        let fits = match *what {
            "enqueueing" => true,
            "enqueued" => matches!(place, Some(Place::Pending | Place::Running)),
            "claimed" => place == Some(Place::Running),
            "settling" => matches!(place, Some(Place::Running | Place::Completed)),
            "settled" => place == Some(Place::Completed),
            other => panic!("{context}: {other}"),
        };
        assert!(fits, "{context}: job {id} was {what} and is {place:?}");
    }
    finish(&store, context).await;
    errors
}

/// Everything that is left can still be done.
async fn finish(store: &SqliteStore, context: &str) {
    for status in store.workers().await.expect("workers") {
        store.farewell(status.info.id).await.expect("farewell");
    }
    let lapsed = store.overdue(Duration::ZERO, 10_000).await.expect("overdue").lapsed;
    let commits = lapsed.into_iter().map(|stored| {
        let lease = stored.lease.expect("a lapsed job has a lease");
        let expect = Expect::Lapsed(lease.epoch);
        let step = Move { expect, to: To::Pending, job: stored.job, event: EventKind::JobReleased };
        Commit { moves: vec![step], run: None }
    });
    let commits = commits.collect();
    store.exchange(&Exchange { commits, claim: None }).await.expect("exchange");
    let worker = WorkerId::from_parts(Wall.now(), Shard(0), bits());
    loop {
        let claim = Claim { worker, queues: vec![name("default")], want: 64, alone: false };
        let claimed = store.exchange(&Exchange { commits: vec![], claim: Some(claim) }).await.expect("claim").claimed;
        if claimed.is_empty() {
            break;
        }
        let commits = claimed.iter().map(settle).collect();
        store.exchange(&Exchange { commits, claim: None }).await.expect("settle");
    }
    if let Some(stats) = store.stats().await.expect("stats").first() {
        assert_eq!((stats.pending, stats.running), (0, 0), "{context}");
    }
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new(), "{context}");
}

fn settle(claimed: &Claimed) -> Commit {
    let settled = claimed.job.clone().settle(Outcome::Completed { result: None }, Wall.now(), 0.5);
    let expect = Expect::Lease(claimed.epoch);
    Commit { moves: vec![Move { expect, to: settled.to, job: settled.job, event: settled.event }], run: None }
}

/// Says what it is about to do and what was acknowledged, one line each.
struct Witness(File);

impl Witness {
    fn say(&mut self, what: &str, ids: impl Iterator<Item = JobId>) {
        let lines: String = ids.map(|id| format!("{what} {id}\n")).collect();
        self.0.write_all(lines.as_bytes()).expect("a line");
    }

    fn error(&mut self, error: &StoreError) {
        let class = match error {
            StoreError::Unavailable(_) => "unavailable",
            StoreError::Unknown(_) => "unknown",
            StoreError::Full(_) => "full",
            StoreError::Refused(_) => "refused",
            StoreError::TooNew { .. } => "too_new",
            StoreError::Corrupt(_) => "corrupt",
        };
        eprintln!("{error}");
        writeln!(self.0, "error {class}").expect("a line");
    }
}

#[tokio::test]
#[ignore = "a child of the fault tests"]
async fn on_a_bad_disk() {
    let Some(path) = told() else { return };
    let mut witness = Witness(File::create(path.with_file_name("witness")).expect("a witness file"));
    let store = match open(&path) {
        Ok(store) => store,
        Err(error) => return witness.error(&error),
    };
    let producer = ProducerId::from_parts(Wall.now(), Shard(0), bits());
    let worker = WorkerId::from_parts(Wall.now(), Shard(0), bits());
    let mut held: BTreeMap<Epoch, Claimed> = BTreeMap::new();
    for sequence in 1..=25 {
        let jobs: Vec<_> = (0..20).map(|_| NewJob::now(job())).collect();
        let ids: Vec<_> = jobs.iter().map(|new| new.job.id).collect();
        witness.say("enqueueing", ids.iter().copied());
        match store.enqueue(&Enqueue { producer, sequence, jobs, runs: vec![] }).await {
            Ok(_) => witness.say("enqueued", ids.into_iter()),
            Err(error) => witness.error(&error),
        }
        let commits: Vec<_> = held.values().map(settle).collect();
        let settling: Vec<_> = held.values().map(|claimed| claimed.job.id).collect();
        witness.say("settling", settling.iter().copied());
        let claim = Some(Claim { worker, queues: vec![name("default")], want: 15, alone: false });
        match store.exchange(&Exchange { commits, claim }).await {
            Ok(answer) => {
                // After an answer in doubt a settle may have been done already: stale is right.
                witness.say("settled", settling.into_iter());
                held = answer.claimed.into_iter().map(|claimed| (claimed.epoch, claimed)).collect();
                witness.say("claimed", held.values().map(|claimed| claimed.job.id));
            }
            Err(error) => witness.error(&error),
        }
    }
}
