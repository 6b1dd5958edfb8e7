//! Wake-ups from other processes: one connection of its own that listens. It goes past any
//! transaction pooler if the URL does; behind one it hears nothing, and polling does the work.

use std::future::poll_fn;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Config, Error};

use super::tls::Connector;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Listens until it is dropped.
pub(super) struct Listener(JoinHandle<()>);

impl Listener {
    pub fn start(config: Config, connector: Connector, hints: watch::Sender<u64>) -> Listener {
        Listener(tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                if listen(&config, &connector, &hints, &mut pause).await.is_err() {
                    tracing::debug!("the connection for wake-ups is gone, polling until it is back");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listen(
    config: &Config,
    connector: &Connector,
    hints: &watch::Sender<u64>,
    pause: &mut Duration,
) -> Result<(), Error> {
    let (client, mut connection) = config.connect(connector.clone()).await?;
    let mut messages = std::pin::pin!(poll_fn(move |context| connection.poll_message(context)));
    let mut listening = std::pin::pin!(client.batch_execute("LISTEN goflow"));
    let mut ready = false;
    loop {
        let message = tokio::select! {
            biased;
            done = &mut listening, if !ready => {
                done?;
                ready = true;
                *pause = FIRST_PAUSE;
                // What was missed until now.
                hints.send_modify(|count| *count += 1);
                continue;
            }
            message = next(&mut messages) => message,
        };
        match message {
            None => return Ok(()),
            Some(Err(error)) => return Err(error),
            Some(Ok(AsyncMessage::Notification(_))) => hints.send_modify(|count| *count += 1),
            Some(Ok(_)) => {}
        }
    }
}

async fn next<F>(messages: &mut F) -> Option<Result<AsyncMessage, Error>>
where
    F: Future<Output = Option<Result<AsyncMessage, Error>>> + Unpin,
{
    messages.await
}
