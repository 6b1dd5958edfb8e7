//! The connection: one, shared by all calls, which it pipelines; made anew when it breaks, with
//! growing pauses; and the one place that turns what Redis says into a [`StoreError`]. It knows
//! scripts by name and nothing of what they do.

use std::sync::OnceLock;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, IntoConnectionInfo, Pipeline, RedisError, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{lua, tls};
use crate::store::contract::{Result, StoreError};
use crate::store::url::hide_password;

/// How long a call may take. A script takes milliseconds; a server that forks or loads, seconds.
const RESPONSE: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(2);
/// Pauses between attempts to connect double from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// A Lua script: its text, as it is written and as the server gets it, and the hash by which the server
/// knows it.
pub struct Script {
    name: &'static str,
    source: &'static str,
    text: OnceLock<String>,
    hash: OnceLock<String>,
}

impl Script {
    pub const fn new(name: &'static str, source: &'static str) -> Self {
        Script { name, source, text: OnceLock::new(), hash: OnceLock::new() }
    }

    fn hash(&self) -> &str {
        self.hash.get_or_init(|| redis::Script::new(self.text()).get_hash().to_owned())
    }

    fn text(&self) -> &str {
        self.text.get_or_init(|| lua::with_names(self.source))
    }

    /// A call of this script with so many keys; keys and arguments follow.
    pub fn call(&self, keys: usize) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.hash()).arg(keys);
        call
    }
}

#[derive(Default)]
struct Slot {
    connection: Option<MultiplexedConnection>,
    /// Tells connections apart, so that the report of an old one's end does not end a new one.
    number: u64,
    failures: u32,
    /// Until when nobody tries again, and what was said the last time.
    pause: Option<(Instant, StoreError)>,
}

pub struct Link {
    client: Client,
    shown: String,
    slot: Mutex<Slot>,
}

impl Link {
    /// Reads the URL; connects only with the first call.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the URL is not one of Redis.
    pub fn new(url: &str) -> Result<Self> {
        let shown = hide_password(url);
        let refused = |error: RedisError| StoreError::Refused(format!("`{shown}` is not a Redis URL: {error}"));
        let is_tls = url.starts_with("rediss:");
        let (plain, certificates) = if is_tls { tls::read(url)? } else { (url.to_owned(), tls::NONE) };
        let info = plain.as_str().into_connection_info().map_err(refused)?;
        let settings = info.tcp_settings().clone().set_nodelay(true);
        let info = info.set_tcp_settings(settings);
        let client = if is_tls { Client::build_with_tls(info, certificates) } else { Client::open(info) };
        let client = client.map_err(refused)?;
        Ok(Link { client, shown, slot: Mutex::new(Slot::default()) })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The connection that is, or a new one.
    async fn connection(&self) -> Result<(MultiplexedConnection, u64)> {
        let mut slot = self.slot.lock().await;
        if let Some(connection) = &slot.connection {
            return Ok((connection.clone(), slot.number));
        }
        if let Some((until, error)) = &slot.pause
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(RESPONSE));
        match self.client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => {
                slot.connection = Some(connection.clone());
                slot.number += 1;
                slot.failures = 0;
                slot.pause = None;
                Ok((connection, slot.number))
            }
            Err(error) => {
                let pause = PAUSE.0.saturating_mul(1 << slot.failures.min(10)).min(PAUSE.1);
                slot.failures += 1;
                let error = match fail(&error) {
                    // Nothing was asked yet, so nothing can have happened.
                    StoreError::Unknown(text) | StoreError::Unavailable(text) => {
                        StoreError::Unavailable(format!("cannot connect to {}: {text}", self.shown))
                    }
                    other => other,
                };
                slot.pause = Some((Instant::now() + pause, error.clone()));
                Err(error)
            }
        }
    }

    async fn broken(&self, number: u64, error: &RedisError) {
        if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || error.is_unrecoverable_error()
        {
            let mut slot = self.slot.lock().await;
            if slot.number == number {
                slot.connection = None;
            }
        }
    }

    /// One command.
    pub async fn command(&self, command: &Cmd) -> Result<Value> {
        self.raw(command).await?.map_err(|error| fail(&error))
    }

    /// One call of a script; the server is given its text if it does not know it.
    pub async fn script(&self, script: &Script, call: &Cmd) -> Result<Value> {
        for _ in 0..3 {
            match self.raw(call).await? {
                Err(error) if says(&error, "NOSCRIPT") => {
                    self.command(redis::cmd("SCRIPT").arg("LOAD").arg(script.text())).await?;
                }
                other => return other.map_err(|error| fail(&error)),
            }
        }
        Err(StoreError::Unavailable(format!("{} does not keep the script `{}`", self.shown, script.name)))
    }

    async fn raw(&self, command: &Cmd) -> Result<Result<Value, RedisError>> {
        let (mut connection, number) = self.connection().await?;
        let answer = connection.send_packed_command(command).await.and_then(Value::extract_error);
        if let Err(error) = &answer {
            self.broken(number, error).await;
        }
        Ok(answer)
    }

    /// Several commands in one round trip, not as one transaction.
    pub async fn pipeline(&self, commands: &Pipeline) -> Result<Vec<Value>> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let (mut connection, number) = self.connection().await?;
        let answer: Result<Vec<Value>, RedisError> = commands.query_async(&mut connection).await;
        if let Err(error) = &answer {
            self.broken(number, error).await;
        }
        answer.map_err(|error| fail(&error))
    }
}

