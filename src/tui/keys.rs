//! The one table of keys: which key, what it does, in what words, and where it holds. The help, the
//! footer and the palette are read from it, so that none of them can forget a key.

use super::msg::{Code, Key, Verb};
use super::views::View;

/// What a key or a line of the palette asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    TabLeft,
    TabRight,
    Open,
    Back,
    Go(View),
    Palette,
    Filter,
    Problems,
    Sort,
    Reverse,
    Wide,
    Mark,
    MarkRange,
    MarkAll,
    Do(Verb),
    Edit,
    Logs,
    Follow,
    /// Back and forth in a run's history.
    Earlier,
    Later,
    /// By one answer of a recording.
    StepBack,
    StepOn,
    Raw,
    Copy,
    Freeze,
    Refresh,
    Slower,
    Faster,
    Theme,
    Help,
    Leave,
    Suspend,
    Quit,
}

impl Action {
    /// Shows another place, and does nothing else.
    pub fn moves(self) -> bool {
        use Action::{Down, First, Go, Last, PageDown, PageUp, TabLeft, TabRight, Up};
        matches!(self, Up | Down | PageUp | PageDown | First | Last | TabLeft | TabRight | Go(_))
    }

    /// Ends or suspends the console, whatever is open.
    pub fn ends(self) -> bool {
        matches!(self, Action::Quit | Action::Suspend)
    }
}

