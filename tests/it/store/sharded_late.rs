//! Carriers that come late, and shards that keep what nobody can read: neither takes anything away, nor holds
//! up what is left elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use goflow::domain::{Place, QueueSettings, Shard};
use goflow::store::fault::{FaultStore, Saboteur};
use goflow::store::sharded::Opener;
use goflow::store::*;

use super::backends::TestClock;
use super::make::*;
use super::sharded_alone::{born, grounds, until};
use super::sharded_moves::{bodies, carry_all, mortal, name_on, opened, schedule, stored_on};

/// One call is late, or each is.
#[derive(Default)]
struct Late {
    armed: AtomicBool,
    calls: AtomicU64,
    /// The one that is late; each, if there is none.
    nth: Option<u64>,
    by: Duration,
    is_on: AtomicBool,
}

impl Saboteur for Late {
    fn before(&self, _: bool) -> goflow::store::Result<()> {
        if self.armed.load(Ordering::SeqCst) {
            let call = self.calls.fetch_add(1, Ordering::SeqCst);
            self.is_on.store(self.nth.is_none_or(|nth| nth == call), Ordering::SeqCst);
        }
        Ok(())
    }

    /// On its way there, not on its way back.
    fn travel(&self) -> Duration {
        if self.is_on.swap(false, Ordering::SeqCst) { self.by } else { Duration::ZERO }
    }
}

async fn late(plain: &Opener, clock: &Arc<TestClock>, late: Late) -> (ShardedStore, Arc<Late>) {
    let (plain, late) = (plain.clone(), Arc::new(late));
    let saboteur = late.clone();
    let opener: Opener = Arc::new(move |id, url| {
        let (opening, saboteur) = (plain(id, url), saboteur.clone());
        Box::pin(async move {
            let store = opening.await?;
            // Only where it goes to.
            if id == 0 { Ok(Arc::new(FaultStore::new(store, saboteur)) as Arc<dyn Store>) } else { Ok(store) }
        })
    });
    (opened(opener, clock.clone()).await, late)
}

/// A schedule has changed since it was copied. Two carriers see that: one is late with its n-th call, and the
/// other goes on meanwhile. Whether there was such a call.
async fn late_at(nth: u64, by: Duration) -> bool {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let heir = opened(plain.clone(), clock.clone()).await;
    let parts = [plain(0, "zero".into()).await.expect("opens"), plain(1, "one".into()).await.expect("opens")];
    let cron = name_on(&heir, 1, 0);
    heir.set_schedule(&schedule(&cron, 0, Some("old"))).await.expect("set").expect("it is new");
    heir.shards().expect("verbs").drain(1, Some(0)).await.expect("drains");
    // Somebody has made a copy, and died.
    for calls in 0.. {
        let (victim, cut) = mortal(&plain, &clock, calls).await;
        cut.arm();
        drop(victim.shards().expect("verbs").carry(1).await);
        if !bodies(&*parts[0], &cron).await.is_empty() {
            break;
        }
    }
    assert_eq!(bodies(&*parts[1], &cron).await, ["old"], "it is not set aside yet");
    let (_, records) = heir.schedules().await.expect("schedules");
    let rev = records.iter().find(|record| record.name.as_str() == cron).expect("it is there").rev;
    heir.set_schedule(&schedule(&cron, rev, Some("new"))).await.expect("set").expect("it changes");

    let (slow, each) = late(&plain, &clock, Late { by: Duration::from_millis(20), ..Late::default() }).await;
    let (tardy, one) = late(&plain, &clock, Late { nth: Some(nth), by, ..Late::default() }).await;
    each.armed.store(true, Ordering::SeqCst);
    one.armed.store(true, Ordering::SeqCst);
    let comes_late = async { drop(tardy.shards().expect("verbs").carry(1).await) };
    tokio::join!(comes_late, carry_all(&slow, 1));
    let was_late = one.calls.load(Ordering::SeqCst) > nth;
    drop((slow, tardy));
    carry_all(&heir, 1).await;
    assert_eq!(bodies(&heir, &cron).await, ["new"], "call {nth} was {by:?} late");
    assert_eq!(bodies(&*parts[0], &cron).await, ["new"], "call {nth} was {by:?} late");
    assert_eq!(bodies(&*parts[1], &cron).await, [""; 0], "call {nth} was {by:?} late");
    was_late
}

