//! The nouns and the laws, and nothing that waits: no clock, no randomness, no input or output.
//! Every state machine of goflow is one `match (state, event)` table in this folder; stores move
//! records between places and never decide where a record goes.

pub mod alert;
pub mod edit;
pub mod event;
pub mod id;
pub mod job;
pub mod json;
pub mod limits;
pub mod name;
pub mod place;
pub mod problem;
pub mod queue;
pub mod rate;
mod raw;
pub mod retry;
pub mod run;
pub mod schedule;
pub mod secret;
pub mod signature;
pub mod text;
pub mod time;
pub mod trace;
pub mod yaml;

pub use event::{Event, EventKind};
pub use id::{Epoch, Fence, HolderId, JobId, ProducerId, RunId, Shard, WorkerId};
pub use job::{Concurrency, Job, Link, Progress};
pub use json::Json;
pub use name::Name;
pub use place::{JobState, Place, To};
pub use queue::{QueueSettings, QueueStats, Retention};
pub use rate::Rate;
pub use retry::RetryPolicy;
pub use run::{RunState, StepState};
pub use time::{Clock, Entropy, Ms};
