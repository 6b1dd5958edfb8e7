//! `goflow top` in a real terminal: tmux gives it one, types, and tells what is on the screen. Each
//! script ends with the terminal as it was, told by `stty -g` and by the shell that goes on in it.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::TestEnvironment;

/// How long something may take to be seen on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal of its own, with a shell in it.
pub struct Pane {
    socket: PathBuf,
}

impl Pane {
    /// A shell in the test's place, in a terminal of this size.
    pub fn open(env: &TestEnvironment, columns: u16, rows: u16) -> Pane {
        // A server that has just ended may still hold its socket: each has its own.
        static OPENED: AtomicUsize = AtomicUsize::new(0);
        let nth = OPENED.fetch_add(1, Ordering::Relaxed);
        let pane = Pane { socket: env.path().join(format!("tmux{nth}")) };
        let command = env.command([""; 0]);
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(&pane.socket).args(["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &rows]);
        tmux.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        tmux.env("SHELL", "/bin/sh").env("PS1", "$ ").env("TERM", "screen").env_remove("COLUMNS");
        let output = tmux.arg("sh").current_dir(env.path()).output().expect("tmux runs: Debian's package tmux");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        pane
    }

    fn tmux(&self, args: &[&str]) -> Output {
        Command::new("tmux").arg("-S").arg(&self.socket).args(args).output().expect("tmux runs")
    }

    /// Makes the terminal as large as this.
    pub fn resize(&self, columns: usize, rows: u16) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        self.tmux(&["resize-window", "-x", &columns, "-y", &rows]);
    }

    /// Types text as it is.
    pub fn types(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Presses keys by tmux's names for them.
    pub fn press(&self, keys: &[&str]) {
        let mut args = vec!["send-keys"];
        args.extend(keys);
        self.tmux(&args);
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.tmux(&["capture-pane", "-p"]).stdout).into_owned()
    }

    /// What the terminal was told to call itself.
    pub fn title(&self) -> String {
        String::from_utf8_lossy(&self.tmux(&["display-message", "-p", "#{pane_title}"]).stdout).trim().to_owned()
    }

    /// Waits until the screen is as wanted.
    #[track_caller]
    pub fn sees(&self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if is_there(&screen) {
                return screen;
            }
            assert!(Instant::now() < until, "{what} was not seen:\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    #[track_caller]
    pub fn shows(&self, text: &str) -> String {
        self.sees(text, |screen| screen.contains(text))
    }

    /// Runs a line in the shell between two looks at the terminal's settings.
    pub fn console(&self, arguments: &str) {
        let binary = env!("CARGO_BIN_EXE_goflow");
        // The line itself may be broken anywhere, and must not look like what it prints.
        self.types(&format!(
            "stty -g > before; {binary} top {arguments}; echo \"ended $?\"; stty -g > after; echo o\"\"ver\n"
        ));
    }

    /// The console has ended with this, and the terminal is as it was.
    #[track_caller]
    pub fn ended(&self, env: &TestEnvironment, code: u8) -> String {
        let screen = self.sees("the end", |screen| screen.lines().any(|line| line == "over"));
        assert!(screen.contains(&format!("ended {code}")), "{screen}");
        let read = |name: &str| std::fs::read_to_string(env.path().join(name)).expect("stty wrote it");
        assert_eq!(read("before"), read("after"));
        // What is typed is seen again: it is the shell's screen, not that of the console.
        self.types("echo a\"\"b\n");
        self.sees("the shell", |screen| screen.lines().any(|line| line == "ab"))
    }
}

impl Drop for Pane {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// Two queues with jobs that wait and one that died.
fn with_work(env: &TestEnvironment) {
    env.feed("enqueue noop -q mail --text-lines", "a\nb\nc\n").ok();
    env.feed("enqueue fail -q reports --lines", "{\"message\": \"time-out\", \"retry\": false}\n").ok();
    env.run("worker -q reports --until-empty").ok();
}

#[test]
fn it_shows_the_queues_and_goes_by_q() {
    let env = TestEnvironment::new();
    with_work(&env);
    let pane = Pane::open(&env, 80, 24);
    pane.console("");
    let screen = pane.shows("LATEST FAILURES");
    assert!(screen.contains("1 Overview  2 Queues") && screen.contains("live 1s"), "{screen}");
    pane.shows("time-out");
    pane.press(&["Escape"]);
    pane.types("2");
    pane.shows("2 queues");
    pane.types("q");
    pane.ended(&env, 0);
}

#[test]
fn a_key_that_comes_with_a_new_size_does_not_wait_for_the_next_key() {
    let env = TestEnvironment::new();
    with_work(&env);
    let pane = Pane::open(&env, 100, 30);
    pane.console("");
    pane.shows("LATEST FAILURES");
    for (columns, (key, there)) in (101..).zip([("2", "2 queues"), ("1", "LATEST FAILURES")].repeat(8)) {
        pane.tmux(&["resize-window", "-x", &columns.to_string(), ";", "send-keys", "-l", key]);
        pane.shows(there);
    }
    pane.types("q");
    pane.ended(&env, 0);
}

#[test]
fn ctrl_c_ends_it_whatever_is_open() {
    let env = TestEnvironment::new();
    with_work(&env);
    let pane = Pane::open(&env, 100, 30);
    pane.console("jobs");
    pane.shows("1 of 4");
    pane.types("/type:no");
    pane.press(&["C-c"]);
    pane.ended(&env, 0);
}

#[test]
fn a_queue_is_paused_and_the_command_line_sees_it() {
    let env = TestEnvironment::new();
    with_work(&env);
    let pane = Pane::open(&env, 100, 30);
    pane.console("queues");
    pane.shows("2 queues");
    pane.types("p");
    pane.shows("paused 1 queue · goflow queue pause mail");
    pane.shows("‖ paused");
    assert_eq!(env.run("queue stats mail -o json").ok().json()[0]["paused"], true);
    pane.types("p");
    pane.shows("resumed 1 queue · goflow queue resume mail");
    assert_eq!(env.run("queue stats mail -o json").ok().json()[0]["paused"], false);
    pane.types("q");
    pane.ended(&env, 0);
}

#[test]
fn a_dead_job_is_retried_and_others_are_cancelled_after_a_question() {
    let env = TestEnvironment::new();
    with_work(&env);
    let pane = Pane::open(&env, 120, 40);
    pane.console("jobs");
    pane.shows("1 of 4");
    pane.types("/state:dead");
    pane.sees("one row", |screen| screen.contains("■ dead") && !screen.contains("○ pending"));
    pane.press(&["Enter"]);
    pane.types("r");
    pane.shows("retried 1 job · goflow job retry ");
    assert_eq!(env.run("job list -s pending -q reports -o name").ok().stdout.lines().count(), 1);
    pane.press(&["Escape"]);
    // The cursor is still on it, wherever it is among all.
    pane.shows(" of 4");
    pane.types("/queue:mail");
    pane.press(&["Enter"]);
    pane.sees("three rows", |screen| screen.contains("of 3"));
    pane.types("*x");
    pane.shows("would cancel 3 jobs");
    // Cancel has the focus: Enter does nothing.
    pane.press(&["Enter"]);
    pane.sees("no question", |screen| !screen.contains("Sure?"));
    assert_eq!(env.run("job list -s pending -q mail -o name").ok().stdout.lines().count(), 3);
    pane.types("x");
    pane.shows("would cancel 3 jobs");
    pane.press(&["Tab", "Enter"]);
    pane.shows("cancelled 3 jobs · goflow job cancel --where queue:mail");
    assert_eq!(env.run("job list -s cancelled -q mail -o name").ok().stdout.lines().count(), 3);
    pane.press(&["C-c"]);
    pane.ended(&env, 0);
}

#[test]
fn a_payload_is_edited_and_enqueued() {
    let mut env = TestEnvironment::new();
    with_work(&env);
    env.set("EDITOR", "sed -i s/a/changed/");
    let pane = Pane::open(&env, 100, 30);
    pane.console("jobs");
    pane.shows("1 of 4");
    pane.types("/queue:mail");
    pane.press(&["Enter"]);
    pane.sees("three rows", |screen| screen.contains("of 3"));
    pane.types("e");
    pane.shows("enqueued job ");
    let payloads = env.run("job list -q mail -o json").ok().stdout;
    assert!(payloads.contains("\"changed\"") && payloads.contains("\"a\""), "{payloads}");
    // The keys are ours again after the editor.
    pane.types("?");
    pane.shows("Keys in Jobs");
    pane.press(&["Escape"]);
    pane.types("q");
    pane.ended(&env, 0);
}

#[test]
fn term_and_hangup_leave_the_terminal_as_it_was() {
    let env = TestEnvironment::new();
    with_work(&env);
    for signal in ["TERM", "HUP"] {
        let pane = Pane::open(&env, 80, 24);
        // The number of the console's own process, from the shell that it takes the place of.
        let binary = env!("CARGO_BIN_EXE_goflow");
        pane.types(&format!(
            "stty -g > before; sh -c 'echo $$ > number; exec {binary} top'; echo \"ended $?\"; stty -g > after; echo o\"\"ver\n"
        ));
        pane.shows("LATEST FAILURES");
        let number = std::fs::read_to_string(env.path().join("number")).expect("its number");
        let killed = Command::new("kill").args(["-s", signal, number.trim()]).status().expect("kill runs");
        assert!(killed.success());
        pane.ended(&env, 0);
    }
}

#[test]
fn it_is_suspended_by_ctrl_z_and_comes_back() {
    let env = TestEnvironment::new();
    with_work(&env);
    let pane = Pane::open(&env, 80, 24);
    pane.types("set -m; stty -g > before\n");
    pane.types(&format!("{} top\n", env!("CARGO_BIN_EXE_goflow")));
    pane.shows("LATEST FAILURES");
    pane.press(&["C-z"]);
    pane.sees("the shell", |screen| screen.contains("Stopped"));
    pane.types("stty -g > after; cmp before after && echo sa\"\"me\n");
    pane.shows("same");
    pane.types("fg\n");
    pane.shows("LATEST FAILURES");
    pane.types("2");
    pane.shows("2 queues");
    pane.types("q");
    pane.sees("the shell", |screen| !screen.contains("2 queues"));
    pane.types("stty -g > after; cmp before after && echo ag\"\"ain\n");
    pane.shows("again");
}

#[test]
fn the_screen_may_change_its_size() {
    let env = TestEnvironment::new();
    with_work(&env);
    let pane = Pane::open(&env, 80, 24);
    pane.console("jobs");
    pane.shows("1 of 4");
    pane.tmux(&["resize-window", "-x", "140", "-y", "40"]);
    pane.shows("PAYLOAD");
    pane.tmux(&["resize-window", "-x", "50", "-y", "10"]);
    pane.shows("goflow top needs 60x12");
    pane.tmux(&["resize-window", "-x", "80", "-y", "24"]);
    pane.shows("1 of 4");
    pane.types("q");
    pane.ended(&env, 0);
}

#[test]
fn read_only_changes_nothing_and_says_so() {
    let env = TestEnvironment::new();
    with_work(&env);
    let pane = Pane::open(&env, 80, 24);
    pane.console("queues --read-only");
    pane.shows("read-only");
    pane.shows("2 queues");
    pane.types("p");
    pane.shows("pause did nothing: read-only");
    assert_eq!(env.run("queue stats mail -o json").ok().json()[0]["paused"], false);
    pane.types("q");
    pane.ended(&env, 0);
}

#[test]
fn a_session_is_kept_and_shown_again_without_its_store() {
    use std::os::unix::fs::PermissionsExt;
    let env = TestEnvironment::new();
    with_work(&env);
    let pane = Pane::open(&env, 100, 24);
    pane.console("queues --record session.jsonl");
    pane.shows("2 queues");
    pane.types("q");
    pane.ended(&env, 0);
    drop(pane);
    let kept = std::fs::metadata(env.path().join("session.jsonl")).expect("the session");
    assert_eq!(kept.permissions().mode() & 0o777, 0o600, "payloads are for their owner");
    let pane = Pane::open(&env, 100, 24);
    pane.console("queues --replay session.jsonl --store redis://127.0.0.1:1");
    pane.shows("2 queues");
    pane.shows("a recording");
    pane.types("p");
    pane.shows("pause did nothing: this is a recording");
    pane.types("5");
    pane.shows("the recording has no workers");
    pane.types("q");
    pane.ended(&env, 0);
    drop(pane);
    let pane = Pane::open(&env, 100, 24);
    pane.console("--record session.jsonl");
    // One that is there is never written over.
    assert!(pane.ended(&env, 2).contains("[GF0015]"));
}

#[test]
fn what_jobs_hold_does_not_disturb_the_screen() {
    let env = TestEnvironment::new();
    let hostile = format!("\"\\u001b[2J\\u001b]0;owned\\u0007\\u202e{}\"", "漢字e\u{301}".repeat(50_000));
    env.feed("enqueue fail -q mail --lines", format!("{{\"message\": {hostile}, \"retry\": false}}\n")).ok();
    env.run("worker --until-empty").ok();
    let pane = Pane::open(&env, 120, 40);
    pane.console("jobs");
    let screen = pane.shows("owned");
    assert!(screen.contains("1 Overview") && screen.contains("\\u{1b}[2J"), "{screen}");
    pane.press(&["Enter"]);
    // The pane beside the list shows the error too: only the page has this trail, and its payload with it.
    pane.shows("Jobs › Job");
    pane.shows("PAYLOAD");
    pane.types("y");
    pane.shows("JSON");
    pane.press(&["C-c"]);
    pane.ended(&env, 0);
}

#[test]
fn a_store_that_cannot_be_opened_is_told_on_the_terminal_as_it_was() {
    let env = TestEnvironment::new();
    let pane = Pane::open(&env, 100, 24);
    pane.console("--store redis://127.0.0.1:1");
    let screen = pane.ended(&env, 5);
    assert!(screen.contains("[GF0005]"), "{screen}");
}

#[test]
fn without_a_terminal_it_names_the_frame_that_needs_none() {
    let env = TestEnvironment::new();
    with_work(&env);
    let refused = env.run("top");
    assert_eq!(refused.status, Some(2));
    assert!(refused.stderr.contains("--once") && refused.stderr.contains("[GF0051]"), "{}", refused.text());
    let once = env.run("top --once").ok();
    assert!(once.stdout.contains("LATEST FAILURES") && once.stdout.contains("time-out"), "{}", once.stdout);
    assert!(!once.stdout.contains('\u{1b}') && once.stderr.is_empty(), "{}", once.text());
    let jobs = env.run("top jobs --once").ok();
    assert!(jobs.stdout.contains("■ dead") && jobs.stdout.contains("1 of 4"), "{}", jobs.stdout);
    let wrong = env.run("top job --once");
    assert_eq!(wrong.status, Some(2));
    assert!(wrong.stderr.contains("did you mean `jobs`?"), "{}", wrong.text());
    let often = env.run("top --once --interval 1ms");
    assert!(often.status == Some(2) && often.stderr.contains("250ms"), "{}", often.text());
}
