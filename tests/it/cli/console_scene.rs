//! An operator's day on each kind of store: every view at three sizes, every verb from the keyboard, and what
//! each has done confirmed by a command beside it. Then a Redis that dies under the console.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::TestEnvironment;
use super::console::Pane;
use crate::servers::port::Port;
use crate::servers::postgres::Cluster;
use crate::servers::redis::Server;

/// Ends with the test.
struct Running(Child);

impl Running {
    fn start(env: &TestEnvironment, args: &[&str]) -> Running {
        Running(env.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(50));
    }
}

const ORDER: &str = "\
name: order
steps:
  - {id: check, job: noop}
  - {id: sign, needs: [check], approval: {timeout: 1d}}
  - {id: paid, needs: [sign], wait: {signal: paid, timeout: 1d}}
  - {id: ship, needs: [paid], run: [echo, shipped]}
";
const NIGHTLY: &str = "kind: Schedule\nname: nightly\ncron: \"0 3 1 1 *\"\njob: noop\nqueue: later\n";

/// Jobs that wait where nobody serves, dead ones, one that runs, three runs that wait, a schedule.
fn scene(env: &TestEnvironment) -> Vec<Running> {
    let (order, nightly) = (env.file("order.yaml", ORDER), env.file("nightly.yaml", NIGHTLY));
    env.args(["apply", &order.to_string_lossy(), &nightly.to_string_lossy()]).ok();
    let dead: String =
        (0..6).map(|n| format!("{{\"message\": \"host db-{n} is away\", \"retry\": false}}\n")).collect();
    env.feed("enqueue fail -q reports --lines", dead).ok();
    env.run("worker -q reports --until-empty").ok();
    env.feed("enqueue noop -q mail --text-lines", "a\nb\nc\n").ok();
    env.feed("enqueue sleep -q default --lines", "{\"ms\": 600000}\n").ok();
    for n in 0..3 {
        env.args(["workflow", "start", "order", "-i", &format!("{{\"n\":{n}}}")]).ok();
    }
    let worker = Running::start(env, &["worker", "-q", "default", "-c", "3"]);
    until("the runs wait", || runs(env, "approvals>0").len() == 3);
    until("a job runs", || env.run("queue stats default -o json").ok().json()[0]["running"] == 1);
    vec![worker]
}

fn jobs(env: &TestEnvironment, filter: &str) -> usize {
    env.args(["job", "list", "-n", "0", "-o", "name", "--where", filter]).ok().stdout.lines().count()
}

fn runs(env: &TestEnvironment, filter: &str) -> Vec<Value> {
    let list = env.args(["workflow", "list", "-n", "0", "-o", "json", "--where", filter]).ok().json();
    list.as_array().cloned().unwrap_or_default()
}

/// What tells that the content of a view is there.
const VIEWS: [(&str, &str); 8] = [
    ("1", "LATEST FAILURES"),
    ("2", "3 queues"),
    ("3", "ABOUT"),
    ("4", "3 runs"),
    ("5", "1 worker"),
    ("6", "nightly"),
    ("7", "1 group of 6 dead"),
    ("8", "job.started"),
];

/// Each view at each size: whole, with its header and footer where they belong.
fn each_view_at_each_size(pane: &Pane) {
    for (columns, rows) in [(80, 24), (120, 40), (200, 60)] {
        pane.resize(columns, rows);
        for (key, there) in VIEWS {
            pane.types(key);
            pane.sees(&format!("{there} at {columns}x{rows}"), |screen| {
                let lines: Vec<&str> = screen.trim_end_matches('\n').split('\n').collect();
                let rule = |nth: usize| lines.get(nth).is_some_and(|line| line.starts_with("────"));
                let fits = lines.iter().all(|line| line.chars().count() <= columns);
                let last = usize::from(rows);
                screen.contains(there) && lines[0].contains("● live") && rule(2) && rule(last - 3) && fits
            });
        }
    }
}

