//! What `doctor` tells of a Redis: which server it is and what stands around it, how it keeps data, who has
//! copies, and what is promised therefore. It judges what `health` and `whereabouts` have found out.

use std::collections::BTreeMap;

use redis::cmd;

use super::address::Way;
use super::connection::Link;
use super::health::{SCHEMA, Server};
use super::topology::{self, Node, Range};
use super::whereabouts::shown;
use super::{RedisStore, reply};
use crate::domain::text::count;
use crate::store::contract::{Health, Result, StoreError};

/// Settings that matter to copies.
const SETTINGS: [&str; 3] = ["min-replicas-to-write", "cluster-require-full-coverage", "cluster-node-timeout"];

/// Who has copies of the shard's keys, and who takes over.
#[derive(Debug, Default, PartialEq, Eq)]
struct Copies {
    /// What the server is a part of.
    part_of: String,
    /// Who has copies, in words.
    text: String,
    /// Somebody makes a replica the master when the master is lost.
    fails_over: bool,
    warnings: Vec<String>,
}

impl RedisStore {
    pub(super) async fn look_at_health(&self) -> Result<Health> {
        let mut server = Server::ask(&self.link).await?;
        server.learn(&self.link, &SETTINGS).await?;
        let mut copies = copies(&self.link, &server).await?;
        let mut warnings = server.warnings();
        warnings.append(&mut copies.warnings);
        if reply::maybe_bytes(self.link.command(cmd("GET").arg(self.keys.schema())).await?)?.is_none() {
            warnings.push("the schema key is gone: was the server emptied?".to_owned());
        }
        let confirmed = self.link.whereabouts().address.replicas;
        // Without buffers of connections and of the append-only file, which come and go.
        let bytes = server.fact("used_memory_dataset").and_then(|bytes| bytes.parse().ok());
        Ok(Health {
            server: format!("{}{}", server.name(), copies.part_of),
            durability: promise(&server, copies.fails_over, confirmed),
            schema: SCHEMA,
            warnings,
            bytes,
            settings: settings(&server, copies.text),
        })
    }
}

/// What is promised of an acknowledged write.
fn promise(server: &Server, fails_over: bool, confirmed: u16) -> String {
    let own = server.durability();
    match (confirmed, fails_over) {
        (0, false) => own,
        (0, true) => format!("{own}; replicas follow a moment later: a failover may cost the last writes"),
        (wanted, _) => format!(
            "{own}; a write counts once {} it: a failover to one that has it costs nothing",
            if wanted == 1 { "a replica has".to_owned() } else { format!("{wanted} replicas have") }
        ),
    }
}

fn settings(server: &Server, replication: String) -> BTreeMap<String, String> {
    let persistence = match (server.setting("appendonly"), server.setting("appendfsync"), server.setting("save")) {
        (Some("yes"), Some(fsync), _) => format!("append-only file, appendfsync {fsync}"),
        (Some("no"), _, Some("")) => "none".to_owned(),
        (Some("no"), _, Some(save)) => format!("snapshots, save {save}"),
        _ => "not told".to_owned(),
    };
    let limit = match server.setting("maxmemory") {
        None => String::new(),
        Some("0") => ", no maxmemory".to_owned(),
        Some(bytes) => format!(", maxmemory {bytes}"),
    };
    let eviction = format!("{}{limit}", server.setting("maxmemory-policy").unwrap_or("not told"));
    [("persistence", persistence), ("eviction", eviction), ("replication", replication)]
        .map(|(name, text)| (name.to_owned(), text))
        .into()
}

async fn copies(link: &Link, server: &Server) -> Result<Copies> {
    let whereabouts = link.whereabouts();
    let node = link.node().await.unwrap_or_default();
    match &whereabouts.address.way {
        Way::Server => Ok(of_server(server)),
        Way::Cluster => Ok(of_cluster(server, &node, &whereabouts.ranges().await?)),
        Way::Sentinel(master) => match whereabouts.watch(master).await {
            Ok(fields) => Ok(of_sentinels(server, master, &node, &fields)),
            Err(StoreError::Refused(why)) => {
                let mut copies = of_server(server);
                copies.warnings.push(format!("the sentinels do not tell what they know: {why}"));
                copies.fails_over = true;
                Ok(copies)
            }
            Err(error) => Err(error),
        },
    }
}

