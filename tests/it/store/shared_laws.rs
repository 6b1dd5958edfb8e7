//! The laws of documents and locks: whoever saw the last change makes the next one; no slot has two
//! holders, and fences rise whatever happens in between.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use goflow::domain::{EventKind, Fence, HolderId};
use goflow::store::fault::{FaultStore, Saboteur};
use goflow::store::*;

use super::backends::Subject;
use super::differential::Dice;
use super::looks::all_events;
use super::make::*;

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(60);

pub fn holder() -> HolderId {
    HolderId::from_bytes(*worker().as_bytes())
}

fn change(name: &str, from_rev: u64, body: Option<&str>) -> DocumentChange {
    DocumentChange { name: name.into(), from_rev, body: body.map(|body| body.as_bytes().to_vec()), keep: None }
}

async fn set(store: &dyn Store, change: &DocumentChange) -> DocumentSet {
    store.set_document(change).await.expect("set_document")
}

/// Makes a change that must be made.
async fn write(store: &dyn Store, change: &DocumentChange) -> u64 {
    match set(store, change).await {
        DocumentSet::Done(rev) => rev,
        other => panic!("{change:?}: {other:?}"),
    }
}

async fn get(store: &dyn Store, name: &str) -> Option<Document> {
    store.document(name).await.expect("document")
}

async fn names(store: &dyn Store, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let documents = store.documents(prefix, after, limit).await.expect("documents");
    documents.into_iter().map(|document| document.name).collect()
}

pub async fn a_document_changes_by_who_saw_it(subject: &Subject) {
    let store = &*subject.store;
    assert_eq!(get(store, "map").await, None);
    assert_eq!(set(store, &change("map", 7, Some("no"))).await, DocumentSet::Changed(None), "there is none");
    assert_eq!(set(store, &change("map", 7, None)).await, DocumentSet::Changed(None));
    let first = write(store, &change("map", 0, Some("one"))).await;
    let kept = get(store, "map").await.expect("it is kept");
    assert_eq!(kept, Document { name: "map".into(), rev: first, body: b"one".to_vec(), until: None });
    assert_eq!(set(store, &change("map", 0, Some("no"))).await, DocumentSet::Changed(Some(kept)), "there is one");
    let second = write(store, &change("map", first, Some(""))).await;
    assert!(second > first);
    assert_eq!(get(store, "map").await.map(|kept| kept.body), Some(vec![]));
    assert!(matches!(set(store, &change("map", first, Some("no"))).await, DocumentSet::Changed(Some(_))));
    assert_eq!(set(store, &change("map", second, None)).await, DocumentSet::Done(0));
    assert_eq!(get(store, "map").await, None);
    // One that was made anew is not the one that was seen.
    let again = write(store, &change("map", 0, Some("again"))).await;
    assert!(again > second, "{again} after {second}");
    let bytes = DocumentChange { body: Some(vec![0, 255, 10]), ..change("raw: ü\n", 0, None) };
    write(store, &bytes).await;
    assert_eq!(get(store, "raw: ü\n").await.map(|kept| kept.body), bytes.body);
}

pub async fn documents_are_listed_by_prefix(subject: &Subject) {
    let store = &*subject.store;
    let all = ["a", "token:", "token:a", "token:b", "token:é", "token:\u{10ffff}", "token;", "z"];
    for name in all {
        write(store, &change(name, 0, Some(name))).await;
    }
    assert_eq!(names(store, "token:", None, 9).await, all[1..6]);
    assert_eq!(names(store, "token:", Some("token:a"), 2).await, ["token:b", "token:é"]);
    assert_eq!(names(store, "token:", Some("token:c"), 9).await, ["token:é", "token:\u{10ffff}"]);
    assert_eq!(names(store, "token:", Some("a"), 1).await, ["token:"], "before the prefix");
    assert_eq!(names(store, "token:", Some("u"), 9).await, Vec::<String>::new());
    assert_eq!(names(store, "", None, 99).await, all);
    assert_eq!(names(store, "none", None, 9).await, Vec::<String>::new());
}

