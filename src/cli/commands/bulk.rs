//! Bulk enqueue: lines from standard input to batches in the store, reading ahead while a batch is
//! on its way.
//!
//! ```text
//!  stdin ─→ reader thread ─ chunks of payloads (8 ahead) ─→ batches of ≤ 1,000 ─→ store
//! ```
//!
//! Eight chunks keep the reader busy during one commit and bound the memory. A batch goes when it is
//! full, when the input ends, or when nothing more came for a moment: a slow producer's lines do not
//! wait for its thousandth.

use std::io::{self, BufRead};
use std::time::Duration;

use tokio::sync::mpsc;

use super::enqueue::{Template, bad_payload};
use crate::api::enqueue::Patience;
use crate::api::{ApiError, Client};
use crate::cli::codes::Code;
use crate::cli::context::Context;
use crate::cli::error::{CommandError, Result, fail, reason};
use crate::domain::json::BadJson;
use crate::domain::text::count;
use crate::domain::{Json, limits};
use crate::store::Enqueued;

/// How long a batch waits for more lines.
const LINGER: Duration = Duration::from_millis(200);
/// Chunks that the reader may be ahead.
const AHEAD: usize = 8;
/// Lines and bytes in one chunk.
const CHUNK_LINES: usize = 256;
/// A batch of large payloads goes before it is a thousand: stores take one message a batch.
const BATCH_BYTES: usize = 4 << 20;

#[derive(serde::Serialize)]
struct Counted {
    enqueued: u64,
}

/// Reads every line and prints how many jobs there are now.
pub async fn run(context: &Context, client: &Client, template: Template, as_text: bool) -> Result {
    let mut producer = client.producer(Patience::default());
    let (to, mut chunks) = mpsc::channel(AHEAD);
    // Not joined: it may wait for standard input for ever, and the process does not wait for it.
    std::thread::spawn(move || read(io::stdin().lock(), as_text, &to));

    let bar = context.ui.progress(0, "jobs");
    let mut done = 0u64;
    let stopped = loop {
        let Batch { payloads, ended } = tokio::select! {
            biased;
            batch = collect(&mut chunks) => batch,
            _ = tokio::signal::ctrl_c() => break Some(fail(Code::Interrupted, "interrupted")),
        };
        if !payloads.is_empty() && !matches!(ended, End::Broken(_) if done == 0) {
            let jobs: Vec<_> = payloads.into_iter().map(|payload| template.job(client, payload)).collect();
            let added = jobs.len() as u64;
            tokio::select! {
                biased;
                answer = producer.send(jobs) => match answer {
                    Ok(answers) => {
                        if let Some(Enqueued::NoParent(parent)) = answers.first() {
                            break Some(ApiError::NotFound { noun: "job", id: parent.to_string() }.into());
                        }
                    }
                    Err(error) => break Some(CommandError::from(error)),
                },
                _ = tokio::signal::ctrl_c() => {
                    let unsure = count(added, "job");
                    break Some(fail(Code::Interrupted, format!("interrupted while {unsure} were on the way")));
                }
            }
            done += added;
            bar.set_position(done);
        }
        match ended {
            End::NotYet => {}
            End::Input => break None,
            End::Broken(error) => break Some(error),
        }
    };
    bar.finish_and_clear();
    match stopped {
        None => context.ui.result(&Counted { enqueued: done }, &format!("enqueued {}", count(done, "job"))),
        Some(error) if done == 0 => Err(error.after("nothing was enqueued")),
        Some(error) => Err(error.after(&format!("{} had been enqueued before", count(done, "job")))),
    }
}

enum End {
    NotYet,
    Input,
    Broken(CommandError),
}

struct Batch {
    payloads: Vec<Json>,
    ended: End,
}

type Chunk = Result<Vec<Json>>;

async fn collect(chunks: &mut mpsc::Receiver<Chunk>) -> Batch {
    let mut batch = Batch { payloads: Vec::new(), ended: End::NotYet };
    let mut bytes = 0;
    let mut deadline = None;
    while batch.payloads.len() + CHUNK_LINES <= limits::ENQUEUE_BATCH && bytes < BATCH_BYTES {
        let next = match deadline {
            None => chunks.recv().await,
            Some(at) => match tokio::time::timeout_at(at, chunks.recv()).await {
                Ok(next) => next,
                Err(_) => return batch,
            },
        };
        match next {
            Some(Ok(payloads)) => {
                bytes += payloads.iter().map(|payload| payload.as_str().len()).sum::<usize>();
                batch.payloads.extend(payloads);
                deadline.get_or_insert_with(|| tokio::time::Instant::now() + LINGER);
            }
            Some(Err(error)) => {
                batch.ended = End::Broken(error);
                return batch;
            }
            None => {
                batch.ended = End::Input;
                return batch;
            }
        }
    }
    batch
}

/// Reads lines into chunks; a chunk goes when it is full or when the next read could wait.
fn read(mut input: impl BufRead, as_text: bool, to: &mpsc::Sender<Chunk>) {
    let mut lines = Lines { as_text, number: 0, partial: Vec::new() };
    loop {
        let (used, chunk) = match input.fill_buf() {
            Ok([]) => {
                if !lines.partial.is_empty() {
                    let _ = to.blocking_send(lines.end_line(&[]).map(|last| last.into_iter().collect()));
                }
                return;
            }
            Ok(bytes) => lines.chunk(bytes),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let told = fail(Code::Unreadable, format!("standard input cannot be read: {}", reason(&error)));
                let _ = to.blocking_send(Err(told));
                return;
            }
        };
        input.consume(used);
        let (payloads, broken) = chunk;
        if !payloads.is_empty() && to.blocking_send(Ok(payloads)).is_err() {
            return;
        }
        if let Some(error) = broken {
            let _ = to.blocking_send(Err(error));
            return;
        }
    }
}

