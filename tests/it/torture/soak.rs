//! A steady stream with all kinds of work in it, over two workers and a scheduler: what they hold
//! (memory, descriptors, children) must not grow with what has passed through them. At the long size ten
//! minutes at 10,000 jobs a second are asked for; what was reached is printed.

use std::fs;
use std::time::{Duration, Instant};

use goflow::Client as Library;
use goflow::api::Client;
use goflow::api::enqueue::Patience;
use goflow::domain::{Concurrency, Job, Json, Name, RetryPolicy, limits};
use goflow::store::{NewJob, Start};

use super::site::{Process, Site};
use super::size;

const HANDLERS: &str = r#"
worker: {concurrency: 10}
handlers:
  command: {run: ["true"]}
  talks: {pool: [python3, ./talks.py]}
  bulk: {pool: [python3, ./bulk.py], batch: {max: 50, within: 100ms}}
  seldom: {run: ["true"], rate_limit: 5/s}
"#;

/// Tells how far it has come, and prints.
const TALKS: &str = r#"import json, sys
for line in sys.stdin:
    job = json.loads(line)
    print(json.dumps({"id": job["id"], "progress": {"percent": 50, "message": "half"}}), flush=True)
    print("a line of talk", file=sys.stderr, flush=True)
    print(json.dumps({"id": job["id"], "result": job["payload"]}), flush=True)
"#;

const BULK: &str = r#"import json, sys
for line in sys.stdin:
    jobs = json.loads(line)["batch"]
    print(json.dumps({"batch": [{"id": job["id"], "result": None} for job in jobs]}), flush=True)
"#;

const MANIFESTS: &str = "\
kind: Workflow
name: pair
steps:
  - id: first
    job: noop
  - id: second
    needs: [first]
    job: noop
---
kind: Schedule
name: pulse
every: 1s
workflow: pair
overlap: allow
";

/// What a process holds at a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    kib: u64,
    descriptors: usize,
    children: usize,
}

fn held(pid: u32) -> Held {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).unwrap_or_default();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children = children.map(|text| text.split_whitespace().count()).sum();
    Held { kib: kib.unwrap_or_default(), descriptors, children }
}

