//! Shards that are carried away while others act: carriers that are cut at every call, jobs and schedules
//! that change or go meanwhile. Nothing is lost, nothing is there twice,
//! nothing comes back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use goflow::domain::{EventKind, Job, JobId, JobState, Place, Shard, To};
use goflow::store::fault::{FaultStore, Saboteur};
use goflow::store::sharded::{Map, Opener, ShardedOptions, Strategy};
use goflow::store::*;

use super::backends::{Count, TestClock};
use super::make::*;
use super::sharded_alone::{born, fresh, grounds, until};

/// A process that dies at its n-th call, before or after it was done.
pub struct Cut {
    calls: AtomicU64,
    nth: u64,
    after: bool,
    armed: AtomicBool,
}

impl Cut {
    pub fn new(nth: u64, after: bool) -> Cut {
        Cut { calls: 0.into(), nth, after, armed: false.into() }
    }

    pub fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    fn dead() -> goflow::store::Result<()> {
        Err(StoreError::Refused("this process is dead".into()))
    }

    pub fn is_over(&self) -> bool {
        self.calls.load(Ordering::SeqCst) > self.nth
    }
}

impl Saboteur for Cut {
    fn before(&self, _: bool) -> goflow::store::Result<()> {
        if !self.armed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let nth = self.calls.fetch_add(1, Ordering::SeqCst);
        if nth > self.nth || (nth == self.nth && !self.after) { Cut::dead() } else { Ok(()) }
    }

    fn after(&self, _: bool) -> goflow::store::Result<()> {
        if self.armed.load(Ordering::SeqCst) && self.calls.load(Ordering::SeqCst) > self.nth {
            Cut::dead()
        } else {
            Ok(())
        }
    }
}

pub async fn opened(opener: Opener, clock: Arc<TestClock>) -> ShardedStore {
    let options = ShardedOptions { opener, clock, entropy: Arc::new(Count::from(fresh())), only: None };
    let map = Map::of_urls(&["zero".into(), "one".into(), "two".into()], Strategy::RoundRobin);
    ShardedStore::open(map, options).await.expect("opens")
}

pub async fn carry_all(store: &ShardedStore, shard: u16) {
    let verbs = store.shards().expect("verbs");
    while !verbs.carry(shard).await.expect("carries").is_nothing() {}
}

pub fn schedule(name: &str, from_rev: u64, body: Option<&str>) -> ScheduleCommit {
    let next = body.map(|body| (Some(BIRTH), body.as_bytes().to_vec()));
    ScheduleCommit { next, ..ScheduleCommit::deleting(&super::make::name(name), from_rev) }
}

pub async fn bodies(store: &dyn Store, name: &str) -> Vec<String> {
    let all = store.schedules().await.expect("schedules").1;
    let of = all.into_iter().filter(|record| record.name.as_str() == name);
    of.map(|record| String::from_utf8_lossy(&record.body).into_owned()).collect()
}

/// A schedule name that is at home on this shard of three.
pub fn name_on(store: &dyn Store, shard: u16, from: usize) -> String {
    let fits = |name: &String| store.birthplace(Near::Schedule(&super::make::name(name))) == Shard(shard);
    (from..).map(|nth| format!("s{nth}")).find(fits).expect("a name")
}

