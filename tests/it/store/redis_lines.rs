//! What a store does when what it is told by a Redis, or hears nothing of, leaves in doubt what has happened:
//! replicas that cannot be asked, a server that goes silent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use goflow::store::sharded::{Map, Opener, ShardedOptions, Strategy};
use goflow::store::*;
use goflow::sys::clock::SystemClock;
use rustix::process::Signal;

use super::backends::Count;
use super::make::*;
use super::sharded_alone::fill;
use crate::servers::redis::Server;
use crate::servers::redis_nodes::Watched;

#[tokio::test]
async fn a_write_whose_confirmation_fails_may_have_happened() {
    let server = Server::start(&[]);
    let plain = RedisStore::open(&server.url(), RedisOptions::default()).await.expect("opens");
    let with_replica = format!("{}?replicas=1", server.url());
    let confirmed = RedisStore::open(&with_replica, RedisOptions::default()).await.expect("opens");
    ::redis::cmd("ACL").arg(&["SETUSER", "default", "-wait"]).exec(&mut server.plain()).expect("is taken");
    let job = job();
    let id = job.id;
    let batch = Enqueue { producer: producer(), sequence: 1, jobs: vec![now(job)], runs: vec![] };
    let error = confirmed.enqueue(&batch).await.expect_err("no replica has it");
    let StoreError::Unknown(text) = &error else { panic!("{error:?}") };
    assert!(text.contains("not confirmed by 1 replicas") && text.contains("NoPerm"), "{text}");
    assert!(plain.get(&[id]).await.expect("get")[0].is_some(), "it was written");
}

/// A master is stopped, as by a machine that is cut off: nothing ends the connections to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_whose_master_goes_silent_is_found_again() {
    let (watched, other) = (Watched::start(1, &[]), Server::start(&[]));
    let opener: Opener = Arc::new(|_, url| {
        Box::pin(async move {
            let store = RedisStore::open(&url, RedisOptions::default()).await?;
            Ok(Arc::new(store) as Arc<dyn Store>)
        })
    });
    let options = ShardedOptions { opener, clock: Arc::new(SystemClock), entropy: Arc::new(Count::new()), only: None };
    let map = Map::of_urls(&[watched.url(), other.url()], Strategy::Hash);
    let store = ShardedStore::open(map, options).await.expect("the shards open");
    fill(&store, 20).await;
    let until = |is_away: bool| {
        let store = &store;
        async move {
            let begun = Instant::now();
            while store.placement().await.expect("a placement").expect("shards").away.is_empty() == is_away {
                assert!(begun.elapsed() < Duration::from_secs(15), "away: {is_away}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let master = watched.master().expect("the sentinels agree");
    watched.servers[master].signal(Signal::STOP);
    until(true).await;
    watched.wait_for_another_master(master);
    until(false).await;
    let jobs = async || store.stats().await.expect("stats").iter().map(|queue| queue.pending).sum::<u64>();
    let before = jobs().await;
    fill(&store, 20).await;
    assert_eq!(jobs().await, before + 20);
}
