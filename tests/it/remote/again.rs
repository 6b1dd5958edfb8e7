//! A request under an Idempotency-Key whose store failed after it had done something, sent again: what
//! it does is done once. The store fails at each of its calls in turn.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use goflow::api::Client;
use goflow::domain::{JobId, RunId, Shard};
use goflow::engine::Caretaker;
use goflow::store::fault::{FaultStore, Saboteur};
use goflow::store::*;
use goflow::sys::clock::SystemClock;
use goflow::sys::entropy::SystemEntropy;
use goflow::workflow;
use tokio_util::sync::CancellationToken;

use super::place::Place;
use crate::store::make::*;

/// The n-th call from now is done, and its answer is lost for good.
#[derive(Default)]
pub(super) struct Nth(AtomicI64);

impl Nth {
    pub fn arm(&self, nth: i64) {
        self.0.store(nth, Ordering::SeqCst);
    }
}

impl Saboteur for Nth {
    fn after(&self, _: bool) -> Result<()> {
        match self.0.fetch_sub(1, Ordering::SeqCst) {
            // Of a kind that is not asked again at once.
            1 => Err(StoreError::Corrupt("injected: done, and the answer is lost".to_owned())),
            _ => Ok(()),
        }
    }
}

const MANIFESTS: &str = "
{kind: Workflow, name: order, steps: [{id: hello, run: [echo, hi]}]}
---
{kind: Workflow, name: asks, steps: [{id: first, wait: {signal: go}}, {id: ok, needs: [first], approval: {}}, {id: again, needs: [ok], approval: {}}]}
---
{kind: Schedule, name: nightly, cron: '0 3 1 1 *', job: report}
---
{kind: Schedule, name: weekly, cron: '0 3 1 1 *', workflow: order}
";

/// A server over a store that fails, and what was there before.
struct Scene {
    place: Place,
    faults: Arc<Nth>,
    inner: Client,
    run: RunId,
    dead: JobId,
    waiting: JobId,
}

async fn scene() -> Scene {
    let clock = Arc::new(SystemClock);
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
    let inner = Client::new(memory.clone(), clock.clone(), Arc::new(SystemEntropy::default()));
    let manifests = workflow::parse("all.yaml", MANIFESTS).expect("manifests");
    inner.apply(&inner.plan(manifests).await.expect("a plan")).await.expect("they are kept");
    let dead = put(&*memory, job()).await;
    let worker = hired(&*memory).await;
    let claimed = claim_one(&*memory, worker).await;
    commit(&*memory, alone(settle(&claimed, hopeless()))).await;
    memory.farewell(worker).await.expect("farewell");
    let waiting = put(&*memory, job_in("other", "noop")).await;
    let kept = inner.definition(workflow::manifest::Kind::Workflow, &name("asks")).await.expect("it is kept");
    let asks = workflow::Definition::load(&kept.text).expect("a workflow");
    let run = inner.start(&asks, goflow::domain::Json::null()).await.expect("it begins");
    let faults = Arc::new(Nth::default());
    let place = Place::over(Arc::new(FaultStore::new(memory, faults.clone())), clock).await;
    Scene { place, faults, inner, run, dead, waiting }
}

impl Scene {
    async fn post(&self, path: &str, body: &str) -> (u16, String) {
        goflow::sys::tls::install();
        let path = path
            .replace("RUN", &self.run.to_string())
            .replace("DEAD", &self.dead.to_string())
            .replace("WAITING", &self.waiting.to_string());
        let body = body.replace("DEAD", &self.dead.to_string());
        let request = reqwest::Client::new().post(format!("http://{}{path}", self.place.address)).body(body);
        let answer = request.header("Idempotency-Key", "k").send().await.expect("it answers");
        (answer.status().as_u16(), answer.text().await.expect("a text"))
    }

