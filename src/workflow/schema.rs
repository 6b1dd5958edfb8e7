//! The JSON Schema (draft 2020-12) of manifests, for editors. Made from the tables of keys that the
//! readers go by, so that neither knows a key that the other does not. It tells form alone: what needs
//! the whole graph is `check`'s business.

use serde_json::{Map, Value as Json, json};

use super::handler::BUILTINS;
use super::manifest::{API_VERSION, Kind, RETRY_KEYS};
use super::request::METHODS;
use super::spec::{
    BACKOFFS, Catchup, CompensateScope, EndState, FieldType, Foreach, OnConflict, OnError, Overlap, Rest, SwitchMode,
    WebhookScheme,
};
use super::{handler_read, http_read, kinds_read, step_read, verb_read, workflow_read};
use crate::domain::limits::{HANDLER_BATCH, PRIORITY};

/// The schema of one kind, or of all.
pub fn schema(kind: Option<Kind>) -> Json {
    let mut map = Map::new();
    map.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    match kind {
        Some(kind) => {
            map.insert("title".into(), json!(format!("goflow {}", kind.as_str())));
            map.insert("$ref".into(), json!(format!("#/$defs/{}", kind.as_str())));
        }
        None => {
            map.insert("title".into(), json!("goflow manifest"));
            map.insert("type".into(), json!("object"));
            // Chosen by `kind`, so that an editor tells what is wrong with that kind alone.
            let mut rest = reference(Kind::Workflow.as_str());
            for kind in Kind::ALL.into_iter().rev().filter(|kind| *kind != Kind::Workflow) {
                let is = json!({"required": ["kind"], "properties": {"kind": {"const": kind.as_str()}}});
                rest = json!({"if": is, "then": reference(kind.as_str()), "else": rest});
            }
            map.insert("allOf".into(), json!([rest]));
        }
    }
    let mut all = definitions();
    let mut reached = std::collections::BTreeSet::new();
    let mut next = Vec::new();
    references(&Json::Object(map.clone()), &mut next);
    while let Some(name) = next.pop() {
        if reached.insert(name.clone()) {
            references(&all[&name], &mut next);
        }
    }
    if let Json::Object(all) = &mut all {
        all.retain(|name, _| reached.contains(name));
    }
    map.insert("$defs".into(), all);
    Json::Object(map)
}

