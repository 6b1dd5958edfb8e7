//! A YAML file as a tree whose every node knows its place, so that a wrong value deep in a
//! configuration is told with line and column. Knows nothing of the keys.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A place in a file, both counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct At {
    pub line: usize,
    pub column: usize,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Node {
    pub at: At,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// Keys with their places, in the order of the file.
    Map(Vec<(At, String, Node)>),
}

impl Value {
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::Text(text) => text.clone().into(),
            Value::List(items) => items.iter().map(|item| item.value.to_json()).collect(),
            Value::Map(pairs) => serde_json::Value::Object(
                pairs.iter().map(|(_, key, node)| (key.clone(), node.value.to_json())).collect(),
            ),
        }
    }
}

/// Text that is not YAML: what and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotYaml {
    pub at: At,
    pub message: String,
}

/// Reads one document; an empty one is an empty mapping.
///
/// # Errors
/// [`NotYaml`] with the place: bad syntax, duplicate keys, tabs, more than 1 MiB or 64 levels.
pub fn parse(text: &str) -> Result<Node, NotYaml> {
    if text.len() > crate::domain::limits::MANIFEST_BYTES {
        return Err(NotYaml { at: At { line: 1, column: 1 }, message: "the file is larger than 1 MiB".to_owned() });
    }
    let only_comments = text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---"
    });
    if only_comments {
        return Ok(Node { at: At { line: 1, column: 1 }, value: Value::Map(Vec::new()) });
    }
    let options = serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
        budget: serde_saphyr::budget! { max_depth: 64, max_documents: 1 },
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(root) => Ok(root.into()),
        Err(error) => {
            if let Some(at) = tab_indent(text) {
                return Err(NotYaml { at, message: "a tab indents this line: YAML takes spaces only".to_owned() });
            }
            let at = error.location().map_or(At { line: 1, column: 1 }, place);
            let whole = error.without_snippet().to_string();
            let message = whole.lines().next().unwrap_or(&whole);
            let message = message.split(" at line ").next().unwrap_or(message);
            Err(NotYaml {
                at,
                message: lower_first(message.trim_start_matches("error: ").trim_end_matches([',', ':', ' '])),
            })
        }
    }
}

/// The first tab in an indentation: in a file that does not parse, it is why, and parsers tell a
/// place near it.
fn tab_indent(text: &str) -> Option<At> {
    text.lines().enumerate().find_map(|(nth, line)| {
        let indent = &line[..line.len() - line.trim_start().len()];
        Some(At { line: nth + 1, column: indent.find('\t')? + 1 })
    })
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

fn place(location: serde_saphyr::Location) -> At {
    At { line: location.line().max(1) as usize, column: location.column().max(1) as usize }
}

impl From<Spanned<Raw>> for Node {
    fn from(spanned: Spanned<Raw>) -> Node {
        Node { at: place(spanned.referenced), value: spanned.value.0 }
    }
}

/// Any value. The tree is built by hand because serde's own buffering would lose the places.
struct Raw(Value);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Raw, D::Error> {
        from.deserialize_any(AnyValue).map(Raw)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or_else(|_| Value::Text(value.to_string()), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Raw>>()? {
            list.push(item.into());
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Value, A::Error> {
        let mut map: Vec<(At, String, Node)> = Vec::new();
        while let Some((key, node)) = pairs.next_entry::<Spanned<String>, Spanned<Raw>>()? {
            if map.iter().any(|(_, other, _)| *other == key.value) {
                return Err(de::Error::custom(format!("duplicate key `{}`", key.value)));
            }
            map.push((place(key.referenced), key.value, node.into()));
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_knows_its_place() {
        let root = parse("a: 1\nb:\n  - x\n  - {c: 010, d: NO}\n").expect("valid");
        let Value::Map(pairs) = root.value else { panic!("a mapping") };
        assert_eq!(pairs[0].0, At { line: 1, column: 1 });
        assert_eq!(pairs[0].2.at, At { line: 1, column: 4 });
        let Value::List(items) = &pairs[1].2.value else { panic!("a list") };
        assert_eq!(items[1].at, At { line: 4, column: 5 });
        assert_eq!(items[1].value.to_json(), serde_json::json!({"c": "010", "d": "NO"}));
    }

    #[test]
    fn what_is_not_yaml_is_placed() {
        for (text, line) in [("a: b: c\n", 1), ("a: 1\n\tb: 2\n", 2), ("a: [1,\n", 1), ("a: 1\nb: 2\na: 3\n", 3)] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.at.line, line, "{text:?}: {error:?}");
            assert!(!error.message.is_empty());
        }
        assert!(matches!(parse("# only\n---\n").expect("empty").value, Value::Map(pairs) if pairs.is_empty()));
    }
}