    /// All that has happened, once every run has taken what it was told: how often each kind of event, and
    /// what is kept of the run that waits.
    async fn told(&self) -> BTreeMap<String, usize> {
        let stop = CancellationToken::new();
        let store = self.inner.store();
        let entropy = Arc::new(SystemEntropy::default());
        let caretaker = tokio::spawn(Caretaker::new(store.clone(), &SystemClock, entropy, None).run(stop.clone()));
        let rev = self.inner.knock(self.run).await.expect("it is told");
        let deadline = Instant::now() + Duration::from_secs(60);
        let run = loop {
            let run = self.inner.run_header(self.run).await.expect("it is kept");
            if run.rev > rev {
                break run;
            }
            assert!(Instant::now() < deadline, "the run takes nothing");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        stop.cancel();
        caretaker.await.expect("it ends");
        let (events, _) = store.events(None, 10_000).await.expect("events");
        let mut told = BTreeMap::new();
        for event in events {
            *told.entry(event.kind.as_str().to_owned()).or_insert(0) += 1;
        }
        told.insert(format!("the run is {}", run.state), 1);
        told.insert("signals kept".to_owned(), run.signals.len());
        told
    }
}

/// A path and a body.
type Post = (&'static str, &'static str);

/// Path, body, and what happens first.
const REQUESTS: &[(&str, &str, &[Post])] = &[
    ("/api/v1/jobs", r#"{"type": "noop"}"#, &[]),
    ("/api/v1/jobs", r#"{"type": "noop", "unique_key": "u"}"#, &[]),
    ("/api/v1/jobs/batch", r#"{"jobs": [{"type": "noop"}, {"type": "noop"}]}"#, &[]),
    ("/tasks", r#"{"type": "noop"}"#, &[]),
    ("/api/queue/enqueue", r#"{"type": "noop"}"#, &[]),
    ("/api/v1/workflows/order/start", "{}", &[]),
    ("/api/workflows", r#"{"name": "order"}"#, &[]),
    ("/flow/order", "as it comes", &[]),
    ("/api/v1/runs/RUN/signal", r#"{"name": "early"}"#, &[]),
    ("/api/workflows/RUN/signal", r#"{"name": "go"}"#, &[]),
    ("/api/v1/runs/RUN/approve", "", &[("/api/v1/runs/RUN/signal", r#"{"name": "go"}"#)]),
    ("/api/v1/runs/RUN/reject", "", &[("/api/v1/runs/RUN/signal", r#"{"name": "go"}"#)]),
    ("/api/v1/runs/RUN/pause", "", &[]),
    ("/api/v1/runs/RUN/cancel", "", &[]),
    ("/flow/asks/pause/RUN", "", &[]),
    ("/api/v1/schedules/nightly/trigger", "", &[]),
    ("/api/v1/schedules/weekly/trigger", "", &[]),
    ("/api/v1/schedules/weekly/pause", "", &[]),
    ("/api/v1/jobs/DEAD/retry", "", &[]),
    ("/api/dlq/retry-all", "", &[]),
    ("/api/v1/dlq/retry", r#"{"where": ""}"#, &[]),
    ("/api/v1/jobs/retry", r#"{"ids": ["DEAD"]}"#, &[]),
    ("/api/v1/jobs/WAITING/cancel", "", &[]),
    ("/api/v1/jobs/cancel", r#"{"where": "queue:other"}"#, &[]),
    ("/api/v1/dlq/purge", r#"{"where": ""}"#, &[]),
    ("/api/v1/queues/other/pause", "", &[]),
    ("/api/v1/queues/other/purge", r#"{"where": ""}"#, &[]),
    ("/api/v1/locks/nightly/acquire", "", &[]),
];

async fn before(scene: &Scene, first: &[Post]) {
    for (path, body) in first {
        let url = format!("http://{}{}", scene.place.address, path.replace("RUN", &scene.run.to_string()));
        let request = reqwest::Client::new().post(url).header("Idempotency-Key", "first");
        assert_eq!(request.body((*body).to_owned()).send().await.expect("it answers").status(), 202);
        scene.told().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_half_way_is_done_once_however_often_it_is_sent() {
    goflow::sys::tls::install();
    let (mut failed, mut repaired) = (0, 0);
    for (path, body, first) in REQUESTS {
        let clean = scene().await;
        before(&clean, first).await;
        let (status, text) = clean.post(path, body).await;
        assert!((200..300).contains(&status), "{path}: {status} {text}");
        let once = clean.told().await;
        for nth in 1.. {
            let scene = scene().await;
            before(&scene, first).await;
            scene.faults.arm(nth);
            let (status, text) = scene.post(path, body).await;
            let fired = scene.faults.0.load(Ordering::SeqCst) <= 0;
            scene.faults.arm(0);
            let mut last = (status, text);
            if status >= 500 {
                failed += 1;
                last = scene.post(path, body).await;
                // Its own server has not kept that it ended: as if it had died.
                if last.0 == 409 && last.1.contains("GF0063") {
                    repaired += 1;
                    continue;
                }
            }
            assert!((200..300).contains(&last.0), "{path}, call {nth}: {last:?} after {status}");
            assert_eq!(scene.told().await, once, "{path}, call {nth}, first answered with {status}");
            if !fired {
                break;
            }
        }
    }
    assert!(failed > 60, "only {failed} requests failed");
    assert!(repaired < failed / 3, "{repaired} of {failed} were left as they were");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_again_names_no_step_that_it_does_not_know() {
    goflow::sys::tls::install();
    let scene = scene().await;
    before(&scene, &[("/api/v1/runs/RUN/signal", r#"{"name": "go"}"#)]).await;
    let once = goflow::api::Once { key: "k".into(), at: BIRTH, birthplace: Shard(0), again: false };
    let client = scene.inner.clone().once(once, Arc::new(SystemClock), Arc::new(SystemEntropy::default()));
    let answer = |step| client.answer(scene.run, step, true, vec![], None);
    assert_eq!(answer(None).await, Ok(Some("ok".to_owned())));
    scene.told().await;
    assert_eq!(answer(None).await, Ok(None));
    assert_eq!(answer(Some("ok")).await, Ok(Some("ok".to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_take_no_more_together_than_there_is_room_for() {
    use http::StatusCode;
    let clock = Arc::new(SystemClock);
    let memory = Arc::new(MemoryStore::new(clock.clone()));
    let place = Place::with_room(memory, clock, 300_000).await;
    goflow::sys::tls::install();
    let (client, url) = (reqwest::Client::new(), format!("http://{}/api/v1/jobs", place.address));
    let post = |body: reqwest::Body| client.post(&url).body(body).send();
    let job = |size: usize| format!(r#"{{"type": "noop", "payload": "{}"}}"#, "x".repeat(size));
    // One that is too large for the room alone is refused before it is read, whatever else there is.
    let refused = post(job(400_000).into()).await.expect("it answers");
    assert_eq!(
        (refused.status(), refused.headers()["retry-after"].to_str().ok()),
        (StatusCode::SERVICE_UNAVAILABLE, Some("1"))
    );
    assert!(refused.text().await.expect("a text").contains("GF0066"));
    // One that dawdles in the middle of its body, and one beside it.
    let slow = job(250_000).into_bytes();
    let (begun, rest) = slow.split_at(240_000);
    let begin = || {
        let (sender, pieces) = tokio::sync::mpsc::unbounded_channel::<std::result::Result<Vec<u8>, std::io::Error>>();
        sender.send(Ok(begun.to_vec())).expect("it is sent");
        let stream = futures_util::stream::unfold(pieces, |mut pieces| async { Some((pieces.recv().await?, pieces)) });
        (sender, tokio::spawn(post(reqwest::Body::wrap_stream(stream))))
    };
    let (mut sender, mut slow) = begin();
    let deadline = Instant::now() + Duration::from_secs(60);
    // Once might mean that both came in at once, and neither had room.
    let mut refused = 0;
    while refused < 2 {
        assert!(Instant::now() < deadline, "the slow one is not counted");
        let beside = post(job(200_000).into()).await.expect("it answers");
        refused = if beside.status() == StatusCode::SERVICE_UNAVAILABLE { refused + 1 } else { 0 };
        if refused == 0 && slow.is_finished() {
            (sender, slow) = begin();
        }
    }
    assert_eq!(post(job(100).into()).await.expect("it answers").status(), StatusCode::CREATED, "a small one fits");
    sender.send(Ok(rest.to_vec())).expect("it is sent");
    drop(sender);
    assert_eq!(slow.await.expect("it ends").expect("it answers").status(), StatusCode::CREATED);
    // And the room is there again.
    assert_eq!(post(job(250_000).into()).await.expect("it answers").status(), StatusCode::CREATED);
    // A key does not make it take more.
    let keyed = client.post(&url).header("Idempotency-Key", "k").body(job(250_000)).send().await;
    assert_eq!(keyed.expect("it answers").status(), StatusCode::CREATED);
}
