//! A shard that is carried away while runs wait on it: for answers, for a time, for another attempt, paused, with steps
//! that run; and jobs that wait for others; while workers have other things to do.
//! The process that carries is killed in between. Every run ends as it would have, each of its steps has run once,
//! its history is whole, and nothing is left.

use std::collections::BTreeMap;
use std::time::Duration;

use goflow::domain::{JobId, RunId, Shard};
use serde_json::Value;

use super::site::{Ground, Process, Site};
use crate::servers::{postgres::Cluster, redis::Server, redis_nodes::Nodes};

/// Waits for an answer, for a time, for nobody, and for a step that takes a while.
const FLOWS: [(&str, &str); 5] = [
    (
        "asks",
        "
  - {id: a, run: [sh, ./step.sh, a]}
  - {id: ok, needs: [a], approval: {timeout: 24h}}
  - {id: b, needs: [ok], run: [sh, ./step.sh, b]}
",
    ),
    (
        "naps",
        "
  - {id: a, run: [sh, ./step.sh, a]}
  - {id: nap, needs: [a], sleep: 20s}
  - {id: b, needs: [nap], run: [sh, ./step.sh, b]}
",
    ),
    (
        "ends",
        "
  - {id: a, run: [sh, ./step.sh, a]}
  - {id: b, needs: [a], run: [sh, ./step.sh, b]}
",
    ),
    (
        "works",
        "
  - {id: a, run: [sh, ./step.sh, a]}
  - {id: slow, needs: [a], run: [sh, ./step.sh, slow, '6']}
  - {id: b, needs: [slow], run: [sh, ./step.sh, b]}
",
    ),
    (
        LARGE,
        "
  - {id: a, run: [sh, ./step.sh, a]}
  - {id: many, needs: [a], foreach: {items: '[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]', as: item}, run: [sh, ./large.sh], outputs: json}
  - {id: b, needs: [many], retry: {max: 2, initial: 20s, jitter: 0}, run: [sh, ./second.sh]}
",
    ),
];

/// Several parts of a copy, and a step that waits for its second attempt.
const LARGE: &str = "large";
const PRINTS: &str = r#"printf '"'; head -c 60000 /dev/zero | tr '\0' x; printf '"'"#;
const SECOND: &str = r#"[ "$GOFLOW_ATTEMPT" -gt 1 ] || exit 1; exec sh ./step.sh b"#;

const STEP: &str = r#"
echo "start $1 $GOFLOW_RUN_ID" >> steps
echo "step $1"
sleep "${2:-0}"
echo "end $1 $GOFLOW_RUN_ID" >> steps
"#;

struct Scene {
    site: Site,
    /// The workflow of each run.
    runs: BTreeMap<String, &'static str>,
}

impl Scene {
    fn set(ground: Ground) -> Scene {
        let site = Site::on(ground, "5s");
        site.env.file("step.sh", STEP);
        site.env.file("steps", "");
        site.env.file("large.sh", PRINTS);
        site.env.file("second.sh", SECOND);
        for (name, steps) in FLOWS {
            let text = format!("apiVersion: goflow/v1\nkind: Workflow\nname: {name}\nsteps:{steps}");
            site.env.file(&format!("{name}.yaml"), text);
            site.env.run(&format!("apply {name}.yaml")).ok();
        }
        Scene { site, runs: BTreeMap::new() }
    }

    fn start(&mut self, flow: &'static str, many: usize) {
        for _ in 0..many {
            let run = self.site.env.run(&format!("workflow start {flow} -o json")).ok().json();
            self.runs.insert(run["id"].as_str().expect("an id").to_owned(), flow);
        }
    }

    fn all(&self) -> Vec<Value> {
        self.site.env.run("workflow list -n 0 -o json").ok().json().as_array().expect("a list").clone()
    }

    fn of(&self, flow: &str) -> Vec<String> {
        self.runs.iter().filter(|(_, own)| **own == flow).map(|(id, _)| id.clone()).collect()
    }

