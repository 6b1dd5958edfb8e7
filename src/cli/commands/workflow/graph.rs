//! `goflow workflow graph`.

use clap::{Args, ValueEnum};

use super::source::SourceArgs;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::output::to_lines;
use crate::workflow::draw;

/// Draw a workflow: as a tree, as Mermaid, or as Graphviz's DOT
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  In the terminal:
    goflow workflow graph workflows/order-saga.yaml
  As a picture:
    goflow workflow graph order-saga --format dot | dot -Tsvg > order-saga.svg")]
pub struct GraphArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// How it is drawn
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    format: Drawing,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Drawing {
    /// A tree with a row a step
    #[default]
    Terminal,
    /// A flowchart, as Markdown pages show it
    Mermaid,
    /// For Graphviz
    Dot,
}

#[derive(serde::Serialize)]
struct Drawn {
    workflow: String,
    version: String,
    format: Drawing,
    graph: String,
}

pub fn run(context: &Context, args: &GraphArgs) -> Result {
    context.block_on(async {
        let (definition, _) = args.source.load(context).await?;
        let graph = match args.format {
            Drawing::Terminal => draw::terminal(&definition, context.ui.unicode),
            Drawing::Mermaid => draw::mermaid(&definition),
            Drawing::Dot => draw::dot(&definition),
        };
        let lines = to_lines(&graph);
        let (workflow, version) = (definition.name().to_string(), definition.hash().to_owned());
        context.ui.result_lines(&Drawn { workflow, version, format: args.format, graph }, &lines)
    })
}
