//! `goflow workflow`: drawing and simulating definitions, and runs from their start to their end.

use std::path::Path;

use super::TestEnvironment;

fn saga() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows/order-saga.yaml").to_string_lossy().into_owned()
}

#[test]
fn a_graph_is_drawn_from_a_file_and_from_the_store_in_three_ways() {
    let env = TestEnvironment::new();
    let tree = env.args(["workflow", "graph", &saga()]).ok().stdout;
    assert!(tree.starts_with("order-saga\n├─ create-order   run ") && tree.contains("← pay"), "{tree}");
    let mermaid = env.args(["workflow", "graph", &saga(), "--format", "mermaid"]).ok().stdout;
    assert!(mermaid.starts_with("flowchart TD\n") && mermaid.contains("n0 --> n1"), "{mermaid}");
    env.args(["apply", &saga()]).ok();
    let dot = env.run("workflow graph order-saga --format dot -o json").ok().json();
    assert!(dot["graph"].as_str().is_some_and(|graph| graph.starts_with("digraph \"order-saga\" {")), "{dot}");
    let missing = env.run("workflow graph order-sagas");
    assert_eq!(missing.status, Some(3), "{}", missing.text());
    assert!(missing.stderr.contains("did you mean `order-saga`?"), "{}", missing.text());
    env.file("two.yaml", "name: a\nsteps: [{id: a, job: noop}]\n---\nname: b\nsteps: [{id: a, job: noop}]\n");
    let which = env.run("workflow graph two.yaml");
    assert_eq!(which.status, Some(2), "{}", which.text());
    assert!(which.stderr.contains("--workflow NAME"), "{}", which.text());
    assert!(env.run("workflow graph two.yaml --workflow b").ok().stdout.starts_with("b\n"));
}

#[test]
fn a_simulation_tells_events_and_undos_and_leaves_nothing_behind() {
    let mut env = TestEnvironment::new();
    env.set("GOFLOW_STORE", "redis://127.0.0.1:1");
    let good = env.args(["workflow", "simulate", &saga(), "-o", "json"]).ok().json();
    assert_eq!((&good["state"], &good["undone"]), (&"completed".into(), &serde_json::json!([])));
    let failed = env.args(["workflow", "simulate", &saga(), "--fail", "ship", "-o", "json"]).ok().json();
    assert_eq!(failed["state"], "compensated");
    assert_eq!(failed["undone"], serde_json::json!(["reserve-stock", "pay", "create-order"]));
    let kinds: Vec<&str> =
        failed["events"].as_array().expect("events").iter().filter_map(|e| e["type"].as_str()).collect();
    assert!(kinds.contains(&"step.failed") && kinds.contains(&"run.compensated"), "{kinds:?}");
    let told = env.args(["workflow", "simulate", &saga(), "--fail", "ship"]).ok().stdout;
    assert!(told.contains("undone, in this order: reserve-stock, pay, create-order"), "{told}");
    assert!(told.contains("would end compensated after "), "{told}");
}

#[test]
fn a_simulation_plays_people_and_branches() {
    let env = TestEnvironment::new();
    env.file(
        "w.yaml",
        "name: w\ninput: {n: {type: integer, default: 5}}\nsteps:\n\
         \x20 - {id: ok, approval: {timeout: 1h, on_timeout: fail}}\n\
         \x20 - {id: paid, needs: [ok], wait: {signal: paid, match: 'signal.id == 7'}}\n\
         \x20 - id: route\n    needs: [paid]\n    switch:\n      cases:\n\
         \x20       - {name: big, when: 'input.n > 3', steps: [{id: a, job: noop}]}\n\
         \x20     else: [{id: b, job: noop}]\n\
         outputs: {id: '${{ steps.paid.outputs.id }}'}\n",
    );
    let waits = env.run("workflow simulate w.yaml -o json").ok().json();
    assert_eq!(waits["waiting"], serde_json::json!(["paid"]), "{waits}");
    let ended = env.run("workflow simulate w.yaml --signal paid={\"id\":7} -o json").ok().json();
    assert_eq!(ended["state"], "completed", "{ended}");
    assert_eq!((&ended["branches"]["route"], &ended["output"]["id"]), (&serde_json::json!(["big"]), &7.into()));
    let other = env.run("workflow simulate w.yaml --signal paid={\"id\":8}").ok().stdout;
    assert!(other.contains("would wait, ") && other.contains("no step has taken the signal paid: "), "{other}");
    let late = env.run("workflow simulate w.yaml --timeout ok -o json").ok().json();
    assert_eq!(late["state"], "failed", "{late}");
    for (line, part) in [
        ("--fail pad", "did you mean `paid`?"),
        ("--fail paid", "`paid` is a `wait`, which nobody does who could fail"),
        ("--fail route", "let a step inside of it fail"),
        ("--workflow v", "w.yaml holds no workflow `v`"),
        ("--timeout nothing-like-it", "there is no step"),
        ("--signal paid={", "not JSON"),
        ("--signal piad=1", "no step waits for `piad`"),
        ("--reject paid", "`paid` is no approval"),
        ("--reject a", "--fail lets it fail"),
        ("-i {\"m\":1}", "there is no input `m`"),
    ] {
        let answer = env.run(&format!("workflow simulate w.yaml {line}"));
        assert_eq!(answer.status, Some(2), "{line}: {}", answer.text());
        assert!(answer.stderr.contains(part), "{line}: {}", answer.text());
    }
}

