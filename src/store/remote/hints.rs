//! Hints over HTTP: a request that the server answers when new work may be there, and again. While the
//! server is away it is asked now and then; its return counts as a hint.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::link::Link;
use crate::store::wire::{HINTS_WAIT_MS, HintWish};

/// Pauses between attempts double from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// Between an answer and the next request: what comes thick is one hint.
const REST: Duration = Duration::from_millis(2);

pub struct Hints {
    sender: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Hints {
    /// Listens until it is dropped.
    pub fn listen(link: Arc<Link>) -> Self {
        let sender = watch::Sender::new(0);
        let task = tokio::spawn(listen(link, sender.clone()));
        Hints { sender, task }
    }

    pub fn receiver(&self) -> watch::Receiver<u64> {
        self.sender.subscribe()
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(link: Arc<Link>, sender: watch::Sender<u64>) {
    let (mut seen, mut pause) = (None, PAUSE.0);
    loop {
        let wish = HintWish { seen, wait_ms: HINTS_WAIT_MS };
        match link.hint(&wish).await {
            Ok(number) => {
                if seen.replace(number) != Some(number) {
                    sender.send_modify(|count| *count += 1);
                }
                pause = PAUSE.0;
                tokio::time::sleep(REST).await;
            }
            Err(error) => {
                tracing::debug!("no hints from {}: {error}", link.shown());
                // Another server may answer next, whose numbers say nothing about this one's.
                seen = None;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}
