//! What the URL of a Redis says: one server, the nodes of a cluster, or sentinels that know which server is
//! the master. It reads text; no file is opened here and no server asked.
//!
//! ```text
//! redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE][?…][#KEY SPACE]
//! redis+cluster://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][?…][#KEY SPACE]
//! redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,…]/MASTER[/DATABASE][?…][#KEY SPACE]
//! ```
//!
//! With TLS the schemes begin with `rediss`.

use std::collections::BTreeMap;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use crate::domain::Shard;

/// How the server of a shard is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is the one that the URL names.
    Server,
    /// It is the node of a cluster that serves the shard's slot.
    Cluster,
    /// It is the one that the sentinels call the master of this name.
    Sentinel(String),
}

/// Files of TLS, in PEM: whose certificates are trusted, and what is shown to a server that asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    pub ca: Option<String>,
    pub cert: Option<String>,
    pub key: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Address {
    pub way: Way,
    /// Where to ask first, in the order of the URL: the server, nodes, or sentinels.
    pub hosts: Vec<(String, u16)>,
    /// How the server of the keys is spoken to, whatever its address.
    server: ConnectionInfo,
    /// How sentinels are spoken to.
    sentinel: ConnectionInfo,
    pub is_tls: bool,
    pub files: Files,
    /// How many logical shards a cluster's store begins with.
    pub shards: Option<u16>,
    /// How many replicas confirm a write before it counts as done.
    pub replicas: u16,
}

const SERVER: &str = "redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]";
const CLUSTER: &str = "redis+cluster://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]";
const SENTINEL: &str = "redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]/MASTER[/DATABASE]";
/// Parameters of any URL, and those of some.
const PARAMETERS: [&str; 8] =
    ["ca", "cert", "key", "protocol", "replicas", "shards", "sentinel_username", "sentinel_password"];

impl Address {
    /// Whether a URL of this scheme is read here.
    pub fn is_scheme(scheme: &str) -> bool {
        let plain = scheme.strip_prefix("rediss").or_else(|| scheme.strip_prefix("redis"));
        plain.is_some_and(|way| ["", "+cluster", "+sentinel"].contains(&way))
    }