fn queues_and_jobs(env: &TestEnvironment, pane: &Pane) {
    let paused = || env.run("queue stats mail -o json").ok().json()[0]["paused"] == true;
    pane.types("2");
    pane.shows("3 queues");
    pane.types("/name:mail");
    pane.press(&["Enter"]);
    pane.shows("1 queue");
    pane.types("p");
    pane.shows("paused 1 queue · goflow queue pause mail");
    assert!(paused());
    pane.types("p");
    pane.shows("resumed 1 queue · goflow queue resume mail");
    assert!(!paused());
    pane.press(&["Enter"]);
    pane.sees("its jobs", |screen| screen.contains("Queues › Jobs") && screen.contains("of 3"));
    pane.types("x");
    pane.shows("cancel job");
    pane.press(&["Tab", "Enter"]);
    pane.shows("cancelled 1 job · goflow job cancel");
    assert_eq!(jobs(env, "queue:mail state:cancelled"), 1);
    pane.types("/ state:cancelled");
    pane.press(&["Enter"]);
    pane.sees("one row", |screen| screen.contains("⊘ cancelled") && !screen.contains("○ pending"));
    pane.types("r");
    pane.shows("retried 1 job · goflow job retry");
    assert_eq!(jobs(env, "queue:mail state:pending"), 3);
    pane.types("3");
    pane.shows("ABOUT");
    pane.types("/queue:mail");
    pane.press(&["Enter"]);
    pane.sees("three rows", |screen| screen.contains("of 3"));
    pane.types("e");
    pane.shows("enqueued job");
    assert_eq!(jobs(env, "queue:mail state:pending"), 4);
    pane.types("*x");
    pane.shows("would cancel 4 jobs");
    pane.press(&["Tab", "Enter"]);
    pane.shows("cancelled 4 jobs · goflow job cancel --where queue:mail");
    assert_eq!(jobs(env, "queue:mail state:pending"), 0);
    pane.types("L");
    pane.shows("Jobs › Job");
    pane.press(&["Escape"]);
    pane.sees("the list", |screen| !screen.contains("Jobs › Job"));
}

fn dead_ones(env: &TestEnvironment, pane: &Pane) {
    pane.types("7");
    pane.shows("1 group of 6 dead");
    pane.press(&["Enter"]);
    pane.sees("its jobs", |screen| screen.contains("DLQ › Jobs") && screen.contains("■ dead"));
    pane.types("D");
    pane.shows("delete job");
    pane.press(&["Tab", "Enter"]);
    pane.shows("deleted 1 job · goflow job delete");
    assert_eq!(jobs(env, "state:dead"), 5);
    pane.press(&["Escape"]);
    pane.shows("1 group of 5 dead");
    pane.types("r");
    pane.shows("would retry 5 jobs");
    pane.press(&["Tab", "Enter"]);
    pane.shows("retried 5 jobs · goflow dlq retry");
    assert_eq!((jobs(env, "state:dead"), jobs(env, "queue:reports state:pending")), (0, 5));
}

