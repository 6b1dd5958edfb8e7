//! Manifest text → the kinds of manifests, and what several of them have in common: commands, their
//! environment and output, limits, retries. All mistakes of a file are told at once. What only the
//! whole graph can tell is `check`'s business.

use std::time::Duration;

use super::definition::Definition;
use super::handler::HandlerDef;
use super::problem::{Place, Problem, Problems, Source};
use super::read::{Fields, Reader};
use super::reference::Reference;
use super::spec::*;
use super::yaml::{self, Dialect, Node, Value};
use super::{handler_read, kinds_read, shell, workflow_read};
use crate::domain::Name;
use crate::domain::retry::RetryPolicy;
use crate::domain::text::count;
use crate::domain::time::{format_duration, millis};

/// What `apiVersion` says where it is written.
pub const API_VERSION: &str = "goflow/v1";
/// The kinds of manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Workflow,
    Handler,
    Schedule,
    Queue,
    Webhook,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Workflow, Kind::Handler, Kind::Schedule, Kind::Queue, Kind::Webhook];

    pub const WORDS: [(&str, Kind); 5] = [
        ("Workflow", Kind::Workflow),
        ("Handler", Kind::Handler),
        ("Schedule", Kind::Schedule),
        ("Queue", Kind::Queue),
        ("Webhook", Kind::Webhook),
    ];

    /// As `kind:` says it.
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }

    /// As stores and messages say it.
    pub fn stored(self) -> &'static str {
        match self {
            Kind::Workflow => "workflow",
            Kind::Handler => "handler",
            Kind::Schedule => "schedule",
            Kind::Queue => "queue",
            Kind::Webhook => "webhook",
        }
    }
}

/// A document that was read and checked.
#[derive(Clone, Debug)]
pub enum Manifest {
    Workflow(Definition),
    Handler(HandlerDef),
    Schedule(ScheduleSpec),
    Queue(QueueSpec),
    Webhook(WebhookSpec),
}

impl Manifest {
    pub fn name(&self) -> &Name {
        match self {
            Manifest::Workflow(definition) => definition.name(),
            Manifest::Handler(handler) => &handler.name,
            Manifest::Schedule(schedule) => &schedule.name,
            Manifest::Queue(queue) => &queue.name,
            Manifest::Webhook(webhook) => &webhook.name,
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Manifest::Workflow(_) => Kind::Workflow,
            Manifest::Handler(_) => Kind::Handler,
            Manifest::Schedule(_) => Kind::Schedule,
            Manifest::Queue(_) => Kind::Queue,
            Manifest::Webhook(_) => Kind::Webhook,
        }
    }

    /// The workflow of a name among manifests.
    pub fn workflow_among<'a>(manifests: &'a [Manifest], name: &Name) -> Option<&'a Definition> {
        manifests.iter().find_map(|one| match one {
            Manifest::Workflow(definition) if definition.name() == name => Some(definition),
            _ => None,
        })
    }

    /// The canonical form, as a store keeps it: JSON, and a manifest too.
    pub fn text(&self) -> String {
        match self {
            Manifest::Workflow(definition) => definition.text().to_owned(),
            Manifest::Handler(handler) => handler.canonical().to_string(),
            Manifest::Schedule(schedule) => schedule.canonical().to_string(),
            Manifest::Queue(queue) => queue.canonical().to_string(),
            Manifest::Webhook(webhook) => webhook.canonical().to_string(),
        }
    }

    /// In a few words what it says, for lists.
    pub fn summary(&self) -> String {
        match self {
            Manifest::Workflow(definition) => count(definition.spec().all_steps().len() as u64, "step"),
            Manifest::Handler(handler) => handler.summary(),
            Manifest::Schedule(schedule) => schedule.summary(),
            Manifest::Queue(queue) => queue.summary(),
            Manifest::Webhook(webhook) => webhook.summary(),
        }
    }

    /// The definitions that it starts or calls.
    pub fn uses(&self) -> Vec<(Kind, Name)> {
        let workflow = |name: &Name| (Kind::Workflow, name.clone());
        match self {
            Manifest::Workflow(definition) => {
                let called = definition.spec().all_steps().into_iter().filter_map(|step| match &step.verb {
                    Verb::Call { workflow, .. } => Some(workflow),
                    _ => None,
                });
                called.map(workflow).collect()
            }
            Manifest::Schedule(ScheduleSpec { target: ScheduleTarget::Workflow(name), .. })
            | Manifest::Webhook(WebhookSpec { target: WebhookTarget::Workflow(name), .. }) => vec![workflow(name)],
            _ => Vec::new(),
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

/// What a text says.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    pub manifests: Vec<Manifest>,
    pub references: Vec<Reference>,
    /// What is not wrong, and may not have been meant.
    pub remarks: Vec<Problem>,
}

/// Reads every document of a text; `file` is only for messages.
///
/// # Errors
/// All mistakes of the text, by place. Nothing is returned when one document is wrong.
pub fn parse(file: &str, text: &str) -> Result<Vec<Manifest>, Problems> {
    parse_whole(file, text).map(|parsed| parsed.manifests)
}

/// As [`parse`], with what a text refers to and what is to be said about it.
///
/// # Errors
/// As [`parse`].
pub fn parse_whole(file: &str, text: &str) -> Result<Parsed, Problems> {
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
            reader.wrong(node.place, format!("the {} `{}` stands twice", manifest.kind().as_str(), manifest.name()));
        }
        manifests.push(manifest);
    }
    let (remarks, references) = reader.take_rest();
    reader.finish(Parsed { manifests, references, remarks })
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
    let kind = match of("kind") {
        Some(kind) => reader.word(kind, "`kind`", &Kind::WORDS)?,
        None => Kind::Workflow,
    };
    match kind {
        Kind::Workflow => workflow_read::workflow(reader, node).map(Manifest::Workflow),
        Kind::Schedule => kinds_read::schedule(reader, node).map(Manifest::Schedule),
        Kind::Queue => kinds_read::queue(reader, node).map(Manifest::Queue),
        Kind::Webhook => kinds_read::webhook(reader, node).map(Manifest::Webhook),
        Kind::Handler => {
            let fields = reader.fields(node, "a handler", handler_read::KEYS)?;
            let name = named(reader, &fields);
            handler_read::handler(reader, &fields, name?).map(Manifest::Handler)
        }
    }
}

