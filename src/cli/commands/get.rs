//! `goflow get`.

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use serde::Serialize;
use serde_json::Value as Json;

use crate::cli::args::Format;
use crate::cli::codes::Code;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::{Result, fail};
use crate::cli::output::{Column, Listed, yaml_of};
use crate::domain::{Name, secret};
use crate::store::Definition;
use crate::workflow::Manifest;
use crate::workflow::manifest::Kind;

/// Show the workflows, handlers, schedules, queues or webhooks that the store keeps
///
/// With -o yaml and -o json it gives the manifests back, in their canonical form: what it prints can
/// be applied again. Values of `env`, `headers` and `query` whose names say that they are secrets show as
/// `***`, as do passwords in URLs: put them in again before.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  All workflows:
    goflow get workflows
  One, as a manifest:
    goflow get workflow order-saga -o yaml > order-saga.yaml")]
pub struct GetArgs {
    /// What to show
    #[arg(value_name = "KIND")]
    kind: KindArg,
    /// Only this one
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(complete::definitions))]
    name: Option<Name>,
}

/// A kind of manifests on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    #[value(alias = "workflow")]
    Workflows,
    #[value(alias = "handler")]
    Handlers,
    #[value(alias = "schedule")]
    Schedules,
    #[value(alias = "queue")]
    Queues,
    #[value(alias = "webhook")]
    Webhooks,
}

impl From<KindArg> for Kind {
    fn from(arg: KindArg) -> Kind {
        match arg {
            KindArg::Workflows => Kind::Workflow,
            KindArg::Handlers => Kind::Handler,
            KindArg::Schedules => Kind::Schedule,
            KindArg::Queues => Kind::Queue,
            KindArg::Webhooks => Kind::Webhook,
        }
    }
}

/// A definition as it is shown: for programs it is its manifest.
struct Kept {
    name: String,
    summary: String,
    hash: String,
    manifest: Json,
    text: String,
}

impl Serialize for Kept {
    fn serialize<S: serde::Serializer>(&self, into: S) -> Result<S::Ok, S::Error> {
        self.manifest.serialize(into)
    }
}

impl Listed for Kept {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Kept {
    fn new(definition: Definition) -> Result<Kept> {
        // What a newer version wrote can still be shown.
        let summary = Manifest::load(&definition.text)
            .map_or_else(|_| "this version cannot read it".to_owned(), |manifest| manifest.summary());
        let manifest: Json = serde_json::from_str(&definition.text).map_err(|error| {
            let what = format!("the {} `{}` is not kept as JSON: {error}", definition.kind, definition.name);
            fail(Code::StoreCorrupt, what)
        })?;
        let manifest = secret::manifest(&manifest);
        let text = manifest.to_string();
        let Definition { name, hash, .. } = definition;
        Ok(Kept { name: name.to_string(), summary, hash, manifest, text })
    }
}

const KEPT: &[Column<Kept>] = &[
    Column::new("NAME", |one, _| one.name.clone()),
    Column::new("WHAT", |one: &Kept, _| one.summary.clone()),
    Column::new("VERSION", |one: &Kept, _| one.hash.chars().take(12).collect()),
];

pub fn run(context: &Context, args: &GetArgs) -> Result {
    let kind = Kind::from(args.kind);
    context.block_on(async {
        let client = context.client().await?;
        let found = match &args.name {
            Some(name) => vec![client.definition(kind, name).await?],
            None => client.definitions(kind).await?,
        };
        let kept = found.into_iter().map(Kept::new).collect::<Result<Vec<_>>>()?;
        match (context.ui.format, &args.name, kept.as_slice()) {
            // Documents of one file, so that it can be applied.
            (Format::Yaml, _, kept) => {
                let documents = kept.iter().map(|one| yaml_of(&one.text)).collect::<Result<Vec<_>>>()?;
                context.ui.block(&documents.join("---\n"))
            }
            (Format::Json | Format::Jsonl, Some(_), [one]) => context.ui.one(one, &[]),
            (_, _, kept) => context.ui.list(kept, KEPT),
        }
    })
}