    /// What each step that has ended has printed.
    fn logs(&self) -> BTreeMap<String, String> {
        let ended = |job: &&Value| job["run_id"].is_string() && job["state"] == "completed";
        let jobs = self.site.jobs();
        let ids = jobs.iter().filter(ended).map(|job| job["id"].as_str().expect("an id").to_owned());
        ids.map(|id| (id.clone(), self.site.env.run(&format!("job logs {id}")).ok().stdout)).collect()
    }

    /// How often a step has begun, and ended.
    fn witnessed(&self, step: &str, run: &str) -> (usize, usize) {
        let text = std::fs::read_to_string(self.site.env.path().join("steps")).expect("the witness");
        let count = |what: &str| text.lines().filter(|line| *line == format!("{what} {step} {run}")).count();
        (count("start"), count("end"))
    }

    fn has_run(&self, step: &str, flows: &[&str]) -> bool {
        flows.iter().flat_map(|flow| self.of(flow)).all(|run| self.witnessed(step, &run).1 == 1)
    }

    /// Starts large runs until one lies on the shard that goes.
    fn start_large(&mut self) -> String {
        loop {
            self.start(LARGE, 1);
            let own = self.of(LARGE);
            assert!(own.len() < 30, "none of them lies on shard 1");
            let lies_there = |id: &&String| id.parse::<RunId>().expect("an id").shard() == Shard(1);
            if let Some(run) = own.iter().find(lies_there) {
                return run.clone();
            }
        }
    }

    /// Enqueues one that waits for another on the shard that goes, which is due in a while; both.
    fn family(&self) -> [String; 2] {
        let id = |line: &str| {
            let made = self.site.env.run(line).ok().json();
            made["id"].as_str().expect("an id").to_owned()
        };
        for _ in 0..60 {
            let parent = id("enqueue work --delay 15s -o json");
            if parent.parse::<JobId>().expect("an id").shard() == Shard(1) {
                let child = id(&format!("enqueue work --after {parent} -o json"));
                return [parent, child];
            }
        }
        panic!("none of them lies on shard 1");
    }

    fn job(&self, id: &str) -> Value {
        self.site.env.run(&format!("job show {id} -o json")).ok().json()
    }

    fn shard(&self, nth: usize) -> Value {
        self.site.env.run("shard list -o json").ok().json()[nth].clone()
    }
}

