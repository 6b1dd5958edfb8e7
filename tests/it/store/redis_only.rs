//! What only Redis can do to a store: evict, run full, lose the tail of its log, die, forget scripts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use goflow::domain::job::Outcome;
use goflow::domain::{EventKind, JobId, Json, Place, QueueSettings, To, WorkerId};
use goflow::store::*;

use super::make::*;
use crate::servers::redis::Server;

const LONG: Duration = Duration::from_secs(600);

async fn open(server: &Server) -> Arc<dyn Store> {
    Arc::new(RedisStore::open(&server.url(), RedisOptions::default()).await.expect("opens"))
}

fn plain_jobs(n: usize) -> Vec<NewJob> {
    (0..n).map(|_| now(job())).collect()
}

#[tokio::test]
async fn a_server_that_may_evict_is_refused() {
    for policy in ["allkeys-lru", "volatile-ttl"] {
        let server = Server::start(&["--maxmemory-policy", policy, "--maxmemory", "100mb"]);
        let error = RedisStore::open(&server.url(), RedisOptions::default()).await.err().expect("is refused");
        let StoreError::Refused(text) = &error else { panic!("{error:?}") };
        assert!(text.contains(policy) && text.contains("noeviction") && text.contains("--allow-eviction"), "{text}");
        let insisting = RedisOptions { allow_eviction: true, ..RedisOptions::default() };
        let store = RedisStore::open(&server.url(), insisting).await.expect("opens when told to");
        let warnings = store.health().await.expect("health").warnings;
        assert!(warnings.iter().any(|warning| warning.contains(policy)), "{warnings:?}");
    }
}

#[tokio::test]
async fn health_says_what_a_write_survives() {
    for (settings, words, warned) in [
        (vec![], "last second", false),
        (vec!["--appendfsync", "always"], "survives a power cut", false),
        (vec!["--appendonly", "no"], "nothing survives", true),
        (vec!["--appendonly", "no", "--save", "60 1"], "snapshot", true),
    ] {
        let server = Server::start(&settings);
        let health = open(&server).await.health().await.expect("health");
        assert!(health.server.starts_with("Redis "), "{health:?}");
        assert!(health.durability.contains(words), "{health:?}");
        assert_eq!(!health.warnings.is_empty(), warned, "{health:?}");
    }
}

