//! A JSON value as its text. Payloads and results are carried, not looked into, so they stay text,
//! byte for byte as they were given, checked once at the edge.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::limits::JSON_DEPTH;

/// Valid JSON text (RFC 8259), at most [`JSON_DEPTH`] levels deep.
/// Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Arc<str>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadJson {
    #[error("not JSON: {message} at line {line} column {column}")]
    Syntax { message: String, line: usize, column: usize },
    #[error("JSON of {size} bytes is larger than the {limit} allowed")]
    TooLarge { size: usize, limit: usize },
    #[error("JSON nested more than {limit} levels deep")]
    TooDeep { limit: usize },
}

impl Json {
    pub fn null() -> Json {
        Json(Arc::from("null"))
    }

    /// Takes text that must be one JSON value of at most `limit` bytes.
    ///
    /// # Errors
    /// [`BadJson`] with the place of the mistake, or with the size that was too much.
    pub fn parse(text: &str, limit: usize) -> Result<Json, BadJson> {
        let text = text.trim_matches([' ', '\t', '\r', '\n']);
        if text.len() > limit {
            return Err(BadJson::TooLarge { size: text.len(), limit });
        }
        match serde_json::from_str::<serde::de::IgnoredAny>(text) {
            Ok(_) if depth(text) > JSON_DEPTH => Err(BadJson::TooDeep { limit: JSON_DEPTH }),
            Ok(_) => Ok(Json(Arc::from(text))),
            Err(error) => {
                let whole = error.to_string();
                let message = whole.split(" at line ").next().unwrap_or(&whole).to_owned();
                Err(BadJson::Syntax { message, line: error.line(), column: error.column() })
            }
        }
    }

    /// Text that was checked when it was taken in, read back from where it is kept.
    pub fn checked(text: &str) -> Json {
        Json(Arc::from(text))
    }

    /// The JSON string that stands for `text`.
    pub fn string(text: &str) -> Json {
        Json::from_value(&serde_json::Value::String(text.to_owned()))
    }

    pub fn from_value(value: &serde_json::Value) -> Json {
        Json(Arc::from(value.to_string()))
    }

    pub fn to_value(&self) -> serde_json::Value {
        // Checked when it was made: the fallback cannot be reached, and would show the text itself.
        serde_json::from_str(&self.0).unwrap_or_else(|_| serde_json::Value::String(self.0.to_string()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_null(&self) -> bool {
        &*self.0 == "null"
    }
}

/// The deepest nesting of valid JSON text.
fn depth(text: &str) -> usize {
    let (mut level, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                level += 1;
                deepest = deepest.max(level);
            }
            b']' | b'}' if !in_string => level -= 1,
            _ => {}
        }
    }
    deepest
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// In records a value is kept as its text; `api` turns it into real JSON on the way out.
impl Serialize for Json {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        if text.is_empty() {
            return Err(D::Error::custom("empty JSON text in a record"));
        }
        Ok(Json(Arc::from(&*text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_kept_byte_for_byte() {
        let text = r#"{"b":1.50,"a":[1e3, 12345678901234567890123]}"#;
        assert_eq!(Json::parse(text, 100).expect("valid").as_str(), text);
    }

    #[test]
    fn mistakes_are_placed_and_sizes_are_told() {
        let error = Json::parse("{\"a\":\n tru}", 100).expect_err("not JSON");
        assert!(matches!(error, BadJson::Syntax { line: 2, .. }), "{error}");
        assert_eq!(Json::parse("[1,2,3]", 3), Err(BadJson::TooLarge { size: 7, limit: 3 }));
        let nested = |levels: usize| "[".repeat(levels) + "\"]\\\"[\"" + &"]".repeat(levels);
        assert!(Json::parse(&nested(128), 1000).is_ok());
        assert_eq!(Json::parse(&nested(129), 1000), Err(BadJson::TooDeep { limit: 128 }));
    }

    #[test]
    fn a_string_survives_the_round_trip() {
        let text = "$(id) \"quoted\"\n\u{1b}[31m\u{202e}";
        assert_eq!(Json::string(text).to_value(), serde_json::Value::String(text.into()));
    }
}
