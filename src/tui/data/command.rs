//! The command that does what a verb did. Knows how commands are written, and does nothing.

use crate::domain::JobState;
use crate::store::url::hide_password;
use crate::tui::msg::{Order, Target, Verb};
use crate::tui::text::short;

/// More ids are not written out.
const WRITTEN: usize = 3;

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn listed<'a>(words: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = if words.len() > WRITTEN { " …" } else { "" };
    words.take(WRITTEN).map(quoted).collect::<Vec<_>>().join(" ") + more
}

/// The words of a filter with the states beside it.
fn filter_of(states: &[JobState], filter: &str) -> String {
    let states: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
    words_of(&states, filter)
}

fn words_of(states: &[&str], filter: &str) -> String {
    let states = if states.is_empty() { String::new() } else { format!("state:{}", states.join(",")) };
    [states.as_str(), filter.trim()].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ")
}

/// A command a thing, for commands that take but one.
fn each_by_itself<T>(things: &[T], command: impl Fn(&T) -> String) -> String {
    let more = if things.len() > WRITTEN { " …" } else { "" };
    things.iter().take(WRITTEN).map(command).collect::<Vec<_>>().join("; ") + more
}

/// What adds shards beside the others until there are so many.
pub fn scale(shards: usize) -> String {
    format!("goflow scale --shards {shards}")
}

/// `goflow job retry 7k3q9x2m`
pub fn command(order: &Order) -> String {
    let verb = match order.verb {
        Verb::Retry => "retry",
        Verb::Cancel => "cancel",
        Verb::Delete => "delete",
        Verb::Pause => "pause",
        Verb::Drain => "drain",
        Verb::Trigger => "trigger",
        Verb::Approve => "approve",
        Verb::Reject => "reject",
        Verb::Signal => "signal",
        Verb::Add => "add",
    };
    match &order.target {
        Target::Jobs(ids) => format!("goflow job {verb} {}", listed(ids.iter().map(|id| short(id)))),
        Target::Matching { states, filter } => match filter_of(states, filter).as_str() {
            "" => format!("goflow job {verb} --all"),
            filter => format!("goflow job {verb} --where {}", quoted(filter)),
        },
        Target::Queues(queues) => each_by_itself(queues, |(name, paused)| {
            format!("goflow queue {} {}", if *paused { "resume" } else { "pause" }, quoted(name))
        }),
        Target::Runs(runs) => each_by_itself(runs, |(id, paused)| {
            let verb = if order.verb == Verb::Pause && *paused { "resume" } else { verb };
            format!("goflow workflow {verb} {}", short(id))
        }),
        Target::Schedules(schedules) => each_by_itself(schedules, |(name, paused)| {
            let verb = if order.verb == Verb::Pause && *paused { "resume" } else { verb };
            format!("goflow schedule {verb} {}", quoted(name))
        }),
        Target::Dead(filters) => {
            each_by_itself(filters, |filter| format!("goflow dlq {verb} --where {}", quoted(filter)))
        }
        Target::Answer { run, step, by, comment } => {
            let mut words = vec![format!("goflow workflow {verb} {}", short(run))];
            words.extend(step.as_deref().map(quoted));
            words.extend(by.iter().map(|by| format!("--by {}", quoted(by))));
            words.extend(comment.as_ref().map(|comment| format!("--comment {}", quoted(comment))));
            words.join(" ")
        }
        Target::Signal { run, name, data } => {
            format!("goflow workflow signal {} {} -d {}", short(run), quoted(name), quoted(data))
        }
        Target::RunsMatching { states, filter, problems } => {
            let states: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
            let list = match words_of(&states, filter).as_str() {
                "" => "goflow workflow list".to_owned(),
                filter => format!("goflow workflow list --where {}", quoted(filter)),
            };
            // What `!` leaves over is no filter: those that are meant have to be looked for by hand.
            let note = if *problems { " # only those that something is wrong with" } else { "" };
            format!("{list} -n 0 -o name | xargs -n 1 goflow workflow {verb}{note}")
        }
        Target::Shard(id) => format!("goflow shard remove {id}"),
        Target::DrainShard { id, into: None } => format!("goflow shard drain {id}"),
        Target::DrainShard { id, into: Some(into) } => format!("goflow shard drain {id} --move --to {into}"),
        Target::AddShard { url: Some(url) } => format!("goflow shard add {}", quoted(&hide_password(url))),
        // How many there are to be is known once they are seen: this is how to.
        Target::AddShard { url: None } => "goflow shard list".to_owned(),
        Target::Workers(ids) => format!("goflow worker drain {}", listed(ids.iter().map(|id| short(id)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_does_the_same() {
        let order = |verb, target| command(&Order { verb, target });
        let ids = |n: usize| (0..n).map(|n| format!("0192f0c1-2b3c-7000-8a9b-0123456789a{n}")).collect::<Vec<_>>();
        assert_eq!(order(Verb::Retry, Target::Jobs(ids(1))), "goflow job retry 456789a0");
        assert_eq!(order(Verb::Cancel, Target::Jobs(ids(5))), "goflow job cancel 456789a0 456789a1 456789a2 …");
        let matching = |filter: &str| Target::Matching { states: vec![JobState::Dead], filter: filter.to_owned() };
        assert_eq!(order(Verb::Retry, matching("")), "goflow job retry --where state:dead");
        assert_eq!(
            order(Verb::Delete, matching("error~'time out'")),
            r"goflow job delete --where 'state:dead error~'\''time out'\'''"
        );
        let all = Target::Matching { states: Vec::new(), filter: String::new() };
        assert_eq!(order(Verb::Cancel, all), "goflow job cancel --all");
        let id = ids(1).remove(0);
        assert_eq!(
            order(Verb::Pause, Target::Runs(vec![(id.clone(), false), (id.clone(), true)])),
            "goflow workflow pause 456789a0; goflow workflow resume 456789a0"
        );
        let dead = vec!["type:mail error:'exit:1: host '*' is away'".to_owned()];
        assert_eq!(
            order(Verb::Retry, Target::Dead(dead)),
            r"goflow dlq retry --where 'type:mail error:'\''exit:1: host '\''*'\'' is away'\'''"
        );
        let answer = Target::Answer {
            run: id.clone(),
            step: Some("decide/else/approve".to_owned()),
            by: vec!["ann".to_owned(), "group:finance".to_owned()],
            comment: Some("as agreed".to_owned()),
        };
        assert_eq!(
            order(Verb::Approve, answer),
            "goflow workflow approve 456789a0 decide/else/approve --by ann --by group:finance --comment 'as agreed'"
        );
        let signal = Target::Signal { run: id, name: "paid".to_owned(), data: "{\"n\":1}".to_owned() };
        assert_eq!(order(Verb::Signal, signal), "goflow workflow signal 456789a0 paid -d '{\"n\":1}'");
        let nightly = Target::Schedules(vec![("nightly".to_owned(), false)]);
        assert_eq!(order(Verb::Trigger, nightly), "goflow schedule trigger nightly");
        let queues = vec![("mail".to_owned(), false), ("slow".to_owned(), true)];
        assert_eq!(order(Verb::Pause, Target::Queues(queues)), "goflow queue pause mail; goflow queue resume slow");
    }
}
