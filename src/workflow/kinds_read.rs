//! Reading the kinds beside Workflow and Handler: Schedule, Queue, Webhook.

use std::time::Duration;

use super::check::{self, Whereabouts};
use super::expr::Template;
use super::manifest::{Kind, limit_of, named};
use super::read::{Fields, Reader};
use super::reference::{given, refer};
use super::spec::*;
use super::yaml::{Node, Value};
use super::{is_reserved, spec};
use crate::domain::schedule::{Rule, Zone};
use crate::domain::signature::TOLERANCE;
use crate::domain::time::format_duration;
use crate::domain::{Name, Rate};

pub(super) const SCHEDULE_KEYS: &[&str] = &[
    "apiVersion",
    "kind",
    "name",
    "cron",
    "every",
    "timezone",
    "workflow",
    "job",
    "queue",
    "input",
    "overlap",
    "catchup",
];
pub(super) const QUEUE_KEYS: &[&str] = &["apiVersion", "kind", "name", "weight", "rate_limit", "concurrency", "paused"];
pub(super) const WEBHOOK_KEYS: &[&str] = &[
    "apiVersion",
    "kind",
    "name",
    "path",
    "scheme",
    "secret",
    "tolerance",
    "job",
    "queue",
    "workflow",
    "signal",
    "transform",
    "enabled",
];
pub(super) const SIGNAL_KEYS: &[&str] = &["name", "run"];

pub fn schedule(reader: &mut Reader<'_>, node: &Node) -> Option<ScheduleSpec> {
    let fields = reader.fields(node, "a schedule", SCHEDULE_KEYS)?;
    let name = named(reader, &fields);
    let zone = fields.get("timezone").and_then(|node| zone(reader, node)).unwrap_or_else(Zone::utc);
    let rule = rule(reader, &fields, &zone);
    let input = fields.get("input").map(|node| literal(reader, node)).unwrap_or_default();
    let target = one_of(reader, &fields, "a schedule", "starts", &["workflow", "job"]);
    let target = target.and_then(|key| match key {
        "workflow" => {
            no_queue(reader, &fields);
            workflow_target(reader, &fields, Some(&input)).map(ScheduleTarget::Workflow)
        }
        _ => job_target(reader, &fields).map(|(kind, queue)| ScheduleTarget::Job { kind, queue }),
    });
    let overlap = fields.get("overlap").and_then(|node| reader.word(node, "`overlap`", &Overlap::WORDS));
    let catchup = fields.get("catchup").and_then(|node| reader.word(node, "`catchup`", &Catchup::WORDS));
    let timezone = zone.name().to_owned();
    let (overlap, catchup) = (overlap.unwrap_or_default(), catchup.unwrap_or_default());
    Some(ScheduleSpec { name: name?, rule: rule?, timezone, target: target?, input, overlap, catchup })
}

fn zone(reader: &mut Reader<'_>, node: &Node) -> Option<Zone> {
    let text = reader.text(node, "`timezone`")?;
    match Zone::parse(&text) {
        Ok(zone) => Some(zone),
        Err(error) => {
            reader.wrong(node.place, error.to_string());
            None
        }
    }
}

fn rule(reader: &mut Reader<'_>, fields: &Fields<'_>, zone: &Zone) -> Option<ScheduleRule> {
    match one_of(reader, fields, "a schedule", "is timed by", &["cron", "every"])? {
        "cron" => {
            let node = fields.get("cron")?;
            let text = reader.text(node, "`cron`")?;
            match Rule::parse(&text, zone) {
                Ok(rule) => {
                    rule.remarks().iter().for_each(|remark| reader.remark(node.place, remark.clone()));
                    Some(ScheduleRule::Cron(rule.as_str().to_owned()))
                }
                Err(error) => {
                    reader.wrong(node.place, error.to_string());
                    None
                }
            }
        }
        _ => {
            let node = fields.get("every")?;
            let distance = limit_of(reader, node, "`every`")?;
            if let Err(error) = Rule::every(distance) {
                reader.wrong(node.place, error.to_string());
            }
            if let Some(entry) = fields.entry("timezone") {
                let hint = "it is counted from the creation of the schedule: leave it out, or write `cron`";
                reader.wrong_hint(entry.place, "`timezone` means nothing beside `every`", hint);
            }
            Some(ScheduleRule::Every(distance))
        }
    }
}

