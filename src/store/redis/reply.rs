//! Redis's answers as plain values: every shape that a server may choose for one meaning, and an error
//! for any other.

use redis::Value;

use crate::store::contract::{Result, StoreError};

/// An answer that is not what was asked for.
pub fn odd() -> StoreError {
    StoreError::Corrupt("Redis gave an answer of an unknown shape".to_owned())
}

pub fn array(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(items) | Value::Set(items) => Ok(items),
        Value::Map(pairs) => Ok(pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()),
        Value::Nil => Ok(Vec::new()),
        _ => Err(odd()),
    }
}

pub fn bytes(value: Value) -> Result<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::Okay => Ok(b"OK".to_vec()),
        _ => Err(odd()),
    }
}

pub fn maybe_bytes(value: Value) -> Result<Option<Vec<u8>>> {
    match value {
        Value::Nil => Ok(None),
        value => bytes(value).map(Some),
    }
}

pub fn text(value: Value) -> Result<String> {
    String::from_utf8(bytes(value)?).map_err(|_| odd())
}

pub fn int(value: &Value) -> Result<i64> {
    match value {
        Value::Int(number) => Ok(*number),
        Value::BulkString(digits) => {
            std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or_else(odd)
        }
        _ => Err(odd()),
    }
}

/// A sorted set's score; scores here are whole numbers.
pub fn score(value: &Value) -> Result<Option<i64>> {
    match value {
        Value::Nil => Ok(None),
        Value::Int(number) => Ok(Some(*number)),
        Value::Double(number) => Ok(Some(*number as i64)),
        Value::BulkString(digits) => {
            let number = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<f64>().ok());
            number.map(|number| Some(number as i64)).ok_or_else(odd)
        }
        _ => Err(odd()),
    }
}

/// Field and value, field and value.
pub fn pairs(value: Value) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut items = array(value)?.into_iter();
    let mut pairs = Vec::with_capacity(items.len() / 2);
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        pairs.push((bytes(key)?, bytes(value)?));
    }
    Ok(pairs)
}
