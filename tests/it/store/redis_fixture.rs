//! A Redis that an older goflow has written. The fixture holds a key a line, with what `DUMP` says of it.

use std::time::Duration;

use base64::Engine;
use goflow::domain::{Name, Place};
use goflow::store::{Acquired, ListQuery, Moved, RedisOptions, RedisStore, RunQuery, Store};

use super::make::*;
use crate::servers::redis::Server;

fn restore(server: &Server, fixture: &str) {
    let mut plain = server.plain();
    for line in fixture.lines() {
        let (key, dump) = line.rsplit_once(' ').expect("a key and its value");
        let dump = base64::engine::general_purpose::STANDARD.decode(dump).expect("base64");
        let () = redis::cmd("RESTORE").arg(key).arg(0).arg(dump).query(&mut plain).expect("is taken");
    }
}

/// The fixture was written by goflow of schema 2: jobs in every place, a worker that was killed, two runs that
/// have begun, a schedule.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_schema_2_is_taken_over_whole() {
    let server = Server::start(&[]);
    restore(&server, include_str!("../../fixtures/redis/schema-2.txt"));
    let store = RedisStore::open(&server.url(), RedisOptions::default()).await.expect("the store opens");
    assert_eq!(store.health().await.expect("health").schema, 3);
    let kept: u32 = redis::cmd("GET").arg("{gf:0}:schema").query(&mut server.plain()).expect("a number");
    assert_eq!(kept, 3, "an older goflow leaves it alone from now on");
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
    let stats = store.stats().await.expect("stats");
    let of = |name: &str| stats.iter().find(|queue| queue.name.as_str() == name).expect("a queue").clone();
    let waiting = of("waiting");
    assert_eq!((waiting.pending, waiting.scheduled, waiting.paused), (3, 3, true));
    assert_eq!((of("done").completed, of("dead").dead, of("slow").pending, of("gone").cancelled), (2, 1, 1, 1));
    assert_eq!((of("running").running, of("steps").pending, of("parked").parked), (1, 2, 1));
    let live = RunQuery { finished: false, after: None, budget: 10 };
    assert_eq!(store.runs(&live).await.expect("runs").items.len(), 2);
    assert_eq!(store.schedules().await.expect("schedules").1.len(), 1);
    let held = ListQuery { place: Place::Held, queue: None, after: None, budget: 10 };
    assert_eq!(store.list(&held).await.expect("list").items.len(), 1);
    assert!(store.holders(&["held".to_owned()]).await.expect("holders")[0].is_some());

    // What was claimed is taken over, what waits is claimed in its order, and what is new works.
    let lapsed = store.overdue(Duration::from_secs(600), 10).await.expect("overdue").lapsed;
    assert_eq!(lapsed.len(), 1, "the lease of the killed worker");
    let someone = hired(&store).await;
    let queue: Name = "waiting".parse().expect("a name");
    let settings = store.queues().await.expect("queues").into_iter().find(|(name, _)| *name == queue).expect("it").1;
    store.set_queue(&queue, &goflow::domain::QueueSettings { paused: false, ..settings }).await.expect("resumes");
    let claimed = exchange(&store, vec![], Some(wish(someone, &["waiting"], 9))).await.claimed;
    assert_eq!(claimed.iter().map(|one| one.job.priority).collect::<Vec<_>>(), [5, 0, 0]);
    for one in &claimed {
        assert!(matches!(make(&store, settle(one, done())).await, Moved::Applied));
    }
    let request = super::shared_laws::wish("nightly", 1, Duration::from_secs(60));
    assert!(matches!(store.acquire(&request).await.expect("acquire"), Acquired::Granted(_)));
    put(&store, job()).await;
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
}