    /// Reads a URL; what follows `#` is the caller's business.
    ///
    /// # Errors
    /// A sentence about what is wrong, without the URL.
    pub fn read(url: &str) -> Result<Address, String> {
        let url = url.split('#').next().unwrap_or(url);
        let (scheme, rest) = url.split_once("://").unwrap_or((url.split(':').next().unwrap_or_default(), ""));
        let (is_tls, way) = match scheme.strip_prefix("rediss") {
            Some(way) => (true, way),
            None => (false, scheme.strip_prefix("redis").unwrap_or_default()),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_end_matches('/');
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), authority),
        };
        let (way, form, database, port) = match way {
            "+cluster" => (Way::Cluster, CLUSTER, path, 6379),
            "+sentinel" => {
                let (master, database) = path.split_once('/').unwrap_or((path, ""));
                (Way::Sentinel(master.to_owned()), SENTINEL, database, 26379)
            }
            _ => (Way::Server, SERVER, path, 6379),
        };
        let expected =
            || format!("expected {}", if is_tls { form.replacen("redis", "rediss", 1) } else { form.into() });
        match &way {
            _ if hosts.is_empty() => return Err(format!("the address is missing, as in {}", example(&way))),
            Way::Sentinel(master) if master.is_empty() => {
                return Err(format!("the name of the master is missing, as in {}", example(&way)));
            }
            Way::Sentinel(master) if master.contains('@') => {
                return Err("the name of a master holds no `@`".to_owned());
            }
            Way::Server if hosts.contains(',') => {
                return Err(
                    "several addresses are those of a cluster, redis+cluster://, or of sentinels, redis+sentinel://"
                        .to_owned(),
                );
            }
            Way::Cluster if !["", "0"].contains(&database) => {
                return Err("a cluster has one database, which is not named".to_owned());
            }
            _ => {}
        }
        let query = parameters(query, &way, is_tls)?;
        let protocol = query.get("protocol").map(|protocol| format!("?protocol={protocol}")).unwrap_or_default();
        let plain = if is_tls { "rediss" } else { "redis" };
        let read = |user: &str, host: &str, end: &str| {
            let has_port = host.rsplit(']').next().unwrap_or(host).contains(':');
            let port = if has_port { String::new() } else { format!(":{port}") };
            let url = format!("{plain}://{user}{host}{port}{end}{protocol}");
            url.as_str().into_connection_info().map_err(|_| expected())
        };
        let infos: Vec<ConnectionInfo> =
            hosts.split(',').map(|host| read(&user, host, &format!("/{database}"))).collect::<Result<_, _>>()?;
        let places = infos.iter().map(|info| match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => Ok((host.clone(), *port)),
            _ => Err(expected()),
        });
        let places: Vec<(String, u16)> = places.collect::<Result<_, _>>()?;
        let of_sentinel = |name: &str| query.get(name).copied().unwrap_or_default();
        let sentinel_user = match (of_sentinel("sentinel_username"), of_sentinel("sentinel_password")) {
            ("", "") => String::new(),
            (_, "") => return Err("`sentinel_username` needs `sentinel_password`".to_owned()),
            (name, password) => format!("{name}:{password}@"),
        };
        let file = |name: &str| query.get(name).map(|path| (*path).to_owned());
        let number = |name: &str, most: u16| match query.get(name) {
            None => Ok(None),
            Some(text) => match text.parse::<u16>() {
                Ok(number) if (1..=most).contains(&number) => Ok(Some(number)),
                _ => Err(format!("`{name}` is a number from 1 to {most}")),
            },
        };
        Ok(Address {
            server: infos.into_iter().next().ok_or_else(expected)?,
            sentinel: read(&sentinel_user, hosts.split(',').next().unwrap_or_default(), "/")?,
            hosts: places,
            is_tls,
            files: Files { ca: file("ca"), cert: file("cert"), key: file("key") },
            shards: number("shards", Shard::MAX + 1)?,
            replicas: number("replicas", 100)?.unwrap_or(0),
            way,
        })
    }

    /// How the server at this place is spoken to about keys.
    pub fn server_at(&self, host: &str, port: u16) -> ConnectionInfo {
        at(&self.server, self.is_tls, host, port)
    }

    /// How the sentinel at this place is spoken to.
    pub fn sentinel_at(&self, host: &str, port: u16) -> ConnectionInfo {
        at(&self.sentinel, self.is_tls, host, port)
    }
}

fn at(info: &ConnectionInfo, is_tls: bool, host: &str, port: u16) -> ConnectionInfo {
    let host = host.to_owned();
    let addr = if is_tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    let settings = info.tcp_settings().clone().set_nodelay(true);
    info.clone().set_addr(addr).set_tcp_settings(settings)
}

fn example(way: &Way) -> &'static str {
    match way {
        Way::Server => "redis://localhost:6379",
        Way::Cluster => "redis+cluster://node-1:6379,node-2:6379",
        Way::Sentinel(_) => "redis+sentinel://sentinel-1:26379,sentinel-2:26379/mymaster",
    }
}

