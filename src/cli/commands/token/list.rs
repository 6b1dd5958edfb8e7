//! `goflow token list`.

use clap::Args;

use crate::api::tokens::TokenView;
use crate::cli::commands::rows::time_text;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::output::{Column, Listed};
use crate::cli::select::Limit;

/// List tokens: their names and what they may do, never their secrets
///
/// The list is cut at 20 tokens, and says so; `-n 0` lists all.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Who may do what:
    goflow token list")]
pub struct ListArgs {
    #[command(flatten)]
    limit: Limit,
}

impl Listed for TokenView {
    fn name(&self) -> &str {
        &self.name
    }
}

type T = Column<TokenView>;

const TOKENS: &[Column<TokenView>] = &[
    T::new("NAME", |token, _| token.name.clone()),
    T::new("SCOPES", |token, _| token.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<&str>>().join(",")),
    T::new("CREATED", |token, ui| time_text(token.created_at.0, ui)),
    T::new("ID", |token, _| token.id.clone()).wide(),
];

pub fn run(context: &Context, args: &ListArgs) -> Result {
    context.block_on(async {
        let tokens = context.client().await?.tokens().await?;
        let mut views: Vec<TokenView> = tokens.iter().map(TokenView::from).collect();
        let cut = args.limit.cut(&mut views);
        context.ui.list(&views, TOKENS)?;
        args.limit.tell_cut(context, "first", cut);
        Ok(())
    })
}
