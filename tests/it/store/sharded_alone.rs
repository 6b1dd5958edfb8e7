//! What a sharded store promises beyond the contract: work is spread and found again, keys stay together, a
//! dead shard stalls nobody, shards come and go while work goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use goflow::domain::job::Concurrency;
use goflow::domain::{Job, JobId, Name, Place, QueueSettings, Shard};
use goflow::store::fault::{FaultStore, Saboteur};
use goflow::store::sharded::{Map, Opener, ShardedOptions, Strategy};
use goflow::store::*;

use super::backends::{Count, TestClock, sharded_over};
use super::make::*;

/// A shard that can be switched off.
#[derive(Default)]
struct Switch(AtomicBool);

impl Saboteur for Switch {
    fn before(&self, _: bool) -> goflow::store::Result<()> {
        match self.0.load(Ordering::SeqCst) {
            true => Err(StoreError::Unavailable("switched off".into())),
            false => Ok(()),
        }
    }
}

pub(super) struct Ground {
    pub store: ShardedStore,
    pub parts: Vec<Arc<dyn Store>>,
    switches: Vec<Arc<Switch>>,
}

pub(super) async fn ground(shards: usize, strategy: Strategy) -> Ground {
    let clock = TestClock::new();
    let parts: Vec<Arc<dyn Store>> =
        (0..shards).map(|_| Arc::new(MemoryStore::new(clock.clone())) as Arc<dyn Store>).collect();
    let switches: Vec<Arc<Switch>> = (0..shards).map(|_| Arc::default()).collect();
    let faulty = parts.iter().zip(&switches);
    let faulty = faulty.map(|(part, switch)| Arc::new(FaultStore::new(part.clone(), switch.clone())) as Arc<dyn Store>);
    let store = sharded_over(faulty.collect(), clock, strategy).await;
    Ground { store, parts, switches }
}

/// A job that is born where the store says.
pub(super) fn born(store: &dyn Store, near: Near<'_>) -> Job {
    let id = JobId::from_parts(BIRTH, store.birthplace(near), job_id().created_at().0 as u64 ^ fresh());
    Job { id, ..job() }
}

pub(super) fn fresh() -> u64 {
    u64::from_be_bytes(job_id().as_bytes()[8..].try_into().expect("eight bytes"))
}

pub async fn fill(store: &dyn Store, n: usize) -> Vec<JobId> {
    let jobs: Vec<NewJob> = (0..n).map(|_| now(born(store, Near::Nothing))).collect();
    let ids = jobs.iter().map(|new| new.job.id).collect();
    assert_eq!(enqueue(store, jobs).await, vec![Enqueued::Created; n]);
    ids
}

pub(super) async fn pending(store: &dyn Store) -> u64 {
    store.stats().await.expect("stats").iter().map(|queue| queue.pending).sum()
}

/// Waits for something that comes in its own time.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(tokio::time::Instant::now() < end, "{what}: not within 20 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn work_is_spread_found_claimed_and_settled() {
    let Ground { store, parts, .. } = ground(3, Strategy::RoundRobin).await;
    let ids = fill(&store, 300).await;
    for part in &parts {
        assert_eq!(pending(&**part).await, 100);
    }
    let found = store.get(&ids).await.expect("get");
    assert!(found.iter().zip(&ids).all(|(stored, id)| stored.as_ref().is_some_and(|stored| stored.job.id == *id)));
    let listed: BTreeSet<JobId> = super::make::ids(&store, Place::Pending).await.into_iter().collect();
    assert_eq!(listed.len(), 300);
    let worker = hired(&store).await;
    let mut done = BTreeSet::new();
    while done.len() < 300 {
        let claimed = claim(&store, worker, 64).await;
        assert!(!claimed.is_empty(), "{} of 300 done", done.len());
        let commits = claimed.iter().map(|one| alone(settle(one, super::make::done()))).collect();
        let answer = exchange(&store, commits, None).await;
        assert!(answer.commits.iter().all(|one| one.moves == [Moved::Applied]));
        assert!(claimed.iter().all(|one| done.insert(one.job.id)), "given out twice");
    }
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
}

#[tokio::test]
async fn one_full_shard_fills_a_whole_claim() {
    let Ground { store, .. } = ground(3, Strategy::Hash).await;
    let jobs = (0..40).map(|_| now(born(&store, Near::Shard(Shard(1))))).collect();
    enqueue(&store, jobs).await;
    let worker = hired(&store).await;
    assert_eq!(claim(&store, worker, 30).await.len(), 30);
    assert_eq!(claim(&store, worker, 30).await.len(), 10);
}

