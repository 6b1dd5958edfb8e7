//! From a URL to a store. The one place that knows all backends by name.

use std::sync::Arc;

use super::{
    MemoryStore, PostgresStore, RedisOptions, RedisStore, Result, SqliteOptions, SqliteStore, Store, StoreUrl,
};
use crate::domain::Clock;

/// Opens the store at `url`. The memory store takes the clock; every other one has its own.
///
/// # Errors
/// The backend's: it cannot be reached, refuses, or was written by a newer goflow.
pub async fn open(url: &StoreUrl, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>> {
    match url {
        StoreUrl::Memory => Ok(Arc::new(MemoryStore::new(clock))),
        StoreUrl::Sqlite(path) => Ok(Arc::new(SqliteStore::open(path, clock, SqliteOptions::default())?)),
        StoreUrl::Postgres(url) => Ok(Arc::new(PostgresStore::open(url).await?)),
        StoreUrl::Redis(url) => Ok(Arc::new(RedisStore::open(url, RedisOptions::default()).await?)),
    }
}
