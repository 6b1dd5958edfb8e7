//! The same for runs, dead jobs, schedules, events and recordings: what is done on the screen is
//! confirmed by commands beside it.

use super::TestEnvironment;
use super::console::Pane;

fn workflow(name: &str) -> String {
    format!("{}/workflows/{name}.yaml", env!("CARGO_MANIFEST_DIR"))
}

/// A run that waits for an approval.
fn waiting(env: &TestEnvironment) -> String {
    env.args(["apply", &workflow("expense-approval")]).ok();
    let id = env.run("workflow start expense-approval -i {\"amount\":900,\"who\":\"ann\"}").ok().line().to_owned();
    env.run("worker --until-empty").ok();
    id
}

#[test]
fn a_run_is_seen_growing_in_its_past_and_to_its_end() {
    let env = TestEnvironment::new();
    let id = waiting(&env);
    let pane = Pane::open(&env, 110, 32);
    pane.console("runs");
    pane.shows("expense-approval");
    pane.press(&["Enter"]);
    let screen = pane.shows("waits for group:finance");
    assert!(screen.contains("decide") && screen.contains("▾ else") && screen.contains("pay-out"), "{screen}");
    // Back in time the approval did not wait yet; nothing of it is changed by looking.
    pane.types("[[");
    pane.sees("the past", |screen| screen.contains("in the past: event") && !screen.contains("waits for group"));
    pane.press(&["Escape"]);
    pane.shows("waits for group:finance");
    pane.types("a");
    pane.shows("approve decide/else/approve of run");
    pane.types(" bob");
    pane.press(&["Enter"]);
    pane.shows("approved decide/else/approve");
    env.run("worker --until-empty").ok();
    pane.sees("its end", |screen| screen.contains("✓ completed") && !screen.contains("◷ waiting"));
    let run = env.args(["workflow", "show", &id, "-o", "json"]).ok().json();
    assert_eq!(run["state"], "completed");
    // The step that printed something shows its log, once it is selected.
    pane.press(&["End"]);
    pane.shows("LOG tell");
    pane.press(&["C-c"]);
    pane.ended(&env, 0);
}

#[test]
fn a_run_is_paused_signalled_and_cancelled() {
    let env = TestEnvironment::new();
    let text = "name: waits\nsteps:\n  - {id: paid, wait: {signal: paid, timeout: 1d}}\n  - {id: more, needs: [paid], wait: {signal: never, timeout: 1d}}\n";
    let file = env.file("waits.yaml", text);
    env.args(["apply", &file.to_string_lossy()]).ok();
    let id = env.run("workflow start waits -i {}").ok().line().to_owned();
    env.run("worker --until-empty").ok();
    let state = || env.args(["workflow", "show", &id, "-o", "json"]).ok().json();
    let pane = Pane::open(&env, 100, 30);
    pane.console("runs");
    pane.shows("waits");
    pane.press(&["Enter"]);
    pane.shows("◷ waiting");
    pane.types("p");
    pane.shows("goflow workflow pause");
    env.run("worker --until-empty").ok();
    pane.shows("‖ paused");
    assert_eq!(state()["state"], "paused");
    pane.types("p");
    pane.shows("goflow workflow resume");
    env.run("worker --until-empty").ok();
    pane.sees("it runs", |screen| screen.contains("▶ running") && !screen.contains("‖ paused"));
    pane.types("n{\"broken\": ");
    pane.press(&["Enter"]);
    pane.shows("the JSON ");
    pane.types("true}");
    pane.press(&["Enter"]);
    pane.shows("sent paid");
    env.run("worker --until-empty").ok();
    pane.shows("✓ completed");
    let paid = &state()["steps"][0];
    assert_eq!((&paid["state"], &paid["output"]["broken"]), (&"completed".into(), &true.into()), "{paid}");
    pane.types("x");
    pane.shows("what was done is undone");
    pane.press(&["Tab", "Enter"]);
    pane.shows("cancelling 1 run · goflow workflow cancel");
    env.run("worker --until-empty").ok();
    pane.shows("⊘ cancelled");
    assert_eq!(state()["state"], "cancelled");
    pane.types("q");
    pane.shows("1 run");
    pane.types("q");
    pane.ended(&env, 0);
}