/// Which one of several keys is there; none and several are told.
fn one_of<'k>(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    what: &str,
    does: &str,
    keys: &[&'k str],
) -> Option<&'k str> {
    let found: Vec<&str> = keys.iter().copied().filter(|key| fields.get(key).is_some()).collect();
    let names = keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" or ");
    match found.as_slice() {
        [one] => Some(one),
        [] => {
            reader.wrong_hint(fields.place, format!("{what} says nothing that it {does}"), format!("give it {names}"));
            None
        }
        several => {
            let place = several.iter().map(|key| fields.place_of(key)).max().unwrap_or(fields.place);
            reader.wrong_hint(place, format!("{what} {does} one thing: {names}"), "leave one out");
            None
        }
    }
}

/// `input` is what the workflow is given, where that is known.
fn workflow_target(reader: &mut Reader<'_>, fields: &Fields<'_>, input: Option<&serde_json::Value>) -> Option<Name> {
    let node = fields.get("workflow")?;
    let name = reader.name(node, "`workflow`")?;
    let place = fields.get("input").map_or(node.place, |input| input.place);
    let given = input.and_then(|input| given(reader, place, Some(&Template::Literal(input.clone()))));
    refer(reader, node, Kind::Workflow, &name, given);
    Some(name)
}

fn job_target(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<(Name, Option<Name>)> {
    let node = fields.get("job")?;
    let kind = reader.name(node, "`job`")?;
    if is_reserved(&kind) {
        reader.wrong(node.place, format!("the job type `{kind}` is kept for goflow itself"));
    }
    let queue = fields.get("queue").and_then(|node| reader.name(node, "`queue`"));
    Some((kind, queue))
}

fn no_queue(reader: &mut Reader<'_>, fields: &Fields<'_>) {
    if let Some(entry) = fields.entry("queue") {
        reader.wrong_hint(entry.place, "`queue` is for `job`", "the steps of a workflow name their own queues");
    }
}

/// Data that is passed on as it stands. An expression in it would look as if it meant something.
fn literal(reader: &mut Reader<'_>, node: &Node) -> serde_json::Value {
    let was = reader.take_sites();
    let _ = reader.template(node);
    for site in reader.take_sites() {
        let hint = "the workflow itself can work it out";
        reader.wrong_hint(site.node.place, "a schedule's `input` holds no expressions", hint);
    }
    reader.put_sites(was);
    node.to_json()
}

pub fn queue(reader: &mut Reader<'_>, node: &Node) -> Option<QueueSpec> {
    let fields = reader.fields(node, "a queue", QUEUE_KEYS)?;
    let name = named(reader, &fields);
    let weight = fields.get("weight").and_then(|node| reader.whole(node, "`weight`", 1, 1_000));
    let weight = weight.and_then(|weight| u32::try_from(weight).ok());
    let concurrency = fields.get("concurrency").and_then(|node| reader.count(node, "`concurrency`"));
    let rate_limit = fields.get("rate_limit").and_then(|node| rate(reader, node));
    let paused = fields.get("paused").and_then(|node| reader.flag(node, "`paused`"));
    Some(QueueSpec { name: name?, weight, rate_limit, concurrency, paused })
}

/// `100/s`, `5/m`, `10/h`.
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

pub fn webhook(reader: &mut Reader<'_>, node: &Node) -> Option<WebhookSpec> {
    let fields = reader.fields(node, "a webhook", WEBHOOK_KEYS)?;
    let name = named(reader, &fields);
    let path = match fields.get("path") {
        Some(node) => path(reader, node),
        None => name.as_ref().map(ToString::to_string),
    };
    let scheme = fields.get("scheme").and_then(|node| reader.word(node, "`scheme`", &WebhookScheme::WORDS));
    let scheme = scheme.unwrap_or_default();
    let tolerance = fields.get("tolerance").and_then(|node| tolerance(reader, node, scheme)).unwrap_or(TOLERANCE);
    let secrets = fields.get("secret").map(|node| secrets(reader, node)).unwrap_or_default();
    let target = reader.within(Whereabouts::Webhook, |reader| webhook_target(reader, &fields));
    let transform =
        reader.within(Whereabouts::Webhook, |reader| fields.get("transform").map(|node| reader.template(node)));
    let enabled = fields.get("enabled").and_then(|node| reader.flag(node, "`enabled`")).unwrap_or(true);
    let sites = reader.take_sites();
    check::webhook(reader, &sites);
    let (target, path) = (target?, path?);
    Some(WebhookSpec { name: name?, path, scheme, secrets, tolerance, target, transform, enabled })
}

/// The longest `tolerance`: what came before may have been forgotten, and would count as new.
const LONGEST_TOLERANCE: Duration = Duration::from_secs(3600);

fn tolerance(reader: &mut Reader<'_>, node: &Node, scheme: WebhookScheme) -> Option<Duration> {
    let tolerance = limit_of(reader, node, "`tolerance`")?;
    if !scheme.carries_time() {
        let hint = "leave it out, or take standard-webhooks or stripe";
        reader.wrong_hint(node.place, format!("the scheme {} signs no time", scheme.as_str()), hint);
    } else if tolerance > LONGEST_TOLERANCE {
        let longest = format_duration(LONGEST_TOLERANCE);
        reader.wrong(node.place, format!("`tolerance` is longer than {longest}"));
    }
    Some(tolerance)
}

fn webhook_target(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<WebhookTarget> {
    match one_of(reader, fields, "a webhook", "leads to", &["job", "workflow", "signal"])? {
        "job" => job_target(reader, fields).map(|(kind, queue)| WebhookTarget::Job { kind, queue }),
        "workflow" => {
            no_queue(reader, fields);
            workflow_target(reader, fields, None).map(WebhookTarget::Workflow)
        }
        _ => {
            no_queue(reader, fields);
            let node = fields.get("signal")?;
            let keys = reader.fields(node, "`signal`", SIGNAL_KEYS)?;
            for key in SIGNAL_KEYS.iter().filter(|key| keys.get(key).is_none()) {
                let hint = "`signal: {name: paid, run: \"${{ payload.run_id }}\"}`";
                reader.wrong_hint(node.place, format!("`signal` has no `{key}`"), hint);
            }
            let name = keys.get("name").and_then(|node| reader.name(node, "`name`"));
            let run = keys.get("run").map(|node| reader.text_template(node, "`run`"));
            Some(WebhookTarget::Signal { name: name?, run: run? })
        }
    }
}

/// What follows `/webhooks/`.
fn path(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.text(node, "`path`")?;
    let path = text.trim_start_matches('/');
    let path = path.strip_prefix("webhooks/").unwrap_or(path);
    let segment = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.~-".contains(&b))
    };
    if !path.split('/').all(segment) {
        let hint = "letters, digits, _ . ~ and - are allowed, and / between them: `github/push`";
        reader.wrong_hint(node.place, format!("`{text}` cannot be the path of a webhook"), hint);
        return None;
    }
    Some(path.to_owned())
}

/// Where the secrets are found; never they themselves, which would be kept in the open.
fn secrets(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if items.is_empty() {
        reader.wrong_hint(
            node.place,
            "`secret` is empty",
            "leave it out, and `webhooks.secret` of the configuration holds",
        );
    }
    let mut found = Vec::new();
    for item in items {
        let Some(text) = reader.text(item, "`secret`") else { continue };
        let named = ["env:", "file:"].iter().find_map(|prefix| text.strip_prefix(prefix));
        if named.is_none_or(str::is_empty) {
            let hint = "say where it is found: `env:NAME` or `file:PATH`";
            reader.wrong_hint(item.place, "a secret in a manifest would be kept in the open", hint);
        }
        found.push(text);
    }
    found
}

impl spec::ScheduleSpec {
    /// In a few words, for lists.
    pub fn summary(&self) -> String {
        let when = match &self.rule {
            ScheduleRule::Cron(rule) => format!("{rule} {}", self.timezone),
            ScheduleRule::Every(distance) => format!("every {}", format_duration(*distance)),
        };
        match &self.target {
            ScheduleTarget::Workflow(name) => format!("{when}: workflow {name}"),
            ScheduleTarget::Job { kind, .. } => format!("{when}: job {kind}"),
        }
    }
}

impl spec::QueueSpec {
    /// In a few words, for lists.
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.weight.map(|weight| format!("weight {weight}")));
        parts.extend(self.rate_limit.map(|rate| rate.to_string()));
        parts.extend(self.concurrency.map(|most| format!("{most} at a time")));
        parts.extend(self.paused.map(|paused| if paused { "paused" } else { "not paused" }.to_owned()));
        if parts.is_empty() { "as it is".to_owned() } else { parts.join(", ") }
    }
}

impl spec::WebhookSpec {
    /// In a few words, for lists.
    pub fn summary(&self) -> String {
        let off = if self.enabled { "" } else { ", off" };
        let to = match &self.target {
            WebhookTarget::Job { kind, .. } => format!("job {kind}"),
            WebhookTarget::Workflow(name) => format!("workflow {name}"),
            WebhookTarget::Signal { name, .. } => format!("signal {name}"),
        };
        format!("/webhooks/{}: {to}{off}", self.path)
    }
}
