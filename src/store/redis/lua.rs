//! Puts keys and numbers into scripts, where these have names: what would be a variable of a script is looked
//! up by each function that uses it, each time the script is called. It knows no script.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{keys, pack, write};
use crate::domain::{Place, RunState};

/// The first of the states of runs that are final.
pub const RUN_OVER: usize = 4;
const _: () = assert!(RUN_OVER < RunState::ALL.len());
/// One priority is this far from the next in a line's scores.
const SPAN: u64 = 1 << 45;
/// Functions of the libraries, and how scripts call them.
const FUNCTIONS: [(&str, &str); 9] = [
    ("call", "redis.call"),
    ("sub", "string.sub"),
    ("byte", "string.byte"),
    ("char", "string.char"),
    ("concat", "table.concat"),
    ("pack", "struct.pack"),
    ("unp", "struct.unpack"),
    ("floor", "math.floor"),
    ("min", "math.min"),
];

fn names() -> BTreeMap<String, String> {
    let mut names: BTreeMap<String, String> =
        FUNCTIONS.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    for (at, key) in keys::SHARD.iter().enumerate() {
        names.insert(key.to_uppercase(), format!("KEYS[{}]", at + 1));
    }
    let of_queue = |part: &str| keys::QUEUE.iter().position(|name| *name == part).map(|at| keys::SHARD.len() + 1 + at);
    for part in keys::QUEUE {
        names.insert(part.to_uppercase(), of_queue(part).unwrap_or(0).to_string());
    }
    // By the code of a place: which key of a queue is its sorted set.
    let mut sets = [0; 16];
    for place in Place::ALL {
        let (code, word) = (pack::place_code(place), format!("{place:?}"));
        names.insert(format!("P_{}", word.to_uppercase()), code.to_string());
        sets[usize::from(code)] = of_queue(&word.to_lowercase()).unwrap_or(0);
    }
    let mut literal = String::new();
    for set in sets {
        // Writing to a text does not fail.
        let _ = write!(literal, "\\{set:03}");
    }
    let numbers = [
        ("P_FRONT", u64::from(write::FRONT)),
        ("P_GONE", u64::from(write::GONE)),
        ("SHORT", u64::from(pack::SHORT)),
        ("LONG", u64::from(pack::LONG)),
        ("R_OVER", RUN_OVER as u64),
        ("STRIDE", keys::QUEUE.len() as u64),
        ("SPAN", SPAN),
    ];
    names.extend(numbers.map(|(name, number)| (name.to_owned(), number.to_string())));
    names.insert("ZSETS".to_owned(), format!("'{literal}'"));
    // Behind everything that begins with the same bytes and ends with an id.
    names.insert("BEHIND".to_owned(), format!("'{}'", "\\255".repeat(17)));
    names
}

