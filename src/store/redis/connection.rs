//! The connection: one, shared by all calls, which it pipelines; made anew when it breaks, with
//! growing pauses, or when the keys are on another server; and the one place that turns what Redis says
//! into a [`StoreError`]. It knows scripts by name and nothing of what they do.

use std::sync::OnceLock;
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{Cmd, Pipeline, RedisError, Value};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::address::{Address, Way};
use super::keys::Keys;
use super::topology::Node;
use super::whereabouts::{Turn, Whereabouts, connect, shown as place};
use super::{lua, reply};
use crate::store::contract::{Result, StoreError};
use crate::store::url::hide_password;
use crate::sys::tls;

/// How long a call may take. A script takes milliseconds; a server that forks or loads, seconds.
const RESPONSE: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(2);
/// Pauses between attempts to connect double from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How long a call follows keys that are moving, and the pause between two looks.
const PATIENCE: Duration = Duration::from_secs(1);
const TURN: Duration = Duration::from_millis(20);
/// How long replicas may take to confirm a write, where the URL asks for that.
const CONFIRM: Duration = Duration::from_secs(2);

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
    /// Whom it leads to.
    node: Node,
    /// Tells connections apart, so that the report of an old one's end does not end a new one.
    number: u64,
    failures: u32,
    /// Until when nobody tries again, and what was said the last time.
    pause: Option<(Instant, StoreError)>,
}

/// A connection in use, to whom it leads, and its number.
type Line = (MultiplexedConnection, Node, u64);

pub struct Link {
    whereabouts: Whereabouts,
    shown: String,
    slot: Mutex<Slot>,
    /// To a node to which the slot is on its way.
    beyond: Mutex<Option<(Node, MultiplexedConnection)>>,
    /// The number of the connection in use.
    numbers: watch::Sender<u64>,
}

impl Link {
    /// Reads the URL; connects only with the first call.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the URL is not one of Redis, or names a file that cannot be read.
    pub fn new(url: &str, keys: &Keys) -> Result<Self> {
        let shown = hide_password(url);
        let address =
            Address::read(url).map_err(|why| StoreError::Refused(format!("`{shown}` is not a store URL: {why}")))?;
        let whereabouts = Whereabouts::new(address, keys.slot())?;
        let (slot, beyond) = (Mutex::default(), Mutex::default());
        Ok(Link { whereabouts, shown, slot, beyond, numbers: watch::Sender::new(0) })
    }

    pub fn whereabouts(&self) -> &Whereabouts {
        &self.whereabouts
    }

    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Changes with every new connection: the keys may be on another server then.
    pub fn numbers(&self) -> watch::Receiver<u64> {
        self.numbers.subscribe()
    }

    /// Whom the connection leads to, if there is one.
    pub async fn node(&self) -> Option<Node> {
        let slot = self.slot.lock().await;
        slot.connection.as_ref().map(|_| slot.node.clone())
    }