/// Plays one drain whose carrier dies at its n-th call; whether it died.
async fn cut_at(nth: u64, after: bool) -> bool {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let cut = Arc::new(Cut::new(nth, after));
    let (inner, saboteur) = (plain.clone(), cut.clone());
    let faulty: Opener = Arc::new(move |id, url| {
        let (opening, saboteur) = (inner(id, url), saboteur.clone());
        Box::pin(async move { Ok(Arc::new(FaultStore::new(opening.await?, saboteur)) as Arc<dyn Store>) })
    });
    let heir = opened(plain, clock.clone()).await;
    let victim = opened(faulty, clock.clone()).await;
    let on_one = || born(&heir, Near::Shard(Shard(1)));
    let worker = hired(&heir).await;
    let ended = [on_one(), Job { unique_key: Some("was".into()), ..on_one() }];
    // The second one's key need not be at home there: it has ended, and holds nothing.
    let key = (0..).map(|n| format!("k{n}")).find(|key| heir.birthplace(Near::Key(key)) == Shard(1)).expect("a key");
    let ended = [ended[0].clone(), Job { unique_key: Some(key.clone()), ..ended[1].clone() }];
    enqueue(&heir, ended.iter().cloned().map(now).collect()).await;
    for (one, outcome) in claim(&heir, worker, 2).await.iter().zip([done(), hopeless()]) {
        assert_eq!(make(&heir, settle(one, outcome)).await, Moved::Applied);
    }
    let mut ids: BTreeSet<JobId> = ended.iter().map(|job| job.id).collect();
    for nth in 0..4 {
        let job = on_one();
        ids.insert(job.id);
        let new = if nth == 3 { later(job, Duration::from_secs(60)) } else { now(job) };
        assert_eq!(enqueue(&heir, vec![new]).await, [Enqueued::Created]);
    }
    // One waits for another that is due later.
    let parent = on_one();
    let child = Job { after: vec![parent.id], ..on_one() };
    ids.extend([parent.id, child.id]);
    enqueue(&heir, vec![later(parent.clone(), Duration::from_secs(3_600)), now(child.clone())]).await;
    let cron = name_on(&heir, 1, 0);
    heir.set_schedule(&schedule(&cron, 0, Some("body"))).await.expect("set").expect("it is new");
    heir.shards().expect("verbs").drain(1, Some(0)).await.expect("drains");
    until("the victim follows", async || victim.map().epoch == heir.map().epoch).await;

    cut.armed.store(true, Ordering::SeqCst);
    let verbs = victim.shards().expect("verbs");
    while verbs.carry(1).await.is_ok_and(|carried| !carried.is_nothing()) {}
    let died = cut.is_over();
    drop(victim);
    // At each moment a job is seen once, as what it is.
    let seen = heir.get(&ids.iter().copied().collect::<Vec<_>>()).await.expect("get");
    assert!(seen.iter().all(Option::is_some), "{nth} {after}: {seen:#?}");
    assert_eq!(bodies(&heir, &cron).await, ["body"], "{nth} {after}");
    // Somebody else goes on: the keeper with what was begun, a command with the rest.
    if nth.is_multiple_of(2) {
        clock.advance(Duration::from_secs(11));
        tokio::time::sleep(Duration::from_secs(6)).await;
    }
    carry_all(&heir, 1).await;
    assert_eq!(heir.shards().expect("verbs").left(1).await.expect("left").all(), 0, "{nth} {after}");
    heir.shards().expect("verbs").remove(1).await.expect("removes");
    let mut there = Vec::new();
    for place in [Place::Pending, Place::Scheduled, Place::Held, Place::Dead, Place::Completed] {
        there.extend(super::make::ids(&heir, place).await);
    }
    assert_eq!(place(&heir, child.id).await, Place::Held, "{nth} {after}");
    assert_eq!(heir.freed(10).await.expect("freed"), [], "{nth} {after}");
    assert_eq!(there.len(), ids.len(), "{nth} {after}: each once");
    assert_eq!(there.into_iter().collect::<BTreeSet<_>>(), ids);
    assert_eq!(bodies(&heir, &cron).await, ["body"], "{nth} {after}");
    for store in [&heir] {
        assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
    }
    died
}

#[tokio::test(start_paused = true)]
async fn a_carrier_that_dies_anywhere_leaves_everything_once() {
    for after in [false, true] {
        let mut deaths = 0;
        for nth in 0.. {
            if !cut_at(nth, after).await {
                break;
            }
            deaths += 1;
        }
        assert!(deaths > 20, "only {deaths} calls");
    }
}