#[test]
fn a_run_is_started_listed_shown_and_told_in_its_order() {
    let env = TestEnvironment::new();
    env.args(["apply", &saga()]).ok();
    let id = env.run("workflow start order-saga -i {\"amount\":12000}").ok().line().to_owned();
    assert_eq!(env.run("workflow list -o name").ok().line(), id);
    assert_eq!(env.run("workflow list -s running -w order-saga -o json").ok().json()[0]["id"], id.as_str());
    env.run("worker --until-empty").ok();
    let run = env.run(&format!("workflow show {id} -o json")).ok().json();
    assert_eq!((&run["id"], &run["state"]), (&id.as_str().into(), &"compensated".into()));
    let table = env.run(&format!("workflow show {}", &id[28..])).ok().stdout;
    assert!(table.contains("state     compensated") && table.contains("create-order"), "{table}");
    let history = env.run(&format!("workflow history {id} -o jsonl")).ok().stdout;
    let kinds: Vec<String> = history
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["type"].to_string())
        .collect();
    assert_eq!(kinds.first().map(String::as_str), Some("\"run.started\""), "{history}");
    assert_eq!(kinds.last().map(String::as_str), Some("\"run.compensated\""), "{history}");
    assert_eq!(env.run("workflow list -s running -o json").ok().line(), "[]");
    let started = env.run("workflow start order-saga -i {\"amuont\":1}");
    assert_eq!(started.status, Some(2), "{}", started.text());
    assert!(started.stderr.contains("did you mean `amount`?") && started.stderr.contains("[GF0027]"));
    let state = env.run("workflow list -s runing");
    assert!(state.stderr.contains("did you mean `running`?"), "{}", state.text());
}

#[test]
fn a_run_that_was_tried_again_is_followed_to_its_new_end() {
    let env = TestEnvironment::new();
    env.file("w.yaml", "name: w\nsteps: [{id: a, run: \"test -e mended\", retry: {max: 0}}]\n");
    assert_eq!(env.run("run w.yaml").status, Some(1));
    let id = env.run("workflow list -o name").ok().line().to_owned();
    env.file("mended", "");
    env.run(&format!("workflow retry {id}")).ok();
    let again = env.run(&format!("run --id {id} -o json")).ok().json();
    assert_eq!(again["state"], "completed", "{again}");
    // Without anything new its end is told at once.
    env.run(&format!("run --id {id}")).ok();
}

#[test]
fn what_a_called_run_could_not_undo_is_told_and_taken_up_by_the_one_that_called_it() {
    let env = TestEnvironment::new();
    env.file(
        "w.yaml",
        "name: parent\nsteps:\n\
         \x20 - {id: first, job: noop, compensate: {run: \"echo first >> undone\"}}\n\
         \x20 - {id: sub, needs: [first], call: child}\n---\n\
         name: child\nsteps:\n\
         \x20 - {id: x, job: noop, compensate: {run: \"test -e mended && echo x >> undone\", retry: {max: 0}}}\n\
         \x20 - {id: y, needs: [x], job: fail, retry: {max: 0}}\n",
    );
    let failed = env.run("run w.yaml --workflow parent -o json");
    assert_eq!(failed.status, Some(1), "{}", failed.text());
    let run = failed.json();
    assert_eq!((&run["state"], &run["error"]["class"]), (&"failed".into(), &"undo_owed".into()), "{run}");
    let told = run["error"]["message"].as_str().expect("text");
    assert!(told.starts_with("the undo of `sub` is owed;") && told.contains("the undo of `x` is owed"), "{told}");
    let undone = || std::fs::read_to_string(env.path().join("undone")).unwrap_or_default();
    assert_eq!(undone(), "first\n", "the others are undone all the same");
    env.file("mended", "");
    let id = run["id"].as_str().expect("an id");
    env.run(&format!("workflow retry {id}")).ok();
    let ended = env.run(&format!("run --id {id} -o json")).json();
    assert_eq!(ended["state"], "compensated", "{ended}");
    assert!(!ended["error"]["message"].as_str().is_some_and(|text| text.starts_with("the undo")), "{ended}");
    assert_eq!(undone(), "first\nx\n");
}

