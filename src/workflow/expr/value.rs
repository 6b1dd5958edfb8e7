//! JSON ↔ the evaluator's values, without loss: integers stay integers, keys keep their order, and
//! what JSON cannot hold is an error, never a guess.

use minijinja::value::{Value, ValueKind};
use serde_json::Value as Json;

use crate::domain::limits::PAYLOAD_BYTES;

/// What each value of a result costs at least, in bytes of JSON text.
const LEAST: usize = 2;

pub fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(flag) => Value::from(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(whole), _, _) => Value::from(whole),
            (_, Some(whole), _) => Value::from(whole),
            (_, _, Some(real)) => Value::from(real),
            _ => Value::from(number.to_string()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::from(items.iter().map(from_json).collect::<Vec<_>>()),
        Json::Object(fields) => Value::from_pairs(fields.iter().map(|(key, value)| (key.as_str(), from_json(value)))),
    }
}

/// # Errors
/// What the value is that JSON cannot hold, or that it is larger than a payload may be.
pub fn to_json(value: &Value) -> Result<Json, String> {
    convert(value, &mut 0)
}

fn convert(value: &Value, bytes: &mut usize) -> Result<Json, String> {
    *bytes += LEAST + value.as_str().map_or(0, str::len);
    if *bytes > PAYLOAD_BYTES {
        return Err("the result is larger than 1 MiB".to_owned());
    }
    Ok(match value.kind() {
        ValueKind::Undefined => return Err("a part of the result is undefined".to_owned()),
        ValueKind::None => Json::Null,
        ValueKind::Bool => Json::Bool(value.is_true()),
        ValueKind::Number => number(value)?,
        ValueKind::String => Json::String(value.as_str().unwrap_or_default().to_owned()),
        ValueKind::Seq | ValueKind::Iterable => {
            let mut items = Vec::new();
            for item in value.try_iter().map_err(|error| error.to_string())? {
                items.push(convert(&item, bytes)?);
            }
            Json::Array(items)
        }
        ValueKind::Map => {
            let mut fields = serde_json::Map::new();
            for key in value.try_iter().map_err(|error| error.to_string())? {
                let field = value.get_item(&key).map_err(|error| error.to_string())?;
                fields.insert(text(&convert(&key, bytes)?), convert(&field, bytes)?);
            }
            Json::Object(fields)
        }
        kind => return Err(format!("the result is {kind}, which JSON does not have")),
    })
}

fn number(value: &Value) -> Result<Json, String> {
    if let Some(whole) = value.as_i64().filter(|_| value.is_integer()) {
        return Ok(Json::from(whole));
    }
    if value.is_integer() {
        let whole = u64::try_from(value.clone());
        return whole.map(Json::from).map_err(|_| format!("the number {value} is beyond 64 bits"));
    }
    let real = f64::try_from(value.clone()).map_err(|error| error.to_string())?;
    let real = serde_json::Number::from_f64(real);
    real.map(Json::Number).ok_or_else(|| "the result is not a finite number".to_owned())
}

/// What a value is inside text: a string itself, anything else its JSON.
pub fn text(json: &Json) -> String {
    match json {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_survives_the_way_there_and_back() {
        for text in [
            r#"{"z":1,"a":[1.0,2,-3,18446744073709551615,-9223372036854775808,1e300,0.1],"":{"x":null,"b":true}}"#,
            "[]",
            "{}",
            "\"$(id) {{ x }} ${{ y }}\"",
            "-0.0",
        ] {
            let json: Json = serde_json::from_str(text).expect("JSON");
            let back = to_json(&from_json(&json)).expect("JSON again");
            assert_eq!(back.to_string(), json.to_string());
        }
    }

    proptest::proptest! {
        #[test]
        fn numbers_survive_text_and_back(real in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL) {
            let text = serde_json::Number::from_f64(real).map(|number| number.to_string()).unwrap_or_default();
            let json: Json = serde_json::from_str(&text).expect("JSON");
            proptest::prop_assert_eq!(to_json(&from_json(&json)).map(|back| back.to_string()), Ok(text));
        }
    }
}
