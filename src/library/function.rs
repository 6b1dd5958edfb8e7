//! Rust functions as handlers: the payload is read before, the result and the failure are written
//! after, and a function that must end is dropped.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::{Failure, Job};
use crate::domain::job::Outcome;
use crate::domain::json::BadJson;
use crate::domain::text::size;
use crate::domain::time::format_duration;
use crate::domain::{self, Json, limits};
use crate::engine::{Ending, Endings, Handler, Task};
use crate::workflow::Batching;

/// A function of one job.
pub(super) struct Function<P, F> {
    pub call: Arc<F>,
    payload: PhantomData<fn(P)>,
}

/// A function of several jobs.
pub(super) struct BatchFunction<P, F> {
    call: Arc<F>,
    batching: Batching,
    payload: PhantomData<fn(P)>,
}

impl<P, F> Function<P, F> {
    pub fn new(call: F) -> Self {
        Function { call: Arc::new(call), payload: PhantomData }
    }
}

impl<P, F> BatchFunction<P, F> {
    pub fn new(batching: Batching, call: F) -> Self {
        BatchFunction { call: Arc::new(call), batching, payload: PhantomData }
    }
}

impl<P, F, Fut, R, E> Handler for Function<P, F>
where
    P: DeserializeOwned + Send + 'static,
    F: Fn(Job<P>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    R: Serialize + Send + 'static,
    E: Into<Failure> + Send + 'static,
{
    fn run(&self, task: Task) -> Ending {
        let payload = match read(&task.job) {
            Ok(payload) => payload,
            Err(failure) => return Box::pin(std::future::ready(Some(failure.outcome()))),
        };
        let (stop, limit) = (task.stop.clone(), limit(&task.job));
        let call = self.call.clone();
        Box::pin(async move {
            let ended = async { call(Job::new(payload, task)).await };
            within(limit, &stop, ended).await.map(|ended| match ended {
                Ok(result) => completed(result.map_err(Into::into)),
                Err(failure) => failure.outcome(),
            })
        })
    }
}

impl<P, F, Fut, R, E> Handler for BatchFunction<P, F>
where
    P: DeserializeOwned + Send + 'static,
    F: Fn(Vec<Job<P>>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Vec<Result<R, E>>> + Send + 'static,
    R: Serialize + Send + 'static,
    E: Into<Failure> + Send + 'static,
{
    fn batch(&self) -> Option<Batching> {
        Some(self.batching)
    }

    fn run(&self, task: Task) -> Ending {
        let all = self.run_batch(vec![task]);
        Box::pin(async move { all.await.pop().flatten() })
    }

    fn run_batch(&self, tasks: Vec<Task>) -> Endings {
        let limit = tasks.iter().filter_map(|task| limit(&task.job)).min();
        let stops: Vec<CancellationToken> = tasks.iter().map(|task| task.stop.clone()).collect();
        // A payload that does not fit is the failure of that job alone.
        let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(tasks.len());
        let mut jobs = Vec::with_capacity(tasks.len());
        for task in tasks {
            match read(&task.job) {
                Ok(payload) => {
                    jobs.push(Job::new(payload, task));
                    outcomes.push(None);
                }
                Err(failure) => outcomes.push(Some(failure.outcome())),
            }
        }
        let call = self.call.clone();
        Box::pin(async move {
            let number = jobs.len();
            if number == 0 {
                return outcomes;
            }
            let any = CancellationToken::new();
            let stopped = async {
                select_all(stops.iter().map(|stop| Box::pin(stop.cancelled()))).await;
                any.cancel();
                std::future::pending::<()>().await;
            };
            let ended = tokio::select! {
                biased;
                ended = within(limit, &any, async { call(jobs).await }) => ended,
                () = stopped => None,
            };
            let mut parts = match ended {
                // Stopped: those that were given to it are given back.
                None => return outcomes,
                Some(Err(failure)) => vec![failure.outcome(); number],
                Some(Ok(results)) if results.len() == number => {
                    results.into_iter().map(|result| completed(result.map_err(Into::into))).collect()
                }
                Some(Ok(results)) => {
                    let why = format!("its function gave {} results for {number} jobs", results.len());
                    vec![Failure::new(why).class("batch").outcome(); number]
                }
            }
            .into_iter();
            outcomes.iter_mut().filter(|outcome| outcome.is_none()).for_each(|outcome| *outcome = parts.next());
            outcomes
        })
    }
}

fn read<P: DeserializeOwned>(job: &domain::Job) -> Result<P, Failure> {
    serde_json::from_str(job.payload.as_str())
        .map_err(|error| Failure::bury(format!("the payload does not fit: {error}")).class("payload"))
}

fn limit(job: &domain::Job) -> Option<Duration> {
    job.timeout_ms.map(Duration::from_millis)
}

/// What a function gives, unless its time is over first; `None` if it is stopped.
async fn within<T>(
    limit: Option<Duration>,
    stop: &CancellationToken,
    ended: impl Future<Output = T>,
) -> Option<Result<T, Failure>> {
    let late = async {
        match limit {
            Some(limit) => {
                tokio::time::sleep(limit).await;
                limit
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        ended = ended => Some(Ok(ended)),
        () = stop.cancelled() => None,
        limit = late => {
            Some(Err(Failure::new(format!("timed out after {}", format_duration(limit))).class("timeout")))
        }
    }
}

/// A result that cannot be kept is no reason to do the work again.
fn completed<R: Serialize>(result: Result<R, Failure>) -> Outcome {
    let result = match result {
        Ok(result) => result,
        Err(failure) => return failure.outcome(),
    };
    let text = match serde_json::to_string(&result) {
        Ok(text) => text,
        Err(error) => return Failure::bury(format!("the result is not JSON: {error}")).class("output").outcome(),
    };
    match Json::parse(&text, limits::VALUE_BYTES) {
        Ok(json) => Outcome::Completed { result: Some(json).filter(|json| !json.is_null()) },
        Err(BadJson::TooLarge { size: is, limit }) => {
            let (is, limit) = (size(is as u64), size(limit as u64));
            let why = format!("the result is {is}, more than the {limit} it may have: store it elsewhere");
            Failure::bury(why).class("output").outcome()
        }
        Err(error) => Failure::bury(format!("the result cannot be kept: {error}")).class("output").outcome(),
    }
}
