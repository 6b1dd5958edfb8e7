//! A record that cannot be read, on every backend that keeps bytes: the job is set apart with its
//! bytes, its run learns of it, and nobody beside it notices.

use std::sync::Arc;

use goflow::api::{Client, Verb};
use goflow::domain::job::Outcome;
use goflow::domain::{Clock, Entropy, Job, JobId, Place, RunState};
use goflow::engine::{Ending, Handler, Handlers, Task, Worker, WorkerOptions};
use goflow::store::*;
use goflow::sys::clock::SystemClock;
use goflow::sys::entropy::SystemEntropy;
use goflow::workflow::{Manifest, parse};
use tokio_util::sync::CancellationToken;

use super::make::*;
use crate::servers::{postgres::Cluster, redis::Server};

struct Noop;

impl Handler for Noop {
    fn run(&self, _: Task) -> Ending {
        Box::pin(async { Some(Outcome::Completed { result: None }) })
    }
}

fn means() -> (Arc<dyn Clock>, Arc<dyn Entropy>) {
    (Arc::new(SystemClock), Arc::new(SystemEntropy::default()))
}

async fn work_off(store: &Arc<dyn Store>) {
    let mut handlers = Handlers::new();
    handlers.set(name("noop"), Arc::new(Noop));
    let options = WorkerOptions { until_empty: true, ..WorkerOptions::default() };
    let (clock, entropy) = means();
    let never = CancellationToken::new();
    let worker = Worker::new(store.clone(), options, handlers, clock, entropy);
    worker.run(never.clone(), never).await.expect("the worker outlives it");
}

async fn is_set_apart(store: Arc<dyn Store>, spoil: impl Fn(JobId)) {
    let client = {
        let (clock, entropy) = means();
        Client::new(store.clone(), clock, entropy)
    };
    let mut manifests = parse("w.yaml", "name: w\nsteps:\n  - {id: a, job: noop}\n").expect("a workflow");
    let Manifest::Workflow(definition) = manifests.remove(0) else { panic!("a workflow was written") };
    let kept = Definition {
        kind: "workflow".into(),
        name: definition.name().clone(),
        hash: definition.hash().to_owned(),
        text: definition.text().to_owned(),
    };
    store.define(&[kept]).await.expect("define");
    let run = client.start(&definition, goflow::domain::Json::parse("{}", 9).expect("JSON")).await.expect("starts");
    let step = ids(&*store, Place::Pending).await.remove(0);
    let jobs: Vec<Job> = (0..3).map(|_| job_in("post", "noop")).collect();
    let (first, spoilt, last) = (jobs[0].id, jobs[1].id, jobs[2].id);
    enqueue(&*store, jobs.into_iter().map(now).collect()).await;
    spoil(spoilt);
    spoil(step);

    let looked = ids(&*store, Place::Pending).await;
    assert_eq!(looked.len(), 4, "a list shows the others and it: {looked:?}");
    work_off(&store).await;

    for id in [first, last] {
        assert_eq!(place(&*store, id).await, Place::Completed);
    }
    let dead = stored(&*store, spoilt).await;
    assert_eq!((dead.place, dead.job.queue.as_str()), (Place::Dead, "post"), "{dead:?}");
    assert_eq!(dead.job.error.as_ref().map(|error| error.class.as_str()), Some("unreadable"));
    assert!(dead.job.raw.as_deref().is_some_and(|raw| raw.last() == Some(&0xc1)), "its bytes are kept: {dead:?}");
    let record = store.run(run).await.expect("run").expect("is kept");
    assert_eq!(record.state, RunState::Failed, "the run learns of its step");
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());

    // Tried again by a goflow that cannot read it either, it is set apart again.
    client.act(Verb::Retry, &[dead.job.id], None).await.expect("retry");
    work_off(&store).await;
    assert_eq!(place(&*store, spoilt).await, Place::Dead);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_job_is_set_apart_on_sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("queue.db");
    let store = SqliteStore::open(&path, Arc::new(SystemClock), SqliteOptions::default()).expect("opens");
    let spoil = move |id: JobId| {
        let other = rusqlite::Connection::open(&path).expect("a database");
        let changed = other.execute("UPDATE jobs SET body = x'c1' WHERE id = ?1", [&id.as_bytes()[..]]);
        assert_eq!(changed, Ok(1));
    };
    is_set_apart(Arc::new(store), spoil).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_job_is_set_apart_on_postgres() {
    let cluster = Cluster::start();
    let store = PostgresStore::open(&cluster.url()).await.expect("opens");
    let spoil = |id: JobId| cluster.sql(&format!("UPDATE goflow.job SET body = '\\xc1' WHERE id = '{id}'"));
    is_set_apart(Arc::new(store), spoil).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_job_is_set_apart_on_redis() {
    let server = Server::start(&[]);
    let store = RedisStore::open(&server.url(), RedisOptions::default()).await.expect("opens");
    let spoil = |id: JobId| {
        let mut plain = server.plain();
        let get = ::redis::cmd("HGET").arg("{gf:0}:jobs").arg(id.as_bytes()).query(&mut plain);
        let mut body: Vec<u8> = get.expect("the record");
        // Its head is the store's own: place and flags, here without a rev, and the run of a step.
        body.truncate(if body[0] & 0x20 == 0 { 1 } else { 17 });
        body.push(0xc1);
        ::redis::cmd("HSET").arg("{gf:0}:jobs").arg(id.as_bytes()).arg(body).exec(&mut plain).expect("spoils");
    };
    is_set_apart(Arc::new(store), spoil).await;
}