#[test]
fn a_group_of_dead_jobs_is_retried_and_another_deleted() {
    let env = TestEnvironment::new();
    let lines: String = (0..3)
        .map(|n| format!("{{\"message\": \"host db-{n} is away\", \"retry\": false}}\n"))
        .chain(["{\"message\": \"no such user\", \"retry\": false}\n".to_owned()])
        .collect();
    env.feed("enqueue fail -q mail --lines", lines).ok();
    env.run("worker --until-empty").ok();
    let pane = Pane::open(&env, 130, 30);
    pane.console("dlq");
    let screen = pane.shows("2 groups of 4 dead");
    assert!(screen.contains("host * is away") && screen.contains("no such user"), "{screen}");
    pane.types("r");
    pane.shows("would retry 3 jobs");
    pane.press(&["Tab", "Enter"]);
    pane.shows("retried 3 jobs · goflow dlq retry --where");
    assert_eq!(env.run("job list -s pending -q mail -o name").ok().stdout.lines().count(), 3);
    assert_eq!(env.run("dlq list -o name").ok().stdout.lines().count(), 1);
    pane.shows("1 group of 1 dead");
    // Its jobs, as a list.
    pane.press(&["Enter"]);
    pane.sees("its jobs", |screen| screen.contains("■ dead") && screen.contains("DLQ › Jobs"));
    pane.press(&["Escape"]);
    pane.shows("1 group of 1 dead");
    pane.types("D");
    pane.shows("would delete 1 job");
    pane.press(&["Tab", "Enter"]);
    pane.shows("deleted 1 job · goflow dlq delete --where");
    assert_eq!(env.run("dlq list -o name").ok().stdout, "");
    pane.types("q");
    pane.ended(&env, 0);
}

#[test]
fn a_schedule_is_triggered_and_paused() {
    let env = TestEnvironment::new();
    let file = env.file("nightly.yaml", "kind: Schedule\nname: nightly\ncron: \"0 3 * * *\"\njob: noop\n");
    env.args(["apply", &file.to_string_lossy()]).ok();
    let pane = Pane::open(&env, 130, 30);
    pane.console("schedules");
    pane.shows("NEXT TICKS");
    pane.types("t");
    pane.shows("trigger nightly?");
    pane.press(&["Tab", "Enter"]);
    pane.shows("triggered 1 schedule · goflow schedule trigger nightly");
    assert_eq!(env.run("job list -s pending -o name").ok().stdout.lines().count(), 1);
    pane.types("p");
    pane.shows("paused 1 schedule · goflow schedule pause nightly");
    pane.shows("‖ paused");
    assert_eq!(env.run("schedule list -o json").ok().json()[0]["paused"], true);
    pane.press(&["Enter"]);
    pane.shows("Schedules › Job");
    pane.press(&["C-c"]);
    pane.ended(&env, 0);
}

#[test]
fn events_run_by_and_are_filtered() {
    let env = TestEnvironment::new();
    env.feed("enqueue noop -q mail --text-lines", "a\nb\n").ok();
    let pane = Pane::open(&env, 100, 30);
    pane.console("events");
    pane.shows("job.created");
    env.run("worker --until-empty").ok();
    pane.shows("worker.stopped");
    pane.types("/type:job.completed");
    pane.press(&["Enter"]);
    pane.sees("two of them", |screen| screen.contains("2 events of the last") && !screen.contains("job.created"));
    pane.types("y");
    pane.shows("\"kind\": \"job.completed\"");
    pane.press(&["Escape"]);
    pane.press(&["Enter"]);
    pane.shows("Events › Job");
    pane.press(&["C-c"]);
    pane.ended(&env, 0);
}

