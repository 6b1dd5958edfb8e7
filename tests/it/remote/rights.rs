//! What a token may send through a server, and what nobody may.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use goflow::api::Client;
use goflow::api::tokens::Scope;
use goflow::domain::job::{Link, Outcome};
use goflow::domain::{Job, Json, Name, QueueSettings, RunState};
use goflow::store::wire::{self, Call, Right};
use goflow::store::*;
use goflow::sys::clock::SystemClock;
use goflow::sys::entropy::SystemEntropy;
use goflow::workflow;
use http::StatusCode;

use super::place::Place;
use crate::store::make::*;

async fn place() -> Place {
    let clock = Arc::new(SystemClock);
    Place::over(Arc::new(MemoryStore::new(clock.clone())), clock).await
}

fn refused<T: std::fmt::Debug>(answer: Result<T>) -> String {
    match answer {
        Err(StoreError::Refused(why)) => why,
        other => panic!("not refused: {other:?}"),
    }
}

/// A plain client, that knows nothing of goflow.
fn plain() -> reqwest::Client {
    goflow::sys::tls::install();
    reqwest::Client::new()
}

/// Sends bytes as a call.
async fn send(place: &Place, call: &str, token: Option<&str>, body: Vec<u8>) -> (StatusCode, String) {
    let url = format!("http://{}{}/{call}", place.address, wire::PATH);
    let mut request = plain().post(url).header(wire::PROTOCOL_HEADER, wire::PROTOCOL).body(body);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.expect("it answers");
    (answer.status(), answer.text().await.unwrap_or_default())
}

#[test]
fn every_call_has_the_right_that_its_kind_asks_for() {
    // Written down here once more: a call that is added must be thought about.
    let looks = "log schedules get find newest list stats queues workers run find_runs runs values history definition \
                 definitions events since tail news health locks reshard";
    let admin = "set_schedule define undefine document set_document documents";
    let of = |text: &str| text.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
    let (looks, admin) = (of(looks), of(admin));
    for call in Call::ALL {
        let name = call.as_str();
        let expected = match name {
            "enqueue" | "placement" => Right::Enqueue,
            name if looks.contains(name) => Right::Read,
            name if admin.contains(name) => Right::Admin,
            _ => Right::Operate,
        };
        assert_eq!(call.right(), expected, "{name}");
    }
}

#[tokio::test]
async fn each_call_lets_in_whom_the_table_says() {
    let place = place().await;
    let mut seen = 0;
    // All of them first: a server may not know for a second what was made meanwhile.
    let mut tokens = Vec::new();
    for scope in Scope::ALL {
        let made = place.client.create_token(&name(scope.as_str()), vec![scope]).await;
        tokens.push((scope, made.expect("a token").1));
    }
    for (scope, token) in tokens {
        for call in Call::ALL {
            let wanted = match call.right() {
                Right::Read => Scope::Read,
                Right::Enqueue => Scope::Enqueue,
                Right::Operate => Scope::Operate,
                Right::Admin => Scope::Admin,
            };
            // Bytes that are no message of any call: who is let in hears of that.
            let (status, text) = send(&place, call.as_str(), Some(&token), vec![0xc1]).await;
            let expected = if scope.covers(wanted) { StatusCode::BAD_REQUEST } else { StatusCode::FORBIDDEN };
            assert_eq!(status, expected, "{} with {scope}: {text}", call.as_str());
            seen += 1;
        }
    }
    assert_eq!(seen, Call::ALL.len() * Scope::ALL.len());
    for token in [None, Some("gft_wrong")] {
        for call in Call::ALL {
            assert_eq!(send(&place, call.as_str(), token, vec![]).await.0, StatusCode::UNAUTHORIZED);
        }
    }
}

