//! Process trees end whole, whatever they do to get away.

use super::*;

const BOTH: [Containment; 2] = [Containment::Cgroup, Containment::Walk];

/// Starts `script` (with `NAP` for the length of its sleeps), waits until `count` sleep, stops it,
/// and sees that none is left.
async fn stopped_leaves_nothing(bench: &Bench, script: &str, count: usize) {
    let nap = long_nap();
    let running = bench.start(sh(&script.replace("NAP", &nap)), work("1"));
    until("all sleep", || sleepers(&nap).len() == count).await;
    bench.stop.cancel();
    assert_eq!(running.await.expect("no panic"), Ended::Stopped);
    assert_eq!(sleepers(&nap), [0; 0], "{script}");
}

#[tokio::test]
async fn a_stopped_tree_ends_with_all_its_sessions() {
    for containment in BOTH {
        let bench = Bench::new(containment);
        stopped_leaves_nothing(&bench, "setsid sleep NAP & setsid sleep NAP & sleep NAP", 3).await;
    }
}

#[tokio::test]
async fn orphans_in_sessions_of_their_own_are_found() {
    for containment in BOTH {
        let bench = Bench::new(containment);
        let script = "(setsid sh -c '(setsid sleep NAP &) ; sleep NAP' &) ; (setsid sleep NAP &) ; sleep NAP";
        stopped_leaves_nothing(&bench, script, 4).await;
    }
}

#[tokio::test]
async fn what_ignores_term_is_killed_after_the_grace() {
    for containment in BOTH {
        let bench = Bench::with(containment, Parentage::Shared, Duration::from_millis(50));
        stopped_leaves_nothing(&bench, "trap '' TERM; setsid sleep NAP & sleep NAP; sleep NAP", 2).await;
    }
}

#[tokio::test]
async fn what_is_stopped_by_a_signal_hears_the_request_too() {
    for containment in BOTH {
        let bench = Bench::new(containment);
        let script = "sh -c \"trap 'echo bye; exit' TERM; kill -STOP \\$\\$\" & \
            until grep -q '^State:.T' /proc/$!/status; do :; done; sleep NAP";
        stopped_leaves_nothing(&bench, script, 1).await;
        assert_eq!(bench.sink.stream(Stream::Stdout), b"bye\n");
    }
}

#[tokio::test]
async fn what_a_command_leaves_behind_is_ended_and_told() {
    for containment in BOTH {
        let bench = Bench::new(containment);
        let nap = long_nap();
        // The sleeper holds stdout open: waiting for its end of file would take ten minutes.
        let script = format!("setsid sleep {nap} & echo done");
        assert_eq!(bench.result(text(sh(&script)), work("1")).await, "done");
        assert_eq!(sleepers(&nap), [0; 0]);
        assert_eq!(*bench.sink.notes.lock().expect("lock"), ["ended 1 process that the command left behind"]);
    }
}

#[tokio::test]
async fn a_tree_that_ends_spares_its_neighbours() {
    for containment in BOTH {
        let bench = Bench::with(containment, Parentage::Sole, Duration::from_secs(5));
        let (nap, other) = (long_nap(), long_nap());
        let neighbour =
            bench.start(sh(&format!("(setsid sleep {other} &); setsid sleep {other} & sleep {other}")), work("1"));
        until("the neighbour sleeps", || sleepers(&other).len() == 3).await;
        let before = sleepers(&other);
        let ended = bench.run(sh(&format!("(setsid sleep {nap} &)")), work("1")).await;
        assert_eq!(ended, Ended::Outcome(Outcome::Completed { result: None }));
        assert_eq!(sleepers(&nap), [0; 0]);
        assert_eq!(sleepers(&other), before);
        bench.stop.cancel();
        assert_eq!(neighbour.await.expect("no panic"), Ended::Stopped);
        assert_eq!(sleepers(&other), [0; 0]);
    }
}

#[tokio::test]
async fn a_dropped_future_takes_its_tree_along() {
    for containment in BOTH {
        let bench = Bench::new(containment);
        let nap = long_nap();
        let running = bench.start(sh(&format!("setsid sleep {nap} & sleep {nap}")), work("1"));
        until("both sleep", || sleepers(&nap).len() == 2).await;
        running.abort();
        assert!(running.await.expect_err("aborted").is_cancelled());
        until("the tree is gone", || sleepers(&nap).is_empty()).await;
    }
}

#[tokio::test]
async fn many_at_once_each_get_their_own_status() {
    for containment in BOTH {
        let bench = Bench::with(containment, Parentage::Sole, Duration::from_secs(5));
        let runs: Vec<_> = (0..20)
            .map(|n| bench.start(sh(&format!("(setsid true &); (setsid sh -c 'true & exit' &); exit {n}")), work("1")))
            .collect();
        for (n, run) in runs.into_iter().enumerate() {
            let ended = run.await.expect("no panic");
            match (n, ended) {
                (0, Ended::Outcome(Outcome::Completed { .. })) => {}
                (n, Ended::Outcome(Outcome::Failed { error, .. })) => assert_eq!(error.class, format!("exit:{n}")),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn where_a_group_refuses_the_child_the_walk_steps_in() {
    let bench = Bench::new(Containment::Cgroup);
    let place = bench.context.place().await.expect("temp folder");
    if let Some(home) = place.grounds.home() {
        // In a threaded group no group can take a process: cgroups(7).
        std::fs::write(home.join("cgroup.type"), "threaded").expect("ours");
    }
    let nap = long_nap();
    let ended = bench.run(sh(&format!("setsid sleep {nap} & exit 0")), work("1")).await;
    assert_eq!(ended, Ended::Outcome(Outcome::Completed { result: None }));
    assert_eq!(sleepers(&nap), [0; 0]);
    assert_eq!(bench.context.containment().await.expect("temp folder"), Containment::Walk);
}
