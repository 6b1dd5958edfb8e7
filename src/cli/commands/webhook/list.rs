//! `goflow webhook list`.

use clap::Args;

use crate::api::WebhookView;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::output::{Column, Listed, Tone};
use crate::domain::time::format_duration;

/// List webhooks: where they are called, how they are signed, and what they lead to
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  With where their secrets lie:
    goflow webhook list -o wide
  Those that are off:
    goflow webhook list -o json | jq -r '.[] | select(.enabled | not) | .name'")]
pub struct ListArgs {}

impl Listed for WebhookView {
    fn name(&self) -> &str {
        &self.name
    }
}

type W = Column<WebhookView>;

const WEBHOOKS: &[Column<WebhookView>] = &[
    W::new("WEBHOOK", |hook, _| hook.name.clone()),
    W::new("PATH", |hook, _| hook.path.clone()),
    W::new("SCHEME", |hook, _| hook.scheme.clone()),
    W::new("LEADS TO", |hook, _| match (&hook.job, &hook.workflow, &hook.signal) {
        (Some(job), _, _) => format!("job {job}"),
        (_, Some(workflow), _) => format!("workflow {workflow}"),
        (_, _, signal) => format!("signal {}", signal.as_deref().unwrap_or_default()),
    }),
    W::new("STATE", |hook, ui| match (hook.enabled, ui.is_terminal() && ui.unicode) {
        (true, true) => "▶ on".to_owned(),
        (true, false) => "on".to_owned(),
        (false, true) => "‖ off".to_owned(),
        (false, false) => "off".to_owned(),
    })
    .tone(|hook| (!hook.enabled).then_some(Tone::Wait)),
    W::new("QUEUE", |hook, _| hook.queue.clone().unwrap_or_default()).wide(),
    W::new("SECRET", |hook, _| match hook.secret.as_slice() {
        [] => "webhooks.secret".to_owned(),
        secrets => secrets.join(", "),
    })
    .wide(),
    W::new("TOLERANCE", |hook, _| {
        format_duration(std::time::Duration::from_millis(u64::try_from(hook.tolerance_ms).unwrap_or(0)))
    })
    .right()
    .wide(),
];

pub fn run(context: &Context, _: &ListArgs) -> Result {
    context.block_on(async {
        let webhooks = context.client().await?.webhooks().await?;
        let views: Vec<WebhookView> = webhooks.iter().map(WebhookView::from).collect();
        context.ui.list(&views, WEBHOOKS)
    })
}
