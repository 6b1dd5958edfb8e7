//! From a URL to a store. The one place that knows all backends by name.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::remote::Token;
use super::sharded::{Map, Opener, ShardedOptions, Strategy, map_of};
use super::url::redis_shard;
use super::{
    MemoryStore, PostgresStore, RedisOptions, RedisStore, RemoteStore, Result, ShardedStore, SqliteOptions,
    SqliteStore, Store, StoreError, StoreUrl,
};
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
        // The server claims from all shards at once, for whoever asks it.
        StoreUrl::Server(_) if options.only.is_some() => {
            return Err(StoreError::Refused(
                "whoever works through a server works for all of its shards: --shards goes with --store".to_owned(),
            ));
        }
        StoreUrl::Server(url) => {
            let store = RemoteStore::open(url, options.token.as_ref()).await?;
            if options.begin && store.shards().is_none() {
                return Err(StoreError::Refused(
                    "the server's store has no shards yet: say this where the store is while the server and its workers are \
                     stopped; from then on all follow"
                        .to_owned(),
                ));
            }
            return Ok(Arc::new(store));
        }
        StoreUrl::Shards(urls) => Map::of_urls(urls, options.strategy),
        one => {
            let store = open_one(one, clock.clone(), options.allow_eviction).await?;
            match map_of(&*store).await? {
                Some(map) => map,
                None if options.begin => {
                    let workers = store.workers().await?.len();
                    if workers > 0 {
                        return Err(StoreError::Refused(format!(
                            "{workers} registered, and workers that began before there were shards do not look for them: \
                             stop them, say this again, and start them again; from then on all follow",
                            workers = crate::domain::text::count(workers as u64, "worker")
                        )));
                    }
                    Map::of_urls(&[one.text()], options.strategy)
                }
                None if options.only.is_some() => {
                    return Err(StoreError::Refused("--shards needs a store of several shards".to_owned()));
                }
                None => return Ok(store),
            }
        }
    };
    let only = options.only.clone();
    let options = ShardedOptions { opener: opener(clock.clone(), options.allow_eviction), clock, entropy, only };
    Ok(Arc::new(ShardedStore::open(map, options).await?))
}

/// Opens one shard by its URL.
pub fn opener(clock: Arc<dyn Clock>, allow_eviction: bool) -> Opener {
    Arc::new(move |_, url| {
        let clock = clock.clone();
        Box::pin(async move {
            let url: StoreUrl = url.parse().map_err(|error| StoreError::Refused(format!("{error}")))?;
            open_one(&url, clock, allow_eviction).await
        })
    })
}

async fn open_one(url: &StoreUrl, clock: Arc<dyn Clock>, allow_eviction: bool) -> Result<Arc<dyn Store>> {
    match url {
        StoreUrl::Memory => Ok(Arc::new(MemoryStore::new(clock))),
        StoreUrl::Sqlite(path) => Ok(Arc::new(SqliteStore::open(path, clock, SqliteOptions::default())?)),
        StoreUrl::Server(_) => Err(StoreError::Refused("a shard is a store, not a server".to_owned())),
        StoreUrl::Postgres(url) => Ok(Arc::new(PostgresStore::open(url).await?)),
        StoreUrl::Redis(url) => {
            let (url, shard) = redis_shard(url).map_err(|why| StoreError::Refused(why.to_owned()))?;
            Ok(Arc::new(RedisStore::open(url, RedisOptions { shard, allow_eviction }).await?))
        }
        StoreUrl::Shards(_) => Err(StoreError::Refused("a shard is one store, not several".to_owned())),
    }
}
