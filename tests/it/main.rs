//! The one integration binary. `store` holds every backend against the contract;
//! `simulation` plays the engine over a failing store.

mod simulation;
mod store;