pub async fn a_document_ends_with_its_time(subject: &Subject) {
    let store = &*subject.store;
    let short = |name: &str| DocumentChange { keep: Some(SHORT), ..change(name, 0, Some("x")) };
    write(store, &DocumentChange { keep: Some(LONG), ..change("d2", 0, Some("x")) }).await;
    write(store, &change("d4", 0, Some("x"))).await;
    let first = write(store, &short("d1")).await;
    write(store, &short("d3")).await;
    let kept = get(store, "d4").await.expect("it is kept");
    assert_eq!(kept.until, None);
    // Another change may let it live on.
    write(store, &DocumentChange { keep: None, ..change("d4", kept.rev, Some("y")) }).await;
    subject.pass(SHORT * 2).await;
    assert_eq!(get(store, "d1").await, None);
    assert_eq!(names(store, "d", None, 9).await, ["d2", "d4"]);
    assert_eq!(names(store, "d", None, 1).await, ["d2"], "what is over does not end a list");
    assert_eq!(set(store, &change("d1", first, Some("no"))).await, DocumentSet::Changed(None));
    assert!(write(store, &change("d1", 0, Some("new"))).await > first);
    store.trim(Retention { age: LONG, count: 9 }, 100).await.expect("trim");
    assert_eq!(names(store, "d", None, 9).await, ["d1", "d2", "d4"]);
}

pub async fn racing_writers_lose_no_change(subject: &Subject) {
    write(&*subject.store, &change("count", 0, Some("0"))).await;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store: Arc<dyn Store> = subject.store.clone();
        writers.spawn(async move {
            let mut done = 0;
            while done < 15 {
                let seen = get(&*store, "count").await.expect("it is kept");
                let count: u64 = String::from_utf8(seen.body).expect("text").parse().expect("a number");
                let next = change("count", seen.rev, Some(&(count + 1).to_string()));
                done += usize::from(matches!(set(&*store, &next).await, DocumentSet::Done(_)));
            }
        });
    }
    writers.join_all().await;
    assert_eq!(get(&*subject.store, "count").await.map(|kept| kept.body), Some(b"60".to_vec()));
}

pub fn wish(name: &str, slots: u32, ttl: Duration) -> LockRequest {
    LockRequest { name: self::name(name), holder: holder(), about: "pid 7 on tests: ü".into(), slots, ttl }
}

async fn acquire(store: &dyn Store, request: &LockRequest) -> Acquired {
    store.acquire(request).await.expect("acquire")
}

async fn granted(store: &dyn Store, request: &LockRequest) -> Grant {
    match acquire(store, request).await {
        Acquired::Granted(grant) => grant,
        other => panic!("{request:?}: {other:?}"),
    }
}

async fn held(store: &dyn Store) -> Vec<LockRecord> {
    store.locks(None, 100).await.expect("locks").1
}

async fn release(store: &dyn Store, request: &LockRequest) -> bool {
    store.release(&request.name, request.holder).await.expect("release")
}

pub async fn a_lock_has_one_holder(subject: &Subject) {
    let store = &*subject.store;
    let (first, second) = (wish("nightly", 1, LONG), wish("nightly", 1, LONG));
    let grant = granted(store, &first).await;
    assert!(grant.fence > Fence(0));
    assert_eq!(grant.until, grant.now.after(LONG));
    let record = match acquire(store, &second).await {
        Acquired::Held { now, lock } => {
            assert!(now >= grant.now);
            lock
        }
        other => panic!("{other:?}"),
    };
    let own = LockHolder {
        id: first.holder,
        about: first.about.clone(),
        fence: grant.fence,
        since: grant.now,
        until: grant.until,
    };
    assert_eq!(record, LockRecord { name: name("nightly"), slots: 1, holders: vec![own] });
    assert_eq!(record.first_end(), Some(grant.until));
    let other = granted(store, &wish("another", 1, LONG)).await;
    assert!(other.fence > Fence(0), "names do not touch each other");
    let (now, listed) = store.locks(None, 10).await.expect("locks");
    assert!(now >= other.now && now < other.until);
    assert_eq!(listed.iter().map(|lock| lock.name.as_str()).collect::<Vec<_>>(), ["another", "nightly"]);
    assert_eq!(listed[1], record);
    let behind = store.locks(Some(&name("another")), 10).await.expect("locks").1;
    assert_eq!(behind, [record]);
    assert_eq!(store.locks(None, 1).await.expect("locks").1.len(), 1);

    let before = *store.hints().borrow();
    let mut hints = store.hints();
    assert!(!release(store, &second).await, "it never held it");
    assert!(release(store, &first).await);
    assert!(!release(store, &first).await, "once");
    let rises = async {
        while *hints.borrow_and_update() == before {
            hints.changed().await.expect("the store lives");
        }
    };
    tokio::time::timeout(Duration::from_secs(20), rises).await.expect("a release is a hint");
    let next = granted(store, &second).await;
    assert!(next.fence > grant.fence);
    assert_eq!(store.extend(&second.name, first.holder, LONG).await.expect("extend"), None);
}

