//! Store URLs: which backend, where. The password is taken in and never shown.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use super::postgres::tls::split;
use super::redis::address::Address;
use super::remote::ServerUrl;
use crate::domain::Shard;

/// Where a store is. `sqlite:PATH`, `memory:`, `redis://…`, `redis+cluster://…`, `redis+sentinel://…`,
/// `postgres://…`, or several, comma-separated: shards 0, 1, … of one. Several shards may lie on one Redis:
/// `#N` after its URL names the key space.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// In this process only; gone with it.
    Memory,
    Sqlite(PathBuf),
    /// A URL of a Redis, a cluster of them, or sentinels: see `redis::address`.
    Redis(String),
    /// A URL as libpq reads it.
    Postgres(String),
    /// Behind a `goflow server`.
    Server(ServerUrl),
    /// The shards of one store, each the URL of one.
    Shards(Vec<String>),
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
        let malformed = |why: &str| {
            let cure = "; `/`, `?` and `#` in a password are written %2F, %3F and %23";
            let cure = if has_late_user(text) { cure } else { "" };
            BadUrl::Malformed { url: hide_password(text), why: format!("{why}{cure}") }
        };
        if text.is_empty() {
            return Err(BadUrl::Empty);
        }
        // Others are told by `//`: a node of a cluster may have the name `redis`.
        let schemes = ["sqlite:", "memory:"];
        // Any scheme begins a URL, so that an unknown one is named alone and its password hidden.
        let begins = |part: &str| {
            part.split_once("://").is_some_and(|(scheme, _)| {
                !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+')
            })
        };
        let is_url = |part: &str| {
            let part = part.trim_start();
            schemes.iter().any(|scheme| part.starts_with(scheme)) || begins(part)
        };
        if text.split(',').skip(1).any(is_url) {
            return several(text, is_url);
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
            scheme if Address::is_scheme(scheme) => {
                let (_, space) = redis_shard(text).map_err(malformed)?;
                let address = Address::read(text).map_err(|why| malformed(&why))?;
                if address.shards.is_some() && space.is_some() {
                    return Err(malformed("`shards` counts key spaces, and `#` names one: not both"));
                }
                Ok(StoreUrl::Redis(text.to_owned()))
            }
            "postgres" | "postgresql" => match rest.strip_prefix("//") {
                Some(host) if !host.is_empty() => {
                    // What is said of a parameter may quote the end of a password.
                    let quiet = |why: &str| malformed(if has_late_user(text) { "it cannot be read" } else { why });
                    let (plain, _) = split(text).map_err(|why| quiet(&why))?;
                    match tokio_postgres::Config::from_str(&plain) {
                        Ok(_) => Ok(StoreUrl::Postgres(text.to_owned())),
                        Err(error) => Err(quiet(&match std::error::Error::source(&error) {
                            Some(why) => why.to_string(),
                            None => error.to_string(),
                        })),
                    }
                }
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

/// Splits where a scheme follows a comma: other commas belong to a URL.
fn several(text: &str, is_url: impl Fn(&str) -> bool) -> Result<StoreUrl, BadUrl> {
    let mut urls: Vec<String> = Vec::new();
    for part in text.split(',') {
        match urls.last_mut() {
            Some(last) if !is_url(part) => {
                last.push(',');
                last.push_str(part);
            }
            _ => urls.push(part.trim_start().to_owned()),
        }
    }
    if urls.len() > usize::from(Shard::MAX) + 1 {
        let why = format!("at most {} shards", Shard::MAX + 1);
        return Err(BadUrl::Malformed { url: hide_password(text), why });
    }
    for (nth, url) in urls.iter().enumerate() {
        if let StoreUrl::Redis(one) = url.parse()?
            && Address::read(&one).is_ok_and(|address| address.shards.is_some())
        {
            let why = "in a list each URL is one shard: `shards` is said of a cluster alone".to_owned();
            return Err(BadUrl::Malformed { url: hide_password(url), why });
        }
        if url != "memory:" && urls.iter().take(nth).any(|before| before == url) {
            let why = "it is named twice: shards on one Redis are told apart by #0, #1, …".to_owned();
            return Err(BadUrl::Malformed { url: hide_password(url), why });
        }
    }
    Ok(StoreUrl::Shards(urls))
}

/// The URL of a Redis without its fragment, and the key space that the fragment names: the first, if there is none.
///
/// # Errors
/// A sentence, for a fragment that is no number of a shard.
pub fn redis_shard(url: &str) -> Result<(&str, Option<Shard>), &'static str> {
    let Some((url, fragment)) = url.split_once('#') else { return Ok((url, None)) };
    let number = fragment.parse::<u16>().ok().filter(|number| *number <= Shard::MAX);
    number.map(|number| (url, Some(Shard(number)))).ok_or("after `#` stands the number of a key space, 0 to 4095")
}

/// The URL of a key space of its own on the server of another: on Redis another hash tag, with SQLite
/// another file beside it.
///
/// # Errors
/// Why there is none.
pub fn next_to(url: &str, number: u16) -> Result<String, String> {
    match url.parse::<StoreUrl>() {
        Ok(StoreUrl::Redis(url)) => Ok(key_space(&url, number)),
        Ok(StoreUrl::Sqlite(path)) => {
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let base = stem.rsplit_once("-shard").map_or(stem.as_str(), |(base, _)| base);
            let end = path.extension().map(|end| format!(".{}", end.to_string_lossy())).unwrap_or_default();
            Ok(format!("sqlite:{}", path.with_file_name(format!("{base}-shard{number}{end}")).display()))
        }
        _ => Err(format!("{} holds one shard: make a database and add it with `goflow shard add`", hide_password(url))),
    }
}

/// The URL of one key space of a Redis.
pub fn key_space(url: &str, number: u16) -> String {
    let base = url.split('#').next().unwrap_or(url);
    let Some((base, query)) = base.split_once('?') else { return format!("{base}#{number}") };
    // How many shards there are to be is said of all of them.
    let rest: Vec<&str> = query.split('&').filter(|part| !part.starts_with("shards=")).collect();
    if rest.is_empty() { format!("{base}#{number}") } else { format!("{base}?{}#{number}", rest.join("&")) }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreUrl::Memory => f.write_str("memory:"),
            StoreUrl::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            StoreUrl::Redis(url) | StoreUrl::Postgres(url) => f.write_str(&hide_password(url)),
            StoreUrl::Server(url) => fmt::Display::fmt(url, f),
            StoreUrl::Shards(urls) => {
                let shown: Vec<String> = urls.iter().map(|url| hide_password(url)).collect();
                f.write_str(&shown.join(","))
            }
        }
    }
}

