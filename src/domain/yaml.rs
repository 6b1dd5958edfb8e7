//! YAML text → a tree of nodes that know their place in the source; the one reader for manifests and
//! configurations. Knows no kinds and no keys: what the nodes must be is decided where they are read.
//! Scalars mean what YAML 1.2 says (`NO` and `010` are text), and keep how they were written.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value as JsonValue};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Location, Spanned};

use super::limits::MANIFEST_BYTES;
use super::problem::{Place, Problem, Source};
use super::text::size;

/// Nesting of a file; deeper is refused.
const DEPTH: usize = 64;
/// Nodes that aliases may add to a file; more is refused.
const ALIASED: usize = 10_000;

/// What a text is read as: the two differ where files of others must go on loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Any number of documents. Repeated keys are left to the reader, so that one does not hide the
    /// other mistakes; merge keys (`<<`), which YAML 1.2 does not have, are refused.
    Manifest,
    /// One document. The first mistake ends it; merge keys are followed.
    Configuration,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub place: Place,
    pub value: Value,
    /// A plain scalar as it was written (`1.50`), where that is not what `value` prints.
    pub written: Option<String>,
    bytes: Option<(usize, usize)>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub place: Place,
    pub value: Node,
}

impl Node {
    /// A node without a place, for values that come from a store or a configuration.
    pub fn from_json(json: &JsonValue) -> Node {
        let value = match json {
            JsonValue::Null => Value::Null,
            JsonValue::Bool(flag) => Value::Bool(*flag),
            JsonValue::Number(number) => Value::Number(number.clone()),
            JsonValue::String(text) => Value::Text(text.clone()),
            JsonValue::Array(items) => Value::List(items.iter().map(Node::from_json).collect()),
            JsonValue::Object(fields) => {
                let entry = |(key, value): (&String, &JsonValue)| Entry {
                    key: key.clone(),
                    place: Place::default(),
                    value: Node::from_json(value),
                };
                Value::Map(fields.iter().map(entry).collect())
            }
        };
        Node { place: Place::default(), value, written: None, bytes: None }
    }

    pub fn to_json(&self) -> JsonValue {
        match &self.value {
            Value::Null => JsonValue::Null,
            Value::Bool(flag) => JsonValue::Bool(*flag),
            Value::Number(number) => JsonValue::Number(number.clone()),
            Value::Text(text) => JsonValue::String(text.clone()),
            Value::List(items) => JsonValue::Array(items.iter().map(Node::to_json).collect()),
            Value::Map(entries) => {
                JsonValue::Object(entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect())
            }
        }
    }

    /// The scalar as its author wrote it, without quotes; `None` for a list or a mapping.
    pub fn scalar_text(&self) -> Option<String> {
        match (&self.value, &self.written) {
            (Value::Text(text), _) => Some(text.clone()),
            (Value::List(_) | Value::Map(_), _) => None,
            (_, Some(written)) => Some(written.clone()),
            _ => Some(self.to_json().to_string()),
        }
    }

    /// What the node is, with its article, for messages.
    pub fn what(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(number) if number.is_f64() => "a number",
            Value::Number(_) => "a whole number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The place of `part`, a piece of this scalar's text, if the source has it as it is.
    pub fn place_of(&self, part: &str, source: Source<'_>) -> Option<Place> {
        let (from, to) = self.bytes?;
        let at = from + source.text.get(from..to)?.find(part)?;
        let before = source.text.get(..at)?;
        let start_of_line = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before[start_of_line..].chars().count() + 1;
        let len = part.lines().next().unwrap_or("").chars().count();
        Some(Place { line: line as u32, column: column as u32, len: len as u32 })
    }

    fn remember_writing(&mut self, text: &str) {
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.remember_writing(text)),
            Value::Map(entries) => entries.iter_mut().for_each(|entry| entry.value.remember_writing(text)),
            Value::Text(_) => {}
            _ => {
                let written = self.bytes.and_then(|(from, to)| text.get(from..to));
                self.written = written.filter(|written| !written.is_empty()).map(str::to_owned);
            }
        }
    }
}

/// Reads the documents of a source; empty ones are left out.
///
/// # Errors
/// The first place where the text is not YAML or not of its dialect; a text of more than 1 MiB.
pub fn parse(source: Source<'_>, dialect: Dialect) -> Result<Vec<Node>, Problem> {
    let text = source.text;
    if text.len() > MANIFEST_BYTES {
        let (is, may) = (size(text.len() as u64), size(MANIFEST_BYTES as u64));
        return Err(Problem::new(source, Place::default(), format!("a file of {is} is larger than {may}"), None));
    }
    let mut documents = match serde_saphyr::from_multiple_with_options::<Node>(text, options(dialect)) {
        Ok(documents) => documents,
        Err(error) => return Err(syntax_problem(source, &error)),
    };
    if let (Dialect::Configuration, Some(second)) = (dialect, documents.get(1)) {
        let hint = "leave out the line `---` between them".to_owned();
        return Err(Problem::new(source, second.place, "a configuration is one document, not several", Some(hint)));
    }
    documents.iter_mut().for_each(|node| node.remember_writing(text));
    Ok(documents)
}

fn options(dialect: Dialect) -> serde_saphyr::Options {
    let (duplicate_keys, merge_keys) = match dialect {
        Dialect::Manifest => (DuplicateKeyPolicy::PassThrough, MergeKeyPolicy::Error),
        Dialect::Configuration => (DuplicateKeyPolicy::Error, MergeKeyPolicy::Merge),
    };
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH,
            flow_nesting_limit: DEPTH,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_documents: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: ALIASED,
        },
        duplicate_keys: duplicate_keys,
        merge_keys: merge_keys,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    }
}

