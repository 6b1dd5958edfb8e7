//! A workflow that was named on the command line: by its file, or as the store keeps it.

use std::path::Path;

use clap::{Args, ValueHint};

use crate::api::Client;
use crate::cli::codes::Code;
use crate::cli::context::Context;
use crate::cli::error::{Result, fail};
use crate::cli::manifests;
use crate::domain::Name;
use crate::domain::text::nearest;
use crate::workflow::manifest::Kind;
use crate::workflow::{Definition, Manifest};

#[derive(Debug, Args)]
pub struct SourceArgs {
    /// A manifest, - for standard input, or the name of a workflow in the store
    #[arg(value_name = "FILE|NAME", value_hint = ValueHint::FilePath)]
    source: String,
    /// Which workflow of the file, if it holds several
    #[arg(long, value_name = "NAME")]
    workflow: Option<Name>,
}

impl SourceArgs {
    /// The workflow, and the others that it may call. The store is asked only for what the file lacks.
    ///
    /// # Errors
    /// The manifest's mistakes, a name that is not there, and the store's.
    pub async fn load(&self, context: &Context) -> Result<(Definition, Vec<Definition>)> {
        let is_file = self.source == "-" || self.source.contains(['/', '.']) || Path::new(&self.source).exists();
        let (main, mut others) = if is_file {
            let found = manifests::read_all(&context.ui, &[self.source.clone().into()])?;
            let workflows = found.manifests.into_iter().filter_map(|manifest| match manifest {
                Manifest::Workflow(definition) => Some(definition),
                _ => None,
            });
            pick(workflows.collect(), self.workflow.as_ref(), &self.source)?
        } else {
            let name = self.source.parse().map_err(|error: crate::domain::name::BadName| {
                fail(Code::Usage, error.to_string()).hint("give a file, or the name of a workflow")
            })?;
            (stored(&context.client().await?, &name).await?, Vec::new())
        };
        let mut client = None;
        let mut next: Vec<Name> = main.calls().into_iter().collect();
        while let Some(name) = next.pop() {
            if *main.name() == name || others.iter().any(|other| *other.name() == name) {
                continue;
            }
            if client.is_none() {
                client = Some(context.client().await?);
            }
            if let Some(client) = &client {
                let called = stored(client, &name).await?;
                next.extend(called.calls());
                others.push(called);
            }
        }
        Ok((main, others))
    }
}

/// The workflow of a file that is meant, and its others.
///
/// # Errors
/// None or several and nobody says which one; one that is not among them.
pub fn pick(mut all: Vec<Definition>, wanted: Option<&Name>, file: &str) -> Result<(Definition, Vec<Definition>)> {
    let names: Vec<&str> = all.iter().map(|one| one.name().as_str()).collect();
    let holds = if names.is_empty() { "no workflow".to_owned() } else { names.join(", ") };
    let at = match wanted {
        Some(wanted) => all.iter().position(|one| one.name() == wanted),
        None if all.len() == 1 => Some(0),
        None => None,
    };
    match (at, wanted) {
        (Some(at), _) => {
            let main = all.remove(at);
            Ok((main, all))
        }
        (None, Some(wanted)) => {
            let told = fail(Code::Usage, format!("{file} holds no workflow `{wanted}`"));
            Err(match nearest(wanted.as_str(), names.iter().copied()) {
                Some(near) => told.hint(format!("did you mean `{near}`?")),
                None => told.hint(format!("it holds {holds}")),
            })
        }
        (None, None) if names.is_empty() => Err(fail(Code::Manifest, format!("{file} holds no workflow"))),
        (None, None) => {
            Err(fail(Code::Usage, format!("{file} holds {holds}")).hint("say which one with --workflow NAME"))
        }
    }
}

/// The current version of a workflow.
///
/// # Errors
/// That there is none, with the nearest name; the store's.
pub async fn stored(client: &Client, name: &Name) -> Result<Definition> {
    let kept = client.definition(Kind::Workflow, name).await?;
    Definition::kept(&kept.text, &kept.hash).map_err(|problems| manifests::wrong(&problems.0))
}