fn runs_to_their_ends(env: &TestEnvironment, pane: &Pane) {
    pane.types("4");
    pane.shows("3 runs");
    pane.types("p");
    pane.shows("goflow workflow pause");
    until("it is paused", || runs(env, "state:paused").len() == 1);
    pane.shows("‖ paused");
    pane.types("p");
    pane.shows("goflow workflow resume");
    until("it goes on", || runs(env, "state:paused").is_empty());
    pane.press(&["Enter"]);
    pane.shows("waits for anybody");
    pane.types("a");
    pane.shows("approve sign of run");
    pane.press(&["Enter"]);
    pane.shows("approved sign · goflow workflow approve");
    until("one is answered", || runs(env, "approvals>0").len() == 2);
    pane.shows("wait for paid");
    pane.sees("it waits", |screen| screen.lines().any(|line| line.contains("paid") && line.contains("◷ waiting")));
    pane.types("n{\"by\": \"ann\"}");
    pane.press(&["Enter"]);
    pane.shows("sent paid · goflow workflow signal");
    until("it has ended", || runs(env, "state:completed").len() == 1);
    pane.sees("its end", |screen| screen.contains("✓ completed") && !screen.contains("◷ waiting"));
    // Back in time the graph is what it was.
    pane.types("[[[[[[");
    pane.shows("in the past");
    pane.types("q");
    pane.types("q");
    pane.shows("3 runs");
    pane.types("/approvals>0");
    pane.press(&["Enter"]);
    pane.shows("2 runs");
    pane.types("X");
    pane.shows("reject what waits");
    pane.press(&["Tab"]);
    pane.types("not now");
    pane.press(&["Enter"]);
    pane.shows("rejected sign · goflow workflow reject");
    until("it has failed", || runs(env, "state:failed").len() == 1);
    pane.shows("1 run");
    pane.types("*x");
    pane.shows("would cancel 1 run");
    pane.press(&["Tab", "Enter"]);
    pane.shows("cancelling 1 run");
    until("it is cancelled", || runs(env, "state:cancelled").len() == 1);
    pane.press(&["Escape"]);
    pane.shows("3 runs");
    pane.types("/state:failed");
    pane.press(&["Enter"]);
    pane.sees("the failed one", |screen| screen.contains("✗ failed") && !screen.contains("⊘ cancelled"));
    pane.types("r");
    pane.shows("retry run");
    pane.press(&["Tab", "Enter"]);
    pane.shows("retrying 1 run · goflow workflow retry");
    until("it waits again", || runs(env, "approvals>0").len() == 1);
    pane.press(&["Escape"]);
    pane.shows("3 runs");
}

fn workers_and_schedules(env: &TestEnvironment, pane: &Pane) {
    pane.types("6");
    pane.shows("nightly");
    pane.types("t");
    pane.shows("trigger nightly?");
    pane.press(&["Tab", "Enter"]);
    pane.shows("triggered 1 schedule · goflow schedule trigger nightly");
    assert_eq!(jobs(env, "queue:later state:pending"), 1);
    pane.types("p");
    pane.shows("paused 1 schedule · goflow schedule pause nightly");
    assert_eq!(env.run("schedule list -o json").ok().json()[0]["paused"], true);
    pane.types("5");
    pane.shows("1 worker");
    pane.shows("sleep");
    pane.types("d");
    pane.shows("it takes no more work and ends");
    pane.press(&["Tab", "Enter"]);
    pane.shows("told 1 worker to drain · goflow worker drain");
    pane.shows("draining");
    assert_eq!(env.run("worker list -o json").ok().json()[0]["draining"], true);
    // What it runs still is seen from here, and stopped.
    pane.press(&["Enter"]);
    pane.sees("what it runs", |screen| screen.contains("Workers › Jobs") && screen.contains("▶ running"));
    pane.types("x");
    pane.press(&["Tab", "Enter"]);
    pane.shows("asked 1 running job to end");
    until("the worker ends", || env.run("worker list -o json").ok().json() == serde_json::json!([]));
    pane.press(&["Escape"]);
    pane.shows("no worker lives");
}

/// Presses Escape and waits until that is gone: a key that comes at once behind it would be one with Alt.
#[track_caller]
fn closed(pane: &Pane, text: &str) {
    pane.press(&["Escape"]);
    pane.sees(&format!("an end of {text}"), |screen| !screen.contains(text));
}

/// The keys that only change what is seen.
fn screen_keys(pane: &Pane) {
    pane.types("2");
    pane.shows("QUEUE");
    pane.types("s");
    pane.shows("QUEUE↑");
    pane.types("S");
    pane.shows("QUEUE↓");
    pane.types("z");
    pane.shows("frozen");
    pane.types("z");
    pane.shows("● live 1s");
    pane.types("+");
    pane.shows("● live 2s");
    pane.types("-");
    pane.shows("● live 1s");
    pane.types("?");
    pane.shows("Keys in Queues");
    closed(pane, "Keys in Queues");
    pane.types(":events");
    pane.press(&["Enter"]);
    pane.shows("job.");
    pane.types("y");
    pane.shows("\"kind\":");
    closed(pane, "\"kind\":");
    pane.types("f");
    pane.types("c");
    pane.shows("copied");
    pane.types("T");
    pane.types("1");
    pane.shows("LATEST FAILURES");
}

