//! A request under an Idempotency-Key over shards that come and go between its first sending and its
//! second: what it does is done once, wherever it would be born by now.

use std::sync::Arc;
use std::time::Duration;

use goflow::api::Client;
use goflow::store::fault::FaultStore;
use goflow::store::sharded::{Map, ShardedOptions, Strategy};
use goflow::store::*;
use goflow::sys::entropy::SystemEntropy;
use goflow::workflow;

use super::again::Nth;
use super::place::Place;
use crate::store::backends::{Count, TestClock};
use crate::store::sharded_alone::grounds;

const MANIFESTS: &str = "
{kind: Workflow, name: free, steps: [{id: hello, queue: flows, run: [echo, hi]}]}
---
{kind: Workflow, name: keyed, input: {k: {type: string, required: true}}, concurrency: {key: '${{ input.k }}', limit: 1, on_conflict: reject}, steps: [{id: hello, queue: flows, run: [echo, hi]}]}
---
{kind: Schedule, name: nightly, cron: '0 3 1 1 *', job: report}
";

/// Path, body and how many jobs come of it; `N` is another one in each request.
const REQUESTS: &[(&str, &str, u64)] = &[
    ("/api/v1/jobs", r#"{"type": "noop", "queue": "QUEUE"}"#, 1),
    ("/api/v1/jobs", r#"{"type": "noop", "queue": "QUEUE", "partition": "p-N"}"#, 1),
    ("/api/v1/jobs", r#"{"type": "noop", "queue": "QUEUE", "unique_key": "u-N"}"#, 1),
    ("/api/v1/jobs", r#"{"type": "noop", "queue": "QUEUE", "concurrency": {"key": "c-N"}}"#, 1),
    ("/tasks", r#"{"type": "noop"}"#, 1),
    (
        "/api/v1/jobs/batch",
        r#"{"jobs": [{"type": "noop", "queue": "QUEUE", "unique_key": "a-N"}, {"type": "noop", "queue": "QUEUE", "unique_key": "b-N"}, {"type": "noop", "queue": "QUEUE"}]}"#,
        3,
    ),
    ("/api/v1/workflows/free/start", "{}", 1),
    ("/api/v1/workflows/keyed/start", r#"{"input": {"k": "k-N"}}"#, 1),
    ("/api/v1/schedules/nightly/trigger", "", 1),
];

/// At each of so many calls the answer is lost once.
const CALLS: i64 = 12;

struct Scene {
    place: Place,
    faults: Arc<Nth>,
    store: Arc<ShardedStore>,
    clock: Arc<TestClock>,
}

impl Scene {
    async fn new() -> Scene {
        goflow::sys::tls::install();
        let clock = TestClock::new();
        let options = ShardedOptions {
            opener: grounds(clock.clone()),
            clock: clock.clone(),
            entropy: Arc::new(Count::new()),
            only: None,
        };
        let map = Map::of_urls(&["zero".into(), "one".into()], Strategy::Hash);
        let store = Arc::new(ShardedStore::open(map, options).await.expect("opens"));
        let client = Client::new(store.clone(), clock.clone(), Arc::new(SystemEntropy::default()));
        let manifests = workflow::parse("all.yaml", MANIFESTS).expect("manifests");
        client.apply(&client.plan(manifests).await.expect("a plan")).await.expect("they are kept");
        let faults = Arc::new(Nth::default());
        let place = Place::over(Arc::new(FaultStore::new(store.clone(), faults.clone())), clock.clone()).await;
        Scene { place, faults, store, clock }
    }

    async fn post(&self, (path, body): (&str, &str), queue: &str) -> u16 {
        let body = body.replace("QUEUE", queue).replace("-N", &format!("-{queue}"));
        let request = reqwest::Client::new().post(format!("http://{}{path}", self.place.address)).body(body);
        let answer = request.header("Idempotency-Key", queue).send().await.expect("it answers");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("a text");
        assert!((200..300).contains(&status) || status == 500, "{path}: {status} {text}");
        status
    }

    /// Sends everything, and again after a change of the shards.
    async fn play(self, change: impl AsyncFnOnce(&ShardedStore)) {
        let (mut failed, mut sent) = (0, Vec::new());
        for (kind, (path, body, _)) in REQUESTS.iter().enumerate() {
            for nth in 1..=CALLS {
                let queue = format!("q{kind}-{nth}");
                self.faults.arm(nth);
                let status = self.post((path, body), &queue).await;
                self.faults.arm(0);
                failed += u64::from(status == 500);
                sent.push((kind, queue));
            }
        }
        assert!(failed > 25, "only {failed} requests failed");
        change(&self.store).await;
        // Where a server has not kept that it ended, it is taken for dead by then.
        self.clock.advance(Duration::from_secs(130));
        for (kind, queue) in &sent {
            let (path, body, _) = REQUESTS[*kind];
            let status = self.post((path, body), queue).await;
            assert!(status < 300, "{path}, {queue}: {status}");
        }
        // One with a key begins its steps when it is let in: at its start, unless an answer was lost there.
        let query = RunQuery { finished: false, after: None, budget: 1_000 };
        let mut runs: Vec<String> = Vec::new();
        let told = Client::new(self.store.clone(), self.clock.clone(), Arc::new(SystemEntropy::default()));
        for run in self.store.runs(&query).await.expect("runs").items {
            told.knock(run.id).await.expect("it is kept");
            runs.push(run.workflow.to_string());
        }
        let stats = self.store.stats().await.expect("stats");
        let of =
            |name: &str| stats.iter().filter(|queue| queue.name.as_str() == name).map(|one| one.pending).sum::<u64>();
        for (kind, queue) in &sent {
            let (path, body, jobs) = REQUESTS[*kind];
            if body.contains("QUEUE") {
                assert_eq!(of(queue), jobs, "{path} {body}, {queue}");
            }
        }
        let calls = u64::try_from(CALLS).expect("a number");
        assert_eq!(of("default"), calls * 2, "of tasks and of the schedule");
        let count = |name: &str| runs.iter().filter(|run| *run == name).count() as u64;
        assert_eq!((count("free"), count("keyed"), of("flows")), (calls, calls, 2 * calls));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_half_way_is_done_once_though_a_shard_has_come() {
    let change = async |store: &ShardedStore| {
        store.shards().expect("verbs").add("two").await.expect("adds");
    };
    Scene::new().await.play(change).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_half_way_is_done_once_though_its_shard_is_emptied() {
    let change = async |store: &ShardedStore| {
        let verbs = store.shards().expect("verbs");
        verbs.add("two").await.expect("adds");
        verbs.drain(1, Some(0)).await.expect("drains");
        while verbs.carry(1).await.expect("carries") != Carried::default() {}
    };
    Scene::new().await.play(change).await;
}

/// What waits on a shard that takes nothing new any more is not made again where new work goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_half_way_is_done_once_though_its_shard_drains() {
    let change = async |store: &ShardedStore| {
        let verbs = store.shards().expect("verbs");
        verbs.add("two").await.expect("adds");
        verbs.drain(1, None).await.expect("drains");
    };
    Scene::new().await.play(change).await;
}
