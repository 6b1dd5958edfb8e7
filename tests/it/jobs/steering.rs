//! What an operator tells a run holds from the answer on, whether a worker lives or not.

use std::time::Duration;

use serde_json::Value;

use super::*;

on_every_store! {
    a_cancelled_run_starts_nothing_that_waited
    a_paused_run_starts_nothing_until_it_is_resumed
    what_a_worker_runs_is_paused_and_goes_on
    an_approval_is_answered_once
    a_run_whose_time_is_over_starts_nothing
}

// Over several stores, of which each run has one.
on_store! { shards:
    a_cancelled_run_starts_nothing_that_waited
    a_paused_run_starts_nothing_until_it_is_resumed
    what_a_worker_runs_is_paused_and_goes_on
}
on_store! { mixed: an_approval_is_answered_once }

const LIMIT: Duration = Duration::from_secs(60);

/// Waits in its line with thirty items, a run that it calls and a step that nobody may run.
const PAYS: &str = "
name: pays
steps:
  - {id: pay, job: touch}
  - {id: all, foreach: {items: '[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30]'}, job: touch}
  - {id: sub, call: called}
---
name: called
steps: [{id: inner, job: touch}]
---
name: holds
steps:
  - {id: all, foreach: {items: '[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30]'}, job: hold}
---
name: asks
steps: [{id: ok, approval: {}}, {id: pay, needs: [ok], job: touch}]
---
name: hurried
timeout: 1s
steps: [{id: pay, job: touch}]
";

fn begun(site: &Site, workflow: &str) -> String {
    site.env.file("pays.yaml", PAYS);
    site.env.file("witness", "");
    site.env.run("apply pays.yaml").ok();
    site.env.run(&format!("workflow start {workflow}")).ok().line().to_owned()
}

fn run_of(site: &Site, id: &str) -> Value {
    site.env.run(&format!("workflow show {id} -o json")).ok().json()
}

fn starts(site: &Site) -> usize {
    witness(site).iter().filter(|seen| seen.begins).count()
}

fn a_cancelled_run_starts_nothing_that_waited(site: &Site) {
    let id = begun(site, "pays");
    site.env.run(&format!("workflow cancel {id}")).ok();
    // Nobody runs anything of it: so it is over, and so is the run that it has called.
    let all = site.env.run("workflow list -o json -n 0").ok().json();
    let states: Vec<&Value> = all.as_array().expect("a list").iter().map(|run| &run["state"]).collect();
    assert_eq!(states, ["cancelled", "cancelled"], "{all}");
    let again = site.env.run(&format!("workflow cancel {id}"));
    assert!(again.status == Some(4) && again.stderr.contains("is cancelled"), "{}", again.text());
    site.env.run("worker --until-empty").ok();
    assert_eq!((starts(site), &run_of(site, &id)["state"]), (0, &"cancelled".into()));
    site.verify();
}

fn a_paused_run_starts_nothing_until_it_is_resumed(site: &Site) {
    let id = begun(site, "pays");
    site.env.run(&format!("workflow pause {id}")).ok();
    assert_eq!(run_of(site, &id)["state"], "paused");
    site.env.run("worker --until-empty").ok();
    assert_eq!((starts(site), &run_of(site, &id)["state"]), (0, &"paused".into()));
    site.env.run(&format!("workflow resume {id}")).ok();
    assert_eq!(run_of(site, &id)["state"], "running");
    site.env.run("worker --until-empty").ok();
    assert_eq!((starts(site), &run_of(site, &id)["state"]), (32, &"completed".into()));
    site.verify();
}

fn what_a_worker_runs_is_paused_and_goes_on(site: &Site) {
    let id = begun(site, "holds");
    let _worker = site.start("worker", "worker -c 2");
    site.wait("some run", LIMIT, || starts(site) >= 2);
    site.env.run(&format!("workflow pause {id}")).ok();
    // What had been leased goes on to its end.
    site.wait("nothing runs", LIMIT, || site.stats()["running"] == 0);
    let by_then = starts(site);
    assert!(by_then < 30, "nothing was left to be held up");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(starts(site), by_then);
    site.env.run(&format!("workflow resume {id}")).ok();
    site.wait("it goes on", LIMIT, || run_of(site, &id)["state"] == "completed");
    assert_eq!(starts(site), 30);
    site.verify();
}

fn an_approval_is_answered_once(site: &Site) {
    let id = begun(site, "asks");
    site.env.run(&format!("workflow approve {id} --by ann")).ok();
    let second = site.env.run(&format!("workflow reject {id} --by bob"));
    assert!(second.status == Some(4) && second.stderr.contains("waits for an approval"), "{}", second.text());
    site.env.run("worker --until-empty").ok();
    assert_eq!((starts(site), &run_of(site, &id)["state"]), (1, &"completed".into()));
}

fn a_run_whose_time_is_over_starts_nothing(site: &Site) {
    let id = begun(site, "hurried");
    std::thread::sleep(Duration::from_millis(1_500));
    site.env.run("worker --until-empty").ok();
    let run = run_of(site, &id);
    assert_eq!((starts(site), &run["state"], &run["error"]["class"]), (0, &"failed".into(), &"timeout".into()));
    site.verify();
}
