//! The console over a store of several shards: they are seen, added, emptied and removed; one that is away or
//! that nobody works for is told of on the overview, and stops nothing else.

use super::TestEnvironment;
use super::console::Pane;
use crate::servers::redis::Server;

fn shards(env: &TestEnvironment) -> Vec<serde_json::Value> {
    env.run("shard list -o json").ok().json().as_array().cloned().expect("a list")
}

#[test]
fn a_shard_is_added_emptied_and_removed_from_the_keyboard() {
    let mut env = TestEnvironment::new();
    let url = |n: u32| format!("sqlite:{}", env.path().join(format!("{n}.db")).display());
    let urls = format!("{},{}", url(0), url(1));
    env.set("GOFLOW_STORE", &urls);
    env.feed("enqueue noop -q mail --lines", "1\n".repeat(60)).ok();
    let pane = Pane::open(&env, 120, 30);
    pane.console("");
    // Work waits on both, and nobody does it.
    pane.shows("shard 0 has no worker");
    pane.shows("shard 1 has no worker");
    pane.types("9");
    pane.shows("2 shards");
    let screen = pane.sees("the shards", |screen| screen.matches("● active").count() >= 2);
    assert!(screen.contains("WHAT LIES THERE") && screen.contains("no worker: "), "{screen}");
    pane.types("A");
    pane.shows("add an empty store as a shard");
    pane.types("nonsense");
    pane.press(&["Enter"]);
    pane.shows("nonsense` is not a store URL");
    pane.press(&["C-u", "Enter"]);
    pane.shows("added shard 2 · goflow scale --shards 3");
    pane.shows("3 shards");
    assert_eq!(shards(&env).len(), 3);
    pane.types("gj");
    pane.types("d");
    pane.shows("drain shard 1: it takes no new work");
    pane.press(&["Enter"]);
    pane.shows("nothing waits or runs on shard 1");
    pane.shows("went to shard 2");
    pane.shows("empty: D removes");
    let list = shards(&env);
    assert_eq!((&list[1]["state"], &list[1]["pending"]), (&"draining".into(), &0.into()), "{list:?}");
    pane.types("D");
    pane.shows("remove shard 1?");
    pane.press(&["Tab", "Enter"]);
    pane.shows("removed shard 1 · goflow shard remove 1");
    pane.shows("⊘ removed");
    let list = shards(&env);
    assert_eq!(list[1]["state"], "removed");
    assert_eq!(list.iter().map(|shard| shard["pending"].as_u64().unwrap_or(0)).sum::<u64>(), 60);
    // The last ones cannot both go, and the console says why.
    pane.types("gd");
    pane.press(&["Enter"]);
    pane.sees("why not", |screen| screen.contains("shard 0 keeps the documents of all"));
    pane.press(&["C-c"]);
    pane.ended(&env, 0);
    let filtered = env.run("shard list --where state:removed -o name").ok();
    assert_eq!(filtered.line(), "1");
}

#[test]
fn a_dead_shard_is_told_of_and_the_others_go_on() {
    let mut servers = [Server::start(&[]), Server::start(&[])];
    let mut env = TestEnvironment::new();
    env.set("GOFLOW_STORE", &format!("{},{}", servers[0].url(), servers[1].url()));
    env.feed("enqueue noop -q mail --lines", "1\n".repeat(40)).ok();
    let pane = Pane::open(&env, 120, 30);
    pane.console("shards");
    pane.shows("2 shards");
    servers[1].kill();
    let screen = pane.shows("✗ away");
    assert!(screen.contains("● active") && screen.contains("● live"), "{screen}");
    pane.types("1");
    pane.shows("shard 1 does not answer");
    // The line leads to the shard.
    pane.types("gj");
    pane.press(&["Enter"]);
    pane.shows("WHAT LAY THERE LAST");
    pane.types("3");
    pane.sees("jobs of the other", |screen| screen.contains("○ pending"));
    servers[1].revive();
    pane.types("9");
    pane.sees("both", |screen| screen.matches("● active").count() >= 2 && !screen.contains("✗ away"));
    pane.press(&["C-c"]);
    pane.ended(&env, 0);
}
