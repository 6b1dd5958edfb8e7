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
    let late = env.run("workflow simulate w.yaml --timeout ok -o json").ok().json();
    assert_eq!(late["state"], "failed", "{late}");
    for (line, part) in [
        ("--fail pad", "did you mean `paid`?"),
        ("--timeout nothing-like-it", "there is no step"),
        ("--signal paid={", "not JSON"),
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