#[test]
fn what_runs_and_dead_jobs_hold_does_not_disturb_the_screen() {
    let env = TestEnvironment::new();
    let hostile = format!("\"\\u001b[2J\\u001b]0;owned\\u0007\\u202e{}\"", "漢字e\u{301}".repeat(50_000));
    env.feed("enqueue fail -q mail --lines", format!("{{\"message\": {hostile}, \"retry\": false}}\n")).ok();
    let text = "name: loud\nsteps:\n  - id: shout\n    run: |\n      printf '\\033[2J\\033]0;owned\\007'\n      head -c 900000 /dev/zero | tr '\\000' x\n";
    let file = env.file("loud.yaml", text);
    env.args(["apply", &file.to_string_lossy()]).ok();
    env.run("workflow start loud -i {}").ok();
    env.run("worker --until-empty").ok();
    let pane = Pane::open(&env, 120, 40);
    pane.console("dlq");
    let screen = pane.shows("1 group of 1 dead");
    assert!(screen.contains("1 Overview") && screen.contains("\\u{1b}[2J"), "{screen}");
    pane.types("8");
    pane.shows("job.dead");
    pane.types("4");
    pane.shows("loud");
    pane.press(&["Enter"]);
    let screen = pane.shows("xxxxxxxxxx");
    assert!(screen.contains("1 Overview") && screen.contains("LOG shout"), "{screen}");
    // Over every view, with what is beside and over it: the screen keeps its form, and nobody else's words
    // reach the terminal as orders.
    for (view, there) in
        [("1", "LATEST FAILURES"), ("2", "2 queues"), ("3", "owned"), ("7", "1 group of 1 dead"), ("8", "job.dead")]
    {
        pane.types(view);
        for seen in [there, "JSON"] {
            // The overview counts the queues too: a key that is pressed before it has gone is lost.
            let is_there = |screen: &str| screen.contains(seen) && (view == "1") == screen.contains("LATEST FAILURES");
            let screen = pane.sees(seen, is_there);
            let lines: Vec<&str> = screen.trim_end_matches('\n').split('\n').collect();
            assert!(lines[0].starts_with(" goflow top") && lines[1].starts_with(" 1 Overview"), "{screen}");
            assert!(lines.len() >= 38 && lines[37].starts_with("────"), "{screen}");
            if view == "1" {
                break;
            }
            pane.types("y");
        }
        // The keys of what lies over a page are its own: what is not, closes it.
        pane.types("m");
        pane.sees("the page alone", |screen| !screen.contains(" JSON "));
    }
    assert_ne!(pane.title(), "owned");
    pane.press(&["C-c"]);
    pane.ended(&env, 0);
}

#[test]
fn a_session_is_recorded_and_shown_again_without_its_store() {
    let env = TestEnvironment::new();
    waiting(&env);
    let pane = Pane::open(&env, 110, 32);
    pane.console("runs --record session.jsonl");
    pane.shows("expense-approval");
    pane.press(&["Enter"]);
    pane.shows("waits for group:finance");
    pane.types("qq");
    pane.ended(&env, 0);
    drop(pane);
    std::fs::remove_dir_all(env.path().join("home")).expect("the store goes");
    let pane = Pane::open(&env, 110, 32);
    pane.console("runs --replay session.jsonl");
    pane.shows("a recording");
    pane.press(&["Enter"]);
    pane.shows("waits for group:finance");
    pane.types("[[.");
    pane.shows("in the past");
    pane.types("x");
    pane.shows("this is a recording");
    pane.press(&["C-c"]);
    pane.ended(&env, 0);
    let once = env.run("top --replay session.jsonl --once").ok();
    assert!(once.stdout.contains("Run ") || once.stdout.contains("expense-approval"), "{}", once.text());
    let picture = env.run("top --replay session.jsonl --once --svg").ok();
    assert!(picture.stdout.starts_with("<svg ") && picture.stdout.ends_with("</svg>\n"), "{}", picture.text());
    let broken = env.file("broken.jsonl", "{\"v\":99}\n");
    let told = env.args(["top", "--once", "--replay", &broken.to_string_lossy()]);
    assert!(told.status == Some(2) && told.stderr.contains("later goflow"), "{}", told.text());
    assert!(!env.path().join("home").exists(), "no store was opened");
}
