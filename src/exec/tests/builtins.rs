//! The built-in handlers.

use super::*;
use tokio::time::Instant;

fn immediate(builtin: Builtin, payload: &str) -> Outcome {
    builtin.immediate(&work(payload)).expect("known at once")
}

async fn run(bench: &Bench, builtin: Builtin, work: Work) -> Ended {
    perform(&Action::Builtin(builtin), &work, &bench.context, &bench.stop).await
}

fn failure(ended: Ended) -> (String, String, RetryHint) {
    match ended {
        Ended::Outcome(Outcome::Failed { error, retry }) => (error.class, error.message, retry),
        other => panic!("{other:?}"),
    }
}

#[test]
fn built_ins_are_found_by_name() {
    for builtin in Builtin::ALL {
        assert_eq!(Builtin::by_name(builtin.as_str()), Some(builtin));
    }
    assert_eq!(Builtin::by_name("Noop"), None);
}

#[test]
fn noop_and_echo_and_fail_are_known_at_once() {
    assert_eq!(immediate(Builtin::Noop, "[1]"), Outcome::Completed { result: None });
    let payload = r#"{"b": 1.50}"#;
    let Outcome::Completed { result: Some(result) } = immediate(Builtin::Echo, payload) else { panic!("no result") };
    assert_eq!(result.as_str(), payload);
    let large = format!("\"{}\"", "x".repeat(crate::domain::limits::VALUE_BYTES));
    let (class, message, retry) = failure(Ended::Outcome(immediate(Builtin::Echo, &large)));
    assert_eq!((class.as_str(), retry), ("output", RetryHint::Never));
    assert!(message.contains("256.0 KiB"), "{message}");
    for builtin in [Builtin::Sleep, Builtin::Log] {
        assert_eq!(builtin.immediate(&work("\"1s\"")), None);
    }
}

#[test]
fn fail_fails_as_it_is_told() {
    let fail = |payload: &str| failure(Ended::Outcome(immediate(Builtin::Fail, payload)));
    for any in ["null", "7", "{}", r#"{"n": 1}"#] {
        assert_eq!(fail(any), ("fail".into(), "failed as told".into(), RetryHint::Policy), "{any}");
    }
    let told = r#"{"message": "no stock", "class": "http:503", "retry": false}"#;
    assert_eq!(fail(told), ("http:503".into(), "no stock".into(), RetryHint::Never));
    for bad in [r#"{"retry": "yes"}"#, r#"{"class": "a b"}"#] {
        let (class, _, retry) = fail(bad);
        assert_eq!((class.as_str(), retry), ("payload", RetryHint::Never), "{bad}");
    }
}

#[tokio::test(start_paused = true)]
async fn sleep_takes_as_long_as_it_is_told() {
    let bench = Bench::new(Containment::Cgroup);
    for (payload, ms) in
        [(r#""1h""#, 3_600_000), (r#"{"ms": 250}"#, 250), (r#"{"seconds": 1.5}"#, 1_500), (r#""0s""#, 0)]
    {
        let start = Instant::now();
        let ended = run(&bench, Builtin::Sleep, work(payload)).await;
        assert_eq!(ended, Ended::Outcome(Outcome::Completed { result: None }));
        // The timer's grain is a millisecond.
        let taken = start.elapsed().as_millis();
        assert!((ms..=ms + 1).contains(&taken), "{payload} took {taken} ms");
    }
    for bad in
        ["null", "5", r#""5""#, r#"{"ms": -1}"#, r#"{"seconds": -1}"#, r#"{"seconds": 1e300}"#, r#"{"ms": 1, "x": 1}"#]
    {
        let (class, message, retry) = failure(run(&bench, Builtin::Sleep, work(bad)).await);
        assert_eq!((class.as_str(), retry), ("payload", RetryHint::Never), "{bad}");
        assert!(message.contains("`send_email`") && message.contains("250ms"), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn sleep_ends_early_at_its_time_out_or_when_told() {
    let bench = Bench::new(Containment::Cgroup);
    let job = Work { timeout: Some(Duration::from_secs(30)), ..work(r#""1h""#) };
    let (class, message, _) = failure(run(&bench, Builtin::Sleep, job.clone()).await);
    assert_eq!((class.as_str(), message.as_str()), ("timeout", "timed out after 30s"));
    let (ended, ()) = tokio::join!(run(&bench, Builtin::Sleep, job), async { bench.stop.cancel() });
    assert_eq!(ended, Ended::Stopped);
}

#[tokio::test]
async fn log_writes_the_payload() {
    let bench = Bench::new(Containment::Cgroup);
    let ended = run(&bench, Builtin::Log, work(r#"{"a": 1}"#)).await;
    assert_eq!(ended, Ended::Outcome(Outcome::Completed { result: None }));
    assert_eq!(bench.sink.stream(Stream::Stdout), b"{\"a\": 1}\n");
    assert_eq!(std::fs::read_dir(bench.temp.path()).expect("read").count(), 0, "built-ins touch nothing");
}

#[test]
fn manifests_name_the_same_built_ins() {
    assert_eq!(Builtin::ALL.map(Builtin::as_str), crate::workflow::handler::BUILTINS);
}
