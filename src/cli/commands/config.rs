//! `goflow config`.

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::output::{Column, Listed};
use crate::domain::secret;
use crate::store::StoreUrl;

/// Look at the configuration
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    Show(ShowArgs),
}

/// Show every setting in force; secrets are hidden
///
/// Precedence: flag, environment, project file, user file, default.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Where each value comes from:
    goflow config show --origin")]
pub struct ShowArgs {
    /// Name the source of each value
    #[arg(long)]
    origin: bool,
}

#[derive(serde::Serialize)]
struct Setting {
    key: String,
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
}

impl Listed for Setting {
    fn name(&self) -> &str {
        &self.key
    }
}

pub fn run(context: &Context, command: ConfigCommand) -> Result {
    let ConfigCommand::Show(args) = command;
    let (url, choice) = context.store_choice()?;
    let config = context.config()?;
    // The store is what flags, environment and both its keys come to.
    let store = ("store", url.to_string(), choice.origin.to_string());
    let token = match &url {
        StoreUrl::Server(_) => context.token()?.map(|(_, origin)| ("token", "***".to_owned(), origin.to_string())),
        _ => None,
    };
    let others = config.show().into_iter().filter(|(key, ..)| *key != "store");
    let handlers = config.handlers.iter().map(|handler| {
        let shown = without_secrets(&handler.fields).to_string();
        (format!("handlers.{}", handler.name), shown, handler.origin.to_string())
    });
    // An alert's targets hold secrets, so they are shown as they are told of and not as they are written.
    let rules = crate::cli::alerts::configured(context)?;
    let alerts = config.alerts.iter().zip(&rules).enumerate().map(|(nth, (raw, rule))| {
        let targets: Vec<String> = rule.targets.iter().map(crate::engine::AlertTarget::shown).collect();
        (format!("alerts.{nth}"), format!("{}: {}", rule.on, targets.join(", ")), raw.origin.to_string())
    });
    let settings: Vec<Setting> = std::iter::once(store)
        .chain(token)
        .chain(others)
        .map(|(key, value, origin)| (key.to_owned(), value, origin))
        .chain(handlers)
        .chain(alerts)
        .map(|(key, value, origin)| Setting { key, value, origin: args.origin.then_some(origin) })
        .collect();
    let mut columns =
        vec![Column::new("KEY", |one: &Setting, _| one.key.clone()), Column::new("VALUE", |one, _| one.value.clone())];
    if args.origin {
        columns.push(Column::new("ORIGIN", |one, _| one.origin.clone().unwrap_or_default()));
    }
    context.ui.list(&settings, &columns)
}

/// What a handler's configuration says, without what may be a secret: the values of its headers and of
/// its environment, and of a URL all but where it leads.
fn without_secrets(fields: &Value) -> Value {
    let hidden = || Value::from(secret::HIDDEN);
    match fields {
        Value::Object(map) => {
            let shown = map.iter().map(|(key, value)| {
                let shown = match (key.as_str(), value) {
                    ("headers" | "env" | "query", Value::Object(inner)) => {
                        inner.keys().map(|name| (name.clone(), hidden())).collect::<serde_json::Map<_, _>>().into()
                    }
                    ("url", Value::String(url)) => secret::url(url).into(),
                    _ => without_secrets(value),
                };
                (key.clone(), shown)
            });
            Value::Object(shown.collect())
        }
        Value::Array(items) => items.iter().map(without_secrets).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_of_a_handler_is_not_shown() {
        let fields = serde_json::json!({
            "http": {"url": "https://me:pw@host.example/hook?token=abc", "headers": {"Authorization": "Bearer abc"}},
            "run": ["echo", "text"], "env": {"TOKEN": "abc"}, "timeout": "5s",
        });
        let shown = without_secrets(&fields).to_string();
        assert!(!shown.contains("abc") && !shown.contains("pw"), "{shown}");
        for part in ["https://***@host.example/***", "Authorization", "TOKEN", "echo", "5s"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
