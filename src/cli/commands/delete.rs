//! `goflow delete`.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use clap_complete::ArgValueCompleter;

use super::get::KindArg;
use crate::cli::codes::Code;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::{Result, fail};
use crate::cli::manifests;
use crate::domain::Name;
use crate::domain::text::count;
use crate::workflow::Manifest;
use crate::workflow::manifest::Kind;

/// Take definitions out of the store: by name, or all that stand in files
///
/// Runs that have begun go on with the version they began with. A queue keeps its settings and its
/// jobs. What other definitions start or call is not deleted without them.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  One schedule:
    goflow delete schedule daily-report
  What a file once applied:
    goflow delete -f workflows/order-saga.yaml --yes")]
pub struct DeleteArgs {
    /// Of what kind
    #[arg(value_name = "KIND", required_unless_present = "files", requires = "names")]
    kind: Option<KindArg>,
    /// Their names
    #[arg(value_name = "NAME", conflicts_with = "files", add = ArgValueCompleter::new(complete::definitions))]
    names: Vec<Name>,
    /// What stands in these files or folders; - for standard input
    #[arg(short, long = "file", value_name = "PATH", conflicts_with = "kind", value_hint = ValueHint::AnyPath)]
    files: Vec<PathBuf>,
    /// Only tell what would be deleted
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(serde::Serialize)]
struct Deleted {
    deleted: Vec<Named>,
    /// Of a file: what was not in the store.
    absent: Vec<Named>,
}

#[derive(Clone, PartialEq, serde::Serialize)]
struct Named {
    kind: &'static str,
    name: String,
}

impl From<&(Kind, Name)> for Named {
    fn from((kind, name): &(Kind, Name)) -> Named {
        Named { kind: kind.stored(), name: name.to_string() }
    }
}

pub fn run(context: &Context, args: &DeleteArgs) -> Result {
    let wanted = wanted(context, args)?;
    context.block_on(async {
        let client = context.client().await?;
        let (mut there, mut absent) = (Vec::new(), Vec::new());
        for (kind, name) in wanted {
            match client.definition(kind, &name).await {
                Ok(_) => there.push((kind, name)),
                Err(crate::api::ApiError::NoDefinition { .. }) if !args.files.is_empty() => absent.push((kind, name)),
                Err(error) => return Err(error.into()),
            }
        }
        let users = client.users_of(&there).await?;
        if let Some(user) = users.first() {
            let what = format!(
                "the {} `{}` is needed by the {} `{}`",
                user.kind.stored(),
                user.name,
                user.by.0.stored(),
                user.by.1
            );
            return Err(fail(Code::StateConflict, what).hint("delete both, or change that one first"));
        }
        let named: Vec<Named> = there.iter().map(Named::from).collect();
        let absent: Vec<Named> = absent.iter().map(Named::from).collect();
        let list = named.iter().map(|one| format!("{} {}", one.kind, one.name)).collect::<Vec<_>>().join(", ");
        if args.dry_run || named.is_empty() {
            let outcome = Deleted { deleted: Vec::new(), absent };
            let sentence =
                if named.is_empty() { "nothing to delete".to_owned() } else { format!("would delete {list}") };
            return context.ui.result(&outcome, &sentence);
        }
        let question = match named.len() {
            1 => format!("delete the {list}?"),
            several => format!("delete {}: {list}?", count(several as u64, "definition")),
        };
        context.ui.confirm(&question, args.yes)?;
        let were = client.undefine(&there).await?;
        // Somebody else may have been quicker.
        let deleted: Vec<Named> = named.into_iter().zip(were).filter(|(_, was)| *was).map(|(one, _)| one).collect();
        context.ui.result(&Deleted { deleted, absent }, &format!("deleted {list}"))
    })
}

fn wanted(context: &Context, args: &DeleteArgs) -> Result<Vec<(Kind, Name)>> {
    let mut wanted: Vec<(Kind, Name)> = match args.kind {
        Some(kind) => args.names.iter().map(|name| (kind.into(), name.clone())).collect(),
        None => {
            let found = manifests::read_all(&context.ui, &args.files)?;
            found.manifests.iter().map(|one: &Manifest| (one.kind(), one.name().clone())).collect()
        }
    };
    let mut seen = std::collections::BTreeSet::new();
    wanted.retain(|one| seen.insert(one.clone()));
    Ok(wanted)
}
