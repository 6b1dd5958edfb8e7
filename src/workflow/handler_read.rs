//! Reading handlers: which keys there are, what each must be, and what stands in for
//! those left out. Knows no files and no kinds of manifests but this one.

use std::time::Duration;

use super::check;
use super::check::Whereabouts;
use super::expr::Template;
use super::handler::{BUILTINS, Batching, HandlerDef, How, PoolSpec};
use super::http_read;
use super::is_reserved;
use super::manifest::{command, env, limit, program, retry_of};
use super::read::{Fields, Reader};
use super::request::has_body;
use super::spec::Outputs;
use super::yaml::{Node, Value};
use crate::domain::limits::HANDLER_BATCH;
use crate::domain::retry::RetryPolicy;
use crate::domain::{Name, Rate};

pub(super) const KEYS: &[&str] = &[
    "apiVersion",
    "kind",
    "name",
    "run",
    "pool",
    "http",
    "builtin",
    "env",
    "outputs",
    "timeout",
    "retry",
    "rate_limit",
    "batch",
];

pub(super) const POOL_KEYS: &[&str] = &["run", "size", "concurrency"];
pub(super) const BATCH_KEYS: &[&str] = &["max", "within"];

/// A handler from the short form of a configuration: the value under its name.
pub(super) fn short(reader: &mut Reader<'_>, node: &Node, name: Name) -> Option<HandlerDef> {
    // Without the three keys of a manifest's head.
    let fields = reader.fields(node, "a handler", &KEYS[3..])?;
    handler(reader, &fields, name)
}

pub(super) fn handler(reader: &mut Reader<'_>, fields: &Fields<'_>, name: Name) -> Option<HandlerDef> {
    if is_reserved(&name) {
        reader.wrong(fields.place, format!("the job type `{name}` is kept for goflow itself"));
    }
    reader.at = Whereabouts::Handler;
    let how = how(reader, fields);
    let timeout = fields.get("timeout").and_then(|node| limit(reader, node));
    let retry = fields.get("retry").map(|_| retry_of(reader, fields, RetryPolicy::default()));
    let rate_limit = fields.get("rate_limit").and_then(|node| rate(reader, node));
    let batch = fields.get("batch").and_then(|node| batch(reader, node));
    let sites = reader.take_sites();
    check::handler(reader, &sites);
    if let (Some(how), true) = (&how, fields.get("batch").is_some()) {
        if let Some(site) = sites.first() {
            let hint = match how {
                How::Http(_) => "leave it out: the jobs are sent as one JSON array",
                _ => "leave it out: the jobs come on standard input as one JSON array",
            };
            reader.wrong_hint(site.node.place, "a batch has many payloads, an expression sees one", hint);
        }
        fits_batch(reader, fields, how);
    }
    let how = how?;
    reader.is_clean().then_some(HandlerDef { name, how, timeout, retry, rate_limit, batch })
}