fn replicas(server: &Server) -> u64 {
    server.fact("connected_slaves").and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn of_server(server: &Server) -> Copies {
    let mut copies = Copies::default();
    match server.fact("role") {
        Some("slave" | "replica") => {
            copies.text = "this is a replica".to_owned();
            copies.warnings.push("the server is a replica: it takes no writes; name its master".to_owned());
        }
        Some(_) => match replicas(server) {
            0 => copies.text = "no replica".to_owned(),
            some => copies.text = format!("{}, none of which takes over by itself", count(some, "replica")),
        },
        None => copies.text = "not told".to_owned(),
    }
    if server.fact("cluster_enabled") == Some("1") {
        copies.part_of = ", a node of a cluster".to_owned();
        copies.warnings.push(
            "the server is a node of a cluster: with redis+cluster:// goflow follows when slots move to another"
                .to_owned(),
        );
    }
    copies
}

fn of_cluster(server: &Server, node: &Node, ranges: &[Range]) -> Copies {
    let masters = topology::masters(ranges);
    let mut bare = Vec::new();
    for master in &masters {
        if ranges.iter().filter(|range| range.master == **master).all(|range| range.replicas.is_empty()) {
            bare.push(shown(master));
        }
    }
    // Each sees a new replica a moment before the other.
    let own = ranges.iter().find(|range| range.master == *node).map_or(0, |range| range.replicas.len()) as u64;
    let own = own.max(replicas(server));
    let mut copies = Copies {
        part_of: format!(", {} of a cluster of {}", shown(node), count(masters.len() as u64, "master")),
        fails_over: own > 0,
        ..Copies::default()
    };
    copies.text = match (own, server.setting("cluster-node-timeout")) {
        (0, _) => "no replica".to_owned(),
        (own, Some(time)) => format!("{}, one of which takes over after {time} ms", count(own, "replica")),
        (own, None) => format!("{}, one of which takes over", count(own, "replica")),
    };
    if own == 0 {
        copies.warnings.push(format!("{} has no replica: while it is away, so is what it holds", shown(node)));
    } else {
        copies.warnings.extend(lags(server));
    }
    if !bare.is_empty() && server.setting("cluster-require-full-coverage") == Some("yes") {
        copies.warnings.push(format!(
            "cluster-require-full-coverage is on: the whole cluster stops with any of {}, which {} no replica",
            bare.join(", "),
            if bare.len() == 1 { "has" } else { "have" }
        ));
    }
    copies
}

fn of_sentinels(server: &Server, master: &str, node: &Node, fields: &[(Vec<u8>, Vec<u8>)]) -> Copies {
    let field = |name: &str| {
        let found = fields.iter().find(|(key, _)| key == name.as_bytes());
        found.and_then(|(_, value)| std::str::from_utf8(value).ok()).and_then(|text| text.parse::<u64>().ok())
    };
    let sentinels = field("num-other-sentinels").map_or(0, |others| others + 1);
    let quorum = field("quorum").unwrap_or(0);
    let own = replicas(server);
    let mut copies = Copies {
        part_of: format!(
            ", {} as master `{master}` under {} with a quorum of {quorum}",
            shown(node),
            count(sentinels, "sentinel")
        ),
        text: match own {
            0 => "no replica".to_owned(),
            own => format!("{}, one of which takes over", count(own, "replica")),
        },
        fails_over: own > 0,
        ..Copies::default()
    };
    if own == 0 {
        copies.warnings.push("the master has no replica: nobody can take over".to_owned());
    } else {
        copies.warnings.extend(lags(server));
    }
    if sentinels < 3 {
        copies.warnings.push("fewer than three sentinels cannot agree on a new master when one is lost".to_owned());
    }
    copies
}

/// A master that nobody can reach but some of its clients takes writes that are lost when it is replaced.
fn lags(server: &Server) -> Option<String> {
    (server.setting("min-replicas-to-write") == Some("0")).then(|| {
        "a master that is cut off goes on taking writes, which are lost when it is replaced: set \
         min-replicas-to-write 1, or say replicas=1 in the store URL"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(info: &[(&str, &str)]) -> Server {
        let pairs = info.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Server::told(pairs.collect())
    }

    fn node(port: u16) -> Node {
        ("h".to_owned(), port)
    }

    #[test]
    fn copies_of_a_server_are_told() {
        assert_eq!(of_server(&server(&[("role", "master")])).text, "no replica");
        let replica = of_server(&server(&[("role", "slave")]));
        assert!(replica.warnings[0].contains("takes no writes"));
        let node = of_server(&server(&[("role", "master"), ("connected_slaves", "2"), ("cluster_enabled", "1")]));
        assert!(node.text.starts_with("2 replicas") && node.warnings[0].contains("redis+cluster://"), "{node:?}");
    }

    #[test]
    fn copies_in_a_cluster_are_told() {
        let range = |first, last, port, replicas: &[u16]| Range {
            first,
            last,
            master: node(port),
            replicas: replicas.iter().map(|port| node(*port)).collect(),
        };
        let ranges = [range(0, 99, 1, &[4]), range(100, 16_383, 2, &[])];
        let told = [("min_replicas_to_write", "0"), ("cluster_require_full_coverage", "yes")];
        let with = of_cluster(&server(&told), &node(1), &ranges);
        assert_eq!((with.part_of.as_str(), with.fails_over), (", h:1 of a cluster of 2 masters", true));
        assert!(with.warnings[0].contains("min-replicas-to-write") && with.warnings[1].contains("h:2"), "{with:?}");
        let without = of_cluster(&server(&[]), &node(2), &ranges);
        assert_eq!((without.text.as_str(), without.fails_over), ("no replica", false));
        assert!(without.warnings[0].contains("while it is away"), "{without:?}");
    }

    #[test]
    fn promises_follow_the_copies() {
        let kept = server(&[("appendonly", "yes"), ("appendfsync", "everysec")]);
        assert!(!promise(&kept, false, 0).contains("failover"));
        assert!(promise(&kept, true, 0).contains("a failover may cost the last writes"));
        assert!(promise(&kept, true, 1).contains("once a replica has it"));
        assert!(promise(&kept, true, 2).contains("once 2 replicas have it"));
    }

    #[test]
    fn sentinels_are_counted() {
        let fields = [("num-other-sentinels", "1"), ("quorum", "2")];
        let fields = fields.map(|(name, text)| (name.as_bytes().to_vec(), text.as_bytes().to_vec()));
        let told = of_sentinels(&server(&[("connected_slaves", "1")]), "m", &node(1), &fields);
        assert_eq!(told.part_of, ", h:1 as master `m` under 2 sentinels with a quorum of 2");
        assert!(told.warnings.iter().any(|warning| warning.contains("fewer than three")), "{told:?}");
    }
}
