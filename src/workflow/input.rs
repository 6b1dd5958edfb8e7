//! The input of a run against what its workflow declares: types, required fields, defaults.
//! A field that is not declared is refused: a misspelt one would silently leave its default.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::expr::listed;
use super::spec::Field;
use crate::domain::limits::PAYLOAD_BYTES;
use crate::domain::text::{nearest, size};

/// Why a run cannot start with this input. One line a mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct InputError(pub Vec<String>);

/// Checks an input and fills in defaults. Without declared fields anything is taken as it is; with
/// them, null stands for an empty object.
///
/// # Errors
/// Every mistake, each naming its field.
pub fn check(fields: Option<&[Field]>, input: &crate::domain::Json) -> Result<crate::domain::Json, InputError> {
    if input.as_str().len() > PAYLOAD_BYTES {
        let (is, may) = (size(input.as_str().len() as u64), size(PAYLOAD_BYTES as u64));
        return Err(InputError(vec![format!("an input of {is} is larger than {may}")]));
    }
    let Some(fields) = fields else { return Ok(input.clone()) };
    let mut given = match input.to_value() {
        Json::Null => serde_json::Map::new(),
        Json::Object(given) => given,
        other => return Err(InputError(vec![format!("the input is {}, not an object", what(&other))])),
    };
    let wrong = misfits(fields, &given.iter().map(|(name, value)| (name.as_str(), Some(value))).collect());
    if !wrong.is_empty() {
        return Err(InputError(wrong));
    }
    let mut filled = false;
    for field in fields.iter().filter(|field| !given.contains_key(&field.name)).collect::<Vec<_>>() {
        // An optional field is null, so that an expression may ask for it.
        given.insert(field.name.clone(), field.default.clone().unwrap_or(Json::Null));
        filled = true;
    }
    Ok(if filled { crate::domain::Json::from_value(&Json::Object(given)) } else { input.clone() })
}

/// What does not fit of an input, a line each. A value that is not known yet fits.
pub fn misfits(fields: &[Field], given: &BTreeMap<&str, Option<&Json>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for name in given.keys().filter(|name| fields.iter().all(|field| field.name != **name)) {
        wrong.push(match nearest(name, fields.iter().map(|field| field.name.as_str())) {
            Some(meant) => format!("there is no input `{name}`: did you mean `{meant}`?"),
            None => {
                let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
                format!("there is no input `{name}`: the workflow takes {}", listed(&names))
            }
        });
    }
    for field in fields {
        let (name, kind) = (&field.name, field.kind.as_str());
        match given.get(name.as_str()) {
            Some(Some(value)) if field.kind.fits(value) => {
                wrong.extend(field.bounds.broken_by(value).map(|how| format!("the input `{name}` {how}")));
            }
            Some(None) => {}
            Some(Some(Json::Null)) if !field.required => {}
            Some(Some(value)) => wrong.push(format!("the input `{name}` is {}, not of type {kind}", what(value))),
            None if field.required && field.default.is_none() => {
                wrong.push(format!("the input `{name}` is missing: it is required, of type {kind}"));
            }
            None => {}
        }
    }
    wrong
}

fn what(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Json as Text;
    use crate::workflow::spec::{Bounds, FieldType};
    use serde_json::json;

    fn fields() -> Vec<Field> {
        let field = |name: &str, kind, required, default| Field {
            name: name.into(),
            kind,
            required,
            default,
            bounds: Bounds::default(),
        };
        vec![
            field("order_id", FieldType::String, true, None),
            field("amount", FieldType::Integer, false, Some(json!(120))),
            field("note", FieldType::String, false, None),
        ]
    }

    #[test]
    fn defaults_are_filled_in_and_optional_fields_are_null() {
        let input = Text::from_value(&json!({"order_id": "o-1"}));
        let checked = check(Some(&fields()), &input).expect("fits");
        assert_eq!(checked.as_str(), r#"{"order_id":"o-1","amount":120,"note":null}"#);
        assert_eq!(check(None, &Text::string("x")), Ok(Text::string("x")));
    }

    #[test]
    fn every_mistake_is_told() {
        let input = Text::from_value(&json!({"amuont": 3, "amount": "3", "note": 1}));
        let error = check(Some(&fields()), &input).expect_err("wrong").to_string();
        assert_eq!(
            error,
            "there is no input `amuont`: did you mean `amount`?\n\
             the input `order_id` is missing: it is required, of type string\n\
             the input `amount` is a string, not of type integer\n\
             the input `note` is a number, not of type string"
        );
        assert!(check(Some(&fields()), &Text::string("x")).is_err());
        let whole = Text::from_value(&json!({"order_id": "o", "amount": 3.0}));
        assert!(check(Some(&fields()), &whole).is_ok());
    }

    #[test]
    fn bounds_are_kept() {
        let field =
            |name: &str, kind, bounds| Field { name: name.into(), kind, required: false, default: None, bounds };
        let fields = [
            field("size", FieldType::String, Bounds { allowed: vec![json!("s"), json!("l")], ..Bounds::default() }),
            field(
                "n",
                FieldType::Integer,
                Bounds { minimum: Some(1.into()), maximum: Some(5.into()), ..Bounds::default() },
            ),
            field("tags", FieldType::Array, Bounds { items: Some(FieldType::String), ..Bounds::default() }),
        ];
        let check = |value: serde_json::Value| check(Some(&fields), &Text::from_value(&value));
        assert!(check(json!({"size": "l", "n": 5, "tags": ["a"]})).is_ok());
        assert!(check(json!({"size": null})).is_ok(), "an optional one may be null");
        let error = check(json!({"size": "m", "n": 6, "tags": ["a", 2]})).expect_err("wrong").to_string();
        assert_eq!(
            error,
            "the input `size` is \"m\", not one of \"s\", \"l\"\n\
             the input `n` is 6, more than 5\n\
             the input `tags` holds at [1] what is not of type string"
        );
        assert!(check(json!({"n": 0})).expect_err("wrong").to_string().contains("less than 1"));
    }
}