#[tokio::test]
async fn what_no_caller_could_have_asked_for_is_not_stored() {
    let place = place().await;
    let store = place.store().await.expect("it opens");
    let batch = |job: Job| Enqueue { producer: producer(), sequence: 1, jobs: vec![now(job)], runs: vec![] };
    let bad_jobs: Vec<(&str, Job)> = vec![
        ("payload", Job { payload: Json::checked("{\"a\":"), ..job() }),
        ("payload", Job { payload: Json::checked(&"[".repeat(200)), ..job() }),
        ("payload", Job { payload: Json::checked(&format!("{}{}", "[".repeat(129), "]".repeat(129))), ..job() }),
        ("payload", Job { payload: Json::checked(&format!("\"{}\"", "x".repeat(1 << 20))), ..job() }),
        ("payload", Job { payload: Json::checked(" 1"), ..job() }),
        ("priority", Job { priority: 101, ..job() }),
        ("unique key", Job { unique_key: Some("k".repeat(257)), ..job() }),
        ("metadata", Job { metadata: [("k".into(), "v".repeat(20_000))].into(), ..job() }),
        ("parents", Job { after: (0..101).map(|_| job_id()).collect(), ..job() }),
        ("jitter", Job { retry: goflow::domain::RetryPolicy { jitter: f64::NAN, ..impatient() }, ..job() }),
    ];
    for (what, job) in bad_jobs {
        let why = refused(store.enqueue(&batch(job)).await);
        assert!(why.contains(what), "{what}: {why}");
    }
    let many = Enqueue { jobs: (0..1_001).map(|_| now(job())).collect(), ..batch(job()) };
    assert!(refused(store.enqueue(&many).await).contains("1001"));
    // A rate that its own reading would have refused: no caller of ours can make one.
    let zero = rmp_serde::to_vec_named(&serde_json::json!(["default", {"r": {"n": 0, "u": "s"}}]));
    let (status, _) = send(&place, "set_queue", None, zero.expect("bytes")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let weight = QueueSettings { weight: Some(0), ..QueueSettings::default() };
    assert!(refused(store.set_queue(&name("default"), &weight).await).contains("weight"));
    let claim = Claim { want: 65, ..wish(worker(), &["default"], 65) };
    assert!(refused(store.exchange(&Exchange { commits: vec![], claim: Some(claim) }).await).contains("64"));
    let long = Note { id: job_id(), epoch: Default::default(), progress: None, log: "x".repeat(70_000) };
    assert!(refused(store.note(&[long]).await).contains("log"));
    assert_eq!(store.stats().await.expect("stats"), vec![], "nothing was stored");
    // Whatever comes, the server goes on.
    for call in Call::ALL {
        for body in [vec![], vec![0xff; 100], vec![0x91; 100_000], b"{\"a\":1}".to_vec()] {
            let (status, text) = send(&place, call.as_str(), None, body).await;
            let argumentless = status == StatusCode::OK;
            assert!(argumentless || status == StatusCode::BAD_REQUEST, "{}: {status} {text}", call.as_str());
        }
    }
    assert_eq!(store.stats().await.expect("stats"), vec![]);
}

#[tokio::test]
async fn another_protocol_is_refused_with_the_version_to_get() {
    let place = place().await;
    let url = format!("http://{}{}", place.address, wire::PATH);
    let ask = |protocol: &'static str| {
        let request = plain().get(&url).header(wire::PROTOCOL_HEADER, protocol);
        async move { request.header(wire::VERSION_HEADER, "9.1.0").send().await.expect("it answers") }
    };
    let answer = ask("1").await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(answer.headers()[wire::PROTOCOL_HEADER], "2");
    let text = answer.text().await.expect("a text");
    let version = wire::VERSION;
    assert!(text.contains(&format!("it speaks protocol 1 (goflow 9.1.0), this goflow {version} speaks 2")), "{text}");
    assert!(text.contains(&format!("use goflow {version} there")), "{text}");
    assert_eq!(ask("2").await.status(), StatusCode::OK);
}

const WORKFLOW: &str = "kind: Workflow\nname: order\nsteps:\n  - id: pay\n    run: [echo, '${{ input.n }}']\n  - id: ship\n    run: [echo, shipped]\n    needs: [pay]\n";

async fn applied(place: &Place) -> workflow::Definition {
    let manifest = workflow::parse("order.yaml", WORKFLOW).expect("a manifest").remove(0);
    let workflow::Manifest::Workflow(definition) = manifest else { panic!("no workflow") };
    let kept = Definition {
        kind: "workflow".into(),
        name: definition.name().clone(),
        hash: definition.hash().to_owned(),
        text: definition.text().to_owned(),
    };
    place.client.store().define(&[kept]).await.expect("it is kept");
    definition
}

fn client(store: RemoteStore) -> Client {
    Client::new(Arc::new(store), Arc::new(SystemClock), Arc::new(SystemEntropy::default()))
}

