//! The views by number and name, and what each is a list of. Knows nothing of their content.

use serde::{Deserialize, Serialize};

/// A kind of page. Those with a number are tabs of the second line; the others are opened from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum View {
    Overview,
    Queues,
    Jobs,
    Runs,
    Workers,
    Schedules,
    /// What is dead, by what it died of.
    Dlq,
    Events,
    /// Only of a store that has several.
    Shards,
    /// One job.
    Job,
    /// One run.
    Run,
}

impl View {
    /// Every view.
    pub const ALL: &[View] = &[
        View::Overview,
        View::Queues,
        View::Jobs,
        View::Runs,
        View::Workers,
        View::Schedules,
        View::Dlq,
        View::Events,
        View::Shards,
        View::Job,
        View::Run,
    ];
    /// Those on the second line, in their order.
    pub const TABS: &[View] = &[
        View::Overview,
        View::Queues,
        View::Jobs,
        View::Runs,
        View::Workers,
        View::Schedules,
        View::Dlq,
        View::Events,
        View::Shards,
    ];

    /// Whether there is such a view of a store: shards are shown where there are some.
    pub fn is_there(self, sharded: bool) -> bool {
        sharded || self != View::Shards
    }

    /// Its key; the numbers stay the same whichever views there are.
    pub fn number(self) -> Option<char> {
        Some(match self {
            View::Overview => '1',
            View::Queues => '2',
            View::Jobs => '3',
            View::Runs => '4',
            View::Workers => '5',
            View::Schedules => '6',
            View::Dlq => '7',
            View::Events => '8',
            View::Shards => '9',
            View::Job | View::Run => return None,
        })
    }

    pub fn title(self) -> &'static str {
        match self {
            View::Overview => "Overview",
            View::Queues => "Queues",
            View::Jobs => "Jobs",
            View::Runs => "Runs",
            View::Workers => "Workers",
            View::Schedules => "Schedules",
            View::Dlq => "DLQ",
            View::Events => "Events",
            View::Shards => "Shards",
            View::Job => "Job",
            View::Run => "Run",
        }
    }

    /// What a row of it is called; none for a view that is no list.
    pub fn noun(self) -> Option<&'static str> {
        match self {
            View::Queues | View::Overview => Some("queue"),
            View::Jobs => Some("job"),
            View::Runs => Some("run"),
            View::Workers => Some("worker"),
            View::Schedules => Some("schedule"),
            View::Dlq => Some("group"),
            View::Events => Some("event"),
            View::Shards => Some("shard"),
            View::Job | View::Run => None,
        }
    }

    /// The tab of this name, as in `goflow top jobs`.
    pub fn named(word: &str) -> Option<View> {
        View::TABS.iter().copied().find(|view| view.title().eq_ignore_ascii_case(word))
    }
}