    /// A connection of its own that hears what is published in this channel.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn subscribe(&self, channel: &str) -> Result<PubSub> {
        let (client, _) = self.whereabouts.home().await?;
        let connecting = async {
            let mut subscription = client.get_async_pubsub().await?;
            subscription.subscribe(channel).await?;
            Ok(subscription)
        };
        match tokio::time::timeout(RESPONSE, connecting).await {
            Ok(subscription) => subscription.map_err(|error: RedisError| fail(&error)),
            Err(_) => Err(StoreError::Unavailable(format!("{} does not answer", self.shown))),
        }
    }

    /// A connection apart, to where the shared one leads, on which an answer may take for ever; with the number of
    /// that one.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn apart(&self) -> Result<(MultiplexedConnection, u64)> {
        let (_, node, number) = self.connection().await?;
        let client = self.whereabouts.server(&node)?;
        let connection = connect(&client, CONNECT, None).await;
        connection.map(|connection| (connection, number)).map_err(|error| self.fail(&error))
    }

    /// The connection that is, or a new one.
    async fn connection(&self) -> Result<Line> {
        let mut slot = self.slot.lock().await;
        if let Some(connection) = &slot.connection {
            return Ok((connection.clone(), slot.node.clone(), slot.number));
        }
        if let Some((until, error)) = &slot.pause
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        match self.find().await {
            Ok((connection, node)) => {
                slot.connection = Some(connection.clone());
                slot.node = node.clone();
                slot.number += 1;
                slot.failures = 0;
                slot.pause = None;
                self.numbers.send_replace(slot.number);
                Ok((connection, node, slot.number))
            }
            Err(error) => {
                self.whereabouts.forget();
                let pause = PAUSE.0.saturating_mul(1 << slot.failures.min(10)).min(PAUSE.1);
                slot.failures += 1;
                slot.pause = Some((Instant::now() + pause, error.clone()));
                Err(error)
            }
        }
    }

    async fn find(&self) -> Result<(MultiplexedConnection, Node)> {
        // Nothing was asked yet, so nothing can have happened.
        let away = |error: StoreError| match error {
            StoreError::Unknown(text) | StoreError::Unavailable(text) => {
                StoreError::Unavailable(format!("cannot connect to {}: {text}", self.shown))
            }
            StoreError::Refused(text) => StoreError::Refused(format!("{}: {text}", self.shown)),
            other => other,
        };
        let (client, node) = self.whereabouts.home().await.map_err(away)?;
        let named = |text: String| if self.whereabouts.is_fixed() { text } else { format!("{}: {text}", place(&node)) };
        let connected = connect(&client, CONNECT, Some(RESPONSE)).await.map_err(|error| match fail(&error) {
            StoreError::Unknown(text) | StoreError::Unavailable(text) => {
                let address = &self.whereabouts.address;
                let hint = if address.is_tls && address.files.cert.is_none() && !error.is_connection_refusal() {
                    "; so fails a port without TLS, or one that asks for a certificate (`cert` and `key` in the store URL)"
                } else {
                    ""
                };
                StoreError::Unavailable(named(format!("{text}{hint}")))
            }
            other => other,
        });
        let mut connection = connected.map_err(away)?;
        if matches!(self.whereabouts.address.way, Way::Sentinel(_)) {
            // The sentinels may name a server that has not become the master yet, or is not any more.
            let role = connection.send_packed_command(&redis::cmd("ROLE")).await.and_then(Value::extract_error);
            let word = role.ok().and_then(|role| reply::array(role).ok()).and_then(|parts| parts.into_iter().next());
            if word.and_then(|word| reply::text(word).ok()).is_some_and(|word| word != "master") {
                return Err(away(StoreError::Unavailable(format!("{} is not the master", place(&node)))));
            }
        }
        Ok((connection, node))
    }

    /// Ends the connection that an error makes useless.
    async fn broken(&self, number: u64, error: &RedisError) {
        if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || error.is_unrecoverable_error()
        {
            self.end(number, None).await;
        }
    }

    /// Ends a connection, unless that was done; the keys are there, if that is known.
    async fn end(&self, number: u64, next: Option<Node>) {
        let mut slot = self.slot.lock().await;
        if slot.number == number && slot.connection.take().is_some() {
            match next {
                Some(node) => self.whereabouts.moved_to(node),
                None => self.whereabouts.forget(),
            }
        }
    }

    /// One command.
    pub async fn command(&self, command: &Cmd) -> Result<Value> {
        self.raw(command, true).await?.map_err(|error| self.fail(&error))
    }

    /// One call of a script; the server is given its text if it does not know it.
    pub async fn script(&self, script: &Script, call: &Cmd) -> Result<Value> {
        for _ in 0..3 {
            match self.raw(call, false).await? {
                Err(error) if says(&error, "NOSCRIPT") => {
                    self.command(redis::cmd("SCRIPT").arg("LOAD").arg(script.text())).await?;
                }
                other => return other.map_err(|error| self.fail(&error)),
            }
        }
        Err(StoreError::Unavailable(format!("{} does not keep the script `{}`", self.shown, script.name)))
    }

    /// One call, wherever the keys are. A server that sends elsewhere has done nothing, so the call is made
    /// there. Scripts wait until their slot has arrived; a plain command finds its key on the way.
    async fn raw(&self, command: &Cmd, is_plain: bool) -> Result<Result<Value, RedisError>> {
        let until = Instant::now() + PATIENCE;
        loop {
            let mut line = self.connection().await?;
            let answer = self.send(&mut line, command, is_plain).await?;
            let Err(error) = &answer else { return Ok(answer) };
            let (_, node, number) = line;
            self.broken(number, error).await;
            match self.whereabouts.turn(error, &node) {
                Turn::Stay => return Ok(answer),
                Turn::Moved(next) => self.end(number, Some(next)).await,
                Turn::Lost => self.end(number, None).await,
                Turn::Ask(next) if is_plain => match self.ask(&next, command).await {
                    Err(error) if says(&error, "TRYAGAIN") || says(&error, "MOVED") => {}
                    answer => return Ok(answer),
                },
                Turn::Ask(_) | Turn::Wait => {}
            }
            if Instant::now() >= until {
                return Ok(answer);
            }
            tokio::time::sleep(TURN).await;
        }
    }

    /// Sends a command to where the connection leads. A script that writes may have to be kept by replicas
    /// before it counts as done.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] where the script has run and no replicas are known to have what it wrote.
    async fn send(&self, line: &mut Line, command: &Cmd, is_plain: bool) -> Result<Result<Value, RedisError>> {
        let (connection, _, number) = line;
        let wanted = self.whereabouts.address.replicas;
        if wanted == 0 || is_plain {
            return Ok(connection.send_packed_command(command).await.and_then(Value::extract_error));
        }
        let mut both = redis::pipe();
        both.add_command(command.clone()).cmd("WAIT").arg(wanted).arg(CONFIRM.as_millis() as u64);
        let mut answers = match connection.send_packed_commands(&both, 0, 2).await {
            Ok(answers) => answers.into_iter(),
            Err(error) => return Ok(Err(error)),
        };
        let mut next = || answers.next().unwrap_or(Value::Nil).extract_error();
        let answer = match next() {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(error)),
        };
        match next().map(|kept| reply::int(&kept)) {
            Ok(Ok(kept)) if kept >= i64::from(wanted) => Ok(Ok(answer)),
            Ok(kept) => Err(StoreError::Unknown(format!(
                "a write was confirmed by {} of {wanted} replicas within {} s",
                kept.unwrap_or(0),
                CONFIRM.as_secs()
            ))),
            Err(error) => {
                // The script has run: its error must not look like that of a call that did nothing. A server
                // that is no master any more says so here, hence the next call asks for the way.
                self.end(*number, None).await;
                Err(StoreError::Unknown(format!("a write was not confirmed by {wanted} replicas: {error}")))
            }
        }
    }

    /// One command about a key whose slot is on its way to this node.
    async fn ask(&self, node: &Node, command: &Cmd) -> Result<Value, RedisError> {
        let mut beyond = self.beyond.lock().await;
        if beyond.as_ref().is_none_or(|(other, _)| other != node) {
            let client = self.whereabouts.server(node).map_err(|error| std::io::Error::other(error.to_string()))?;
            *beyond = Some((node.clone(), connect(&client, CONNECT, Some(RESPONSE)).await?));
        }
        let Some((_, connection)) = &*beyond else { return Ok(Value::Nil) };
        let mut connection = connection.clone();
        drop(beyond);
        let mut both = redis::pipe();
        both.cmd("ASKING").add_command(command.clone());
        let answers = connection.send_packed_commands(&both, 1, 1).await;
        if answers.as_ref().is_err_and(|error| error.is_io_error() || error.is_unrecoverable_error()) {
            *self.beyond.lock().await = None;
        }
        answers?.pop().unwrap_or(Value::Nil).extract_error()
    }

    /// Several commands in one round trip, not as one transaction. They only look.
    pub async fn pipeline(&self, commands: &Pipeline) -> Result<Vec<Value>> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let (mut connection, node, number) = self.connection().await?;
        let mut answers = match connection.send_packed_commands(commands, 0, commands.len()).await {
            Ok(answers) => answers,
            Err(error) => {
                self.broken(number, &error).await;
                return Err(self.fail(&error));
            }
        };
        for (answer, command) in answers.iter_mut().zip(commands.cmd_iter()) {
            if let Err(error) = answer.clone().extract_error() {
                if self.whereabouts.turn(&error, &node) == Turn::Stay {
                    return Err(self.fail(&error));
                }
                *answer = self.command(command).await?;
            }
        }
        Ok(answers)
    }

    /// What the caller can do about an error that this server answered.
    pub fn fail(&self, error: &RedisError) -> StoreError {
        match fail(error) {
            StoreError::Refused(text) if ["MOVED", "ASK", "CROSSSLOT"].iter().any(|code| says(error, code)) => {
                match self.whereabouts.address.way {
                    Way::Cluster => StoreError::Unavailable(format!("the cluster is changing: {text}")),
                    _ => StoreError::Refused(format!(
                        "{} is one node of a cluster, and the keys lie on another: redis+cluster:// finds them",
                        self.shown
                    )),
                }
            }
            other => other,
        }
    }
}

/// Whether the server's error is of this code, also where an old server wraps it in another.
pub fn says(error: &RedisError, code: &str) -> bool {
    error.code() == Some(code) || error.detail().is_some_and(|detail| detail.contains(&format!("-{code} ")))
}

/// What the caller can do about an error.
pub fn fail(error: &RedisError) -> StoreError {
    let text = error.to_string();
    if let Some(why) = tls::refusal(error) {
        return StoreError::Refused(format!("{why}; `ca`, `cert` and `key` in the store URL name files"));
    }
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
