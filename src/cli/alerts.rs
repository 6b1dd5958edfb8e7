//! `alerts:` of the configuration: read, checked, and watched beside a worker. Part of the composition
//! root: it knows neither what is worth an alert nor how one is told.

use std::sync::Arc;

use serde_json::Value;

use super::codes::Code;
use super::context::Context;
use super::error::{CommandError, Result, fail};
use crate::api::Client;
use crate::domain::alert::{BadOn, On};
use crate::domain::text::nearest;
use crate::engine::{AlertRule, AlertTarget, Alerts};
use crate::exec;
use crate::exec::notify::is_url;
use crate::sys::config::RawAlert;

const KEYS: [&str; 5] = ["on", "slack", "webhook", "command", "log"];

/// Every rule of the configuration.
///
/// # Errors
/// A rule that watches nothing or tells nobody, with its place.
pub fn configured(context: &Context) -> Result<Vec<AlertRule>> {
    let config = context.config()?;
    config.alerts.iter().map(|raw| rule(context, raw)).collect()
}

/// Watches by the rules of the configuration, if there are any.
///
/// # Errors
/// As [`configured`].
pub fn watch(context: &Context, client: &Client, machine: &Arc<exec::Context>) -> Result<Alerts> {
    Ok(Alerts::new(client.store().clone(), machine.clone(), configured(context)?))
}

fn rule(context: &Context, raw: &RawAlert) -> Result<AlertRule> {
    let wrong = |why: String| fail(Code::Config, format!("{}: an alert: {why}", raw.origin));
    let Value::Object(fields) = &raw.fields else {
        return Err(wrong("it is not a mapping".to_owned())
            .hint("alerts: [{on: job.dead, slack: {url: \"${SLACK_URL}\", channel: \"#ops\"}}]"));
    };
    for key in fields.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        let near = nearest(key, KEYS).map(|near| format!(": did you mean `{near}`?")).unwrap_or_default();
        context.ui.warn(&format!("{}: `{key}` is not known in an alert{near}", raw.origin));
    }
    let on = match fields.get("on") {
        Some(Value::String(text)) => text.parse().map_err(|error: BadOn| wrong(format!("`on`: {error}")))?,
        Some(_) => return Err(wrong("`on` is not text".to_owned())),
        None => return Err(wrong("`on` is missing: job.dead, \"queue.depth > 1000\" or schedule.missed".to_owned())),
    };
    let targets = targets(context, raw, fields, &on, &wrong)?;
    Ok(AlertRule { on, targets })
}

fn targets(
    context: &Context,
    raw: &RawAlert,
    fields: &serde_json::Map<String, Value>,
    on: &On,
    wrong: &dyn Fn(String) -> CommandError,
) -> Result<Vec<AlertTarget>> {
    let mut targets = Vec::new();
    let mut named = 0;
    let off = |what: &str| {
        // A variable that is not set here may be set in production.
        context.ui.warn(&format!("{}: {what} of the alert on {on} has an empty url and is told nothing", raw.origin));
    };
    for (key, value) in fields {
        match key.as_str() {
            "slack" | "webhook" => {
                named += 1;
                let url = value.get("url").and_then(Value::as_str);
                let url = url.ok_or_else(|| wrong(format!("`{key}` needs a url, as in {key}: {{url: …}}")))?;
                if url.is_empty() {
                    off(key);
                    continue;
                }
                if !is_url(url) {
                    return Err(wrong(format!("`{key}.url` is not an http or https URL")));
                }
                let url = url.to_owned();
                let channel = value.get("channel").and_then(Value::as_str).map(str::to_owned);
                targets.push(match key.as_str() {
                    "slack" => AlertTarget::Slack { url, channel },
                    _ => AlertTarget::Webhook { url },
                });
            }
            "command" => {
                named += 1;
                let argv = value
                    .as_array()
                    .map(|items| items.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>());
                let argv = argv.filter(|argv| !argv.is_empty() && Some(argv.len()) == value.as_array().map(Vec::len));
                let argv = argv.ok_or_else(|| wrong("`command` is a list of texts, as in [./tell, ops]".to_owned()))?;
                targets.push(AlertTarget::Command(argv));
            }
            "log" => {
                named += 1;
                match value {
                    Value::Bool(true) => targets.push(AlertTarget::Log),
                    Value::Bool(false) => {}
                    _ => return Err(wrong("`log` is true or false".to_owned())),
                }
            }
            _ => {}
        }
    }
    if named == 0 {
        return Err(wrong("it tells nobody: give it slack, webhook, command or log".to_owned()));
    }
    Ok(targets)
}
