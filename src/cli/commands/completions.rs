//! `goflow completions`.

use clap::{Args, ValueEnum};
use clap_complete::env::Shells;

use crate::cli::codes::Code;
use crate::cli::context::Context;
use crate::cli::error::{Result, fail};

/// Print the completion script of a shell
///
/// The script asks goflow itself for every completion, so that it knows the queues and jobs of the
/// store in use and does not go stale with a new version.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  For bash, in ~/.bashrc:
    source <(goflow completions bash)
  For zsh, in ~/.zshrc:
    source <(goflow completions zsh)
  For fish:
    goflow completions fish > ~/.config/fish/completions/goflow.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Target,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Target {
    Bash,
    Elvish,
    Fish,
    #[value(name = "powershell")]
    PowerShell,
    Zsh,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Target::Bash => "bash",
            Target::Elvish => "elvish",
            Target::Fish => "fish",
            Target::PowerShell => "powershell",
            Target::Zsh => "zsh",
        }
    }
}

pub fn run(context: &Context, args: CompletionsArgs) -> Result {
    let shells = Shells::builtins();
    let broken = |why: String| fail(Code::Bug, format!("no script for {}: {why}", args.shell.name()));
    let shell = shells.completer(args.shell.name()).ok_or_else(|| broken("unknown shell".to_owned()))?;
    let mut script = Vec::new();
    shell
        .write_registration("COMPLETE", "goflow", "goflow", "goflow", &mut script)
        .map_err(|error| broken(error.to_string()))?;
    context.ui.block(&String::from_utf8_lossy(&script))
}
