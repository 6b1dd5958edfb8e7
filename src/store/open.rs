//! From a URL to a store. The one place that knows all backends by name.

use std::sync::Arc;

use super::{MemoryStore, PostgresStore, Result, SqliteOptions, SqliteStore, Store, StoreError, StoreUrl};
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
        other => Err(StoreError::Refused(format!("{other}: no such backend in this build"))),
    }
}
