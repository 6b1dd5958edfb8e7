//! The one integration binary. `store` holds every backend against the contract.

mod cli;
mod store;