impl StoreUrl {
    /// The URL as it was given, with its password: not to be shown.
    pub fn text(&self) -> String {
        match self {
            StoreUrl::Redis(url) | StoreUrl::Postgres(url) => url.clone(),
            StoreUrl::Shards(urls) => urls.join(","),
            other => other.to_string(),
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
    let mut secrets = passwords(url);
    // Readings of a URL that is odd overlap: all that is in one of them is hidden.
    secrets.sort_by_key(|secret| secret.start);
    secrets.dedup_by(|next, kept| {
        let overlaps = next.start < kept.end;
        if overlaps {
            kept.end = kept.end.max(next.end);
        }
        overlaps
    });
    let mut shown = url.to_owned();
    // From the back, so that the places before stay where they are.
    for secret in secrets.into_iter().rev() {
        shown.replace_range(secret, "***");
    }
    shown
}

/// Whether an `@` stands where none ends the user: most likely the password holds a sign that ends it sooner.
fn has_late_user(url: &str) -> bool {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    rest.find(['/', '?', '#']).is_some_and(|end| rest[end..].contains('@'))
}

/// Where the passwords of a URL, or of each in a list of them, stand in the text. Where a URL can be read in two
/// ways, both are among them.
pub fn passwords(text: &str) -> Vec<Range<usize>> {
    let (mut found, mut from) = (Vec::new(), 0);
    while from < text.len() {
        // One URL of a list ends at the comma before the next scheme.
        let host = text[from..].find("://").map_or(text.len(), |at| from + at + 3);
        let comma = text[host..].find("://").and_then(|at| text[host..host + at].rfind(','));
        let end = comma.map_or(text.len(), |at| host + at);
        found.extend(passwords_of_one(&text[from..end]).into_iter().map(|place| from + place.start..from + place.end));
        from = end + 1;
    }
    found
}

fn passwords_of_one(url: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let start = url.find("://").map_or(url.len(), |at| at + 3);
    let end = url[start..].find(['/', '?']).map_or(url.len(), |at| start + at);
    // A password may itself hold `@`: the last one before the path ends the user part. One that comes later ends
    // it too, for it may be a password with a `/` or a `?` that nobody has encoded.
    for end in [end, url.len()] {
        if let Some(at) = url[start..end].rfind('@').map(|at| start + at)
            && let Some(colon) = url[start..at].find(':').map(|colon| start + colon)
            && !found.contains(&(colon + 1..at))
        {
            found.push(colon + 1..at);
        }
    }
    let mut from = found.first().filter(|user| user.end < end).map_or(0, |user| user.end);
    while let Some(at) = url[from..].find("password=").map(|at| from + at + "password=".len()) {
        from = url[at..].find('&').map_or(url.len(), |end| at + end);
        found.push(at..from);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_holds_more_key_spaces() {
        assert_eq!(next_to("redis://h:1/2", 3), Ok("redis://h:1/2#3".into()));
        assert_eq!(next_to("redis://h:1#2", 3), Ok("redis://h:1#3".into()));
        assert_eq!(
            next_to("redis+cluster://a,b?shards=2&replicas=1", 3),
            Ok("redis+cluster://a,b?replicas=1#3".into())
        );
        assert_eq!(key_space("redis+cluster://a?shards=2", 0), "redis+cluster://a#0");
        assert_eq!(next_to("sqlite:/a/q.db", 1), Ok("sqlite:/a/q-shard1.db".into()));
        assert_eq!(next_to("sqlite:/a/q-shard1.db", 2), Ok("sqlite:/a/q-shard2.db".into()));
        assert!(next_to("postgres://u:secret@h/d", 1).is_err_and(|why| !why.contains("secret")));
    }

    #[test]
    fn every_password_of_a_list_is_hidden() {
        let list = "redis://:one@h:1,postgres://u:two,x@h/d?password=three,redis://h:2,sqlite:a.db";
        let shown = "redis://:***@h:1,postgres://u:***@h/d?password=***,redis://h:2,sqlite:a.db";
        assert_eq!(hide_password(list), shown);
        let places = passwords(list);
        let words: Vec<&str> = places.into_iter().map(|place| &list[place]).collect();
        assert_eq!(words, ["one", "two,x", "three"]);
    }

    #[test]
    fn a_password_that_is_not_encoded_is_hidden_all_the_same() {
        for bad in [
            "redis://:se/cret@h",
            "redis://:se?cret@h",
            "redis://:se#cret@h",
            "redis://:se/c?r#et@h:1/2",
            "redis+cluster://u:se?cret@h",
            "redis+cluster://u:se?cret=@h",
            "redis+cluster://u:1?cret=x@h",
            "redis+sentinel://u:1/cret@h",
            "redis://h:1,redis://:se/cret@h",
            "postgres://u:1?cret@h/d?a=b",
            "postgres://u:1?sslmode=cret@h/d",
        ] {
            let error = bad.parse::<StoreUrl>().expect_err(bad).to_string();
            assert!(!error.contains("se/") && !error.contains("cret"), "{bad}: {error}");
            assert!(error.contains(":***@h") && error.contains("written %2F, %3F and %23"), "{bad}: {error}");
        }
        // This one is read as it was meant.
        let slash = "postgres://u:se/cret@h/d".parse::<StoreUrl>().expect("a URL");
        assert_eq!(slash.to_string(), "postgres://u:***@h/d");
        assert_eq!(hide_password("mysql://u:se/cret@h"), "mysql://u:***@h");
        assert_eq!(hide_password("redis://me@h:1/0?x=password"), "redis://me@h:1/0?x=password");
        // Either `@` may be the one that ends the user: neither reading shows a part of a password.
        let odd = "redis+sentinel://:one@s:1/m?sentinel_password=t@wo&replicas=1";
        assert_eq!(hide_password(odd), "redis+sentinel://:***&replicas=1");
        assert!(odd.parse::<StoreUrl>().is_ok());
        let words: Vec<&str> = passwords(odd).into_iter().map(|place| &odd[place]).collect();
        assert!(words.contains(&"one") && words.contains(&"t@wo"), "{words:?}");
    }

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
        assert_eq!(
            shown("redis://:s3cret@h:1, redis://h:1#1,sqlite:a,b.db"),
            Ok("redis://:***@h:1,redis://h:1#1,sqlite:a,b.db".into())
        );
        assert!(shown("redis://h:1,redis://h:1").is_err_and(|error| error.contains("named twice")));
        let cluster = "redis+cluster://:***@a:1,redis:2/?replicas=1,redis+sentinel://s,t/m?sentinel_password=***";
        let given = "redis+cluster://:pw@a:1,redis:2/?replicas=1,redis+sentinel://s,t/m?sentinel_password=pw";
        assert_eq!(shown(given), Ok(cluster.into()));
        assert!(shown("redis+cluster://a?shards=2#1").is_err_and(|error| error.contains("not both")));
        assert!(shown("redis://h:1#x").is_err_and(|error| error.contains("key space")));
        assert!(shown("redis://h:1,mysql://u:secret@h").is_err_and(|error| !error.contains("secret")));
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
