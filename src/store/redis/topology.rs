//! Which node of a cluster serves which slots (`CLUSTER SLOTS`), the slot of a key, and where logical
//! shards go so that they lie on different nodes. Pure.

use redis::Value;

use super::reply;
use crate::domain::Shard;
use crate::store::contract::{Result, StoreError};

pub const SLOTS: u16 = 16_384;

pub type Node = (String, u16);

/// Slots that lie side by side on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    pub first: u16,
    pub last: u16,
    pub master: Node,
    pub replicas: Vec<Node>,
}

/// CRC-16/XMODEM of a hash tag, by which a cluster knows its slots (Redis Cluster specification).
pub fn slot_of(tag: &[u8]) -> u16 {
    let step = |crc: u16, byte: &u8| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 })
    };
    tag.iter().fold(0, step) % SLOTS
}

/// Reads the answer of `CLUSTER SLOTS`. A node that does not know its own name answers for `asked`.
///
/// # Errors
/// [`StoreError::Corrupt`] for an answer of another shape.
pub fn read(answer: Value, asked: &str) -> Result<Vec<Range>> {
    let mut ranges = Vec::new();
    for one in reply::array(answer)? {
        let mut parts = reply::array(one)?.into_iter();
        let mut number = || -> Result<u16> {
            let number = reply::int(&parts.next().ok_or_else(reply::odd)?)?;
            u16::try_from(number).ok().filter(|slot| *slot < SLOTS).ok_or_else(reply::odd)
        };
        let (first, last) = (number()?, number()?);
        let mut nodes = Vec::new();
        for node in parts {
            let mut node = reply::array(node)?.into_iter();
            let host = reply::maybe_bytes(node.next().unwrap_or(Value::Nil))?.unwrap_or_default();
            let host = String::from_utf8(host).map_err(|_| reply::odd())?;
            let host = if host.is_empty() || host == "?" { asked.to_owned() } else { host };
            let port = reply::int(&node.next().ok_or_else(reply::odd)?)?;
            nodes.push((host, u16::try_from(port).map_err(|_| reply::odd())?));
        }
        if nodes.is_empty() {
            continue;
        }
        ranges.push(Range { first, last, master: nodes.remove(0), replicas: nodes });
    }
    Ok(ranges)
}

/// The node that a `MOVED` or `ASK` names, `SLOT HOST:PORT`; without a host it is the one that was asked.
pub fn redirected(detail: &str, asked: &str) -> Option<Node> {
    let (host, port) = detail.split_ascii_whitespace().nth(1)?.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((if host.is_empty() { asked } else { host }.to_owned(), port.parse().ok()?))
}

pub fn master_of(ranges: &[Range], slot: u16) -> Option<&Node> {
    ranges.iter().find(|range| (range.first..=range.last).contains(&slot)).map(|range| &range.master)
}

/// The nodes that serve slots, in the order of these.
pub fn masters(ranges: &[Range]) -> Vec<&Node> {
    let mut masters = Vec::new();
    let mut ranges: Vec<&Range> = ranges.iter().collect();
    ranges.sort_by_key(|range| range.first);
    for range in ranges {
        if !masters.contains(&&range.master) {
            masters.push(&range.master);
        }
    }
    masters
}

/// The key space for one shard more: the lowest that nobody has, on the node that holds the fewest.
///
/// # Errors
/// [`StoreError::Unavailable`] while no node serves a slot that would do.
pub fn next_space(ranges: &[Range], taken: &[u16]) -> Result<u16> {
    let place = |space: u16| master_of(ranges, slot_of(super::keys::tag(Shard(space)).as_bytes()));
    let mut nodes: Vec<(usize, &Node)> = masters(ranges).into_iter().map(|node| (0, node)).collect();
    for node in taken.iter().filter_map(|space| place(*space)) {
        if let Some(held) = nodes.iter_mut().find(|(_, other)| *other == node) {
            held.0 += 1;
        }
    }
    // Stable: of nodes that hold as many, the first stays first.
    nodes.sort_by_key(|(held, _)| *held);
    let free = |node: &Node| (0..=Shard::MAX).find(|space| !taken.contains(space) && place(*space) == Some(node));
    nodes
        .iter()
        .find_map(|(_, node)| free(node))
        .ok_or_else(|| StoreError::Unavailable("no node of the cluster has a slot for another key space".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot_of(b"123456789"), 0x31c3 % SLOTS);
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b""), 0);
    }

    fn range(first: u16, last: u16, port: u16) -> Range {
        Range { first, last, master: ("h".to_owned(), port), replicas: Vec::new() }
    }

    #[test]
    fn shards_go_to_different_nodes() {
        let ranges = [range(0, 5460, 1), range(5461, 10922, 2), range(10923, 16383, 3)];
        let mut taken = vec![0];
        for _ in 0..8 {
            let next = next_space(&ranges, &taken).expect("a space");
            assert!(!taken.contains(&next));
            taken.push(next);
        }
        let slot = |space: &u16| slot_of(format!("gf:{space}").as_bytes());
        for first in [0, 3, 6] {
            let mut ports: Vec<u16> = taken[first..first + 3]
                .iter()
                .map(|space| master_of(&ranges, slot(space)).expect("a node").1)
                .collect();
            ports.sort_unstable();
            assert_eq!(ports, [1, 2, 3], "{taken:?}");
        }
        assert!(next_space(&[], &[]).is_err());
    }

    #[test]
    fn answers_are_read() {
        let text =
            "*1\r\n*4\r\n:0\r\n:16383\r\n*3\r\n$0\r\n\r\n:7000\r\n$2\r\nid\r\n*3\r\n$1\r\nb\r\n:7001\r\n$2\r\nid\r\n";
        let value = redis::parse_redis_value(text.as_bytes()).expect("parses");
        let ranges = read(value, "a").expect("is one");
        assert_eq!(master_of(&ranges, 9), Some(&("a".to_owned(), 7000)));
        assert_eq!(ranges[0].replicas, [("b".to_owned(), 7001)]);
        assert_eq!(redirected("3999 127.0.0.1:6381", "x"), Some(("127.0.0.1".to_owned(), 6381)));
        assert_eq!(redirected("3999 ::1:6381", "x"), Some(("::1".to_owned(), 6381)));
        assert_eq!(redirected("3999 :6381", "x"), Some(("x".to_owned(), 6381)));
        assert_eq!(redirected("3999", "x"), None);
    }
}
