//! `goflow token create`.

use clap::Args;

use crate::api::tokens::{Scope, TokenView};
use crate::cli::args::Format;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::domain::Name;

/// Make a token, and show its secret this once
///
/// The secret alone is on stdout. The store keeps a digest of it, so nobody can show it again. From the
/// first token on, every server of the store asks everybody for one.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  One that adds jobs and looks at them:
    goflow token create shop --scope enqueue,read
  One for a dashboard, into a file that only you can read:
    (umask 077; goflow token create dashboard --scope read > token)
  Use it:
    curl -H \"Authorization: Bearer $(cat token)\" localhost:8080/api/v1/queues")]
pub struct CreateArgs {
    /// What it is called in lists
    #[arg(value_name = "NAME")]
    name: Name,
    /// What it may do: read, enqueue, operate (both and more), admin (everything)
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',', required = true)]
    scopes: Vec<Scope>,
}

#[derive(serde::Serialize)]
struct Created {
    #[serde(flatten)]
    token: TokenView,
    /// The secret.
    secret: String,
}

pub fn run(context: &Context, args: CreateArgs) -> Result {
    let CreateArgs { name, mut scopes } = args;
    scopes.sort_unstable();
    scopes.dedup();
    context.block_on(async {
        let client = context.client().await?;
        let (token, secret) = client.create_token(&name, scopes).await?;
        let created = Created { token: TokenView::from(&token), secret };
        if matches!(context.ui.format, Format::Table | Format::Wide | Format::Name) {
            context.ui.say("keep this secret, it is not shown again");
        }
        context.ui.result(&created, &created.secret)
    })
}
