//! The one integration binary. `store` holds every backend against the contract;
//! `simulation` plays the engine over a failing store; `sqlite` is about files and processes.

mod house;
mod simulation;
mod sqlite;
mod store;
