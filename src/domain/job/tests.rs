//! What becomes of a job, case by case.

use super::*;

fn job() -> Job {
    let name = |text: &str| text.parse::<Name>().expect("a name");
    Job::new(JobId::from_parts(Ms(1), Default::default(), 7), name("mail"), name("default"), Json::null())
}

#[test]
fn a_job_with_three_retries_dies_at_the_fourth_failure() {
    let mut job = job();
    for nth in 1..=4u32 {
        job.claimed(WorkerId::default(), Epoch(u64::from(nth)), Ms(10));
        let error = JobError::new("exit:1", "no");
        let settled = job.settle(Outcome::Failed { error, retry: RetryHint::Policy }, Ms(20), 0.5);
        match nth {
            4 => assert_eq!(settled.to, To::Dead),
            _ => assert_eq!(settled.to, To::Retrying(Duration::from_secs(1 << (nth - 1)))),
        }
        job = settled.job;
    }
    assert_eq!(job.attempt(JobState::Dead), 4);
    assert_eq!(job.history.len(), 4);
    assert_eq!(job.finished_at, Some(Ms(20)));
}

#[test]
fn a_worker_death_costs_no_retry_and_the_third_is_poison() {
    let mut job = job();
    for nth in 1..=3 {
        let settled = job.settle(Outcome::Crashed, Ms(1_000 * nth), 0.5);
        job = settled.job;
        assert_eq!(job.failures, 0);
        assert_eq!(settled.to, if nth < 3 { To::Suspect } else { To::Dead });
    }
    assert_eq!(job.error.as_ref().map(|error| error.class.as_str()), Some("poison"));
    let requeued = job.requeue(JobState::Dead, Ms(9_000)).expect("a dead job may be retried");
    assert!(requeued.job.crashes.is_empty());
}

#[test]
fn crashes_long_ago_do_not_count() {
    let mut job = job();
    let day = 86_400_000;
    for nth in 0..5 {
        let settled = job.settle(Outcome::Crashed, Ms(nth * 2 * day), 0.5);
        assert_eq!(settled.to, To::Suspect, "crash {nth}");
        job = settled.job;
    }
}

#[test]
fn a_suspect_stays_one_until_its_crashes_are_long_ago() {
    let crashed = job().settle(Outcome::Crashed, Ms(0), 0.5).job;
    let failed = |at| {
        let outcome = Outcome::Failed { error: JobError::new("exit:1", "no"), retry: RetryHint::Policy };
        crashed.clone().settle(outcome, Ms(at), 0.5).job
    };
    assert!(failed(1_000).is_suspect(), "when its retry is due it is leased alone");
    assert!(crashed.clone().settle(Outcome::Unhandled, Ms(1_000), 0.5).job.is_suspect());
    assert!(!failed(4 * 86_400_000).is_suspect());
}

#[test]
fn hints_of_the_handler_are_followed() {
    let failed = |hint| {
        let error = JobError::new("exit:75", "later");
        job().settle(Outcome::Failed { error, retry: hint }, Ms(5), 0.5)
    };
    assert_eq!(failed(RetryHint::Never).to, To::Dead);
    let uncounted = failed(RetryHint::Uncounted);
    assert_eq!((uncounted.to, uncounted.job.failures), (To::Retrying(Duration::from_secs(1)), 0));
    let later = Duration::from_secs(90);
    assert_eq!(failed(RetryHint::NotBefore(later)).to, To::Retrying(later));
    let snoozed = failed(RetryHint::Snooze(later));
    assert_eq!((snoozed.to, snoozed.job.failures), (To::Retrying(later), 0));
    assert_eq!(failed(RetryHint::IfNamed).to, To::Dead);
    let mut named = job();
    named.retry.errors = vec!["exit:75".into()];
    let outcome = Outcome::Failed { error: JobError::new("exit:75", "later"), retry: RetryHint::IfNamed };
    assert!(matches!(named.settle(outcome, Ms(5), 0.5).to, To::Retrying(_)));
}

#[test]
fn a_deadline_ends_the_retries() {
    let mut job = job();
    job.deadline_ms = Some(10_000);
    let error = || JobError::new("exit:1", "no");
    let in_time = job.clone().settle(Outcome::Failed { error: error(), retry: RetryHint::Policy }, Ms(8_000), 0.5);
    assert_eq!(in_time.to, To::Retrying(Duration::from_secs(1)));
    let late = job.settle(Outcome::Failed { error: error(), retry: RetryHint::Policy }, Ms(9_500), 0.5);
    assert_eq!(late.to, To::Dead);
    assert_eq!(late.job.error.map(|error| error.class), Some("deadline".to_owned()));
}