#[tokio::test]
async fn credentials_that_do_not_do_are_told_and_not_shown() {
    let server = Server::start(&["--requirepass", "s3cret"]);
    for url in [server.url(), server.url().replace("//", "//:wrong@")] {
        let error = RedisStore::open(&url, RedisOptions::default()).await.err().expect("is refused");
        assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
        assert!(!error.to_string().contains("wrong@"), "{error}");
    }
    let url = server.url().replace("//", "//:s3cret@");
    let store = RedisStore::open(&url, RedisOptions::default()).await.expect("opens");
    assert!(!store.describe().contains("s3cret"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let mut server = Server::start(&[]);
    let store = open(&server).await;
    server.kill();
    let error = RedisStore::open(&server.url(), RedisOptions::default()).await.err().expect("fails");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    let error = store.stats().await.expect_err("fails");
    assert!(error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let server = Server::start(&[]);
    ::redis::cmd("SET").arg("{gf:0}:schema").arg(99).exec(&mut server.plain()).expect("set");
    let error = RedisStore::open(&server.url(), RedisOptions::default()).await.err().expect("is refused");
    assert_eq!(error, StoreError::TooNew { found: 99, known: 3 });
}

/// Lua compares strings by the locale of the server, which is the machine's, and not by their bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_locale_of_the_server_changes_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let made = std::process::Command::new("localedef")
        .args(["--no-archive", "-i", "de_DE", "-f", "UTF-8"])
        .arg(folder.path().join("de_DE.UTF-8"))
        .output();
    if !made.is_ok_and(|made| made.status.success()) {
        println!("no locale can be made on this machine");
        return;
    }
    let path = folder.path().to_str().expect("text").to_owned();
    let environment = vec![("LOCPATH".to_owned(), path), ("LC_ALL".to_owned(), "de_DE.UTF-8".to_owned())];
    let speaking = async || {
        let server = Server::start_in(&[], environment.clone());
        let by_locale: i64 =
            ::redis::cmd("EVAL").arg("return 'a' < 'B' and 1 or 0").arg(0).query(&mut server.plain()).expect("eval");
        assert_eq!(by_locale, 1, "the server has the locale");
        super::backends::redis_on(server).await
    };
    super::differential::agrees_with_the_reference_store(&speaking().await).await;
    super::laws::unknown_types_are_parked_until_a_worker_announces_them(&speaking().await).await;
}

#[tokio::test]
async fn an_older_store_is_read_and_marked() {
    let server = Server::start(&[]);
    let store = open(&server).await;
    let id = put(&*store, job()).await;
    let mut plain = server.plain();
    // The record as the first goflow wrote it: a map of its own for everything.
    let waiting = stored(&*store, id).await.job;
    let old = [&[0][..], &rmp_serde::to_vec_named(&waiting).expect("encodes")].concat();
    ::redis::cmd("HSET").arg("{gf:0}:jobs").arg(id.as_bytes()).arg(old).exec(&mut plain).expect("set");
    ::redis::cmd("SET").arg("{gf:0}:schema").arg(1).exec(&mut plain).expect("set");

    let store = open(&server).await;
    let schema: u32 = ::redis::cmd("GET").arg("{gf:0}:schema").query(&mut plain).expect("get");
    assert_eq!(schema, 3, "an older goflow does not open it any more");
    let found = stored(&*store, id).await;
    assert_eq!((&found.job, found.place), (&waiting, Place::Pending));
    assert_eq!(make(&*store, idle(&found, To::Pending, EventKind::JobRequeued)).await, Moved::Applied);
    let worker = hired(&*store).await;
    let claimed = claim_one(&*store, worker).await;
    assert_eq!(claimed.job.id, id);
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
}

#[tokio::test]
async fn a_full_server_refuses_new_work_and_settles_on() {
    let server = Server::start(&[]);
    let store = open(&server).await;
    let store = &*store;
    let worker = hired(store).await;
    enqueue(store, plain_jobs(40)).await;
    let retrying = claim(store, worker, 10).await;
    let mut plain = server.plain();
    let limit = |plain: &mut ::redis::Connection, bytes: &str| {
        ::redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).exec(plain).expect("set");
    };
    limit(&mut plain, "1mb");

    let keyed = goflow::domain::Job { unique_key: Some("one".into()), ..with_priority(3) };
    let run = effects(record(run_id(), 1, goflow::domain::RunState::Running), vec![]).into();
    let parts = [(plain_jobs(250), vec![]), (vec![later(job(), LONG), now(keyed)], vec![]), (vec![], vec![run])];
    let batches = parts.map(|(jobs, runs)| Enqueue { producer: producer(), sequence: 1, jobs, runs });
    let before = store.stats().await.expect("stats");
    for batch in &batches {
        let error = store.enqueue(batch).await.expect_err("is full");
        assert!(matches!(error, StoreError::Full(_)), "{error:?}");
    }
    let counts = |stats: &[goflow::domain::QueueStats]| stats.iter().map(|queue| queue.pending).sum::<u64>();
    assert_eq!(counts(&store.stats().await.expect("stats")), counts(&before));
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());

    // Whatever a worker does goes on, in every way a job can end.
    beat(store, worker, LONG).await;
    let outcomes = [done(), failed(), hopeless(), Outcome::Released, Outcome::Unhandled, Outcome::Crashed];
    for (claimed, outcome) in retrying.iter().zip(outcomes.into_iter().cycle()) {
        assert_eq!(make(store, settle(claimed, outcome)).await, Moved::Applied);
    }
    let mut settled = 0;
    loop {
        let claimed = claim(store, worker, 8).await;
        if claimed.is_empty() {
            break;
        }
        let commits = claimed.iter().map(|claimed| alone(settle(claimed, done()))).collect();
        let answer = exchange(store, commits, None).await;
        assert!(answer.commits.iter().all(|commit| commit.moves == [Moved::Applied]));
        settled += claimed.len();
    }
    assert!(settled >= 30, "{settled}");
    store.set_queue(&name("default"), &QueueSettings::default()).await.expect("a full server can be paused");
    store.overdue(Duration::ZERO, 10).await.expect("overdue");
    store.trim(Retention { age: Duration::ZERO, count: 0 }, 1_000).await.expect("a full server can be trimmed");
    store.farewell(worker).await.expect("farewell");
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());

    limit(&mut plain, "0");
    for batch in &batches {
        let answer = store.enqueue(batch).await.expect("there is room again");
        assert!(answer.jobs.iter().chain(&answer.runs).all(|item| *item == Enqueued::Created));
    }
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_sent_again() {
    let server = Server::start(&[]);
    let store = open(&server).await;
    let worker = hired(&*store).await;
    let mut order = Vec::new();
    for _ in 0..3 {
        ::redis::cmd("SCRIPT").arg("FLUSH").exec(&mut server.plain()).expect("flush");
        let jobs = plain_jobs(350);
        order.extend(jobs.iter().map(|new| new.job.id));
        assert!(enqueue(&*store, jobs).await.iter().all(|item| *item == Enqueued::Created));
        ::redis::cmd("SCRIPT").arg("FLUSH").exec(&mut server.plain()).expect("flush");
        beat(&*store, worker, LONG).await;
    }
    let query = ListQuery { place: Place::Pending, queue: None, after: None, budget: 2_000 };
    let listed: Vec<JobId> = store.list(&query).await.expect("list").items.iter().map(|one| one.job.id).collect();
    assert_eq!(listed, order, "parts of a batch keep their order");
}

