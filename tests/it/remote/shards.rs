//! A store of several shards behind a server: new work is born where it belongs though whoever makes it sees
//! no shard, and shards are looked after from afar by whoever may.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use goflow::api::tokens::Scope;
use goflow::domain::{Job, JobId, Shard};
use goflow::store::sharded::Strategy;
use goflow::store::*;
use goflow::sys::clock::SystemClock;

use super::place::Place;
use crate::store::backends::sharded_over;
use crate::store::make::*;
use crate::store::sharded_alone::{fill, until};

async fn place(strategy: Strategy) -> Place {
    let clock = Arc::new(SystemClock);
    let memory = || -> Arc<dyn Store> { Arc::new(MemoryStore::new(clock.clone())) };
    let store = sharded_over(vec![memory(), memory(), memory()], clock.clone(), strategy).await;
    Place::over(Arc::new(store), clock).await
}

fn unique(store: &dyn Store, key: &str) -> Job {
    let id =
        JobId::from_parts(BIRTH, store.birthplace(Near::Key(key)), u64::from(job_id().as_bytes()[15]) << 8 | fresh());
    Job { id, unique_key: Some(key.to_owned()), ..job() }
}

fn fresh() -> u64 {
    u64::from_be_bytes(job_id().as_bytes()[8..].try_into().expect("eight bytes"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_is_born_where_it_belongs() {
    for strategy in [Strategy::Hash, Strategy::RoundRobin, Strategy::LeastLoaded] {
        let place = place(strategy).await;
        let (one, other) = (place.store().await.expect("opens"), place.store().await.expect("opens"));
        let homes: BTreeSet<u16> = fill(&one, 60).await.iter().map(|id| id.shard().0).collect();
        assert_eq!(homes, BTreeSet::from([0, 1, 2]), "{strategy:?}");
        for nth in 0..20 {
            // One key is one job, whoever comes from wherever.
            let key = format!("customer-{nth}");
            let first = put(&one, unique(&one, &key)).await;
            assert_eq!(place.client.store().birthplace(Near::Key(&key)), first.shard());
            assert_eq!(enqueue(&other, vec![now(unique(&other, &key))]).await, [Enqueued::Conflict(first)]);
        }
        let worker = hired(&one).await;
        let mut done_jobs = 0;
        loop {
            let claimed = claim(&one, worker, 32).await;
            if claimed.is_empty() {
                break;
            }
            done_jobs += claimed.len();
            let commits = claimed.iter().map(|one| alone(settle(one, done()))).collect();
            assert!(exchange(&one, commits, None).await.commits.iter().all(|one| one.moves == [Moved::Applied]));
        }
        assert_eq!(done_jobs, 80, "{strategy:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_are_looked_after_from_afar_by_whoever_may() {
    let place = place(Strategy::RoundRobin).await;
    // All of them first: a server may not know for a second what was made meanwhile.
    let (admin, worker) = (place.token(&[Scope::Admin]).await, place.token(&[Scope::Operate]).await);
    let open = async |token| {
        let end = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            match RemoteStore::open(&place.url(), Some(token)).await {
                Ok(store) => return store,
                Err(error) => assert!(tokio::time::Instant::now() < end, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (admin, worker) = (open(&admin).await, open(&worker).await);
    let verbs = admin.shards().expect("the server's store has shards");
    let list = verbs.list().await.expect("list");
    assert!(list.shards.iter().all(|shard| !shard.url.is_empty()));
    // Who may not change them sees them all the same, but for where they are.
    let looks = worker.shards().expect("shards");
    assert_eq!(looks.list().await.expect("to see them is to look"), list.clone().without_places());
    assert_eq!(looks.left(1).await.expect("left"), Left::default());
    for refused in [
        looks.add("redis://elsewhere").await.map(drop),
        looks.add_beside().await.map(drop),
        looks.drain(2, Some(0)).await,
        looks.carry(2).await.map(drop),
        looks.remove(2).await,
    ] {
        assert!(matches!(&refused, Err(StoreError::Refused(why)) if why.contains("admin")), "{refused:?}");
    }
    assert_eq!((list.shards.len(), list.strategy.as_str()), (3, "round-robin"));
    let ids = fill(&worker, 30).await;
    verbs.drain(2, Some(0)).await.expect("drains");
    while !verbs.carry(2).await.expect("carries").is_nothing() {}
    assert_eq!(verbs.left(2).await.expect("left"), Left::default());
    verbs.remove(2).await.expect("removes");
    assert!(worker.get(&ids).await.expect("get").iter().all(Option::is_some), "ids lead on");
    until("the other one hears of it", async || {
        let near = worker.birthplace(Near::Shard(Shard(2)));
        near == Shard(0)
    })
    .await;
    assert!(fill(&worker, 30).await.iter().all(|id| id.shard() != Shard(2)));
}
