//! `goflow man`.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};

use crate::cli::args::Cli;
use crate::cli::codes::Code;
use crate::cli::context::Context;
use crate::cli::error::{Result, fail, reason};
use crate::domain::text::count;

/// Print the manual page, or write the pages of all commands into a folder
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Read it:
    goflow man | man -l -
  Install all pages:
    goflow man --dir ~/.local/share/man/man1")]
pub struct ManArgs {
    /// Write a page for each command into this folder
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

pub fn run(context: &Context, args: &ManArgs) -> Result {
    let mut command = Cli::command();
    command.build();
    let Some(folder) = &args.dir else {
        return context.ui.block(&page(&command)?);
    };
    let mut pages = Vec::new();
    collect(&command, &mut pages)?;
    write(folder, &pages).map_err(|error| {
        fail(Code::Unreadable, format!("{} cannot be written: {}", folder.display(), reason(&error)))
    })?;
    context.ui.say(&format!("wrote {} into {}", count(pages.len() as u64, "page"), folder.display()));
    Ok(())
}

fn write(folder: &Path, pages: &[(String, String)]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    pages.iter().try_for_each(|(name, text)| std::fs::write(folder.join(name), text))
}

fn collect(command: &clap::Command, pages: &mut Vec<(String, String)>) -> Result {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    pages.push((format!("{name}.1"), page(&command.clone().name(name))?));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        collect(sub, pages)?;
    }
    Ok(())
}

fn page(command: &clap::Command) -> Result<String> {
    let mut text = Vec::new();
    // Without a date: the page must be the same whenever it is made.
    clap_mangen::Man::new(command.clone())
        .manual("goflow manual")
        .render(&mut text)
        .map_err(|error| fail(Code::Bug, format!("no manual page: {error}")))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
