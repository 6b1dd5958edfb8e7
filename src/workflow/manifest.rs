//! Manifest text → workflows and handlers: which keys there are, what each must be, and what stands
//! in for those left out. All mistakes of a file are told at once. What only the whole graph can
//! tell is `check`'s business.

use std::time::Duration;

use super::check::{self, Draft};
use super::definition::Definition;
use super::handler::HandlerDef;
use super::problem::{Place, Problem, Problems, Source};
use super::read::{Fields, Reader, Whereabouts};
use super::spec::*;
use super::yaml::{self, Dialect, Node, Value};
use super::{handler_read, is_reserved, shell};
use crate::domain::Name;
use crate::domain::limits::PRIORITY;
use crate::domain::retry::RetryPolicy;
use crate::domain::time::millis;

/// What `apiVersion` says where it is written.
pub const API_VERSION: &str = "goflow/v1";
/// Steps of one workflow.
const STEPS: usize = 5_000;

/// A document that was read and checked.
#[derive(Clone, Debug)]
pub enum Manifest {
    Workflow(Definition),
    Handler(HandlerDef),
}

impl Manifest {
    pub fn name(&self) -> &Name {
        match self {
            Manifest::Workflow(definition) => definition.name(),
            Manifest::Handler(handler) => &handler.name,
        }
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Manifest::Workflow(_) => "Workflow",
            Manifest::Handler(_) => "Handler",
        }
    }

    /// The canonical form, as a store keeps it: JSON, and a manifest too.
    pub fn text(&self) -> String {
        match self {
            Manifest::Workflow(definition) => definition.text().to_owned(),
            Manifest::Handler(handler) => handler.canonical().to_string(),
        }
    }

    /// Loads what [`Manifest::text`] gave. A workflow is loaded by [`Definition::load`] to keep its hash.
    ///
    /// # Errors
    /// Text that is not JSON, or is not a manifest of this version.
    pub fn load(text: &str) -> Result<Manifest, Problems> {
        let source = Source { file: "stored definition", text: "" };
        let wrong = |message: String| Problems(vec![Problem::new(source, Place::default(), message, None)]);
        let json = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let mut reader = Reader::new(source);
        let manifest = document(&mut reader, &Node::from_json(&json));
        reader.finish(manifest)?.ok_or_else(|| wrong("it is not a manifest".to_owned()))
    }
}

/// Reads every document of a text; `file` is only for messages.
///
/// # Errors
/// All mistakes of the text, by place. Nothing is returned when one document is wrong.
pub fn parse(file: &str, text: &str) -> Result<Vec<Manifest>, Problems> {
    let source = Source { file, text };
    let nodes = yaml::parse(source, Dialect::Manifest).map_err(|problem| Problems(vec![problem]))?;
    if nodes.is_empty() {
        let hint = "a manifest has at least a name and steps".to_owned();
        let place = Place { line: 1, column: 1, len: 1 };
        return Err(Problems(vec![Problem::new(source, place, "the file is empty", Some(hint))]));
    }
    let mut reader = Reader::new(source);
    let mut manifests: Vec<Manifest> = Vec::with_capacity(nodes.len());
    for node in &nodes {
        let Some(manifest) = document(&mut reader, node) else { continue };
        if manifests.iter().any(|other| other.kind() == manifest.kind() && other.name() == manifest.name()) {
            reader.wrong(node.place, format!("the {} `{}` stands twice", manifest.kind(), manifest.name()));
        }
        manifests.push(manifest);
    }
    reader.finish(manifests)
}

