//! The HTTP server: routes to the operator's verbs. Each is a thin call of `api`; what a route needs to
//! be allowed stands in one table (`scopes`). It keeps nothing: any number of servers over one store
//! answer alike. Knows no database, and prints nothing: what is to be logged is handed out.
//!
//! A request goes through, in this order: access log, CORS, Host and Origin, the table's scope, the
//! limits of the body, the verb.

pub mod app;
pub mod auth;
mod calls;
pub mod compat;
pub mod health;
mod hosts;
mod idempotency;
pub mod limits;
mod listen;
mod live;
mod log;
mod metrics;
pub mod openapi;
pub mod problem;
mod pull;
mod room;
pub mod scopes;
mod taken;
pub mod v1;
pub mod webhooks;

pub use self::app::{App, Options};
pub use self::listen::{Server, ServerError};
pub use self::log::{AccessLog, Answered};
pub use self::room::ROOM_BYTES;
