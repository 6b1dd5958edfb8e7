//! Names of queues, job types, workflows and handlers: one rule for all of them, because they end up
//! in keys, paths, labels and terminals.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A name: `^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$`, without `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("a name is empty")]
    Empty,
    #[error("a name of {0} characters is too long: at most 128")]
    TooLong(usize),
    #[error("the name {0:?} holds {1:?}: letters, digits and _ . : - are allowed, a letter or digit first")]
    Character(String, char),
    #[error("the name {0:?} holds `..`")]
    Dots(String),
}

impl Name {
    /// A name that is written in the source of goflow itself.
    pub fn literal(text: &'static str) -> Name {
        debug_assert!(text.parse::<Name>().is_ok(), "{text} is not a name");
        Name(Arc::from(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if text.is_empty() {
            return Err(BadName::Empty);
        }
        if text.len() > 128 {
            return Err(BadName::TooLong(text.chars().count()));
        }
        for (place, c) in text.char_indices() {
            let fits = c.is_ascii_alphanumeric() || (place > 0 && matches!(c, '_' | '.' | ':' | '-'));
            if !fits {
                return Err(BadName::Character(text.to_owned(), c));
            }
        }
        if text.contains("..") {
            return Err(BadName::Dots(text.to_owned()));
        }
        Ok(Name(Arc::from(text)))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rule_for_all_names() {
        for good in ["a", "send_email", "a.b:c-d", "9", &"x".repeat(128)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-rf", "a b", "a/b", "a..b", ".a", "é", "a\n", &"x".repeat(129)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
