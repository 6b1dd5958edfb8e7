//! `goflow schedule next`.

use clap::Args;
use clap_complete::ArgValueCompleter;
use serde::{Serialize, Serializer};

use crate::cli::codes::Code;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::{Result, fail};
use crate::cli::output::{Column, Listed};
use crate::domain::schedule::{Rule, Zone};
use crate::domain::{Ms, Name};

/// Show when a rule or a schedule fires next
///
/// A rule needs no store. The name of a schedule is looked up in it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Five fields, as in a crontab: minute, hour, day of month, month, day of week. 0 and 7 are Sunday, and when
both day fields are given either will do. Or @hourly, @daily, @weekly, @monthly, @yearly, or @every 5m.

Examples:
  The next five mornings of working days in Berlin:
    goflow schedule next '0 9 * * mon-fri' --timezone Europe/Berlin
  The next times of a schedule that was applied:
    goflow schedule next nightly-report
  What a rule does when the clocks change:
    goflow schedule next '30 2 * * *' --timezone America/New_York --from 2026-03-07T12:00:00Z -n 3")]
pub struct NextArgs {
    /// The rule, in quotes, or the name of a schedule
    #[arg(value_name = "CRON|NAME", add = ArgValueCompleter::new(complete::schedules))]
    rule: String,
    /// The time zone whose clocks the rule follows, by its IANA name [default: UTC]
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Count from this time on, RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// How many times
    #[arg(short, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    n: u16,
}

/// One time a rule fires.
struct Time {
    at: String,
    /// What the clocks of its zone show.
    local: String,
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.serialize_str(&self.at)
    }
}

impl Listed for Time {
    fn name(&self) -> &str {
        &self.at
    }
}

type T = Column<Time>;

const UTC: &[Column<Time>] = &[T::new("NEXT", |time, _| time.at.clone())];
const LOCAL: &[Column<Time>] =
    &[T::new("NEXT", |time, _| time.at.clone()), T::new("LOCAL", |time, _| time.local.clone())];

pub fn run(context: &Context, args: &NextArgs) -> Result {
    // No rule is one word but those that begin with an @.
    let word = args.rule.trim();
    match word.parse::<Name>() {
        Ok(name) if !word.bytes().all(|b| b.is_ascii_digit()) => of_schedule(context, args, &name),
        _ => of_rule(context, args),
    }
}

fn of_rule(context: &Context, args: &NextArgs) -> Result {
    let zone = args.timezone.as_deref().map_or_else(|| Ok(Zone::utc()), Zone::parse)?;
    let rule = Rule::parse(&args.rule, &zone)?;
    let from = match &args.from {
        Some(text) => time(text)?,
        None => context.clock.now(),
    };
    for remark in rule.remarks() {
        context.ui.warn(remark);
    }
    let next = |at: &Ms| rule.next_after(*at, from);
    let times: Vec<Ms> = std::iter::successors(next(&from), next).take(usize::from(args.n)).collect();
    show(context, &zone, times)
}

fn of_schedule(context: &Context, args: &NextArgs, name: &Name) -> Result {
    let flag = [("--timezone", args.timezone.is_some()), ("--from", args.from.is_some())];
    if let Some((flag, _)) = flag.iter().find(|(_, given)| *given) {
        return Err(fail(Code::Usage, format!("{flag} goes with a rule, and `{name}` is the name of a schedule"))
            .hint("a rule has five fields, as in '0 9 * * *'"));
    }
    context.block_on(async {
        let (zone, times) = context.client().await?.schedule_ticks(name, usize::from(args.n)).await?;
        show(context, &zone, times)
    })
}

fn show(context: &Context, zone: &Zone, times: Vec<Ms>) -> Result {
    let times: Vec<Time> = times.into_iter().map(|at| Time { at: at.rfc3339(), local: zone.show(at) }).collect();
    context.ui.list(&times, if *zone == Zone::utc() { UTC } else { LOCAL })
}

fn time(text: &str) -> Result<Ms> {
    let at: jiff::Timestamp = text.parse().map_err(|_| {
        fail(Code::Usage, format!("--from: `{text}` is not a time of RFC 3339"))
            .hint("write it with its offset, as in 2030-01-31T09:00:00Z or 2030-01-31T10:00:00+01:00")
    })?;
    Ok(Ms(at.as_millisecond()))
}
