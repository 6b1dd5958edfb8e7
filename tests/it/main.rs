//! The one integration binary. `cli` types commands; `store` holds every backend against the
//! contract; `simulation` plays the engine over a failing store; `torture` kills real processes;
//! `house` keeps the rules.

mod cli;
mod house;
mod servers;
mod simulation;
mod sqlite;
mod store;
mod torture;
