//! The workflow patterns: the head of each file says what must happen, and in which order. All run at
//! the same time, under one worker, with what they need from outside.

use std::collections::BTreeMap;
use std::fs;

use super::{Running, ended, history, place, until, workflows};
use crate::cli::TestEnvironment;
use crate::servers::{postgres::Cluster, redis::Server};

/// A pattern, and what its head says.
struct Pattern {
    name: String,
    says: BTreeMap<String, String>,
}

impl Pattern {
    fn of(&self, word: &str) -> Option<&str> {
        self.says.get(word).map(String::as_str)
    }

    fn words(&self, word: &str) -> Vec<&str> {
        self.of(word).map(|text| text.split_whitespace().collect()).unwrap_or_default()
    }
}

fn all() -> Vec<Pattern> {
    const WORDS: [&str; 12] =
        ["input", "after", "send", "cancel", "order", "ran", "skipped", "cancelled", "not", "items", "apart", "ends"];
    let mut patterns = Vec::new();
    for entry in fs::read_dir(workflows("patterns")).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|kind| kind != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a file");
        let said = text.lines().filter_map(|line| line.strip_prefix("# ")?.split_once(": "));
        let says = said.filter(|(word, _)| WORDS.contains(word) || *word == "twice");
        let says = says.map(|(word, text)| (word.to_owned(), text.to_owned())).collect();
        patterns.push(Pattern { name: path.file_stem().expect("a name").to_string_lossy().into_owned(), says });
    }
    patterns.sort_by(|a, b| a.name.cmp(&b.name));
    patterns
}

/// What the end of a path says: the step, without item and round.
fn step_of(path: &str) -> &str {
    let last = path.rsplit('/').next().unwrap_or(path);
    last.split(['[', '#', '~']).next().unwrap_or(last)
}

fn is_inner(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|last| last.contains(['[', '#']))
}

/// What became of each step, by the events of a run.
struct Told(Vec<(String, String)>);

impl Told {
    fn places(&self, kind: &str, step: &str) -> Vec<usize> {
        let is = |(_, (its, path)): &(usize, &(String, String))| its == kind && step_of(path) == step;
        self.0.iter().enumerate().filter(is).map(|(at, _)| at).collect()
    }

    fn starts(&self, step: &str) -> Vec<usize> {
        let mut starts = self.places("step.started", step);
        starts.extend(self.places("step.waiting", step));
        starts.sort_unstable();
        starts
    }

    /// When a step completed: the step itself, not its items or rounds.
    fn ends(&self, step: &str) -> Vec<usize> {
        self.places("step.completed", step).into_iter().filter(|at| !is_inner(&self.0[*at].1)).collect()
    }

    fn check(&self, pattern: &Pattern) {
        let name = &pattern.name;
        for chain in pattern.of("order").unwrap_or_default().split(',') {
            let steps: Vec<&str> = chain.split('<').map(str::trim).filter(|step| !step.is_empty()).collect();
            for pair in steps.windows(2) {
                let done = self.ends(pair[0]);
                // What runs on beside `after` had started before it: there the ends are compared.
                let starts = if pair[0] == "after" { self.ends(pair[1]) } else { self.starts(pair[1]) };
                let (done, start) = (done.last(), starts.first());
                assert!(done.is_some() && start.is_some(), "{name}: {} and {} happen: {:#?}", pair[0], pair[1], self.0);
                assert!(done < start, "{name}: {} before {}: {:#?}", pair[0], pair[1], self.0);
            }
        }
        for (word, kind) in [("ran", "step.completed"), ("skipped", "step.skipped"), ("cancelled", "step.cancelled")] {
            for step in pattern.words(word) {
                assert!(!self.places(kind, step).is_empty(), "{name}: {step} is {word}: {:#?}", self.0);
            }
        }
        for step in pattern.words("not") {
            assert!(self.starts(step).is_empty(), "{name}: {step} never starts: {:#?}", self.0);
        }
        if let [step, count] = pattern.words("items")[..] {
            let done = self.places("step.completed", step).into_iter().filter(|at| is_inner(&self.0[*at].1)).count();
            assert_eq!(done, count.parse::<usize>().expect("a count"), "{name}: items of {step}: {:#?}", self.0);
        }
        if let [step] = pattern.words("apart")[..] {
            let of_step = |(_, path): &&(String, String)| step_of(path) == step;
            let has_items = self.0.iter().any(|event| of_step(&event) && is_inner(&event.1));
            let of_items = |event: &&(String, String)| of_step(event) && is_inner(&event.1) == has_items;
            let mut inside = 0;
            for (kind, _) in self.0.iter().filter(of_items) {
                inside += match kind.as_str() {
                    "step.started" => 1,
                    "step.completed" => -1,
                    _ => 0,
                };
                assert!((0..=1).contains(&inside), "{name}: one at a time: {:#?}", self.0);
            }
        }
    }
}

fn the_patterns(url: Option<&str>) {
    let env = place(url);
    let patterns = all();
    assert!(patterns.len() >= 30, "{} patterns", patterns.len());
    env.args(["apply".into(), workflows("patterns").into_os_string()]).ok();
    let _worker = Running::start(&env, "worker -c 20");
    let mut runs: Vec<(&Pattern, Vec<String>)> = Vec::new();
    for pattern in &patterns {
        let input = pattern.of("input").unwrap_or("{}");
        let times = if pattern.of("twice").is_some() { 2 } else { 1 };
        let start = || env.args(["workflow", "start", &pattern.name, "-i", input]).ok().line().to_owned();
        runs.push((pattern, (0..times).map(|_| start()).collect()));
    }
    for (pattern, ids) in &runs {
        from_outside(&env, pattern, &ids[0]);
    }
    for (pattern, ids) in runs {
        let mut told = Vec::new();
        for id in &ids {
            let run = ended(&env, id);
            let end = pattern.of("ends").expect("each says how it ends");
            assert_eq!(run["state"], end, "{}: {run:#}", pattern.name);
            told.push(Told(history(&env, id)));
        }
        for one in &told {
            one.check(pattern);
        }
        if let ([step], [first, second]) = (&pattern.words("apart")[..], &ids[..]) {
            let span = |id: &str| {
                let run = super::shown(&env, id);
                let steps = run["steps"].as_array().expect("steps").clone();
                let inside = steps.into_iter().find(|one| one["id"] == *step).expect("the step");
                (inside["started_at"].to_string(), inside["finished_at"].to_string())
            };
            let (a, b) = (span(first), span(second));
            assert!(a.1 <= b.0 || b.1 <= a.0, "{}: {a:?} and {b:?} overlap", pattern.name);
        }
    }
}

/// Does what the head of a pattern asks for from outside.
fn from_outside(env: &TestEnvironment, pattern: &Pattern, id: &str) {
    if let [step] = pattern.words("after")[..] {
        until(&format!("{}: the start of {step}", pattern.name), || {
            let told = Told(history(env, id));
            (!told.starts(step).is_empty()).then_some(())
        });
    }
    if let Some(signal) = pattern.of("send") {
        let (name, data) = signal.split_once(' ').unwrap_or((signal, "null"));
        env.args(["workflow", "signal", id, name, "-d", data]).ok();
    }
    if pattern.of("cancel").is_some() {
        env.args(["workflow", "cancel", id]).ok();
    }
}

#[test]
fn the_patterns_run_on_the_embedded_store() {
    the_patterns(None);
}

#[test]
fn the_patterns_run_on_redis() {
    the_patterns(Some(&Server::start(&[]).url()));
}

#[test]
fn the_patterns_run_on_postgres() {
    the_patterns(Some(&Cluster::start().url()));
}
