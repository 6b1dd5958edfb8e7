//! A store, seen by a program that gives work to it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Error, Result};
use crate::api;
use crate::domain::{Concurrency, Job, JobId, JobState, Json, Ms, Name, RetryPolicy, limits};
use crate::store::open::{OpenOptions, open};
pub use crate::store::postgres::Transaction;
use crate::store::postgres::enqueue_in;
use crate::store::url::BadUrl;
use crate::store::{Enqueued, NewJob, Start, Store, StoreUrl, Stored};
use crate::sys::clock::SystemClock;
use crate::sys::entropy::SystemEntropy;

/// Adds jobs and waits for them. Cloning shares the connection.
#[derive(Clone)]
pub struct Client {
    api: api::Client,
}

impl Client {
    /// Opens a store: `sqlite:PATH`, `redis://…`, `postgres://…`, or `memory:`, which lives as long as the
    /// client and its clones.
    ///
    /// # Errors
    /// A URL that is none; a store that cannot be reached or refuses.
    pub async fn connect(url: &str) -> Result<Client> {
        let url: StoreUrl = url.parse().map_err(|error: BadUrl| Error::Url(error.to_string()))?;
        let store =
            open(&url, Arc::new(SystemClock), Arc::new(SystemEntropy::default()), OpenOptions::default()).await?;
        Ok(Client::over(store))
    }

    /// A client of a store that is open already.
    pub fn over(store: Arc<dyn Store>) -> Client {
        Client { api: api::Client::new(store, Arc::new(SystemClock), Arc::new(SystemEntropy::default())) }
    }

    /// All verbs of an operator: lists, filters, the dead-letter queue, workflows.
    pub fn api(&self) -> &api::Client {
        &self.api
    }

    /// Adds a job to the queue `default` and gives its id; once that is given, the job is kept.
    ///
    /// # Errors
    /// A name that is none, a payload larger than 1 MiB of JSON, the store's.
    pub async fn enqueue<P: Serialize + ?Sized>(&self, kind: &str, payload: &P) -> Result<JobId> {
        self.job(kind).payload(payload).enqueue().await
    }

