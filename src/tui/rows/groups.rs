//! Dead jobs that died of the same, as one row: the same type, the same class of error, and the same
//! message but for numbers and names in it. What is the same is written as a filter of `--where`, so
//! that the group can be opened, retried and deleted as any other filter can.

use serde::{Deserialize, Serialize};

use super::{Column, JobRow, Key, Row, counted, plain, when};
use crate::domain::Ms;
use crate::tui::theme::Tone;

/// Characters of a message that tell groups apart.
const COMPARED: usize = 160;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupRow {
    /// The filter that its jobs match, with what the page is narrowed to.
    pub filter: String,
    pub kind: String,
    /// The class and what the messages have in common.
    pub error: String,
    pub count: u64,
    /// Those that do steps of runs: only their runs may try them again.
    pub steps: u64,
    pub queues: Vec<String>,
    pub first_at: Ms,
    pub last_at: Ms,
    /// The one that died last.
    pub example: JobRow,
}

impl Row for GroupRow {
    fn id(&self) -> &str {
        &self.filter
    }

    fn is_problem(&self) -> bool {
        true
    }
}

type G = Column<GroupRow>;

pub const GROUPS: &[Column<GroupRow>] = &[
    G::new("JOBS", 7, |group, _| counted(group.count, Tone::Bad)).right().key(|group| Key::Number(group.count as f64)),
    G::new("TYPE", 16, |group, _| plain(group.kind.clone())).key(|group| Key::Text(group.kind.clone())),
    G::new("LAST", 6, |group, look| when(Some(group.last_at), look))
        .right()
        .key(|group| Key::Number(group.last_at.0 as f64)),
    G::new("FIRST", 6, |group, look| when(Some(group.first_at), look))
        .right()
        .from(90)
        .key(|group| Key::Number(group.first_at.0 as f64)),
    G::new("STEPS", 6, |group, _| counted(group.steps, Tone::Wait)).right().from(100),
    G::new("QUEUES", 14, |group, _| plain(group.queues.join(" "))).from(100),
    G::new("ERROR", 20, |group, _| (group.error.clone(), Tone::Bad)).key(|group| Key::Text(group.error.clone())).grow(),
];

/// What errors of one group have in common: numbers, names of things and quotes in the message are
/// `*`. The class stays as it is.
pub fn template(class: &str, message: &str) -> String {
    let mut text = String::new();
    for c in class.chars() {
        push(&mut text, if is_plain(c) || c == ' ' { c } else { '*' });
    }
    text.push_str(": ");
    let mut word = String::new();
    let mut chars = message.chars();
    for c in chars.by_ref().take(COMPARED) {
        if c.is_alphanumeric() || matches!(c, '-' | '_') {
            word.push(c);
            continue;
        }
        put_word(&mut text, &word);
        word.clear();
        let is_same = c.is_ascii_punctuation() && !matches!(c, '\'' | '"' | '`' | '\\' | '*' | '?' | ',');
        push(&mut text, if c == ' ' || is_same { c } else { '*' });
    }
    put_word(&mut text, &word);
    if chars.next().is_some() {
        push(&mut text, '*');
    }
    text
}

/// A word with a digit in it is a number, an id or a name of one of many.
fn put_word(text: &mut String, word: &str) {
    if word.chars().any(char::is_numeric) {
        push(text, '*');
    } else {
        text.push_str(word);
    }
}

fn push(text: &mut String, c: char) {
    if c != '*' || !text.ends_with('*') {
        text.push(c);
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._/:=-+@%".contains(c)
}

/// The filter for a type and a template. Within quotes `*` would mean itself, so they end before it.
pub fn filter(kind: &str, template: &str) -> String {
    let quoted = |part: &str| match part.chars().all(is_plain) {
        true => part.to_owned(),
        false => format!("'{part}'"),
    };
    let parts: Vec<String> = template.split('*').map(quoted).map(|part| part.replace("''", "")).collect();
    format!("type:{} error:{}", kind, parts.join("*"))
}

/// Whether a template stands for all that another does.
pub fn covers(wide: &str, narrow: &str) -> bool {
    let parts: Vec<&str> = wide.split('*').collect();
    let [first, middle @ .., last] = parts.as_slice() else { return wide == narrow };
    let Some(mut rest) = narrow.strip_prefix(first) else { return false };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Filter;

    #[test]
    fn what_differs_is_left_out() {
        let same = [
            ("http:503", "host db-7 said: try 12 times", "http:503: host * said: try * times"),
            ("exit:1", "no user `ann`", "exit:1: no user *ann*"),
            ("panic", "", "panic: "),
            ("exit:1", "a'b\n\u{1b}[2J", "exit:1: a*b*[*"),
        ];
        for (class, message, wanted) in same {
            assert_eq!(template(class, message), wanted);
        }
        assert!(template("x", &"long ".repeat(100)).ends_with('*'));
        assert!(covers("a: * c", "a: b c") && covers("a: * c", "a: * c") && covers("a: *", "a: b *"));
        assert!(!covers("a: * c", "a: b d") && !covers("a: b", "a: b *") && !covers("a*a", "a"));
    }

    #[test]
    fn the_filter_can_be_read_whatever_the_message_holds() {
        let hostile = ["plain", "it's \"quoted\" \\ 'x", "a,b *?* !c:d>e", "\u{202e}漢字\n\t", "  ", "7 8 9", ""];
        for message in hostile {
            let text = filter("mail", &template("exit:1", message));
            assert!(Filter::parse(&text).is_ok(), "{message:?}: {text}");
        }
        assert_eq!(filter("mail", "exit:1: host * is away"), "type:mail error:'exit:1: host '*' is away'");
    }
}