/// A batch that was cut is finished though nobody says the command again.
#[tokio::test(start_paused = true)]
async fn what_a_dead_carrier_left_is_finished_by_whoever_lives() {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let store = opened(plain.clone(), clock.clone()).await;
    let parts = [plain(0, "zero".into()).await.expect("opens"), plain(1, "one".into()).await.expect("opens")];
    let id = put(&store, born(&store, Near::Shard(Shard(1)))).await;
    store.shards().expect("verbs").drain(1, Some(0)).await.expect("drains");
    for calls in [5, 8] {
        let cut = Arc::new(Cut::new(calls, true));
        let (inner, saboteur) = (plain.clone(), cut.clone());
        let faulty: Opener = Arc::new(move |id, url| {
            let (opening, saboteur) = (inner(id, url), saboteur.clone());
            Box::pin(async move { Ok(Arc::new(FaultStore::new(opening.await?, saboteur)) as Arc<dyn Store>) })
        });
        let victim = opened(faulty, clock.clone()).await;
        cut.armed.store(true, Ordering::SeqCst);
        drop(victim.shards().expect("verbs").carry(1).await);
    }
    clock.advance(Duration::from_secs(60));
    until("it has landed, and nothing is left of it", async || {
        let [there, here] = [stored_on(&*parts[0], id).await, stored_on(&*parts[1], id).await];
        here.is_none() && there.is_some_and(|there| there.place == Place::Pending)
    })
    .await;
}

pub async fn stored_on(store: &dyn Store, id: JobId) -> Option<Stored> {
    store.get(&[id]).await.expect("get").remove(0)
}

/// A store that stops before it sets anything aside.
pub async fn stops_before_setting_aside(plain: Opener, clock: Arc<TestClock>) -> (ShardedStore, Arc<Stops>) {
    let stops = Arc::new(Stops { is_on: false.into(), held: false.into() });
    let saboteur = stops.clone();
    let faulty: Opener = Arc::new(move |id, url| {
        let (opening, saboteur) = (plain(id, url), saboteur.clone());
        Box::pin(async move {
            let store = opening.await?;
            // Only where it was: what goes to the other shard goes through.
            if id == 1 { Ok(Arc::new(FaultStore::new(store, saboteur)) as Arc<dyn Store>) } else { Ok(store) }
        })
    });
    (opened(faulty, clock).await, stops)
}

/// Commits are held on their way for as long as it is on.
pub struct Stops {
    pub is_on: AtomicBool,
    pub held: AtomicBool,
}

impl Saboteur for Stops {
    fn before(&self, is_commit: bool) -> goflow::store::Result<()> {
        self.held.store(is_commit && self.is_on.load(Ordering::SeqCst), Ordering::SeqCst);
        Ok(())
    }