    /// A job of which more is to be said before it is added.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), goflow::Error> {
    /// # use std::time::Duration;
    /// let client = goflow::Client::connect("memory:").await?;
    /// let id = client
    ///     .job("send_email")
    ///     .payload("ada@example.com")
    ///     .queue("mail")
    ///     .priority(10)
    ///     .delay(Duration::from_secs(60))
    ///     .unique("welcome:ada")
    ///     .enqueue()
    ///     .await?;
    /// # assert_eq!(client.state(id).await?, goflow::domain::JobState::Scheduled);
    /// # assert!(client.job("send_email").unique("welcome:ada").enqueue().await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn job(&self, kind: &str) -> Enqueue<'_> {
        Enqueue {
            client: self,
            kind: kind.to_owned(),
            queue: "default".to_owned(),
            payload: Ok(Json::null()),
            more: More::default(),
        }
    }

    /// Adds a job in a transaction of one's own on the PostgreSQL database that this client's store is in:
    /// the job is there exactly if the transaction commits, and workers hear of it then.
    ///
    /// ```no_run
    /// # async fn order(client: goflow::Client, transaction: goflow::Transaction<'_>) -> Result<(), Box<dyn std::error::Error>> {
    /// transaction.execute("INSERT INTO orders (id) VALUES (7)", &[]).await?;
    /// let id = client.enqueue_in(&transaction, client.job("ship").payload(&7).unique("ship:7")).await?;
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Enqueue::enqueue`]. After an error of the database the transaction can only be rolled back.
    pub async fn enqueue_in(&self, transaction: &Transaction<'_>, job: Enqueue<'_>) -> Result<JobId> {
        let new = job.into_job()?;
        let id = new.job.id;
        match enqueue_in(transaction, &new).await? {
            Enqueued::Created => Ok(id),
            Enqueued::Conflict(holder) => {
                let key = new.job.unique_key.unwrap_or_default();
                Err(api::ApiError::KeyHeld { key, holder }.into())
            }
            Enqueued::NoParent(parent) => Err(api::ApiError::NotFound { noun: "job", id: parent.to_string() }.into()),
            Enqueued::Exists | Enqueued::Busy => {
                Err(api::ApiError::Conflict(format!("a job {id} is kept already")).into())
            }
        }
    }

    /// The state a job is in.
    ///
    /// # Errors
    /// [`api::ApiError::NotFound`]; the store's.
    pub async fn state(&self, id: JobId) -> Result<JobState> {
        Ok(self.api.job(&id.to_string()).await?.place.state())
    }

    /// Waits until a job has completed, and gives its result.
    ///
    /// # Errors
    /// [`Error::Ended`] when it died or was cancelled, [`Error::Result`] when its result is of another
    /// form; the store's.
    pub async fn wait<R: DeserializeOwned>(&self, id: JobId) -> Result<R> {
        match self.api.wait(id, None).await? {
            Some(stored) => result(stored),
            // Only a time that runs out gives none.
            None => Err(api::ApiError::NotFound { noun: "job", id: id.to_string() }.into()),
        }
    }

    /// As [`Client::wait`], at most for a while; `None` when the time ran out.
    ///
    /// # Errors
    /// As [`Client::wait`].
    pub async fn wait_for<R: DeserializeOwned>(&self, id: JobId, limit: Duration) -> Result<Option<R>> {
        self.api.wait(id, Some(limit)).await?.map(result).transpose()
    }
}

fn result<R: DeserializeOwned>(stored: Stored) -> Result<R> {
    let (id, state) = (stored.job.id, stored.place.state());
    if state != JobState::Completed {
        return Err(Error::Ended { id, state, error: stored.job.error });
    }
    let result = stored.job.result.unwrap_or_else(Json::null);
    serde_json::from_str(result.as_str()).map_err(|why| Error::Result { id, why })
}

/// A job that is about to be added.
pub struct Enqueue<'c> {
    client: &'c Client,
    kind: String,
    queue: String,
    payload: Result<Json>,
    more: More,
}

#[derive(Default)]
struct More {
    priority: i8,
    start: Option<Start>,
    max_retries: Option<u32>,
    timeout: Option<Duration>,
    partition: Option<String>,
    unique: Option<String>,
    unique_for: Option<Duration>,
    deadline: Option<Duration>,
    after: Vec<JobId>,
    concurrency: Option<Concurrency>,
    metadata: Vec<(String, String)>,
}

impl Enqueue<'_> {
    pub fn payload<P: Serialize + ?Sized>(mut self, payload: &P) -> Self {
        self.payload = serde_json::to_string(payload)
            .map_err(Error::NotJson)
            .and_then(|text| Ok(Json::parse(&text, limits::PAYLOAD_BYTES)?));
        self
    }

    pub fn queue(mut self, queue: &str) -> Self {
        queue.clone_into(&mut self.queue);
        self
    }

    /// −100 to 100, higher is sooner; what lies beyond is brought into that range.
    pub fn priority(mut self, priority: i8) -> Self {
        self.more.priority = priority.clamp(-limits::PRIORITY, limits::PRIORITY);
        self
    }

    /// Not before this has passed.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.more.start = Some(Start::After(delay));
        self
    }

    /// Not before this time; a time that has passed means now.
    pub fn at(mut self, at: SystemTime) -> Self {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.more.start = Some(Start::At(Ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))));
        self
    }

    /// Retries after the first attempt; 3 where nothing is said.
    pub fn max_retries(mut self, max: u32) -> Self {
        self.more.max_retries = Some(max);
        self
    }

    /// Limit of one attempt.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.more.timeout = Some(limit);
        self
    }

    /// Jobs of one partition key lie on one shard, in the order of their coming.
    pub fn partition(mut self, key: &str) -> Self {
        self.more.partition = Some(key.to_owned());
        self
    }

    /// No other job of this key may be waiting or running.
    pub fn unique(mut self, key: &str) -> Self {
        self.more.unique = Some(key.to_owned());
        self
    }

    /// As [`Enqueue::unique`], and the key stays taken for at least so long, even if the job ends sooner.
    pub fn unique_for(mut self, key: &str, at_least: Duration) -> Self {
        self.more.unique = Some(key.to_owned());
        self.more.unique_for = Some(at_least);
        self
    }

    /// Limit of all attempts together, from now on.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.more.deadline = Some(limit);
        self
    }

    /// Not before this job has completed; if it dies or is cancelled, this one is cancelled. May be said of
    /// several jobs.
    pub fn after(mut self, parent: JobId) -> Self {
        self.more.after.push(parent);
        self
    }

    /// At most `limit` jobs of this key at the same time, over all workers.
    pub fn concurrency(mut self, key: &str, limit: u32) -> Self {
        self.more.concurrency = Some(Concurrency { key: key.to_owned(), limit: limit.max(1) });
        self
    }

    /// A word for people and filters.
    pub fn meta(mut self, key: &str, value: &str) -> Self {
        self.more.metadata.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Adds it and gives its id; once that is given, the job is kept.
    ///
    /// # Errors
    /// As [`Client::enqueue`], and [`api::ApiError::KeyHeld`] when a live job holds its unique key.
    pub async fn enqueue(self) -> Result<JobId> {
        let client = self.client;
        Ok(client.api.enqueue(self.into_job()?).await?.job.id)
    }

    fn into_job(self) -> Result<NewJob> {
        let Enqueue { client, kind, queue, payload, more } = self;
        let kind = own_kind(&kind)?;
        let bytes: usize = more.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > limits::METADATA_BYTES {
            return Err(Error::Metadata { is: bytes, limit: limits::METADATA_BYTES });
        }
        let usual = RetryPolicy::default();
        let near = api::enqueue::near(
            more.partition.as_deref(),
            more.unique.as_deref(),
            more.concurrency.as_ref(),
            &more.after,
        );
        let id = client.api.job_id_near(near);
        let job = Job {
            priority: more.priority,
            retry: RetryPolicy { max: more.max_retries.unwrap_or(usual.max), ..usual },
            timeout_ms: more.timeout.map(whole_ms),
            deadline_ms: more.deadline.map(whole_ms),
            unique_key: more.unique,
            after: more.after,
            concurrency: more.concurrency,
            metadata: more.metadata.into_iter().collect(),
            ..Job::new(id, kind, queue.parse()?, payload?)
        };
        let start = more.start.unwrap_or(Start::Now);
        Ok(NewJob { job, start, unique_for: more.unique_for })
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A job type that is not goflow's own.
pub(super) fn own_kind(kind: &str) -> Result<Name> {
    let name: Name = kind.parse()?;
    if crate::workflow::is_reserved(&name) {
        return Err(Error::Reserved(kind.to_owned()));
    }
    Ok(name)
}
