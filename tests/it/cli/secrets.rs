//! What is declared as a secret reaches the work and is shown nowhere: output, results, errors,
//! manifests, configuration.

use super::TestEnvironment;

const SECRET: &str = "t0p-53cret-value";

#[test]
fn variables_are_put_into_handlers_and_are_seen_nowhere_but_by_the_work() {
    let mut env = TestEnvironment::new();
    env.set("PAY_TOKEN", SECRET).set("NAME", "zoe");
    env.file(
        "goflow.yaml",
        "handlers:\n\
         \x20 tell: {run: 'echo \"${HELLO} $TOKEN\"; printf %s \"$TOKEN\" > seen', env: {TOKEN: '${PAY_TOKEN}', HELLO: 'hi ${NAME}'}, outputs: text}\n\
         \x20 break: {run: 'echo \"no: $TOKEN\" >&2; exit 3', env: {TOKEN: '${PAY_TOKEN}'}}\n",
    );
    let told = env.run("enqueue tell").ok().line().to_owned();
    let broke = env.run("enqueue break --max-retries 0").ok().line().to_owned();
    let worker = env.run("worker --until-empty -v").ok();
    let seen = std::fs::read_to_string(env.path().join("seen")).expect("the handler ran");
    assert_eq!(seen, SECRET, "the work itself has it");
    let job = env.run(&format!("job show {told} -o json")).ok().json();
    assert_eq!(job["result"], "hi zoe ***", "the shell's own variables are left to the shell");
    let dead = env.run(&format!("job show {broke} -o json")).ok().json();
    assert!(dead["error"]["message"].as_str().is_some_and(|text| text.contains("no: ***")), "{dead}");
    assert_eq!(env.run(&format!("job logs {broke}")).ok().line(), "no: ***");
    let shown = [
        worker.text(),
        env.run(&format!("job logs {told}")).ok().text(),
        env.run("events -n 0 -j").ok().text(),
        env.run("dlq list -o json").ok().text(),
        env.run("config show").ok().text(),
    ];
    for text in shown {
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[test]
fn a_variable_that_is_not_set_is_empty_and_told() {
    let env = TestEnvironment::new();
    env.file("goflow.yaml", "handlers: {tell: {run: [echo, '<${NOWHERE}>'], outputs: text}}\n");
    let id = env.run("enqueue tell").ok();
    assert!(id.stderr.contains("the variable NOWHERE is not set"), "{}", id.text());
    env.run("worker --until-empty").ok();
    assert_eq!(env.run(&format!("job show {} -o json", id.line())).ok().json()["result"], "<>");
}

#[test]
fn a_manifest_is_shown_without_its_secrets_and_is_not_taken_back_like_that() {
    let env = TestEnvironment::new();
    let handler = |token: &str| {
        format!(
            "kind: Handler\nname: pay\nhttp: {{url: 'https://me:{SECRET}@pay.example/x', headers: {{Authorization: 'Bearer {token}', Accept: text/plain}}}}\n"
        )
    };
    env.file("pay.yaml", handler("a-secret-of-old"));
    env.run("apply pay.yaml").ok();
    for form in ["json", "yaml", "table"] {
        let shown = env.run(&format!("get handlers -o {form}")).ok().stdout;
        assert!(!shown.contains(SECRET) && !shown.contains("of-old"), "{shown}");
    }
    let shown = env.run("get handler pay -o yaml").ok().stdout;
    assert!(shown.contains("https://***@pay.example/x") && shown.contains("text/plain"), "{shown}");
    env.file("again.yaml", &shown);
    let refused = env.run("apply again.yaml");
    assert_eq!(refused.status, Some(2), "{}", refused.text());
    assert!(refused.stderr.contains("the sign of a secret"), "{}", refused.stderr);
    env.file("pay.yaml", handler("a-secret-of-new"));
    let diff = env.run("diff pay.yaml").ok().stdout;
    assert!(!diff.contains("of-new") && diff.contains("what differs is a secret"), "{diff}");
}

#[test]
fn a_steps_own_secrets_are_masked_too() {
    let env = TestEnvironment::new();
    env.file(
        "w.yaml",
        format!("name: w\nsteps: [{{id: a, run: 'echo \"<$API_KEY>\"', env: {{API_KEY: {SECRET}}}, outputs: text}}]\n"),
    );
    let run = env.run("run w.yaml -o json").ok().json();
    assert_eq!(run["steps"][0]["output"], "<***>", "{run}");
}
