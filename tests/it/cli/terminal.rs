//! What only a terminal gets: questions, bars, colours, short ids. `script` (of Debian's bsdutils) gives
//! a command a pseudo-terminal; what it types is what is fed, and what it shows is what comes back.

use std::io::Write;
use std::process::Stdio;

use super::TestEnvironment;

/// Runs a line on a terminal with this typed in: its exit code, and everything it showed.
fn on_terminal(env: &TestEnvironment, line: &str, typed: &str) -> (Option<i32>, String) {
    let binary = env!("CARGO_BIN_EXE_goflow");
    let command = env.command([""; 0]);
    // The same place and environment, with another program.
    let mut script = std::process::Command::new("script");
    script.args(["-q", "-e", "-c", &format!("{binary} {line}"), "/dev/null"]).env_clear();
    script.env("SHELL", "/bin/sh").env("TERM", "xterm");
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script.current_dir(env.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = script.spawn().expect("script runs: it is part of Debian's bsdutils");
    let mut stdin = child.stdin.take().expect("standard input");
    let typed = typed.to_owned();
    let typist = std::thread::spawn(move || {
        // The command may end before it reads.
        let _ = stdin.write_all(typed.as_bytes());
        stdin
    });
    let output = child.wait_with_output().expect("it ends");
    drop(typist.join().expect("the typist ends"));
    (output.status.code(), String::from_utf8_lossy(&output.stdout).replace('\r', ""))
}

/// So many dead jobs.
fn with_dead(env: &TestEnvironment, n: usize) {
    let line = r#"{"message": "time-out", "retry": false}"#;
    env.feed("enqueue fail --lines", format!("{line}\n").repeat(n)).ok();
    env.run("worker -c 50 --until-empty").ok();
}

#[test]
fn a_question_has_no_as_its_default_and_yes_does_it() {
    let env = TestEnvironment::new();
    with_dead(&env, 3);
    for no in ["\n", "n\n", "yess\n", "\u{4}"] {
        let (status, shown) = on_terminal(&env, "dlq retry --all", no);
        assert_eq!(status, Some(1), "{no:?}: {shown}");
        assert!(shown.contains("retry 3 dead jobs? [y/N]") && shown.contains("nothing was changed"), "{shown}");
    }
    assert_eq!(env.run("dlq list -o name").ok().stdout.lines().count(), 3);
    let (status, shown) = on_terminal(&env, "dlq retry --all", "y\n");
    assert_eq!(status, Some(0), "{shown}");
    assert!(shown.contains("retried 3 jobs"), "{shown}");
}

#[test]
fn a_queue_is_purged_only_by_its_name() {
    let env = TestEnvironment::new();
    env.feed("enqueue noop -q mail --text-lines", "a\nb\n").ok();
    for wrong in ["y\n", "yes\n", "\n", "mai\n"] {
        let (status, shown) = on_terminal(&env, "queue purge mail", wrong);
        assert_eq!(status, Some(1), "{wrong:?}: {shown}");
        assert!(shown.contains("delete 2 jobs? type mail to do it:"), "{shown}");
    }
    assert_eq!(env.run("queue stats mail -o json").ok().json()[0]["pending"], 2);
    let (status, shown) = on_terminal(&env, "queue purge mail", "mail\n");
    assert_eq!(status, Some(0), "{shown}");
    assert!(shown.contains("deleted 2 jobs"), "{shown}");
    assert_eq!(env.run("queue stats mail -o json").ok().json()[0]["pending"], 0);
}

#[test]
fn a_bar_is_drawn_on_a_terminal_and_nowhere_else() {
    let mut env = TestEnvironment::new();
    with_dead(&env, 500);
    let (_, shown) = on_terminal(&env, "dlq retry --all --dry-run -o json", "");
    assert!(!shown.contains("jobs/s") && !shown.contains("█") && !shown.contains('\u{1b}'), "{shown}");
    let (status, shown) = on_terminal(&env, "dlq retry --all --yes", "");
    assert_eq!(status, Some(0), "{shown}");
    assert!(shown.contains("/500 jobs") && shown.contains(" left"), "{shown}");
    assert!(shown.trim_end().ends_with("retried 500 jobs"), "{shown}");
    env.run("worker -c 50 --until-empty").ok();
    let piped = env.run("dlq retry --all --yes").ok();
    assert_eq!((piped.line(), piped.stderr.as_str()), ("retried 500 jobs", ""));
    env.run("worker -c 50 --until-empty").ok();
    env.set("TERM", "dumb");
    let (_, shown) = on_terminal(&env, "dlq retry --all --yes", "");
    assert_eq!(shown.trim(), "retried 500 jobs");
}

#[test]
fn colours_glyphs_and_short_ids_are_for_terminals() {
    let mut env = TestEnvironment::new();
    let id = env.run("enqueue noop").ok().line().to_owned();
    with_dead(&env, 1);
    let (_, shown) = on_terminal(&env, "job list", "");
    assert!(shown.contains("\u{1b}[") && shown.contains("■ dead") && shown.contains("✓ completed"), "{shown}");
    assert!(shown.contains(&id[28..]) && !shown.contains(&id), "{shown}");
    let (_, help) = on_terminal(&env, "-h", "");
    assert!(help.contains("\u{1b}["), "{help}");
    env.set("NO_COLOR", "1");
    for line in ["job list", "-h", "job list -s nonsense"] {
        let (_, shown) = on_terminal(&env, line, "");
        assert!(!shown.contains('\u{1b}'), "{line}: {shown}");
    }
    let piped = env.run("job list").ok();
    assert!(piped.stdout.contains(&id) && !piped.stdout.contains('✓'), "{}", piped.stdout);
}