    fn travel(&self) -> Duration {
        // Longer than it takes to act, and shorter than a call may take.
        if self.held.load(Ordering::SeqCst) { Duration::from_secs(5) } else { Duration::ZERO }
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_goes_while_it_is_carried_does_not_come_back() {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let (carrier, stops) = stops_before_setting_aside(plain.clone(), clock.clone()).await;
    let other = opened(plain, clock.clone()).await;
    let [gone, changed, stays] = [0; 3].map(|_| born(&other, Near::Shard(Shard(1))));
    enqueue(&other, [&gone, &changed, &stays].map(|job| now(job.clone())).to_vec()).await;
    other.shards().expect("verbs").drain(1, Some(0)).await.expect("drains");
    until("the carrier follows", async || carrier.map().epoch == other.map().epoch).await;
    stops.is_on.store(true, Ordering::SeqCst);
    let carry = async { carrier.shards().expect("verbs").carry(1).await.expect("carries") };
    let act = async {
        let (seen, id) = (&other, gone.id);
        until("the copies are made, and nothing else", async || {
            let there = seen.find(&id.to_string().replace('-', ""), 5).await.expect("find");
            !there.is_empty() && stops.held.load(Ordering::SeqCst)
        })
        .await;
        let step = idle(&stored(&other, gone.id).await, To::Gone, EventKind::JobDeleted);
        assert_eq!(make(&other, step).await, Moved::Applied);
        let step = idle(&stored(&other, changed.id).await, To::Cancelled, EventKind::JobCancelled);
        assert_eq!(make(&other, step).await, Moved::Applied);
    };
    tokio::join!(carry, act);
    stops.is_on.store(false, Ordering::SeqCst);
    carry_all(&carrier, 1).await;
    assert_eq!(other.get(&[gone.id]).await.expect("get"), [None]);
    assert_eq!(place(&other, changed.id).await, Place::Cancelled);
    assert_eq!(place(&other, stays.id).await, Place::Pending);
    other.shards().expect("verbs").remove(1).await.expect("removes");
    assert_eq!(super::make::ids(&other, Place::Scheduled).await, []);
    assert_eq!(other.verify().await.expect("verify"), Vec::<String>::new());
}

/// A job that is to follow another comes while that one is being carried away.
#[tokio::test(start_paused = true)]
async fn what_follows_a_job_that_is_carried_away_is_freed_when_that_has_ended() {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let (carrier, stops) = stops_before_setting_aside(plain.clone(), clock.clone()).await;
    let other = opened(plain, clock.clone()).await;
    let parent = put(&other, born(&other, Near::Shard(Shard(1)))).await;
    other.shards().expect("verbs").drain(1, Some(0)).await.expect("drains");
    until("the carrier follows", async || carrier.map().epoch == other.map().epoch).await;
    stops.is_on.store(true, Ordering::SeqCst);
    let child = Job { after: vec![parent], ..born(&other, Near::Shard(Shard(1))) };
    let carry = async { carrier.shards().expect("verbs").carry(1).await.expect("carries") };
    let act = async {
        until("the parent is about to be set aside", async || stops.held.load(Ordering::SeqCst)).await;
        assert_eq!(enqueue(&other, vec![now(child.clone())]).await, [Enqueued::Created]);
    };
    let (carried, ()) = tokio::join!(carry, act);
    stops.is_on.store(false, Ordering::SeqCst);
    assert_eq!(carried.jobs, 1);
    assert_eq!(place(&other, child.id).await, Place::Held);
    assert_eq!(other.freed(10).await.expect("freed"), [], "its parent lives on another shard");
    let worker = hired(&other).await;
    let claimed = claim_one(&other, worker).await;
    assert_eq!(claimed.job.id, parent);
    assert_eq!(make(&other, settle(&claimed, done())).await, Moved::Applied);
    let freed = other.freed(10).await.expect("freed");
    assert_eq!((freed.len(), freed[0].parent, freed[0].state), (1, parent, Some(JobState::Completed)));
    assert_eq!(freed[0].children[0].job.id, child.id);
}

/// Jobs that wait for others go with these, once none of them runs, and go on waiting.
#[tokio::test(start_paused = true)]
async fn what_waits_for_others_is_carried_with_them() {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let store = opened(plain.clone(), clock.clone()).await;
    let there = plain(0, "zero".into()).await.expect("opens");
    let on_one = |after: Vec<JobId>| Job { after, ..born(&store, Near::Shard(Shard(1))) };
    let worker = hired(&store).await;
    let runs = put(&store, on_one(vec![])).await;
    let claimed = claim_one(&store, worker).await;
    let (first, second) = (on_one(vec![]), on_one(vec![]));
    let both = on_one(vec![first.id, second.id]);
    let last = on_one(vec![both.id]);
    let waits = on_one(vec![runs]);
    let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3_600));
    let jobs = vec![
        later(first.clone(), minute),
        later(second.clone(), hour),
        now(both.clone()),
        now(last.clone()),
        now(waits.clone()),
    ];
    enqueue(&store, jobs).await;
    let verbs = store.shards().expect("verbs");
    verbs.drain(1, Some(0)).await.expect("drains");
    carry_all(&store, 1).await;
    let told = verbs.carry(1).await.expect("carries");
    assert_eq!((told.is_nothing(), told.held), (true, 1));
    assert_eq!(place(&*there, both.id).await, Place::Held);
    assert_eq!(stored(&*there, both.id).await.job.after, [first.id, second.id]);
    assert_eq!(place(&*there, last.id).await, Place::Held);
    assert_eq!(store.freed(10).await.expect("freed"), []);
    assert!(verbs.remove(1).await.is_err(), "one runs there, and one waits for it");
    // What ran has ended; who waited for it is freed, and goes.
    assert_eq!(make(&store, settle(&claimed, done())).await, Moved::Applied);
    carry_all(&store, 1).await;
    assert_eq!(verbs.left(1).await.expect("left"), Left::default());
    let freed = store.freed(10).await.expect("freed");
    assert_eq!((freed.len(), freed[0].parent, freed[0].children[0].job.id), (1, runs, waits.id));
    verbs.remove(1).await.expect("removes");
    // There each is freed by the end of the last that it waits for.
    for (time, parent) in [(minute, first.id), (hour, second.id)] {
        clock.advance(time);
        let claimed = claim_one(&store, worker).await;
        assert_eq!(claimed.job.id, parent);
        assert_eq!(make(&store, settle(&claimed, done())).await, Moved::Applied);
    }
    let freed = store.freed(10).await.expect("freed");
    let parents: BTreeSet<JobId> = freed.iter().map(|one| one.parent).collect();
    assert_eq!(parents, BTreeSet::from([runs, first.id, second.id]));
    let of_both = freed.iter().filter(|one| one.children.iter().any(|child| child.job.id == both.id)).count();
    assert_eq!(of_both, 2);
    assert_eq!(place(&store, last.id).await, Place::Held);
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
}

