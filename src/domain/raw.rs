//! Bytes as such in a serialised record: a sequence of numbers would take up twice the room.

use serde::{Deserialize, Deserializer, Serializer};

struct Bytes(Vec<u8>);

struct Visitor;

impl serde::de::Visitor<'_> for Visitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
        Ok(Bytes(bytes.to_vec()))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_bytes(Visitor)
    }
}

#[expect(clippy::ref_option, reason = "the shape that serde asks for")]
pub fn serialize<S: Serializer>(raw: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_bytes(raw.as_deref().unwrap_or_default())
}

pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
    Bytes::deserialize(from).map(|bytes| Some(bytes.0))
}