pub(super) fn named(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Name> {
    match fields.get("name") {
        Some(node) => reader.name(node, "`name`"),
        None => {
            reader.wrong_hint(fields.place, "`name` is missing", "add `name: …` at the top");
            None
        }
    }
}

/// A time limit: a duration that is longer than none.
pub(super) fn limit(reader: &mut Reader<'_>, node: &Node) -> Option<Duration> {
    limit_of(reader, node, "`timeout`")
}

/// As [`limit`], under another name.
pub(super) fn limit_of(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Duration> {
    let duration = reader.duration(node, what)?;
    if duration.is_zero() {
        reader.wrong_hint(node.place, format!("{what} is zero"), "leave it out for no limit");
        return None;
    }
    Some(duration)
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

pub(super) const RETRY_KEYS: &[&str] = &["max", "backoff", "initial", "max_delay", "jitter", "errors"];

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
    if policy.initial_ms > policy.max_delay_ms {
        let node = keys.get("initial").or(keys.get("max_delay")).unwrap_or(node);
        let (first, most) = (Duration::from_millis(policy.initial_ms), Duration::from_millis(policy.max_delay_ms));
        let message = format!("the first delay, {}, is longer than the longest", format_duration(first));
        reader.wrong_hint(node.place, message, format!("`max_delay` is {}", format_duration(most)));
    }
    if let Some(node) = keys.get("errors") {
        if let Value::Text(class) = &node.value {
            reader.wrong_hint(node.place, "`errors` is a list, not a string", format!("write `errors: [{class}]`"));
            return policy;
        }
        let items = reader.list(node, "`errors`").unwrap_or_default();
        policy.errors = items.iter().filter_map(|item| error_class(reader, item)).collect();
    }
    policy
}

/// A class such as `timeout`, `exit:1` or `http:5xx`.
fn error_class(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let class = reader.text(node, "an error class")?;
    let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if class.len() == 3 && class.bytes().all(|b| b.is_ascii_digit() || b == b'x') {
        reader.wrong_hint(node.place, format!("`{class}` is not an error class"), format!("write \"http:{class}\""));
    } else if !class.split(':').all(word) || class.starts_with(|c: char| c.is_ascii_digit()) {
        let hint = "a class is a word, or words joined by colons: timeout, exit:1, \"http:5xx\"";
        reader.wrong_hint(node.place, format!("`{class}` is not an error class"), hint);
    } else if let Some(hint) = never_matches(&class) {
        reader.remark(node.place, format!("no error is of the class `{class}`: {hint}"));
    }
    Some(class)
}

/// Why there is no such status or exit code. Handlers may have words of their own behind the colon.
fn never_matches(class: &str) -> Option<&'static str> {
    let (kind, number) = class.split_once(':')?;
    if !number.bytes().all(|b| b.is_ascii_digit() || b == b'x') {
        return None;
    }
    let status = number.len() == 3 && matches!(number.as_bytes()[0], b'1'..=b'5' | b'x');
    let code = number.parse().map_or(number.len() <= 3, |code: u32| (1..=255).contains(&code));
    match kind {
        "http" if !status => Some("a status is 100 to 599: \"http:503\", \"http:5xx\""),
        "exit" if !code => Some("a code is 1 to 255: \"exit:1\", \"exit:7x\""),
        _ => None,
    }
}

pub(super) const ID_RULE: &str = "letters, digits, _ and - are allowed, a letter first";

/// `[A-Za-z][A-Za-z0-9_-]*`, at most 128 long.
pub(super) fn is_id(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn is_variable(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
