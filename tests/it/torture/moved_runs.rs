//! A shard that is carried away while runs wait on it: for answers, for a time, paused, with steps that run.
//! The process that carries is killed in between. Every run ends as it would have, each of its steps has run once,
//! its history is whole, and nothing is left.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::site::{Ground, Process, Site};

/// Waits for an answer, for a time, for nobody, and for a step that takes a while.
const FLOWS: [(&str, &str); 4] = [
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
];

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
    drop(workers);
    for (run, flow) in &scene.runs {
        let steps: &[&str] = if *flow == "works" { &["a", "slow", "b"] } else { &["a", "b"] };
        for step in steps {
            assert_eq!(scene.witnessed(step, run), (1, 1), "{step} of {run}, {flow}");
        }
        let history = scene.site.env.run(&format!("workflow history {run} -o json")).ok().json();
        let events = history.as_array().expect("a list");
        for kind in ["run.started", "run.completed"] {
            assert_eq!(events.iter().filter(|event| event["type"] == kind).count(), 1, "{kind} of {run}: {history:#}");
        }
        let ended = events.iter().filter(|event| event["type"] == "step.completed").count();
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