#[tokio::test]
async fn large_claims_go_from_shard_to_shard_and_pass_by_none() {
    let Ground { store, .. } = ground(4, Strategy::Hash).await;
    for (shard, many) in [(0, 300), (1, 300), (2, 300), (3, 10)] {
        let jobs = (0..many).map(|_| now(born(&store, Near::Shard(Shard(shard))))).collect();
        enqueue(&store, jobs).await;
    }
    let worker = hired(&store).await;
    let mut given = BTreeSet::new();
    for _ in 0..4 {
        let claimed = claim(&store, worker, 64).await;
        let shards: BTreeSet<Shard> = claimed.iter().map(|one| one.job.id.shard()).collect();
        assert_eq!(claimed.len(), 64);
        assert!(shards.len() == 1 || shards.contains(&Shard(3)), "of {shards:?}");
        given.extend(shards);
    }
    assert_eq!(given.len(), 4, "{given:?}");
    // One that has run dry gives what comes there with the next claim, though the others have plenty.
    let late = put(&store, born(&store, Near::Shard(Shard(3)))).await;
    let claimed = claim(&store, worker, 64).await;
    assert_eq!(claimed.len(), 64);
    assert!(claimed.iter().any(|one| one.job.id == late));
}

#[tokio::test]
async fn lists_and_events_over_shards_are_whole_whatever_the_page() {
    let Ground { store, .. } = ground(3, Strategy::RoundRobin).await;
    let ids: BTreeSet<JobId> = fill(&store, 100).await.into_iter().collect();
    for budget in [1, 7, 33, 1_000] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let query = ListQuery { place: Place::Pending, queue: None, after, budget };
            let page = store.list(&query).await.expect("list");
            assert!(page.items.len() <= budget);
            seen.extend(page.items.iter().map(|stored| stored.job.id));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(seen.len(), 100, "pages of {budget}");
        assert_eq!(seen.iter().copied().collect::<BTreeSet<_>>(), ids);
    }
    let (mut seen, mut after) = (0, None);
    loop {
        let (events, next) = store.events(after.as_ref(), 7).await.expect("events");
        if events.is_empty() {
            break;
        }
        seen += events.iter().filter(|event| event.job.is_some()).count();
        after = Some(next);
    }
    assert_eq!(seen, 100);
}

#[tokio::test]
async fn keys_hold_over_shards_and_what_conflicts_is_refused() {
    let Ground { store, .. } = ground(3, Strategy::Hash).await;
    for n in 0..50 {
        let key = format!("customer-{n}");
        let unique = || Job { unique_key: Some(key.clone()), ..born(&store, Near::Key(&key)) };
        let first = put(&store, unique()).await;
        assert_eq!(enqueue(&store, vec![now(unique())]).await, [Enqueued::Conflict(first)]);
    }
    let homes: BTreeSet<u16> = (0..50).map(|n| store.birthplace(Near::Key(&format!("customer-{n}"))).0).collect();
    assert_eq!(homes.len(), 3, "keys are spread");
    // A key that is at home elsewhere, a parent elsewhere: refused, and nothing is stored.
    let before = pending(&store).await;
    let elsewhere = Shard((store.birthplace(Near::Key("customer-x")).0 + 1) % 3);
    let lost = Job { unique_key: Some("customer-x".into()), ..born(&store, Near::Shard(elsewhere)) };
    let parent = put(&store, born(&store, Near::Shard(Shard(0)))).await;
    let orphan = Job { after: vec![parent], ..born(&store, Near::Shard(Shard(1))) };
    let (mut a, mut b) = ("a".to_owned(), 0);
    while store.birthplace(Near::Key(&a)) == store.birthplace(Near::Key("u")) {
        b += 1;
        a = format!("a{b}");
    }
    let torn = Job {
        unique_key: Some("u".into()),
        concurrency: Some(Concurrency { key: a, limit: 1 }),
        ..born(&store, Near::Key("u"))
    };
    for (bad, why) in [(lost, "at home on shard"), (orphan, "is to follow job"), (torn, "part in braces")] {
        let batch = Enqueue { producer: producer(), sequence: 1, jobs: vec![now(bad)], runs: vec![] };
        let refused = store.enqueue(&batch).await;
        assert!(matches!(&refused, Err(StoreError::Refused(text)) if text.contains(why)), "{refused:?}");
    }
    assert_eq!(pending(&store).await, before + 1);
}

