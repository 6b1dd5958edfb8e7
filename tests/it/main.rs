//! The one integration binary. `store` holds every backend against the contract;
//! `simulation` plays the engine over a failing store.

mod servers;
mod simulation;
mod store;
