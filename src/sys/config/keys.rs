//! Every configuration key in one table: its name, what it takes, which environment variables set
//! it, its default. Loading, `config show` and the warnings about unknown keys all read this table.

use std::time::Duration;

use crate::domain::time::{format_duration, parse_duration};

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Text that is never shown.
    Secret,
    /// A whole number within these bounds.
    Number(u64, u64),
    Duration,
    /// A list of texts; a single text stands for a list of one.
    List,
}

#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// In order: the first that is set wins.
    pub env: &'static [&'static str],
    /// As it would be written; `None` means not set.
    pub default: Option<&'static str>,
}

const fn key(name: &'static str, kind: Kind, env: &'static [&'static str], default: Option<&'static str>) -> Key {
    Key { name, kind, env, default }
}

pub const STORE: &str = "store";
pub const ADDRESS: &str = "database.address";
pub const PASSWORD: &str = "database.password";
pub const DATABASE: &str = "database.database";
pub const QUEUE: &str = "queue.name";
pub const MAX_RETRIES: &str = "queue.max_retries";
pub const CONCURRENCY: &str = "worker.concurrency";
pub const SHUTDOWN: &str = "worker.shutdown_timeout";
/// How new work is spread over shards: read as a word, known to `store`.
pub const STRATEGY: &str = "shards.strategy";
/// How long a worker may be silent before its jobs are taken from it.
pub const LEASE: &str = "worker.lease";
pub const PORT: &str = "server.port";
pub const BIND: &str = "server.bind";
pub const ALLOWED_HOSTS: &str = "server.allowed_hosts";
pub const ALLOWED_ORIGINS: &str = "server.cors.allowed_origins";
pub const WEBHOOK_SECRET: &str = "webhooks.secret";
/// The one key whose value is a mapping of free names.
pub const HANDLERS: &str = "handlers";
/// The one key whose value is a list of mappings.
pub const ALERTS: &str = "alerts";

pub const KEYS: &[Key] = &[
    // Which store wins over which is decided in `store.rs`, so these two name no variables.
    key(STORE, Kind::List, &[], None),
    key(ADDRESS, Kind::Text, &[], None),
    key(PASSWORD, Kind::Secret, &[], None),
    key(DATABASE, Kind::Number(0, 65_535), &[], None),
    key(STRATEGY, Kind::Text, &[], Some("hash")),
    key(QUEUE, Kind::Text, &[], Some("default")),
    key(MAX_RETRIES, Kind::Number(0, 10_000), &[], Some("3")),
    key(CONCURRENCY, Kind::Number(1, 10_000), &["GOFLOW_WORKER_CONCURRENCY", "WORKER_CONCURRENCY"], Some("10")),
    key(SHUTDOWN, Kind::Duration, &[], Some("25s")),
    key(LEASE, Kind::Duration, &[], Some("15s")),
    key(PORT, Kind::Number(0, 65_535), &["GOFLOW_PORT", "SERVER_PORT", "PORT"], Some("8080")),
    key(BIND, Kind::Text, &["GOFLOW_BIND"], Some("127.0.0.1")),
    key(ALLOWED_HOSTS, Kind::List, &[], None),
    key(ALLOWED_ORIGINS, Kind::List, &[], None),
    key("llm.provider", Kind::Text, &[], None),
    key("llm.api_key", Kind::Secret, &["OPENAI_API_KEY"], None),
    key("llm.model", Kind::Text, &[], None),
    key(WEBHOOK_SECRET, Kind::Secret, &["WEBHOOK_SECRET"], None),
];

/// A checked value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    Text(String),
    Number(u64),
    Duration(Duration),
    List(Vec<String>),
}

impl Key {
    /// Reads text as this key's value.
    ///
    /// # Errors
    /// A sentence that says what was expected; it quotes the text unless it is a secret.
    pub fn read(&self, text: &str) -> Result<Setting, String> {
        Ok(match self.kind {
            Kind::Text | Kind::Secret => Setting::Text(text.to_owned()),
            Kind::List => Setting::List(text.split(',').map(|item| item.trim().to_owned()).collect()),
            Kind::Duration => Setting::Duration(parse_duration(text).map_err(|error| error.to_string())?),
            Kind::Number(least, most) => match text.parse::<u64>() {
                Ok(number) if (least..=most).contains(&number) => Setting::Number(number),
                Ok(number) => return Err(format!("`{number}` is out of range: {least} to {most}")),
                Err(_) => return Err(format!("`{text}` is not a whole number")),
            },
        })
    }

    /// The value for people, with secrets hidden.
    pub fn show(&self, setting: &Setting) -> String {
        match setting {
            Setting::Text(text) if self.kind == Kind::Secret && !text.is_empty() => "***".to_owned(),
            Setting::Text(text) => text.clone(),
            Setting::Number(number) => number.to_string(),
            Setting::Duration(duration) => format_duration(*duration),
            Setting::List(items) => items.join(","),
        }
    }
}

/// The key of this name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Whether a mapping of this name holds keys.
pub fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// What may stand under a section (`""` for the top): `cors`, `port` … for `server`.
pub fn children(section: &str) -> Vec<&'static str> {
    let prefix = if section.is_empty() { String::new() } else { format!("{section}.") };
    let names = KEYS.iter().map(|key| key.name).chain([HANDLERS, ALERTS]);
    let mut found: Vec<&str> = names.filter_map(|name| name.strip_prefix(prefix.as_str())?.split('.').next()).collect();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_that_its_key_takes() {
        for key in KEYS {
            if let Some(default) = key.default {
                let setting = key.read(default).expect(key.name);
                assert_eq!(key.show(&setting), default, "{}", key.name);
            }
            assert!(!is_section(key.name), "{} is both a key and a section", key.name);
        }
        assert_eq!(children("server"), ["port", "bind", "allowed_hosts", "cors"]);
        assert!(is_section("server.cors"));
    }
}
