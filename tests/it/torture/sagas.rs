//! A saga whose process is killed at each of its commits, before and after it. Whoever takes it up
//! runs no completed step again, and undoes what is to be undone once each, in reverse order.

use std::sync::atomic::{AtomicU16, Ordering};

use super::site::{Ground, Site};
use crate::servers::{postgres::Cluster, redis::Server, redis_nodes::Nodes};

/// Five steps, the last of which fails: the other four are undone.
const SAGA: &str = r#"
name: five
defaults: {retry: {max: 0}}
steps:
  - {id: a, run: [sh, ./step.sh, a], compensate: {run: [sh, ./step.sh, undo-a]}}
  - {id: b, needs: [a], run: [sh, ./step.sh, b], compensate: {run: [sh, ./step.sh, undo-b]}}
  - {id: c, needs: [b], run: [sh, ./step.sh, c], compensate: {run: [sh, ./step.sh, undo-c]}}
  - {id: d, needs: [c], run: [sh, ./step.sh, d], compensate: {run: [sh, ./step.sh, undo-d]}}
  - {id: e, needs: [d], run: [sh, ./step.sh, fail]}
"#;

const STEP: &str = r#"
echo "start $1 $GOFLOW_EPOCH" >> steps
test "$1" != fail || exit 1
echo "end $1 $GOFLOW_EPOCH" >> steps
"#;

const ORDER: [&str; 9] = ["a", "b", "c", "d", "fail", "undo-d", "undo-c", "undo-b", "undo-a"];

/// Plays the saga with a death at one commit; answers whether it died at all.
fn dies_once(ground: Ground, fault: &str) -> bool {
    let mut site = Site::on(ground, "2s");
    site.env.file("saga.yaml", SAGA);
    site.env.file("step.sh", STEP);
    site.env.file("steps", "");
    site.env.set("GOFLOW_FAULT", fault);
    let first = site.env.run("run saga.yaml -o json");
    site.env.set("GOFLOW_FAULT", "");
    let died = first.status.is_none();
    // Whoever finds a trace of the run takes it up; where there is none it never began.
    let answer = match site.jobs().first() {
        Some(job) => site.env.run(&format!("run --id {} -o json", job["run_id"].as_str().expect("a run's job"))),
        None => site.env.run("run saga.yaml -o json"),
    };
    assert_eq!(answer.status, Some(1), "{fault}: a compensated run is no success: {}", answer.text());
    let run = answer.json();
    assert_eq!(run["state"], "compensated", "{fault}: {run:#}");
    site.verify();

    let text = std::fs::read_to_string(site.env.path().join("steps")).expect("the witness");
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let first_start = |step: &str| lines.iter().position(|line| line[0] == "start" && line[1] == step);
    let order: Vec<_> =
        ORDER.iter().map(|step| first_start(step).unwrap_or_else(|| panic!("{fault}: no {step}"))).collect();
    assert!(order.is_sorted(), "{fault}: out of order\n{text}");
    for (place, step) in ORDER.iter().enumerate() {
        // The execution whose outcome was recorded is the last one; the next step began after it.
        let starts: Vec<_> =
            lines.iter().enumerate().filter(|(_, line)| line[0] == "start" && line[1] == *step).collect();
        assert!(starts.len() <= 1 + usize::from(died), "{fault}: {step} ran {} times\n{text}", starts.len());
        if let (Some((last, _)), Some(next)) = (starts.last(), ORDER.get(place + 1)) {
            assert!(first_start(next).is_some_and(|next| *last < next), "{fault}: {step} ran after {next}\n{text}");
        }
    }
    let total = lines.iter().filter(|line| line[0] == "start").count();
    assert!(total <= ORDER.len() + usize::from(died), "{fault}: one death, at most one step twice\n{text}");
    died
}

/// Goes through all commits until one is beyond the end of the saga.
fn dies_everywhere(ground: impl Fn() -> Ground + Sync) {
    for when in ["kill-before", "kill-after"] {
        let mut deaths = 0;
        'all: for group in 0.. {
            let numbers: Vec<usize> = (1..=4).map(|n| group * 4 + n).collect();
            let died: Vec<bool> = std::thread::scope(|scope| {
                let ground = &ground;
                let play = |n: &usize| {
                    let fault = format!("{when}:{n}");
                    scope.spawn(move || dies_once(ground(), &fault))
                };
                let threads: Vec<_> = numbers.iter().map(play).collect();
                threads.into_iter().map(|thread| thread.join().expect("the saga holds")).collect()
            });
            for died in died {
                if !died {
                    break 'all;
                }
                deaths += 1;
            }
            assert!(group < 20, "the saga never ends");
        }
        // A start, nine outcomes at least.
        assert!(deaths >= 10, "only {deaths} commits {when}");
        println!("{when}: {deaths} deaths");
    }
}

#[test]
fn a_saga_survives_a_death_at_every_commit_on_sqlite() {
    dies_everywhere(|| Ground::Sqlite);
}

#[test]
fn a_saga_survives_a_death_at_every_commit_on_redis() {
    dies_everywhere(|| Ground::Redis(Server::start(&[])));
}

#[test]
fn a_saga_survives_a_death_at_every_commit_on_postgres() {
    dies_everywhere(|| Ground::Postgres(Cluster::with(&[])));
}

/// Each play has a key space of its own, so they lie on all nodes.
#[test]
fn a_saga_survives_a_death_at_every_commit_on_a_redis_cluster() {
    let nodes = Nodes::start(3, 0, &[]);
    let spaces = AtomicU16::new(0);
    dies_everywhere(|| Ground::At(format!("{}#{}", nodes.url(), spaces.fetch_add(1, Ordering::Relaxed))));
}
