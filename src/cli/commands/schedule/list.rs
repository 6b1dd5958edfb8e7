//! `goflow schedule list`.

use clap::Args;

use crate::api::ScheduleView;
use crate::api::schedules::SCHEDULE_FIELDS;
use crate::cli::commands::rows::{id_text, time_text};
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::output::{Column, Listed, Tone};
use crate::cli::select::{self, Limit};
use crate::domain::text::thousands;

/// List schedules: what they start, when next, and what became of their ticks
///
/// The list is cut at 20 schedules, and says so; `-n 0` lists all.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  With zone, policies and counts:
    goflow schedule list -o wide
  The paused ones:
    goflow schedule list --where paused:yes -o name")]
pub struct ListArgs {
    #[command(flatten)]
    limit: Limit,
    /// Only schedules that match, as in 'workflow:report-* paused:no missed>0'
    #[arg(long = "where", value_name = "FILTER")]
    filter: Option<String>,
}

impl Listed for ScheduleView {
    fn name(&self) -> &str {
        &self.name
    }
}

type S = Column<ScheduleView>;

const SCHEDULES: &[Column<ScheduleView>] = &[
    S::new("SCHEDULE", |schedule, _| schedule.name.clone()),
    S::new("RULE", |schedule, _| schedule.rule.clone()),
    S::new("ZONE", |schedule, _| schedule.timezone.clone()),
    S::new("STARTS", |schedule, _| match (&schedule.workflow, &schedule.job) {
        (Some(workflow), _) => format!("workflow {workflow}"),
        (None, job) => format!("job {}", job.as_deref().unwrap_or_default()),
    }),
    S::new("STATE", |schedule, ui| match (schedule.paused, ui.is_terminal() && ui.unicode) {
        (true, true) => "‖ paused".to_owned(),
        (true, false) => "paused".to_owned(),
        (false, true) => "▶ open".to_owned(),
        (false, false) => "open".to_owned(),
    })
    .tone(|schedule| schedule.paused.then_some(Tone::Wait)),
    S::new("NEXT", |schedule, ui| schedule.next_at.map_or_else(String::new, |at| time_text(at.0, ui))).right(),
    S::new("LAST", |schedule, ui| schedule.last_at.map_or_else(String::new, |at| time_text(at.0, ui))).right(),
    S::new("OVERLAP", |schedule, _| schedule.overlap.clone()).wide(),
    S::new("CATCHUP", |schedule, _| schedule.catchup.clone()).wide(),
    S::new("QUEUE", |schedule, _| schedule.queue.clone().unwrap_or_default()).wide(),
    S::new("LAST ID", |schedule, ui| {
        let id = schedule.last_job_id.as_deref().or(schedule.last_run_id.as_deref());
        id.map_or_else(String::new, |id| id_text(id, ui))
    })
    .wide(),
    S::new("WAITING", |schedule, _| thousands(schedule.waiting.len() as u64)).right().wide(),
    S::new("TICKED", |schedule, _| thousands(schedule.ticked)).right().wide(),
    S::new("SKIPPED", |schedule, _| thousands(schedule.skipped)).right().wide(),
    S::new("MISSED", |schedule, _| thousands(schedule.missed))
        .right()
        .tone(|schedule| (schedule.missed > 0).then_some(Tone::Bad)),
];

pub fn run(context: &Context, args: &ListArgs) -> Result {
    let filter = select::things(args.filter.as_deref(), SCHEDULE_FIELDS)?;
    context.block_on(async {
        let (now, mut schedules) = (context.clock.now(), context.client().await?.schedules().await?);
        schedules.retain(|schedule| filter.matches(schedule, now));
        let cut = args.limit.cut(&mut schedules);
        context.ui.list(&schedules, SCHEDULES)?;
        args.limit.tell_cut(context, "first", cut);
        Ok(())
    })
}
