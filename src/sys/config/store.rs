//! Which store, or which server in its stead: the first found of flag, environment, `store:`, `database.address`, and else an
//! embedded one in the user's data folder. Works on text; what a URL means is known to `store`.

use std::fmt::Write;

use super::keys::{ADDRESS, DATABASE, PASSWORD, STORE, Setting};
use super::{Config, Origin};
use crate::sys::env::Env;
use crate::sys::paths::Paths;

/// A store URL and who asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreChoice {
    /// May hold a password: show it only through `store::url`.
    pub url: String,
    pub origin: Origin,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoStore {
    #[error("there is no home folder for the embedded store: neither GOFLOW_HOME nor HOME is set")]
    NoHome,
    #[error("DB_DSN is wrong: {0}")]
    Dsn(String),
    #[error("a server is named by a URL that starts with http:// or https://, not by `{0}`")]
    Server(String),
}

/// The flags that name a store.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreFlags<'a> {
    /// `--store URL`
    pub store: Option<&'a str>,
    /// `--redis ADDRESS`
    pub redis: Option<&'a str>,
    /// `--server URL`
    pub server: Option<&'a str>,
}

impl Config {
    /// The store to use.
    ///
    /// # Errors
    /// [`NoStore`] when nothing names one and there is no home folder, `DB_DSN` cannot be read, or a
    /// server's URL is none.
    pub fn store(&self, flags: StoreFlags<'_>, env: &Env, paths: Option<&Paths>) -> Result<StoreChoice, NoStore> {
        let choice = |url: String, origin: Origin| Ok(StoreChoice { url, origin });
        if let Some(url) = flags.store {
            return choice(url.to_owned(), Origin::Flag("--store"));
        }
        if let Some(address) = flags.redis {
            return choice(self.redis_url(address), Origin::Flag("--redis"));
        }
        if let Some(url) = flags.server {
            return choice(server_url(url)?, Origin::Flag("--server"));
        }
        if let Some(url) = env.get("GOFLOW_SERVER") {
            return choice(server_url(url)?, Origin::Environment("GOFLOW_SERVER"));
        }
        if let Some(url) = env.get("GOFLOW_STORE") {
            return choice(url.to_owned(), Origin::Environment("GOFLOW_STORE"));
        }
        if let Some((name, address)) = env.first(&["DATABASE_ADDRESS", "GOFLOW_REDIS"]) {
            return choice(self.redis_url(address), Origin::Environment(name));
        }
        if let Some(dsn) = env.get("DB_DSN") {
            return choice(postgres_url(dsn).map_err(NoStore::Dsn)?, Origin::Environment("DB_DSN"));
        }
        for layer in &self.layers {
            match layer.settings.get(STORE) {
                Some((Setting::List(urls), origin)) if urls.iter().any(|url| !url.is_empty()) => {
                    return choice(urls.join(","), origin.clone());
                }
                _ => {}
            }
            match layer.settings.get(ADDRESS) {
                Some((Setting::Text(address), origin)) if !address.is_empty() => {
                    return choice(self.redis_url(address), origin.clone());
                }
                _ => {}
            }
        }
        let database = paths.ok_or(NoStore::NoHome)?.database();
        choice(format!("sqlite:{}", database.display()), Origin::Default)
    }

    /// An address as the replaced system writes it, with the password and database beside it.
    fn redis_url(&self, address: &str) -> String {
        if address.contains("://") {
            return address.to_owned();
        }
        let mut url = "redis://".to_owned();
        if let Some(password) = self.text(PASSWORD).filter(|_| !address.contains('@')) {
            let _ = write!(url, ":{}@", percent(password));
        }
        url.push_str(address);
        let database = self.number(DATABASE);
        if database > 0 && !address.contains('/') {
            let _ = write!(url, "/{database}");
        }
        url
    }
}

/// What names a server is a URL of HTTP: another store's is not taken for one, and without a scheme nobody
/// knows whether a token may be sent there.
fn server_url(text: &str) -> Result<String, NoStore> {
    match text.split_once("://") {
        Some(("http" | "https", _)) => Ok(text.to_owned()),
        Some((scheme, _)) => Err(NoStore::Server(format!("{scheme}://"))),
        None => Err(NoStore::Server(text.chars().take(64).collect())),
    }
}

/// A PostgreSQL URL from a URL or from libpq's `key=value` words (PostgreSQL manual, 34.1.1.1).
fn postgres_url(dsn: &str) -> Result<String, String> {
    if dsn.contains("://") {
        return Ok(dsn.to_owned());
    }
    let (mut host, mut port) = ("localhost".to_owned(), String::new());
    let mut database = String::new();
    let mut query = Vec::new();
    for (key, value) in words(dsn)? {
        match key.as_str() {
            "host" if !value.starts_with('/') => host = value,
            // In the query it would be a second one beside the address's own.
            "port" => port = format!(":{value}"),
            "dbname" => database = value,
            _ => query.push(format!("{key}={}", percent(&value))),
        }
    }
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    Ok(format!("postgres://{host}{port}/{}{query}", percent(&database)))
}

/// `a=b c='d e'`, a backslash taking the next character as it is.
fn words(dsn: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    let mut chars = dsn.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(found);
        }
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_whitespace()) {
            key.push(c);
        }
        if chars.next() != Some('=') {
            // What stands here may be a password that lost its key: it is not repeated.
            return Err("expected a URL (postgres://…) or words such as host=localhost dbname=tasks".to_owned());
        }
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                None if quoted => return Err("a quote is not closed".to_owned()),
                None => break,
                Some('\'') if quoted => break,
                Some(c) if c.is_whitespace() && !quoted => break,
                Some('\\') => value.extend(chars.next()),
                Some(c) => value.push(c),
            }
        }
        found.push((key, value));
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dsn_in_words_becomes_a_url() {
        let url = |dsn| postgres_url(dsn);
        assert_eq!(url("postgres://u@h/db"), Ok("postgres://u@h/db".into()));
        assert_eq!(
            url(r"host=db user=me password='p\'w d' dbname=tasks port=5433 sslmode=disable"),
            Ok("postgres://db:5433/tasks?user=me&password=p%27w%20d&sslmode=disable".into())
        );
        assert!(url("secret").is_err_and(|error| !error.contains("secret")));
        assert!(url("password='x").is_err());
    }
}
