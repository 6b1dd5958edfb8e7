//! What verbs on jobs did, in words: the same sentence on the command line and in the console. Decides
//! nothing.

use super::verbs::{Acted, Left, Verb};
use crate::domain::JobState;
use crate::domain::text::{count, thousands};

/// `retried 3 jobs; 1 was already finished`.
pub fn sentence(verb: Verb, acted: &Acted, dry_run: bool) -> String {
    let did = if dry_run { format!("would {}", imperative(verb)) } else { past(verb).to_owned() };
    let mut parts = Vec::new();
    if !acted.done.is_empty() || acted.asked.is_empty() {
        parts.push(format!("{did} {}", count(acted.done.len() as u64, "job")));
    }
    if !acted.asked.is_empty() {
        let did = if dry_run { "would ask" } else { "asked" };
        parts.push(format!("{did} {} to end", count(acted.asked.len() as u64, "running job")));
    }
    let mut groups: Vec<(&'static str, &'static str, u64)> = Vec::new();
    for (_, left) in &acted.left {
        let (one, many) = group(verb, left);
        match groups.iter_mut().find(|(known, ..)| *known == one) {
            Some((_, _, n)) => *n += 1,
            None => groups.push((one, many, 1)),
        }
    }
    for (one, many, n) in groups {
        parts.push(if n == 1 { format!("1 {one}") } else { format!("{} {many}", thousands(n)) });
    }
    parts.join("; ")
}

fn group(verb: Verb, left: &Left) -> (&'static str, &'static str) {
    match (left, verb) {
        (Left::Step { .. }, _) => ("does a step of a run and was left to it", "do steps of runs and were left to them"),
        (Left::Held(_), _) => {
            ("is held back by a live job with its unique key", "are held back by live jobs with their unique keys")
        }
        (Left::State(_), Verb::Cancel) => ("was already finished", "were already finished"),
        (Left::State(_), Verb::Retry) => ("was neither dead nor cancelled", "were neither dead nor cancelled"),
        (Left::State(_), Verb::Delete) => ("was running", "were running"),
        (Left::Outside(_), _) => ("was in another state", "were in other states"),
        (Left::Asked, _) => ("was asked to end before", "were asked to end before"),
        (Left::Changed, _) => ("had changed meanwhile", "had changed meanwhile"),
        (Left::Gone, _) => ("was gone", "were gone"),
    }
}

/// Why one job was left: what is said of it.
pub fn predicate(verb: Verb, left: &Left) -> String {
    match (left, verb) {
        (Left::Step { run, step }, _) => format!("does step `{step}` of run {run}"),
        (Left::Held(holder), _) => format!("is held back: job {holder} has its unique key"),
        (Left::State(JobState::Cancelled), Verb::Cancel) => "is cancelled already".to_owned(),
        (Left::State(state), Verb::Cancel) => format!("is {state}, and what has ended cannot be cancelled"),
        (Left::State(state), Verb::Retry) => format!("is {state}, and only a dead or cancelled job can be retried"),
        (Left::State(state), Verb::Delete) => format!("is {state}: cancel it first"),
        (Left::Outside(state), _) => format!("is {state}, and those are not meant here"),
        (Left::Asked, _) => "is running, and was asked to end before".to_owned(),
        (Left::Changed, _) => "had changed meanwhile".to_owned(),
        (Left::Gone, _) => "is gone".to_owned(),
    }
}

/// What a verb is called when it is asked for.
pub fn imperative(verb: Verb) -> &'static str {
    match verb {
        Verb::Retry => "retry",
        Verb::Cancel => "cancel",
        Verb::Delete => "delete",
    }
}

/// What it is called when it is done.
pub fn past(verb: Verb) -> &'static str {
    match verb {
        Verb::Retry => "retried",
        Verb::Cancel => "cancelled",
        Verb::Delete => "deleted",
    }
}
