//! The schema against the readers: what they take it takes, and form that they refuse it refuses.

use std::fs;
use std::path::Path;

use super::*;
use crate::domain::problem::Source;
use crate::domain::yaml::{self, Dialect};

/// The part of JSON Schema that the schema uses; anything else is a mistake of the schema.
fn fits(schema: &Json, value: &Json, root: &Json) -> bool {
    let Json::Object(rules) = schema else { return schema == &json!(true) };
    rules.iter().all(|(rule, what)| match rule.as_str() {
        "$schema" | "title" | "description" | "$defs" | "then" | "else" => true,
        "$ref" => {
            let name = what.as_str().and_then(|path| path.strip_prefix("#/$defs/")).expect("a definition");
            let found = &root["$defs"][name];
            assert!(!found.is_null(), "no definition of {name}");
            fits(found, value, root)
        }
        "const" => what == value,
        "enum" => what.as_array().is_some_and(|words| words.contains(value)),
        "type" => {
            let is = |word: &Json| match word.as_str() {
                Some("string") => value.is_string(),
                Some("object") => value.is_object(),
                Some("array") => value.is_array(),
                Some("boolean") => value.is_boolean(),
                Some("integer") => value.is_i64() || value.is_u64(),
                Some("number") => value.is_number(),
                other => panic!("the type {other:?}"),
            };
            what.as_array().map_or_else(|| is(what), |words| words.iter().any(is))
        }
        "oneOf" => count_of(what, value, root) == 1,
        "anyOf" => count_of(what, value, root) > 0,
        "allOf" => count_of(what, value, root) == what.as_array().map_or(0, Vec::len),
        "not" => !fits(what, value, root),
        "if" => {
            let branch = if fits(what, value, root) { "then" } else { "else" };
            rules.get(branch).is_none_or(|schema| fits(schema, value, root))
        }
        "required" => {
            let names = what.as_array().expect("names");
            value
                .as_object()
                .is_none_or(|fields| names.iter().all(|name| fields.contains_key(name.as_str().expect("a name"))))
        }
        "properties" => value.as_object().is_none_or(|fields| {
            fields.iter().all(|(name, field)| what.get(name).is_none_or(|schema| fits(schema, field, root)))
        }),
        "additionalProperties" => value.as_object().is_none_or(|fields| {
            let known = |name: &str| rules.get("properties").is_some_and(|known| known.get(name).is_some());
            fields.iter().filter(|(name, _)| !known(name)).all(|(_, field)| fits(what, field, root))
        }),
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| fits(what, item, root))),
        "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= what.as_u64().expect("a number")),
        "uniqueItems" => true,
        "minProperties" => value.as_object().is_none_or(|fields| fields.len() as u64 >= what.as_u64().expect("one")),
        "minLength" => value.as_str().is_none_or(|text| !text.is_empty()),
        "minimum" => value.as_f64().is_none_or(|number| number >= what.as_f64().expect("a number")),
        "maximum" => value.as_f64().is_none_or(|number| number <= what.as_f64().expect("a number")),
        // Patterns are for editors; the readers' own rules are tested where they are.
        "pattern" => value.as_str().is_none_or(|text| what != "\\$\\{\\{" || text.contains("${{")),
        other => panic!("the rule {other}"),
    })
}

fn count_of(schemas: &Json, value: &Json, root: &Json) -> usize {
    schemas.as_array().expect("a list").iter().filter(|schema| fits(schema, value, root)).count()
}

fn documents(folder: &str) -> Vec<(String, Json)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|kind| kind == "yaml") {
            let text = fs::read_to_string(&path).expect("text");
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let source = Source { file: &name, text: &text };
            let nodes = yaml::parse(source, Dialect::Manifest).unwrap_or_default();
            found.extend(nodes.iter().map(|node| (name.clone(), node.to_json())));
        }
    }
    found
}

#[test]
fn what_the_readers_take_fits_the_schema_of_its_kind_and_of_all() {
    let all = schema(None);
    let mut seen = 0;
    for (file, document) in documents("tests/fixtures/good").into_iter().chain(documents("workflows")) {
        assert!(fits(&all, &document, &all), "{file}: {document}");
        let kind = Kind::ALL.into_iter().find(|kind| document["kind"] == kind.as_str()).unwrap_or(Kind::Workflow);
        let one = schema(Some(kind));
        assert!(fits(&one, &document, &one), "{file}: {document}");
        let other = schema(Some(if kind == Kind::Queue { Kind::Handler } else { Kind::Queue }));
        assert!(!fits(&other, &document, &other), "{file} fits every schema");
        seen += 1;
    }
    assert!(seen >= 12, "only {seen} documents");
}

#[test]
fn form_that_the_readers_refuse_does_not_fit() {
    let all = schema(None);
    for text in [
        json!({"name": "x"}),
        json!({"name": "x", "steps": []}),
        json!({"name": "x", "steps": [{"id": "a"}]}),
        json!({"name": "x", "steps": [{"id": "a", "run": ["x"], "job": "y"}]}),
        json!({"name": "x", "steps": [{"id": "a", "run": "echo ${{ input.x }}"}]}),
        json!({"name": "x", "steps": [{"id": "a", "run": ["x"], "retry": {"on": ["timeout"]}}]}),
        json!({"name": "x", "steps": [{"id": "a", "switch": {"cases": []}}]}),
        json!({"name": "x", "steps": [{"id": "a", "foreach": {"as": "item"}, "job": "x"}]}),
        json!({"name": "x", "steps": [{"id": "a", "steps": [{"id": "b"}]}]}),
        json!({"kind": "Queue", "name": "x", "weight": 0}),
        json!({"kind": "Schedule", "name": "x", "cron": "@daily", "every": "5m", "job": "j"}),
        json!({"kind": "Schedule", "name": "x", "cron": "@daily"}),
        json!({"kind": "Webhook", "name": "x", "job": "j", "workflow": "w"}),
        json!({"kind": "Hook", "name": "x", "job": "j"}),
    ] {
        assert!(!fits(&all, &text, &all), "{text}");
    }
}

/// A key without a rule of its own would take anything, unseen.
#[test]
fn every_key_has_a_rule() {
    fn look(at: &str, value: &Json) {
        match value {
            Json::Object(fields) => {
                if let Some(Json::Object(properties)) = fields.get("properties") {
                    for (key, rule) in properties {
                        assert!(!rule.is_null(), "{at} has no rule for `{key}`");
                    }
                }
                fields.iter().for_each(|(name, field)| look(&format!("{at}/{name}"), field));
            }
            Json::Array(items) => items.iter().for_each(|item| look(at, item)),
            _ => {}
        }
    }
    look("", &schema(None));
}
