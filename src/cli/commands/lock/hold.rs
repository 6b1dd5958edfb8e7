//! `goflow lock run` and `goflow semaphore run`: a command under a lock, from the wait for it to the
//! exit code.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCompleter;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::api::Client;
use crate::api::locks::{Held, Taken, Wish};
use crate::cli::codes::Code;
use crate::cli::complete;
use crate::cli::context::{Context, runtime};
use crate::cli::error::{CommandError, Result, fail, reason};
use crate::domain::Name;
use crate::domain::text::count;
use crate::domain::time::{BadDuration, format_duration, parse_duration};
use crate::exec::{Containment, Foreground};
use crate::store::LockRecord;

/// From TERM to KILL for a command whose lock is lost, or that is interrupted.
const GRACE: Duration = Duration::from_secs(5);
/// Where the command finds who it is; also what marks its processes.
const HOLDER: &str = "GOFLOW_HOLDER";

/// Run a command while holding a lock
///
/// Ends with the command's own code; with 4 when somebody else holds the lock, with 6 when --wait ran out.
/// The lock is extended while the command runs. If it is lost all the same, because the store could not
/// be reached in time, this process was stopped, or somebody broke it, the command and everything it
/// started are ended, and the code is 1.
///
/// The command finds the lock's fencing number in $GOFLOW_FENCE: it rises with every grant, so that what
/// the command writes to can refuse whoever has been overtaken. It has this standard input and output,
/// and no terminal to control.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  One backup at a time, over all machines of the store:
    goflow lock run nightly-backup -- ./backup.sh
  Wait for the one that runs, but not for ever:
    goflow lock run deploy --wait 10m -- ./deploy.sh")]
pub struct LockArgs {
    /// Which lock
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(complete::locks))]
    name: Name,
    #[command(flatten)]
    how: How,
}

/// Run a command in one of so many slots
///
/// As `goflow lock run`, with --limit holders at once instead of one. Everybody must name the same limit:
/// another one is refused, with 4, as long as the semaphore is held.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  At most three downloads at once, over all machines of the store:
    goflow semaphore run downloads --limit 3 --wait -- curl -O https://example.com/big")]
pub struct SemaphoreArgs {
    /// Which semaphore
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(complete::locks))]
    name: Name,
    /// Holders at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    #[command(flatten)]
    how: How,
}

// Flags of both. Without a doc comment, which would become the help of those commands.
#[derive(Debug, Args)]
struct How {
    /// How long it holds without being extended: what a holder that dies costs the next one
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = ttl, allow_hyphen_values = true)]
    ttl: Duration,
    /// Wait until it is free; with a DURATION, at most so long
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "forever", value_parser = wait)]
    wait: Option<Duration>,
    /// The command and its arguments
    #[arg(value_name = "CMD", last = true, required = true)]
    command: Vec<OsString>,
}

fn ttl(text: &str) -> std::result::Result<Duration, String> {
    match parse_duration(text) {
        Ok(ttl) if ttl < Duration::from_millis(100) => Err("a lock holds for 100ms at least".to_owned()),
        Ok(ttl) => Ok(ttl),
        Err(error) => Err(error.to_string()),
    }
}

fn wait(text: &str) -> std::result::Result<Duration, BadDuration> {
    if text == "forever" { Ok(Duration::MAX) } else { parse_duration(text) }
}

pub fn lock(context: &Context, args: LockArgs) -> Result {
    run(context, args.name, 1, &args.how)
}

pub fn semaphore(context: &Context, args: SemaphoreArgs) -> Result {
    run(context, args.name, args.limit, &args.how)
}

fn run(context: &Context, name: Name, slots: u32, how: &How) -> Result {
    let host = crate::sys::host::name();
    let command = how.command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let command: String = command.chars().filter(|c| *c != '\0').take(200).collect();
    let about = format!("pid {} on {host}: {command}", crate::sys::process::own_pid());
    let wish = Wish { name, slots, ttl: how.ttl, about };
    // On this thread alone, as every command: what runs beside is only the extending.
    runtime(tokio::runtime::Builder::new_current_thread())?.block_on(async {
        let mut stop = Stop::watch()?;
        let held = tokio::select! {
            biased;
            () = stop.asked() => return Err(interrupted()),
            held = take(context, &wish, how.wait) => held?,
        };
        under(context, held, how, &mut stop).await
    })
}