#[tokio::test]
async fn a_batch_whose_part_was_lost_is_one_batch() {
    let Ground { store, switches, parts } = ground(3, Strategy::RoundRobin).await;
    let jobs: Vec<NewJob> = (0..30).map(|_| now(born(&store, Near::Nothing))).collect();
    let batch = Enqueue { producer: producer(), sequence: 1, jobs, runs: vec![] };
    switches[2].0.store(true, Ordering::SeqCst);
    let partly = store.enqueue(&batch).await;
    assert!(matches!(partly, Err(StoreError::Unknown(_))), "some of it is there: {partly:?}");
    switches[2].0.store(false, Ordering::SeqCst);
    until("the shard is back", async || store.shards().expect("verbs").away().is_empty()).await;
    let answer = store.enqueue(&batch).await.expect("enqueue");
    assert_eq!(answer.jobs, vec![Enqueued::Created; 30]);
    for part in &parts {
        assert_eq!(pending(&**part).await, 10);
    }
}

#[tokio::test]
async fn a_dead_shard_stalls_nobody_and_loses_nothing() {
    let Ground { store, switches, parts } = ground(3, Strategy::RoundRobin).await;
    fill(&store, 90).await;
    let worker = hired(&store).await;
    let held = claim(&store, worker, 30).await;
    switches[1].0.store(true, Ordering::SeqCst);
    // What was claimed there is held on: nobody ends a job for a shard that is cut off.
    let told = beat(&store, worker, Duration::from_secs(600)).await;
    assert_eq!(told.held.len(), 30);
    // Who is told from afar where work is born does not hear of what the dead one's errors name.
    let why = |away: Vec<(u16, String)>| {
        away.into_iter().map(|(id, why)| (id, why.contains("switched off"))).collect::<Vec<_>>()
    };
    assert_eq!(why(store.shards().expect("verbs").away()), [(1, true)]);
    assert_eq!(why(store.placement().await.expect("an answer").expect("shards").away), [(1, false)]);
    // Outcomes for the other shards count, those for the dead one come back unanswered.
    let commits: Vec<Commit> = held.iter().map(|one| alone(settle(one, done()))).collect();
    let answer = exchange(&store, commits.clone(), Some(wish(worker, &["default"], 10))).await;
    let open: Vec<&Commit> = commits
        .iter()
        .zip(&answer.commits)
        .filter(|(one, answer)| answer.is_unanswered(one))
        .map(|(one, _)| one)
        .collect();
    assert_eq!(open.len(), 10);
    assert!(open.iter().all(|one| one.moves[0].job.id.shard() == Shard(1)));
    assert_eq!(answer.claimed.len(), 10, "the others give work");
    // New work goes elsewhere, looks leave it out, counters show what was known.
    let more = fill(&store, 20).await;
    assert!(more.iter().all(|id| id.shard() != Shard(1)));
    let dead = held.iter().find(|one| one.job.id.shard() == Shard(1)).expect("one of it");
    assert!(store.get(&[dead.job.id]).await.is_err_and(|error| error.to_string().contains("shard 1")));
    store.list(&ListQuery { place: Place::Pending, queue: None, after: None, budget: 100 }).await.expect("list");
    // Back, everything is as it was, and the outcomes count.
    switches[1].0.store(false, Ordering::SeqCst);
    until("the shard is back", async || store.shards().expect("verbs").away().is_empty()).await;
    let again = exchange(&store, open.into_iter().cloned().collect(), None).await;
    assert!(again.commits.iter().all(|one| one.moves == [Moved::Applied]), "{again:?}");
    assert_eq!(pending(&*parts[1]).await, 20);
}

#[tokio::test]
async fn what_a_shard_missed_it_learns_when_it_is_back() {
    let Ground { store, switches, parts } = ground(3, Strategy::Hash).await;
    let handler = |name: &str, hash: &str| Definition {
        kind: "handler".into(),
        name: super::make::name(name),
        hash: hash.into(),
        text: format!("text {hash}"),
    };
    store.define(&[handler("mail", "1"), handler("old", "2")]).await.expect("define");
    switches[0].0.store(true, Ordering::SeqCst);
    store.define(&[handler("mail", "3")]).await.expect("the others take it");
    assert!(store.undefine("handler", &super::make::name("old")).await.expect("undefine"));
    let paused = QueueSettings { paused: true, ..QueueSettings::default() };
    store.set_queue(&super::make::name("mail"), &paused).await.expect("set");
    assert_eq!(store.definitions("handler").await.expect("definitions"), [handler("mail", "3")]);
    switches[0].0.store(false, Ordering::SeqCst);
    until("the shard is back", async || store.shards().expect("verbs").away().is_empty()).await;
    assert_eq!(parts[0].definitions("handler").await.expect("definitions"), [handler("mail", "3")]);
    assert_eq!(parts[0].queues().await.expect("queues"), [(super::make::name("mail"), paused)]);
}

