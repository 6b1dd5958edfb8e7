//! Error codes as the commands name them. The codes themselves are every face's and live in `api`.

pub use crate::api::codes::{Code, exit};
