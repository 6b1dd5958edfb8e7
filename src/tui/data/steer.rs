//! The verbs on runs, schedules and groups of dead jobs: each by the same function of `api` as its
//! command. What cannot be done to one is told, and does not keep the others from it.

use super::act::{Told, all_that_match, counted};
use crate::api::filter::Where;
use crate::api::run_list::{RUN_FIELDS, RunBrief};
use crate::api::told::sentence;
use crate::api::verbs::Acted as Did;
use crate::api::{ApiError, Client, Filter, Verb as JobVerb};
use crate::domain::text::count;
use crate::domain::{JobState, Json, Name, RunId, RunState, limits};
use crate::tui::msg::Verb;
use crate::tui::update::word;

/// Runs that are looked at at once.
const AT_ONCE: usize = 1_000;

/// Pauses or resumes, cancels or tries again.
pub async fn runs(client: &Client, verb: Verb, runs: &[(String, bool)]) -> Told {
    let mut tally = Tally::default();
    for (id, paused) in runs {
        let Ok(id) = id.parse::<RunId>() else { continue };
        let (done, did) = match verb {
            Verb::Pause if *paused => ("resuming", client.resume_run(id).await),
            Verb::Pause => ("pausing", client.pause_run(id).await),
            Verb::Cancel => ("cancelling", client.cancel_run(id, true).await),
            Verb::Retry => ("retrying", client.retry_run(id).await),
            _ => return Ok(("that cannot be done to runs".to_owned(), true)),
        };
        tally.add(done, did)?;
    }
    Ok(tally.told("run"))
}

/// The runs that match, and to how many of them a verb can be done.
pub struct FoundRuns {
    /// With whether each is paused.
    pub fit: Vec<(String, bool)>,
    pub others: u64,
}

/// Looks through all runs that match.
///
/// # Errors
/// A filter that cannot be read, and the store's.
pub async fn found(
    client: &Client,
    verb: Verb,
    states: &[RunState],
    filter: &str,
    problems: bool,
) -> Result<FoundRuns, ApiError> {
    let filter = Where::<RunBrief>::parse(filter, RUN_FIELDS);
    let filter = filter.map_err(|error| ApiError::Conflict(error.to_string()))?;
    let (mut found, mut from) = (FoundRuns { fit: Vec::new(), others: 0 }, None);
    loop {
        let part = client.runs_from(&filter, states, from.as_deref(), AT_ONCE, AT_ONCE).await?;
        for run in part.runs.iter().filter(|run| !problems || run.is_problem()) {
            if fits(verb, run) {
                found.fit.push((run.id.clone(), false));
            } else {
                found.others += 1;
            }
        }
        match part.next {
            Some(next) => from = Some(next),
            None => return Ok(found),
        }
    }
}

/// Whether a verb can be done to a run. Of many, `p` pauses those that go on and resumes none.
fn fits(verb: Verb, run: &RunBrief) -> bool {
    match verb {
        Verb::Cancel => !run.state.is_terminal(),
        Verb::Pause => !run.state.is_terminal() && run.state != RunState::Paused,
        Verb::Retry => run.state == RunState::Failed,
        _ => false,
    }
}

/// What a verb would do to the runs that match.
///
/// # Errors
/// As [`found`].
pub async fn survey_runs(
    client: &Client,
    verb: Verb,
    states: &[RunState],
    filter: &str,
    problems: bool,
) -> Result<String, ApiError> {
    let found = found(client, verb, states, filter, problems).await?;
    let would = format!("would {} {}", word(verb), count(found.fit.len() as u64, "run"));
    Ok(match found.others {
        0 => would,
        others => format!("{would}; to {} it cannot be done", count(others, "other")),
    })
}

/// Answers an approval.
pub async fn answer(
    client: &Client,
    approved: bool,
    run: &str,
    step: Option<&str>,
    by: &[String],
    comment: Option<&str>,
) -> Told {
    let id = client.find_run(run).await?;
    let path = client.answer(id, step, approved, by.to_vec(), comment.map(str::to_owned)).await?;
    let done = if approved { "approved" } else { "rejected" };
    Ok((path.map_or_else(|| done.to_owned(), |path| format!("{done} {path}")), false))
}