/// One document; `None` when something in it is wrong and has been told.
fn document(reader: &mut Reader<'_>, node: &Node) -> Option<Manifest> {
    let Value::Map(entries) = &node.value else {
        let hint = "a manifest begins with `name:`";
        reader.wrong_hint(node.place, format!("a manifest is a mapping, not {}", node.what()), hint);
        return None;
    };
    let of = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
    if let Some(version) = of("apiVersion") {
        reader.word(version, "`apiVersion`", &[(API_VERSION, ())]);
    }
    let workflow = match of("kind") {
        Some(kind) => reader.word(kind, "`kind`", &[("Workflow", true), ("Handler", false)])?,
        None => true,
    };
    if workflow {
        return workflow_of(reader, node).map(Manifest::Workflow);
    }
    let fields = reader.fields(node, "a handler", handler_read::KEYS)?;
    let name = named(reader, &fields);
    handler_read::handler(reader, &fields, name?).map(Manifest::Handler)
}

const WORKFLOW_KEYS: &[&str] = &["apiVersion", "kind", "name", "input", "defaults", "timeout", "steps", "outputs"];

fn workflow_of(reader: &mut Reader<'_>, node: &Node) -> Option<Definition> {
    let was_clean = reader.is_clean();
    let fields = reader.fields(node, "a workflow", WORKFLOW_KEYS)?;
    let name = named(reader, &fields);
    let input = fields.get("input").map(|node| input(reader, node));
    let defaults = fields.get("defaults").map(|node| defaults(reader, node)).unwrap_or_default();
    let timeout = fields.get("timeout").and_then(|node| limit(reader, node));
    let drafts = match fields.get("steps") {
        Some(node) => steps(reader, node, &defaults),
        None => {
            reader.wrong_hint(fields.place, "a workflow has no `steps`", "give it a list: `steps: [{id: …, run: …}]`");
            Vec::new()
        }
    };
    reader.at = Whereabouts::Outputs;
    let outputs = fields.get("outputs").map(|node| outputs_map(reader, node)).unwrap_or_default();
    let sites = reader.take_sites();
    check::graph(reader, &drafts, input.as_deref(), &sites);
    let steps = drafts.into_iter().map(|draft| draft.spec).collect();
    let spec = WorkflowSpec { name: name?, input, concurrency: None, timeout, steps, finally: Vec::new(), outputs };
    (was_clean && reader.is_clean()).then(|| Definition::new(spec))
}

