//! Small random graphs (needs, joins, switch, foreach, compensations) with random failures, worked on by
//! a few processes that are killed all the time. What the steps themselves wrote down must agree with
//! what goflow says: W1 to W5 and W7.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use goflow::api::Client;
use goflow::domain::{RunId, StepState};
use goflow::store::StoreUrl;
use goflow::store::open::OpenOptions;
use goflow::sys::clock::SystemClock;
use goflow::sys::entropy::SystemEntropy;
use goflow::workflow::{Definition, Manifest, history, parse, rows};

use super::site::{Ground, Process, Site};
use super::size;
use crate::servers::{postgres::Cluster, redis::Server};
use crate::simulation::world::Seeded;

/// Tells what it does and for which run, and fails if it is told to.
const STEP: &str = r#"
echo "start $GOFLOW_RUN_ID $1 $GOFLOW_EPOCH" >> steps
sleep 0.02
echo "end $GOFLOW_RUN_ID $1 $GOFLOW_EPOCH" >> steps
exit "$2"
"#;

const CONFIG: &str = r#"
worker: {concurrency: 4, lease: 2s}
handlers:
  step: {run: [sh, ./step.sh, "${{ payload.id }}", "${{ payload.fail }}"]}
"#;

/// One in so many steps fails.
const FAILS: u64 = 9;

/// A workflow of three to six steps. Step n may need any before it.
fn graph(name: &str, dice: &Seeded) -> String {
    let mut text = format!("name: {name}\ndefaults: {{retry: {{max: 0}}}}\nsteps:\n");
    let job =
        |id: &str, dice: &Seeded| format!("job: step, with: {{id: {id}, fail: {}}}", u8::from(dice.below(FAILS) == 0));
    for nth in 0..3 + dice.below(4) {
        let id = format!("s{nth}");
        let needs: Vec<String> = (0..nth).filter(|_| dice.below(3) == 0).map(|need| format!("s{need}")).collect();
        let _ = write!(text, "  - {{id: {id}, needs: [{}]", needs.join(", "));
        if needs.len() > 1 && dice.below(4) == 0 {
            text.push_str(", join: any, rest: ignore");
        }
        let _ = match dice.below(6) {
            0 => {
                let (yes, no) = (job(&format!("{id}-yes"), dice), job(&format!("{id}-no"), dice));
                let holds = dice.below(2);
                write!(
                    text,
                    ", switch: {{cases: [{{name: yes, when: {holds} > 0, steps: [{{id: {id}-yes, {yes}}}]}}], \
                     else: [{{id: {id}-no, {no}}}]}}"
                )
            }
            1 => write!(text, ", foreach: {{items: '[1, 2, 3]', max_parallel: 2}}, {}", job(&id, dice)),
            _ => {
                let undo = match dice.below(3) {
                    0 => String::new(),
                    _ => format!(", compensate: {{job: step, with: {{id: undo-{id}, fail: 0}}}}"),
                };
                write!(text, ", {}{undo}", job(&id, dice))
            }
        };
        text.push_str("}\n");
    }
    text
}

/// What the steps of one run wrote, in order.
#[derive(Default)]
struct Lines(Vec<(bool, String)>);

impl Lines {
    fn starts(&self, step: &str) -> Vec<usize> {
        let starts = self.0.iter().enumerate().filter(|(_, (start, id))| *start && id == step);
        starts.map(|(at, _)| at).collect()
    }
}

fn read(folder: &Path) -> BTreeMap<String, Lines> {
    let mut runs: BTreeMap<String, Lines> = BTreeMap::new();
    for line in std::fs::read_to_string(folder.join("steps")).expect("the witness").lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [what, run, step, _epoch] = words.as_slice() else { panic!("a broken line: {line}") };
        runs.entry((*run).to_owned()).or_default().0.push((*what == "start", (*step).to_owned()));
    }
    runs
}