fn syntax_problem(source: Source<'_>, error: &serde_saphyr::Error) -> Problem {
    let place = error.location().map(place).unwrap_or_default();
    let place = Place { len: 1, ..place };
    let text = error.without_snippet().to_string();
    let message = text.split(" at line ").next().unwrap_or(&text);
    if let Some(place) = tab(source.text, place.line, message.contains("tab")) {
        let hint = "YAML is indented with spaces only".to_owned();
        return Problem::new(source, place, "a tab indents this line", Some(hint));
    }
    let hint = match message {
        text if text.contains("merge key") => Some("write the keys out: `<<` is not part of YAML 1.2".to_owned()),
        text if text.starts_with("non-finite float") => Some("JSON has no such number: write it in quotes".to_owned()),
        text if text.starts_with("mapping values are not allowed") => {
            Some("text that holds `: ` is written in quotes".to_owned())
        }
        _ => None,
    };
    if message.starts_with("duplicate") {
        let line = source.text.lines().nth((place.line as usize).saturating_sub(1)).unwrap_or_default();
        let rest: String = line.chars().skip((place.column as usize).saturating_sub(1)).collect();
        let key = rest.split(':').next().unwrap_or_default().trim().trim_matches(['\'', '"']).to_owned();
        return Problem::new(source, place, format!("`{key}` stands here twice"), Some("leave one out".to_owned()));
    }
    let message = format!("not YAML: {message}");
    Problem::new(source, place, message, hint)
}

/// The tab that indents a line: the one at fault, or, where the parser speaks of a tab, the first such
/// line from there on, because it tells the line before.
fn tab(text: &str, line: u32, spoken_of: bool) -> Option<Place> {
    let lines = text.lines().enumerate().skip((line as usize).saturating_sub(1));
    let mut lines = lines.take(if spoken_of { usize::MAX } else { 1 });
    lines.find_map(|(nth, line)| {
        let blanks = line.len() - line.trim_start_matches([' ', '\t']).len();
        let column = line[..blanks].find('\t')? as u32 + 1;
        Some(Place { line: nth as u32 + 1, column, len: 1 })
    })
}

fn place(location: Location) -> Place {
    Place {
        line: u32::try_from(location.line()).unwrap_or(0),
        column: u32::try_from(location.column()).unwrap_or(0),
        len: u32::try_from(location.span().len()).unwrap_or(1),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(from)?;
        let span = spanned.defined.span();
        let bytes = span.byte_offset().zip(span.byte_len());
        let bytes = bytes.map(|(from, len)| (from as usize, (from + len) as usize));
        Ok(Node { place: place(spanned.referenced), value: spanned.value, written: None, bytes })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        // What JSON cannot hold stays as it was written.
        Ok(Number::from_f64(number).map_or_else(|| Value::Text(number.to_string()), Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = from.next_key::<Spanned<String>>()? {
            let value = from.next_value()?;
            entries.push(Entry { key: key.value, place: place(key.referenced), value });
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Vec<Node>, Problem> {
        parse(Source { file: "t.yaml", text }, Dialect::Manifest)
    }

    #[test]
    fn scalars_are_what_they_look_like_and_keep_their_writing() {
        let nodes = parse_text("[NO, yes, 010, 1_000, 1.50, 0x1F, true, ~, \"7\", -0.0]").expect("YAML");
        let json = nodes[0].to_json().to_string();
        assert_eq!(json, r#"["NO","yes","010","1_000",1.5,31,true,null,"7",-0.0]"#);
        let Value::List(items) = &nodes[0].value else { panic!("a list") };
        let written: Vec<_> = items.iter().filter_map(Node::scalar_text).collect();
        assert_eq!(written, ["NO", "yes", "010", "1_000", "1.50", "0x1F", "true", "~", "7", "-0.0"]);
    }

    #[test]
    fn aliases_are_followed_within_a_budget_and_bombs_are_refused() {
        let nodes = parse_text("a: &x {n: 1.50}\nb: *x\n").expect("YAML");
        assert_eq!(nodes[0].to_json().to_string(), r#"{"a":{"n":1.5},"b":{"n":1.5}}"#);
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let inner = format!("*a{}, ", level - 1).repeat(10);
            bomb.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
        }
        assert!(parse_text(&bomb).is_err());
        let deep = format!("{}x{}", "[".repeat(80), "]".repeat(80));
        assert!(parse_text(&deep).is_err());
    }

    #[test]
    fn a_configuration_is_one_document_without_repetitions_and_may_merge() {
        let read = |text: &str| parse(Source { file: "c.yaml", text }, Dialect::Configuration);
        let merged = read("base: &b {n: 1}\nmine: {<<: *b, m: 2}\n").expect("YAML");
        assert_eq!(merged[0].to_json()["mine"]["n"], 1);
        for (text, line) in [
            ("a: b: c\n", 1),
            ("a: 1\n\tb: 2\n", 2),
            ("a: [1,\n", 1),
            ("a: 1\nb: 2\na: 3\n", 3),
            ("a: 1\n---\nb: 2\n", 3),
        ] {
            let problem = read(text).expect_err(text);
            assert_eq!(problem.line, line, "{text:?}: {problem}");
        }
        assert_eq!(read("# only\n---\n"), Ok(Vec::new()));
    }

    #[test]
    fn pieces_of_a_scalar_are_found_in_the_source() {
        let text = "a:\n  b: \"x ${{ é }}\"\n";
        let nodes = parse_text(text).expect("YAML");
        let Value::Map(entries) = &nodes[0].value else { panic!("a mapping") };
        let Value::Map(inner) = &entries[0].value.value else { panic!("a mapping") };
        let place = inner[0].value.place_of("${{ é }}", Source { file: "", text });
        assert_eq!(place, Some(Place { line: 2, column: 9, len: 8 }));
    }
}