fn carried_away(ground: Ground) {
    let mut scene = Scene::set(ground);
    scene.start("asks", 9);
    scene.start("naps", 4);
    scene.start("ends", 4);
    let workers: Vec<Process> = (0..2).map(|nth| scene.site.start(&format!("worker-{nth}"), "worker -c 4")).collect();
    let minute = Duration::from_secs(90);
    scene.site.wait("the first steps are done", minute, || scene.has_run("a", &["asks", "naps", "ends"]));
    scene.site.wait("some have ended", minute, || scene.has_run("b", &["ends"]));
    let paused: Vec<String> = scene.of("asks").into_iter().take(3).collect();
    for run in &paused {
        scene.site.env.run(&format!("workflow pause {run}")).ok();
    }
    let large = scene.start_large();
    let is_its_second = |job: &Value| job["run_id"] == large.as_str() && job["state"] == "retrying";
    scene.site.wait("a step waits for its second attempt", minute, || scene.site.jobs().iter().any(is_its_second));
    let family = scene.family();
    scene.site.enqueue("work", 200);
    scene.start("works", 5);
    scene
        .site
        .wait("the slow ones run", minute, || scene.of("works").iter().all(|run| scene.witnessed("slow", run).0 == 1));
    let before = scene.shard(1);
    assert!(before["runs"].as_u64().is_some_and(|runs| runs > 0), "{before}");

    let printed = scene.logs();
    let many = printed.values().filter(|log| log.contains("step ")).count();
    assert!(many > 10, "{many} of {} jobs have printed", printed.len());
    // Killed three times as soon as it carries, it is said once more.
    for nth in 0..3 {
        let carrier = scene.site.start(&format!("drain-{nth}"), "shard drain 1 --move --to 0 -o json");
        scene.site.wait("it carries", minute, || scene.shard(1)["state"] == "draining");
        std::thread::sleep(Duration::from_millis(40 * (nth + 1)));
        carrier.kill();
        // Nobody is unknown, wherever it is now.
        for run in scene.runs.keys() {
            scene.site.env.run(&format!("workflow show {run} -o json")).ok();
        }
    }
    let answered = scene.of("asks")[3..6].to_vec();
    for run in &answered {
        scene.site.env.run(&format!("workflow approve {run}")).ok();
    }
    let moved = scene.site.env.run("shard drain 1 --move --to 0 -o json").ok().json();
    assert_eq!((&moved["left"], &moved["runs_stuck"]), (&0.into(), &0.into()), "{moved}");
    scene.site.env.run("shard remove 1").ok();
    assert_eq!(scene.shard(1)["state"], "removed");

    for run in &paused {
        scene.site.env.run(&format!("workflow resume {run}")).ok();
    }
    for run in scene.of("asks").iter().filter(|run| !answered.contains(run)) {
        scene.site.env.run(&format!("workflow approve {run}")).ok();
    }
    scene.site.wait("all have ended", minute, || {
        scene.all().iter().filter(|run| run["state"] == "completed").count() == scene.runs.len()
    });
    scene.site.wait("all is done", minute, || scene.site.is_drained());
    drop(workers);
    let [parent, child] = family.map(|id| scene.job(&id));
    assert_eq!([&parent["state"], &child["state"]], ["completed", "completed"], "{parent:#} {child:#}");
    let time = |job: &Value, what: &str| job[what].as_str().map(str::to_owned).unwrap_or_else(|| panic!("{job:#}"));
    assert!(time(&parent, "finished_at") <= time(&child, "started_at"), "{parent:#} {child:#}");
    for (run, flow) in &scene.runs {
        let steps: &[&str] = if *flow == "works" { &["a", "slow", "b"] } else { &["a", "b"] };
        let history = scene.site.env.run(&format!("workflow history {run} -o json")).ok().json();
        for step in steps {
            assert_eq!(scene.witnessed(step, run), (1, 1), "{step} of {run}, {flow}: {history:#}");
        }
        let events = history.as_array().expect("a list");
        for kind in ["run.started", "run.completed"] {
            assert_eq!(events.iter().filter(|event| event["type"] == kind).count(), 1, "{kind} of {run}: {history:#}");
        }
        let ended = events.iter().filter(|event| event["type"] == "step.completed").count();
        if *flow == LARGE {
            continue;
        }
        assert_eq!(ended, if *flow == "ends" { 2 } else { 3 }, "{run}: {history:#}");
    }
    // What the steps had printed has come along.
    let after = scene.logs();
    for (id, log) in &printed {
        assert_eq!(after.get(id), Some(log), "the log of {id}");
    }
    scene.site.verify();
}

#[test]
fn sqlite_runs_are_carried_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = |nth: u32| format!("sqlite:{}", folder.path().join(format!("{nth}.db")).display());
    carried_away(Ground::At((0..3).map(url).collect::<Vec<_>>().join(",")));
}

#[test]
fn redis_runs_are_carried_away() {
    carried_away(Ground::shards());
}

#[test]
fn runs_are_carried_from_postgres_to_redis() {
    carried_away(Ground::mixed());
}

#[test]
fn runs_are_carried_from_redis_to_postgres() {
    let (cluster, server) = (Cluster::with(&[]), Server::start(&[]));
    let folder = tempfile::tempdir().expect("a folder");
    let file = format!("sqlite:{}", folder.path().join("goflow.db").display());
    carried_away(Ground::At(format!("{},{},{file}", cluster.url(), server.url())));
}

#[test]
fn cluster_runs_are_carried_away() {
    let nodes = Nodes::start(3, 0, &[]);
    carried_away(Ground::At(format!("{}?shards=3", nodes.url())));
}
