//! Hints: a subscription on a connection of its own that turns each message into a rise of a counter.
//! While it is broken it is made anew; what was missed meanwhile counts as one hint.

use std::time::Duration;

use futures_util::StreamExt;
use redis::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Pauses between attempts to subscribe double from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

pub struct Hints {
    sender: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Hints {
    /// Listens until it is dropped.
    pub fn listen(client: Client, channel: String) -> Self {
        let sender = watch::Sender::new(0);
        let task = tokio::spawn(listen(client, channel, sender.clone()));
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

async fn listen(client: Client, channel: String, sender: watch::Sender<u64>) {
    let mut pause = PAUSE.0;
    loop {
        if let Ok(mut subscription) = client.get_async_pubsub().await
            && subscription.subscribe(&channel).await.is_ok()
        {
            pause = PAUSE.0;
            sender.send_modify(|count| *count += 1);
            let mut messages = subscription.on_message();
            while messages.next().await.is_some() {
                sender.send_modify(|count| *count += 1);
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}
