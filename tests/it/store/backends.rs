//! How to open a fresh store of each backend, and how its clock is moved.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use goflow::domain::{Clock, Ms};
use goflow::store::{MemoryStore, PostgresStore, RedisOptions, RedisStore, SqliteOptions, SqliteStore, Store};

use crate::remote::place::Place;
use crate::servers::{postgres::Cluster, redis::Server};

/// A store under test.
pub struct Subject {
    pub store: Arc<dyn Store>,
    clock: Option<Arc<TestClock>>,
    /// A server or folder that lives as long as the test.
    _keeps: Box<dyn Any + Send + Sync>,
}

impl Subject {
    /// Whether the store has a clock of its own.
    pub fn is_real(&self) -> bool {
        self.clock.is_none()
    }

    /// Lets the store's clock advance: at once where the test owns it, in real time elsewhere.
    pub async fn pass(&self, time: Duration) {
        match &self.clock {
            Some(clock) => clock.advance(time),
            None => tokio::time::sleep(time).await,
        }
    }
}

/// A clock that moves when it is told to.
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn new() -> Arc<Self> {
        Arc::new(TestClock(AtomicI64::new(1_770_000_000_000)))
    }

    pub fn advance(&self, time: Duration) {
        self.0.fetch_add(time.as_millis() as i64, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Ms {
        Ms(self.0.load(Ordering::SeqCst))
    }
}

pub async fn memory() -> Subject {
    let clock = TestClock::new();
    Subject { store: Arc::new(MemoryStore::new(clock.clone())), clock: Some(clock), _keeps: Box::new(()) }
}

pub async fn sqlite() -> Subject {
    let clock = TestClock::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("queue.db");
    let store = SqliteStore::open(&path, clock.clone(), SqliteOptions::default()).expect("the store opens");
    Subject { store: Arc::new(store), clock: Some(clock), _keeps: Box::new(folder) }
}

pub async fn postgres() -> Subject {
    let cluster = Cluster::start();
    let store = PostgresStore::open(&cluster.url()).await.expect("the store opens");
    Subject { store: Arc::new(store), clock: None, _keeps: Box::new(cluster) }
}

pub async fn redis() -> Subject {
    redis_on(Server::start(&[])).await
}

pub async fn redis_on(server: Server) -> Subject {
    let store = RedisStore::open(&server.url(), RedisOptions::default()).await.expect("opens");
    Subject { store: Arc::new(store), clock: None, _keeps: Box::new(server) }
}

/// The reference store behind a server in this process.
pub async fn remote() -> Subject {
    let clock = TestClock::new();
    let memory = Arc::new(MemoryStore::new(clock.clone()));
    let place = Place::over(memory, clock.clone()).await;
    let store = place.store().await.expect("the store opens");
    Subject { store: Arc::new(store), clock: Some(clock), _keeps: Box::new(place) }
}
