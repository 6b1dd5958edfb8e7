//! Files: who may read them, what is refused and left alone, and bells between processes.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use goflow::domain::{ProducerId, Shard};
use goflow::store::contract::*;

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o777
}

async fn put(store: &SqliteStore) {
    let producer = ProducerId::from_parts(Wall.now(), Shard(0), bits());
    let jobs = vec![NewJob::now(job())];
    store.enqueue(&Enqueue { producer, sequence: 1, jobs, runs: vec![] }).await.expect("enqueue");
}

#[tokio::test]
async fn files_are_for_their_owner_only() {
    let folder = folder();
    let path = folder.path().join("new").join("queue.db");
    let store = open(&path).expect("the store opens");
    put(&store).await;
    let _hints = store.hints();
    assert_eq!(mode(path.parent().expect("a folder")), 0o700);
    assert_eq!(mode(&folder.path().join("new/queue.db-wake")), 0o700);
    for name in ["queue.db", "queue.db-wal", "queue.db-shm"] {
        assert_eq!(mode(&folder.path().join("new").join(name)), 0o600, "{name}");
    }
    let health = store.health().await.expect("health");
    assert_eq!((health.schema, health.warnings), (3, vec![]));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
    assert_eq!(store.health().await.expect("health").warnings.len(), 1);
}