#[tokio::test]
async fn a_large_batch_sent_again_is_one_batch() {
    let server = Server::start(&[]);
    let store = open(&server).await;
    let mut jobs = plain_jobs(450);
    jobs[120].job.unique_key = Some("held".into());
    jobs[390].job.unique_key = Some("held".into());
    jobs[300] = jobs[7].clone();
    let runs = (0..3).map(|_| effects(record(run_id(), 1, goflow::domain::RunState::Running), vec![]).into()).collect();
    let batch = Enqueue { producer: producer(), sequence: 5, jobs, runs };
    let first = store.enqueue(&batch).await.expect("enqueue");
    assert_eq!(first.jobs[390], Enqueued::Conflict(batch.jobs[120].job.id));
    assert_eq!(first.jobs[300], Enqueued::Exists);
    assert_eq!(first.runs, [Enqueued::Created; 3]);
    assert_eq!(store.enqueue(&batch).await.expect("enqueue"), first);
    assert_eq!(ids(&*store, Place::Pending).await.len(), 448);
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
}

#[tokio::test]
async fn marks_in_a_line_hit_the_entry_they_are_for() {
    let server = Server::start(&[]);
    let store = open(&server).await;
    let store = &*store;
    let jobs = plain_jobs(6);
    let line: Vec<JobId> = jobs.iter().map(|new| new.job.id).collect();
    enqueue(store, jobs).await;
    let shift = async |id: JobId, to: To| {
        let waiting = stored(store, id).await;
        assert_eq!(make(store, idle(&waiting, to, EventKind::JobRequeued)).await, Moved::Applied);
    };
    // Out and in again, twice; to the end; to the head, marked before and not.
    for to in [To::Cancelled, To::Pending, To::Cancelled, To::Pending] {
        shift(line[1], to).await;
    }
    shift(line[2], To::Pending).await;
    shift(line[2], To::Front).await;
    shift(line[4], To::Front).await;
    shift(line[3], To::Gone).await;
    let expected = [line[4], line[2], line[0], line[5], line[1]];
    assert_eq!(ids(store, Place::Pending).await, expected);
    assert_eq!(store.stats().await.expect("stats")[0].pending, 5);
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
    let worker = hired(store).await;
    let got: Vec<JobId> = claim(store, worker, 9).await.iter().map(|one| one.job.id).collect();
    assert_eq!(got, expected);
}