pub async fn a_wish_sent_again_is_one_grant(subject: &Subject) {
    let store = &*subject.store;
    let request = wish("nightly", 1, LONG);
    let grant = granted(store, &request).await;
    let again = granted(store, &request).await;
    assert_eq!(again.fence, grant.fence);
    assert!(again.until >= grant.until);
    // A shorter wish takes nothing away.
    let shorter = LockRequest { ttl: SHORT, slots: 4, ..request.clone() };
    assert_eq!(granted(store, &shorter).await.until, again.until);
    assert_eq!(held(store).await[0].holders.len(), 1);
    let extended = store.extend(&request.name, request.holder, LONG * 2).await.expect("extend").expect("it is held");
    assert_eq!(extended.fence, grant.fence);
    assert_eq!(extended.until, extended.now.after(LONG * 2));
    assert_eq!(held(store).await[0].holders[0].until, extended.until);
    assert_eq!(held(store).await[0].slots, 1);
    // An extension says when it ends, also sooner than it would have.
    let extended = store.extend(&request.name, request.holder, SHORT).await.expect("extend").expect("it is held");
    assert_eq!((extended.fence, extended.until), (grant.fence, extended.now.after(SHORT)));
    assert_eq!(held(store).await[0].holders[0].until, extended.until);
}

pub async fn a_grant_ends_with_its_time(subject: &Subject) {
    let store = &*subject.store;
    let (first, second) = (wish("nightly", 1, SHORT), wish("nightly", 1, LONG));
    let grant = granted(store, &first).await;
    subject.pass(SHORT * 2).await;
    assert_eq!(held(store).await, []);
    assert_eq!(store.extend(&first.name, first.holder, LONG).await.expect("extend"), None, "it does not come back");
    let next = granted(store, &second).await;
    assert!(next.fence > grant.fence);
    assert!(!release(store, &first).await, "it is the other's");
    assert_eq!(held(store).await[0].holders[0].id, second.holder);
    // Over, and nobody came: the same wish is a new grant.
    let alone = wish("weekly", 1, SHORT);
    let before = granted(store, &alone).await;
    subject.pass(SHORT * 2).await;
    assert!(granted(store, &alone).await.fence > before.fence);
}

pub async fn a_semaphore_has_so_many_slots(subject: &Subject) {
    let store = &*subject.store;
    let wishes: Vec<LockRequest> = (0..3).map(|_| wish("api", 3, LONG)).collect();
    let mut fences = Vec::new();
    for wish in &wishes {
        fences.push(granted(store, wish).await.fence);
    }
    assert!(fences.is_sorted() && fences.iter().collect::<BTreeSet<_>>().len() == 3, "{fences:?}");
    let Acquired::Held { lock, .. } = acquire(store, &wish("api", 3, LONG)).await else { panic!("a fourth is in") };
    assert_eq!(lock.holders.iter().map(|one| one.fence).collect::<Vec<_>>(), fences);
    assert!(release(store, &wishes[1]).await);
    for slots in [1, 4] {
        let Acquired::OtherSlots { lock, .. } = acquire(store, &wish("api", slots, LONG)).await else {
            panic!("{slots} slots beside 3")
        };
        assert_eq!((lock.slots, lock.holders.len()), (3, 2));
    }
    let late = wish("api", 3, LONG);
    assert!(granted(store, &late).await.fence > fences[2]);
    for one in [&wishes[0], &wishes[2], &late] {
        assert!(release(store, one).await);
    }
    granted(store, &wish("api", 1, LONG)).await;
    assert_eq!(held(store).await[0].slots, 1, "with nobody in, the next one says how many");
}

