//! `goflow top`.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;

use crate::cli::args::Format;
use crate::cli::codes::Code;
use crate::cli::context::{Context, runtime};
use crate::cli::error::{CommandError, Result, fail, reason};
use crate::domain::text::nearest;
use crate::domain::time::{millis, parse_duration};
use crate::tui::once::once;
use crate::tui::run::{Ended, Given, run as show};
use crate::tui::state::{About, Page, State};
use crate::tui::theme::{Colours, Theme};
use crate::tui::views::View;

/// Watch and steer everything from one screen: queues, jobs, workers
///
/// Opens with an overview; the numbers on the second line are keys, ? shows all keys of a view. What is
/// done is told with the command that does the same. Esc and q lead back, ctrl-c ends it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Look, without being able to change anything:
    goflow top --read-only
  One plain frame, for a script or a bug report:
    goflow top --once
  The jobs of another store, looked at every five seconds:
    goflow top jobs --interval 5s --store redis://localhost:6379")]
pub struct TopArgs {
    /// The view to open: overview, queues, jobs or workers
    #[arg(value_name = "VIEW", default_value = "overview", hide_default_value = true, value_parser = view)]
    view: View,
    /// Print one plain frame and end
    #[arg(long)]
    once: bool,
    /// Change nothing, whatever is pressed
    #[arg(long)]
    read_only: bool,
    /// How often to look, from 250ms to 30s
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval, allow_hyphen_values = true)]
    interval: Duration,
}

fn view(word: &str) -> std::result::Result<View, String> {
    let titles = View::TABS.iter().map(|view| view.title());
    View::named(word).ok_or_else(|| {
        let names: Vec<String> = View::TABS.iter().map(|view| view.title().to_lowercase()).collect();
        match nearest(word, titles) {
            Some(near) => format!("`{word}` is no view; did you mean `{}`?", near.to_lowercase()),
            None => format!("`{word}` is no view; there are {}", names.join(", ")),
        }
    })
}

fn interval(text: &str) -> std::result::Result<Duration, String> {
    let interval = parse_duration(text).map_err(|error| error.to_string())?;
    let allowed = Duration::from_millis(250)..=Duration::from_secs(30);
    if allowed.contains(&interval) { Ok(interval) } else { Err(format!("`{text}` is not from 250ms to 30s")) }
}

pub fn run(context: &Context, args: &TopArgs) -> Result {
    if args.once {
        return context.block_on(async {
            let client = context.client().await?;
            let mut state = state(context, args, client.describe());
            state.theme.colours = Colours::Mono;
            let frame = once(state, &client).await?;
            context.ui.block(&frame)
        });
    }
    if context.global.output != Format::Table {
        return Err(fail(Code::Usage, "the console has no output formats")
            .hint("`goflow queue list`, `job list` and the others have; --once prints one plain frame"));
    }
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return Err(fail(Code::NoTerminal, "there is no terminal to show the console on")
            .hint("`goflow top --once` prints one plain frame"));
    }
    // Told before the screen is taken over: what is said later would be drawn over.
    let (url, _) = context.store_choice()?;
    let given =
        Given { state: state(context, args, url.to_string()), clock: context.clock.clone(), env: context.env.clone() };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2);
    let runtime = runtime(builder)?;
    let ended = runtime.block_on(show(given, context.client()));
    // A question to a store that does not answer is not waited for.
    runtime.shutdown_background();
    ended.map_err(|ended| match ended {
        Ended::Store(error) => error,
        Ended::Terminal(error) => fail(Code::NoTerminal, format!("the terminal cannot be used: {}", reason(&error))),
        Ended::Interrupted => CommandError::Silent(crate::cli::codes::exit::INTERRUPTED),
    })
}

fn state(context: &Context, args: &TopArgs, store: String) -> State {
    let told = |name: &str| context.env.get(name).and_then(|text| text.parse::<u16>().ok()).filter(|n| *n > 0);
    let size = (context.ui.width.or(told("COLUMNS")).unwrap_or(80), told("LINES").unwrap_or(24));
    let theme =
        Theme { colours: if context.ui.color { Colours::Own } else { Colours::Mono }, unicode: context.ui.unicode };
    let about = About { store, read_only: args.read_only };
    let mut state = State::new(about, theme, size, context.clock.now());
    state.stack = vec![Page::new(args.view)];
    state.interval = u64::try_from(millis(args.interval)).unwrap_or(1_000);
    state
}
