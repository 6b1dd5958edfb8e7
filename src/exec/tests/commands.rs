//! One command: what it sees, what it may do with its pipes, what its end means.

use super::*;

/// Every kind of text that has ever become code somewhere.
const HOSTILE: &str =
    "-rf $(id) `id` ; & | ' \" \\ * ~ \n\t\r %s %n ${{ 7*7 }} {{x}} \u{1b}[31m \u{202e}abc \u{200b} é漢🦀 ${HOME}";

#[tokio::test]
async fn hostile_text_arrives_byte_for_byte() {
    let bench = Bench::new(Containment::Cgroup);
    let payload = Json::string(HOSTILE);
    let script = r#"printf '%s\0%s\0' "$1" "$DATA"; cat"#;
    let command = Command { env: vec![("DATA".into(), HOSTILE.into())], ..argv(["sh", "-c", script, "sh", HOSTILE]) };
    let ended = bench.run(command, work(payload.as_str())).await;
    assert_eq!(ended, Ended::Outcome(Outcome::Completed { result: None }));
    let expected = format!("{HOSTILE}\0{HOSTILE}\0{payload}");
    assert_eq!(String::from_utf8(bench.sink.stream(Stream::Stdout)).expect("utf-8"), expected);
}

#[tokio::test]
async fn an_argument_that_looks_like_an_option_stays_one_argument() {
    let bench = Bench::new(Containment::Cgroup);
    let count = text(argv(["sh", "-c", "echo $#", "sh", "-rf", "a b", "", "*"]));
    assert_eq!(bench.result(count, work("1")).await, "4");
}

#[tokio::test]
async fn the_environment_is_what_is_declared() {
    let bench = Bench::new(Containment::Cgroup);
    let run = RunId::from_parts(Ms(1), Shard(0), 9);
    let job = Work { run: Some(run), step_key: Some("r/charge".into()), ..work("1") };
    let id = job.job.to_string();
    let command = Command {
        env: [("LANG", "C"), ("GOFLOW_EPOCH", "0")].map(|(n, v)| (n.into(), v.into())).into(),
        ..argv(["/usr/bin/env"])
    };
    let value = bench.result(text(command), job).await;
    let lines: BTreeMap<&str, &str> =
        value.as_str().expect("text").lines().filter_map(|line| line.split_once('=')).collect();
    let output = lines.get("GOFLOW_OUTPUT").copied().expect("GOFLOW_OUTPUT");
    assert!(output.starts_with(bench.temp.path().to_str().expect("utf-8")), "{output}");
    let run = run.to_string();
    let expected = [
        ("GOFLOW_ATTEMPT", "2"),
        ("GOFLOW_EPOCH", "41"),
        ("GOFLOW_JOB_ID", &id),
        ("GOFLOW_JOB_TYPE", "send_email"),
        ("GOFLOW_OUTPUT", output),
        ("GOFLOW_QUEUE", "mail"),
        ("GOFLOW_RUN_ID", &run),
        ("GOFLOW_STEP_KEY", "r/charge"),
        ("HOME", "/nowhere"),
        ("LANG", "C"),
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ];
    assert_eq!(lines, expected.into_iter().collect());
}