pub async fn a_broken_lock_is_lost(subject: &Subject) {
    let store = &*subject.store;
    let wishes: Vec<LockRequest> = (0..3).map(|_| wish("api", 3, LONG)).collect();
    for wish in &wishes {
        granted(store, wish).await;
    }
    let name = name("api");
    let broken = store.break_lock(&name, Some(wishes[1].holder)).await.expect("break_lock");
    assert_eq!(broken.iter().map(|one| one.id).collect::<Vec<_>>(), [wishes[1].holder]);
    assert_eq!(broken[0].about, wishes[1].about);
    assert_eq!(store.extend(&name, wishes[1].holder, LONG).await.expect("extend"), None);
    assert_eq!(held(store).await[0].holders.len(), 2);
    let rest = store.break_lock(&name, None).await.expect("break_lock");
    assert_eq!(rest.iter().map(|one| one.id).collect::<Vec<_>>(), [wishes[0].holder, wishes[2].holder]);
    assert_eq!(store.break_lock(&name, None).await.expect("break_lock"), []);
    assert_eq!(held(store).await, []);
    let events = all_events(store).await;
    let told: Vec<_> = events.iter().filter(|event| event.kind == EventKind::LockBroken).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[1].data.as_deref(), Some("api"));
    assert!(told[0].data.as_deref().is_some_and(|data| data.contains(&wishes[1].holder.to_string())), "{told:?}");
    assert!(granted(store, &wish("api", 1, LONG)).await.fence > rest[1].fence);
}

pub async fn fences_rise_over_trims(subject: &Subject) {
    let store = &*subject.store;
    let mut last = Fence(0);
    for turn in 0..4 {
        let request = wish("nightly", 1, if turn % 2 == 0 { LONG } else { SHORT });
        let grant = granted(store, &request).await;
        assert!(grant.fence > last, "turn {turn}: {} after {last}", grant.fence);
        last = grant.fence;
        if turn % 2 == 0 {
            assert!(release(store, &request).await);
        } else {
            subject.pass(SHORT * 2).await;
        }
        store.trim(Retention { age: LONG, count: 9 }, 100).await.expect("trim");
    }
}

pub async fn what_is_out_of_bounds_is_refused(subject: &Subject) {
    let store = &*subject.store;
    let long = "n".repeat(goflow::domain::limits::KEY_BYTES + 1);
    let big = vec![b'x'; goflow::domain::limits::DOCUMENT_BYTES + 1];
    for change in [
        change("", 0, Some("x")),
        change(&long, 0, Some("x")),
        DocumentChange { body: Some(big), ..change("big", 0, None) },
    ] {
        assert!(matches!(store.set_document(&change).await, Err(StoreError::Refused(_))), "{}", change.name);
    }
    let good = || wish("nightly", 1, LONG);
    for request in [
        LockRequest { slots: 0, ..good() },
        LockRequest { slots: goflow::domain::limits::LOCK_SLOTS + 1, ..good() },
        LockRequest { ttl: Duration::ZERO, ..good() },
        LockRequest { about: "x".repeat(goflow::domain::limits::HOLDER_BYTES + 1), ..good() },
        LockRequest { about: "a\0b".into(), ..good() },
    ] {
        assert!(matches!(store.acquire(&request).await, Err(StoreError::Refused(_))), "{request:?}");
    }
    assert_eq!(held(store).await, []);
    let exact = vec![b'x'; goflow::domain::limits::DOCUMENT_BYTES];
    write(store, &DocumentChange { body: Some(exact.clone()), ..change("exact", 0, None) }).await;
    assert_eq!(get(store, "exact").await.map(|kept| kept.body.len()), Some(exact.len()));
}

