//! The only place that knows a database. `contract` says what every backend does; the backends are
//! few, dumb and atomic; no backend knows another.

pub mod advanced;
pub mod codec;
pub mod contract;
pub mod fault;
pub mod memory;
pub mod open;
pub mod postgres;
pub mod redis;
pub mod remote;
pub mod scheduled;
pub mod sharded;
pub mod sqlite;
pub mod url;
pub mod wire;

pub use self::redis::{RedisOptions, RedisStore};
pub use self::remote::RemoteStore;
pub use contract::*;
pub use memory::MemoryStore;
pub use postgres::PostgresStore;
pub use sharded::ShardedStore;
pub use sqlite::{SqliteOptions, SqliteStore};
pub use url::StoreUrl;