/// Processes that do a step in this folder.
fn living(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let (line, at) = (entry.path().join("cmdline"), entry.path().join("cwd"));
        let line = std::fs::read(line).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains("./step.sh") && std::fs::read_link(at).is_ok_and(|at| at == folder) {
            found.push(line);
        }
    }
    found
}

async fn open(site: &Site) -> Client {
    let url: StoreUrl = site.url.parse().expect("a store URL");
    let clock = Arc::new(SystemClock);
    let entropy = Arc::new(SystemEntropy::default());
    let store = goflow::store::open::open(&url, clock.clone(), entropy.clone(), OpenOptions::default());
    Client::new(store.await.expect("the store opens"), clock, entropy)
}

async fn start(client: &Client, seed: u64, count: usize) -> BTreeMap<RunId, Definition> {
    let dice = Seeded::new(seed);
    let mut runs = BTreeMap::new();
    for nth in 0..count {
        let text = graph(&format!("g{nth}"), &dice);
        let parsed = parse("g.yaml", &text).unwrap_or_else(|error| panic!("seed {seed}: {}\n{text}", error.render()));
        let plan = client.plan(parsed.clone()).await.expect("a plan");
        client.apply(&plan).await.expect("it is applied");
        let Some(Manifest::Workflow(definition)) = parsed.into_iter().next() else { panic!("no workflow: {text}") };
        let id = client.start(&definition, goflow::domain::Json::null()).await.expect("it starts");
        runs.insert(id, definition);
    }
    runs
}

