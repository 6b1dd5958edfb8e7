//! How to open a fresh store of each backend, and how its clock is moved.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use goflow::domain::{Clock, Entropy, Ms, Shard};
use goflow::store::sharded::{Map, Opener, ShardedOptions, State, Strategy};
use goflow::store::{
    MemoryStore, PostgresStore, RedisOptions, RedisStore, ShardedStore, SqliteOptions, SqliteStore, Store, StoreError,
};
use goflow::sys::clock::SystemClock;

use crate::remote::place::Place;
use crate::servers::postgres::{Cluster, Pooler};
use crate::servers::redis::Server;

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

/// Counts up: the tests of a sharded store need no better randomness.
pub struct Count(std::sync::atomic::AtomicU64);

impl Count {
    pub fn new() -> Count {
        Count(7.into())
    }

    /// For two processes, which never draw the same.
    pub fn from(first: u64) -> Count {
        Count(first.into())
    }
}

impl Entropy for Count {
    fn next(&self) -> u64 {
        self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }
}

/// A store over shards that are opened by their place in a list.
pub async fn sharded_over(stores: Vec<Arc<dyn Store>>, clock: Arc<dyn Clock>, strategy: Strategy) -> ShardedStore {
    let urls: Vec<String> = (0..stores.len()).map(|nth| format!("test:{nth}")).collect();
    sharded_by(Map::of_urls(&urls, strategy), stores, clock).await
}

/// The laws make their ids for shard 0: there everything is at home, and the others are asked as well.
async fn at_home_on_the_first(stores: Vec<Arc<dyn Store>>, clock: Arc<dyn Clock>) -> ShardedStore {
    let urls: Vec<String> = (0..stores.len()).map(|nth| format!("test:{nth}")).collect();
    let mut map = Map::of_urls(&urls, Strategy::Hash);
    map.shards.iter_mut().skip(1).for_each(|entry| entry.state = State::Draining);
    sharded_by(map, stores, clock).await
}

async fn sharded_by(map: Map, stores: Vec<Arc<dyn Store>>, clock: Arc<dyn Clock>) -> ShardedStore {
    let opener: Opener = Arc::new(move |id, _| {
        let store = stores.get(usize::from(id)).cloned();
        Box::pin(async move { store.ok_or_else(|| StoreError::Refused("no such shard".into())) })
    });
    let entropy = Arc::new(Count::new());
    let options = ShardedOptions { opener, clock, entropy, only: None };
    ShardedStore::open(map, options).await.expect("the shards open")
}

/// One shard: nothing is put together, and everything passes through.
pub async fn sharded_one() -> Subject {
    let clock = TestClock::new();
    let store = sharded_over(vec![Arc::new(MemoryStore::new(clock.clone()))], clock.clone(), Strategy::Hash).await;
    Subject { store: Arc::new(store), clock: Some(clock), _keeps: Box::new(()) }
}

pub async fn sharded() -> Subject {
    let clock = TestClock::new();
    let memory = || -> Arc<dyn Store> { Arc::new(MemoryStore::new(clock.clone())) };
    let store = at_home_on_the_first(vec![memory(), memory(), memory()], clock.clone()).await;
    Subject { store: Arc::new(store), clock: Some(clock), _keeps: Box::new(()) }
}

/// Three Redis servers.
pub async fn sharded_redis() -> Subject {
    let servers = [0; 3].map(|_| Server::start(&[]));
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    for server in &servers {
        stores.push(Arc::new(RedisStore::open(&server.url(), RedisOptions::default()).await.expect("opens")));
    }
    let store = at_home_on_the_first(stores, Arc::new(SystemClock)).await;
    Subject { store: Arc::new(store), clock: None, _keeps: Box::new(servers) }
}

/// Three shards that all take new work: for what has no id that names a shard.
pub async fn sharded_spread() -> Subject {
    let clock = TestClock::new();
    let memory = || -> Arc<dyn Store> { Arc::new(MemoryStore::new(clock.clone())) };
    let store = sharded_over(vec![memory(), memory(), memory()], clock.clone(), Strategy::Hash).await;
    Subject { store: Arc::new(store), clock: Some(clock), _keeps: Box::new(()) }
}

/// Three key spaces of one Redis, all of which take new work.
pub async fn sharded_spread_redis() -> Subject {
    let server = Server::start(&[]);
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    for shard in 0..3 {
        let options = RedisOptions { shard: Shard(shard), ..RedisOptions::default() };
        stores.push(Arc::new(RedisStore::open(&server.url(), options).await.expect("opens")));
    }
    let store = sharded_over(stores, Arc::new(SystemClock), Strategy::Hash).await;
    Subject { store: Arc::new(store), clock: None, _keeps: Box::new(server) }
}

/// A Redis, a PostgreSQL and a file.
pub async fn sharded_mixed() -> Subject {
    let (server, cluster) = (Server::start(&[]), Cluster::start());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sqlite = SqliteStore::open(&folder.path().join("q.db"), Arc::new(SystemClock), SqliteOptions::default());
    let stores: Vec<Arc<dyn Store>> = vec![
        Arc::new(RedisStore::open(&server.url(), RedisOptions::default()).await.expect("opens")),
        Arc::new(PostgresStore::open(&cluster.url()).await.expect("opens")),
        Arc::new(sqlite.expect("opens")),
    ];
    let store = at_home_on_the_first(stores, Arc::new(SystemClock)).await;
    Subject { store: Arc::new(store), clock: None, _keeps: Box::new((server, cluster, folder)) }
}

pub async fn postgres() -> Subject {
    let cluster = Cluster::start();
    let store = PostgresStore::open(&cluster.url()).await.expect("the store opens");
    Subject { store: Arc::new(store), clock: None, _keeps: Box::new(cluster) }
}

/// PostgreSQL behind a pooler that gives out server processes by the transaction.
pub async fn pooled() -> Subject {
    let cluster = Cluster::start();
    let pooler = Pooler::before(&cluster);
    let store = PostgresStore::open(&pooler.url()).await.expect("the store opens");
    Subject { store: Arc::new(store), clock: None, _keeps: Box::new((pooler, cluster)) }
}

/// One key space of a server that others use as well.
pub async fn key_space(url: &str, space: u16) -> Subject {
    let options = RedisOptions { shard: Shard(space), ..RedisOptions::default() };
    let store = RedisStore::open(url, options).await.expect("opens");
    Subject { store: Arc::new(store), clock: None, _keeps: Box::new(()) }
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
