//! The one integration binary. `store` holds every backend against the contract; `sqlite`
//! is about files and processes.

mod sqlite;
mod store;