/// Whether the server's error is of this code, also where an old server wraps it in another.
fn says(error: &RedisError, code: &str) -> bool {
    error.code() == Some(code) || error.detail().is_some_and(|detail| detail.contains(&format!("-{code} ")))
}

/// What the caller can do about an error.
pub fn fail(error: &RedisError) -> StoreError {
    let text = error.to_string();
    let says = |codes: &[&str]| codes.iter().any(|code| says(error, code));
    if says(&["OOM"]) || text.contains("OOM command not allowed") {
        return StoreError::Full("Redis is full: its memory has reached maxmemory".to_owned());
    }
    if says(&["NOAUTH", "WRONGPASS", "NOPERM"]) || error.kind() == redis::ErrorKind::AuthenticationFailed {
        return StoreError::Refused(format!("Redis refuses these credentials: {text}"));
    }
    if says(&["MISCONF"]) {
        return StoreError::Unavailable(format!("Redis takes no writes because it cannot save to disk: {text}"));
    }
    let away = [
        "LOADING",
        "READONLY",
        "BUSY",
        "NOREPLICAS",
        "MASTERDOWN",
        "CLUSTERDOWN",
        "TRYAGAIN",
        "NOSCRIPT",
        "UNKILLABLE",
    ];
    if says(&away) {
        return StoreError::Unavailable(format!("Redis does not take the call now: {text}"));
    }
    if error.is_connection_refusal() {
        return StoreError::Unavailable(text);
    }
    if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() {
        return StoreError::Unknown(text);
    }
    match error.kind() {
        redis::ErrorKind::Parse | redis::ErrorKind::UnexpectedReturnType => StoreError::Unknown(text),
        _ => StoreError::Refused(format!("Redis answers: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_can_be_done() {
        let told = |line: &str| {
            let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("parses");
            fail(&value.extract_error().expect_err("is an error"))
        };
        for line in [
            "OOM command not allowed when used memory > 'maxmemory'. script: 1, on @user_script:1.",
            "ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed when used memory",
        ] {
            assert!(matches!(told(line), StoreError::Full(_)), "{line}");
        }
        for line in [
            "LOADING Redis is loading the dataset in memory",
            "READONLY You can't write against a read only replica.",
            "BUSY Redis is busy running a script.",
            "NOREPLICAS Not enough good replicas to write.",
            "MASTERDOWN Link with MASTER is down",
            "CLUSTERDOWN The cluster is down",
            "MISCONF Redis is configured to save RDB snapshots",
            "ERR Error running script (call to f_1): @user_script:1: -READONLY You can't write against a replica",
        ] {
            assert!(matches!(told(line), StoreError::Unavailable(_)), "{line} {:?}", told(line));
        }
        for line in ["NOAUTH Authentication required.", "WRONGPASS invalid", "NOPERM this user has no permissions"] {
            assert!(matches!(told(line), StoreError::Refused(_)), "{line}");
        }
    }
}
