//! `goflow token`: who may do what through a server.

mod create;
mod list;
mod revoke;

use clap::Subcommand;

use crate::cli::context::Context;
use crate::cli::error::Result;

/// Make, list and revoke the tokens of servers
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    Create(create::CreateArgs),
    List(list::ListArgs),
    Revoke(revoke::RevokeArgs),
}

pub fn run(context: &Context, command: TokenCommand) -> Result {
    match command {
        TokenCommand::Create(args) => create::run(context, args),
        TokenCommand::List(args) => list::run(context, &args),
        TokenCommand::Revoke(args) => revoke::run(context, &args),
    }
}
