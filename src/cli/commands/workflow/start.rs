//! `goflow workflow start`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use super::source::stored;
use crate::api::runs::StartError;
use crate::cli::codes::Code;
use crate::cli::commands::enqueue;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::{CommandError, Result, fail};
use crate::cli::output::to_lines;
use crate::domain::Name;

/// Start a run of a workflow that was applied, and print its id
///
/// Workers do the work; `goflow workflow show ID` shows how far it is. With -o json the run is printed
/// as it began.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  With its input from the command line, and from a file:
    goflow workflow start order-saga -i '{\"amount\": 120}'
    goflow workflow start order-saga -i @order.json")]
pub struct StartArgs {
    /// The workflow
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(complete::workflows))]
    name: Name,
    /// The input: JSON, @FILE, or - for standard input
    #[arg(short, long, value_name = "JSON")]
    input: Option<String>,
}

pub fn run(context: &Context, args: &StartArgs) -> Result {
    let input = enqueue::input(args.input.as_deref())?;
    context.block_on(async {
        let client = context.client().await?;
        let definition = stored(&client, &args.name).await?;
        let id = client.start(&definition, input).await?;
        context.ui.result_lines(&client.run(id).await?, &to_lines(&id.to_string()))
    })
}

impl From<StartError> for CommandError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Api(error) => error.into(),
            StartError::Input(mistakes) => match mistakes.split_once('\n') {
                None => fail(Code::RunInput, format!("the input does not fit: {mistakes}")),
                Some(_) => fail(Code::RunInput, "the input does not fit").detail(mistakes),
            },
        }
    }
}
