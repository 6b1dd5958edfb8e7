//! Reading a workflow: its own keys, and the lists of steps it begins with. What a step is stands in
//! `step_read`; what the whole must fulfil is in `check`.

use std::time::Duration;

use super::check::{self, ScopeKind, Whereabouts};
use super::definition::Definition;
use super::expr::Template;
use super::manifest::{ID_RULE, is_id, limit, named, retry_of};
use super::read::{Fields, Reader};
use super::spec::{Bounds, Concurrency, Field, FieldType, OnConflict, WorkflowSpec};
use super::step_read::{Around, steps};
use super::yaml::{Node, Value};
use crate::domain::retry::RetryPolicy;

/// Steps of one workflow, at every depth.
const STEPS: usize = 5_000;

pub(super) const KEYS: &[&str] =
    &["apiVersion", "kind", "name", "input", "defaults", "concurrency", "timeout", "steps", "finally", "outputs"];
pub(super) const INPUT_KEYS: &[&str] = &["type", "required", "default", "enum", "minimum", "maximum", "items"];
pub(super) const ITEM_KEYS: &[&str] = &["type"];
pub(super) const DEFAULT_KEYS: &[&str] = &["timeout", "retry"];
pub(super) const CONCURRENCY_KEYS: &[&str] = &["key", "limit", "on_conflict"];

pub fn workflow(reader: &mut Reader<'_>, node: &Node) -> Option<Definition> {
    let was_clean = reader.is_clean();
    let fields = reader.fields(node, "a workflow", KEYS)?;
    let name = named(reader, &fields);
    let input = fields.get("input").map(|node| input(reader, node));
    let defaults = fields.get("defaults").map(|node| defaults(reader, node)).unwrap_or_default();
    let concurrency = fields.get("concurrency").and_then(|node| concurrency(reader, node));
    let timeout = fields.get("timeout").and_then(|node| limit(reader, node));
    let around = Around::new(&defaults);
    let main = match fields.get("steps") {
        Some(node) => {
            let main = steps(reader, node, "`steps`", None, ScopeKind::Main, &around);
            if main.is_empty() && node.value == super::yaml::Value::List(Vec::new()) {
                reader.wrong(node.place, "`steps` is empty: a workflow has at least one step");
            }
            main
        }
        None => {
            reader.wrong_hint(fields.place, "a workflow has no `steps`", "give it a list: `steps: [{id: …, run: …}]`");
            Vec::new()
        }
    };
    let finally = fields.get("finally");
    let finally = finally.map(|node| steps(reader, node, "`finally`", None, ScopeKind::Finally, &around));
    let finally = finally.unwrap_or_default();
    let outputs = reader.within(Whereabouts::Outputs, |reader| {
        fields.get("outputs").map(|node| named_templates(reader, node, "`outputs` of a workflow")).unwrap_or_default()
    });
    let (sites, outline) = (reader.take_sites(), reader.take_outline());
    if outline.drafts.len() > STEPS {
        let message = format!("{} steps are more than the {STEPS} a workflow may have", outline.drafts.len());
        reader.wrong(fields.place_of("steps"), message);
    } else {
        check::graph(reader, &outline, input.as_deref(), &sites);
    }
    let spec = WorkflowSpec { name: name?, input, concurrency, timeout, steps: main, finally, outputs };
    (was_clean && reader.is_clean()).then(|| Definition::new(spec))
}

/// A mapping of names to templates.
pub(super) fn named_templates(reader: &mut Reader<'_>, node: &Node, what: &str) -> Vec<(String, Template)> {
    let entries = reader.entries(node, what).unwrap_or_default();
    for entry in entries.iter().filter(|entry| !is_id(&entry.key)) {
        reader.wrong_hint(entry.place, format!("`{}` cannot be a name in {what}", entry.key), ID_RULE);
    }
    entries.iter().map(|entry| (entry.key.clone(), reader.template(&entry.value))).collect()
}

