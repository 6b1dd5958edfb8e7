//! `goflow schedule` from outside.

use super::TestEnvironment;

#[test]
fn next_tells_the_times_of_a_rule_without_a_store() {
    let mut env = TestEnvironment::new();
    env.set("GOFLOW_STORE", "redis://127.0.0.1:1");
    let ask = |env: &TestEnvironment, args: &[&str]| {
        let answer = env.args([&["schedule", "next"], args, &["-o", "json"]].concat()).ok();
        (serde_json::from_str::<Vec<String>>(&answer.stdout).expect("a list of times"), answer.stderr)
    };
    let (times, said) = ask(&env, &["0 9 * * *", "--from", "2026-02-09T10:00:00+01:00", "-n", "2"]);
    assert_eq!(times, ["2026-02-10T09:00:00.000Z", "2026-02-11T09:00:00.000Z"]);
    assert_eq!(said, "");
    let gap = ["30 2 * * *", "--timezone", "america/new_york", "--from", "2026-03-07T12:00:00Z", "-n", "2"];
    assert_eq!(ask(&env, &gap).0, ["2026-03-08T07:00:00.000Z", "2026-03-09T06:30:00.000Z"]);
    let every = ["@every 90s", "--from", "2026-03-07T12:00:07Z", "-n", "2"];
    assert_eq!(ask(&env, &every).0, ["2026-03-07T12:01:37.000Z", "2026-03-07T12:03:07.000Z"]);
    assert_eq!(ask(&env, &["@hourly"]).0.len(), 5);

    let (times, said) = ask(&env, &["*/45 * * * *", "--from", "2026-03-07T12:00:00Z", "-n", "1"]);
    assert_eq!(times, ["2026-03-07T12:45:00.000Z"]);
    assert!(said.contains("means 0 and 45 of every hour, not every 45 minutes"), "{said}");

    let shown = env.args([
        "schedule",
        "next",
        "@daily",
        "--timezone",
        "Europe/Berlin",
        "--from",
        "2026-03-28T12:00:00Z",
        "-n",
        "2",
    ]);
    assert_eq!(
        shown.ok().stdout,
        "NEXT                      LOCAL\n\
         2026-03-28T23:00:00.000Z  Sun 2026-03-29 00:00:00 +01:00\n\
         2026-03-29T22:00:00.000Z  Mon 2026-03-30 00:00:00 +02:00\n"
    );
    assert!(!env.path().join("home").exists(), "nothing was opened");
}
