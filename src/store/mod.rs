//! The only place that knows a database. `contract` says what every backend does; the backends are
//! few, dumb and atomic; no backend knows another.

pub mod codec;
pub mod contract;
pub mod fault;
pub mod memory;
pub mod postgres;
pub mod url;

pub use contract::*;
pub use memory::MemoryStore;
pub use postgres::PostgresStore;
pub use url::StoreUrl;
