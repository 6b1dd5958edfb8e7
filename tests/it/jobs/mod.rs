//! The features of a queue, and of runs that an operator steers, seen from outside: real processes over a real
//! store, and a witness file in which the handlers themselves say when they begin and end.

mod ending;
mod limits;
mod order;
mod steering;
mod talk;

use std::collections::BTreeMap;
use std::sync::Arc;

use goflow::domain::{JobId, QueueSettings};
use goflow::store::open::{OpenOptions, open};
use goflow::store::{Store, StoreUrl};
use goflow::sys::clock::SystemClock;
use goflow::sys::entropy::SystemEntropy;

use crate::torture::site::{Ground, Site};

/// Features on one backend: a function below of its name.
macro_rules! on_store {
    ($store:ident: $($feature:ident)*) => {
        mod $store {
            $(#[test] fn $feature() { super::$feature(&crate::jobs::site(crate::jobs::$store())); })*
        }
    };
}
use on_store;

/// Each feature on each backend.
macro_rules! on_every_store {
    ($($feature:ident)*) => {
        on_store! { sqlite: $($feature)* }
        on_store! { redis: $($feature)* }
        on_store! { postgres: $($feature)* }
    };
}
use on_every_store;

const CONFIG: &str = r#"
handlers:
  # Tells the witness when it begins and ends, and holds its place for a moment.
  hold: {run: [bash, -c, 'echo "+ $EPOCHREALTIME $GOFLOW_QUEUE $GOFLOW_JOB_ID" >> witness; sleep 0.3; echo "- $EPOCHREALTIME $GOFLOW_QUEUE $GOFLOW_JOB_ID" >> witness']}
  touch: {run: [bash, -c, 'echo "+ $EPOCHREALTIME $GOFLOW_QUEUE $GOFLOW_JOB_ID" >> witness']}
  talks: {run: [bash, -c, 'echo first; echo "second é" >&2; touch told; sleep 600']}
  # A child in a session of its own, which no signal to the group reaches.
  endless: {run: [bash, -c, 'setsid sleep 600 & echo $$ $! >> pids; sleep 600']}
"#;

fn sqlite() -> Ground {
    Ground::Sqlite
}

fn redis() -> Ground {
    Ground::Redis(crate::servers::redis::Server::start(&[]))
}

fn postgres() -> Ground {
    Ground::Postgres(crate::servers::postgres::Cluster::with(&[]))
}

fn shards() -> Ground {
    Ground::shards()
}

fn mixed() -> Ground {
    Ground::mixed()
}

fn site(ground: Ground) -> Site {
    let site = Site::on(ground, "15s");
    site.env.file("goflow.yaml", CONFIG);
    site
}

/// Does something to the store from beside the processes.
fn beside<T>(site: &Site, work: impl AsyncFnOnce(Arc<dyn Store>) -> T) -> T {
    let url: StoreUrl = site.url.parse().expect("a URL");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(1).build();
    runtime.expect("a runtime").block_on(async {
        let store = open(&url, Arc::new(SystemClock), Arc::new(SystemEntropy::default()), OpenOptions::default())
            .await
            .expect("the store opens");
        work(store).await
    })
}

fn set_queue(site: &Site, queue: &str, settings: QueueSettings) {
    let queue = queue.parse().expect("a name");
    beside(site, async |store| store.set_queue(&queue, &settings).await.expect("set"));
}

fn enqueue_lines(site: &Site, line: &str, count: usize) {
    let lines: String = (0..count).map(|n| format!("{n}\n")).collect();
    site.env.feed(&format!("enqueue {line} --lines"), lines).ok();
}

fn show(site: &Site, id: &str) -> serde_json::Value {
    site.env.run(&format!("job show {id} -o json")).ok().json()
}

fn id(text: &str) -> JobId {
    text.parse().expect("an id")
}

/// One line of the witness.
#[derive(Clone, Debug)]
struct Seen {
    begins: bool,
    /// Seconds.
    at: f64,
    queue: String,
    job: String,
}

fn witness(site: &Site) -> Vec<Seen> {
    let text = std::fs::read_to_string(site.env.path().join("witness")).expect("the witness file");
    let read = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [what, at, queue, job] = words.as_slice() else { panic!("a broken line: {line}") };
        let at = at.parse().expect("a time");
        Seen { begins: *what == "+", at, queue: (*queue).to_owned(), job: (*job).to_owned() }
    };
    let mut seen: Vec<Seen> = text.lines().map(read).collect();
    seen.sort_by(|a, b| a.at.total_cmp(&b.at));
    seen
}

/// How many ran at the same time at most.
fn most_at_once(seen: &[Seen]) -> usize {
    let (mut now, mut most) = (0usize, 0);
    for one in seen {
        now = if one.begins { now + 1 } else { now.saturating_sub(1) };
        most = most.max(now);
    }
    most
}

fn count_by_queue<'a>(seen: impl Iterator<Item = &'a Seen>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for one in seen.filter(|one| one.begins) {
        *counts.entry(one.queue.clone()).or_default() += 1;
    }
    counts
}
