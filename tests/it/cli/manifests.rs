//! Manifests from the command line: what apply, diff, validate, get and delete tell and keep.

use std::path::Path;

use super::TestEnvironment;

const PAIR: &str = "\
kind: Handler
name: mail
run: [mail, \"${{ payload.to }}\"]
---
name: greet
steps:
  - {id: a, job: mail, with: {to: NO, n: 010}}
";

fn fixture(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path).to_string_lossy().into_owned()
}

#[test]
fn apply_tells_what_is_created_changed_and_unchanged() {
    let env = TestEnvironment::new();
    env.file("m/a.yaml", PAIR);
    let changes = |line: &str| {
        let rows = env.run(line).ok().json();
        let rows = rows.as_array().expect("rows").clone();
        rows.iter().map(|row| format!("{} {} {}", row["kind"], row["name"], row["change"])).collect::<Vec<_>>()
    };
    let created = [r#""handler" "mail" "created""#, r#""workflow" "greet" "created""#];
    assert_eq!(changes("apply m --dry-run -o json"), created);
    assert_eq!(changes("apply m -o json"), created);
    assert_eq!(changes("apply m -o json"), created.map(|row| row.replace("created", "unchanged")));
    env.file("m/a.yaml", PAIR.replace("n: 010", "n: 011"));
    assert_eq!(
        changes("apply m/a.yaml -o json"),
        [r#""handler" "mail" "unchanged""#, r#""workflow" "greet" "changed""#]
    );
    let fed = env.feed("apply - -o name", "name: other\nsteps: [{id: a, job: noop}]\n").ok();
    assert_eq!(fed.line(), "workflow/other");
}

#[test]
fn what_get_gives_back_can_be_applied_and_is_the_same() {
    let env = TestEnvironment::new();
    env.file("a.yaml", PAIR);
    env.run("apply a.yaml").ok();
    for kind in ["workflow greet", "workflows", "handlers", "handler mail"] {
        for format in ["yaml", "json"] {
            let given = env.run(&format!("get {kind} -o {format}")).ok().stdout;
            let given = if format == "json" && !kind.contains(' ') {
                given.trim().trim_start_matches('[').trim_end_matches(']').to_owned()
            } else {
                given
            };
            let again = env.feed("apply - -o json", &given).ok().json();
            assert_eq!(again[0]["change"], "unchanged", "{kind} {format}:\n{given}");
        }
    }
    let table = env.run("get workflows").ok().stdout;
    assert!(table.contains("greet") && table.contains("1 step"), "{table}");
    assert_eq!(env.run("get handlers -o name").ok().line(), "mail");
    assert_eq!(env.run("get schedules -o json").ok().line(), "[]");
    let missing = env.run("get workflow gret");
    assert_eq!(missing.status, Some(3));
    assert!(missing.stderr.contains("did you mean `greet`?"), "{}", missing.text());
}

#[test]
fn diff_shows_the_lines_that_change_and_changes_nothing() {
    let env = TestEnvironment::new();
    env.file("a.yaml", PAIR);
    let new = env.run("diff a.yaml").ok().stdout;
    assert!(new.starts_with("--- /dev/null\n+++ file/handler/mail\n@@ ") && new.contains("+name: greet"), "{new}");
    assert_eq!(env.run("get workflows -o name").ok().line(), "");
    env.run("apply a.yaml").ok();
    env.file("a.yaml", PAIR.replace("n: 010", "n: 011"));
    let answer = env.run("diff a.yaml").ok();
    let changed: Vec<&str> =
        answer.stdout.lines().filter(|line| line.starts_with(['+', '-']) && !line.contains("/greet")).collect();
    assert_eq!(changed.len(), 2, "{}", answer.text());
    assert!(changed[0].contains("010") && changed[1].contains("011"), "{}", answer.text());
    assert!(answer.stderr.contains("1 manifest unchanged"), "{}", answer.text());
    let rows = env.run("diff a.yaml -o json").ok().json();
    assert_eq!((&rows[0]["change"], &rows[0]["diff"]), (&"unchanged".into(), &"".into()));
}

#[test]
fn validate_needs_no_store_and_tells_every_mistake_of_every_file() {
    let mut env = TestEnvironment::new();
    env.set("GOFLOW_STORE", "redis://127.0.0.1:1");
    let good = env.args(["validate", &fixture("good"), "-o", "json"]).ok();
    assert!(good.json().as_array().is_some_and(|rows| rows.len() > 8), "{}", good.text());
    env.file("m/a.yaml", "name: a\nsteps: [{id: a, call: b}]\n");
    let lonely = env.run("validate m").ok();
    assert!(lonely.stderr.contains("m/a.yaml:2:23: the workflow `b` is not in these files"), "{}", lonely.text());
    env.file("m/b.yaml", "name: b\nsteps: [{id: a, jb: c}]\n");
    env.file("m/c.yml", "kind: Queue\nname: c\nweight: 0\n");
    let answer = env.run("validate m");
    assert_eq!(answer.status, Some(2));
    for part in ["the manifests have 3 mistakes", "m/b.yaml:2:9: this step has no verb", "m/c.yml:3:9: ", "[GF0021]"] {
        assert!(answer.stderr.contains(part), "{part}: {}", answer.text());
    }
    env.file("twice.yaml", "name: a\nsteps: [{id: a, job: noop}]\n");
    env.file("m/b.yaml", "name: b\nsteps: [{id: a, job: noop}]\n");
    env.file("m/c.yml", "kind: Queue\nname: c\n");
    let twice = env.run("validate m twice.yaml");
    assert!(twice.stderr.contains("stands in two files, m/a.yaml and twice.yaml"), "{}", twice.text());
}

#[test]
fn what_a_manifest_names_must_be_there_when_it_is_applied() {
    let env = TestEnvironment::new();
    env.file("caller.yaml", "name: caller\nsteps: [{id: a, call: greeting}]\n");
    let missing = env.run("apply caller.yaml");
    assert_eq!(missing.status, Some(2));
    assert!(missing.stderr.contains("caller.yaml:2:23: there is no workflow `greeting`"), "{}", missing.text());
    assert_eq!(env.run("get workflows -o name").ok().line(), "");
    env.feed("apply -", "name: greetings\nsteps: [{id: a, job: noop}]\n").ok();
    let near = env.run("apply caller.yaml");
    assert!(near.stderr.contains("did you mean `greetings`?"), "{}", near.text());
    env.file("caller.yaml", "name: caller\nsteps: [{id: a, call: greetings}]\n");
    env.run("apply caller.yaml").ok();
    // What others call is not deleted under them.
    let used = env.run("delete workflow greetings --yes");
    assert_eq!(used.status, Some(4), "{}", used.text());
    assert!(used.stderr.contains("the workflow `greetings` is needed by the workflow `caller`"), "{}", used.text());
}

#[test]
fn what_a_workflow_is_given_must_fit_before_it_is_applied() {
    let env = TestEnvironment::new();
    env.file(
        "order.yaml",
        "name: order\ninput: {id: {type: string, required: true}, n: {type: integer, default: 1}}\n\
         steps: [{id: a, job: noop}]\n",
    );
    let nightly = "kind: Schedule\nname: nightly\ncron: '@daily'\nworkflow: order\n";
    env.file("nightly.yaml", format!("{nightly}input: {{idd: x, n: many}}\n"));
    env.file(
        "caller.yaml",
        "name: caller\ninput: {x: {type: string}}\nsteps:\n\
         \x20 - {id: a, call: order, with: {id: '${{ input.x }}', n: '${{ 3 }}'}}\n\
         \x20 - {id: b, call: order}\n\
         \x20 - {id: c, call: order, with: '${{ input.x }}'}\n",
    );
    let wrong = env.run("validate order.yaml nightly.yaml caller.yaml");
    assert_eq!(wrong.status, Some(2), "{}", wrong.text());
    for part in [
        "the manifests have 4 mistakes",
        "nightly.yaml:5:8: `order` cannot begin with this: there is no input `idd`: did you mean `id`?",
        "nightly.yaml:5:8: `order` cannot begin with this: the input `id` is missing: it is required, of type string",
        "nightly.yaml:5:8: `order` cannot begin with this: the input `n` is a string, not of type integer",
        "caller.yaml:5:19: `order` cannot begin with this: the input `id` is missing",
    ] {
        assert!(wrong.stderr.contains(part), "{part}: {}", wrong.text());
    }
    // The same against what is in the store, and nothing is kept.
    env.run("apply order.yaml").ok();
    let wrong = env.run("apply nightly.yaml");
    assert!(wrong.status == Some(2) && wrong.stderr.contains("there is no input `idd`"), "{}", wrong.text());
    assert_eq!(env.run("schedule list -o json").ok().json(), serde_json::json!([]));
    env.file("nightly.yaml", format!("{nightly}input: {{id: x}}\n"));
    env.run("apply nightly.yaml").ok();
}

#[test]
fn delete_asks_and_tells_what_is_not_there() {
    let env = TestEnvironment::new();
    env.file("a.yaml", PAIR);
    env.run("apply a.yaml").ok();
    let asked = env.run("delete workflow greet");
    assert_eq!(asked.status, Some(2));
    assert!(asked.stderr.contains("delete the workflow greet?") && asked.stderr.contains("--yes"), "{}", asked.text());
    let told = env.run("delete -f a.yaml --dry-run").ok();
    assert_eq!(told.line(), "would delete handler mail, workflow greet");
    let gone = env.run("delete handler mial --yes");
    assert_eq!(gone.status, Some(3));
    assert!(gone.stderr.contains("did you mean `mail`?"), "{}", gone.text());
    let none = env.run("delete workflow");
    assert_eq!(none.status, Some(2), "{}", none.text());
    let both = env.run("delete workflow greet -f a.yaml");
    assert_eq!(both.status, Some(2), "{}", both.text());
    assert_eq!(env.run("get workflows -o name").ok().line(), "greet");
}

#[test]
fn what_is_deleted_is_gone_and_a_schedule_with_its_ticks() {
    let env = TestEnvironment::new();
    env.file("a.yaml", PAIR);
    env.file("s.yaml", "kind: Schedule\nname: daily\ncron: '0 9 * * *'\nworkflow: greet\n");
    env.run("apply a.yaml s.yaml").ok();
    assert_eq!(env.run("schedule list -o json").ok().json()[0]["name"], "daily");
    let used = env.run("delete workflow greet --yes");
    assert_eq!(used.status, Some(4), "{}", used.text());
    let deleted = env.run("delete schedule daily --yes -o json").ok().json();
    assert_eq!(deleted["deleted"], serde_json::json!([{"kind": "schedule", "name": "daily"}]));
    assert_eq!(env.run("schedule list -o json").ok().line(), "[]");
    env.run("delete workflow greet --yes").ok();
    let rest = env.run("delete -f a.yaml --yes -o json").ok().json();
    assert_eq!(rest["deleted"], serde_json::json!([{"kind": "handler", "name": "mail"}]));
    assert_eq!(rest["absent"], serde_json::json!([{"kind": "workflow", "name": "greet"}]));
    assert_eq!(env.run("get workflows -o name").ok().line(), "");
    assert_eq!(env.run("apply a.yaml -o json").ok().json()[1]["change"], "created");
}

#[test]
fn a_queues_manifest_sets_what_it_says_and_leaves_the_rest() {
    let env = TestEnvironment::new();
    env.run("queue set mail --weight 1").ok();
    env.run("queue pause mail").ok();
    env.file("q.yaml", "kind: Queue\nname: mail\nweight: 3\nrate_limit: 100/m\n");
    env.run("apply q.yaml").ok();
    let mail = |env: &TestEnvironment| env.run("queue stats mail -o json").ok().json()[0].clone();
    assert_eq!(mail(&env)["paused"], true, "a manifest that does not speak of it pauses and resumes nothing");
    env.file("q.yaml", "kind: Queue\nname: mail\nweight: 3\npaused: false\n");
    env.run("apply q.yaml").ok();
    assert_eq!(mail(&env)["paused"], false);
    // Paused by hand, resumed by the next apply although the manifest is the same.
    env.run("queue pause mail").ok();
    env.run("apply q.yaml").ok();
    assert_eq!(mail(&env)["paused"], false);
    let shown = env.run("get queue mail -o yaml").ok().stdout;
    assert!(shown.contains("weight: 3") && shown.contains("paused: false"), "{shown}");
}

#[test]
fn the_schema_is_as_committed_and_served_for_each_kind() {
    let env = TestEnvironment::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
    let mut files = Vec::new();
    for kind in ["", "workflow", "handler", "schedule", "queue", "webhook"] {
        let file = if kind.is_empty() { "goflow.schema.json".to_owned() } else { format!("{kind}.schema.json") };
        let made = env.run(&format!("explain --schema {kind}")).ok().stdout;
        let committed = std::fs::read_to_string(folder.join(&file)).unwrap_or_default();
        assert!(made == committed, "schema/{file} is old: goflow explain --schema {kind} > schema/{file}");
        files.push(file);
    }
    let is_schema = |name: &std::ffi::OsString| name.to_string_lossy().ends_with(".schema.json");
    let there = std::fs::read_dir(&folder).expect("the folder").flatten().map(|entry| entry.file_name());
    assert_eq!(there.filter(is_schema).count(), files.len());
    let unknown = env.run("explain --schema flows");
    assert_eq!(unknown.status, Some(2), "{}", unknown.text());
}

#[test]
fn every_mistake_of_a_schedule_is_told_at_once() {
    let env = TestEnvironment::new();
    env.file("s.yaml", "kind: Schedule\nname: s\ncron: '61 * * * *'\noverlap: skipp\ncatchup: lst\n");
    let told = env.run("validate s.yaml");
    assert_eq!(told.status, Some(2), "{}", told.text());
    for part in
        ["says nothing that it starts", "`61` is not from 0 to 59", "did you mean `skip`?", "did you mean `last`?"]
    {
        assert!(told.stderr.contains(part), "{part}: {}", told.stderr);
    }
    env.file("w.yaml", "name: w\nsteps: [{id: a, wait: 7}]\n");
    let told = env.run("validate w.yaml");
    assert!(told.stderr.contains("`wait` names a signal, it is not"), "{}", told.stderr);
}