fn named(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Name> {
    match fields.get("name") {
        Some(node) => reader.name(node, "`name`"),
        None => {
            reader.wrong_hint(fields.place, "`name` is missing", "add `name: …` at the top");
            None
        }
    }
}

fn outputs_map(reader: &mut Reader<'_>, node: &Node) -> Vec<(String, super::expr::Template)> {
    let entries = reader.entries(node, "`outputs` of a workflow").unwrap_or_default();
    entries.iter().map(|entry| (entry.key.clone(), reader.template(&entry.value))).collect()
}

fn input(reader: &mut Reader<'_>, node: &Node) -> Vec<Field> {
    let mut fields = Vec::new();
    for entry in reader.entries(node, "`input`").unwrap_or_default() {
        if !is_id(&entry.key) {
            reader.wrong_hint(entry.place, format!("`{}` cannot name an input", entry.key), ID_RULE);
        }
        let Some(keys) = reader.fields(&entry.value, "an input", &["type", "required", "default"]) else { continue };
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
        fields.push(Field { name: entry.key.clone(), kind, required, default });
    }
    fields
}

#[derive(Default)]
struct Defaults {
    timeout: Option<Duration>,
    retry: RetryPolicy,
}

fn defaults(reader: &mut Reader<'_>, node: &Node) -> Defaults {
    let Some(fields) = reader.fields(node, "`defaults`", &["timeout", "retry"]) else { return Defaults::default() };
    let timeout = fields.get("timeout").and_then(|node| limit(reader, node));
    Defaults { timeout, retry: retry_of(reader, &fields, RetryPolicy::default()) }
}

/// A time limit: a duration that is longer than none.
pub(super) fn limit(reader: &mut Reader<'_>, node: &Node) -> Option<Duration> {
    let duration = reader.duration(node, "`timeout`")?;
    if duration.is_zero() {
        reader.wrong_hint(node.place, "`timeout` is zero", "leave it out for no limit");
        return None;
    }
    Some(duration)
}

const STEP_KEYS: &[&str] = &[
    "id",
    "run",
    "job",
    "with",
    "needs",
    "if",
    "retry",
    "timeout",
    "compensate",
    "env",
    "outputs",
    "queue",
    "priority",
    "continue_on_error",
];

fn steps(reader: &mut Reader<'_>, node: &Node, defaults: &Defaults) -> Vec<Draft> {
    let Some(items) = reader.list(node, "`steps`") else { return Vec::new() };
    if items.is_empty() {
        reader.wrong(node.place, "`steps` is empty: a workflow has at least one step");
    }
    if items.len() > STEPS {
        reader.wrong(node.place, format!("{} steps are more than the {STEPS} a workflow may have", items.len()));
        return Vec::new();
    }
    items.iter().enumerate().filter_map(|(nth, item)| step(reader, nth, item, defaults)).collect()
}

fn step(reader: &mut Reader<'_>, nth: usize, node: &Node, defaults: &Defaults) -> Option<Draft> {
    let fields = reader.fields(node, "a step", STEP_KEYS)?;
    let id_place = fields.get("id").map_or(node.place, |node| node.place);
    let id = match fields.get("id") {
        Some(node) => reader.text(node, "`id`"),
        None => {
            reader.wrong_hint(node.place, "a step has no `id`", "give it one: `id: …`");
            None
        }
    };
    if let Some(id) = id.as_ref().filter(|id| !is_id(id)) {
        reader.wrong_hint(id_place, format!("`{id}` cannot be the id of a step"), ID_RULE);
    }
    let id = id.unwrap_or_default();
    let (needs, needs_places) = needs(reader, &fields).into_iter().unzip();
    reader.at = Whereabouts::Step(nth);
    let condition = fields.get("if").and_then(|node| reader.expr(node, "`if`"));
    let verb = verb(reader, &fields, "step");
    let retry = retry_of(reader, &fields, defaults.retry.clone());
    let timeout = fields.get("timeout").and_then(|node| limit(reader, node)).or(defaults.timeout);
    let queue = fields.get("queue").and_then(|node| reader.name(node, "`queue`"));
    let most = i64::from(PRIORITY);
    let priority = fields.get("priority").and_then(|node| reader.whole(node, "`priority`", -most, most)).unwrap_or(0);
    let continue_on_error =
        fields.get("continue_on_error").and_then(|node| reader.flag(node, "`continue_on_error`")).unwrap_or(false);
    reader.at = Whereabouts::Undo(nth);
    let compensate = fields.get("compensate").and_then(|node| compensate(reader, node, defaults));
    // A step without a readable verb stays in the graph, so that the others are checked in full.
    let verb = verb.unwrap_or_else(|| {
        Verb::Run(CommandSpec { program: ProgramSpec::Shell(String::new()), env: Vec::new(), outputs: None })
    });
    let priority = i8::try_from(priority).unwrap_or(0);
    let spec = StepSpec {
        id,
        verb,
        needs,
        join: Quorum::All,
        rest: Rest::Cancel,
        condition,
        foreach: None,
        repeat: None,
        retry,
        timeout,
        deadline: None,
        compensate,
        queue,
        priority,
        continue_on_error,
    };
    Some(Draft { spec, nth, place: id_place, needs_places, needs_place: fields.place_of("needs") })
}

fn needs(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Vec<(String, Place)> {
    let Some(node) = fields.get("needs") else { return Vec::new() };
    if let Value::Text(id) = &node.value {
        reader.wrong_hint(node.place, "`needs` is a list, not a string", format!("write `needs: [{id}]`"));
        return vec![(id.clone(), node.place)];
    }
    let mut needs: Vec<(String, Place)> = Vec::new();
    for item in reader.list(node, "`needs`").unwrap_or_default() {
        let Some(id) = reader.text(item, "an item of `needs`") else { continue };
        if needs.iter().any(|(other, _)| *other == id) {
            reader.wrong(item.place, format!("`{id}` stands twice in `needs`"));
        } else {
            needs.push((id, item.place));
        }
    }
    needs
}

const COMPENSATE_KEYS: &[&str] = &["scope", "run", "job", "with", "env", "outputs", "retry", "timeout"];

fn compensate(reader: &mut Reader<'_>, node: &Node, defaults: &Defaults) -> Option<Compensate> {
    let fields = reader.fields(node, "`compensate`", COMPENSATE_KEYS)?;
    let scope = fields.get("scope").and_then(|node| reader.word(node, "`scope`", &CompensateScope::WORDS));
    let retry = retry_of(reader, &fields, patient());
    let timeout = fields.get("timeout").and_then(|node| limit(reader, node)).or(defaults.timeout);
    let verb = verb(reader, &fields, "compensation")?;
    Some(Compensate { scope: scope.unwrap_or(CompensateScope::Completed), verb, retry, timeout })
}

const VERBS: &[&str] = &["run", "job"];

/// The one verb of a step or a compensation.
fn verb(reader: &mut Reader<'_>, fields: &Fields<'_>, whose: &str) -> Option<Verb> {
    let found: Vec<&str> = VERBS.iter().copied().filter(|verb| fields.get(verb).is_some()).collect();
    match found.as_slice() {
        [] => {
            reader.wrong_hint(fields.place, format!("this {whose} has no verb"), "give it `run` or `job`");
            None
        }
        ["run"] => {
            if fields.get("with").is_some() {
                let hint = "a command takes its data by `env:` or as arguments";
                reader.wrong_hint(fields.place_of("with"), "`with` is for `job`", hint);
            }
            command(reader, fields).map(Verb::Run)
        }
        ["job"] => {
            if fields.get("env").is_some() {
                let hint = "a handler has an environment of its own: give the job its data in `with:`";
                reader.wrong_hint(fields.place_of("env"), "`env` is for `run`", hint);
            }
            let outputs = fields.get("outputs").and_then(|node| outputs(reader, node));
            let with = fields.get("with").map(|node| reader.template(node));
            let node = fields.get("job")?;
            let kind = reader.name(node, "`job`")?;
            if is_reserved(&kind) {
                reader.wrong(node.place, format!("the job type `{kind}` is kept for goflow itself"));
            }
            Some(Verb::Job { kind, with, outputs })
        }
        several => {
            let place = several.iter().map(|verb| fields.place_of(verb)).max().unwrap_or(fields.place);
            let names = several.join("` and `");
            reader.wrong_hint(place, format!("this {whose} has two verbs, `{names}`"), "split it in two");
            None
        }
    }
}

/// `run`, with the `env` and `outputs` beside it.
pub(super) fn command(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<CommandSpec> {
    let program = fields.get("run").and_then(|node| program(reader, node));
    let env = fields.get("env").map(|node| env(reader, node)).unwrap_or_default();
    let outputs = fields.get("outputs").and_then(|node| outputs(reader, node));
    Some(CommandSpec { program: program?, env, outputs })
}

pub(super) fn program(reader: &mut Reader<'_>, node: &Node) -> Option<ProgramSpec> {
    match &node.value {
        Value::Text(line) => {
            if line.trim().is_empty() {
                reader.wrong(node.place, "`run` is empty");
            }
            shell::check_line(reader, node, line);
            Some(ProgramSpec::Shell(line.clone()))
        }
        Value::List(items) if items.is_empty() => {
            reader.wrong(node.place, "`run` is empty: its first item is the program");
            None
        }
        Value::List(items) => {
            let argv: Vec<_> = items.iter().map(|item| reader.text_template(item, "an argument")).collect();
            shell::check_argv(reader, items, &argv);
            Some(ProgramSpec::Argv(argv))
        }
        _ => {
            let hint = "write `run: [program, argument]`, or a line for the shell";
            reader.wrong_hint(node.place, format!("`run` is a list or a string, not {}", node.what()), hint);
            None
        }
    }
}

pub(super) fn env(reader: &mut Reader<'_>, node: &Node) -> Vec<(String, super::expr::Template)> {
    let mut variables = Vec::new();
    for entry in reader.entries(node, "`env`").unwrap_or_default() {
        if !is_variable(&entry.key) {
            let hint = "letters, digits and _ are allowed, no digit first";
            reader.wrong_hint(entry.place, format!("`{}` cannot name a variable", entry.key), hint);
        } else if entry.key.starts_with("GOFLOW_") {
            reader.wrong(entry.place, format!("`{}`: names that begin with GOFLOW_ are set by goflow", entry.key));
        }
        let what = format!("the variable `{}`", entry.key);
        variables.push((entry.key.clone(), reader.text_template(&entry.value, &what)));
    }
    variables
}

pub(super) fn outputs(reader: &mut Reader<'_>, node: &Node) -> Option<Outputs> {
    if let Value::List(items) = &node.value {
        let mut names = Vec::with_capacity(items.len());
        for item in items {
            let name = reader.text(item, "a name in `outputs`")?;
            if !is_id(&name) {
                reader.wrong_hint(item.place, format!("`{name}` cannot name an output"), ID_RULE);
            } else if names.contains(&name) {
                reader.wrong(item.place, format!("`{name}` stands twice in `outputs`"));
            }
            names.push(name);
        }
        return Some(Outputs::Names(names));
    }
    if matches!(node.value, Value::Map(_)) {
        let hint = "write text, json, or the list of names that the command writes to $GOFLOW_OUTPUT";
        reader.wrong_hint(node.place, "`outputs` of a step is not a mapping", hint);
        return None;
    }
    let text = reader.word(node, "`outputs`", &[("text", true), ("json", false)])?;
    Some(if text { Outputs::Text } else { Outputs::Json })
}

const RETRY_KEYS: &[&str] = &["max", "backoff", "initial", "max_delay", "jitter", "errors"];

/// `retry`, over what holds without it.
pub(super) fn retry_of(reader: &mut Reader<'_>, fields: &Fields<'_>, mut policy: RetryPolicy) -> RetryPolicy {
    let Some(node) = fields.get("retry") else { return policy };
    let Some(keys) = reader.fields(node, "`retry`", RETRY_KEYS) else { return policy };
    if let Some(max) = keys.get("max").and_then(|node| reader.whole(node, "`max`", 0, 10_000)) {
        policy.max = u32::try_from(max).unwrap_or(u32::MAX);
    }
    if let Some(backoff) = keys.get("backoff").and_then(|node| reader.word(node, "`backoff`", &BACKOFFS)) {
        policy.backoff = backoff;
    }
    if let Some(initial) = keys.get("initial").and_then(|node| reader.duration(node, "`initial`")) {
        policy.initial_ms = millis(initial) as u64;
    }
    if let Some(longest) = keys.get("max_delay").and_then(|node| reader.duration(node, "`max_delay`")) {
        policy.max_delay_ms = millis(longest) as u64;
    }
    if let Some(jitter) = keys.get("jitter").and_then(|node| reader.share(node, "`jitter`")) {
        policy.jitter = jitter;
    }
    if let Some(node) = keys.get("errors") {
        let items = reader.list(node, "`errors`").unwrap_or_default();
        policy.errors = items.iter().filter_map(|item| reader.text(item, "an error class")).collect();
    }
    policy
}

const ID_RULE: &str = "letters, digits, _ and - are allowed, a letter first";

/// `[A-Za-z][A-Za-z0-9_-]*`, at most 128 long.
fn is_id(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn is_variable(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
