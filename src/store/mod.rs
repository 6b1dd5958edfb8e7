//! The only place that knows a database. `contract` says what every backend does; the backends are
//! few, dumb and atomic; no backend knows another.

pub mod codec;
pub mod contract;
pub mod fault;
pub mod memory;
pub mod redis;
pub mod url;

pub use self::redis::{RedisOptions, RedisStore};
pub use contract::*;
pub use memory::MemoryStore;
pub use url::StoreUrl;
