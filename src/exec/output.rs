//! What a command leaves: its captured output, and the result that its `outputs` make of it.
//! Bounded however much is printed. Pure but for reading `$GOFLOW_OUTPUT`.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::domain::json::BadJson;
use crate::domain::text::{count, display_safe, nearest, size};
use crate::domain::{Json, limits};
use crate::workflow::Outputs;

/// Kept of each end of a stream, in bytes. Two ends of two streams: a command's output is at most
/// [`limits::OUTPUT_BYTES`] in all, and what fits a result is never cut.
const END_BYTES: usize = limits::OUTPUT_BYTES / 4;
const _: () = assert!(END_BYTES * 2 >= limits::VALUE_BYTES);

/// A stream's output: all of it, or its head and its tail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

impl Captured {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let (head, rest) = bytes.split_at(bytes.len().min(END_BYTES - self.head.len()));
        self.head.extend_from_slice(head);
        // Of a long piece only the end can stay.
        let rest = &rest[rest.len().saturating_sub(END_BYTES)..];
        let excess = (self.tail.len() + rest.len()).saturating_sub(END_BYTES);
        self.tail.drain(..excess);
        self.tail.extend(rest);
    }

    /// Whether the middle is missing.
    pub fn truncated(&self) -> bool {
        self.total > (self.head.len() + self.tail.len()) as u64
    }

    /// How much was printed, in bytes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What was kept, in order; with a gap between the two if it is [truncated](Self::truncated).
    pub fn parts(&self) -> (Vec<u8>, Vec<u8>) {
        (self.head.clone(), self.tail.iter().copied().collect())
    }

    /// All of it; `None` if it is truncated.
    fn whole(&self) -> Option<Vec<u8>> {
        let (mut whole, tail) = self.parts();
        whole.extend(tail);
        (!self.truncated()).then_some(whole)
    }

    /// Up to `limit` bytes of the end, as text; what is not UTF-8 shows as U+FFFD.
    pub(super) fn tail_text(&self, limit: usize) -> String {
        let kept = self.head.len() + self.tail.len();
        let skip = if self.truncated() { self.head.len() } else { 0 };
        let bytes: Vec<u8> =
            self.head.iter().chain(&self.tail).skip(skip.max(kept.saturating_sub(limit))).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Why a command's result is not what its `outputs` promise.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadOutput {
    #[error("{what} is {} as JSON, more than the {} a result may have: store it elsewhere and return its address", size(*.is), size(limits::VALUE_BYTES as u64))]
    TooLarge { what: &'static str, is: u64 },
    #[error("{0} is not UTF-8 text")]
    NotText(&'static str),
    #[error("stdout is empty: `outputs: json` wants one JSON value")]
    Empty,
    #[error("stdout is not one JSON value: {0}")]
    NotJson(BadJson),
    #[error("line {0} of $GOFLOW_OUTPUT is neither name=value nor name<<END")]
    Line(usize),
    #[error("`{name}<<{end}` in line {line} of $GOFLOW_OUTPUT is never closed by a line `{end}`")]
    Open { name: String, end: String, line: usize },
    #[error("{0}")]
    Missing(String),
    #[error("$GOFLOW_OUTPUT cannot be read: {0}")]
    Unreadable(#[from] io::Error),
}

/// Makes the result that `outputs` promise. `file` is read for [`Outputs::Names`] alone.
pub(super) fn collect(outputs: Option<&Outputs>, stdout: &Captured, file: &Path) -> Result<Option<Json>, BadOutput> {
    match outputs {
        None => Ok(None),
        Some(Outputs::Text) => text(stdout).map(Some),
        Some(Outputs::Json) => json(stdout).map(Some),
        Some(Outputs::Names(names)) => named(names, &read(file)?).map(Some),
    }
}

fn stdout_text(stdout: &Captured) -> Result<String, BadOutput> {
    let whole = stdout.whole().ok_or(BadOutput::TooLarge { what: "stdout", is: stdout.total() })?;
    String::from_utf8(whole).map_err(|_| BadOutput::NotText("stdout"))
}

fn text(stdout: &Captured) -> Result<Json, BadOutput> {
    let text = stdout_text(stdout)?;
    within("stdout", Json::string(text.strip_suffix('\n').unwrap_or(&text)))
}

fn json(stdout: &Captured) -> Result<Json, BadOutput> {
    let text = stdout_text(stdout)?;
    if text.trim().is_empty() {
        return Err(BadOutput::Empty);
    }
    Json::parse(&text, limits::VALUE_BYTES).map_err(|error| match error {
        BadJson::TooLarge { size, .. } => BadOutput::TooLarge { what: "stdout", is: size as u64 },
        error => BadOutput::NotJson(error),
    })
}

fn within(what: &'static str, json: Json) -> Result<Json, BadOutput> {
    match json.as_str().len() {
        length if length > limits::VALUE_BYTES => Err(BadOutput::TooLarge { what, is: length as u64 }),
        _ => Ok(json),
    }
}

const FILE: &str = "$GOFLOW_OUTPUT";

fn read(path: &Path) -> Result<String, BadOutput> {
    // A command may have put anything there; reading a FIFO would never end.
    let about = std::fs::metadata(path)?;
    if !about.is_file() {
        return Err(io::Error::other("it is no longer a file").into());
    }
    if about.len() > limits::OUTPUT_BYTES as u64 {
        return Err(BadOutput::TooLarge { what: FILE, is: about.len() });
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(limits::OUTPUT_BYTES as u64).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| BadOutput::NotText(FILE))
}

fn named(names: &[String], text: &str) -> Result<Json, BadOutput> {
    let mut written = pairs(text)?;
    if let Some(missing) = names.iter().find(|name| !written.contains_key(name.as_str())) {
        return Err(BadOutput::Missing(missing_message(missing, written.keys().copied())));
    }
    let object: serde_json::Map<_, _> = names
        .iter()
        .filter_map(|name| Some((name.clone(), serde_json::Value::String(written.remove(name.as_str())?))))
        .collect();
    within(FILE, Json::from_value(&object.into()))
}

fn missing_message<'a>(missing: &str, written: impl Iterator<Item = &'a str> + Clone) -> String {
    let hint: Cow<str> = match nearest(missing, written.clone()) {
        Some(near) => format!("; `{}` was, is that it?", display_safe(near)).into(),
        None => match written.count() {
            0 => "; nothing was: write a line `name=value` to it".into(),
            others => format!("; what was written is {}", count(others as u64, "other name")).into(),
        },
    };
    format!("the output `{missing}` was not written to $GOFLOW_OUTPUT{hint}")
}

fn pairs(text: &str) -> Result<BTreeMap<&str, String>, BadOutput> {
    let mut pairs = BTreeMap::new();
    let mut lines = (1..).zip(text.split('\n'));
    while let Some((number, line)) = lines.next() {
        if line.trim().is_empty() {
            continue;
        }
        let equals = line.find('=').unwrap_or(usize::MAX);
        let (name, value) = match line.find("<<") {
            Some(place) if place < equals && place > 0 => {
                let (name, end) = (&line[..place], &line[place + 2..]);
                let mut block: Vec<&str> = Vec::new();
                loop {
                    match lines.next() {
                        Some((_, line)) if line == end => break,
                        Some((_, line)) => block.push(line),
                        None => {
                            return Err(BadOutput::Open { name: name.to_owned(), end: end.to_owned(), line: number });
                        }
                    }
                }
                (name, block.join("\n"))
            }
            _ => match line.split_once('=') {
                Some((name, value)) if !name.is_empty() => (name, value.to_owned()),
                _ => return Err(BadOutput::Line(number)),
            },
        };
        pairs.insert(name, value);
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(pieces: &[&[u8]]) -> Captured {
        let mut captured = Captured::default();
        pieces.iter().for_each(|piece| captured.push(piece));
        captured
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn head_and_tail_stay_whatever_the_pieces() {
        let all: Vec<u8> = (0..3 * END_BYTES + 17).map(|place| (place % 251) as u8).collect();
        for piece in [1_000, END_BYTES - 1, END_BYTES + 1, all.len()] {
            let captured = captured(&all.chunks(piece).collect::<Vec<_>>());
            assert!(captured.truncated());
            assert_eq!(captured.total(), all.len() as u64);
            let (head, tail) = captured.parts();
            assert!(head == all[..END_BYTES] && tail == all[all.len() - END_BYTES..], "pieces of {piece}");
        }
        let fits = captured(&[&all[..END_BYTES * 2]]);
        assert!(!fits.truncated());
        assert!(fits.whole().expect("whole") == all[..END_BYTES * 2]);
    }

    #[test]
    fn text_loses_one_final_newline_only() {
        let result = |out: &[u8]| text(&captured(&[out])).map(|json| json.to_value());
        assert_eq!(result(b" a\n\n").expect("text"), " a\n");
        assert_eq!(result(b"").expect("text"), "");
        assert_eq!(result("\u{1b}\u{202e}$(id)\n".as_bytes()).expect("text"), "\u{1b}\u{202e}$(id)");
        assert!(matches!(result(b"\xff"), Err(BadOutput::NotText("stdout"))));
    }

    #[test]
    fn the_limit_is_of_the_value_not_of_the_bytes_printed() {
        let fits = vec![b'x'; limits::VALUE_BYTES - 2];
        assert!(text(&captured(&[&fits])).is_ok());
        let error = text(&captured(&[&fits, b"y"])).expect_err("too large").to_string();
        assert!(error.starts_with("stdout is 256.0 KiB as JSON, more than the 256.0 KiB"), "{error}");
        // Six bytes each as JSON.
        let escaped = vec![1u8; limits::VALUE_BYTES / 4];
        assert!(matches!(text(&captured(&[&escaped])), Err(BadOutput::TooLarge { .. })));
        let cut = vec![b' '; END_BYTES * 2 + 1];
        assert!(matches!(json(&captured(&[&cut])), Err(BadOutput::TooLarge { is, .. }) if is == cut.len() as u64));
    }

    #[test]
    fn json_must_be_one_value() {
        assert_eq!(json(&captured(&[b"\n{\"a\": 1.50}\n"])).expect("json").as_str(), "{\"a\": 1.50}");
        assert!(matches!(json(&captured(&[b" \n"])), Err(BadOutput::Empty)));
        assert!(matches!(json(&captured(&[b"{} {}"])), Err(BadOutput::NotJson(_))));
    }

    #[test]
    fn named_values_are_lines_or_blocks() {
        let text = "a=1=2\n\nb<<EOF\nx=y\n\nEOF \nEOF\nc=\na=again\nextra=0\nd=<<x\n";
        let json = named(&names(&["b", "a", "c", "d"]), text).expect("all there");
        assert_eq!(json.as_str(), r#"{"b":"x=y\n\nEOF ","a":"again","c":"","d":"<<x"}"#);
    }

    #[test]
    fn a_missing_or_broken_output_is_named() {
        let error = |list: &[&str], text: &str| named(&names(list), text).expect_err("broken").to_string();
        assert_eq!(
            error(&["tracking"], "trackng=1\n"),
            "the output `tracking` was not written to $GOFLOW_OUTPUT; `trackng` was, is that it?"
        );
        assert!(error(&["a"], "").ends_with("nothing was: write a line `name=value` to it"));
        assert_eq!(error(&["a"], "a=1\nhello\n"), "line 2 of $GOFLOW_OUTPUT is neither name=value nor name<<END");
        assert!(error(&["a"], "a<<X\n1\n").contains("never closed by a line `X`"));
    }
}
