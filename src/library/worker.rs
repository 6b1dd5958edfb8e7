//! A worker whose handlers are Rust functions.

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::client::own_kind;
use super::function::{BatchFunction, Function};
use super::{Batching, Client, Error, Failure, Job, Result};
use crate::domain::Name;
use crate::engine::{self, Handler, Handlers, Summary, WorkerOptions};

/// Does the jobs of the types that it is given functions for; those of other types wait for another
/// worker. What is said wrongly is told by [`Worker::run`].
pub struct Worker {
    client: Client,
    handlers: Handlers,
    options: WorkerOptions,
    mistake: Option<Error>,
}

impl Worker {
    /// A worker of every queue, ten jobs at a time.
    pub fn new(client: &Client) -> Worker {
        let options =
            WorkerOptions { host: crate::sys::host::name(), pid: std::process::id(), ..WorkerOptions::default() };
        Worker { client: client.clone(), handlers: Handlers::new(), options, mistake: None }
    }

    /// Gives a job type its function. The payload is read as `P`: a job whose payload does not fit is
    /// buried. What is given back as `Ok` is the job's result, `()` none; an `Err` is anything that can be
    /// a [`Failure`], which every error can.
    ///
    /// The function runs on the runtime of [`Worker::run`]: what computes for long belongs into
    /// `tokio::task::spawn_blocking`. A panic fails the attempt. When the job must end (its time is over,
    /// it was cancelled, the worker stops) the function is dropped where it awaits.
    pub fn handle<P, R, E, F, Fut>(self, kind: &str, call: F) -> Worker
    where
        P: DeserializeOwned + Send + 'static,
        F: Fn(Job<P>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: Serialize + Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        self.set(kind, std::sync::Arc::new(Function::new(call)))
    }

    /// Gives a job type a function of several jobs at once: up to `batching.max`, or as many as have
    /// come within `batching.within`. It gives one result for each job, in their order.
    pub fn handle_batch<P, R, E, F, Fut>(self, kind: &str, batching: Batching, call: F) -> Worker
    where
        P: DeserializeOwned + Send + 'static,
        F: Fn(Vec<Job<P>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Vec<Result<R, E>>> + Send + 'static,
        R: Serialize + Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        self.set(kind, std::sync::Arc::new(BatchFunction::new(batching, call)))
    }

    fn set(mut self, kind: &str, handler: std::sync::Arc<dyn Handler>) -> Worker {
        match own_kind(kind) {
            Ok(kind) => self.handlers.set(kind, handler),
            Err(error) => self.mistake = self.mistake.or(Some(error)),
        }
        self
    }

    /// Serves this queue, `weight` times as often as one of weight 1; without any it serves all.
    pub fn queue(mut self, queue: &str, weight: u32) -> Worker {
        match queue.parse::<Name>() {
            Ok(name) => self.options.queues.push((name, Some(weight.max(1)))),
            Err(error) => self.mistake = self.mistake.or(Some(error.into())),
        }
        self
    }

    /// Jobs at the same time, at least 1.
    pub fn concurrency(mut self, jobs: usize) -> Worker {
        self.options.concurrency = jobs.max(1);
        self
    }

    /// How long running jobs may go on after a stop before they are ended and given back; 25 s.
    pub fn shutdown_timeout(mut self, limit: Duration) -> Worker {
        self.options.shutdown_timeout = limit;
        self
    }

    /// Ends by itself once nothing waits, runs or is due to retry.
    pub fn until_empty(mut self) -> Worker {
        self.options.until_empty = true;
        self
    }

    /// Works until the process ends, or, with [`Worker::until_empty`], until nothing is left.
    ///
    /// # Errors
    /// What was said wrongly before; what the store refuses for good. Everything else is waited out.
    pub async fn run(self) -> Result<Summary> {
        self.run_until(std::future::pending()).await
    }

    /// As [`Worker::run`]; once `stop` is done it begins nothing more, and ends when what runs has ended
    /// or was given back.
    ///
    /// ```no_run
    /// # async fn example(client: goflow::Client) -> Result<(), goflow::Error> {
    /// goflow::Worker::new(&client)
    ///     .handle("ping", |_: goflow::Job<()>| async { Ok::<_, goflow::Failure>("pong") })
    ///     .run_until(async {
    ///         let _ = tokio::signal::ctrl_c().await;
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Worker::run`].
    pub async fn run_until(self, stop: impl Future<Output = ()> + Send) -> Result<Summary> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        let api = self.client.api();
        let (clock, entropy) = (api.clock().clone(), api.entropy().clone());
        let worker = engine::Worker::new(api.store().clone(), self.options, self.handlers, clock, entropy);
        let (gently, at_once) = (CancellationToken::new(), CancellationToken::new());
        let work = worker.run_apart(gently.clone(), at_once);
        tokio::pin!(work);
        tokio::select! {
            biased;
            ended = &mut work => return Ok(ended?),
            () = stop => gently.cancel(),
        }
        Ok(work.await?)
    }
}
