//! The crate as another program uses it: typed payloads and results, what a failure says, and the
//! examples as they stand in `examples/`.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use goflow::domain::{Clock, JobState, Ms};
use goflow::store::MemoryStore;
use goflow::{Client, Error, Failure, Job, Worker};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Sum {
    a: i64,
    b: i64,
}

async fn memory() -> Client {
    Client::connect("memory:").await.expect("a store")
}

#[tokio::test]
async fn payloads_and_results_are_typed() {
    let client = memory().await;
    let good = client.enqueue("sum", &Sum { a: 2, b: 3 }).await.expect("kept");
    let bad = client.enqueue("sum", "no sum").await.expect("kept");
    let nothing = client.job("nothing").queue("other").priority(5).meta("team", "a").enqueue().await.expect("kept");
    let summary = Worker::new(&client)
        .handle("sum", |job: Job<Sum>| async move { Ok::<_, Failure>(job.payload.a + job.payload.b) })
        .handle("nothing", |job: Job<()>| async move {
            assert_eq!((job.queue(), job.attempt(), job.kind()), ("other", 1, "nothing"));
            assert_eq!(job.metadata().get("team").map(String::as_str), Some("a"));
            assert_eq!(job.idempotency_key(), job.id().to_string());
            Ok::<_, Failure>(())
        })
        .until_empty()
        .run()
        .await
        .expect("it works");
    assert_eq!((summary.completed, summary.dead), (2, 1));
    assert_eq!(client.wait::<i64>(good).await.expect("a sum"), 5);
    assert!(matches!(client.wait::<String>(good).await, Err(Error::Result { .. })));
    client.wait::<()>(nothing).await.expect("nothing");
    match client.wait::<i64>(bad).await {
        Err(Error::Ended { state: JobState::Dead, error: Some(error), .. }) => {
            assert_eq!(error.class, "payload");
            assert!(error.message.contains("does not fit"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

/// The test's clock: what has passed of the paused time.
struct Paused(tokio::time::Instant);

impl Clock for Paused {
    fn now(&self) -> Ms {
        Ms(1_770_000_000_000).after(self.0.elapsed())
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_says_what_becomes_of_the_job() {
    let clock = Arc::new(Paused(tokio::time::Instant::now()));
    let client = Client::over(Arc::new(MemoryStore::new(clock)));
    let mut ids = Vec::new();
    for word in ["error", "bury", "later", "snooze", "panic", "slow", "huge"] {
        let job = client.job("f").payload(word).max_retries(1).timeout(Duration::from_secs(60));
        ids.push((word, job.enqueue().await.expect("kept")));
    }
    let calls: Arc<[AtomicU32; 7]> = Arc::default();
    let counted = calls.clone();
    Worker::new(&client)
        .handle("f", move |job: Job<String>| {
            let words = ["error", "bury", "later", "snooze", "panic", "slow", "huge"];
            let nth = words.iter().position(|word| *word == job.payload).expect("a word");
            counted[nth].fetch_add(1, Ordering::Relaxed);
            async move {
                match job.payload.as_str() {
                    "error" => Err("x".parse::<u8>().expect_err("no number").into()),
                    "bury" => Err(Failure::bury("never").class("smtp:550")),
                    "later" => Err(Failure::retry_in(Duration::from_secs(3600), "busy")),
                    "snooze" => Err(Failure::snooze(Duration::from_secs(7200))),
                    "panic" => panic!("as told"),
                    "slow" => Ok(std::future::pending::<String>().await),
                    _ => Ok("x".repeat(300 << 10)),
                }
            }
        })
        .until_empty()
        .run()
        .await
        .expect("it works");
    let expected = [
        ("error", 2, "error"),
        ("bury", 1, "smtp:550"),
        ("later", 2, "error"),
        ("snooze", 1, ""),
        ("panic", 2, "panic"),
        ("slow", 2, "timeout"),
        ("huge", 1, "output"),
    ];
    for (nth, (word, times, class)) in expected.into_iter().enumerate() {
        assert_eq!(calls[nth].load(Ordering::Relaxed), times, "{word}");
        if word == "snooze" {
            // What is scheduled for later does not keep a worker that ends with the last job.
            let stored = client.api().job(&ids[nth].1.to_string()).await.expect("kept");
            assert_eq!((stored.place.state(), stored.job.failures), (JobState::Scheduled, 0));
            continue;
        }
        match client.wait::<String>(ids[nth].1).await {
            Err(Error::Ended { error: Some(error), .. }) => assert_eq!(error.class, class, "{word}: {error}"),
            other => panic!("{word}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_said_wrongly_is_told() {
    let client = memory().await;
    assert!(matches!(client.enqueue("a b", &1).await, Err(Error::Name(_))));
    assert!(matches!(client.enqueue("goflow:run", &1).await, Err(Error::Reserved(_))));
    assert!(matches!(client.enqueue("a", &"x".repeat(2 << 20)).await, Err(Error::Payload(_))));
    assert!(matches!(Client::connect("nonsense://x").await.map(drop), Err(Error::Url(_))));
    let worker = Worker::new(&client).handle("goflow:run", |_: Job<()>| async { Ok::<_, Failure>(()) });
    assert!(matches!(worker.run().await, Err(Error::Reserved(_))));
    let unique = || client.job("a").unique("k").enqueue();
    unique().await.expect("kept");
    assert!(matches!(unique().await, Err(Error::Api(goflow::api::ApiError::KeyHeld { .. }))));
}

#[tokio::test]
async fn a_stopped_worker_gives_back_what_it_runs() {
    let client = memory().await;
    let id = client.enqueue("forever", &()).await.expect("kept");
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let begun = std::sync::Mutex::new(Some(begun));
    Worker::new(&client)
        .handle("forever", move |_: Job<()>| {
            let begun = begun.lock().expect("lock").take();
            async move {
                begun.map(|begun| begun.send(()));
                std::future::pending::<Result<(), Failure>>().await
            }
        })
        .shutdown_timeout(Duration::ZERO)
        .run_until(async { drop(has_begun.await) })
        .await
        .expect("it ends");
    assert_eq!(client.state(id).await.expect("kept"), JobState::Pending);
}

#[test]
fn the_examples_run() {
    let folder = Path::new(env!("CARGO_BIN_EXE_goflow")).parent().expect("a folder").join("examples");
    for (name, words) in [("email", &["sent to ada@example.com", "buried: error: that is no address"][..])] {
        let output = Command::new(folder.join(name)).output().unwrap_or_else(|error| panic!("{name}: {error}"));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&output.stderr));
        for word in words {
            assert!(text.contains(word), "{name}: {text}");
        }
    }
}