#[tokio::test]
async fn a_token_that_adds_work_adds_no_commands() {
    let place = place().await;
    let definition = applied(&place).await;
    let token = place.token(&[Scope::Read, Scope::Enqueue]).await;
    let store = place.store_with(&token).await.expect("it opens");
    let batch = |job: Job| Enqueue { producer: producer(), sequence: 1, jobs: vec![now(job)], runs: vec![] };
    let command = Json::parse(r#"{"argv":["touch","/tmp/x"]}"#, 100).expect("JSON");
    let run: Name = workflow::RUN_KIND.parse().expect("a name");
    for forged in [
        Job { kind: run.clone(), payload: command.clone(), ..job() },
        Job { link: Some(Link { run: run_id(), step: "pay".into(), undo: false }), ..job() },
        Job { failures: 2, ..job() },
        Job { raw: Some(vec![1]), ..job() },
    ] {
        refused(store.enqueue(&batch(forged)).await);
    }
    assert_eq!(store.enqueue(&batch(job())).await.expect("an ordinary job").jobs, [Enqueued::Created]);
    // A run of its own making, and one by the book.
    let forged = effects(record(run_id(), 1, RunState::Running), vec![Job { kind: run, payload: command, ..job() }]);
    let batch = Enqueue { producer: producer(), sequence: 1, jobs: vec![], runs: vec![forged.into()] };
    assert!(refused(store.enqueue(&batch).await).contains("does not begin as its workflow does"));
    let input = Json::parse(r#"{"n": 7}"#, 100).expect("JSON");
    let id = client(store).start(&definition, input.clone()).await.expect("it begins");
    let begun = place.client.store().run(id).await.expect("an answer").expect("it is kept");
    // The same with another command in it.
    let advanced = workflow::start(&definition, run_id(), input, BIRTH).expect("a run");
    let mut bent = advanced::effects(advanced, BIRTH).expect("effects");
    bent.jobs[0].payload = Json::parse(r#"{"argv":["touch","/tmp/x"]}"#, 100).expect("JSON");
    let store = place.store_with(&token).await.expect("it opens");
    let batch = Enqueue { producer: producer(), sequence: 1, jobs: vec![], runs: vec![bent.into()] };
    assert!(refused(store.enqueue(&batch).await).contains("it is another one"));
    assert_eq!(begun.state, RunState::Running);
    assert!(refused(store.define(&[]).await).contains("admin"));
}

#[tokio::test]
async fn a_workers_token_settles_steps_and_makes_no_commands() {
    let place = place().await;
    let definition = applied(&place).await;
    let input = Json::parse(r#"{"n": 7}"#, 100).expect("JSON");
    let id = place.client.start(&definition, input).await.expect("it begins");
    let token = place.token(&[Scope::Operate]).await;
    let store = place.store_with(&token).await.expect("it opens");
    let worker = hired(&store).await;
    let claimed = claim_one(&store, worker).await;
    // The command that it was given may not become another one.
    let mut bent = settle(&claimed, Outcome::Released);
    bent.job.payload = Json::parse(r#"{"argv":["touch","/tmp/x"]}"#, 100).expect("JSON");
    let exchange = Exchange { commits: vec![alone(bent.clone())], claim: None };
    assert!(refused(store.exchange(&exchange).await).contains("may not be changed"));
    // Not behind a harmless move of the same job, and not as bytes that are read as a job.
    let twice = vec![alone(bent), alone(settle(&claimed, Outcome::Released))];
    assert!(refused(store.exchange(&Exchange { commits: twice, claim: None }).await).contains("may not be changed"));
    let mut raw = settle(&claimed, Outcome::Released);
    (raw.job.kind, raw.job.raw) = ("noop".parse().expect("a name"), Some(vec![0x80]));
    let exchange = Exchange { commits: vec![alone(raw)], claim: None };
    assert!(refused(store.exchange(&exchange).await).contains("may not be changed"));
    // An advance of its own making is left out: what it was to tell waits in the inbox.
    let record = claimed.run.clone().expect("it is a step");
    let mut header = record.header().expect("a header");
    header.rev += 1;
    let forged = Job { kind: workflow::RUN_KIND.parse().expect("a name"), ..job() };
    let next = RunRecord::of(&header).expect("a record");
    let advance = Advance { from_rev: record.rev, drained: None, effects: effects(next, vec![forged]) };
    let fact =
        workflow::Fact::of_step("pay", false, claimed.epoch, 1, BIRTH, workflow::What::Completed { output: None });
    let part = RunCommit { run: id, facts: vec![fact.encode().expect("bytes")], advance: Some(advance) };
    let settled = Commit { moves: vec![settle(&claimed, done())], run: Some(part) };
    let answer = store.exchange(&Exchange { commits: vec![settled], claim: None }).await.expect("it is taken");
    assert_eq!((answer.commits[0].moves[0], answer.commits[0].run), (Moved::Applied, RunAnswer::Inboxed));
    assert!(!answer.dirty && store.take_dirty(10, Duration::from_secs(1)).await.expect("an answer").is_empty());
    let inner = place.client.store();
    assert_eq!(inner.stats().await.expect("stats")[0].pending, 0, "nothing was started by it");
    let dirty = inner.take_dirty(10, Duration::from_secs(1)).await.expect("an answer");
    assert_eq!((dirty.len(), dirty[0].inbox.len()), (1, 1));
    // Secrets of others are not shown.
    assert!(refused(store.definitions("token").await).contains("admin"));
    assert!(store.definitions("handler").await.expect("an answer").is_empty());
    let kept = inner.definitions("token").await.expect("an answer").remove(0);
    assert!(refused(store.definition(&kept.hash).await).contains("admin"));
}

#[tokio::test]
async fn what_a_run_is_told_with_a_workers_token_the_server_takes_in() {
    let place = place().await;
    let definition = applied(&place).await;
    let input = Json::parse(r#"{"n": 7}"#, 100).expect("JSON");
    let id = place.client.start(&definition, input).await.expect("it begins");
    let token = place.token(&[Scope::Operate]).await;
    let asks = client(place.store_with(&token).await.expect("it opens"));
    let state = async || place.client.run_header(id).await.expect("it is kept").state;
    asks.pause_run(id).await.expect("it runs");
    assert_eq!(state().await, RunState::Paused);
    asks.resume_run(id).await.expect("it is paused");
    assert_eq!(state().await, RunState::Running);
    asks.cancel_run(id, true).await.expect("it runs");
    assert_eq!(state().await, RunState::Cancelled);
    assert!(asks.cancel_run(id, true).await.is_err(), "it has ended");
    assert_eq!(asks.store().run_work(id).await.expect("an answer"), None, "nobody is to advance it from there");
}

const SECRETS: &str = r#"
{kind: Handler, name: pay, run: [pay, "${{ payload }}"], env: {API_TOKEN: t0p53cret, MODE: test}}
---
kind: Workflow
name: charge
steps:
  - id: pay
    run: [pay, "${{ input.n }}"]
    env: {API_TOKEN: t0p53cret, MODE: test}
    compensate: {run: [refund], env: {API_TOKEN: t0p53cret}}
  - {id: later, needs: [pay], wait: {signal: go}}
"#;

/// What a store tells of a job, of a run and of definitions, as text.
async fn seen(
    store: &dyn Store,
    run: goflow::domain::RunId,
    job: goflow::domain::JobId,
) -> Vec<(&'static str, String)> {
    let query = ListQuery { place: goflow::domain::Place::Completed, queue: None, after: None, budget: 100 };
    let workflows = store.definitions("workflow").await.expect("workflows");
    let hash = workflows[0].hash.clone();
    let bytes = |record: RunRecord| String::from_utf8_lossy(&record.body).into_owned();
    let runs = store.runs(&RunQuery { finished: false, after: None, budget: 100 }).await.expect("runs");
    vec![
        ("handlers", format!("{:?}", store.definitions("handler").await.expect("handlers"))),
        ("workflows", format!("{workflows:?}")),
        ("workflow", format!("{:?}", store.definition(&hash).await.expect("a definition"))),
        ("job", format!("{:?}", store.get(&[job]).await.expect("a job"))),
        ("jobs", format!("{:?}", store.list(&query).await.expect("jobs").items)),
        ("run", bytes(store.run(run).await.expect("an answer").expect("a run"))),
        ("runs", runs.items.into_iter().map(bytes).collect()),
    ]
}

#[tokio::test]
async fn secrets_are_shown_to_whom_the_work_needs_them_and_to_nobody_else() {
    let place = place().await;
    let manifests = workflow::parse("secret.yaml", SECRETS).expect("manifests");
    place.client.apply(&place.client.plan(manifests).await.expect("a plan")).await.expect("they are kept");
    let kept = place.client.definition(workflow::manifest::Kind::Workflow, &name("charge")).await.expect("it is kept");
    let definition = workflow::Definition::load(&kept.text).expect("a workflow");
    let input = Json::parse(r#"{"n": 7}"#, 100).expect("JSON");
    // A run whose first step has ended, with its undo on the log.
    let run = place.client.start(&definition, input.clone()).await.expect("it begins");
    let inner = place.client.store().clone();
    let worker = hired(&*inner).await;
    let claimed = claim_one(&*inner, worker).await;
    assert!(claimed.job.payload.as_str().contains("t0p53cret"), "whoever works is handed what the work needs");
    let fact =
        workflow::Fact::of_step("pay", false, claimed.epoch, 1, BIRTH, workflow::What::Completed { output: None });
    let header = inner.run(run).await.expect("an answer").expect("a run").header().expect("a header");
    let advanced =
        workflow::advance(&definition, &header, std::slice::from_ref(&fact), BIRTH, &|_| None).expect("it goes on");
    let effects = advanced::effects(advanced, BIRTH).expect("effects");
    let advance = Advance { from_rev: header.rev, drained: None, effects };
    let part = RunCommit { run, facts: vec![fact.encode().expect("bytes")], advance: Some(advance) };
    commit(&*inner, Commit { moves: vec![settle(&claimed, done())], run: Some(part) }).await;

    let scopes = [&[Scope::Read][..], &[Scope::Read, Scope::Enqueue], &[Scope::Operate], &[Scope::Admin]];
    let mut tokens = Vec::new();
    for scopes in scopes {
        tokens.push((scopes, place.token(scopes).await));
    }
    for (scopes, token) in &tokens {
        let store = place.store_with(token).await.expect("it opens");
        let works = scopes.contains(&Scope::Operate) || scopes.contains(&Scope::Admin);
        for (what, text) in seen(&store, run, claimed.job.id).await {
            let is_shown = match what {
                "workflows" | "workflow" => scopes.contains(&Scope::Admin),
                _ => works,
            };
            assert_eq!(text.contains("t0p53cret"), is_shown, "{what} with {scopes:?}: {text}");
            assert_eq!(text.contains("***"), !is_shown, "{what} with {scopes:?}: {text}");
        }
    }
    // Who is not shown them starts runs with them all the same.
    for (scopes, token) in &tokens[1..] {
        let store = Arc::new(place.store_with(token).await.expect("it opens"));
        let client = Client::new(store, Arc::new(SystemClock), Arc::new(SystemEntropy::default()));
        let kept = client.definition(workflow::manifest::Kind::Workflow, &name("charge")).await.expect("it is shown");
        let shown = workflow::Definition::kept(&kept.text, &kept.hash).expect("a workflow");
        assert_eq!(shown.text().contains("***"), !scopes.contains(&Scope::Admin));
        let id = client.start(&shown, input.clone()).await.unwrap_or_else(|error| panic!("{scopes:?}: {error}"));
        let begun = claim_one(&*inner, worker).await;
        assert_eq!(begun.job.link.as_ref().map(|link| link.run), Some(id));
        let payload = begun.job.payload.as_str();
        assert!(payload.contains("t0p53cret") && !payload.contains("***"), "{scopes:?}: {payload}");
    }
    // And nobody brings the sign of a secret in as one.
    let admin = place.store_with(&tokens[3].1).await.expect("it opens");
    let masked = Definition { text: workflow::shown::definition(&kept.text).as_str().to_owned(), ..kept.clone() };
    assert!(refused(admin.define(&[masked]).await).contains("`***`"));
    let enqueues = place.store_with(&tokens[1].1).await.expect("it opens");
    let header = inner.run(run).await.expect("an answer").expect("a run").header().expect("a header");
    let whole = workflow::Definition::kept(&kept.text, &kept.hash).expect("a workflow");
    let mut bent =
        advanced::effects(workflow::start(&whole, run_id(), input, header.created_at).expect("a run"), BIRTH);
    let bent = bent.as_mut().expect("effects");
    bent.jobs[0].payload =
        Json::parse(&bent.jobs[0].payload.as_str().replace("t0p53cret", "mine"), 10_000).expect("JSON");
    let batch = Enqueue { producer: producer(), sequence: 1, jobs: vec![], runs: vec![bent.clone().into()] };
    assert!(refused(enqueues.enqueue(&batch).await).contains("it is another one"));
}