/// The definitions that a part of the schema names.
fn references(schema: &Json, found: &mut Vec<String>) {
    match schema {
        Json::Object(fields) => {
            let name = fields.get("$ref").and_then(Json::as_str).and_then(|path| path.strip_prefix("#/$defs/"));
            found.extend(name.map(str::to_owned));
            fields.values().for_each(|field| references(field, found));
        }
        Json::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

fn definitions() -> Json {
    json!({
        "Workflow": workflow(),
        "Handler": handler(),
        "Schedule": schedule(),
        "Queue": object(kinds_read::QUEUE_KEYS, &["kind", "name"], queue),
        "Webhook": webhook(),
        "step": step(),
        "steps": {"type": "array", "items": reference("step")},
        "compensate": compensate(),
        "foreach": foreach(),
        "http": http(),
        "retry": retry(),
        "env": {"type": "object", "additionalProperties": reference("text")},
        "run": {
            "description": "The program and its arguments, which no shell sees; or a line for the shell, \
                            without expressions",
            "oneOf": [
                {"type": "array", "minItems": 1, "items": reference("text")},
                {"type": "string", "minLength": 1, "not": {"pattern": "\\$\\{\\{"}},
            ],
        },
        "outputs": {
            "description": "How the output becomes a value",
            "oneOf": [{"enum": ["text", "json"]}, {"type": "array", "items": reference("id")}],
        },
        "quorum": {"oneOf": [{"enum": ["all", "any"]}, count()]},
        "name": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$"},
        "id": {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,127}$"},
        "duration": {
            "type": "string",
            "description": "A number and a unit, or several: 250ms, 30s, 5m, 1h30m, 7d",
            "pattern": "^([0-9]+(\\.[0-9]+)?(ms|s|m|h|d|w))+$",
        },
        "expression": {"type": ["string", "boolean", "number"], "description": "An expression, without ${{ }}"},
        "text": {"type": ["string", "number", "boolean"], "description": "Text, which may hold ${{ expressions }}"},
        "rate": {"type": "string", "pattern": "^ *[1-9][0-9]* */ *(s|sec|second|m|min|minute|h|hour) *$"},
    })
}

fn reference(name: &str) -> Json {
    json!({"$ref": format!("#/$defs/{name}")})
}

fn count() -> Json {
    json!({"type": "integer", "minimum": 1})
}

fn words<T>(words: &[(&str, T)]) -> Json {
    json!({"enum": words.iter().map(|(word, _)| *word).collect::<Vec<_>>()})
}

fn templates() -> Json {
    json!({"type": "object", "additionalProperties": true})
}

fn object(keys: &[&str], required: &[&str], of: impl Fn(&str) -> Json) -> Json {
    let properties: Map<String, Json> = keys.iter().map(|key| ((*key).to_owned(), of(key))).collect();
    json!({"type": "object", "required": required, "additionalProperties": false, "properties": properties})
}

/// Exactly one of several keys.
fn one_of(mut object: Json, keys: &[&str]) -> Json {
    object["oneOf"] = keys.iter().map(|key| json!({"required": [key]})).collect();
    object
}

/// The keys that every kind has.
fn head(key: &str, kind: Kind) -> Option<Json> {
    Some(match key {
        "apiVersion" => json!({"const": API_VERSION}),
        "kind" => json!({"const": kind.as_str()}),
        "name" => reference("name"),
        _ => return None,
    })
}

fn workflow() -> Json {
    object(workflow_read::KEYS, &["name", "steps"], |key| match key {
        "input" => json!({"type": "object", "additionalProperties": input()}),
        "defaults" => object(workflow_read::DEFAULT_KEYS, &[], |key| match key {
            "timeout" => reference("duration"),
            _ => reference("retry"),
        }),
        "concurrency" => object(workflow_read::CONCURRENCY_KEYS, &["key"], |key| match key {
            "key" => reference("text"),
            "limit" => count(),
            _ => words(&OnConflict::WORDS),
        }),
        "timeout" => reference("duration"),
        "steps" => json!({"type": "array", "minItems": 1, "items": reference("step")}),
        "finally" => reference("steps"),
        "outputs" => templates(),
        other => head(other, Kind::Workflow).unwrap_or_default(),
    })
}

fn input() -> Json {
    object(workflow_read::INPUT_KEYS, &["type"], |key| match key {
        "type" => words(&FieldType::WORDS),
        "required" => json!({"type": "boolean"}),
        "enum" => json!({"type": "array", "minItems": 1}),
        "minimum" | "maximum" => json!({"type": "number"}),
        "items" => object(workflow_read::ITEM_KEYS, &["type"], |_| words(&FieldType::WORDS)),
        _ => json!(true),
    })
}

fn step() -> Json {
    let step = object(step_read::KEYS, &["id"], |key| match key {
        "id" => reference("id"),
        "run" | "http" | "outputs" | "env" | "retry" | "foreach" | "compensate" => match key {
            "outputs" => json!({"anyOf": [reference("outputs"), templates()]}),
            key => reference(key),
        },
        "job" | "call" | "queue" => reference("name"),
        "steps" => json!({"type": "array", "minItems": 1, "items": reference("step")}),
        "switch" => switch(),
        "parallel" => parallel(),
        "wait" => wait(),
        "approval" => approval(),
        "sleep" => json!({"anyOf": [reference("duration"), {"type": "string", "pattern": "\\$\\{\\{"}]}),
        "set" => json!({"type": "object", "minProperties": 1}),
        "end" => json!({"oneOf": [words(&EndState::WORDS), object(verb_read::END_KEYS, &[], |key| match key {
            "state" => words(&EndState::WORDS),
            _ => reference("text"),
        })]}),
        "with" => json!(true),
        "needs" => json!({"type": "array", "items": reference("id"), "uniqueItems": true}),
        "join" => reference("quorum"),
        "rest" => words(&Rest::WORDS),
        "if" => reference("expression"),
        "while" => object(step_read::WHILE_KEYS, step_read::WHILE_KEYS, |key| match key {
            "condition" => reference("expression"),
            _ => count(),
        }),
        "timeout" | "deadline" => reference("duration"),
        "priority" => json!({"type": "integer", "minimum": -PRIORITY, "maximum": PRIORITY}),
        "continue_on_error" => json!({"type": "boolean"}),
        _ => Json::Null,
    });
    one_of(step, verb_read::VERBS)
}

fn switch() -> Json {
    let case = object(verb_read::CASE_KEYS, verb_read::CASE_KEYS, |key| match key {
        "name" => reference("id"),
        "when" => reference("expression"),
        _ => reference("steps"),
    });
    object(verb_read::SWITCH_KEYS, &["cases"], |key| match key {
        "mode" => words(&SwitchMode::WORDS),
        "cases" => json!({"type": "array", "minItems": 1, "items": case.clone()}),
        _ => reference("steps"),
    })
}

fn parallel() -> Json {
    let branch = object(verb_read::BRANCH_KEYS, verb_read::BRANCH_KEYS, |key| match key {
        "name" => reference("id"),
        _ => reference("steps"),
    });
    object(verb_read::PARALLEL_KEYS, &["branches"], |key| match key {
        "branches" => json!({"type": "array", "minItems": 1, "items": branch.clone()}),
        "wait" => reference("quorum"),
        _ => words(&Rest::WORDS),
    })
}

fn on_timeout(words: &[&str]) -> Json {
    let steps = object(&["steps"], &["steps"], |_| reference("steps"));
    json!({"oneOf": [{"enum": words}, steps]})
}

fn wait() -> Json {
    let wait = object(verb_read::WAIT_KEYS, &["signal"], |key| match key {
        "signal" => reference("name"),
        "match" => reference("expression"),
        "timeout" => reference("duration"),
        _ => on_timeout(&["fail", "continue"]),
    });
    json!({"oneOf": [reference("name"), wait]})
}

fn approval() -> Json {
    object(verb_read::APPROVAL_KEYS, &[], |key| match key {
        "approvers" => json!({"type": "array", "minItems": 1, "items": reference("text")}),
        "timeout" => reference("duration"),
        _ => on_timeout(&["fail", "approve", "reject"]),
    })
}

fn foreach() -> Json {
    let items = json!({"oneOf": [reference("expression"), {"type": "array"}, {"type": "object"}]});
    let whole = object(step_read::FOREACH_KEYS, &["items"], |key| match key {
        "items" => items.clone(),
        "as" => json!({"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}),
        "key" => reference("expression"),
        "max_parallel" => json!({"type": "integer", "minimum": 1, "maximum": Foreach::MOST_PARALLEL}),
        "on_error" => words(&OnError::WORDS),
        "wait" => reference("quorum"),
        _ => words(&Rest::WORDS),
    });
    json!({"oneOf": [reference("expression"), {"type": "array"}, whole]})
}

fn compensate() -> Json {
    let whole = object(step_read::COMPENSATE_KEYS, &[], |key| match key {
        "scope" => words(&CompensateScope::WORDS),
        "run" | "http" | "env" | "outputs" | "retry" => reference(key),
        "job" => reference("name"),
        "timeout" => reference("duration"),
        _ => json!(true),
    });
    one_of(whole, &["run", "http", "job"])
}

fn http() -> Json {
    object(http_read::KEYS, &["url"], |key| match key {
        "method" => json!({"enum": METHODS}),
        "url" => json!({"type": "string", "pattern": "^([Hh][Tt][Tt][Pp][Ss]?://|\\$\\{\\{)"}),
        "headers" | "query" | "form" => json!({"type": "object", "additionalProperties": reference("text")}),
        "text" => reference("text"),
        "allow_hosts" => json!({"type": "array", "items": {"type": "string"}}),
        _ => json!(true),
    })
}

fn retry() -> Json {
    object(RETRY_KEYS, &[], |key| match key {
        "max" => json!({"type": "integer", "minimum": 0, "maximum": 10_000}),
        "backoff" => words(&BACKOFFS),
        "initial" | "max_delay" => reference("duration"),
        "jitter" => json!({"type": "number", "minimum": 0, "maximum": 1}),
        "errors" => json!({"type": "array", "items": {"type": "string"}}),
        _ => Json::Null,
    })
}

fn handler() -> Json {
    let whole = object(handler_read::KEYS, &["kind", "name"], |key| match key {
        "run" | "http" | "env" | "outputs" | "retry" => reference(key),
        "pool" => {
            let long = object(handler_read::POOL_KEYS, &["run"], |key| match key {
                "run" => reference("run"),
                _ => count(),
            });
            json!({"oneOf": [reference("run"), long]})
        }
        "builtin" => json!({"enum": BUILTINS}),
        "timeout" => reference("duration"),
        "rate_limit" => reference("rate"),
        "batch" => object(handler_read::BATCH_KEYS, &["max"], |key| match key {
            "max" => json!({"type": "integer", "minimum": 2, "maximum": HANDLER_BATCH}),
            _ => reference("duration"),
        }),
        other => head(other, Kind::Handler).unwrap_or_default(),
    });
    one_of(whole, &["run", "pool", "http", "builtin"])
}

fn schedule() -> Json {
    let mut whole = object(kinds_read::SCHEDULE_KEYS, &["kind", "name"], |key| match key {
        "cron" => json!({"type": "string", "description": "Five fields as in a crontab, @daily, or @every 5m"}),
        "every" => reference("duration"),
        "timezone" => {
            json!({"type": "string", "description": "A name of the IANA database; UTC where nothing is said"})
        }
        "workflow" | "job" | "queue" => reference("name"),
        "input" => json!(true),
        "overlap" => words(&Overlap::WORDS),
        "catchup" => words(&Catchup::WORDS),
        other => head(other, Kind::Schedule).unwrap_or_default(),
    });
    let one = |keys: [&str; 2]| one_of(json!({}), &keys);
    whole["allOf"] = json!([one(["cron", "every"]), one(["workflow", "job"])]);
    whole
}

fn queue(key: &str) -> Json {
    match key {
        "weight" => json!({"type": "integer", "minimum": 1, "maximum": 1_000}),
        "rate_limit" => reference("rate"),
        "concurrency" => count(),
        "paused" => json!({"type": "boolean"}),
        other => head(other, Kind::Queue).unwrap_or_default(),
    }
}

fn webhook() -> Json {
    let secret = json!({"type": "string", "pattern": "^(env|file):.+$"});
    let whole = object(kinds_read::WEBHOOK_KEYS, &["kind", "name"], |key| match key {
        "path" => json!({"type": "string", "pattern": "^/?[A-Za-z0-9_.~-]+(/[A-Za-z0-9_.~-]+)*$"}),
        "scheme" => words(&WebhookScheme::WORDS),
        "secret" => json!({"oneOf": [secret.clone(), {"type": "array", "minItems": 1, "items": secret.clone()}]}),
        "tolerance" => reference("duration"),
        "workflow" | "job" | "queue" => reference("name"),
        "signal" => object(kinds_read::SIGNAL_KEYS, kinds_read::SIGNAL_KEYS, |key| match key {
            "name" => reference("name"),
            _ => reference("text"),
        }),
        "transform" => json!(true),
        "enabled" => json!({"type": "boolean"}),
        other => head(other, Kind::Webhook).unwrap_or_default(),
    });
    one_of(whole, &["job", "workflow", "signal"])
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
