//! The one integration binary. `cli` types commands; `store` holds every backend against the
//! contract; `simulation` plays the engine over a failing store; `house` keeps the rules.

mod cli;
mod house;
mod simulation;
mod store;