#[tokio::test]
async fn outside_a_run_its_variables_are_empty_but_set() {
    let bench = Bench::new(Containment::Cgroup);
    let value = bench.result(text(sh(r#"set -u; echo "<$GOFLOW_RUN_ID$GOFLOW_STEP_KEY>""#)), work("1")).await;
    assert_eq!(value, "<>");
}

#[tokio::test]
async fn input_that_nobody_reads_neither_fails_nor_hangs() {
    let bench = Bench::new(Containment::Cgroup);
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    for script in ["exit 0", "exec 0<&-; exit 0", "head -c 1 > /dev/null"] {
        let ended = bench.run(sh(script), work(&large)).await;
        assert_eq!(ended, Ended::Outcome(Outcome::Completed { result: None }), "{script}");
    }
    let length = bench.result(text(sh("wc -c")), work(&large)).await;
    assert_eq!(length.as_str().map(str::trim), Some(large.len().to_string().as_str()));
}

#[tokio::test]
async fn exit_codes_mean_what_sysexits_says() {
    let bench = Bench::new(Containment::Cgroup);
    let cases = [(1, RetryHint::Policy), (65, RetryHint::Never), (75, RetryHint::Uncounted), (255, RetryHint::Policy)];
    for (code, hint) in cases {
        let (error, retry) = bench.failure(sh(&format!("echo out; echo why >&2; exit {code}")), work("1")).await;
        assert_eq!((error.class, retry), (format!("exit:{code}"), hint));
        assert_eq!(error.message, format!("exit status {code}: why"));
    }
    let (error, _) = bench.failure(sh("kill -9 $$"), work("1")).await;
    assert_eq!((error.class.as_str(), error.message.as_str()), ("signal:9", "killed by SIGKILL (out of memory?)"));
}

#[tokio::test]
async fn a_program_that_cannot_start_says_why_and_what_to_do() {
    let bench = Bench::new(Containment::Cgroup);
    let folder = tempfile::tempdir().expect("temp folder");
    let place = |name: &str| folder.path().join(name).to_str().expect("utf-8").to_owned();
    std::fs::write(place("plain"), "x").expect("written");
    std::fs::write(place("script"), "#!/no/such/interpreter\n").expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place("script"), mode).expect("chmod");
    let huge = "x".repeat(200 << 10);
    let cases = [
        (argv(["no-such-program"]), "`no-such-program` was not found in PATH", RetryHint::Policy),
        (argv(["/no/such/program"]), "`/no/such/program` does not exist", RetryHint::Policy),
        (argv([&place("plain")]), "is not executable", RetryHint::Policy),
        (argv([&place("script")]), "interpreter", RetryHint::Policy),
        (argv(["true", &huge]), "too large", RetryHint::Never),
        (argv(["true", "a\0b"]), "argument 1 holds a NUL byte", RetryHint::Never),
        (argv([]), "names no program", RetryHint::Never),
    ];
    for (command, part, hint) in cases {
        let (error, retry) = bench.failure(command, work("1")).await;
        assert_eq!((error.class.as_str(), retry), ("spawn", hint), "{error}");
        assert!(error.message.contains(part) && !error.message.contains('\n'), "{error}");
    }
}

#[tokio::test]
async fn a_program_is_looked_for_in_the_commands_own_path() {
    let bench = Bench::new(Containment::Cgroup);
    let folder = tempfile::tempdir().expect("temp folder");
    std::os::unix::fs::symlink("/bin/echo", folder.path().join("only-here")).expect("linked");
    let path = folder.path().to_str().expect("utf-8").to_owned();
    let command = Command { env: vec![("PATH".into(), path)], ..argv(["only-here", "found"]) };
    assert_eq!(bench.result(text(command), work("1")).await, "found");
}

#[tokio::test]
async fn each_kind_of_output_makes_its_result() {
    let bench = Bench::new(Containment::Cgroup);
    let json = Command { outputs: Some(Outputs::Json), ..sh("echo '{\"a\": [1.50]}'") };
    assert_eq!(bench.result(json, work("1")).await, serde_json::json!({"a": [1.5]}));
    let names = Some(Outputs::Names(vec!["tracking".into(), "note".into()]));
    let script = "echo tracking=T1 >> \"$GOFLOW_OUTPUT\"; printf 'note<<E\\na\\nb\\nE\\n' >> \"$GOFLOW_OUTPUT\"";
    let named = Command { outputs: names.clone(), ..sh(script) };
    assert_eq!(bench.result(named, work("1")).await, serde_json::json!({"tracking": "T1", "note": "a\nb"}));
    let cases = [
        (Command { outputs: names.clone(), ..sh("echo tracking=1 >> \"$GOFLOW_OUTPUT\"") }, "`note` was not written"),
        (Command { outputs: names.clone(), ..sh("rm \"$GOFLOW_OUTPUT\"") }, "cannot be read"),
        (Command { outputs: names, ..sh("rm \"$GOFLOW_OUTPUT\"; mkfifo \"$GOFLOW_OUTPUT\"") }, "no longer a file"),
        (Command { outputs: Some(Outputs::Json), ..sh("echo hello") }, "not one JSON value"),
        (text(sh("head -c 300000 /dev/zero | tr '\\0' x")), "stdout is 293.0 KiB as JSON"),
    ];
    for (command, part) in cases {
        let (error, retry) = bench.failure(command, work("1")).await;
        assert_eq!((error.class.as_str(), retry), ("output", RetryHint::Never), "{error}");
        assert!(error.message.contains(part), "{error}");
    }
}

#[tokio::test]
async fn output_is_streamed_whole_and_kept_in_part() {
    let bench = Bench::new(Containment::Cgroup);
    let script = "seq 1 400000; seq 1 400000 | sed s/^/e/ >&2";
    bench.run(sh(script), work("1")).await;
    let expected: String = (1..=400_000).map(|n| format!("{n}\n")).collect();
    assert!(bench.sink.stream(Stream::Stdout) == expected.as_bytes());
    let captured = bench.sink.captured.lock().expect("lock");
    let stdout = &captured[&Stream::Stdout];
    assert!(stdout.truncated());
    assert_eq!(stdout.total(), expected.len() as u64);
    let (head, tail) = stdout.parts();
    assert!(expected.as_bytes().starts_with(&head) && expected.as_bytes().ends_with(&tail));
    let kept: usize = captured.values().map(|one| one.parts().0.len() + one.parts().1.len()).sum();
    assert_eq!(kept, crate::domain::limits::OUTPUT_BYTES);
}

#[tokio::test]
async fn a_time_out_ends_it_and_quotes_its_last_words() {
    let bench = Bench::new(Containment::Cgroup);
    let nap = long_nap();
    let script = format!("trap 'echo last words >&2; exit 0' TERM; sleep {nap} & wait");
    let job = Work { timeout: Some(Duration::from_millis(300)), ..work("1") };
    let (error, retry) = bench.failure(sh(&script), job).await;
    assert_eq!((error.class.as_str(), retry), ("timeout", RetryHint::Policy));
    assert!(error.message.starts_with("timed out after 300ms: ") && error.message.contains("last words"), "{error}");
    assert!(sleepers(&nap).is_empty());
}

#[tokio::test]
async fn told_to_stop_beforehand_nothing_starts() {
    let bench = Bench::new(Containment::Cgroup);
    bench.stop.cancel();
    let witness = bench.temp.path().join("witness");
    assert_eq!(bench.run(sh(&format!("touch {}", witness.display())), work("1")).await, Ended::Stopped);
    assert!(!witness.exists());
}

#[tokio::test]
async fn nothing_is_left_in_the_temp_folder() {
    let bench = Bench::new(Containment::Cgroup);
    bench.run(sh("echo a=1 > \"$GOFLOW_OUTPUT\""), work("1")).await;
    let folders = || std::fs::read_dir(bench.temp.path()).expect("read").flatten().collect::<Vec<_>>();
    let made = folders();
    assert_eq!(made.len(), 1, "one folder for the worker");
    assert_eq!(std::fs::read_dir(made[0].path()).expect("read").count(), 0, "each command's file is gone");
    let Bench { context, .. } = &bench;
    assert_eq!(Arc::strong_count(context), 1);
    let Bench { context, temp, .. } = bench;
    drop(context);
    assert_eq!(std::fs::read_dir(temp.path()).expect("read").count(), 0);
}