/// Where others are carried to is not taken away under them.
#[tokio::test(start_paused = true)]
async fn a_shard_to_which_another_is_carried_stays_until_that_is_gone() {
    let clock = TestClock::new();
    let store = opened(grounds(clock.clone()), clock.clone()).await;
    let verbs = store.shards().expect("verbs");
    verbs.drain(2, Some(1)).await.expect("drains");
    verbs.drain(1, Some(0)).await.expect("drains");
    let refused = verbs.remove(1).await.expect_err("shard 2 goes there");
    assert!(matches!(&refused, StoreError::Refused(why) if why.contains("remove 2 first")), "{refused:?}");
    verbs.remove(2).await.expect("removes");
    verbs.remove(1).await.expect("removes");
    assert_eq!(store.map().route(Shard(2)), Ok(0));
}

/// Whoever finishes what a dead carrier has left translates times by the clocks of both shards, though it has
/// asked neither of them for anything before.
#[tokio::test(start_paused = true)]
async fn times_go_by_the_clocks_of_both_shards_though_their_carrier_died() {
    for nth in 0.. {
        let (clock, ahead) = (TestClock::new(), TestClock::new());
        ahead.advance(Duration::from_secs(3_600));
        let parts: [Arc<dyn Store>; 3] =
            [&clock, &ahead, &clock].map(|clock| Arc::new(MemoryStore::new(clock.clone())) as Arc<dyn Store>);
        let known = parts.clone();
        let plain: Opener = Arc::new(move |id, _| {
            let store = known[usize::from(id)].clone();
            Box::pin(async move { Ok(store) })
        });
        let first = opened(plain.clone(), clock.clone()).await;
        let job = born(&first, Near::Shard(Shard(1)));
        enqueue(&first, vec![later(job.clone(), Duration::from_secs(600))]).await;
        first.shards().expect("verbs").drain(1, Some(0)).await.expect("drains");
        drop(first);
        let (victim, cut) = mortal(&plain, &clock, nth).await;
        cut.arm();
        while victim.shards().expect("verbs").carry(1).await.is_ok_and(|carried| !carried.is_nothing()) {}
        let died = cut.is_over();
        drop(victim);
        [&clock, &ahead].iter().for_each(|clock| clock.advance(Duration::from_secs(11)));
        let heir = opened(plain.clone(), clock.clone()).await;
        tokio::time::sleep(Duration::from_secs(6)).await;
        let side = |stored: &Stored| stored.job.metadata.keys().any(|key| key.starts_with("goflow:"));
        match stored_on(&*parts[0], job.id).await.filter(|stored| !side(stored)) {
            Some(landed) => {
                let left = landed.at.since(BIRTH);
                assert!((595..=600).contains(&left.as_secs()), "{nth}: due {left:?} after its birth");
            }
            // Then it has not left.
            None => assert!(stored_on(&*parts[1], job.id).await.is_some(), "{nth}"),
        }
        drop(heir);
        if !died {
            assert!(nth > 10, "only {nth} calls");
            break;
        }
    }
}

