//! What the server promises: its kind and version, what an acknowledged write survives, whether it
//! may throw data away; and the schema key, so that an older goflow leaves a newer store alone. What is
//! told of copies and failover is `report`'s.

use std::collections::BTreeMap;

use redis::cmd;

use super::connection::Link;
use super::keys::Keys;
use super::reply;
use crate::store::contract::{Result, StoreError};

/// The schema this goflow writes. What 1 and 2 wrote is read as it is; 2 has short records of waiting jobs,
/// 3 has documents and locks.
pub const SCHEMA: u32 = 3;

/// What was found out about the server; a setting it does not tell is absent.
pub struct Server {
    pub info: BTreeMap<String, String>,
    config: BTreeMap<String, String>,
}

/// Settings that matter to every opening.
const SETTINGS: [&str; 5] = ["maxmemory-policy", "appendonly", "appendfsync", "save", "maxmemory"];

impl Server {
    /// Asks. `INFO` and `CONFIG` may be forbidden: then less is known.
    ///
    /// # Errors
    /// Only those of the connection.
    pub async fn ask(link: &Link) -> Result<Self> {
        // Credentials that do not do are no matter of one command.
        link.command(&cmd("PING")).await?;
        let mut info = BTreeMap::new();
        match link.command(&cmd("INFO")).await {
            Ok(answer) => {
                let text = match answer {
                    redis::Value::VerbatimString { text, .. } => text,
                    other => reply::text(other)?,
                };
                let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
                info.extend(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
            }
            Err(StoreError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
        let mut server = Server { info, config: BTreeMap::new() };
        server.learn(link, &SETTINGS).await?;
        Ok(server)
    }

    /// What a server with this information would be.
    #[cfg(test)]
    pub fn told(info: BTreeMap<String, String>) -> Self {
        Server { info, config: BTreeMap::new() }
    }

    /// Asks for more settings.
    ///
    /// # Errors
    /// Only those of the connection.
    pub async fn learn(&mut self, link: &Link, names: &[&str]) -> Result<()> {
        let lossy = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        for name in names {
            match link.command(cmd("CONFIG").arg("GET").arg(name)).await {
                Ok(answer) => {
                    self.config
                        .extend(reply::pairs(answer)?.into_iter().map(|(key, value)| (lossy(key), lossy(value))));
                }
                Err(StoreError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub fn setting(&self, name: &str) -> Option<&str> {
        self.config.get(name).or_else(|| self.info.get(&name.replace('-', "_"))).map(String::as_str)
    }

    pub fn fact(&self, name: &str) -> Option<&str> {
        self.info.get(name).map(String::as_str)
    }

    /// The policy by which the server may throw data away, if it may.
    pub fn evicts(&self) -> Option<&str> {
        self.setting("maxmemory-policy")
            .filter(|policy| policy.starts_with("allkeys-") || policy.starts_with("volatile-") || *policy == "eviction")
    }

    pub fn name(&self) -> String {
        for (key, name) in
            [("dragonfly_version", "DragonflyDB"), ("valkey_version", "Valkey"), ("redis_version", "Redis")]
        {
            if let Some(version) = self.info.get(key) {
                return format!("{name} {}", version.trim_start_matches("df-v"));
            }
        }
        "Redis (its version is not told)".to_owned()
    }

    pub fn durability(&self) -> String {
        let text = match (self.setting("appendonly"), self.setting("appendfsync"), self.setting("save")) {
            (Some("yes"), Some("always"), _) => "appendfsync always: an acknowledged write survives a power cut",
            (Some("yes"), Some("everysec"), _) => {
                "appendfsync everysec: a power cut may cost the last second; a crash of Redis alone costs nothing"
            }
            (Some("yes"), Some("no"), _) => {
                "appendfsync no: a power cut may cost the last half minute; a crash of Redis alone costs nothing"
            }
            (Some("no"), _, Some("")) => "no persistence: nothing survives a restart of Redis",
            (Some("no"), _, Some(_)) => "snapshots only: a crash of Redis may cost everything since the last snapshot",
            _ => "unknown: the server does not tell its settings",
        };
        text.to_owned()
    }

    /// What an operator should mend of it, whatever stands around it.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(policy) = self.evicts() {
            warnings.push(format!("maxmemory-policy {policy} may throw jobs away: set it to noeviction"));
        }
        if self.setting("appendonly") == Some("no") {
            warnings.push(format!("{}; switch the append-only file on: appendonly yes", self.durability()));
        }
        if self.setting("maxmemory-policy").is_none() {
            warnings.push("the server does not tell its maxmemory-policy: make sure that it is noeviction".to_owned());
        }
        if self.is_old() {
            warnings.push("a Redis before 6.2 lacks commands that goflow uses".to_owned());
        }
        warnings
    }

    /// A Redis that is too old. Others that tell a version of Redis tell the one that they are like.
    fn is_old(&self) -> bool {
        let is_other = ["dragonfly_version", "valkey_version"].iter().any(|name| self.info.contains_key(*name));
        let mut parts =
            self.fact("redis_version").unwrap_or("7").split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        !is_other && version < (6, 2) && self.info.contains_key("redis_version")
    }
}

/// Has the append-only file written anew, once in each life of the server.
///
/// A power cut may end the file in the middle of a script's writes. The server then leaves them out, but
/// (as of Redis 7) takes only the last, torn command off the file, so that at its *next* start those
/// before it would be done after all: half a script. A file written anew from memory has no such end.
///
/// # Errors
/// Those of the connection; a server that does not allow it is left as it is.
pub async fn mend_log(link: &Link, keys: &Keys, server: &Server) -> Result<()> {
    let (Some(life), Some("1")) = (server.info.get("run_id"), server.info.get("aof_enabled").map(String::as_str))
    else {
        return Ok(());
    };
    let known = reply::maybe_bytes(link.command(cmd("GET").arg(keys.server())).await?)?;
    if known.as_deref() == Some(life.as_bytes()) {
        return Ok(());
    }
    match link.command(&cmd("BGREWRITEAOF")).await {
        Ok(_) => {}
        Err(StoreError::Refused(why)) => tracing::info!("the append-only file is not written anew: {why}"),
        Err(error) => return Err(error),
    }
    match link.command(cmd("SET").arg(keys.server()).arg(life)).await {
        // A full server asks again at the next opening.
        Ok(_) | Err(StoreError::Full(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Reads the schema; writes it into an empty store, and into one of an older goflow, which from then on
/// leaves it alone.
///
/// # Errors
/// [`StoreError::TooNew`] for a store of a newer goflow.
pub async fn check_schema(link: &Link, keys: &Keys) -> Result<()> {
    let found = reply::maybe_bytes(link.command(cmd("GET").arg(keys.schema())).await?)?;
    let Some(found) = found else {
        link.command(cmd("SETNX").arg(keys.schema()).arg(SCHEMA)).await?;
        return Ok(());
    };
    let found: u32 = String::from_utf8_lossy(&found)
        .parse()
        .map_err(|_| StoreError::Corrupt(format!("the key {} does not hold a schema number", keys.schema())))?;
    if found > SCHEMA {
        return Err(StoreError::TooNew { found, known: SCHEMA });
    }
    if found < SCHEMA {
        link.command(cmd("SET").arg(keys.schema()).arg(SCHEMA)).await?;
    }
    Ok(())
}