fn input(reader: &mut Reader<'_>, node: &Node) -> Vec<Field> {
    let mut fields = Vec::new();
    for entry in reader.entries(node, "`input`").unwrap_or_default() {
        if !is_id(&entry.key) {
            reader.wrong_hint(entry.place, format!("`{}` cannot name an input", entry.key), ID_RULE);
        }
        let Some(keys) = reader.fields(&entry.value, "an input", INPUT_KEYS) else { continue };
        let required = keys.get("required").and_then(|node| reader.flag(node, "`required`")).unwrap_or(false);
        let Some(kind) = keys.get("type") else {
            reader.wrong_hint(entry.place, format!("the input `{}` has no `type`", entry.key), "`type: string`");
            continue;
        };
        let Some(kind) = reader.word(kind, "`type`", &FieldType::WORDS) else { continue };
        let default = keys.get("default").map(Node::to_json);
        if let (Some(json), Some(node)) = (&default, keys.get("default"))
            && !kind.fits(json)
        {
            let hint = match (kind, json) {
                (FieldType::String, serde_json::Value::Number(_)) => "write it in quotes",
                _ => "the default must be of the input's type",
            };
            let what = format!("the default of `{}` is {}, not of type {}", entry.key, node.what(), kind.as_str());
            reader.wrong_hint(node.place, what, hint);
        }
        let bounds = bounds(reader, &keys, kind);
        if let (Some(json), Some(node)) = (&default, keys.get("default"))
            && kind.fits(json)
            && let Some(how) = bounds.broken_by(json)
        {
            reader.wrong(node.place, format!("the default of `{}` {how}", entry.key));
        }
        if let (true, Some(node)) = (required, keys.get("default")) {
            let message = format!("the input `{}` is required, so its default is never used", entry.key);
            reader.wrong_hint(node.place, message, "leave out one of the two");
        }
        fields.push(Field { name: entry.key.clone(), kind, required, default, bounds });
    }
    fields
}

/// What an input's values must keep to, each key with the types that it is for.
fn bounds(reader: &mut Reader<'_>, keys: &Fields<'_>, kind: FieldType) -> Bounds {
    let mut bounds = Bounds::default();
    if let Some(node) = keys.get("enum") {
        let items = reader.list(node, "`enum`").unwrap_or_default();
        for item in items.iter().filter(|item| !kind.fits(&item.to_json())) {
            reader.wrong(item.place, format!("{} is not of type {}", item.what(), kind.as_str()));
        }
        if items.is_empty() && matches!(node.value, Value::List(_)) {
            reader.wrong_hint(node.place, "`enum` is empty: no value would do", "leave it out");
        }
        bounds.allowed = items.iter().map(Node::to_json).collect();
    }
    let is_number = matches!(kind, FieldType::Number | FieldType::Integer);
    for (key, bound) in [("minimum", &mut bounds.minimum), ("maximum", &mut bounds.maximum)] {
        match keys.get(key).map(|node| (node, &node.value)) {
            None => {}
            Some(_) if !is_number => misplaced(reader, keys, key, "numbers"),
            Some((_, Value::Number(number))) => *bound = Some(number.clone()),
            Some((node, _)) => reader.wrong(node.place, format!("`{key}` is a number, not {}", node.what())),
        }
    }
    match keys.get("items") {
        None => {}
        Some(_) if kind != FieldType::Array => misplaced(reader, keys, "items", "arrays"),
        Some(node) => {
            let of = reader.fields(node, "`items`", ITEM_KEYS);
            let of = of.as_ref().and_then(|of| of.get("type"));
            bounds.items = of.and_then(|node| reader.word(node, "`type`", &FieldType::WORDS));
            if of.is_none() && matches!(node.value, Value::Map(_)) {
                reader.wrong_hint(node.place, "`items` has no `type`", "`items: {type: string}`");
            }
        }
    }
    bounds
}

fn misplaced(reader: &mut Reader<'_>, keys: &Fields<'_>, key: &str, of: &str) {
    reader.wrong_hint(keys.place_of(key), format!("`{key}` is for {of}"), "leave it out");
}

/// What holds for steps that say nothing.
#[derive(Debug, Default)]
pub struct Defaults {
    pub timeout: Option<Duration>,
    pub retry: RetryPolicy,
}

fn defaults(reader: &mut Reader<'_>, node: &Node) -> Defaults {
    let Some(fields) = reader.fields(node, "`defaults`", DEFAULT_KEYS) else { return Defaults::default() };
    let timeout = fields.get("timeout").and_then(|node| limit(reader, node));
    Defaults { timeout, retry: retry_of(reader, &fields, RetryPolicy::default()) }
}

fn concurrency(reader: &mut Reader<'_>, node: &Node) -> Option<Concurrency> {
    let fields = reader.fields(node, "`concurrency`", CONCURRENCY_KEYS)?;
    let Some(key) = fields.get("key") else {
        reader.wrong_hint(node.place, "`concurrency` has no `key`", "`key: \"${{ input.order_id }}\"`");
        return None;
    };
    let key = reader.within(Whereabouts::Concurrency, |reader| reader.text_template(key, "`key`"));
    let limit = fields.get("limit").and_then(|node| reader.count(node, "`limit`")).unwrap_or(1);
    let on_conflict = fields.get("on_conflict").and_then(|node| reader.word(node, "`on_conflict`", &OnConflict::WORDS));
    Some(Concurrency { key, limit, on_conflict: on_conflict.unwrap_or_default() })
}
