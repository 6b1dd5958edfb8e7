//! New work in somebody else's transaction: the job is there exactly if that commits. It uses nothing
//! of an open store, only the schema that one has made.

pub use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use super::enqueue::Batch;
use super::names::Names;
use crate::store::contract::{Enqueued, NewJob, Result, StoreError};

/// Adds a job in `transaction`. Those who wait for work are told when it commits.
///
/// # Errors
/// The database's, after which the transaction can only be rolled back.
pub async fn enqueue_in(transaction: &Transaction<'_>, job: &NewJob) -> Result<Enqueued> {
    let failed = |error: tokio_postgres::Error| StoreError::from(super::errors::Fault::from(error));
    let queue = job.job.queue.as_str();
    let make = "INSERT INTO goflow.queue (name) VALUES ($1) ON CONFLICT (name) DO NOTHING";
    transaction.query_typed(make, &[(&queue, Type::TEXT)]).await.map_err(failed)?;
    let look = "SELECT id, name FROM goflow.queue WHERE name = $1";
    let rows = transaction.query_typed(look, &[(&queue, Type::TEXT)]).await.map_err(failed)?;
    let names = Names::of(&rows)?;
    let told = Batch::of(std::slice::from_ref(job), &names)?.send(transaction.client()).await?;
    transaction.query_typed("SELECT pg_notify('goflow', '')", &[]).await.map_err(failed)?;
    let missing = || StoreError::Corrupt("PostgreSQL does not tell what became of a job".to_owned());
    told.answers().into_iter().next().ok_or_else(missing)
}