struct Lines {
    as_text: bool,
    /// Of the line that was last ended, from 1.
    number: u64,
    /// The beginning of a line whose end has not been read.
    partial: Vec<u8>,
}

impl Lines {
    /// Takes whole lines from these bytes, and the beginning of the next: how many bytes that were,
    /// the payloads, and the mistake that ended it.
    fn chunk(&mut self, bytes: &[u8]) -> (usize, (Vec<Json>, Option<CommandError>)) {
        let (mut used, mut payloads) = (0, Vec::new());
        while used < bytes.len() && payloads.len() < CHUNK_LINES {
            let rest = &bytes[used..];
            let line = match rest.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    used += end + 1;
                    self.end_line(&rest[..end])
                }
                None => {
                    used = bytes.len();
                    self.keep(rest).map(|()| None)
                }
            };
            match line {
                Ok(payload) => payloads.extend(payload),
                Err(error) => return (used, (payloads, Some(error))),
            }
        }
        (used, (payloads, None))
    }

    /// Keeps the beginning of a line, as long as it can still become a payload.
    fn keep(&mut self, bytes: &[u8]) -> Result {
        self.partial.extend_from_slice(bytes);
        if self.partial.len() > limits::PAYLOAD_BYTES + 4096 {
            let error = BadJson::TooLarge { size: self.partial.len(), limit: limits::PAYLOAD_BYTES };
            return Err(bad_payload(&format!("line {}", self.number + 1), &error));
        }
        Ok(())
    }

    /// The payload of a line; none for a blank one among JSON lines.
    fn end_line(&mut self, bytes: &[u8]) -> Result<Option<Json>> {
        self.number += 1;
        let source = || format!("line {}", self.number);
        let joined;
        let line = if self.partial.is_empty() {
            bytes
        } else {
            self.partial.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.partial);
            &joined
        };
        let Ok(text) = std::str::from_utf8(line) else {
            return Err(fail(Code::PayloadNotJson, format!("{} is not UTF-8 text", source())));
        };
        if self.as_text {
            let json = Json::string(text.strip_suffix('\r').unwrap_or(text));
            if json.as_str().len() > limits::PAYLOAD_BYTES {
                let error = BadJson::TooLarge { size: json.as_str().len(), limit: limits::PAYLOAD_BYTES };
                return Err(bad_payload(&source(), &error));
            }
            return Ok(Some(json));
        }
        if text.trim().is_empty() {
            return Ok(None);
        }
        match Json::parse(text, limits::PAYLOAD_BYTES) {
            Ok(json) => Ok(Some(json)),
            Err(BadJson::Syntax { message, column, .. }) => {
                Err(fail(Code::PayloadNotJson, format!("line {}, column {column}: not JSON: {message}", self.number))
                    .hint("--text-lines takes each line as text"))
            }
            Err(error) => Err(bad_payload(&source(), &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8], as_text: bool, capacity: usize) -> (Vec<String>, Option<String>) {
        let (to, mut chunks) = mpsc::channel(10_000);
        read(io::BufReader::with_capacity(capacity, input), as_text, &to);
        drop(to);
        let (mut payloads, mut failed) = (Vec::new(), None);
        while let Some(chunk) = chunks.blocking_recv() {
            match chunk {
                Ok(chunk) => payloads.extend(chunk.iter().map(|payload| payload.as_str().to_owned())),
                Err(CommandError::Told(told)) => failed = Some(told.message),
                Err(other) => panic!("{other:?}"),
            }
        }
        (payloads, failed)
    }

    #[test]
    fn lines_are_the_same_however_the_input_is_cut() {
        let input = "a b\n\n\"q\"\r\n漢字\nlast".as_bytes();
        for capacity in [1, 2, 3, 5, 7, 4096] {
            let (payloads, failed) = all(input, true, capacity);
            assert_eq!(payloads, ["\"a b\"", "\"\"", "\"\\\"q\\\"\"", "\"漢字\"", "\"last\""], "{capacity}");
            assert_eq!(failed, None);
            let (payloads, _) = all(b"{\"a\": 1}\n\n[2]\r\n", false, capacity);
            assert_eq!(payloads, ["{\"a\": 1}", "[2]"]);
        }
        let many = "x\n".repeat(1_000);
        assert_eq!(all(many.as_bytes(), true, 65_536).0.len(), 1_000);
    }

    #[test]
    fn a_bad_line_is_told_by_its_number() {
        let (payloads, failed) = all(b"1\n2\n{oops\n4\n", false, 4096);
        assert_eq!(payloads, ["1", "2"]);
        assert_eq!(failed.as_deref(), Some("line 3, column 2: not JSON: key must be a string"));
        let (_, failed) = all(b"ok\n\xff\n", true, 4096);
        assert_eq!(failed.as_deref(), Some("line 2 is not UTF-8 text"));
        let large = format!("ok\n{}\n", "x".repeat(limits::PAYLOAD_BYTES));
        let (_, failed) = all(large.as_bytes(), true, 65_536);
        assert_eq!(failed.as_deref(), Some("line 2: the payload is larger than 1 MiB"));
    }
}
