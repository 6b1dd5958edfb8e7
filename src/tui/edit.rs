//! `e`: a job's payload goes to the operator's editor, and what comes back is enqueued as a new job of
//! the same type. The old job stays as it is. Knows nothing of the screen, which its caller clears first.

use crate::api::{Client, NewJob};
use crate::domain::{Job, Json, limits};
use crate::sys::editor::Draft;
use crate::sys::env::Env;

/// Why nothing was enqueued, as a sentence; or the id of the new job.
pub async fn edit_and_enqueue(client: &Client, env: &Env, id: &str) -> Result<String, String> {
    let stored = client.job(id).await.map_err(|error| error.to_string())?;
    let before = serde_json::to_string_pretty(&stored.job.payload.to_value()).map_err(|error| error.to_string())?;
    let name = format!("goflow-{}-{:08x}.json", stored.job.id.short(), client.entropy().next() as u32);
    let env = env.clone();
    let editing = tokio::task::spawn_blocking(move || {
        let mut draft =
            Draft::new(&std::env::temp_dir(), &name, &(before.clone() + "\n")).map_err(|e| e.to_string())?;
        let text = draft.edit(&env).map_err(|error| error.to_string())?;
        if text.trim() == before.trim() {
            return Err("nothing was changed, so nothing was enqueued".to_owned());
        }
        Json::parse(text.trim(), limits::PAYLOAD_BYTES).map_err(|error| {
            format!("the payload {error}; nothing was enqueued, your text is in {}", draft.keep().display())
        })
    });
    let payload = editing.await.map_err(|error| format!("the editor could not be waited for: {error}"))??;
    let old = stored.job;
    let mut job = Job::new(client.job_id(), old.kind, old.queue, payload);
    (job.priority, job.retry, job.retry_is_own) = (old.priority, old.retry, old.retry_is_own);
    (job.timeout_ms, job.metadata) = (old.timeout_ms, old.metadata);
    let new = client.enqueue(NewJob::now(job)).await.map_err(|error| error.to_string())?;
    Ok(new.job.id.to_string())
}
