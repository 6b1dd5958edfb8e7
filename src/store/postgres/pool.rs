//! Connections. Nothing may be left on one: behind a transaction pooler the next statement meets
//! another server process. So there are only unnamed statements, and a connection on which a call
//! was cut short is thrown away.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, QueueMode, RecyclingMethod, Runtime};
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, Row};

use super::errors::{Fault, no_connection};
use super::tls::{self, Connector};
use crate::store::contract::{Result, StoreError};

/// Connections of one process. More do not help: the server's own cores are the limit.
const CONNECTIONS: usize = 10;
/// How long a call may take. Calls are short transactions; what takes longer is lost.
pub(super) const DEADLINE: Duration = Duration::from_secs(15);
/// How long a call may take that looks at everything kept.
pub(super) const LONG_DEADLINE: Duration = Duration::from_secs(600);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Tries of a call that the server rolled back because of another one.
pub(super) const TRIES: usize = 5;

pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// The URL as libpq reads it, and how TLS is spoken.
///
/// # Errors
/// [`StoreError::Refused`] with what is wrong.
pub(super) fn config(url: &str) -> Result<(Config, Connector)> {
    let (plain, asked) = tls::split(url).map_err(|why| StoreError::Refused(format!("not a PostgreSQL URL: {why}")))?;
    let mut config: Config = plain.parse().map_err(|error: tokio_postgres::Error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        StoreError::Refused(format!("not a PostgreSQL URL: {cause}"))
    })?;
    config.ssl_mode(if asked.is_on { SslMode::Require } else { SslMode::Disable });
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_DEADLINE);
    }
    if config.get_application_name().is_none() {
        config.application_name("goflow");
    }
    config.tcp_user_timeout(DEADLINE);
    Ok((config, Connector::new(&asked)?))
}

pub(super) fn pool(config: Config, connector: Connector) -> Result<Pool> {
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    // The one that came back last is the one whose server process has its plans and its caches at hand.
    Pool::builder(Manager::from_config(config, connector, recycling))
        .queue_mode(QueueMode::Lifo)
        .max_size(CONNECTIONS)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(DEADLINE))
        .create_timeout(Some(CONNECT_DEADLINE))
        .build()
        .map_err(|error| StoreError::Refused(format!("the connection pool cannot be made: {error}")))
}

/// A connection for one call.
pub(super) struct Connection {
    object: Option<Object>,
    /// Something was sent whose answer has not been read: nobody else may have this connection.
    busy: bool,
    deadline: Duration,
}

impl Connection {
    pub async fn take(pool: &Pool, deadline: Duration) -> Result<Connection> {
        let object = pool.get().await.map_err(no_connection)?;
        Ok(Connection { object: Some(object), busy: false, deadline })
    }

    /// Does something with the connection within the deadline.
    pub async fn run<T>(&mut self, work: impl AsyncFnOnce(&Client) -> Result<T, Fault>) -> Result<T, Fault> {
        let Some(object) = &self.object else {
            return Err(StoreError::Unavailable("the connection is gone".to_owned()).into());
        };
        self.busy = true;
        let answer = timeout(self.deadline, work(object)).await.map_err(|_| {
            StoreError::Unknown(format!("PostgreSQL did not answer within {} s", self.deadline.as_secs()))
        })?;
        // An error that the server told leaves the connection ready; so does one in an implicit
        // transaction only, which is why explicit ones end themselves before they return.
        self.busy = false;
        answer
    }

    pub async fn rows(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Fault> {
        self.run(async |client| Ok(client.query_typed(sql, params).await?)).await
    }

    pub async fn row(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Row, Fault> {
        self.run(async |client| Ok(client.query_typed_one(sql, params).await?)).await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let (true, Some(object)) = (self.busy, self.object.take()) {
            drop(Object::take(object));
        }
    }
}

/// Runs a call again when another transaction got in its way, at most [`TRIES`] times.
macro_rules! again {
    ($call:expr) => {{
        let mut tries = 1;
        loop {
            match $call.await {
                Err(fault) if fault.again && tries < $crate::store::postgres::pool::TRIES => tries += 1,
                Err(fault) => break Err($crate::store::contract::StoreError::from(fault)),
                Ok(answer) => break Ok(answer),
            }
        }
    }};
}
pub(super) use again;
