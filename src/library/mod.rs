//! The library's face: what another program uses of goflow. A [`Client`] adds jobs and waits for them,
//! a [`Worker`] does them with Rust functions. The binary is built on the same layers; what is not
//! here is reached by [`Client::api`].
//!
//! ```
//! use goflow::{Client, Failure, Job, Worker};
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Email {
//!     to: String,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("memory:").await?;
//! let id = client.enqueue("send_email", &Email { to: "ada@example.com".into() }).await?;
//!
//! Worker::new(&client)
//!     .handle("send_email", |job: Job<Email>| async move {
//!         job.progress(50.0, "connected");
//!         if !job.payload.to.contains('@') {
//!             return Err(Failure::bury("that is no address"));
//!         }
//!         Ok(format!("sent to {}", job.payload.to))
//!     })
//!     .until_empty()
//!     .run()
//!     .await?;
//!
//! let sent: String = client.wait(id).await?;
//! assert_eq!(sent, "sent to ada@example.com");
//! # Ok(())
//! # }
//! ```

mod client;
mod failure;
mod function;
mod job;
mod lock;
mod worker;

pub use client::{Client, Enqueue, Transaction};
pub use failure::Failure;
pub use job::Job;
pub use lock::{Lock, Semaphore};
pub use worker::Worker;

pub use crate::api::locks::Held;
pub use crate::workflow::Batching;

use crate::api::ApiError;
use crate::domain::job::JobError;
use crate::domain::json::BadJson;
use crate::domain::name::BadName;
use crate::domain::{JobId, JobState};
use crate::store::StoreError;

/// Why something that was asked of the library was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("the store URL cannot be used: {0}")]
    Url(String),
    #[error(transparent)]
    Name(#[from] BadName),
    /// A job type that begins with `goflow:`.
    #[error("the job type `{0}` is kept for goflow itself")]
    Reserved(String),
    #[error("the payload cannot be kept: {0}")]
    Payload(#[from] BadJson),
    #[error("the payload is not JSON: {0}")]
    NotJson(serde_json::Error),
    #[error("the metadata is {is} bytes, more than the {limit} allowed")]
    Metadata { is: usize, limit: usize },
    /// The job that was waited for ended otherwise than completed.
    #[error("job {id} ended {state}{}", told(.error))]
    Ended { id: JobId, state: JobState, error: Option<JobError> },
    /// The job completed with a result of another form.
    #[error("the result of job {id} does not fit: {why}")]
    Result { id: JobId, why: serde_json::Error },
}

fn told(error: &Option<JobError>) -> String {
    error.as_ref().map(|error| format!(": {error}")).unwrap_or_default()
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        Error::Api(error.into())
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
