//! `goflow queue set`.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::cli::codes::Code;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::{Result, fail};
use crate::domain::queue::Retention;
use crate::domain::time::parse_duration;
use crate::domain::{Name, QueueSettings, Rate, limits};

/// Limit a queue over all workers, weigh it, or keep its finished jobs for longer
///
/// What is not named stays as it is; `none` takes a setting back. Workers follow within seconds.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  At most three at once, and a hundred a second, over all workers:
    goflow queue set mail --concurrency 3 --rate-limit 100/s
  Without a limit again:
    goflow queue set mail --concurrency none --rate-limit none
  Keep a week of finished jobs, but no more than 5000:
    goflow queue set reports --retention 7d,5000")]
pub struct SetArgs {
    /// The queue
    #[arg(value_name = "QUEUE", add = ArgValueCompleter::new(complete::queues))]
    queue: Name,
    /// Its share among the queues of a worker: 1 to 1000, or none
    #[arg(long, value_name = "N", value_parser = read::<Weight>)]
    weight: Option<Wanted<Weight>>,
    /// Starts in a time, as in 100/s, 5/m, 10/h, or none
    #[arg(long, value_name = "RATE", value_parser = read::<Rate>)]
    rate_limit: Option<Wanted<Rate>>,
    /// Jobs at the same time, or none
    #[arg(long, value_name = "N", value_parser = read::<AtOnce>)]
    concurrency: Option<Wanted<AtOnce>>,
    /// How long finished jobs are kept, and at most how many, or none
    #[arg(long, value_name = "AGE[,COUNT]", value_parser = read::<Kept>)]
    retention: Option<Wanted<Kept>>,
}

/// A value, or that there is to be none.
#[derive(Clone, Copy, Debug)]
enum Wanted<T> {
    Nothing,
    This(T),
}

impl<T> Wanted<T> {
    fn apply<S>(self, to: &mut Option<S>, form: impl FnOnce(T) -> S) {
        *to = match self {
            Wanted::Nothing => None,
            Wanted::This(value) => Some(form(value)),
        };
    }
}

fn read<T: FromStr<Err: ToString>>(text: &str) -> std::result::Result<Wanted<T>, String> {
    match text {
        "none" => Ok(Wanted::Nothing),
        text => text.parse().map(Wanted::This).map_err(|error: T::Err| error.to_string()),
    }
}

#[derive(Clone, Copy, Debug)]
struct Weight(u32);
#[derive(Clone, Copy, Debug)]
struct AtOnce(u32);
#[derive(Clone, Copy, Debug)]
struct Kept(Retention);

fn within(text: &str, most: u32) -> std::result::Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| format!("`{text}` is not a whole number from 1 to {most}, nor none"))
}

impl FromStr for Weight {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Weight, String> {
        within(text, 1_000).map(Weight)
    }
}

impl FromStr for AtOnce {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<AtOnce, String> {
        within(text, 1_000_000).map(AtOnce)
    }
}

impl FromStr for Kept {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Kept, String> {
        let (age, count) = match text.split_once(',') {
            Some((age, count)) => (age, within(count, u32::MAX)? as usize),
            None => (text, limits::RETENTION_COUNT),
        };
        match parse_duration(age) {
            Ok(Duration::ZERO) => Err(format!("`{text}` keeps nothing at all")),
            Ok(age) => Ok(Kept(Retention { age, count })),
            Err(error) => Err(error.to_string()),
        }
    }
}

pub fn run(context: &Context, args: &SetArgs) -> Result {
    let named =
        [args.weight.is_some(), args.rate_limit.is_some(), args.concurrency.is_some(), args.retention.is_some()];
    if !named.contains(&true) {
        return Err(fail(Code::Usage, format!("nothing was named to set of {}", args.queue))
            .hint("give --weight, --rate-limit, --concurrency or --retention"));
    }
    let change = |settings: &mut QueueSettings| {
        if let Some(wanted) = args.weight {
            wanted.apply(&mut settings.weight, |weight| weight.0);
        }
        if let Some(wanted) = args.rate_limit {
            wanted.apply(&mut settings.rate_limit, |rate| rate);
        }
        if let Some(wanted) = args.concurrency {
            wanted.apply(&mut settings.concurrency, |limit| limit.0);
        }
        if let Some(wanted) = args.retention {
            wanted.apply(&mut settings.retention, |kept| kept.0);
        }
    };
    context.block_on(async {
        let client = context.client().await?;
        let changed = client.set_queue(&args.queue, change).await?;
        let view = client.queue_view(&args.queue).await?;
        let (name, set) = (&view.name, view.settings_text());
        let told = if changed { format!("set {name}: {set}") } else { format!("{name} was set so already: {set}") };
        context.ui.result(&view, &told)
    })
}
