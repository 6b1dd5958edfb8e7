//! `goflow token revoke`.

use clap::Args;

use crate::api::tokens::TokenView;
use crate::cli::context::Context;
use crate::cli::error::Result;

/// Revoke tokens: within a second they open nothing any more
///
/// A server on the loopback address asks nobody for a token once the last one is revoked; any other
/// server then lets nobody in.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  One that leaked:
    goflow token revoke shop")]
pub struct RevokeArgs {
    /// Names, or whole ids
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

#[derive(serde::Serialize)]
struct Outcome {
    revoked: Vec<TokenView>,
}

pub fn run(context: &Context, args: &RevokeArgs) -> Result {
    context.block_on(async {
        let client = context.client().await?;
        let mut outcome = Outcome { revoked: Vec::new() };
        for name in &args.names {
            let revoked = client.revoke_token(name).await?;
            outcome.revoked.extend(revoked.iter().map(TokenView::from));
        }
        let names: Vec<&str> = outcome.revoked.iter().map(|token| token.name.as_str()).collect();
        context.ui.result(&outcome, &format!("revoked {}", names.join(", ")))
    })
}