fn parameters<'a>(query: &'a str, way: &Way, is_tls: bool) -> Result<BTreeMap<&'a str, &'a str>, String> {
    let mut found = BTreeMap::new();
    // With an `@` it may be the end of a password that holds a `?`, which is not to be shown.
    let quoted =
        |text: &str| if query.contains('@') { "what stands after `?`".to_owned() } else { format!("`{text}`") };
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) =
            part.split_once('=').ok_or_else(|| format!("{} is no parameter: NAME=VALUE", quoted(part)))?;
        let fits = match name {
            "ca" | "cert" | "key" if !is_tls => return Err(format!("`{name}` is for TLS: rediss://")),
            "shards" => *way == Way::Cluster,
            "sentinel_username" | "sentinel_password" => matches!(way, Way::Sentinel(_)),
            name => PARAMETERS.contains(&name),
        };
        if !fits {
            let known = PARAMETERS.iter().filter(|known| match **known {
                "shards" => *way == Way::Cluster,
                known if known.starts_with("sentinel_") => matches!(way, Way::Sentinel(_)),
                _ => true,
            });
            let known: Vec<&str> = known.copied().collect();
            return Err(format!("{} is none of its parameters, which are {}", quoted(name), known.join(", ")));
        }
        if value.is_empty() {
            return Err(format!("the parameter `{name}` is empty"));
        }
        if found.insert(name, value).is_some() {
            return Err(format!("the parameter `{name}` is given twice"));
        }
    }
    if found.contains_key("cert") != found.contains_key("key") {
        return Err("`cert` and `key` go together".to_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Address {
        Address::read(url).unwrap_or_else(|why| panic!("{url}: {why}"))
    }

    #[test]
    fn the_ways_are_told_apart() {
        let one = read("redis://me:p%40ss@h:1/2");
        assert_eq!((one.way, one.hosts), (Way::Server, vec![("h".to_owned(), 1)]));
        let info = one.server.redis_settings();
        assert_eq!((info.username(), info.password(), info.db()), (Some("me"), Some("p@ss"), 2));

        let nodes = read("rediss+cluster://:pw@a:7000,b,[::1]:7002/?shards=3&ca=/x/ca.pem#4");
        let hosts = [("a", 7000), ("b", 6379), ("::1", 7002)].map(|(host, port)| (host.to_owned(), port));
        assert_eq!((nodes.way, nodes.hosts, nodes.shards), (Way::Cluster, hosts.to_vec(), Some(3)));
        assert!(nodes.is_tls && nodes.files.ca.as_deref() == Some("/x/ca.pem"));

        let watched = read("redis+sentinel://me:pw@s1,s2:1/orders/3?sentinel_password=other&replicas=1");
        assert_eq!(watched.way, Way::Sentinel("orders".to_owned()));
        assert_eq!(watched.hosts, [("s1".to_owned(), 26379), ("s2".to_owned(), 1)]);
        assert_eq!((watched.replicas, watched.server.redis_settings().db()), (1, 3));
        assert_eq!(watched.server_at("m", 9).redis_settings().password(), Some("pw"));
        let sentinel = watched.sentinel_at("s1", 26379);
        assert_eq!((sentinel.redis_settings().password(), sentinel.redis_settings().db()), (Some("other"), 0));
        assert_eq!(sentinel.redis_settings().username(), None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (url, words) in [
            ("redis://", "the address is missing"),
            ("redis:h", "the address is missing"),
            ("redis://a,b", "redis+cluster://"),
            ("redis://h/x", "[/DATABASE]"),
            ("redis+cluster://a:port,b", "HOST[:PORT]"),
            ("redis+cluster://a,,b", "HOST[:PORT]"),
            ("redis+cluster://a/1", "one database"),
            ("redis+cluster://a?shards=0", "from 1 to 4096"),
            ("redis+sentinel://a,b", "name of the master"),
            ("redis+sentinel://a/m/x", "/MASTER[/DATABASE]"),
            ("redis+sentinel://a/m?sentinel_username=x", "needs `sentinel_password`"),
            ("redis+sentinel://a/m?shards=2", "none of its parameters"),
            ("redis://h?ca=x", "rediss://"),
            ("rediss://h?cert=x", "go together"),
            ("rediss://h?caa=x", "ca, cert, key, protocol, replicas"),
            ("rediss://h?ca=", "is empty"),
            ("redis://h?replicas=1&replicas=2", "given twice"),
            ("redis://h?protocol=4", "expected redis://"),
        ] {
            let why = Address::read(url).expect_err(url);
            assert!(why.contains(words), "{url}: {why}");
        }
    }
}