fn how(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<How> {
    const KINDS: [&str; 4] = ["run", "pool", "http", "builtin"];
    let found: Vec<&str> = KINDS.into_iter().filter(|kind| fields.get(kind).is_some()).collect();
    let kind = match found.as_slice() {
        [] => {
            let hint = "give it a command, `run: [program, argument]`, or `pool`, `http` or `builtin`";
            reader.wrong_hint(fields.place, "a handler says nothing about how its jobs are done", hint);
            return None;
        }
        [kind] => *kind,
        several => {
            let place = several.iter().map(|kind| fields.place_of(kind)).max().unwrap_or(fields.place);
            let message = format!("a handler is of two kinds at once, `{}`", several.join("` and `"));
            reader.wrong_hint(place, message, "each job type has one handler");
            return None;
        }
    };
    if let (Some(entry), "http" | "builtin") = (fields.entry("env"), kind) {
        reader.wrong_hint(entry.place, "`env` is for `run` and `pool`", "nothing is started here that could read it");
    }
    if let (Some(entry), "pool" | "builtin") = (fields.entry("outputs"), kind) {
        reader.wrong_hint(entry.place, "`outputs` is for `run` and `http`", "its results are what it answers");
    }
    let node = fields.get(kind)?;
    match kind {
        "run" => command(reader, fields).map(How::Run),
        "pool" => pool(reader, fields, node).map(How::Pool),
        "http" => {
            let outputs = fields.get("outputs").and_then(|node| http_read::outputs_of(reader, node));
            http_read::http(reader, node, outputs, "POST").map(How::Http)
        }
        _ => {
            let words = BUILTINS.map(|name| (name, name));
            reader.word(node, "`builtin`", &words).map(How::Builtin)
        }
    }
}

fn pool(reader: &mut Reader<'_>, fields: &Fields<'_>, node: &Node) -> Option<PoolSpec> {
    let (run, keys) = match &node.value {
        Value::Map(_) => {
            let keys = reader.fields(node, "`pool`", POOL_KEYS)?;
            let Some(run) = keys.get("run") else {
                reader.wrong_hint(node.place, "`pool` has no `run`", "`pool: {run: [python3, worker.py], size: 4}`");
                return None;
            };
            (run, Some(keys))
        }
        _ => (node, None),
    };
    let mut count = |key: &str, most: i64| {
        let node = keys.as_ref().and_then(|keys| keys.get(key))?;
        reader.whole(node, &format!("`{key}`"), 1, most).and_then(|count| u32::try_from(count).ok())
    };
    let (size, concurrency) = (count("size", 1_000), count("concurrency", 10_000));
    let early = "a pool is started before there is a job, so nothing in it can be an expression";
    let late = "each job comes to it as a line of JSON on standard input";
    let text = program(reader, run)?.as_text();
    if text.is_none() {
        reader.wrong_hint(run.place, early, late);
    }
    let mut variables = Vec::new();
    for (name, value) in fields.get("env").map(|node| env(reader, node)).unwrap_or_default() {
        match value {
            Template::Literal(serde_json::Value::String(value)) => variables.push((name, value)),
            _ => reader.wrong_hint(fields.place_of("env"), early, late),
        }
    }
    Some(PoolSpec { program: text?, env: variables, size, concurrency: concurrency.unwrap_or(1) })
}

fn rate(reader: &mut Reader<'_>, node: &Node) -> Option<Rate> {
    let text = reader.text(node, "`rate_limit`")?;
    match text.parse() {
        Ok(rate) => Some(rate),
        Err(error) => {
            reader.wrong(node.place, format!("`rate_limit`: {error}"));
            None
        }
    }
}

fn batch(reader: &mut Reader<'_>, node: &Node) -> Option<Batching> {
    let keys = reader.fields(node, "`batch`", BATCH_KEYS)?;
    let Some(max) = keys.get("max") else {
        reader.wrong_hint(node.place, "a batch has no `max`", "`batch: {max: 100, within: 500ms}`");
        return None;
    };
    let max = reader.whole(max, "`max`", 2, HANDLER_BATCH as i64).and_then(|max| usize::try_from(max).ok())?;
    let within = keys.get("within").map(|node| (node, reader.duration(node, "`within`")));
    if let Some((node, Some(within))) = within
        && within > LONGEST_WAIT
    {
        reader.wrong(node.place, "`within` is longer than a minute: the jobs wait under a lease meanwhile");
    }
    Some(Batching { max, within: within.and_then(|(_, within)| within).unwrap_or_default() })
}

/// The first job of a batch waits this long at most.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What cannot be said once for many jobs.
fn fits_batch(reader: &mut Reader<'_>, fields: &Fields<'_>, how: &How) {
    let place = fields.place_of("batch");
    match how {
        How::Run(command) if command.outputs.is_some() && command.outputs != Some(Outputs::Json) => {
            let hint = "`outputs: json`: a JSON array with one result for each job, in their order";
            reader.wrong_hint(fields.place_of("outputs"), "a batch has one result for each job", hint);
        }
        How::Http(http) if http.outputs == Some(Outputs::Text) => {
            let hint = "leave it out: a JSON array is read as one result for each job";
            reader.wrong_hint(fields.place_of("outputs"), "a batch has one result for each job", hint);
        }
        How::Http(http) if http.body.is_some() || !has_body(&http.method) => {
            let hint = "leave `json`, `text` and `form` out, and `method` at POST, PUT or PATCH";
            reader.wrong_hint(place, "a batch is sent as the body of the request", hint);
        }
        How::Builtin(_) => reader.wrong(place, "a built-in takes one job at a time"),
        _ => {}
    }
}