#[test]
fn a_dependent_goes_when_all_its_parents_have_completed() {
    let parent = |nth| JobId::from_parts(Ms(1), Default::default(), nth);
    let mut child = job();
    child.after = vec![parent(1), parent(2)];
    assert_eq!(child.clone().parent_ended(parent(3), Some(JobState::Completed), Ms(5)), None);
    let first = child.clone().parent_ended(parent(1), Some(JobState::Completed), Ms(5)).expect("a parent");
    assert_eq!((first.to, first.job.after.as_slice()), (To::Held, &[parent(2)][..]));
    let second = first.job.parent_ended(parent(2), Some(JobState::Completed), Ms(6)).expect("a parent");
    assert_eq!((second.to, second.event), (To::Pending, EventKind::JobReady));
    for end in [Some(JobState::Dead), Some(JobState::Cancelled), None] {
        let gone = child.clone().parent_ended(parent(2), end, Ms(5)).expect("a parent");
        assert_eq!(gone.to, To::Cancelled);
        let message = gone.job.error.map(|error| error.message).unwrap_or_default();
        assert!(message.contains(&parent(2).to_string()), "{message}");
    }
}

#[test]
fn progress_is_brought_into_range() {
    assert_eq!(Progress::new(Some(140.0), ""), Progress { percent: Some(100.0), message: String::new() });
    let long = Progress::new(Some(f64::NAN), &"é".repeat(5_000));
    assert_eq!(long.percent, None);
    assert!(long.message.len() <= limits::PROGRESS_BYTES, "{}", long.message.len());
}

#[test]
fn history_keeps_the_first_and_the_latest() {
    let mut job = job();
    job.retry.max = 100;
    for nth in 0..30 {
        let error = JobError::new("exit:1", format!("failure {nth}"));
        job = job.settle(Outcome::Failed { error, retry: RetryHint::Policy }, Ms(nth), 0.5).job;
    }
    assert_eq!(job.history.len(), limits::HISTORY);
    assert_eq!(job.history[0].error.message, "failure 0");
    assert_eq!(job.history[9].error.message, "failure 29");
}

#[test]
fn a_job_that_was_stopped_while_it_ran_has_had_an_attempt() {
    let begun = |nth: u64, job: Job| {
        let mut job = job;
        job.claimed(WorkerId::default(), Epoch(nth), Ms(10));
        job
    };
    let stopped = |job: Job| job.settle(Outcome::Cancelled { reason: "no more".into() }, Ms(20), 0.5).job;
    assert_eq!(stopped(begun(1, job())).attempt(JobState::Cancelled), 1);
    let never = job().cancel(JobState::Pending, "no more", Ms(20)).expect("a pending job may be cancelled").job;
    assert_eq!(never.attempt(JobState::Cancelled), 0, "it never ran");
    let fails = |hint| {
        let outcome = Outcome::Failed { error: JobError::new("exit:1", "no"), retry: hint };
        begun(1, job()).settle(outcome, Ms(20), 0.5).job
    };
    assert_eq!(stopped(begun(2, fails(RetryHint::Policy))).attempt(JobState::Cancelled), 2);
    let waiting = fails(RetryHint::Policy).cancel(JobState::Retrying, "no more", Ms(30)).expect("it may").job;
    assert_eq!(waiting.attempt(JobState::Cancelled), 1);
    assert_eq!(fails(RetryHint::Uncounted).attempt(JobState::Retrying), 1);
    let again = stopped(begun(1, job())).requeue(JobState::Cancelled, Ms(40)).expect("it may").job;
    assert_eq!((again.attempt(JobState::Pending), again.started_at), (0, None), "a new life");
}

#[test]
fn a_withheld_job_waits_uncounted_and_is_let_go_only_from_there() {
    let withheld = job().settle(Outcome::Withheld { delay: Duration::from_secs(5) }, Ms(20), 0.5);
    assert_eq!((withheld.to, withheld.event), (To::Scheduled(Duration::from_secs(5)), EventKind::JobScheduled));
    let job = withheld.job;
    assert!(job.withheld && job.failures == 0 && job.history.is_empty());
    assert!(job.clone().let_go(Place::Pending, Ms(20)).is_none(), "it has come to its turn by itself");
    let gone = job.clone().let_go(Place::Scheduled, Ms(20)).expect("it was withheld");
    assert_eq!((gone.to, gone.event, gone.job.withheld), (To::Pending, EventKind::JobReady, false));
    assert_eq!(gone.job.rev, job.rev + 1);
    let snoozed = self::job().settle(Outcome::Snoozed { delay: Duration::from_secs(5) }, Ms(20), 0.5).job;
    assert!(snoozed.let_go(Place::Scheduled, Ms(20)).is_none(), "its handler has asked for that time");
}
