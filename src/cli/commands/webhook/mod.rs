//! `goflow webhook`: the verbs on webhooks. They are applied and deleted as every manifest is.

mod disable;
mod enable;
mod list;

use clap::Subcommand;

use crate::cli::context::Context;
use crate::cli::error::Result;

/// Look at webhooks, switch them on and off
#[derive(Debug, Subcommand)]
pub enum WebhookCommand {
    List(list::ListArgs),
    Enable(enable::EnableArgs),
    Disable(disable::DisableArgs),
}

pub fn run(context: &Context, command: WebhookCommand) -> Result {
    match command {
        WebhookCommand::List(args) => list::run(context, &args),
        WebhookCommand::Enable(args) => enable::run(context, &args),
        WebhookCommand::Disable(args) => disable::run(context, &args),
    }
}
