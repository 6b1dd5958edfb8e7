//! The API, version 1: what the commands do, over HTTP. Each route reads what was sent, calls one verb
//! of `api` and answers its view; nothing is decided here.

pub mod queues;

use serde::Serialize;

/// A list, and where it goes on.
#[derive(Debug, Serialize)]
pub struct ListView<T> {
    pub items: Vec<T>,
    /// To be sent as `after` for what follows; null at the end.
    pub next: Option<String>,
}
