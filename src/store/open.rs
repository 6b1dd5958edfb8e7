//! From a URL to a store. The one place that knows all backends by name.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::redis::address::{Address, Way};
use super::remote::Token;
use super::sharded::{Map, Opener, ShardedOptions, Strategy, map_of};
use super::url::{key_space, next_to, redis_shard};
use super::{
    MemoryStore, PostgresStore, RedisOptions, RedisStore, RemoteStore, Result, ShardedStore, SqliteOptions,
    SqliteStore, Store, StoreError, StoreUrl,
};
use crate::domain::text::count;
use crate::domain::{Clock, Entropy};

/// What an operator may insist on.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Take a Redis that may throw jobs away when its memory is full. The other backends never do.
    pub allow_eviction: bool,
    /// Who asks, if the store is behind a server.
    pub token: Option<Token>,
    /// How the shards of a list share new work, until their map says so.
    pub strategy: Strategy,
    /// The shards that this process works for; all, if nothing is said.
    pub only: Option<BTreeSet<u16>>,
    /// A store without shards is to become the first one.
    pub begin: bool,
}

/// Opens the store at `url`. The memory store takes the clock; every other one has its own. One store
/// that is itself a shard of several opens them all.
///
/// # Errors
/// The backend's: it cannot be reached, refuses, or was written by a newer goflow.
pub async fn open(
    url: &StoreUrl,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    options: OpenOptions,
) -> Result<Arc<dyn Store>> {
    let map = match url {
        // Its shards are the server's own business: to those who ask it, it is one store.
        StoreUrl::Server(_) if options.only.is_some() || options.begin => {
            return Err(StoreError::Refused(
                "shards are looked after where the store is, not through a server".to_owned(),
            ));
        }
        StoreUrl::Server(url) => return Ok(Arc::new(RemoteStore::open(url, options.token.as_ref()).await?)),
        StoreUrl::Shards(urls) => Map::of_urls(urls, options.strategy),
        one => {
            let store = open_one(one, clock.clone(), options.allow_eviction).await?;
            match map_of(&*store).await? {
                Some(map) => map,
                None => match begins_with(one).await? {
                    Some(urls) => begin(&*store, &urls, options.strategy).await?,
                    None if options.begin => begin(&*store, &[alone(one)], options.strategy).await?,
                    None if options.only.is_some() => {
                        return Err(StoreError::Refused("--shards needs a store of several shards".to_owned()));
                    }
                    None => return Ok(store),
                },
            }
        }
    };
    let only = options.only.clone();
    let options = ShardedOptions { opener: opener(clock.clone(), options.allow_eviction), clock, entropy, only };
    Ok(Arc::new(ShardedStore::open(map, options).await?))
}

/// The first map of a store that had none, unless somebody else was quicker.
async fn begin(store: &dyn Store, urls: &[String], strategy: Strategy) -> Result<Map> {
    let workers = store.workers().await?.len();
    if workers == 0 {
        return Ok(Map::of_urls(urls, strategy));
    }
    // They may be those of whoever was quicker.
    map_of(store).await?.ok_or_else(|| {
        StoreError::Refused(format!(
            "{workers} registered, and workers that began before there were shards do not look for them: \
             stop them, say this again, and start them again; from then on all follow",
            workers = count(workers as u64, "worker")
        ))
    })
}

/// Opens one shard by its URL.
pub fn opener(clock: Arc<dyn Clock>, allow_eviction: bool) -> Opener {
    Arc::new(move |_, url| {
        let clock = clock.clone();
        Box::pin(async move {
            let url: StoreUrl = url.parse().map_err(|error| StoreError::Refused(format!("{error}")))?;
            if spread(&url).is_some() {
                return Err(StoreError::Refused(
                    "a shard is one key space: `shards` is said of a whole cluster".to_owned(),
                ));
            }
            open_one(&url, clock, allow_eviction).await
        })
    })
}

/// How many shards the URL of a cluster asks for.
fn spread(url: &StoreUrl) -> Option<u16> {
    let StoreUrl::Redis(url) = url else { return None };
    Address::read(url).ok().and_then(|address| address.shards)
}

/// The URL of a store as that of its first shard.
fn alone(url: &StoreUrl) -> String {
    if spread(url).is_some() { key_space(&url.text(), 0) } else { url.text() }
}

/// The shards with which a cluster's store begins, if its URL says how many.
async fn begins_with(url: &StoreUrl) -> Result<Option<Vec<String>>> {
    let Some(shards) = spread(url).filter(|shards| *shards > 1) else { return Ok(None) };
    let url = url.text();
    let spaces = super::redis::more_spaces(&url, vec![0], usize::from(shards) - 1).await?;
    Ok(Some(spaces.into_iter().map(|space| key_space(&url, space)).collect()))
}

/// The URL of a new key space on the server of another: in a cluster on the node that has the fewest of those
/// in `known`; elsewhere it is named by `number`.
///
/// # Errors
/// [`StoreError::Refused`] where there is none; those of a cluster that is asked for its nodes.
pub async fn beside(url: &str, number: u16, known: &[String]) -> Result<String> {
    let is_cluster = |url: &str| Address::read(url).is_ok_and(|address| address.way == Way::Cluster);
    if !is_cluster(url) {
        return next_to(url, number).map_err(StoreError::Refused);
    }
    // Whatever cluster it is of: numbers do not run out.
    let of_clusters = known.iter().filter(|url| is_cluster(url));
    let taken: Vec<u16> =
        of_clusters.filter_map(|url| redis_shard(url).ok()).map(|(_, space)| space.unwrap_or_default().0).collect();
    let spaces = super::redis::more_spaces(url, taken, 1).await?;
    let space = spaces.last().copied().unwrap_or(number);
    Ok(key_space(url, space))
}

async fn open_one(url: &StoreUrl, clock: Arc<dyn Clock>, allow_eviction: bool) -> Result<Arc<dyn Store>> {
    match url {
        StoreUrl::Memory => Ok(Arc::new(MemoryStore::new(clock))),
        StoreUrl::Sqlite(path) => Ok(Arc::new(SqliteStore::open(path, clock, SqliteOptions::default())?)),
        StoreUrl::Server(_) => Err(StoreError::Refused("a shard is a store, not a server".to_owned())),
        StoreUrl::Postgres(url) => Ok(Arc::new(PostgresStore::open(url).await?)),
        StoreUrl::Redis(url) => {
            let (url, shard) = redis_shard(url).map_err(|why| StoreError::Refused(why.to_owned()))?;
            let options = RedisOptions { shard: shard.unwrap_or_default(), allow_eviction };
            Ok(Arc::new(RedisStore::open(url, options).await?))
        }
        StoreUrl::Shards(_) => Err(StoreError::Refused("a shard is one store, not several".to_owned())),
    }
}