/// What stays over a part of the samples: the most memory, and the fewest descriptors and children, for
/// what runs at a moment has some of both for as long as it runs.
fn kept(samples: &[Held]) -> Held {
    let all = |of: fn(&Held) -> usize| samples.iter().map(of).min().unwrap_or_default();
    Held {
        kib: samples.iter().map(|one| one.kib).max().unwrap_or_default(),
        descriptors: all(|one| one.descriptors),
        children: all(|one| one.children),
    }
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// The nth batch: mostly plain jobs, and some of everything else.
fn batch(client: &Client, nth: usize, jobs: usize) -> Vec<NewJob> {
    let plain = |kind: &str| Job::new(client.job_id(), name(kind), name("default"), Json::null());
    let mut batch: Vec<NewJob> = Vec::with_capacity(jobs + 16);
    let mut add = |job: Job, start: Start| batch.push(NewJob { job, start, unique_for: None });
    for one in 0..jobs {
        let mut job = plain("noop");
        job.priority = i8::try_from(one % 5).unwrap_or_default() - 2;
        job.queue = name(["default", "mail", "reports"][one % 3]);
        add(job, Start::Now);
    }
    let parent = plain("noop");
    let mut child = plain("noop");
    child.after = vec![parent.id];
    add(parent, Start::Now);
    add(child, Start::Now);
    add(plain("noop"), Start::After(Duration::from_secs(2)));
    let mut keyed = plain("noop");
    keyed.concurrency = Some(Concurrency { key: "door".into(), limit: 1 });
    add(keyed, Start::Now);
    let mut once = plain("noop");
    once.unique_key = Some(format!("once-{nth}"));
    add(once, Start::Now);
    let mut fails = plain("fail");
    fails.retry = RetryPolicy { max: 0, ..RetryPolicy::default() };
    add(fails, Start::Now);
    for _ in 0..5 {
        add(plain("bulk"), Start::Now);
    }
    // A process each: a few a second.
    if nth.is_multiple_of(10) {
        for kind in ["command", "talks", "seldom"] {
            add(plain(kind), Start::Now);
        }
        let mut limited = plain("noop");
        limited.queue = name("narrow");
        add(limited, Start::Now);
    }
    assert!(batch.len() <= limits::ENQUEUE_BATCH);
    batch
}

/// Sends 20 batches a second for so long; how many jobs that were.
async fn produce(url: &str, length: Duration, rate: usize) -> usize {
    let library = Library::connect(url).await.expect("the store opens");
    let client = library.api();
    let mut producer = client.producer(Patience::default());
    let (begun, mut sent, mut nth) = (Instant::now(), 0, 0);
    let mut beat = tokio::time::interval(Duration::from_millis(50));
    while begun.elapsed() < length {
        beat.tick().await;
        let jobs = batch(client, nth, rate / 20);
        sent += jobs.len();
        producer.send(jobs).await.expect("they are taken");
        nth += 1;
    }
    sent
}

fn what_is_held_stays_flat(site: &Site) {
    let length = Duration::from_secs(size(24, 600) as u64);
    let rate = size(1_000, 10_000);
    site.env.file("goflow.yaml", HANDLERS);
    site.env.file("talks.py", TALKS);
    site.env.file("bulk.py", BULK);
    site.env.file("pair.yaml", MANIFESTS);
    site.env.run("apply pair.yaml").ok();
    site.env.run("queue set narrow --concurrency 1").ok();
    let url = site.url.clone();
    let crew: Vec<Process> = vec![
        site.start("worker-0", "worker -c 10"),
        site.start("worker-1", "worker -c 10"),
        site.start("scheduler", "scheduler"),
    ];
    let producer = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(produce(&url, length, rate))
    });
    let mut samples: Vec<Vec<Held>> = vec![Vec::new(); crew.len()];
    let begun = Instant::now();
    while !producer.is_finished() {
        std::thread::sleep(Duration::from_millis(500));
        crew.iter().zip(&mut samples).for_each(|(one, samples)| samples.push(held(one.id())));
    }
    let sent = producer.join().expect("the producer ends well");
    let rate = sent as f64 / begun.elapsed().as_secs_f64();
    site.env.run("schedule pause pulse").ok();
    let drained = site.wait("all is done after the stream", Duration::from_secs(120), || site.is_drained());
    println!("{sent} jobs, {rate:.0}/s, drained {drained:?} after the last one");
    drop(crew);
    site.verify();
    for (nth, samples) in samples.iter().enumerate() {
        // The first third is for warming up; the rest is compared, its first half with its second.
        let warm = &samples[samples.len() / 3..];
        let (before, after) = (kept(&warm[..warm.len() / 2]), kept(&warm[warm.len() / 2..]));
        println!("process {nth}: {before:?}, then {after:?}");
        assert!(before.kib > 0, "process {nth} was not there");
        assert!(after.kib <= before.kib + before.kib / 4 + 4_096, "memory of {nth} grew: {before:?}, {after:?}");
        assert!(after.descriptors <= before.descriptors + 4, "descriptors of {nth}: {before:?}, {after:?}");
        assert!(after.children <= before.children + 1, "children of {nth}: {before:?}, {after:?}");
    }
}

#[test]
fn what_is_held_stays_flat_on_sqlite() {
    what_is_held_stays_flat(&Site::sqlite());
}

#[test]
fn what_is_held_stays_flat_on_redis() {
    what_is_held_stays_flat(&Site::redis());
}

#[test]
fn what_is_held_stays_flat_on_postgres() {
    what_is_held_stays_flat(&Site::postgres());
}
