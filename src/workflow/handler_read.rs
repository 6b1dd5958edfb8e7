//! Reading handlers and HTTP calls: which keys there are, what each must be, and what stands in for
//! those left out. Knows no files and no kinds of manifests but this one.

use std::time::Duration;

use super::check;
use super::expr::Template;
use super::handler::{BUILTINS, Batching, HandlerDef, How, PoolSpec};
use super::http::{BodySpec, HttpSpec, Method};
use super::is_reserved;
use super::manifest::{command, env, limit, outputs, program, retry_of};
use super::read::{Fields, Reader, Whereabouts};
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
    "concurrency",
    "batch",
];

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
    let concurrency = fields.get("concurrency").and_then(|node| reader.whole(node, "`concurrency`", 1, 1_000_000));
    let concurrency = concurrency.and_then(|most| u32::try_from(most).ok());
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
    reader.is_clean().then_some(HandlerDef { name, how, timeout, retry, rate_limit, concurrency, batch })
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
            let outputs = fields.get("outputs").and_then(|node| outputs_of_http(reader, node));
            http(reader, node, outputs, BodySpec::Job).map(How::Http)
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
            let keys = reader.fields(node, "`pool`", &["run", "size", "concurrency"])?;
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

/// `http`, of a handler or a step. `usual` is the body of one that says nothing, where its method has one.
pub(super) fn http(
    reader: &mut Reader<'_>,
    node: &Node,
    outputs: Option<Outputs>,
    usual: BodySpec,
) -> Option<HttpSpec> {
    let keys = reader.fields(node, "`http`", &["method", "url", "headers", "json", "body", "allow_hosts"])?;
    if let (Some(_), Some(second)) = (keys.get("json"), keys.entry("body")) {
        reader.wrong(second.place, "a request has `json` or `body`, not both");
    }
    let json = keys.get("json").map(|node| BodySpec::Json(reader.template(node)));
    let body = json.or_else(|| keys.get("body").map(|node| BodySpec::Text(reader.text_template(node, "`body`"))));
    let method = match keys.get("method") {
        Some(node) => reader.word(node, "`method`", &Method::WORDS)?,
        None if body.is_none() && usual == BodySpec::None => Method::Get,
        None => Method::Post,
    };
    if let (Some(_), Method::Get | Method::Head) = (&body, method) {
        reader.wrong(node.place, format!("a {} request has no body", method.as_str()));
    }
    let body = body.unwrap_or(if method.has_body() { usual } else { BodySpec::None });
    let Some(url) = keys.get("url") else {
        reader.wrong_hint(node.place, "`http` has no `url`", "`http: {url: https://example.com/hook}`");
        return None;
    };
    let address = url;
    let url = reader.text_template(address, "`url`");
    if let Some(start) = beginning(&url)
        && !["http://", "https://"].iter().any(|scheme| start.to_ascii_lowercase().starts_with(scheme))
    {
        reader.wrong(address.place, "`url` begins with http:// or https://");
    }
    let headers = keys.get("headers").map(|node| headers(reader, node)).unwrap_or_default();
    let allow_hosts = keys.get("allow_hosts").map(|node| hosts(reader, node)).unwrap_or_default();
    Some(HttpSpec { method, url, headers, body, allow_hosts, outputs })
}

/// The text that a template begins with, as far as it is written out.
fn beginning(template: &Template) -> Option<String> {
    match template {
        Template::Literal(serde_json::Value::String(text)) => Some(text.clone()),
        Template::Text(parts) => match parts.first() {
            Some(super::expr::Part::Text(text)) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn headers(reader: &mut Reader<'_>, node: &Node) -> Vec<(String, Template)> {
    /// What the connection itself is steered by.
    const OWN: [&str; 5] = ["host", "content-length", "transfer-encoding", "connection", "expect"];
    let mut headers: Vec<(String, Template)> = Vec::new();
    for entry in reader.entries(node, "`headers`").unwrap_or_default() {
        let name = entry.key.to_ascii_lowercase();
        // A token of RFC 9110, section 5.6.2.
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            reader.wrong(entry.place, format!("`{}` cannot name a header", entry.key));
        } else if OWN.contains(&name.as_str()) {
            reader.wrong(entry.place, format!("the header `{}` is set by goflow", entry.key));
        } else if headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(&name)) {
            reader.wrong(entry.place, format!("the header `{}` stands twice", entry.key));
        }
        let what = format!("the header `{}`", entry.key);
        headers.push((entry.key.clone(), reader.text_template(&entry.value, &what)));
    }
    headers
}

fn hosts(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let mut hosts = Vec::new();
    for item in reader.list(node, "`allow_hosts`").unwrap_or_default() {
        let Some(host) = reader.text(item, "a host") else { continue };
        let name = host.strip_prefix("*.").unwrap_or(&host);
        let fits = |c: char| c.is_alphanumeric() || "-._:[]".contains(c);
        if name.is_empty() || !name.chars().all(fits) {
            let hint = "write pay.internal, *.internal or 10.0.0.7: no scheme, no path";
            reader.wrong_hint(item.place, format!("`{host}` is not a host"), hint);
        }
        hosts.push(host.to_ascii_lowercase());
    }
    hosts
}

pub(super) fn outputs_of_http(reader: &mut Reader<'_>, node: &Node) -> Option<Outputs> {
    let found = outputs(reader, node)?;
    if let Outputs::Names(_) = found {
        let hint = "what it answers is one value: name its parts where they are used";
        reader.wrong_hint(node.place, "`outputs` of an HTTP call is `text` or `json`", hint);
        return None;
    }
    Some(found)
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
    let keys = reader.fields(node, "`batch`", &["max", "within"])?;
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
        How::Http(http) if http.body != BodySpec::Job => {
            let hint = "leave `json` and `body` out, and `method` at POST, PUT or PATCH";
            reader.wrong_hint(place, "a batch is sent as the body of the request", hint);
        }
        How::Builtin(_) => reader.wrong(place, "a built-in takes one job at a time"),
        _ => {}
    }
}
