//! Real processes: commands over a server, a server that is killed under a worker, and three servers of
//! which one dies under load.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use goflow::domain::JobId;
use goflow::store::remote::ServerUrl;
use goflow::store::{RedisOptions, RedisStore, RemoteStore, Store, StoreError};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::cli::TestEnvironment;
use crate::servers::port::Port;
use crate::servers::redis;
use crate::store::make::{job, now, producer};

/// A server process on a port that it keeps when it is started again.
struct Server {
    port: Port,
    store: String,
    child: Option<Child>,
}

impl Server {
    fn start(env: &TestEnvironment, store: &str) -> Server {
        let mut server = Server { port: Port::claim(), store: store.to_owned(), child: None };
        server.revive(env);
        server
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn revive(&mut self, env: &TestEnvironment) {
        let port = self.port.to_string();
        let mut command = env.command(["server", "-p", &port, "--store", &self.store]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        self.child = Some(child);
        let answers = || std::net::TcpStream::connect(("127.0.0.1", self.port.number())).is_ok().then_some(());
        until("the server", answers);
    }

    /// As kill -9 does.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ends with the test.
struct Running(Child);

impl Running {
    fn start(env: &TestEnvironment, line: &str) -> Running {
        let mut command = env.command(line.split_whitespace());
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(30));
    }
}

fn queue(env: &TestEnvironment) -> Value {
    env.run("queue stats -o json").ok().json()[0].clone()
}

#[test]
fn every_kind_of_command_works_over_a_server() {
    let mut env = TestEnvironment::new();
    env.file("goflow.yaml", "handlers: {no: {run: ['false']}}\n");
    env.file("two.yaml", "kind: Workflow\nname: two\nsteps:\n  - id: a\n    run: [echo, one]\n    outputs: text\n  - id: b\n    run: [echo, '${{ steps.a.outputs }} two']\n    outputs: text\n    needs: [a]\noutputs:\n  text: ${{ steps.b.outputs }}\n");
    let server = Server::start(&env, "sqlite:jobs.db");
    env.set("GOFLOW_SERVER", &server.url());
    let id = env.run("enqueue echo -d {\"a\":1} --priority 7").ok().line().to_owned();
    env.run("enqueue no --max-retries 0").ok();
    env.feed("enqueue echo --lines", "1\n2\n3\n").ok();
    assert_eq!(env.run("job list -n 0 -o json").ok().json().as_array().map(Vec::len), Some(5));
    env.run("worker --until-empty -c 4").ok();
    let shown = env.run(&format!("job show {id} -o json")).ok().json();
    assert_eq!(
        (&shown["state"], &shown["result"], &shown["priority"]),
        (&json!("completed"), &json!({"a": 1}), &json!(7))
    );
    assert_eq!(env.run("dlq list -o json").ok().json().as_array().map(Vec::len), Some(1));
    env.run("dlq retry --yes").ok();
    env.run("worker --until-empty").ok();
    assert_eq!(queue(&env)["dead"], 1);
    env.run("dlq purge --yes").ok();
    let run = env.run("run two.yaml -o json").ok().json();
    assert_eq!((&run["state"], &run["output"]), (&json!("completed"), &json!({"text": "one two"})));
    env.run("queue pause default").ok();
    assert_eq!(queue(&env)["paused"], true);
    env.run("queue resume default").ok();
    assert!(env.run("events -n 0 -o jsonl").ok().stdout.lines().count() > 10);
    let doctor = env.run("doctor --verify -o json").ok().json();
    assert_eq!((&doctor["ok"], &doctor["differences"]), (&json!(true), &json!([])));
    assert_eq!(doctor["store"], server.url());
    assert!(doctor["server"].as_str().is_some_and(|text| text.starts_with("SQLite") && text.contains("behind goflow")));
    let origin = env.run("config show --origin").ok().stdout;
    assert!(origin.contains("environment GOFLOW_SERVER"), "{origin}");
    // The bench over it, small.
    env.args(["bench", "jobs", "--count", "50", "--server", &server.url()]).ok();
}

/// Shards that come, are emptied with runs that wait on them, and go, said through a server by who sees no shard.
#[test]
fn shards_are_changed_through_a_server_while_runs_wait_on_them() {
    let mut env = TestEnvironment::new();
    env.file(
        "asks.yaml",
        "kind: Workflow\nname: asks\nsteps:\n  - {id: a, run: [echo, hi]}\n  - {id: ok, needs: [a], approval: {timeout: 1h}}\n  \
         - {id: b, needs: [ok], run: [echo, there]}\n",
    );
    let server = Server::start(&env, "sqlite:0.db,sqlite:1.db,sqlite:2.db");
    env.set("GOFLOW_SERVER", &server.url());
    env.run("apply asks.yaml").ok();
    let worker = Running::start(&env, "worker -c 4");
    let runs: Vec<String> = (0..9)
        .map(|_| env.run("workflow start asks -o json").ok().json()["id"].as_str().expect("an id").to_owned())
        .collect();
    let parents: Vec<String> = (0..9).map(|_| env.run("enqueue echo --delay 20s").ok().line().to_owned()).collect();
    let children: Vec<String> = parents
        .iter()
        .map(|parent| env.run(&format!("enqueue echo --after {parent}")).ok().line().to_owned())
        .collect();
    let state = |run: &String| env.run(&format!("workflow show {run} -o json")).ok().json()["state"].clone();
    let shards = || env.run("shard list -o json").ok().json();
    until("all of them ask", || {
        let asks = |run: &String| {
            let shown = env.run(&format!("workflow show {run} -o json")).ok().json();
            shown["steps"].as_array().is_some_and(|steps| steps.iter().any(|step| step["state"] == "waiting"))
        };
        runs.iter().all(asks).then_some(())
    });
    assert!(shards().as_array().is_some_and(|all| all.iter().all(|shard| shard["url"] != "")));
    let moved = env.run("shard drain 1 --move --to 0 -o json").ok().json();
    assert_eq!((&moved["left"], &moved["runs_stuck"]), (&json!(0), &json!(0)), "{moved}");
    env.run("shard remove 1").ok();
    env.run("shard add sqlite:3.db").ok();
    env.run("scale --shards 2").ok();
    let states: Vec<Value> = shards().as_array().expect("a list").iter().map(|shard| shard["state"].clone()).collect();
    assert_eq!(states, ["active", "removed", "active", "removed"]);
    let refused = env.run("worker --shards 0-1");
    assert_eq!(refused.status, Some(5), "{}", refused.text());
    assert!(refused.stderr.contains("--shards goes with --store"), "{}", refused.stderr);
    for run in &runs {
        env.run(&format!("workflow approve {run}")).ok();
    }
    until("all have ended", || runs.iter().all(|run| state(run) == "completed").then_some(()));
    let ended = |id: &String| env.run(&format!("job show {id} -o json")).ok().json()["state"] == "completed";
    until("who waited for others has ended", || children.iter().all(ended).then_some(()));
    drop(worker);
    env.run("doctor --verify -o json").ok();
}

#[test]
fn who_may_not_and_who_is_not_there_are_told_apart() {
    let mut env = TestEnvironment::new();
    let server = Server::start(&env, "sqlite:jobs.db");
    let token = |scope: &str| {
        env.run(&format!("token create {scope} --scope {scope} --store sqlite:jobs.db")).ok().line().to_owned()
    };
    let (reader, adder) = (token("read"), token("enqueue"));
    let url = server.url();
    env.file("reader", &reader);
    let answer = env.run(&format!("--server {url} job list"));
    assert_eq!(answer.status, Some(5), "{}", answer.text());
    assert!(answer.stderr.contains("wants a token") && answer.stderr.contains("[GF0006]"), "{}", answer.stderr);
    env.file("wrong", "gft_wrong\n");
    let answer = env.run(&format!("--server {url} --token-file wrong job list"));
    assert_eq!(answer.status, Some(5), "{}", answer.text());
    let said = &answer.stderr;
    assert!(said.contains("does not take the token") && !said.contains("gft_wrong"), "{said}");
    env.run(&format!("--server {url} --token-file reader job list")).ok();
    let answer = env.run(&format!("--server {url} --token-file reader enqueue echo"));
    assert_eq!(answer.status, Some(5), "{}", answer.text());
    assert!(answer.stderr.contains("scope `enqueue`"), "{}", answer.stderr);
    let answer = env.run(&format!("--server {url} --token-file nowhere job list"));
    assert_eq!(answer.status, Some(2), "{}", answer.text());
    // Who may add and not look is told of what was added.
    env.set("GOFLOW_TOKEN", &adder);
    let id = env.run(&format!("--server {url} enqueue echo")).ok().line().to_owned();
    let shown = env.run(&format!("--server {url} --token-file reader job show {id} -o json")).ok().json();
    assert_eq!(shown["state"], "pending");
    let origin = env.run(&format!("config show --origin --server {url}")).ok().stdout;
    assert!(origin.contains("environment GOFLOW_TOKEN") && !origin.contains(&adder), "{origin}");
    drop(server);
    let answer = env.run(&format!("--server {url} job list"));
    assert_eq!(answer.status, Some(5), "{}", answer.text());
    assert!(answer.stderr.contains("cannot connect to") && answer.stderr.contains("[GF0005]"), "{}", answer.stderr);
    for (line, text) in [
        ("--server redis://h:1 job list", "starts with http://"),
        ("--server localhost:8080 job list", "starts with http://"),
        ("--server http://gft_x@h job list", "http://***@h"),
        ("--server http:// job list", "not a store URL"),
    ] {
        let answer = env.run(line);
        assert_eq!(answer.status, Some(2), "{line}: {}", answer.text());
        assert!(answer.stderr.contains(text), "{line}: {}", answer.stderr);
    }
}

#[test]
fn jobs_survive_a_server_that_is_killed_under_their_worker() {
    let mut env = TestEnvironment::new();
    let work = "#!/bin/sh\necho $GOFLOW_JOB_ID >> witness\nsleep 0.3\n";
    env.file("work.sh", work);
    env.file("goflow.yaml", "handlers: {work: {run: [sh, ./work.sh]}}\n");
    env.file("witness", "");
    let mut server = Server::start(&env, "sqlite:jobs.db");
    env.set("GOFLOW_SERVER", &server.url());
    env.feed("enqueue work --lines", (0..40).map(|n| format!("{n}\n")).collect::<String>()).ok();
    let _worker = Running::start(&env, "worker -c 4");
    let begun = || std::fs::read_to_string(env.path().join("witness")).expect("the witness");
    for wanted in [8, 20] {
        until("some jobs to begin", || (begun().lines().count() >= wanted).then_some(()));
        server.kill();
        // What runs goes on meanwhile, and is settled when there is somebody to tell.
        server.revive(&env);
    }
    until("all to complete", || (queue(&env)["completed"] == 40).then_some(()));
    let all: Vec<String> = begun().lines().map(str::to_owned).collect();
    let distinct: BTreeSet<&String> = all.iter().collect();
    assert_eq!(distinct.len(), 40, "each job ran");
    // The server was away for less than a lease: nothing had to run twice.
    assert_eq!(all.len(), 40, "{all:?}");
}

/// Reads along over a WebSocket; goes on at another server when one dies. Gives the ids of the jobs that
/// were created, in the order in which it was told.
async fn read_along(urls: Vec<String>, wanted: usize, told: Arc<AtomicUsize>, cuts: Arc<AtomicUsize>) -> Vec<String> {
    let (mut ids, mut after, mut nth) = (Vec::new(), None::<String>, 0);
    while ids.len() < wanted {
        let url = format!("{}/ws", urls[nth % urls.len()].replace("http:", "ws:"));
        nth += 1;
        let Ok((mut socket, _)) = tokio_tungstenite::connect_async(url).await else { continue };
        let mut wish = json!({"type": "subscribe", "topic": "events", "where": "type:job.created"});
        if let Some(after) = &after {
            wish["after"] = json!(after);
            cuts.fetch_add(1, Ordering::SeqCst);
        }
        let _ = socket.send(Message::text(wish.to_string())).await;
        while let Some(Ok(message)) = socket.next().await {
            let Message::Text(text) = message else { continue };
            let said: Value = serde_json::from_str(&text).expect("JSON");
            match said["type"].as_str() {
                Some("subscribed") => {
                    assert_ne!(said["complete"], false, "what came after the last one is kept");
                    after = after.or_else(|| said["place"].as_str().map(str::to_owned));
                    told.fetch_add(1, Ordering::SeqCst);
                }
                Some("event") => {
                    after = said["place"].as_str().map(str::to_owned);
                    ids.push(said["event"]["job_id"].as_str().expect("an id").to_owned());
                }
                _ => panic!("{text}"),
            }
            if ids.len() >= wanted {
                break;
            }
        }
    }
    ids
}

/// Enqueues one job after the other, at the next server when one does not answer; the ids of those that
/// were acknowledged.
async fn produce(urls: Vec<ServerUrl>, first: usize, count: usize, acked: Arc<AtomicUsize>) -> Vec<JobId> {
    let (mut at, mut ids) = (first, Vec::new());
    let mut store = None;
    for sequence in 1..=count as u64 {
        let job = job();
        let id = job.id;
        let batch = goflow::store::Enqueue { producer: producer(), sequence, jobs: vec![now(job)], runs: vec![] };
        loop {
            let url = &urls[at % urls.len()];
            let open: RemoteStore = match store.take() {
                Some(store) => store,
                None => match RemoteStore::open(url, None).await {
                    Ok(store) => store,
                    Err(StoreError::Unavailable(_) | StoreError::Unknown(_)) => {
                        at += 1;
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                },
            };
            match open.enqueue(&batch).await {
                Ok(_) => {
                    store = Some(open);
                    acked.fetch_add(1, Ordering::SeqCst);
                    ids.push(id);
                    break;
                }
                Err(StoreError::Unavailable(_) | StoreError::Unknown(_)) => at += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_servers_dies_under_load_and_nothing_is_lost() {
    const CLIENTS: usize = 200;
    const EACH: usize = 15;
    let env = TestEnvironment::new();
    let redis = redis::Server::start(&[]);
    let mut servers: Vec<Server> = (0..3).map(|_| Server::start(&env, &redis.url())).collect();
    let texts: Vec<String> = servers.iter().map(Server::url).collect();
    let urls: Vec<ServerUrl> = texts.iter().map(|url| url.parse().expect("a URL")).collect();
    let (acked, told, cuts) = (Arc::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let reader = tokio::spawn(read_along(texts, CLIENTS * EACH, told.clone(), cuts.clone()));
    let deadline = Instant::now() + Duration::from_secs(120);
    let patient = |what: &'static str| assert!(Instant::now() < deadline, "{what}: not in time");
    while told.load(Ordering::SeqCst) == 0 {
        patient("the subscription");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let producers: Vec<_> =
        (0..CLIENTS).map(|nth| tokio::spawn(produce(urls.clone(), nth, EACH, Arc::clone(&acked)))).collect();
    while acked.load(Ordering::SeqCst) < CLIENTS * EACH / 4 {
        patient("a quarter of the work");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let at_death: usize = acked.load(Ordering::SeqCst);
    // The one that the reader reads from.
    servers[0].kill();
    let mut ids: BTreeSet<JobId> = BTreeSet::new();
    for producer in producers {
        ids.extend(producer.await.expect("a producer"));
    }
    assert!(at_death < CLIENTS * EACH, "it was over before the server died");
    assert_eq!(ids.len(), CLIENTS * EACH);
    let store = RedisStore::open(&redis.url(), RedisOptions::default()).await.expect("it opens");
    let all: Vec<JobId> = ids.iter().copied().collect();
    let kept = store.get(&all).await.expect("an answer").into_iter().flatten().count();
    assert_eq!(kept, all.len(), "what was acknowledged is kept");
    let read =
        tokio::time::timeout(Duration::from_secs(60), reader).await.expect("all events in time").expect("a reader");
    assert!(cuts.load(Ordering::SeqCst) > 0, "the reader was cut off once");
    let distinct: BTreeSet<&String> = read.iter().collect();
    assert_eq!((distinct.len(), read.len()), (all.len(), all.len()), "each event once");
    assert!(ids.iter().all(|id| distinct.contains(&id.to_string())));
}