/// Where a binding holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    Everywhere,
    /// In these views.
    In(&'static [View]),
    /// In all views but these.
    But(&'static [View]),
    /// In those with a number.
    Tabs,
    /// In those but these.
    TabsBut(&'static [View]),
}

impl Holds {
    pub fn holds(self, view: View) -> bool {
        match self {
            Holds::Everywhere => true,
            Holds::In(views) => views.contains(&view),
            Holds::But(views) => !views.contains(&view),
            Holds::Tabs => View::TABS.contains(&view),
            Holds::TabsBut(views) => View::TABS.contains(&view) && !views.contains(&view),
        }
    }
}

/// Under which heading the help shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Move,
    Find,
    Act,
    Screen,
}

impl Group {
    pub const ALL: [Group; 4] = [Group::Act, Group::Find, Group::Move, Group::Screen];

    pub fn title(self) -> &'static str {
        match self {
            Group::Move => "Move",
            Group::Find => "Find",
            Group::Act => "Act",
            Group::Screen => "Screen",
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    pub keys: &'static [Key],
    pub action: Action,
    /// What it does, for the help and the palette.
    pub text: &'static str,
    /// One word for the footer; none if it is not shown there.
    pub foot: Option<&'static str>,
    pub group: Group,
    pub holds: Holds,
}

const fn c(c: char) -> Key {
    Key { code: Code::Char(c), ctrl: false }
}

const fn k(code: Code) -> Key {
    Key { code, ctrl: false }
}

const fn ctrl(c: char) -> Key {
    Key { code: Code::Char(c), ctrl: true }
}

const fn b(
    keys: &'static [Key],
    action: Action,
    text: &'static str,
    foot: Option<&'static str>,
    group: Group,
    holds: Holds,
) -> Binding {
    Binding { keys, action, text, foot, group, holds }
}

const OPENED: Holds = Holds::But(&[View::Job, View::Shards]);
const LISTS: Holds = Holds::Tabs;
const FILTERED: Holds = Holds::TabsBut(&[View::Overview]);
const MARKED: Holds = Holds::TabsBut(&[View::Overview, View::Events, View::Shards]);
const RETRIED: Holds = Holds::In(&[View::Overview, View::Jobs, View::Job, View::Runs, View::Run, View::Dlq]);
const CANCELLED: Holds = Holds::In(&[View::Jobs, View::Job, View::Runs, View::Run]);
const PAUSED: Holds = Holds::In(&[View::Overview, View::Queues, View::Runs, View::Run, View::Schedules]);
const DEAD: Holds = Holds::In(&[View::Jobs, View::Job, View::Dlq]);
const DELETED: Holds = Holds::In(&[View::Jobs, View::Job, View::Dlq, View::Shards]);
const ANSWERED: Holds = Holds::In(&[View::Overview, View::Runs, View::Run]);
const RUNS: Holds = Holds::In(&[View::Runs, View::Run]);
const RUN: Holds = Holds::In(&[View::Run]);
const LOGGED: Holds = Holds::In(&[View::Jobs, View::Job, View::Run]);
const RAW: Holds = Holds::But(&[View::Overview]);
const DRAINED: Holds = Holds::In(&[View::Workers, View::Shards]);
const SHARDS: Holds = Holds::In(&[View::Shards]);
const ALL: Holds = Holds::Everywhere;

use Group::{Act, Find, Move, Screen};

/// Every key there is.
pub const BINDINGS: &[Binding] = &[
    b(&[k(Code::Up), c('k')], Action::Up, "up", None, Move, ALL),
    b(&[k(Code::Down), c('j')], Action::Down, "down", None, Move, ALL),
    b(&[k(Code::PageUp), ctrl('b')], Action::PageUp, "a page up", None, Move, ALL),
    b(&[k(Code::PageDown), ctrl('f')], Action::PageDown, "a page down", None, Move, ALL),
    b(&[k(Code::Home), c('g')], Action::First, "to the first", None, Move, ALL),
    b(&[k(Code::End), c('G')], Action::Last, "to the last", None, Move, ALL),
    b(&[k(Code::Left), c('h'), k(Code::BackTab)], Action::TabLeft, "the tab to the left", None, Move, ALL),
    b(&[k(Code::Right), c('l'), k(Code::Tab)], Action::TabRight, "the tab to the right", None, Move, ALL),
    b(&[k(Code::Enter)], Action::Open, "open what is selected", Some("open"), Move, OPENED),
    b(&[k(Code::Esc)], Action::Back, "come out; never quits", Some("back"), Move, ALL),
    b(&[c('1')], Action::Go(View::Overview), "go to the overview", None, Move, ALL),
    b(&[c('2')], Action::Go(View::Queues), "go to the queues", None, Move, ALL),
    b(&[c('3')], Action::Go(View::Jobs), "go to the jobs", None, Move, ALL),
    b(&[c('4')], Action::Go(View::Runs), "go to the runs", None, Move, ALL),
    b(&[c('5')], Action::Go(View::Workers), "go to the workers", None, Move, ALL),
    b(&[c('6')], Action::Go(View::Schedules), "go to the schedules", None, Move, ALL),
    b(&[c('7')], Action::Go(View::Dlq), "go to the dead jobs, by their errors", None, Move, ALL),
    b(&[c('8')], Action::Go(View::Events), "go to the events", None, Move, ALL),
    b(&[c('9')], Action::Go(View::Shards), "go to the shards", None, Move, ALL),
    b(&[c(':')], Action::Palette, "go anywhere, do anything, by name", Some("go"), Find, ALL),
    b(&[c('/')], Action::Filter, "filter as you type, as in --where", Some("filter"), Find, FILTERED),
    b(&[c('!')], Action::Problems, "only what something is wrong with", None, Find, FILTERED),
    b(&[c('s')], Action::Sort, "sort by the next column", Some("sort"), Find, LISTS),
    b(&[c('S')], Action::Reverse, "sort the other way round", None, Find, LISTS),
    b(&[c('w')], Action::Wide, "the columns that are not shown", None, Find, LISTS),
    b(&[c(' ')], Action::Mark, "mark", Some("mark"), Act, MARKED),
    b(&[c('v')], Action::MarkRange, "mark from the last mark to here", None, Act, MARKED),
    b(&[c('*')], Action::MarkAll, "mark all that match; again: none", None, Act, MARKED),
    b(&[c('r')], Action::Do(Verb::Retry), "retry", Some("retry"), Act, RETRIED),
    b(&[c('x')], Action::Do(Verb::Cancel), "cancel", Some("cancel"), Act, CANCELLED),
    b(&[c('p')], Action::Do(Verb::Pause), "pause or resume", Some("pause"), Act, PAUSED),
    b(&[c('D')], Action::Do(Verb::Delete), "delete; a shard: remove it", None, Act, DELETED),
    b(&[c('e')], Action::Edit, "edit the payload and enqueue it anew", Some("edit"), Act, DEAD),
    b(&[c('d')], Action::Do(Verb::Drain), "drain: take no more work, and end", Some("drain"), Act, DRAINED),
    b(&[c('A')], Action::Do(Verb::Add), "add a shard", Some("add"), Act, SHARDS),
    b(
        &[c('t')],
        Action::Do(Verb::Trigger),
        "trigger: start now what a tick starts",
        Some("trigger"),
        Act,
        Holds::In(&[View::Overview, View::Schedules]),
    ),
    b(&[c('a')], Action::Do(Verb::Approve), "approve what waits", Some("approve"), Act, ANSWERED),
    b(&[c('X')], Action::Do(Verb::Reject), "reject what waits", None, Act, ANSWERED),
    b(&[c('n')], Action::Do(Verb::Signal), "send a signal", None, Act, RUNS),
    b(&[c('L')], Action::Logs, "its log, as it grows", None, Act, LOGGED),
    b(&[c('f')], Action::Follow, "follow what comes", None, Screen, Holds::In(&[View::Job, View::Run, View::Events])),
    b(&[c('[')], Action::Earlier, "a step back in its history", Some("past"), Screen, RUN),
    b(&[c(']')], Action::Later, "a step on in its history", None, Screen, RUN),
    b(&[c('y')], Action::Raw, "raw: as JSON", None, Screen, RAW),
    b(&[c('c')], Action::Copy, "copy the id or the name", None, Screen, ALL),
    b(&[c('z')], Action::Freeze, "freeze; again: go on", None, Screen, ALL),
    b(&[c('R')], Action::Refresh, "look again now", None, Screen, ALL),
    b(&[c(',')], Action::StepBack, "in a recording: a look back; R goes on", None, Screen, ALL),
    b(&[c('.')], Action::StepOn, "in a recording: a look on", None, Screen, ALL),
    b(&[c('+')], Action::Slower, "look less often", None, Screen, ALL),
    b(&[c('-')], Action::Faster, "look more often", None, Screen, ALL),
    b(&[c('T')], Action::Theme, "colours or none", None, Screen, ALL),
    b(&[c('?')], Action::Help, "this help", Some("help"), Screen, ALL),
    b(&[c('q')], Action::Leave, "back; at the top: quit", None, Screen, ALL),
    b(&[ctrl('z')], Action::Suspend, "suspend", None, Screen, ALL),
    b(&[ctrl('c')], Action::Quit, "quit", None, Screen, ALL),
];

/// The bindings that hold in a view of a store: nobody is told of a view that there is not.
pub fn held(view: View, sharded: bool) -> impl Iterator<Item = &'static Binding> {
    let is_there = move |one: &&Binding| match one.action {
        Action::Go(to) => to.is_there(sharded),
        _ => true,
    };
    BINDINGS.iter().filter(move |one| one.holds.holds(view)).filter(is_there)
}

/// What a key does in a view.
pub fn action(view: View, key: Key) -> Option<Action> {
    BINDINGS.iter().find(|one| one.holds.holds(view) && one.keys.contains(&key)).map(|one| one.action)
}

/// How a key is written.
pub fn name(key: Key, unicode: bool) -> String {
    let word = match (key.code, unicode) {
        (Code::Char(' '), _) => "space".to_owned(),
        (Code::Char(c), _) => c.to_string(),
        (Code::Up, true) => "↑".to_owned(),
        (Code::Down, true) => "↓".to_owned(),
        (Code::Left, true) => "←".to_owned(),
        (Code::Right, true) => "→".to_owned(),
        (Code::Enter, true) => "↵".to_owned(),
        (Code::PageUp, _) => "PgUp".to_owned(),
        (Code::PageDown, _) => "PgDn".to_owned(),
        (code, _) => format!("{code:?}"),
    };
    if key.ctrl { format!("ctrl-{word}") } else { word }
}

/// All the keys of a binding, as the help writes them.
pub fn names(binding: &Binding, unicode: bool) -> String {
    binding.keys.iter().map(|key| name(*key, unicode)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_bound_twice_in_a_view() {
        for view in View::ALL {
            let mut seen = std::collections::BTreeMap::new();
            for one in BINDINGS.iter().filter(|one| one.holds.holds(*view)) {
                for key in one.keys {
                    let before = seen.insert(*key, one.action);
                    assert_eq!(before, None, "{view:?}: {key:?}");
                }
            }
        }
    }

    #[test]
    fn every_tab_has_its_key_and_every_binding_its_words() {
        for view in View::TABS {
            let key = view.number().expect("a tab has a number");
            assert_eq!(action(View::Job, c(key)), Some(Action::Go(*view)));
        }
        for one in BINDINGS {
            assert!(!one.text.is_empty() && !one.keys.is_empty());
            assert!(one.foot.is_none_or(|foot| foot.len() <= 8), "{}", one.text);
            assert!(names(one, false).is_ascii());
        }
    }
}
