//! Store URLs: which backend, where. The password is taken in and never shown.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use super::remote::ServerUrl;

/// Where a store is. `sqlite:PATH`, `memory:`, `redis://…`, `postgres://…`.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// In this process only; gone with it.
    Memory,
    Sqlite(PathBuf),
    /// A URL as the Redis client reads it.
    Redis(String),
    /// A URL as libpq reads it.
    Postgres(String),
    /// Behind a `goflow server`.
    Server(ServerUrl),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    #[error("a store URL is empty")]
    Empty,
    #[error(
        "`{0}` is not a store URL: it starts with sqlite:, redis://, postgres://, memory: or, for a server, http(s)://"
    )]
    Scheme(String),
    #[error("`{url}` is not a store URL: {why}")]
    Malformed { url: String, why: String },
}

impl FromStr for StoreUrl {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let malformed = |why: &str| BadUrl::Malformed { url: hide_password(text), why: why.to_owned() };
        if text.is_empty() {
            return Err(BadUrl::Empty);
        }
        let schemes = [
            "sqlite:",
            "memory:",
            "redis:",
            "rediss:",
            "redis+cluster:",
            "postgres:",
            "postgresql:",
            "http:",
            "https:",
        ];
        let is_url = |part: &str| schemes.iter().any(|scheme| part.trim_start().starts_with(scheme));
        if text.split(',').skip(1).any(is_url) {
            return Err(malformed("several stores at once are not supported yet: name one"));
        }
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(BadUrl::Scheme(hide_password(text)));
        };
        match scheme {
            "memory" => match rest.trim_start_matches('/') {
                "" => Ok(StoreUrl::Memory),
                _ => Err(malformed("memory: takes nothing after the colon")),
            },
            "sqlite" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                match path {
                    "" => Err(malformed("the path is missing, as in sqlite:goflow.db")),
                    path => Ok(StoreUrl::Sqlite(PathBuf::from(path))),
                }
            }
            "redis" => match rest.strip_prefix("//") {
                Some(host) if !host.is_empty() => match redis::ConnectionInfo::from_str(text) {
                    Ok(_) => Ok(StoreUrl::Redis(text.to_owned())),
                    Err(_) => Err(malformed("expected redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]")),
                },
                _ => Err(malformed("the address is missing, as in redis://localhost:6379")),
            },
            "rediss" | "redis+cluster" => Err(malformed("TLS and clusters are not supported yet; use redis://")),
            "postgres" | "postgresql" => match rest.strip_prefix("//") {
                Some(host) if !host.is_empty() => match tokio_postgres::Config::from_str(text) {
                    Ok(_) => Ok(StoreUrl::Postgres(text.to_owned())),
                    Err(error) => Err(malformed(&match std::error::Error::source(&error) {
                        Some(why) => why.to_string(),
                        None => error.to_string(),
                    })),
                },
                _ => Err(malformed("the address is missing, as in postgres://user@localhost/goflow")),
            },
            "http" | "https" => text.parse().map(StoreUrl::Server).map_err(|why: String| {
                // What stands before the host may be a token.
                let host =
                    text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, host)| format!("{scheme}://***@{host}"));
                BadUrl::Malformed { url: host, why }
            }),
            _ => Err(BadUrl::Scheme(hide_password(text))),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreUrl::Memory => f.write_str("memory:"),
            StoreUrl::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            StoreUrl::Redis(url) | StoreUrl::Postgres(url) => f.write_str(&hide_password(url)),
            StoreUrl::Server(url) => fmt::Display::fmt(url, f),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `scheme://user:secret@host` with `***` for the secret; also `password=…` in a query.
pub fn hide_password(url: &str) -> String {
    let mut shown = url.to_owned();
    // From the back, so that the places before stay where they are.
    for secret in passwords(url).into_iter().rev() {
        shown.replace_range(secret, "***");
    }
    shown
}

/// Where the passwords of a URL stand in it, in their order.
pub fn passwords(url: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    if let Some(start) = url.find("://").map(|at| at + 3) {
        let end = url[start..].find(['/', '?']).map_or(url.len(), |at| start + at);
        // A password may itself hold `@`: the last one before the path ends the user part.
        if let Some(at) = url[start..end].rfind('@').map(|at| start + at)
            && let Some(colon) = url[start..at].find(':').map(|colon| start + colon)
        {
            found.push(colon + 1..at);
        }
    }
    let after = found.last().map_or(0, |last| last.end);
    if let Some(at) = url[after..].find("password=").map(|at| after + at) {
        let start = at + "password=".len();
        let end = url[start..].find('&').map_or(url.len(), |end| start + end);
        found.push(start..end);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_passwords_are_not_shown() {
        let shown = |text: &str| text.parse::<StoreUrl>().map(|url| url.to_string()).map_err(|error| error.to_string());
        assert_eq!(shown("memory:"), Ok("memory:".into()));
        assert_eq!(shown("sqlite:/tmp/a.db"), Ok("sqlite:/tmp/a.db".into()));
        assert_eq!(shown("sqlite:///tmp/a.db"), Ok("sqlite:/tmp/a.db".into()));
        assert_eq!(shown("redis://:s3cret@host:6379/1"), Ok("redis://:***@host:6379/1".into()));
        assert_eq!(shown("postgres://me:p@ss@host/db"), Ok("postgres://me:***@host/db".into()));
        assert_eq!(
            shown("postgres://h/db?user=me&password=x&sslmode=disable"),
            Ok("postgres://h/db?user=me&password=***&sslmode=disable".into())
        );
        assert!(shown("redis://h:1,redis://h:2").is_err_and(|error| error.ends_with("not supported yet: name one")));
        assert!(shown("sqlite:a,b.db").is_ok());
        assert!(shown("postgres://u:secret@h:port/db").is_err_and(|error| error.contains("***@h:port")));
        for bad in [
            "",
            "redis://:secret@h:port",
            "redis://h/database",
            "mysql://u:secret@h",
            "redis:",
            "redis://",
            "sqlite:",
            "memory:x",
            "/tmp/a.db",
        ] {
            let error = shown(bad).expect_err(bad);
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
