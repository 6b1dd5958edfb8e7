//! Several jobs of one type done together. Whoever does them is given all as one JSON array, and what
//! comes of it is dealt out to each; a pool's process answers for each by itself.

use std::sync::Arc;

use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::verdict::failed;
use super::{Action, Context, Ended, Notes, Work, command, http, job_text, perform};
use crate::domain::job::{Outcome, RetryHint};
use crate::domain::json::BadJson;
use crate::domain::text::{count, size};
use crate::domain::{Json, Progress, limits};

/// Does several jobs as one piece of work; how each ended, in their order. When it is told to stop, or
/// its shortest time-out ends, that is the end of all of them.
///
/// A command reads a JSON array of jobs on its standard input, an HTTP call has one as its body: exit
/// 0 and a 2xx complete all, anything else fails all. With `outputs: json` the output is a JSON array
/// of as many results, in the order of the jobs; an HTTP call's may be one. A pool's process reads one
/// line `{"batch": […]}` and answers for each job.
pub async fn perform_batch(action: &Action, works: &[Work], context: &Context, stop: &CancellationToken) -> Vec<Ended> {
    let Some(first) = works.first() else { return Vec::new() };
    if stop.is_cancelled() {
        return vec![Ended::Stopped; works.len()];
    }
    let timeout = works.iter().filter_map(|work| work.timeout).min();
    let head =
        Work { timeout, notes: Arc::new(All(works.iter().map(|work| work.notes.clone()).collect())), ..first.clone() };
    let number = works.len();
    match action {
        Action::Pool(pool) => pool.perform(works.to_vec(), true, stop).await,
        Action::Command(command) => {
            let input = job_text::jobs(works);
            let ended = command::perform(command, &head, input, Some(number), context, stop).await;
            deal(ended, number, command.outputs.is_some())
        }
        Action::Http(http) => {
            let body = || job_text::jobs(works);
            let ended = http::perform(http, &head, body, Some(number), context, stop).await;
            deal(ended, number, http.outputs.is_some())
        }
        Action::Builtin(_) => {
            let mut ended = Vec::with_capacity(number);
            for work in works {
                ended.push(perform(action, work, context, stop).await);
            }
            ended
        }
    }
}

/// What is kept of a batch is kept with each of its jobs.
#[derive(Debug)]
struct All(Vec<Arc<dyn Notes>>);

impl Notes for All {
    fn progress(&self, progress: Progress) {
        self.0.iter().for_each(|notes| notes.progress(progress.clone()));
    }

    fn log(&self, bytes: &[u8]) {
        self.0.iter().for_each(|notes| notes.log(bytes));
    }
}

/// Gives each job its part of a common end. Where results were asked for, there is one for each.
fn deal(ended: Ended, number: usize, wanted: bool) -> Vec<Ended> {
    let result = match ended {
        Ended::Outcome(Outcome::Completed { result }) => result,
        other => return vec![other; number],
    };
    let complete = |result| Ended::Outcome(Outcome::Completed { result });
    let parts: Option<Vec<Box<RawValue>>> = result.as_ref().and_then(|json| serde_json::from_str(json.as_str()).ok());
    match parts.filter(|parts| parts.len() == number) {
        Some(parts) => parts.iter().map(|part| part_of(part.get())).collect(),
        None if wanted => {
            let why = format!(
                "the output of a batch of {} is not a JSON array of as many results",
                count(number as u64, "job")
            );
            vec![Ended::Outcome(failed("output", why, RetryHint::Never)); number]
        }
        None => vec![complete(None); number],
    }
}

fn part_of(text: &str) -> Ended {
    Ended::Outcome(match Json::parse(text, limits::VALUE_BYTES) {
        Ok(json) => Outcome::Completed { result: Some(json).filter(|json| !json.is_null()) },
        Err(BadJson::TooLarge { size: is, limit }) => {
            let (is, limit) = (size(is as u64), size(limit as u64));
            failed("output", format!("the result of {is} is larger than {limit}"), RetryHint::Never)
        }
        Err(error) => failed("output", error.to_string(), RetryHint::Never),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_gets_its_own_result_and_all_share_a_failure() {
        let done = |text: &str| Ended::Outcome(Outcome::Completed { result: Json::parse(text, 100).ok() });
        let text = |ended: &Ended| match ended {
            Ended::Outcome(Outcome::Completed { result }) => result.as_ref().map(|json| json.as_str().to_owned()),
            other => panic!("{other:?}"),
        };
        let dealt = deal(done("[1.50, null, {\"a\":[2]}]"), 3, true);
        let texts: Vec<_> = dealt.iter().map(text).collect();
        assert_eq!(texts, [Some("1.50".into()), None, Some("{\"a\":[2]}".into())]);
        assert!(deal(done("[1]"), 2, false).iter().all(|ended| text(ended).is_none()));
        for wrong in ["[1]", "{}", ""] {
            let dealt = deal(done(wrong), 2, true);
            let is_told = |ended: &Ended| matches!(ended, Ended::Outcome(Outcome::Failed { error, .. }) if error.class == "output");
            assert!(dealt.len() == 2 && dealt.iter().all(is_told), "{wrong}");
        }
        assert_eq!(deal(Ended::Stopped, 2, true), [Ended::Stopped, Ended::Stopped]);
    }
}
