//! What is left when a worker is killed with -9. The worker is this test binary, run once more.

use std::process::{Child, Command as Os, Stdio};

use super::*;
use crate::sys::procfs;

/// Tells the second process what to do, and where.
const ORDER: &str = "GOFLOW_TEST_ORDER";

/// Runs an ignored test of this file alone, in a process of its own.
fn in_own_process(test: &str, order: &str) -> Child {
    let exe = std::env::current_exe().expect("own path");
    let name = format!("exec::tests::sudden_death::{test}");
    let mut command = Os::new(exe);
    command.args(["--exact", &name, "--ignored", "--nocapture"]).env(ORDER, order);
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("starts")
}

#[tokio::test]
#[ignore = "run by the tests below in a process of its own"]
#[expect(clippy::disallowed_methods, reason = "the order comes from the test that started this process")]
async fn the_victim() {
    let order = std::env::var(ORDER).expect("started by a test below");
    let [containment, temp, script] = order.split('\n').collect::<Vec<_>>()[..] else { panic!("{order}") };
    let containment = if containment == "walk" { Containment::Walk } else { Containment::Cgroup };
    let context = Context::new(settings(containment, temp.as_ref(), Arc::new(NoLog)));
    let ended = perform(&Action::Command(sh(script)), &work("1"), &context, &CancellationToken::new()).await;
    panic!("the script ended: {ended:?}");
}

#[tokio::test]
async fn a_killed_workers_commands_die_and_what_they_started_is_swept() {
    for containment in [Containment::Cgroup, Containment::Walk] {
        let bench = Bench::new(containment);
        // What others have left beside our control group is not what is counted here.
        bench.context.sweep_stale().await.expect("swept");
        let (first, later) = (long_nap(), long_nap());
        let script = format!("setsid sleep {later} & sleep {later} & exec sleep {first}");
        let how = if containment == Containment::Walk { "walk" } else { "cgroup" };
        let order = [how, bench.temp.path().to_str().expect("utf-8"), &script].join("\n");
        let mut victim = in_own_process("the_victim", &order);
        until("all sleep", || sleepers(&first).len() + sleepers(&later).len() == 3).await;
        let alive = bench.context.sweep_stale().await.expect("swept");
        assert_eq!(alive, Swept::default(), "a living worker's commands are not stale");

        victim.kill().expect("killed");
        victim.wait().expect("reaped");
        until("its first process is gone", || sleepers(&first).is_empty()).await;
        assert_eq!(sleepers(&later).len(), 2, "the kernel ends only the first; else this test shows nothing");
        let swept = bench.context.sweep_stale().await.expect("swept");
        assert_eq!(sleepers(&later), [0; 0]);
        assert_eq!(swept.processes, 2);
        assert_eq!(bench.context.sweep_stale().await.expect("swept"), Swept::default());
        assert_eq!(std::fs::read_dir(bench.temp.path()).expect("read").count(), 0);
    }
}

#[tokio::test]
#[ignore = "run by the test below in a process of its own"]
#[expect(clippy::disallowed_methods, reason = "the order comes from the test that started this process")]
async fn the_only_parent() {
    std::env::var(ORDER).expect("started by the test below");
    let bench = Bench::with(Containment::Walk, Parentage::Sole, Duration::from_secs(5));
    let nap = long_nap();
    // A session of its own, nothing in the environment, its parent gone at once.
    let script = format!("(setsid env -i sleep {nap} &); (setsid env -i true &); sleep 0.2");
    let ended = bench.run(sh(&script), work("1")).await;
    assert_eq!(ended, Ended::Outcome(Outcome::Completed { result: None }));
    assert_eq!(sleepers(&nap), [0; 0]);
    let own = std::process::id() as i32;
    let children: Vec<_> = procfs::all().expect("/proc").into_iter().filter(|one| one.parent == own).collect();
    assert_eq!(children, [], "no zombie is left");
}

#[tokio::test]
async fn a_worker_that_is_the_only_parent_ends_and_reaps_every_stray() {
    let mut child = in_own_process("the_only_parent", "go");
    let status = tokio::task::spawn_blocking(move || child.wait()).await.expect("no panic").expect("a status");
    assert!(status.success(), "{status}");
}