#[tokio::test]
async fn a_queues_limit_is_divided_exactly() {
    let Ground { store, .. } = ground(3, Strategy::RoundRobin).await;
    fill(&store, 30).await;
    let queue: Name = super::make::name("default");
    let limit = |n| QueueSettings { concurrency: Some(n), ..QueueSettings::default() };
    store.set_queue(&queue, &limit(7)).await.expect("set");
    assert_eq!(store.queues().await.expect("queues"), [(queue.clone(), limit(7))]);
    let worker = hired(&store).await;
    assert_eq!(claim(&store, worker, 20).await.len(), 7);
    assert!(claim(&store, worker, 20).await.is_empty());
    let refused = store.set_queue(&queue, &limit(2)).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn least_loaded_evens_out() {
    let Ground { store, parts, .. } = ground(3, Strategy::LeastLoaded).await;
    let jobs = (0..300).map(|_| now(born(&store, Near::Shard(Shard(0))))).collect();
    enqueue(&store, jobs).await;
    store.stats().await.expect("stats");
    for _ in 0..60 {
        fill(&store, 10).await;
    }
    for part in &parts {
        let depth = pending(&**part).await;
        assert!((290..=310).contains(&depth), "{depth} of 300");
    }
}

#[tokio::test]
async fn one_key_space_is_not_two_shards() {
    let clock = TestClock::new();
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
    let opener: Opener = Arc::new(move |_, _| {
        let memory = memory.clone();
        Box::pin(async move { Ok(memory) })
    });
    let options = ShardedOptions { opener, clock, entropy: Arc::new(Count::new()), only: None };
    let map = Map::of_urls(&["a".into(), "b".into()], Strategy::Hash);
    let opened = ShardedStore::open(map, options).await.err();
    assert!(matches!(&opened, Some(StoreError::Refused(text)) if text.contains("again")), "{opened:?}");
}

/// Shards that are opened by any URL, and live as long as the test.
pub fn grounds(clock: Arc<TestClock>) -> Opener {
    let known: Arc<std::sync::Mutex<BTreeMap<String, Arc<dyn Store>>>> = Arc::default();
    Arc::new(move |_, url| {
        let mut known = known.lock().expect("nobody panicked");
        let store = known.entry(url).or_insert_with(|| Arc::new(MemoryStore::new(clock.clone()))).clone();
        Box::pin(async move { Ok(store) })
    })
}

/// A store over the first two of these shards, each with a clock of its own; more can be added by name.
pub(super) async fn grounds_of(shards: Vec<(&str, Arc<TestClock>)>) -> ShardedStore {
    let known: BTreeMap<String, Arc<dyn Store>> = shards
        .iter()
        .map(|(url, clock)| ((*url).to_owned(), Arc::new(MemoryStore::new(clock.clone())) as Arc<dyn Store>))
        .collect();
    let opener: Opener = Arc::new(move |_, url| {
        let store = known.get(&url).cloned();
        Box::pin(async move { store.ok_or_else(|| StoreError::Refused("no such shard".into())) })
    });
    let urls: Vec<String> = shards.iter().take(2).map(|(url, _)| (*url).to_owned()).collect();
    let clock = shards[0].1.clone();
    let options = ShardedOptions { opener, clock, entropy: Arc::new(Count::new()), only: None };
    ShardedStore::open(Map::of_urls(&urls, Strategy::Hash), options).await.expect("opens")
}

pub(super) async fn two_views() -> (ShardedStore, ShardedStore) {
    let (_, first, second) = two_views_and_time().await;
    (first, second)
}

pub(super) async fn two_views_and_time() -> (Arc<TestClock>, ShardedStore, ShardedStore) {
    let clock = TestClock::new();
    let opener = grounds(clock.clone());
    let options =
        || ShardedOptions { opener: opener.clone(), clock: clock.clone(), entropy: Arc::new(Count::new()), only: None };
    let map = Map::of_urls(&["zero".into(), "one".into()], Strategy::RoundRobin);
    let first = ShardedStore::open(map, options()).await.expect("opens");
    // The other one was told another list: the map that is kept wins.
    let second = ShardedStore::open(Map::of_urls(&["one".into(), "zero".into()], Strategy::Hash), options());
    let second = second.await.expect("opens");
    assert_eq!(first.map(), second.map());
    (clock, first, second)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_comes_and_everybody_follows() {
    let (first, second) = two_views().await;
    let key = (0..).map(|n| format!("key-{n}"));
    let map = goflow::store::sharded::Map::of_urls(&["0".into(), "1".into(), "2".into()], Strategy::Hash);
    let key = key.into_iter().find(|key| map.home(key) == Ok(2)).expect("a key of the third shard");
    let unique = |store: &dyn Store| Job { unique_key: Some(key.clone()), ..born(store, Near::Key(&key)) };
    let holder = put(&first, unique(&first)).await;
    assert_eq!(first.shards().expect("verbs").add("two").await, Ok(2));
    until("the other follows", async || second.map().epoch == first.map().epoch).await;
    assert_eq!(second.birthplace(Near::Key(&key)), Shard(2));
    // The key is at home on the new shard now, and still held on the old one.
    assert_eq!(enqueue(&second, vec![now(unique(&second))]).await, [Enqueued::Conflict(holder)]);
    let homes: BTreeSet<u16> = fill(&second, 30).await.iter().map(|id| id.shard().0).collect();
    assert_eq!(homes, BTreeSet::from([0, 1, 2]));
    assert!(first.shards().expect("verbs").add("two").await.is_err_and(|error| error.to_string().contains("already")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_is_carried_over_and_removed_without_a_loss() {
    let (first, second) = two_views().await;
    let on_one = |kind: &str| Job { kind: name(kind), ..born(&first, Near::Shard(Shard(1))) };
    let worker = hired(&first).await;
    let ended = [on_one("done"), on_one("dead")];
    enqueue(&first, ended.iter().cloned().map(now).collect()).await;
    for (one, outcome) in claim(&first, worker, 2).await.iter().zip([done(), hopeless()]) {
        assert_eq!(make(&first, settle(one, outcome)).await, Moved::Applied);
    }
    let unique = Job { unique_key: Some("k".into()), ..born(&first, Near::Key("k")) };
    put(&first, unique.clone()).await;
    let mut waiting: Vec<JobId> = Vec::new();
    for _ in 0..450 {
        waiting.push(put(&first, on_one("wait")).await);
    }
    let later = on_one("later");
    enqueue(&first, vec![super::make::later(later.clone(), Duration::from_secs(3_600))]).await;
    let before: Vec<Stored> =
        first.get(&[ended[0].id, ended[1].id, later.id]).await.expect("get").into_iter().flatten().collect();
    let verbs = first.shards().expect("verbs");
    assert!(verbs.drain(0, None).await.is_err(), "the lowest keeps the locks");
    assert!(verbs.remove(1).await.is_err(), "it is active");
    verbs.drain(1, Some(0)).await.expect("drains");
    assert!(verbs.remove(1).await.is_err_and(|error| error.to_string().contains("is not empty")));
    loop {
        let carried = verbs.carry(1).await.expect("carries");
        if carried.is_nothing() {
            break;
        }
    }
    assert_eq!(verbs.left(1).await.expect("left").all(), 0);
    verbs.remove(1).await.expect("removes");
    until("the other follows", async || second.map().epoch == first.map().epoch).await;
    for store in [&first, &second] {
        let after = store.get(&[ended[0].id, ended[1].id, later.id]).await.expect("get");
        for (was, is) in before.iter().zip(after) {
            let is = is.expect("it is found by its id");
            assert_eq!((is.place, is.at, &is.job.result), (was.place, was.at, &was.job.result));
            assert!(is.job.rev > was.job.rev, "whoever saw it there moves nothing here");
            assert_eq!(is.job, Job { rev: is.job.rev, ..was.job.clone() });
        }
        let again = Job { unique_key: Some("k".into()), ..born(store, Near::Key("k")) };
        assert_eq!(enqueue(store, vec![now(again)]).await, [Enqueued::Conflict(unique.id)]);
    }
    // In the order in which they were, and each once.
    let worker = hired(&second).await;
    let mut given = Vec::new();
    loop {
        let claimed = claim(&second, worker, 64).await;
        if claimed.is_empty() {
            break;
        }
        let commits = claimed.iter().map(|one| alone(settle(one, done()))).collect();
        exchange(&second, commits, None).await;
        given.extend(claimed.into_iter().map(|one| one.job.id).filter(|id| *id != unique.id));
    }
    assert_eq!(given, waiting);
    assert_eq!(second.verify().await.expect("verify"), Vec::<String>::new());
}
