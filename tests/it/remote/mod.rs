//! Remote mode: a goflow whose store is a server. The contract itself is held against it in `store`, as
//! against every other backend; here stand who may what, and what happens when processes die.

mod again;
mod again_shards;
mod live;
pub mod place;
mod processes;
mod pull;
mod rights;
mod secured;
mod shards;