async fn take(context: &Context, wish: &Wish, wait: Option<Duration>) -> Result<Held> {
    let client: Client = context.client().await?;
    match client.hold(wish, wait.unwrap_or(Duration::ZERO)).await? {
        Taken::Held(held) => Ok(held),
        Taken::OtherSlots(lock) => {
            let LockRecord { name, slots, holders } = lock;
            let n = count(holders.len() as u64, "holder");
            Err(fail(Code::LockHeld, format!("{name} has {slots} slots for its {n}, not {}", wish.slots))
                .hint("name the same limit everywhere; another one is taken once nobody holds it"))
        }
        Taken::Busy(lock) => {
            let who = lock.holders.first().map_or_else(String::new, |one| format!(" by {}", one.about));
            let taken = match lock.slots {
                1 => format!("{} is held{who}", lock.name),
                slots => format!("all {slots} slots of {} are held", lock.name),
            };
            Err(match wait {
                None => fail(Code::LockHeld, taken).hint("--wait waits for it; `goflow lock list` shows until when"),
                Some(wait) => fail(Code::TimedOut, format!("{taken}, also after {}", format_duration(wait)))
                    .hint("`goflow lock list` shows by whom and until when"),
            })
        }
    }
}

/// How the command came to its end.
enum Cut {
    Exited,
    Lost,
    Interrupted,
}

/// Runs the command, and gives the lock back when nothing of it lives any more.
async fn under(context: &Context, mut held: Held, how: &How, stop: &mut Stop) -> Result {
    let mut environment: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    environment.insert("GOFLOW_FENCE".into(), held.fence().to_string().into());
    environment.insert("GOFLOW_LOCK".into(), held.name().to_string().into());
    environment.insert(HOLDER.into(), held.holder().to_string().into());
    held.renew(how.ttl);
    let started = Foreground::start(&how.command, &environment, HOLDER, Containment::Cgroup).await;
    let running = match started {
        Ok(running) => running,
        Err(error) => {
            held.release().await?;
            let program = how.command.first().map(|word| word.to_string_lossy()).unwrap_or_default();
            return Err(fail(Code::NoCommand, format!("`{program}` cannot be started: {}", reason(&error))));
        }
    };
    let lost = held.lost();
    let cut = tokio::select! {
        biased;
        () = running.exited() => Cut::Exited,
        () = lost.cancelled() => Cut::Lost,
        () = stop.asked() => Cut::Interrupted,
    };
    let name = held.name().clone();
    let (stuck, status) = running.end(GRACE).await;
    // What hangs in the kernel may still write: then the lock is not given back before its time.
    if stuck.is_empty()
        && let Err(error) = held.release().await
    {
        // The command has done what it did; its code is the answer.
        context.ui.warn(&format!("{name} could not be given back and is held until its time is over: {error}"));
    }
    match cut {
        Cut::Exited => exit(status),
        Cut::Interrupted => Err(interrupted()),
        Cut::Lost => Err(fail(Code::LockLost, format!("{name} was lost, so the command was ended")).hint(
            "its time ran out before it could be extended, or it was broken; a longer --ttl bears longer pauses",
        )),
    }
}

fn interrupted() -> CommandError {
    fail(Code::Interrupted, "interrupted")
}

/// The command's own code, as a shell has it.
fn exit(status: Option<ExitStatus>) -> Result {
    let code = status.map_or(1, |status| {
        status.code().unwrap_or_else(|| 128_i32.saturating_add(status.signal().unwrap_or_default()))
    });
    if code == 0 { Ok(()) } else { Err(CommandError::Silent(u8::try_from(code).unwrap_or(1))) }
}

/// What asks this process to end.
struct Stop([Signal; 3]);

impl Stop {
    fn watch() -> Result<Stop> {
        let watch = |kind| {
            signal(kind).map_err(|error| fail(Code::Bug, format!("signals cannot be watched for: {}", reason(&error))))
        };
        Ok(Stop([watch(SignalKind::interrupt())?, watch(SignalKind::terminate())?, watch(SignalKind::hangup())?]))
    }

    async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
