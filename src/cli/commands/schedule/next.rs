//! `goflow schedule next`.

use clap::Args;
use serde::{Serialize, Serializer};

use crate::cli::codes::Code;
use crate::cli::context::Context;
use crate::cli::error::{Result, fail};
use crate::cli::output::{Column, Listed};
use crate::domain::Ms;
use crate::domain::schedule::{Rule, Zone};

/// Show when a rule fires next, without a store
#[derive(Debug, Args)]
#[command(after_long_help = "\
Five fields, as in a crontab: minute, hour, day of month, month, day of week. 0 and 7 are Sunday, and when
both day fields are given either will do. Or @hourly, @daily, @weekly, @monthly, @yearly, or @every 5m.

Examples:
  The next five mornings of working days in Berlin:
    goflow schedule next '0 9 * * mon-fri' --timezone Europe/Berlin
  What a rule does when the clocks change:
    goflow schedule next '30 2 * * *' --timezone America/New_York --from 2026-03-07T12:00:00Z -n 3")]
pub struct NextArgs {
    /// The rule, in quotes
    #[arg(value_name = "CRON")]
    rule: String,
    /// The time zone whose clocks it follows, by its IANA name
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    timezone: String,
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
    let zone = Zone::parse(&args.timezone)?;
    let rule = Rule::parse(&args.rule, &zone)?;
    let from = match &args.from {
        Some(text) => time(text)?,
        None => context.clock.now(),
    };
    for remark in rule.remarks() {
        context.ui.warn(remark);
    }
    let next = |at: &Ms| rule.next_after(*at, from);
    let times = std::iter::successors(next(&from), next).take(usize::from(args.n));
    let times: Vec<Time> = times.map(|at| Time { at: at.rfc3339(), local: zone.show(at) }).collect();
    context.ui.list(&times, if zone == Zone::utc() { UTC } else { LOCAL })
}

fn time(text: &str) -> Result<Ms> {
    let at: jiff::Timestamp = text.parse().map_err(|_| {
        fail(Code::Usage, format!("--from: `{text}` is not a time of RFC 3339"))
            .hint("write it with its offset, as in 2030-01-31T09:00:00Z or 2030-01-31T10:00:00+01:00")
    })?;
    Ok(Ms(at.as_millisecond()))
}