fn a_day(mut env: TestEnvironment, store: &str, named: &str) {
    env.set("EDITOR", "sed -i s/[a-z]/changed/");
    env.set("USER", "ann");
    let (name, place) = store.split_once('=').expect("a variable and its value");
    env.set(name, place);
    let running = scene(&env);
    let pane = Pane::open(&env, 120, 40);
    pane.console("");
    pane.shows(named);
    each_view_at_each_size(&pane);
    pane.resize(120, 40);
    screen_keys(&pane);
    queues_and_jobs(&env, &pane);
    dead_ones(&env, &pane);
    runs_to_their_ends(&env, &pane);
    workers_and_schedules(&env, &pane);
    pane.press(&["C-c"]);
    pane.ended(&env, 0);
    drop(running);
}

#[test]
fn a_day_on_sqlite() {
    let env = TestEnvironment::new();
    let store = format!("GOFLOW_STORE=sqlite:{}", env.path().join("day.db").display());
    a_day(env, &store, "day.db");
}

#[test]
fn a_day_on_redis() {
    let server = Server::start(&[]);
    a_day(TestEnvironment::new(), &format!("GOFLOW_STORE={}", server.url()), "redis://127.0.0.1");
}

#[test]
fn a_day_on_postgres() {
    let cluster = Cluster::start();
    a_day(TestEnvironment::new(), &format!("GOFLOW_STORE={}", cluster.url()), "postgres://");
}

#[test]
fn a_day_over_shards() {
    let env = TestEnvironment::new();
    let url = |n: u32| format!("sqlite:{}", env.path().join(format!("{n}.db")).display());
    let store = format!("GOFLOW_STORE={},{}", url(0), url(1));
    a_day(env, &store, "9 Shards");
}

#[test]
fn a_day_through_a_server() {
    let env = TestEnvironment::new();
    let free = Port::claim();
    let (port, store) = (free.to_string(), format!("sqlite:{}", env.path().join("behind.db").display()));
    let server = Running::start(&env, &["server", "-p", &port, "--store", &store]);
    until("the server", || std::net::TcpStream::connect(("127.0.0.1", free.number())).is_ok());
    a_day(env, &format!("GOFLOW_SERVER=http://127.0.0.1:{free}"), "http://127.0.0.1");
    drop(server);
}

#[test]
fn a_redis_that_dies_blanks_nothing_and_is_found_again() {
    let mut server = Server::start(&["--appendfsync", "always"]);
    let mut env = TestEnvironment::new();
    env.set("GOFLOW_STORE", &server.url());
    env.feed("enqueue noop -q mail --text-lines", "a\nb\nc\n").ok();
    env.feed("enqueue noop -q reports --text-lines", "d\n").ok();
    let pane = Pane::open(&env, 120, 30);
    pane.console("jobs");
    pane.shows("of 4");
    pane.types("/queue:mail");
    pane.press(&["Enter"]);
    pane.sees("three rows", |screen| screen.contains("of 3") && screen.contains("/queue:mail"));
    pane.types("jj ");
    let before = pane.shows("1 marked");
    let selected =
        |screen: &str| screen.lines().find(|line| line.starts_with(['▌', '◆'])).map(|line| line[..20].to_owned());
    server.kill();
    let lost = pane.shows("lost since");
    assert!(lost.contains("retry in") && lost.contains("/queue:mail") && lost.contains("○ pending"), "{lost}");
    assert_eq!(selected(&lost), selected(&before));
    pane.types("x");
    pane.shows("cancel did nothing: no connection");
    pane.types("2");
    pane.shows("lost since");
    pane.types("3");
    server.revive();
    let back = pane.sees("it is back", |screen| screen.contains("● live") && screen.contains("of 3"));
    assert!(back.contains("1 marked") && back.contains("/queue:mail"), "{back}");
    assert_eq!(selected(&back), selected(&before));
    pane.types("x");
    pane.press(&["Tab", "Enter"]);
    pane.shows("cancelled 1 job");
    assert_eq!(jobs(&env, "state:cancelled"), 1);
    pane.press(&["C-c"]);
    pane.ended(&env, 0);
}
