//! `goflow explain`.

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;

use super::get::KindArg;
use crate::cli::codes::Code;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::{Result, fail};
use crate::cli::output::{Column, Listed};
use crate::workflow;
use crate::workflow::manifest::Kind;

/// Tell what an error code means and what to do about it; without a code, list them
///
/// With --schema it gives the JSON Schema of manifests instead, for editors.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  The code that stands at the end of an error:
    goflow explain GF0012
  A schema for the editor, named in a manifest's first line by
  `# yaml-language-server: $schema=goflow.schema.json`:
    goflow explain --schema > goflow.schema.json
  Of one kind:
    goflow explain --schema workflows")]
pub struct ExplainArgs {
    /// As in GF0012, or 12; a kind of manifests with --schema
    #[arg(value_name = "CODE", add = ArgValueCompleter::new(complete::codes))]
    code: Option<String>,
    /// Give the JSON Schema of all kinds of manifests, or of the one named
    #[arg(long)]
    schema: bool,
}

#[derive(serde::Serialize)]
struct Page {
    code: &'static str,
    title: String,
    exit: u8,
    text: &'static str,
}

impl Listed for Page {
    fn name(&self) -> &str {
        self.code
    }
}

impl From<Code> for Page {
    fn from(code: Code) -> Page {
        let title = code.title();
        let title = title.split_once(": ").map_or(title, |(_, title)| title).to_owned();
        Page { code: code.as_str(), title, exit: code.exit(), text: code.page() }
    }
}

fn kind(text: &str) -> Result<Kind> {
    KindArg::from_str(text, true).map(Kind::from).map_err(|_| {
        fail(Code::Usage, format!("`{text}` is not a kind of manifests"))
            .hint("they are workflows, handlers, schedules, queues and webhooks")
    })
}

pub fn run(context: &Context, args: &ExplainArgs) -> Result {
    if args.schema {
        let kind = args.code.as_deref().map(kind).transpose()?;
        let schema = serde_json::to_string_pretty(&workflow::schema::schema(kind));
        let schema = schema.map_err(|error| fail(Code::Bug, format!("the schema cannot be written: {error}")))?;
        return context.ui.line(&schema);
    }
    let Some(text) = &args.code else {
        let pages: Vec<Page> = Code::ALL.iter().copied().map(Page::from).collect();
        return context.ui.list(
            &pages,
            &[
                Column::new("CODE", |page, _| page.code.to_owned()),
                Column::<Page>::new("EXIT", |page, _| page.exit.to_string()).right(),
                Column::new("MEANING", |page, _| page.title.clone()),
            ],
        );
    };
    let code = Code::parse(text).ok_or_else(|| {
        fail(Code::NotFound, format!("`{text}` is not an error code")).hint("`goflow explain` lists them")
    })?;
    let page = Page::from(code);
    if context.ui.format == crate::cli::args::Format::Table || context.ui.format == crate::cli::args::Format::Wide {
        return context.ui.block(page.text);
    }
    context.ui.one(&page, &[])
}
