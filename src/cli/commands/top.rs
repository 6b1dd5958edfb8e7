//! `goflow top`.

use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::cli::args::Format;
use crate::cli::codes::Code;
use crate::cli::complete;
use crate::cli::context::{Context, runtime};
use crate::cli::error::{CommandError, Result, fail, reason};
use crate::domain::text::nearest;
use crate::domain::time::{millis, parse_duration};
use crate::tui::once::{frame, last_of, once, picture};
use crate::tui::record::{Kept, Then, read};
use crate::tui::run::{Ended, Given, Source, run as show};
use crate::tui::state::{About, Page, State};
use crate::tui::theme::{Colours, Theme};
use crate::tui::views::View;

/// Watch and steer everything from one screen: queues, jobs, runs, workers, schedules
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
  A picture of it, as wide as COLUMNS and as high as LINES:
    COLUMNS=110 LINES=32 goflow top --once --svg > overview.svg
  Keep a session for a bug report, and look at it again:
    goflow top --record session.jsonl
    goflow top --replay session.jsonl
  The jobs of another store, looked at every five seconds:
    goflow top jobs --interval 5s --store redis://localhost:6379")]
pub struct TopArgs {
    /// The view to open: overview, queues, jobs, runs, workers, schedules, dlq, events or shards
    #[arg(value_name = "VIEW", default_value = "overview", hide_default_value = true, value_parser = view,
          add = ArgValueCompleter::new(complete::views))]
    view: View,
    /// Print one plain frame and end
    #[arg(long)]
    once: bool,
    /// Print it as a picture, in SVG
    #[arg(long, requires = "once")]
    svg: bool,
    /// Change nothing, whatever is pressed
    #[arg(long)]
    read_only: bool,
    /// Write down what is shown; the file holds payloads, and is for its owner alone
    #[arg(long, value_name = "FILE", conflicts_with_all = ["once", "replay"])]
    record: Option<PathBuf>,
    /// Show what was written down, without a store
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
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
        return one_frame(context, args);
    }
    if context.global.output != Format::Table {
        return Err(fail(Code::Usage, "the console has no output formats")
            .hint("`goflow queue list`, `job list` and the others have; --once prints one plain frame"));
    }
    let is_dumb = context.env.get("TERM") == Some("dumb");
    if is_dumb || !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return Err(fail(Code::NoTerminal, "there is no terminal to show the console on")
            .hint("`goflow top --once` prints one plain frame"));
    }
    // Told before the screen is taken over: what is said later would be drawn over.
    let kept = args.replay.as_deref().map(recording).transpose()?;
    let name = match &args.replay {
        Some(path) => path.display().to_string(),
        None => context.store_choice()?.0.to_string(),
    };
    let record = args.record.as_deref().map(create).transpose()?;
    let mut state = state(context, args, name);
    state.about.is_recording = kept.is_some();
    let mut clock = context.clock.clone();
    if let Some(kept) = &kept {
        state.about.sharded = has_shards(kept);
        clock = Arc::new(Then::new(clock, kept));
        state.now = clock.now();
    }
    let given = Given { state, record, clock, env: context.env.clone() };
    let source = match kept {
        Some(kept) => Source::Recording(kept),
        None => Source::Store(context.client()),
    };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2);
    let runtime = runtime(builder)?;
    let ended = runtime.block_on(show(given, source));
    // A question to a store that does not answer is not waited for.
    runtime.shutdown_background();
    ended.map_err(|ended| match ended {
        Ended::Store(error) => error,
        Ended::Terminal(error) => fail(Code::NoTerminal, format!("the terminal cannot be used: {}", reason(&error))),
        Ended::Record(error) => {
            fail(Code::OutputFailed, format!("the recording cannot be written: {}", reason(&error)))
        }
        Ended::Interrupted => CommandError::Silent(crate::cli::codes::exit::INTERRUPTED),
    })
}

/// Prints the page as it is now, or as it was recorded last.
fn one_frame(context: &Context, args: &TopArgs) -> Result {
    let mut state = match &args.replay {
        Some(path) => {
            let kept = recording(path)?;
            let mut state = state(context, args, path.display().to_string());
            state.about.is_recording = true;
            state.about.sharded = has_shards(&kept);
            last_of(state, &kept)
        }
        None => context.block_on(async {
            let client = context.client().await?;
            Ok(once(state(context, args, client.describe()), &client).await?)
        })?,
    };
    if args.svg {
        state.theme = Theme { colours: Colours::Own, unicode: true };
        return context.ui.block(&picture(&state));
    }
    state.theme.colours = Colours::Mono;
    context.ui.block(&frame(&state))
}

/// Whether the store of a session had shards: a session without a look at them need not show them.
fn has_shards(kept: &[Kept]) -> bool {
    kept.iter().any(|one| one.view == View::Shards)
}

/// Reads a recorded session.
fn recording(path: &Path) -> Result<Vec<Kept>> {
    let wrong = |why: String| fail(Code::Unreadable, format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(reason(&error)))?;
    let kept = read(&text).map_err(|error| wrong(error.to_string()))?;
    if kept.is_empty() {
        return Err(wrong("nothing is recorded in it".to_owned()).hint("`goflow top --record FILE` writes one"));
    }
    Ok(kept)
}

/// A new file for a session. One that is there is left as it is.
fn create(path: &Path) -> Result<Box<dyn std::io::Write + Send>> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = opened.map_err(|error| fail(Code::Unreadable, format!("{}: {}", path.display(), reason(&error))))?;
    Ok(Box::new(std::io::BufWriter::new(file)))
}

fn state(context: &Context, args: &TopArgs, store: String) -> State {
    let told = |name: &str| context.env.get(name).and_then(|text| text.parse::<u16>().ok()).filter(|n| *n > 0);
    let size = (context.ui.width.or(told("COLUMNS")).unwrap_or(80), told("LINES").unwrap_or(24));
    let theme =
        Theme { colours: if context.ui.color { Colours::Own } else { Colours::Mono }, unicode: context.ui.unicode };
    let user = context.env.first(&["USER", "LOGNAME"]).map(|(_, name)| name.to_owned()).unwrap_or_default();
    let about = About { store, read_only: args.read_only, is_recording: false, sharded: false, user };
    let mut state = State::new(about, theme, size, context.clock.now());
    state.stack = vec![Page::new(args.view)];
    state.interval = u64::try_from(millis(args.interval)).unwrap_or(1_000);
    state
}