/// Claims and completes everything, lapsed leases and suspects included; tells the lowest epoch.
async fn drain(store: &dyn Store) -> u64 {
    let worker = hired(store).await;
    let mut lowest = u64::MAX;
    loop {
        let overdue = store.overdue(LONG, 1_000).await.expect("overdue");
        for stored in &overdue.lapsed {
            let lease = stored.lease.clone().expect("a lease");
            let mut step = settle_at(
                &Claimed { job: stored.job.clone(), epoch: lease.epoch, run: None },
                lease.epoch,
                Outcome::Released,
            );
            step.expect = Expect::Lapsed(lease.epoch);
            assert_eq!(make(store, step).await, Moved::Applied);
        }
        let free = Claim { alone: true, ..wish(worker, &["default"], 64) };
        let claimed = exchange(store, vec![], Some(free)).await.claimed;
        if claimed.is_empty() && overdue.lapsed.is_empty() {
            return lowest;
        }
        lowest = claimed.iter().map(|one| one.epoch.0).fold(lowest, u64::min);
        let commits = claimed.iter().map(|claimed| alone(settle(claimed, done()))).collect();
        let answer = exchange(store, commits, None).await;
        assert!(answer.commits.iter().all(|commit| commit.moves == [Moved::Applied]));
    }
}

#[tokio::test]
async fn a_log_that_lost_its_tail_leaves_nothing_corrupt_or_stuck() {
    let mut server = Server::start(&[]);
    let mut random = 0x2545_f491_4f6c_dd1du64;
    for cut in 0..20 {
        let mut highest = 0;
        {
            let store = open(&server).await;
            server.wait_for_log();
            let gone: WorkerId = worker();
            beat(&*store, gone, LONG).await;
            let mut held: Vec<Claimed> = Vec::new();
            for round in 0..12 {
                let mut jobs = plain_jobs(30);
                jobs.push(now(with_priority(7)));
                jobs.push(later(job(), Duration::from_millis(1)));
                enqueue(&*store, jobs).await;
                let outcomes = [done(), Outcome::Released, done(), Outcome::Crashed, done(), Outcome::Unhandled];
                let outcomes = outcomes.into_iter().cycle();
                let commits = held.drain(..).zip(outcomes).map(|(one, outcome)| alone(settle(&one, outcome))).collect();
                held = exchange(&*store, commits, Some(wish(gone, &["default"], 20 + round))).await.claimed;
                highest = held.iter().map(|one| one.epoch.0).fold(highest, u64::max);
                // Holes in the line.
                if let Some(id) = ids(&*store, Place::Pending).await.get(3) {
                    let waiting = stored(&*store, *id).await;
                    make(&*store, idle(&waiting, To::Cancelled, EventKind::JobCancelled)).await;
                }
            }
        }
        server.kill();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let lost = 1_024 + random % (63 * 1_024);
        let file = std::fs::OpenOptions::new().write(true).open(server.append_file()).expect("the log");
        let length = file.metadata().expect("its size").len();
        file.set_len(length.saturating_sub(lost)).expect("cut");
        server.revive();

        let store = open(&server).await;
        assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new(), "cut {cut} of {lost} bytes");
        for stats in store.stats().await.expect("stats") {
            assert!(stats.pending + stats.running + stats.completed > 0);
        }
        for worker in store.workers().await.expect("workers") {
            store.farewell(worker.info.id).await.expect("farewell");
        }
        let lowest = drain(&*store).await;
        assert!(lowest > highest, "epochs never go back: {lowest} after {highest}");
        let left = store.stats().await.expect("stats");
        assert!(left.iter().all(|queue| queue.pending == queue.parked && queue.running == 0), "{left:?}");
        assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new(), "cut {cut} of {lost} bytes");
    }
}