/// Who is inside, by what the holders themselves see.
#[derive(Default)]
struct Room {
    inside: AtomicUsize,
    most: AtomicUsize,
    /// Fences in the order in which their holders came in.
    fences: Mutex<Vec<Fence>>,
}

impl Room {
    fn enter(&self, fence: Fence) {
        let now = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        self.fences.lock().expect("lock").push(fence);
    }

    fn leave(&self) {
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

pub async fn racing_holders_never_share_a_slot(subject: &Subject) {
    for slots in [1, 3] {
        let room = Arc::new(Room::default());
        let mut holders = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let (store, room): (Arc<dyn Store>, _) = (subject.store.clone(), room.clone());
            holders.spawn(async move {
                let mut cycles = 0;
                while cycles < 12 {
                    let request = wish(&format!("room-{slots}"), slots, LONG);
                    if let Acquired::Granted(grant) = acquire(&*store, &request).await {
                        room.enter(grant.fence);
                        tokio::task::yield_now().await;
                        room.leave();
                        assert!(release(&*store, &request).await);
                        cycles += 1;
                    }
                    // A store in memory never waits, and others want to go on as well.
                    tokio::task::yield_now().await;
                }
            });
        }
        holders.join_all().await;
        let most = room.most.load(Ordering::SeqCst);
        assert!((1..=slots as usize).contains(&most), "{most} in {slots} slots");
        let fences = room.fences.lock().expect("lock").clone();
        assert_eq!(fences.iter().collect::<BTreeSet<_>>().len(), 72, "no fence is given twice");
        assert!(slots > 1 || fences.is_sorted(), "{fences:?}");
    }
}

/// One call in ten is not done, one in five is done and its answer lost.
struct Faults(Mutex<Dice>, AtomicUsize);

impl Faults {
    fn strikes(&self, one_in: usize) -> bool {
        let strikes = self.0.lock().expect("lock").roll(one_in) == 0;
        self.1.fetch_add(usize::from(strikes), Ordering::Relaxed);
        strikes
    }
}

impl Saboteur for Faults {
    fn before(&self, _: bool) -> Result<()> {
        if self.strikes(10) { Err(StoreError::Unavailable("not done".into())) } else { Ok(()) }
    }

    fn after(&self, _: bool) -> Result<()> {
        if self.strikes(5) { Err(StoreError::Unknown("the answer was lost".into())) } else { Ok(()) }
    }
}

/// Does a call until it is answered.
macro_rules! insist {
    ($call:expr) => {
        loop {
            match $call.await {
                Ok(answer) => break answer,
                Err(error) => assert!(error.is_transient(), "{error:?}"),
            }
        }
    };
}

pub async fn lost_answers_never_make_two_holders(subject: &Subject) {
    let faults = Arc::new(Faults(Mutex::new(Dice(7)), AtomicUsize::new(0)));
    let faulty: Arc<dyn Store> = Arc::new(FaultStore::new(subject.store.clone(), faults.clone()));
    let room = Arc::new(Room::default());
    let mut holders = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (store, room) = (faulty.clone(), room.clone());
        holders.spawn(async move {
            let mut cycles = 0;
            while cycles < 5 {
                let request = wish("room", 1, LONG);
                if let Acquired::Granted(grant) = insist!(store.acquire(&request)) {
                    room.enter(grant.fence);
                    let extended = insist!(store.extend(&request.name, request.holder, LONG));
                    assert_eq!(extended.map(|grant| grant.fence), Some(grant.fence));
                    room.leave();
                    insist!(store.release(&request.name, request.holder));
                    cycles += 1;
                }
                tokio::task::yield_now().await;
            }
        });
    }
    holders.join_all().await;
    assert!(faults.1.load(Ordering::Relaxed) > 0, "no fault fired");
    assert_eq!(room.most.load(Ordering::SeqCst), 1);
    let fences = room.fences.lock().expect("lock").clone();
    assert!(fences.is_sorted(), "{fences:?}");
    assert_eq!(held(&*subject.store).await, []);
}