#[tokio::test]
async fn what_is_no_store_is_named_and_left_alone() {
    let folder = folder();
    let refused = |name: &str| {
        let path = folder.path().join(name);
        let before = fs::read(&path).expect("a file");
        let error = open(&path).err().unwrap_or_else(|| panic!("{name} was opened"));
        assert!(matches!(error, StoreError::Corrupt(_)), "{name}: {error:?}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(fs::read(&path).expect("a file") == before, "{name} was changed");
        assert!(!folder.path().join(format!("{name}-wake")).exists());
    };
    fs::write(folder.path().join("text.db"), "my shopping list").expect("a file");
    refused("text.db");
    let other = rusqlite::Connection::open(folder.path().join("other.db")).expect("a database");
    other.execute_batch("CREATE TABLE theirs(x)").expect("a table");
    drop(other);
    refused("other.db");

    let path = folder.path().join("broken.db");
    let store = open(&path).expect("the store opens");
    put(&store).await;
    drop(store);
    let mut bytes = fs::read(&path).expect("a file");
    bytes[100..4096].fill(0xa5);
    fs::remove_dir_all(folder.path().join("broken.db-wake")).expect("the folder");
    fs::write(&path, bytes).expect("a file");
    refused("broken.db");
}

#[tokio::test]
async fn a_newer_store_is_refused_by_its_version() {
    let folder = folder();
    let path = folder.path().join("queue.db");
    drop(open(&path).expect("the store opens"));
    let conn = rusqlite::Connection::open(&path).expect("a database");
    conn.execute_batch("PRAGMA user_version = 99").expect("a version");
    drop(conn);
    assert_eq!(open(&path).err(), Some(StoreError::TooNew { found: 99, known: 3 }));
}

/// What each statement breaks must be told, and in the right words.
#[tokio::test]
async fn verify_tells_each_difference() {
    let cases = [
        ("UPDATE counts SET jobs = jobs + 1", "2 jobs counted in Pending, 1 found"),
        ("DELETE FROM line", "is in no place"),
        ("UPDATE jobs SET rev = 9", "indexed by what its record does not say"),
        ("UPDATE jobs SET turn = turn + 1", "that is not there"),
        ("DELETE FROM jobs", "that is not there"),
        ("UPDATE jobs SET body = x'c1'", "cannot be read"),
        ("DELETE FROM uniques", "does not hold its unique key"),
        ("UPDATE uniques SET id = zeroblob(16)", "held by a job that is not live"),
        ("INSERT INTO running SELECT 1, n, id, queue, id, 0, NULL FROM jobs", "both waits and runs"),
        ("INSERT INTO inbox VALUES (7, 1, x'00')", "not marked dirty"),
        ("INSERT INTO dirty VALUES (7, 1)", "a dirty mark is of no run"),
        ("INSERT INTO timers VALUES (7, 'k', 1, x'00')", "a timer is of no run"),
        ("INSERT INTO parked VALUES ('noop', 1, 1, 1)", "parked by its type and not in its queue"),
        ("INSERT INTO current VALUES ('workflow', 'order', 'abc')", "current definition of workflow order"),
    ];
    for (statement, sentence) in cases {
        let folder = folder();
        let path = folder.path().join("queue.db");
        let store = open(&path).expect("the store opens");
        let producer = ProducerId::from_parts(Wall.now(), Shard(0), bits());
        let keyed = goflow::domain::Job { unique_key: Some("k".into()), ..job() };
        let jobs = vec![NewJob::now(keyed)];
        store.enqueue(&Enqueue { producer, sequence: 1, jobs, runs: vec![] }).await.expect("enqueue");
        assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
        let other = rusqlite::Connection::open(&path).expect("a database");
        other.execute_batch(statement).expect("a statement");
        let told = store.verify().await.expect("verify");
        assert!(told.iter().any(|line| line.contains(sentence)), "{statement}: {told:#?}");
    }
}

#[tokio::test]
async fn what_was_written_is_there_when_opened_again() {
    let folder = folder();
    let path = folder.path().join("queue.db");
    let store = open(&path).expect("the store opens");
    put(&store).await;
    let before = store.list(&ListQuery { place: goflow::domain::Place::Pending, queue: None, after: None, budget: 9 });
    let before = before.await.expect("list");
    assert_eq!(before.items.len(), 1);
    drop(store);
    let store = open(&path).expect("the store opens again");
    let after = store.list(&ListQuery { place: goflow::domain::Place::Pending, queue: None, after: None, budget: 9 });
    assert_eq!(after.await.expect("list"), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_rings_when_it_has_work() {
    let folder = folder();
    // A path that no socket's address has room for.
    let path = folder.path().join("a".repeat(100)).join("queue.db");
    let store = open(&path).expect("the store opens");
    // Left behind by a process that is dead.
    let wake = path.with_file_name("queue.db-wake");
    let stale = wake.join("1-0.sock");
    let opened = fs::File::open(&wake).expect("the folder");
    let short = format!("/proc/self/fd/{}/1-0.sock", opened.as_raw_fd());
    drop(std::os::unix::net::UnixDatagram::bind(short).expect("a socket"));
    assert!(stale.exists());
    let mut hints = store.hints();
    let before = *hints.borrow_and_update();
    let status = child("sqlite::files::one_job", &path).stdout(Stdio::null()).status().expect("the child runs");
    assert!(status.success());
    tokio::time::timeout(Duration::from_secs(20), hints.changed()).await.expect("a bell").expect("the store lives");
    assert!(*hints.borrow() > before);
    assert!(!stale.exists(), "the dead process's socket is still there");
    assert_eq!(store.stats().await.expect("stats")[0].pending, 1);
    drop(store);
    let left: Vec<_> = fs::read_dir(&wake).expect("the folder").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["reserve"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_of_one_process_ring_each_other() {
    let folder = folder();
    let path = folder.path().join("queue.db");
    let stores = [open(&path).expect("the store opens"), open(&path).expect("and again")];
    let mut hints: Vec<_> = stores.iter().map(|store| store.hints()).collect();
    for store in &stores {
        hints.iter_mut().for_each(|hints| drop(hints.borrow_and_update()));
        put(store).await;
        for hints in &mut hints {
            tokio::time::timeout(Duration::from_secs(20), hints.changed()).await.expect("a bell").expect("alive");
        }
    }
}

#[tokio::test]
#[ignore = "a child of another_process_rings_when_it_has_work"]
async fn one_job() {
    let Some(path) = told() else { return };
    put(&open(&path).expect("the store opens")).await;
}

/// Stores of every released schema are read for ever.
#[tokio::test]
async fn a_store_of_schema_1_is_taken_over_whole() {
    let folder = folder();
    let path = folder.path().join("queue.db");
    let conn = rusqlite::Connection::open(&path).expect("a database");
    conn.execute_batch(include_str!("../../fixtures/schema/sqlite-1.sql")).expect("the fixture loads");
    drop(conn);
    let store = open(&path).expect("the store opens");
    assert_eq!(store.health().await.expect("health").schema, 3);
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
    let stats = store.stats().await.expect("stats");
    let of = |name: &str| stats.iter().find(|queue| queue.name.as_str() == name).expect("a queue").clone();
    let default = of("default");
    assert_eq!((default.parked, default.scheduled, default.dead, of("low").completed), (1, 1, 4, 1));
    let finished = RunQuery { finished: true, after: None, budget: 10 };
    assert_eq!(store.runs(&finished).await.expect("runs").items.len(), 2);
    put(&store).await;
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
}

#[tokio::test]
async fn a_store_of_schema_2_is_taken_over_whole() {
    let folder = folder();
    let path = folder.path().join("queue.db");
    let conn = rusqlite::Connection::open(&path).expect("a database");
    conn.execute_batch(include_str!("../../fixtures/schema/sqlite-2.sql")).expect("the fixture loads");
    drop(conn);
    let store = open(&path).expect("the store opens");
    assert_eq!(store.health().await.expect("health").schema, 3);
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
    let stats = store.stats().await.expect("stats");
    let of = |name: &str| stats.iter().find(|queue| queue.name.as_str() == name).expect("a queue").clone();
    let waiting = of("waiting");
    assert_eq!((waiting.pending, waiting.scheduled, waiting.paused), (3, 2, true));
    assert_eq!((of("done").completed, of("dead").dead, of("slow").pending), (2, 1, 1));
    let live = RunQuery { finished: false, after: None, budget: 10 };
    assert_eq!(store.runs(&live).await.expect("runs").items.len(), 2);
    assert_eq!(store.schedules().await.expect("schedules").1.len(), 1);
    // What is new works on what is old.
    let change = DocumentChange { name: "a".into(), from_rev: 0, body: Some(vec![1]), keep: None };
    assert!(matches!(store.set_document(&change).await.expect("set_document"), DocumentSet::Done(_)));
    let name = "nightly".parse().expect("a name");
    let request = LockRequest {
        name,
        holder: goflow::domain::HolderId::from_bytes([7; 16]),
        about: String::new(),
        slots: 1,
        ttl: Duration::from_secs(60),
    };
    let Acquired::Granted(grant) = store.acquire(&request).await.expect("acquire") else { panic!("not granted") };
    drop(store);
    let store = open(&path).expect("the store opens again");
    assert_eq!(store.document("a").await.expect("document").map(|kept| kept.body), Some(vec![1]));
    let listed = store.locks(None, 9).await.expect("locks").1;
    assert_eq!(listed[0].holders[0].fence, grant.fence);
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
}
