//! From a URL to a store. The one place that knows all backends by name.

use std::sync::Arc;

use super::remote::Token;
use super::{
    MemoryStore, PostgresStore, RedisOptions, RedisStore, RemoteStore, Result, SqliteOptions, SqliteStore, Store,
    StoreUrl,
};
use crate::domain::Clock;

/// What an operator may insist on.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Take a Redis that may throw jobs away when its memory is full. The other backends never do.
    pub allow_eviction: bool,
    /// Who asks, if the store is behind a server.
    pub token: Option<Token>,
}

/// Opens the store at `url`. The memory store takes the clock; every other one has its own.
///
/// # Errors
/// The backend's: it cannot be reached, refuses, or was written by a newer goflow.
pub async fn open(url: &StoreUrl, clock: Arc<dyn Clock>, options: OpenOptions) -> Result<Arc<dyn Store>> {
    match url {
        StoreUrl::Memory => Ok(Arc::new(MemoryStore::new(clock))),
        StoreUrl::Sqlite(path) => Ok(Arc::new(SqliteStore::open(path, clock, SqliteOptions::default())?)),
        StoreUrl::Server(url) => Ok(Arc::new(RemoteStore::open(url, options.token.as_ref()).await?)),
        StoreUrl::Postgres(url) => Ok(Arc::new(PostgresStore::open(url).await?)),
        StoreUrl::Redis(url) => {
            let options = RedisOptions { allow_eviction: options.allow_eviction, ..RedisOptions::default() };
            Ok(Arc::new(RedisStore::open(url, options).await?))
        }
    }
}