/// Calls until the server is there again.
macro_rules! patiently {
    ($call:expr) => {
        loop {
            match $call.await {
                Ok(answer) => break answer,
                Err(error) if error.is_transient() => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(error) => panic!("{error:?}"),
            }
        }
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_load_loses_nothing_acknowledged() {
    const BATCHES: usize = 150;
    let mut server = Server::start(&[]);
    let store = open(&server).await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();

    let feeding = tokio::spawn({
        let store = store.clone();
        async move {
            let from = producer();
            let mut put = BTreeSet::new();
            for sequence in 1..=BATCHES as u64 {
                let batch = Enqueue { producer: from, sequence, jobs: plain_jobs(120), runs: vec![] };
                let answer = patiently!(store.enqueue(&batch));
                assert!(answer.jobs.iter().all(|item| *item == Enqueued::Created), "batch {sequence}: {answer:?}");
                put.extend(batch.jobs.iter().map(|new| new.job.id));
                let _ = tell.send(sequence);
            }
            put
        }
    });
    let working = tokio::spawn({
        let store = store.clone();
        async move {
            let me = worker();
            let greeting = Heartbeat { info: info(me, &["noop"]), lease: LONG };
            patiently!(store.heartbeat(&greeting));
            let mut applied = Vec::new();
            let mut held: Vec<Claimed> = Vec::new();
            while applied.len() < BATCHES * 120 {
                let commits = held.iter().map(|claimed| alone(settle(claimed, done()))).collect();
                let step = Exchange { commits, claim: Some(wish(me, &["default"], 64)) };
                match store.exchange(&step).await {
                    Ok(answer) => {
                        for (commit, claimed) in answer.commits.iter().zip(&held) {
                            if commit.moves == [Moved::Applied] {
                                applied.push(claimed.job.id);
                            }
                        }
                        held = answer.claimed;
                    }
                    Err(error) => {
                        assert!(error.is_transient(), "{error:?}");
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        // It may have happened: what was settled is stale now, what was claimed is held.
                        let beat = patiently!(store.heartbeat(&greeting));
                        for claimed in held.drain(..) {
                            if !beat.held.contains(&(claimed.job.id, claimed.epoch)) {
                                applied.push(claimed.job.id);
                            }
                        }
                        let lost: Vec<JobId> = beat.held.iter().map(|(id, _)| *id).collect();
                        let found = patiently!(store.get(&lost));
                        for (stored, (_, epoch)) in found.into_iter().zip(beat.held) {
                            let job = stored.expect("a leased job has a record").job;
                            held.push(Claimed { job, epoch, run: None });
                        }
                    }
                }
            }
            applied
        }
    });

    for at in [30, 70, 110] {
        while told.recv().await.expect("the feeder lives") < at {}
        server.kill();
        server.revive();
    }
    let put = feeding.await.expect("feeds");
    let applied = working.await.expect("works");
    assert_eq!(put.len(), BATCHES * 120);
    assert_eq!(applied.len(), put.len(), "each job was settled once");
    assert_eq!(applied.into_iter().collect::<BTreeSet<_>>(), put);
    let stats = store.stats().await.expect("stats").remove(0);
    assert_eq!((stats.pending, stats.running, stats.completed), (0, 0, put.len() as u64));
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
}

#[tokio::test]
async fn a_waiting_job_of_200_bytes_costs_at_most_360() {
    const JOBS: usize = 100_000;
    let server = Server::start(&["--appendonly", "no"]);
    let store = open(&server).await;
    let payload = Json::string(&"x".repeat(198));
    let small = || now(goflow::domain::Job { payload: payload.clone(), ..job() });
    enqueue(&*store, vec![small()]).await;
    let mut plain = server.plain();
    let mut used = || -> i64 {
        let text: String = ::redis::cmd("INFO").arg("memory").query(&mut plain).expect("info");
        let line = text.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("a figure");
        let events: i64 = ::redis::cmd("MEMORY")
            .arg("USAGE")
            .arg("{gf:0}:events")
            .arg("SAMPLES")
            .arg(0)
            .query(&mut plain)
            .expect("usage");
        // The log of events has a bound of its own, whatever waits.
        line.trim().parse::<i64>().expect("a number") - events
    };
    let before = used();
    for _ in 0..JOBS / 1_000 {
        enqueue(&*store, (0..1_000).map(|_| small()).collect()).await;
    }
    let each = (used() - before) / JOBS as i64;
    println!("{each} bytes a waiting job");
    assert!((200..=360).contains(&each), "{each} bytes");
}

/// Every key that a script touches is declared: its commands name keys by what `KEYS` gave, never by
/// text put together on the spot.
#[test]
fn scripts_touch_declared_keys_only() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/redis/scripts");
    let shard_keys = [
        "JOBS",
        "RUNNING",
        "UNIQUE",
        "QUEUES",
        "PRODUCERS",
        "WORKERS",
        "EVENTS",
        "COUNTERS",
        "RUNS",
        "LIVE",
        "FINISHED",
        "INBOX",
        "DIRTY",
        "TIMERS",
        "FACTS",
        "VALUES",
        "HISTORY",
        "HINT",
        "ENDED",
        "ASKED",
        "PROGRESS",
        "TIES",
        "FREED",
        "KEYED",
        "GATES",
        "LOGS",
        "UNTIL",
    ];
    let mut calls = 0;
    for entry in std::fs::read_dir(folder).expect("the scripts") {
        let path = entry.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("reads");
        let code: String =
            text.lines().map(|line| line.split("--").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
        assert!(!code.contains("pcall") && !code.contains("loadstring") && !text.starts_with("#!"), "{path:?}");
        // Variables that stand for keys must come from KEYS.
        for line in code.lines().filter(|line| line.trim_start().starts_with("local ")) {
            for word in ["key", "line", "tombs"] {
                if let Some(value) = line.trim_start().strip_prefix(&format!("local {word} = ")) {
                    assert!(value.starts_with("queue_key("), "{path:?}: {line}");
                }
            }
        }
        for (at, _) in code.match_indices("call('") {
            let rest = &code[at + 6..];
            let (command, rest) = rest.split_once('\'').expect("a command");
            let key = rest.trim_start_matches([',', ' ']).split([',', ')', '(']).next().unwrap_or("").trim();
            let declared = command == "TIME"
                || shard_keys.contains(&key)
                || ["queue_key", "key", "line", "tombs"].contains(&key)
                || key.starts_with("KEYS[");
            assert!(declared, "{path:?}: {command} on `{key}`");
            calls += 1;
        }
    }
    assert!(calls > 80, "{calls} calls were looked at");
}

#[tokio::test]
async fn the_newest_are_those_born_last_whatever_is_put_off() {
    let server = Server::start(&[]);
    let store = open(&server).await;
    let mut born = Vec::new();
    for nth in 0..8 {
        let id = JobId::from_parts(BIRTH.after(Duration::from_secs(nth)), goflow::domain::Shard(0), nth);
        enqueue(&*store, vec![now(goflow::domain::Job { id, ..job() })]).await;
        born.insert(0, id);
    }
    let worker = hired(&*store).await;
    let oldest = claim(&*store, worker, 3).await;
    // More of other things than is read of the log for the first few.
    for nth in 0..450 {
        let settings = QueueSettings { paused: nth % 2 == 0, ..QueueSettings::default() };
        store.set_queue(&name("default"), &settings).await.expect("it is set");
    }
    for claimed in &oldest {
        assert_eq!(make(&*store, settle(claimed, Outcome::Snoozed { delay: LONG })).await, Moved::Applied);
    }
    assert_eq!(store.newest(None, 3).await.expect("newest").ids, born[..3]);
    assert_eq!(store.newest(Some(born[2]), 3).await.expect("newest").ids, born[3..6]);
}