pub async fn signal(client: &Client, run: &str, name: &str, data: &str) -> Told {
    let wrong = |why: String| ApiError::Conflict(why);
    let id = client.find_run(run).await?;
    let named: Name = name.parse().map_err(|error: crate::domain::name::BadName| wrong(error.to_string()))?;
    let data = Json::parse(data, limits::PAYLOAD_BYTES).map_err(|error| wrong(format!("the JSON {error}")))?;
    client.signal(id, named, data).await?;
    Ok((format!("sent {name}"), false))
}

/// Pauses those that ran and resumes those that were paused; or starts now what each starts.
pub async fn schedules(client: &Client, verb: Verb, schedules: &[(String, bool)]) -> Told {
    let mut tally = Tally::default();
    for (name, paused) in schedules {
        let Ok(name) = name.parse::<Name>() else { continue };
        let (done, did) = match verb {
            Verb::Trigger => ("triggered", client.trigger(&name).await.map(drop)),
            Verb::Pause if *paused => ("resumed", client.pause_schedule(&name, false).await.map(drop)),
            Verb::Pause => ("paused", client.pause_schedule(&name, true).await.map(drop)),
            _ => return Ok(("that cannot be done to schedules".to_owned(), true)),
        };
        tally.add(done, did)?;
    }
    Ok(tally.told("schedule"))
}

/// The dead jobs that match any of the filters.
pub async fn dead(client: &Client, verb: Verb, filters: &[String]) -> Told {
    let verb = match verb {
        Verb::Retry => JobVerb::Retry,
        Verb::Delete => JobVerb::Delete,
        _ => return Ok(("that cannot be done to dead jobs".to_owned(), true)),
    };
    let mut all = Did::default();
    for filter in filters {
        all.extend(all_that_match(client, verb, &dead_of(filter)?).await?);
    }
    Ok((sentence(verb, &all, false), all.touched() == 0))
}

/// What that would do.
pub async fn survey_dead(client: &Client, verb: JobVerb, filters: &[String]) -> Result<String, ApiError> {
    match filters {
        [one] => counted(client, verb, &[JobState::Dead], one).await,
        several => {
            let mut all = Did::default();
            for filter in several {
                all.extend(client.survey(verb, &dead_of(filter)?, client.clock().now(), |_| {}).await?);
            }
            Ok(sentence(verb, &all, true))
        }
    }
}

fn dead_of(filter: &str) -> Result<Filter, ApiError> {
    let filter = Filter::parse(filter).map_err(|error| ApiError::Conflict(error.to_string()))?;
    Ok(filter.only_states(&[JobState::Dead]))
}

/// What was done to how many, and why not to others.
#[derive(Default)]
struct Tally {
    done: Vec<(&'static str, u64)>,
    left: Vec<String>,
}

impl Tally {
    /// Counts one; an error of the store ends it all.
    fn add(&mut self, done: &'static str, did: Result<(), ApiError>) -> Result<(), ApiError> {
        match did {
            Ok(()) => match self.done.iter_mut().find(|(word, _)| *word == done) {
                Some((_, n)) => *n += 1,
                None => self.done.push((done, 1)),
            },
            Err(error @ ApiError::Store(_)) => return Err(error),
            Err(error) => self.left.push(error.to_string()),
        }
        Ok(())
    }

    fn told(self, noun: &str) -> (String, bool) {
        let failed = self.done.is_empty();
        let mut parts: Vec<String> =
            self.done.into_iter().map(|(done, n)| format!("{done} {}", count(n, noun))).collect();
        match self.left.as_slice() {
            [] => {}
            [one] => parts.push(one.clone()),
            several => parts.push(format!("{} could not: {}", several.len(), several[0])),
        }
        (parts.join("; "), failed)
    }
}