/// A carrier that dies at its n-th call.
pub async fn mortal(plain: &Opener, clock: &Arc<TestClock>, nth: u64) -> (ShardedStore, Arc<Cut>) {
    let cut = Arc::new(Cut { calls: 0.into(), nth, after: true, armed: false.into() });
    let (inner, saboteur) = (plain.clone(), cut.clone());
    let faulty: Opener = Arc::new(move |id, url| {
        let (opening, saboteur) = (inner(id, url), saboteur.clone());
        Box::pin(async move { Ok(Arc::new(FaultStore::new(opening.await?, saboteur)) as Arc<dyn Store>) })
    });
    (opened(faulty, clock.clone()).await, cut)
}

/// A carrier dies at its n-th call, and then the schedule is deleted by whoever sees it.
async fn deleted_at(nth: u64) -> bool {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let store = opened(plain.clone(), clock.clone()).await;
    let cron = name_on(&store, 1, 0);
    store.set_schedule(&schedule(&cron, 0, Some("body"))).await.expect("set").expect("new");
    store.shards().expect("verbs").drain(1, Some(0)).await.expect("drains");
    let (victim, cut) = mortal(&plain, &clock, nth).await;
    cut.armed.store(true, Ordering::SeqCst);
    let verbs = victim.shards().expect("verbs");
    while verbs.carry(1).await.is_ok_and(|carried| !carried.is_nothing()) {}
    let died = cut.is_over();
    drop(victim);
    let (_, records) = store.schedules().await.expect("schedules");
    let seen: Vec<_> = records.iter().filter(|record| record.name.as_str() == cron).collect();
    assert_eq!(seen.len(), 1, "{nth}");
    let end = ScheduleCommit::deleting(&super::make::name(&cron), seen[0].rev);
    let is_gone = store.set_schedule(&end).await.expect("set").is_some();
    carry_all(&store, 1).await;
    assert_eq!(bodies(&store, &cron).await.len(), usize::from(!is_gone), "{nth}: deleted: {is_gone}");
    assert_eq!(store.shards().expect("verbs").left(1).await.expect("left").all(), 0, "{nth}");
    died
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_goes_while_it_is_carried_does_not_come_back() {
    let mut nth = 0;
    while deleted_at(nth).await {
        nth += 1;
    }
    assert!(nth > 10, "only {nth} calls");
}

#[tokio::test(start_paused = true)]
async fn schedules_carried_from_two_shards_are_there_once() {
    let clock = TestClock::new();
    let plain = grounds(clock.clone());
    let store = opened(plain.clone(), clock.clone()).await;
    let names = [name_on(&store, 1, 0), name_on(&store, 2, 0)];
    for name in &names {
        store.set_schedule(&schedule(name, 0, Some(name))).await.expect("set").expect("new");
    }
    let verbs = store.shards().expect("verbs");
    verbs.drain(1, Some(0)).await.expect("drains");
    verbs.drain(2, Some(0)).await.expect("drains");
    let part = plain(0, "zero".into()).await.expect("opens");
    // One carrier has made its copies and died. The other shard's carrier is none of their business.
    for calls in 0..16 {
        let (victim, cut) = mortal(&plain, &clock, calls).await;
        cut.armed.store(true, Ordering::SeqCst);
        drop(victim.shards().expect("verbs").carry(1).await);
        drop(victim);
        carry_all(&store, 2).await;
        for name in &names {
            assert_eq!(bodies(&store, name).await, std::slice::from_ref(name), "{calls}");
        }
    }
    carry_all(&store, 1).await;
    for name in &names {
        assert_eq!(bodies(&*part, name).await, std::slice::from_ref(name), "on the shard that both were carried to");
        // Whoever knew where it lay changes it where it lies.
        let (_, records) = store.schedules().await.expect("schedules");
        let rev = records.iter().find(|record| record.name.as_str() == name).expect("it is there").rev;
        store.set_schedule(&schedule(name, rev, Some("new"))).await.expect("set").expect("changed");
        assert_eq!(bodies(&store, name).await, ["new"]);
    }
    for shard in [1, 2] {
        assert_eq!(verbs.left(shard).await.expect("left").all(), 0);
        verbs.remove(shard).await.expect("removes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_stays_taken_though_its_job_is_carried() {
    let clock = TestClock::new();
    let store = opened(grounds(clock.clone()), clock.clone()).await;
    let key = (0..).map(|n| format!("k{n}")).find(|key| store.birthplace(Near::Key(key)) == Shard(1)).expect("a key");
    let unique = |store: &dyn Store| Job { unique_key: Some(key.clone()), ..born(store, Near::Key(&key)) };
    let first = unique(&store);
    let new = NewJob { unique_for: Some(Duration::from_secs(3_600)), ..now(first.clone()) };
    assert_eq!(enqueue(&store, vec![new]).await, [Enqueued::Created]);
    let worker = hired(&store).await;
    let claimed = claim_one(&store, worker).await;
    assert_eq!(make(&store, settle(&claimed, done())).await, Moved::Applied);
    store.shards().expect("verbs").drain(1, Some(0)).await.expect("drains");
    carry_all(&store, 1).await;
    store.shards().expect("verbs").remove(1).await.expect("removes");
    assert_eq!(stored(&store, first.id).await.job.unique_key, Some(key.clone()));
    assert_eq!(enqueue(&store, vec![now(unique(&store))]).await, [Enqueued::Conflict(first.id)]);
    clock.advance(Duration::from_secs(3_700));
    assert_eq!(enqueue(&store, vec![now(unique(&store))]).await, [Enqueued::Created]);
}

/// What was carried to a shard that is emptied in its turn is found, moved and held to its key.
#[tokio::test(start_paused = true)]
async fn what_was_carried_twice_is_found_and_its_key_stays_taken() {
    let clock = TestClock::new();
    let store = opened(grounds(clock.clone()), clock.clone()).await;
    let key = (0..).map(|n| format!("k{n}")).find(|key| store.birthplace(Near::Key(key)) == Shard(2)).expect("a key");
    let unique = |store: &dyn Store| Job { unique_key: Some(key.clone()), ..born(store, Near::Key(&key)) };
    let first = put(&store, unique(&store)).await;
    let other = put(&store, born(&store, Near::Shard(Shard(2)))).await;
    let verbs = store.shards().expect("verbs");
    for (from, into) in [(2, 1), (1, 0)] {
        verbs.drain(from, Some(into)).await.expect("drains");
        carry_all(&store, from).await;
    }
    assert_eq!(place(&store, first).await, Place::Pending);
    assert_eq!(enqueue(&store, vec![now(unique(&store))]).await, [Enqueued::Conflict(first)]);
    let step = idle(&stored(&store, other).await, To::Cancelled, EventKind::JobCancelled);
    assert_eq!(make(&store, step).await, Moved::Applied);
    assert_eq!(store.ask(&[first]).await.expect("ask"), [true]);
}
