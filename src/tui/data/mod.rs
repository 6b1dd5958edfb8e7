//! The data task: does what the state asks of the store, through `api::Client` alone, and replies. A new
//! question makes the one before it void. While the store is away it is asked again by itself, ever more
//! seldom. Knows nothing of the screen.

mod act;
mod command;
mod dead;
mod events;
mod fetch;
mod runs;
mod shards;
mod steer;
mod tail;
mod trend;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

pub use self::act::{act, survey};
pub use self::command::{command, quoted};

use self::fetch::Memory;
use super::msg::{Answer, Ask, Body, Query, Reply};
use crate::api::{ApiError, Client, StoreError};

/// The waits between two questions to a store that is away.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(15);
/// A store that does not answer for so long is away, whatever its own patience.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// How long to wait after so many failures in a row.
fn pause(failures: u32) -> Duration {
    FIRST.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST)
}

/// Where replies go.
pub type Replies = mpsc::Sender<Reply>;

/// Answers questions until nobody asks or nobody listens any more.
pub async fn serve(client: Client, mut asks: mpsc::UnboundedReceiver<Ask>, replies: Replies) {
    let mut memory = Memory::default();
    let mut open: Option<Ask> = None;
    let (mut failures, mut not_before) = (0u32, None::<Instant>);
    loop {
        let question = open.clone();
        let looking = async {
            let ask = question.as_ref()?;
            if let Some(at) = not_before {
                tokio::time::sleep_until(at).await;
            }
            Some(look(&client, &mut memory, ask, &replies).await)
        };
        tokio::select! {
            biased;
            ask = asks.recv() => {
                let Some(mut ask) = ask else { return };
                // Of several only the latest is still of use.
                while let Ok(later) = asks.try_recv() {
                    ask = later;
                }
                open = Some(ask);
                // Whoever asks for something else wants to know at once whether the store is back.
                not_before = None;
            }
            Some(answer) = looking => {
                let Some(generation) = open.as_ref().map(|ask| ask.generation) else { continue };
                let answer = match answer {
                    Ok(body) => {
                        (failures, not_before, open) = (0, None, None);
                        Answer::Body(body)
                    }
                    Err(error) if is_away(&error) => {
                        // What the operator asks for in between is no reason to wait longer.
                        failures += u32::from(not_before.is_some() || failures == 0);
                        let wait = pause(failures);
                        not_before = Some(Instant::now() + wait);
                        Answer::Lost { why: error.to_string(), retry_at: client.clock().now().after(wait) }
                    }
                    Err(error) => {
                        (failures, not_before, open) = (0, None, None);
                        Answer::Refused(error.to_string())
                    }
                };
                let reply = Reply { generation, at: client.clock().now(), answer };
                if replies.send(reply).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn is_away(error: &ApiError) -> bool {
    matches!(error, ApiError::Store(error) if error.is_transient())
}

async fn look(client: &Client, memory: &mut Memory, ask: &Ask, replies: &Replies) -> Result<Body, ApiError> {
    // A walk over many records may take long as a whole: there each step is watched.
    if matches!(ask.query, Query::Jobs(_)) {
        return memory.fetch(client, ask, replies).await;
    }
    within(memory.fetch(client, ask, replies)).await
}

/// A store that says nothing for too long is away.
async fn within<T>(asking: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    match tokio::time::timeout(ANSWERS_WITHIN, asking).await {
        Ok(answer) => answer,
        Err(_) => {
            let seconds = ANSWERS_WITHIN.as_secs();
            let why = format!("the store has not answered for {seconds} seconds");
            Err(ApiError::Store(StoreError::Unavailable(why)))
        }
    }
}

/// One page, for those who look once.
///
/// # Errors
/// The store's.
pub async fn once(client: &Client, ask: &Ask) -> Result<Body, ApiError> {
    let mut memory = Memory::default();
    let (replies, mut parts) = mpsc::channel(16);
    let reader = async { while parts.recv().await.is_some() {} };
    let fetched = async {
        let body = memory.fetch(client, ask, &replies).await;
        drop(replies);
        body
    };
    tokio::join!(fetched, reader).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_stays_away_is_asked_ever_more_seldom() {
        let waits: Vec<u64> = (1..8).map(|failures| pause(failures).as_millis() as u64).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
        assert_eq!(pause(u32::MAX), LONGEST);
    }
}
