//! Shards that come, go and fall silent while others act: processes that sleep through it, settings that were
//! taken back, black holes, leases of what was carried. Nothing is lost, and one shard makes no other late.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use goflow::domain::{EventKind, Job, Name, Place, QueueSettings, Shard};
use goflow::store::fault::{FaultStore, Saboteur};
use goflow::store::sharded::Opener;
use goflow::store::*;

use super::backends::TestClock;
use super::make::*;
use super::sharded_alone::{born, grounds, two_views, until};
use super::sharded_moves::{carry_all, opened, stops_before_setting_aside};

#[tokio::test(start_paused = true)]
async fn of_two_who_change_the_shards_at_once_none_is_forgotten() {
    let (first, second) = two_views().await;
    let (a, b) = (first.shards().expect("verbs"), second.shards().expect("verbs"));
    let added = tokio::join!(a.add("red"), b.add("green"));
    first.shards().expect("verbs").list().await.expect("list");
    until("both see the same", async || first.map() == second.map()).await;
    let map = first.map();
    let mut good = 0;
    for (answer, url) in [(added.0, "red"), (added.1, "green")] {
        match answer {
            Ok(id) => {
                good += 1;
                assert_eq!(map.entry(id).map(|entry| entry.url.as_str()), Some(url));
            }
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
    assert!(good > 0, "one of them has added its shard");
    let urls: BTreeSet<&str> = map.shards.iter().map(|entry| entry.url.as_str()).collect();
    assert_eq!(urls.len(), map.shards.len());
}

/// A process that slept while a shard was carried away and removed puts nothing where nobody looks.
#[test]
fn whoever_slept_through_a_removal_loses_nothing() {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let (ask, asked) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel::<Job>();
    let (go, goes) = std::sync::mpsc::channel::<()>();
    let (opener, time) = (plain.clone(), clock.clone());
    let sleeper = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let store = runtime.block_on(opened(opener, time));
        asked.recv().expect("a word");
        let job = runtime.block_on(async { born(&store, Near::Shard(Shard(1))) });
        tell.send(job.clone()).expect("heard");
        // Nothing of it runs meanwhile, its keeper neither.
        goes.recv().expect("a word");
        runtime.block_on(async {
            let batch = Enqueue { producer: producer(), sequence: 1, jobs: vec![now(job)], runs: vec![] };
            store.enqueue(&batch).await
        })
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let store = runtime.block_on(opened(plain, clock));
    ask.send(()).expect("heard");
    let job = told.recv().expect("a job");
    runtime.block_on(async {
        store.shards().expect("verbs").drain(1, Some(0)).await.expect("drains");
        carry_all(&store, 1).await;
        store.shards().expect("verbs").remove(1).await.expect("removes");
    });
    go.send(()).expect("heard");
    let answer = sleeper.join().expect("it ends");
    let found = runtime.block_on(store.get(&[job.id])).expect("get");
    match answer {
        Ok(answer) => assert!(answer.jobs == [Enqueued::Created] && found[0].is_some(), "{answer:?} {found:?}"),
        Err(error) => assert!(error.is_transient() && found[0].is_none(), "{error} {found:?}"),
    }
}

/// What is on its way to a shard when that is removed arrives before it goes, or is told not to have.
#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_to_a_shard_that_goes_is_not_lost() {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let (slow, stops) = stops_before_setting_aside(plain.clone(), clock.clone()).await;
    let other = opened(plain, clock).await;
    let job = born(&slow, Near::Shard(Shard(1)));
    let batch = Enqueue { producer: producer(), sequence: 1, jobs: vec![now(job.clone())], runs: vec![] };
    let verbs = other.shards().expect("verbs");
    verbs.drain(1, Some(0)).await.expect("drains");
    carry_all(&other, 1).await;
    stops.is_on.store(true, Ordering::SeqCst);
    // The request takes as long as it may: 2.4 s to the shard, as long back.
    let enqueue = async { slow.enqueue(&batch).await };
    let remove = async {
        until("it is on its way", async || stops.held.load(Ordering::SeqCst)).await;
        verbs.remove(1).await
    };
    let (answer, removed) = tokio::join!(enqueue, remove);
    if let Err(error) = removed {
        assert!(error.to_string().contains("is not empty"), "{error}");
        carry_all(&other, 1).await;
        verbs.remove(1).await.expect("removes");
    }
    let found = other.get(&[job.id]).await.expect("get").remove(0);
    assert!(found.is_some() || answer.is_err(), "acknowledged, and lost: {answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_was_taken_back_is_taken_back_everywhere() {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let dead = Arc::new(Dead(AtomicBool::new(false)));
    let saboteur = dead.clone();
    let inner = plain.clone();
    let faulty: Opener = Arc::new(move |id, url| {
        let (opening, saboteur) = (inner(id, url), saboteur.clone());
        Box::pin(async move {
            let store = opening.await?;
            if id == 1 { Ok(Arc::new(FaultStore::new(store, saboteur)) as Arc<dyn Store>) } else { Ok(store) }
        })
    });
    let store = opened(faulty, clock).await;
    let queue: Name = super::make::name("mail");
    let paused = QueueSettings { paused: true, concurrency: Some(9), ..QueueSettings::default() };
    store.set_queue(&queue, &paused).await.expect("set");
    dead.0.store(true, Ordering::SeqCst);
    store.set_queue(&queue, &QueueSettings::default()).await.expect("the others take it");
    dead.0.store(false, Ordering::SeqCst);
    until("the shard is back", async || store.shards().expect("verbs").away().is_empty()).await;
    let one = plain(1, "one".into()).await.expect("opens");
    assert_eq!(one.queues().await.expect("queues"), [(queue, QueueSettings::default())]);
}

struct Dead(AtomicBool);

impl Saboteur for Dead {
    fn before(&self, _: bool) -> goflow::store::Result<()> {
        if self.0.load(Ordering::SeqCst) { Err(StoreError::Unavailable("dead".into())) } else { Ok(()) }
    }
}

/// Answers nothing, for as long as it is on.
struct Hole(AtomicBool);

impl Saboteur for Hole {
    fn travel(&self) -> Duration {
        if self.0.load(Ordering::SeqCst) { Duration::from_secs(3_600) } else { Duration::ZERO }
    }
}

/// Two shards swallow every word. The map is not late for that, upkeep of the third goes on, and nobody
/// waits for long.
#[tokio::test(start_paused = true)]
async fn black_holes_make_nothing_late() {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let hole = Arc::new(Hole(AtomicBool::new(false)));
    let saboteur = hole.clone();
    let inner = plain.clone();
    let faulty: Opener = Arc::new(move |id, url| {
        let (opening, saboteur) = (inner(id, url), saboteur.clone());
        Box::pin(async move {
            let store = opening.await?;
            if id > 0 { Ok(Arc::new(FaultStore::new(store, saboteur)) as Arc<dyn Store>) } else { Ok(store) }
        })
    });
    let store = opened(faulty, clock.clone()).await;
    let worker = hired(&store).await;
    hole.0.store(true, Ordering::SeqCst);
    let begun = tokio::time::Instant::now();
    store.overdue(Duration::from_secs(60), 10).await.expect("overdue");
    store.tick(10).await.expect("tick");
    store.freed(10).await.expect("freed");
    store.trim(Retention { age: Duration::from_secs(3_600), count: 100 }, 10).await.expect("trim");
    assert!(begun.elapsed() <= Duration::from_secs(3), "{:?}", begun.elapsed());
    // For a minute work of the third goes on, whose map is looked at all the time.
    for _ in 0..60 {
        let begun = tokio::time::Instant::now();
        put(&store, born(&store, Near::Shard(Shard(0)))).await;
        assert_eq!(claim(&store, worker, 1).await.len(), 1);
        assert!(begun.elapsed() < Duration::from_millis(1_600), "{:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    hole.0.store(false, Ordering::SeqCst);
    until("they are back", async || store.shards().expect("verbs").away().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_nobody_works_for_is_told_of_once() {
    let clock = TestClock::new();
    let store = opened(grounds(clock.clone()), clock.clone()).await;
    put(&store, born(&store, Near::Shard(Shard(2)))).await;
    let told = async || {
        let (events, _) = store.events(None, 1_000).await.expect("events");
        let mut told = events.into_iter().filter(|event| event.kind == EventKind::ShardUnclaimed);
        (told.next().and_then(|event| event.data), told.count())
    };
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(told().await, (None, 0), "not before half a minute");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(told().await, (Some("2 1 jobs wait and no worker is registered".to_owned()), 0));
}

/// A worker dies with a job that was carried, while the shard on which it was born is still there: whoever
/// looks after all takes it back where it lies.
#[tokio::test(start_paused = true)]
async fn a_lease_of_a_carried_job_is_reaped_where_it_lies() {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let (store, other) = (opened(plain.clone(), clock.clone()).await, opened(plain, clock.clone()).await);
    let id = put(&store, born(&store, Near::Shard(Shard(1)))).await;
    store.shards().expect("verbs").drain(1, Some(0)).await.expect("drains");
    carry_all(&store, 1).await;
    until("the other follows", async || other.map().epoch == store.map().epoch).await;
    let worker = worker();
    beat(&store, worker, Duration::from_secs(15)).await;
    let claimed = claim_one(&store, worker).await;
    assert_eq!(claimed.job.id, id);
    drop(store);
    clock.advance(Duration::from_secs(30));
    let overdue = other.overdue(Duration::from_secs(3_600), 10).await.expect("overdue");
    assert_eq!(overdue.lapsed.len(), 1);
    let lapsed = &overdue.lapsed[0];
    let crashed = lapsed.job.clone().settle(goflow::domain::job::Outcome::Crashed, BIRTH, 0.5);
    let step = Move::new(Expect::Lapsed(lapsed.lease.as_ref().expect("a lease").epoch), crashed);
    assert_eq!(make(&other, step).await, Moved::Applied);
    assert_eq!(place(&other, id).await, Place::Suspect);
}
