//! Locks over shards that come and go: one holder, never more than the slots, and a fence that rises, also
//! where a name's home changes under its holders.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use goflow::domain::{HolderId, Name, Shard};
use goflow::store::fault::{FaultStore, Saboteur};
use goflow::store::sharded::{Map, Opener, ShardedOptions, Strategy};
use goflow::store::*;

use super::backends::{Count, TestClock};
use super::make::*;
use super::sharded_alone::{grounds, grounds_of, two_views_and_time, until};

fn holder() -> HolderId {
    let id = job_id();
    HolderId::from_parts(id.created_at(), Shard(0), u64::from_be_bytes(id.as_bytes()[8..].try_into().expect("bytes")))
}

fn wish(lock: &Name, slots: u32) -> LockRequest {
    let ttl = Duration::from_secs(600);
    LockRequest { name: lock.clone(), holder: holder(), about: "a test".into(), slots, ttl }
}

/// Tries until it is not about to be at home elsewhere, and the clocks have gone on.
async fn acquire(time: &TestClock, store: &dyn Store, request: &LockRequest) -> Acquired {
    for _ in 0..1_000 {
        match store.acquire(request).await {
            Ok(answer) => return answer,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
        time.advance(Duration::from_millis(1));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} is never given out", request.name);
}

async fn granted(time: &TestClock, store: &dyn Store, request: &LockRequest) -> Grant {
    match acquire(time, store, request).await {
        Acquired::Granted(grant) => grant,
        other => panic!("{other:?}"),
    }
}

fn names() -> Vec<Name> {
    (0..40).map(|nth| super::make::name(&format!("lock-{nth}"))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_lock_lies_on_the_home_of_its_name_and_stays_one_when_that_changes() {
    let (time, first, second) = two_views_and_time().await;
    let mut held = Vec::new();
    for name in names() {
        let request = wish(&name, 1);
        held.push((request.clone(), granted(&time, &first, &request).await.fence));
    }
    let verbs = first.shards().expect("verbs");
    let spread: Vec<u64> = [verbs.left(0).await, verbs.left(1).await].map(|left| left.expect("left").locks).to_vec();
    assert!(spread.iter().all(|locks| *locks > 8) && spread.iter().sum::<u64>() == 40, "{spread:?}");
    let listed = first.locks(None, 1_000).await.expect("locks").1;
    assert_eq!(listed.iter().map(|lock| lock.name.clone()).collect::<BTreeSet<_>>(), names().into_iter().collect());
    let page = first.locks(None, 7).await.expect("locks").1;
    assert_eq!(page.iter().collect::<Vec<_>>(), listed.iter().take(7).collect::<Vec<_>>());

    verbs.add("two").await.expect("adds");
    until("the other follows", async || second.map().epoch == first.map().epoch).await;
    let moved = names().iter().filter(|name| second.map().home(name.as_str()) == Ok(2)).count();
    assert!((4..30).contains(&moved), "{moved} of 40 names are at home on the new shard");
    for (request, fence) in &held {
        // Whoever holds it holds it, whoever wants it waits, on both sides.
        assert_eq!(
            second.extend(&request.name, request.holder, request.ttl).await.expect("extend").expect("held").fence,
            *fence
        );
        for store in [&first, &second] {
            let other = acquire(&time, store, &wish(&request.name, 1)).await;
            assert!(matches!(&other, Acquired::Held { lock, .. } if lock.holders[0].id == request.holder), "{other:?}");
        }
        assert!(first.release(&request.name, request.holder).await.expect("release"));
        let next = wish(&request.name, 1);
        assert!(granted(&time, &second, &next).await.fence > *fence, "the fence rises");
        assert!(matches!(acquire(&time, &first, &wish(&request.name, 1)).await, Acquired::Held { .. }));
        assert_eq!(second.break_lock(&request.name, None).await.expect("break").len(), 1);
    }
    assert_eq!(first.locks(None, 1_000).await.expect("locks").1, []);
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_again_for_what_it_holds_keeps_it_at_the_new_home() {
    let (time, first, second) = two_views_and_time().await;
    let verbs = first.shards().expect("verbs");
    verbs.add("two").await.expect("adds");
    until("the other follows", async || second.map().epoch == first.map().epoch).await;
    for name in names() {
        let request = wish(&name, 1);
        let fence = granted(&time, &first, &request).await.fence;
        time.advance(Duration::from_millis(5));
        assert_eq!(granted(&time, &second, &request).await.fence, fence);
        assert!(matches!(acquire(&time, &first, &wish(&name, 1)).await, Acquired::Held { .. }), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_again_for_less_time_loses_none_wherever_it_is_held() {
    let (time, first, second) = two_views_and_time().await;
    let mut held = Vec::new();
    let mut take = async |store: &ShardedStore, names: Vec<Name>| {
        for name in names {
            let request = wish(&name, 2);
            held.push((request.clone(), granted(&time, store, &request).await));
        }
    };
    let (before, after) = (names(), (40..80).map(|nth| super::make::name(&format!("lock-{nth}"))).collect());
    take(&first, before).await;
    first.shards().expect("verbs").add("two").await.expect("adds");
    until("the other follows", async || second.map().epoch == first.map().epoch).await;
    take(&second, after).await;
    time.advance(Duration::from_secs(5));
    for (request, grant) in &held {
        let shorter = LockRequest { ttl: Duration::from_secs(30), ..request.clone() };
        let again = granted(&time, &first, &shorter).await;
        assert_eq!((again.fence, again.until), (grant.fence, grant.until), "{}", request.name);
        let extended = second.extend(&request.name, request.holder, shorter.ttl).await.expect("extend").expect("held");
        assert_eq!((extended.fence, extended.until), (grant.fence, extended.now.after(shorter.ttl)));
        // Who else comes in is beside it.
        assert!(granted(&time, &first, &wish(&request.name, 2)).await.fence > grant.fence);
        assert!(matches!(acquire(&time, &second, &wish(&request.name, 2)).await, Acquired::Held { .. }));
    }
}

/// A shard whose clock is ahead goes: with it goes what it knows of the fences that it gave.
#[tokio::test(start_paused = true)]
async fn a_shard_goes_only_when_the_others_clocks_are_past_its_fences() {
    let (behind, ahead) = (TestClock::new(), TestClock::new());
    ahead.advance(Duration::from_secs(60));
    let store = grounds_of(vec![("zero", behind.clone()), ("one", ahead.clone())]).await;
    let mut fences = Vec::new();
    for name in names() {
        let request = wish(&name, 1);
        fences.push((name.clone(), granted(&behind, &store, &request).await.fence));
        assert!(store.release(&name, request.holder).await.expect("release"));
    }
    let verbs = store.shards().expect("verbs");
    verbs.drain(1, Some(0)).await.expect("drains");
    let refused = verbs.remove(1).await;
    assert!(refused.as_ref().is_err_and(|error| error.to_string().contains("clock")), "{refused:?}");
    // It goes on where it was.
    for (name, fence) in &mut fences {
        match store.acquire(&wish(name, 1)).await {
            Ok(Acquired::Granted(grant)) => {
                assert!(grant.fence > *fence);
                *fence = grant.fence;
                assert_eq!(store.break_lock(name, None).await.expect("break").len(), 1);
            }
            Err(error) => assert!(error.to_string().contains("clock"), "{error}"),
            other => panic!("{other:?}"),
        }
    }
    behind.advance(Duration::from_secs(61));
    verbs.remove(1).await.expect("removes");
    for (name, fence) in fences {
        assert!(granted(&behind, &store, &wish(&name, 1)).await.fence > fence, "{name}");
    }
}

/// Every call arrives late for as long as it is on.
struct Slow(AtomicBool);

impl Saboteur for Slow {
    fn travel(&self) -> Duration {
        if self.0.load(Ordering::SeqCst) { Duration::from_millis(500) } else { Duration::ZERO }
    }
}

/// Between the look at the old home and the wish there the holder goes, and another comes at the new home.
/// The moments of the other are tried one after the other, so that one of them is that between the two.
#[tokio::test(start_paused = true)]
async fn whoever_is_late_at_the_old_home_is_not_in_beside_the_one_at_the_new() {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let slow = Arc::new(Slow(false.into()));
    let (inner, saboteur) = (plain.clone(), slow.clone());
    let late: Opener = Arc::new(move |id, url| {
        let (opening, saboteur) = (inner(id, url), saboteur.clone());
        Box::pin(async move { Ok(Arc::new(FaultStore::new(opening.await?, saboteur)) as Arc<dyn Store>) })
    });
    let open = async |opener: Opener| {
        let options = ShardedOptions { opener, clock: clock.clone(), entropy: Arc::new(Count::new()), only: None };
        let map = Map::of_urls(&["zero".into(), "one".into()], Strategy::Hash);
        ShardedStore::open(map, options).await.expect("opens")
    };
    let parts = [plain(0, "zero".into()).await.expect("opens"), plain(1, "one".into()).await.expect("opens")];
    let (prompt, late) = (open(plain).await, open(late).await);
    let mut held = Vec::new();
    for name in names() {
        let request = wish(&name, 1);
        granted(&clock, &prompt, &request).await;
        held.push(request);
    }
    prompt.shards().expect("verbs").add("two").await.expect("adds");
    until("the other follows", async || late.map().epoch == prompt.map().epoch).await;
    held.retain(|request| prompt.map().home(request.name.as_str()) == Ok(2));
    for step in 0..60 {
        let request = &held[0];
        let (mine, theirs) = (wish(&request.name, 1), wish(&request.name, 1));
        slow.0.store(true, Ordering::SeqCst);
        let wants = async { late.acquire(&mine).await };
        let acts = async {
            tokio::time::sleep(Duration::from_millis(step * 100)).await;
            clock.advance(Duration::from_millis(5));
            drop(prompt.release(&request.name, request.holder).await);
            prompt.acquire(&theirs).await
        };
        let (late_got, prompt_got) = tokio::join!(wants, acts);
        slow.0.store(false, Ordering::SeqCst);
        let got = [late_got, prompt_got].into_iter().filter(|got| matches!(got, Ok(Acquired::Granted(_)))).count();
        let listed = prompt.locks(None, 1_000).await.expect("locks").1;
        let lock = listed.iter().find(|lock| lock.name == request.name);
        assert!(lock.is_none_or(|lock| lock.holders.len() <= 1), "{step}: {got} were told that they are in: {lock:?}");
        for holder in [mine.holder, theirs.holder] {
            prompt.release(&request.name, holder).await.expect("release");
        }
        // Held at its old home again, as before.
        let old = prompt.map().homes_before(request.name.as_str())[0];
        assert!(matches!(parts[usize::from(old)].acquire(request).await, Ok(Acquired::Granted(_))));
        tokio::time::sleep(Duration::from_secs(1)).await;
        clock.advance(Duration::from_secs(6));
    }
}

#[tokio::test(start_paused = true)]
async fn a_semaphore_never_has_more_holders_than_slots_while_its_home_changes() {
    let (time, first, second) = two_views_and_time().await;
    let mut inside: Vec<(Name, HolderId)> = Vec::new();
    for name in names() {
        for _ in 0..2 {
            let request = wish(&name, 3);
            granted(&time, &first, &request).await;
            inside.push((name.clone(), request.holder));
        }
    }
    first.shards().expect("verbs").add("two").await.expect("adds");
    until("the other follows", async || second.map().epoch == first.map().epoch).await;
    for name in names() {
        let mut got = 0;
        for store in [&first, &second, &first, &second] {
            got += u32::from(matches!(acquire(&time, store, &wish(&name, 3)).await, Acquired::Granted(_)));
        }
        assert_eq!(got, 1, "{name}: two were in");
        let listed = second.locks(None, 1_000).await.expect("locks").1;
        let lock = listed.iter().find(|lock| lock.name == name).expect("it is held");
        assert_eq!((lock.slots, lock.holders.len()), (3, 3));
    }
    for (name, holder) in inside {
        assert!(second.release(&name, holder).await.expect("release"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_goes_when_its_locks_are_released_and_the_fence_rises_on() {
    let (time, first, second) = two_views_and_time().await;
    let on_one = names().into_iter().find(|name| first.map().home(name.as_str()) == Ok(1)).expect("a name");
    let request = wish(&on_one, 1);
    let fence = granted(&time, &first, &request).await.fence;
    let verbs = first.shards().expect("verbs");
    verbs.drain(1, Some(0)).await.expect("drains");
    until("the other follows", async || second.map().epoch == first.map().epoch).await;
    let refused = verbs.remove(1).await;
    assert!(refused.as_ref().is_err_and(|error| error.to_string().contains("held lock")), "{refused:?}");
    assert!(matches!(acquire(&time, &second, &wish(&on_one, 1)).await, Acquired::Held { .. }));
    assert!(second.release(&on_one, request.holder).await.expect("release"));
    verbs.remove(1).await.expect("removes");
    // A removal takes longer.
    time.advance(Duration::from_secs(8));
    until("the other follows", async || second.map().epoch == first.map().epoch).await;
    assert!(granted(&time, &second, &wish(&on_one, 1)).await.fence > fence);
}

/// The new home's clock is behind the old one's: nobody is let in with a lower number.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_behind_makes_no_lower_fence() {
    let (ahead, behind) = (TestClock::new(), TestClock::new());
    ahead.advance(Duration::from_secs(60));
    let store = grounds_of(vec![("zero", ahead.clone()), ("one", ahead.clone()), ("two", behind.clone())]).await;
    let mut fences = Vec::new();
    for name in names() {
        let request = wish(&name, 1);
        fences.push((name.clone(), granted(&ahead, &store, &request).await.fence));
        assert!(store.release(&name, request.holder).await.expect("release"));
    }
    store.shards().expect("verbs").add("two").await.expect("adds");
    let mut late = 0;
    for (name, fence) in &fences {
        match store.acquire(&wish(name, 1)).await {
            Ok(Acquired::Granted(grant)) => assert!(grant.fence > *fence),
            Err(error) if error.to_string().contains("clock") => late += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(late > 3, "{late} of 40 names have moved");
    behind.advance(Duration::from_secs(61));
    for (name, fence) in fences {
        if let Acquired::Granted(grant) = acquire(&ahead, &store, &wish(&name, 1)).await {
            assert!(grant.fence > fence);
        }
    }
}
