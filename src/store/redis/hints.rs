//! Hints: a subscription on a connection of its own that turns each message into a rise of a counter.
//! While it is broken it is made anew; what was missed meanwhile counts as one hint. Being the first
//! to notice a new life of the server, it also has its log mended.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::connection::Link;
use super::health::{Server, mend_log};
use super::keys::Keys;

/// Pauses between attempts to subscribe double from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

pub struct Hints {
    sender: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Hints {
    /// Listens until it is dropped.
    pub fn listen(link: Arc<Link>, keys: Arc<Keys>) -> Self {
        let sender = watch::Sender::new(0);
        let task = tokio::spawn(listen(link, keys, sender.clone()));
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

async fn listen(link: Arc<Link>, keys: Arc<Keys>, sender: watch::Sender<u64>) {
    let mut pause = PAUSE.0;
    let mut first = true;
    let mut numbers = link.numbers();
    loop {
        numbers.mark_unchanged();
        if let Ok(mut subscription) = link.subscribe(keys.hint()).await {
            pause = PAUSE.0;
            if !std::mem::take(&mut first)
                && let Ok(server) = Server::ask(&link).await
                && let Err(error) = mend_log(&link, &keys, &server).await
            {
                tracing::warn!("the append-only file is not written anew: {error}");
            }
            sender.send_modify(|count| *count += 1);
            let mut messages = subscription.on_message();
            loop {
                tokio::select! {
                    biased;
                    message = messages.next() => match message {
                        Some(_) => sender.send_modify(|count| *count += 1),
                        None => break,
                    },
                    // The keys may be on another server, which may be the one to listen to.
                    _ = numbers.changed() => break,
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}
