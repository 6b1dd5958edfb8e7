//! Hints: a subscription on a connection of its own that turns each message into a rise of a counter, made
//! when somebody first asks for hints: to each that listens the server writes with each batch of work. While it
//! is broken it is made anew; what was missed meanwhile counts as one hint. Being the first to notice a new life
//! of the server, whoever listens also has its log mended; whoever does not, when the link has connected anew.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::connection::Link;
use super::health::{Server, mend_log};
use super::keys::Keys;

/// Pauses between attempts to subscribe double from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

pub struct Hints {
    sender: watch::Sender<u64>,
    wanted: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Hints {
    /// Listens from the first receiver on, until it is dropped.
    pub fn when_wanted(link: Arc<Link>, keys: Arc<Keys>) -> Self {
        let (sender, wanted) = (watch::Sender::new(0), Arc::new(Notify::new()));
        let task = tokio::spawn(listen(link, keys, sender.clone(), wanted.clone()));
        Hints { sender, wanted, task }
    }

    pub fn receiver(&self) -> watch::Receiver<u64> {
        self.wanted.notify_one();
        self.sender.subscribe()
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(link: Arc<Link>, keys: Arc<Keys>, sender: watch::Sender<u64>, wanted: Arc<Notify>) {
    let mut numbers = link.numbers();
    numbers.mark_unchanged();
    loop {
        tokio::select! {
            biased;
            () = wanted.notified() => break,
            _ = numbers.changed() => mend(&link, &keys).await,
        }
    }
    let mut pause = PAUSE.0;
    let mut first = true;
    loop {
        numbers.mark_unchanged();
        if let Ok(mut subscription) = link.subscribe(keys.hint()).await {
            pause = PAUSE.0;
            if !std::mem::take(&mut first) {
                mend(&link, &keys).await;
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

/// Looks whether the server lives anew.
async fn mend(link: &Link, keys: &Keys) {
    if let Ok(server) = Server::ask(link).await
        && let Err(error) = mend_log(link, keys, &server).await
    {
        tracing::warn!("the append-only file is not written anew: {error}");
    }
}
