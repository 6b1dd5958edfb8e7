//! The evaluator that all expressions share, and the functions, filters and tests it has: those that
//! are pure, bounded, and write values the way JSON does.

use std::sync::OnceLock;

use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};

use super::{ExprError, value};
use crate::domain::limits::PAYLOAD_BYTES;
use crate::domain::text::nearest;

/// Steps of one evaluation; more is refused, so that no expression holds up its caller.
const FUEL: u64 = 50_000;

/// Tells the first name that does not exist.
pub fn known(used: &[(String, usize)], there_is: &[&str], what: &str) -> Result<(), ExprError> {
    for (name, at) in used {
        if !there_is.contains(&name.as_str()) {
            let near = || nearest(name, there_is.iter().copied()).map(|name| format!("did you mean `{name}`?"));
            let hint = elsewhere(name).map(str::to_owned).or_else(near);
            return Err(ExprError { message: format!("there is no {what} `{name}`"), hint, at: *at });
        }
    }
    Ok(())
}

/// What other languages have under a name, as it is said here.
fn elsewhere(name: &str) -> Option<&'static str> {
    Some(match name {
        "len" | "size" | "length" | "count" => "a length is `value | length`",
        "now" | "today" | "time" | "timestamp" | "date" => {
            "expressions know no time: give it as an input, or take `run.started_at`"
        }
        "random" | "rand" | "uuid" => "expressions know no chance: give it as an input, or take `step.key`",
        "env" | "secret" | "secrets" => "expressions see no environment: give it to the handler by its `env`",
        "str" | "text" => "text is `value | string`",
        "json" | "to_json" | "toJSON" => "JSON is `value | tojson`",
        _ => return None,
    })
}

pub const FUNCTIONS: &[&str] = &["range", "dict"];
pub const FILTERS: &[&str] = &[
    "abs",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "groupby",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
    "zip",
];
pub const TESTS: &[&str] = &[
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "even",
    "false",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "int",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
    "upper",
];

/// One evaluator for all: strict, metered, with text made the way JSON makes it.
pub fn environment() -> &'static Environment<'static> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(64);
        for name in ["debug", "namespace"] {
            environment.remove_global(name);
        }
        // Everything that makes text of a value makes it the way JSON writes it.
        environment.add_filter("string", |value: Value| to_text(&value));
        environment.add_filter("lower", |value: Value| to_text(&value).map(|text| text.to_lowercase()));
        environment.add_filter("upper", |value: Value| to_text(&value).map(|text| text.to_uppercase()));
        environment.add_filter("trim", |value: Value| to_text(&value).map(|text| text.trim().to_owned()));
        environment.add_filter("lines", |value: Value| {
            to_text(&value).map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        });
        environment.add_filter("split", |value: Value, at: String| {
            to_text(&value).map(|text| text.split(at.as_str()).map(str::to_owned).collect::<Vec<_>>())
        });
        environment.add_filter("replace", |value: Value, from: String, to: Value| {
            let (text, to) = (to_text(&value)?, to_text(&to)?);
            within_limit(text.len().saturating_add(text.matches(&from).count().saturating_mul(to.len())))?;
            Ok::<_, minijinja::Error>(text.replace(&from, &to))
        });
        environment
            .add_filter("tojson", |value: Value| value::to_json(&value).map(|json| json.to_string()).map_err(invalid));
        environment.add_filter("join", |values: Value, between: Option<String>| {
            let between = between.unwrap_or_default();
            let mut text = String::new();
            for (nth, value) in values.try_iter()?.enumerate() {
                if nth > 0 {
                    text.push_str(&between);
                }
                text.push_str(&to_text(&value)?);
                within_limit(text.len())?;
            }
            Ok::<_, minijinja::Error>(text)
        });
        environment
    })
}

fn to_text(value: &Value) -> Result<String, minijinja::Error> {
    value::to_json(value).map(|json| value::text(&json)).map_err(invalid)
}

/// Refuses text that data would blow up, before or while it is made.
fn within_limit(bytes: usize) -> Result<(), minijinja::Error> {
    if bytes > PAYLOAD_BYTES {
        return Err(invalid("the result is larger than 1 MiB".to_owned()));
    }
    Ok(())
}

fn invalid(message: String) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, message)
}