/// The text with keys, numbers and functions in place of their names, and without comments.
pub fn with_names(source: &str) -> String {
    let names = names();
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("--") {
            let end = rest.find('\n').unwrap_or(rest.len());
            rest = &rest[end..];
            continue;
        } else if first == '\'' {
            end_of_text(rest)
        } else if first.is_ascii_alphanumeric() || first == '_' {
            rest.find(|c| !is_part(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (word, behind) = rest.split_at(length);
        // What follows a dot is the field of something.
        let is_field = text.ends_with('.') && !text.ends_with("..");
        text.push_str(names.get(word).filter(|_| !is_field).map_or(word, String::as_str));
        rest = behind;
    }
    text
}

/// Where a text in quotes ends.
fn end_of_text(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_put_in_where_they_stand_for_something() {
        let source = "-- JOBS\nlocal x = call('HGET', JOBS, 'it\\'s JOBS') .. sub(a, 1) + a.sub + queue_key(0, LINE)";
        let line = keys::SHARD.len() + 1;
        let expected = format!(
            "\nlocal x = redis.call('HGET', KEYS[1], 'it\\'s JOBS') .. string.sub(a, 1) + a.sub + queue_key(0, {line})"
        );
        assert_eq!(with_names(source), expected);
        assert_eq!(with_names("P_PENDING P_CANCELLED SPAN"), "0 8 35184372088832");
    }

    #[test]
    fn no_name_of_a_script_is_left() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/redis/scripts");
        for entry in std::fs::read_dir(folder).expect("the scripts") {
            let path = entry.expect("a file").path();
            let text = with_names(&std::fs::read_to_string(&path).expect("reads"));
            let mut code = String::new();
            for (nth, part) in text.split('\'').enumerate() {
                code.push_str(if nth % 2 == 0 { part } else { " " });
            }
            let words = code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let capital = |word: &&str| word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            let left: Vec<&str> = words.filter(capital).filter(|word| !["KEYS", "ARGV", "_"].contains(word)).collect();
            assert!(left.is_empty(), "{}: {left:?}", path.display());
        }
    }

    /// What scripts may ask of a server: commands that Redis, Valkey and DragonflyDB have alike, none of a
    /// module, none that looks at other keys than it names.
    const COMMANDS: [&str; 32] = [
        "EXISTS",
        "HDEL",
        "HEXISTS",
        "HGET",
        "HGETALL",
        "HMGET",
        "HSCAN",
        "HSET",
        "HVALS",
        "LLEN",
        "LPOP",
        "LPUSH",
        "LREM",
        "PUBLISH",
        "RPUSH",
        "SADD",
        "SCARD",
        "SISMEMBER",
        "SREM",
        "TIME",
        "XADD",
        "ZADD",
        "ZCARD",
        "ZCOUNT",
        "ZLEXCOUNT",
        "ZRANGE",
        "ZRANGEBYLEX",
        "ZRANGEBYSCORE",
        "ZREM",
        "ZREMRANGEBYLEX",
        "ZREVRANGEBYLEX",
        "ZSCORE",
    ];

    /// A key that is made up in a script is declared nowhere, and a cluster, or a server with several threads,
    /// does not let it through: each comes from `KEYS`, by itself, by its name, or by `queue_key`.
    #[test]
    fn scripts_declare_their_keys_and_ask_for_nothing_special() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/redis/scripts");
        let mut calls = 0;
        for entry in std::fs::read_dir(folder).expect("the scripts") {
            let path = entry.expect("a file").path();
            let text = with_names(&std::fs::read_to_string(&path).expect("reads"));
            let at = path.display();
            assert!(!text.starts_with("#!"), "{at}: flags are not known everywhere");
            for word in ["redis.pcall", "redis.setresp", "redis.replicate", "cjson", "loadstring", "dofile", "require"]
            {
                assert!(!text.contains(word), "{at}: {word}");
            }
            for opening in ["redis.call('", "many('", "each('"] {
                for (from, _) in text.match_indices(opening) {
                    let rest = &text[from + opening.len()..];
                    let (command, behind) = rest.split_once('\'').expect("an end");
                    assert!(COMMANDS.contains(&command), "{at}: {command}");
                    let key = behind.trim_start_matches([',', ' ']);
                    assert!(!key.starts_with('\''), "{at}: {command} of a key that is not declared");
                    assert!(!key.split([',', ')']).next().unwrap_or_default().contains(".."), "{at}: {command} {key}");
                    calls += 1;
                }
            }
        }
        assert!(calls > 150, "{calls} calls were found");
    }

    /// What is asked outside of scripts: looks at one key each, and questions to the server itself.
    const BESIDE: [&str; 38] = [
        "ASKING",
        "BGREWRITEAOF",
        "CLUSTER",
        "CONFIG",
        "EVALSHA",
        "GET",
        "HEXISTS",
        "HGET",
        "HGETALL",
        "HLEN",
        "HMGET",
        "HSCAN",
        "INFO",
        "LINDEX",
        "LPOS",
        "LRANGE",
        "PING",
        "ROLE",
        "SCARD",
        "SCRIPT",
        "SENTINEL",
        "SET",
        "SETNX",
        "SMEMBERS",
        "SMISMEMBER",
        "TIME",
        "WAIT",
        "XRANGE",
        "XREAD",
        "XREVRANGE",
        "ZCARD",
        "ZMSCORE",
        "ZRANGE",
        "ZRANGEBYLEX",
        "ZRANGEBYSCORE",
        "ZREVRANGEBYLEX",
        "ZREVRANGEBYSCORE",
        "ZSCORE",
    ];

    /// A plain command is of one key, so that a node can send it elsewhere while a slot is on its way.
    #[test]
    fn plain_commands_are_of_the_list() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/redis");
        let mut calls = 0;
        for entry in std::fs::read_dir(folder).expect("the sources") {
            let path = entry.expect("a file").path();
            if path.extension().is_none_or(|end| end != "rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("reads");
            for (from, _) in text.match_indices("cmd(\"") {
                let command = text[from + 5..].split('"').next().expect("an end");
                assert!(BESIDE.contains(&command), "{}: {command}", path.display());
                calls += 1;
            }
        }
        assert!(calls > 40, "{calls} calls were found");
    }
}