#[test]
fn runs_that_are_called_keep_to_the_concurrency_key_of_their_workflow() {
    let env = TestEnvironment::new();
    let child = |more: &str| {
        format!(
            "name: child\nconcurrency: {{key: one, limit: 1{more}}}\n\
             steps: [{{id: x, run: \"echo in >> log; sleep 0.2; echo out >> log\"}}]\n---\n\
             name: parent\nsteps: [{{id: each, foreach: {{items: '[1, 2, 3]'}}, call: child}}]\n"
        )
    };
    env.file("w.yaml", child(", on_conflict: queue"));
    env.run("run w.yaml --workflow parent").ok();
    let log = std::fs::read_to_string(env.path().join("log")).expect("a log");
    assert_eq!(log, "in\nout\n".repeat(3), "one after the other");
    env.file("w.yaml", child(""));
    let refused = env.run("run w.yaml --workflow parent");
    assert_eq!(refused.status, Some(1), "{}", refused.text());
    assert!(refused.text().contains("as many runs of `child` as may be are under way"), "{}", refused.text());
}

#[test]
fn a_runs_history_tells_that_a_step_was_tried_again_and_show_the_signals_that_came_late() {
    let env = TestEnvironment::new();
    env.file(
        "w.yaml",
        "name: w\nsteps: [{id: flaky, run: \"test -e once || { touch once; exit 7; }\", retry: {max: 2, initial: 10ms}}]\n",
    );
    let id = env.run("run w.yaml -o json").ok().json()["id"].as_str().expect("an id").to_owned();
    let history = env.run(&format!("workflow history {id} -o json")).ok().json();
    let told: Vec<(&str, &str)> = history
        .as_array()
        .expect("a list")
        .iter()
        .map(|event| (event["type"].as_str().unwrap_or("?"), event["step"].as_str().unwrap_or("")))
        .collect();
    assert_eq!(
        told,
        [
            ("run.started", ""),
            ("step.started", "flaky"),
            ("job.retried", "flaky"),
            ("step.completed", "flaky"),
            ("run.completed", "")
        ]
    );
    assert!(history[2]["data"].as_str().is_some_and(|data| data.starts_with("exit:7")), "{history}");
    assert!(!env.run(&format!("workflow show {id}")).ok().stdout.contains("signal"));
    env.run(&format!("workflow signal {id} paid -d {{\"n\":1}}")).ok();
    env.run(&format!("run --id {id}")).ok();
    let shown = env.run(&format!("workflow show {id}")).ok().stdout;
    assert!(shown.contains("paid (late) at ") && shown.contains("{\"n\":1}"), "{shown}");
    let json = env.run(&format!("workflow show {id} -o json")).ok().json();
    assert_eq!((&json["signals"][0]["name"], &json["signals"][0]["late"]), (&"paid".into(), &true.into()), "{json}");
}

#[test]
fn a_simulation_tells_each_retry_when_it_comes() {
    let env = TestEnvironment::new();
    env.file(
        "w.yaml",
        "name: w\nsteps: [{id: pay, job: noop, retry: {max: 2, backoff: constant, initial: 1m, jitter: 0}}, {id: other, job: noop}]\n",
    );
    let told = env.run("workflow simulate w.yaml --fail pay*2 -o json").ok().json();
    let events: Vec<(&str, &str)> = told["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|event| (event["type"].as_str().unwrap_or("?"), event["at"].as_str().unwrap_or("?")))
        .collect();
    let retried: Vec<jiff::Timestamp> =
        events.iter().filter(|(kind, _)| *kind == "job.retried").map(|(_, at)| at.parse().expect("a time")).collect();
    assert_eq!(retried.len(), 2, "{events:?}");
    let apart = retried[1].duration_since(retried[0]).as_secs();
    assert!((60..62).contains(&apart), "{events:?}");
    assert!(events.iter().map(|(_, at)| at).is_sorted(), "{events:?}");
}
