//! The live tree of a run on stderr: on a terminal one row a step that changes in place, elsewhere a
//! line for each event. Shows what a run's header and history say and nothing else.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::{Tone, ink};
use super::ui::Ui;
use crate::domain::text::{age, count, display_safe};
use crate::domain::{Event, Ms, RunId, StepState};
use crate::workflow::{Run, StepRecord};

pub struct Tree<'a> {
    ui: &'a Ui,
    id: RunId,
    /// Rows on a terminal; none elsewhere.
    rows: Option<Rows>,
}

struct Rows {
    all: MultiProgress,
    head: ProgressBar,
    steps: Vec<ProgressBar>,
}

/// More steps than fit on a screen would scroll it away at every change.
const MOST_ROWS: usize = 40;
/// Longer names push the columns behind them out of line, for their own row alone.
const WIDEST_NAME: usize = 32;

impl<'a> Tree<'a> {
    pub fn new(ui: &'a Ui, id: RunId) -> Tree<'a> {
        Tree { ui, id, rows: None }
    }

    /// Whether the rows of so many steps are drawn; else the history is told.
    pub fn draws(&self, steps: usize) -> bool {
        self.ui.draws() && steps <= MOST_ROWS
    }

    /// Draws the run as it is now.
    pub fn draw(&mut self, run: &Run, now: Ms) {
        let rows = self.rows.take().unwrap_or_else(|| rows(run.steps.len()));
        rows.head.set_message(self.head(run, now));
        let last = run.steps.len().saturating_sub(1);
        let widest = run.steps.iter().map(|step| step.id.chars().count()).max().unwrap_or(0).min(WIDEST_NAME);
        for (nth, (bar, step)) in rows.steps.iter().zip(&run.steps).enumerate() {
            let branch = match (self.ui.unicode, nth == last) {
                (true, true) => "└─",
                (true, false) => "├─",
                (false, true) => "`-",
                (false, false) => "|-",
            };
            bar.set_message(format!("{branch} {}", self.row(step, widest, now)));
        }
        self.rows = Some(rows);
    }

    /// Tells what the history says next: a line an event.
    pub fn tell(&self, events: &[Event]) {
        for event in events {
            let kind = event.kind.as_str();
            let what = kind.split_once('.').map_or(kind, |(_, what)| what).replace('_', " ");
            let subject = match &event.step {
                Some(step) => format!("step {step}"),
                None => format!("run {}", self.id),
            };
            let why = event.data.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            self.ui.say(&format!("{subject} {what}{why}"));
        }
    }

    /// Says something above the rows.
    pub fn say(&self, text: &str) {
        match &self.rows {
            Some(rows) => rows.all.suspend(|| self.ui.say(text)),
            None => self.ui.say(text),
        }
    }

    /// Leaves the rows as they are last.
    pub fn finish(&mut self) {
        if let Some(rows) = self.rows.take() {
            rows.steps.iter().for_each(ProgressBar::abandon);
            rows.head.abandon();
            drop(rows.all);
        }
    }

    fn head(&self, run: &Run, now: Ms) -> String {
        let dot = if self.ui.unicode { "·" } else { "-" };
        let ended = run.steps.iter().filter(|step| step.state.has_ended()).count();
        let steps = format!("{ended} of {}", count(run.steps.len() as u64, "step"));
        let time = run
            .started_at
            .map_or_else(String::new, |from| format!(" {dot} {}", took(run.finished_at.unwrap_or(now).since(from))));
        format!("{} {} {dot} {} {dot} {steps}{time}", run.workflow, self.id.short(), run.state)
    }

    fn row(&self, step: &StepRecord, widest: usize, now: Ms) -> String {
        let (glyph, ascii, tone) = look(step.state);
        let glyph = if self.ui.unicode { glyph } else { ascii };
        let (on, off) = ink(self.ui.color_err, tone);
        let time = match (step.started_at, step.finished_at) {
            (Some(from), Some(to)) => format!("  {:>6}", took(to.since(from))),
            (Some(from), None) => format!("  {:>6}", took(now.since(from))),
            _ => String::new(),
        };
        let error =
            step.error.as_ref().map_or_else(String::new, |error| format!("  {}", display_safe(&error.to_string())));
        format!("{on}{glyph} {:<12}{off} {:<widest$}{time}{error}", step.state, display_safe(&step.id))
    }
}

fn rows(steps: usize) -> Rows {
    let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(20));
    // Cut to the width of the terminal: a step is a row, however long its error is.
    let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = || all.add(ProgressBar::new_spinner().with_style(style.clone()));
    Rows { head: bar(), steps: (0..steps).map(|_| bar()).collect(), all }
}

/// A time that somebody watches go by: tenths of a second as long as they matter.
fn took(duration: Duration) -> String {
    match duration.as_secs() {
        1..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3_600 => format!("{}m{:02}s", duration.as_secs() / 60, duration.as_secs() % 60),
        _ => age(duration),
    }
}

fn look(state: StepState) -> (&'static str, &'static str, Tone) {
    match state {
        StepState::Pending => ("○", "o", Tone::Faint),
        StepState::Running => ("▶", ">", Tone::Busy),
        StepState::Waiting => ("◷", "@", Tone::Wait),
        StepState::Retrying => ("↻", "~", Tone::Wait),
        StepState::Completed => ("✓", "+", Tone::Good),
        StepState::Failed => ("✗", "!", Tone::Bad),
        StepState::Skipped => ("·", ".", Tone::Faint),
        StepState::Cancelled => ("⊘", "x", Tone::Faint),
        StepState::Compensating => ("↩", "<", Tone::Wait),
        StepState::Compensated => ("↩", "<", Tone::Good),
    }
}