fn random_graphs_hold(site: &Site) {
    let count = size(300, 20_000);
    let seed = std::env::var("GOFLOW_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(4_711);
    println!("GOFLOW_SEED={seed}");
    site.env.file("goflow.yaml", CONFIG);
    site.env.file("step.sh", STEP);
    site.env.file("steps", "");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let client = runtime.block_on(open(site));
    let runs = runtime.block_on(start(&client, seed, count));

    let spawn = |nth: usize| site.start(&format!("worker-{nth}"), "worker");
    let mut workers: Vec<Process> = (0..3).map(spawn).collect();
    let is_over = || {
        let ended = async {
            for id in runs.keys() {
                if !client.run_header(*id).await.is_ok_and(|run| run.state.is_terminal()) {
                    return false;
                }
            }
            true
        };
        runtime.block_on(ended)
    };
    let mut kills = 0;
    while !is_over() && kills < size(40, 4_000) {
        std::thread::sleep(Duration::from_millis(600));
        let victim = kills % workers.len();
        std::mem::replace(&mut workers[victim], spawn(victim)).kill();
        kills += 1;
    }
    site.wait("all runs end once nobody is killed any more", Duration::from_secs(300), is_over);
    // W4. A worker that lost a lease ends its child as soon as it learns of it.
    site.wait("no step runs once every run is over", Duration::from_secs(10), || living(site.env.path()).is_empty());
    drop(workers);
    site.verify();
    assert!(kills >= 10, "{kills} kills prove nothing");

    let lines = read(site.env.path());
    let (mut again, mut undone) = (0, 0);
    for (id, definition) in &runs {
        let (more, undos) = runtime.block_on(check(&client, *id, definition, &lines, seed));
        (again, undone) = (again + more, undone + undos);
    }
    println!("{count} runs, {kills} kills, {again} steps ran again, {undone} were undone");
    assert!(again > 0, "no kill hit a running step: this proves nothing");
    assert!(undone > 0, "nothing was undone: this proves nothing");
}

/// Checks one run. Answers how many of its steps ran again after a crash, and how many were undone.
async fn check(
    client: &Client,
    id: RunId,
    definition: &Definition,
    lines: &BTreeMap<String, Lines>,
    seed: u64,
) -> (usize, usize) {
    let none = Lines::default();
    let lines = lines.get(&id.to_string()).unwrap_or(&none);
    let run = client.run_header(id).await.expect("the run is kept");
    let events = client.store().history(id, None, 100_000).await.expect("its history").0;
    let about = || {
        let told: Vec<String> =
            events.iter().map(|event| format!("{} {:?}", event.kind.as_str(), event.step)).collect();
        format!("seed {seed}, run {id}\n{}\n{:#?}\n{}", definition.text(), lines.0, told.join("\n"))
    };
    // W5.
    let folded = history::fold(&events).unwrap_or_else(|bad| panic!("{bad}\n{}", about()));
    assert_eq!(folded.run, run.state, "{}", about());
    let rows = rows(definition, &run);
    for row in &rows {
        let state = folded.steps.get(&row.path).copied().unwrap_or(StepState::Pending);
        assert_eq!(state, row.record.state, "{}: {}", row.path, about());
    }
    let mut again = 0;
    let mut undone = Vec::new();
    for step in &definition.spec().steps {
        let (own, state) = (lines.starts(&step.id), run.step(&step.id).expect("a record").state);
        let is_one_job = step.verb.is_job() && step.foreach.is_none();
        if !is_one_job {
            // W7: three items, three results.
            if step.foreach.is_some() && state == StepState::Completed {
                let view = client.run(id).await.expect("the run");
                let of = view.steps.iter().find(|view| view.path == step.id).expect("the step");
                let output = of.output.as_ref().map(|output| output.0.to_value()).unwrap_or_default();
                assert_eq!(output.as_array().map(Vec::len), Some(3), "{}", about());
            }
            continue;
        }
        // W2: another execution only after a crash, which the job has counted.
        if let Some(job) = run.step(&step.id).and_then(|step| step.job) {
            let kept = client.store().get(&[job]).await.expect("a look").remove(0).expect("the job is kept");
            let crashes = kept.job.history.iter().filter(|attempt| attempt.error.class == "crash").count();
            assert!(own.len() <= 1 + crashes, "{} ran {} times: {}", step.id, own.len(), about());
            again += own.len().saturating_sub(1);
        }
        // W1: the execution of a need that was recorded is its last, and comes before.
        let Some(first) = own.first() else { continue };
        let before = |need: &String| lines.starts(need).last().is_none_or(|last| last < first);
        let jobs = |need: &&String| {
            let spec = definition.spec().steps.iter().find(|step| step.id == **need);
            spec.is_some_and(|spec| spec.verb.is_job() && spec.foreach.is_none())
        };
        let needs: Vec<&String> = step.needs.iter().filter(jobs).collect();
        if step.join == goflow::workflow::spec::Quorum::All {
            assert!(needs.iter().all(|need| before(need)), "{} before its needs: {}", step.id, about());
        }
        // W3: undone is what completed, once.
        let undo = lines.starts(&format!("undo-{}", step.id));
        if let Some(at) = undo.first() {
            let owed = run.owed.contains(&step.id);
            assert!(state == StepState::Compensated || owed, "{}: {}", step.id, about());
            assert!(own.last().is_some_and(|last| last < at), "{}: {}", step.id, about());
            undone.push((step, *at));
        } else {
            assert_ne!(state, StepState::Compensated, "{}: {}", step.id, about());
        }
    }
    // W3: in reverse order, as far as one had to wait for the other.
    for (step, at) in &undone {
        for (other, later) in &undone {
            if step.join == goflow::workflow::spec::Quorum::All && step.needs.contains(&other.id) {
                assert!(at < later, "undo-{} after undo-{}: {}", step.id, other.id, about());
            }
        }
    }
    (again, undone.len())
}

#[test]
fn random_graphs_hold_with_kills_on_sqlite() {
    random_graphs_hold(&Site::on(Ground::Sqlite, "2s"));
}

#[test]
fn random_graphs_hold_with_kills_on_redis() {
    random_graphs_hold(&Site::on(Ground::Redis(Server::start(&[])), "2s"));
}

#[test]
fn random_graphs_hold_with_kills_on_postgres() {
    random_graphs_hold(&Site::on(Ground::Postgres(Cluster::with(&[])), "2s"));
}