#[tokio::test(start_paused = true)]
async fn a_carrier_that_is_late_takes_no_schedule_away() {
    let mut calls = 0;
    for nth in 0..4 {
        // Over before the keepers look again, which would be quicker than either.
        for step in 0..30 {
            calls += u64::from(late_at(nth, Duration::from_millis(step * 10 + 5)).await);
        }
    }
    assert!(calls > 80, "only {calls} calls were late");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_on_one_shard_holds_up_no_other() {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let store = opened(plain.clone(), clock.clone()).await;
    let parts = [plain(0, "zero".into()).await.expect("opens"), plain(1, "one".into()).await.expect("opens")];
    let second = plain(2, "two".into()).await.expect("opens");
    let id = put(&store, born(&store, Near::Shard(Shard(2)))).await;
    let verbs = store.shards().expect("verbs");
    verbs.drain(1, Some(0)).await.expect("drains");
    verbs.drain(2, Some(0)).await.expect("drains");
    let broken = schedule("goflow:carry.0000000000000001", 0, Some("not what it should be"));
    parts[1].set_schedule(&broken).await.expect("set").expect("it is new");
    // A carrier of the other has made its copy, and died.
    for calls in 0.. {
        let (victim, cut) = mortal(&plain, &clock, calls).await;
        cut.arm();
        drop(victim.shards().expect("verbs").carry(2).await);
        if stored_on(&*parts[0], id).await.is_some() {
            break;
        }
    }
    clock.advance(Duration::from_secs(60));
    until("it is finished though the first cannot be", async || {
        let [there, here] = [stored_on(&*parts[0], id).await, stored_on(&*second, id).await];
        here.is_none() && there.is_some_and(|there| there.place == Place::Pending)
    })
    .await;
    assert_eq!(
        bodies(&*parts[1], "goflow:carry.0000000000000001").await.len(),
        1,
        "nobody touched what it cannot read"
    );
}

async fn shares(parts: &[Arc<dyn Store>], queue: &str) -> Vec<u32> {
    let mut shares = Vec::new();
    for part in parts {
        let queues = part.queues().await.expect("queues");
        shares
            .extend(queues.into_iter().filter(|(one, _)| one.as_str() == queue).filter_map(|(_, set)| set.concurrency));
    }
    shares
}

/// A limit that does not go up evenly is divided anew while the new shard has no work yet.
#[tokio::test(start_paused = true)]
async fn a_new_shard_takes_work_only_when_it_has_its_share_of_a_limit() {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let (slow, each) = late(&plain, &clock, Late { by: Duration::from_secs(1), ..Late::default() }).await;
    let other = opened(plain.clone(), clock.clone()).await;
    let limited = QueueSettings { concurrency: Some(4), ..QueueSettings::default() };
    other.set_queue(&name("narrow"), &limited).await.expect("set");
    let mut parts = Vec::new();
    for (id, url) in [(0, "zero"), (1, "one"), (2, "two"), (3, "three")] {
        parts.push(plain(id, url.into()).await.expect("opens"));
    }
    assert_eq!(shares(&parts, "narrow").await, [2, 1, 1]);
    each.armed.store(true, Ordering::SeqCst);
    let adds = async { slow.shards().expect("verbs").add("three").await.expect("adds") };
    let looks = async {
        until("it takes work", async || other.map().active().contains(&3)).await;
        assert_eq!(shares(&parts, "narrow").await, [1, 1, 1, 1]);
    };
    tokio::join!(adds, looks);
    assert_eq!(shares(&parts, "narrow").await, [1, 1, 1, 1]);
}
