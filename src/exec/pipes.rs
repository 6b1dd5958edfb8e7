//! The three pipes of a running command, served together: the input is written as fast as it is
//! taken, the output is passed on and captured as it comes. Never waits for an end of file that
//! somebody else's open end withholds.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::time::{Instant, timeout_at};

use super::output::Captured;
use super::{LogSink, Stream, Work};
use crate::sys::process::Child;

/// Read at once, in bytes: what a pipe holds on Linux, pipe(7).
pub(super) const CHUNK: usize = 64 << 10;

pub(super) struct Pipes<'a> {
    work: &'a Work,
    sink: &'a dyn LogSink,
    input: Option<Input>,
    stdout: Output<ChildStdout>,
    stderr: Output<ChildStderr>,
}

struct Input {
    pipe: ChildStdin,
    text: String,
    written: usize,
}

struct Output<P> {
    /// `None` once it has ended.
    pipe: Option<P>,
    buffer: Vec<u8>,
    captured: Captured,
}

impl<'a> Pipes<'a> {
    /// Takes the pipes of a child that was started with all three.
    ///
    /// # Errors
    /// They cannot be watched: the system is out of descriptors or memory.
    pub fn new(child: &mut Child, text: String, work: &'a Work, sink: &'a dyn LogSink) -> io::Result<Pipes<'a>> {
        let (stdin, stdout, stderr) = child.take_pipes();
        let input = stdin.map(ChildStdin::from_std).transpose()?;
        Ok(Pipes {
            work,
            sink,
            input: input.map(|pipe| Input { pipe, text, written: 0 }),
            stdout: Output::new(stdout.map(ChildStdout::from_std).transpose()?),
            stderr: Output::new(stderr.map(ChildStderr::from_std).transpose()?),
        })
    }

    /// Serves the pipes until `until` is done.
    pub async fn serve_until<F: Future>(&mut self, until: F) -> F::Output {
        let mut until = pin!(until);
        loop {
            tokio::select! {
                biased;
                done = &mut until => return done,
                // False, once all has ended, switches this branch off and leaves the other.
                true = self.turn() => {}
            }
        }
    }

    /// Reads what is there: until both streams end, or nothing came for `idle`, at most for `limit`.
    pub async fn drain(&mut self, idle: Duration, limit: Duration) {
        // Nobody is left to read it.
        self.input = None;
        let end = Instant::now() + limit;
        while timeout_at(end.min(Instant::now() + idle), self.turn()).await == Ok(true) {}
    }

    /// Closes everything, tells the sink, and gives what was captured: stdout and stderr.
    pub fn close(self) -> (Captured, Captured) {
        let (stdout, stderr) = (self.stdout.captured, self.stderr.captured);
        self.sink.captured(self.work, Stream::Stdout, &stdout);
        self.sink.captured(self.work, Stream::Stderr, &stderr);
        (stdout, stderr)
    }

    /// One read or write, whichever can be done first; false once all has ended. Cancel-safe.
    async fn turn(&mut self) -> bool {
        let Pipes { work, sink, input, stdout, stderr } = self;
        tokio::select! {
            biased;
            // The likely finite first: a flood on one stream must not starve the others.
            more = feed(input), if input.is_some() => {
                if !more {
                    *input = None;
                }
            }
            bytes = stderr.read(), if stderr.pipe.is_some() => {
                stderr.take(bytes, |bytes| sink.chunk(work, Stream::Stderr, bytes));
            }
            bytes = stdout.read(), if stdout.pipe.is_some() => {
                stdout.take(bytes, |bytes| sink.chunk(work, Stream::Stdout, bytes));
            }
            else => return false,
        }
        true
    }
}

/// Writes a piece; false when all is written, or nobody reads any more: a command may ignore its
/// input, so a broken pipe is no error.
async fn feed(input: &mut Option<Input>) -> bool {
    let Some(Input { pipe, text, written }) = input else { return false };
    match pipe.write(&text.as_bytes()[*written..]).await {
        Ok(0) | Err(_) => false,
        Ok(more) => {
            *written += more;
            *written < text.len()
        }
    }
}

impl<P: AsyncRead + Unpin> Output<P> {
    fn new(pipe: Option<P>) -> Output<P> {
        Output { pipe, buffer: Vec::new(), captured: Captured::default() }
    }

    async fn read(&mut self) -> io::Result<usize> {
        // Does something the first time only.
        self.buffer.resize(CHUNK, 0);
        match &mut self.pipe {
            Some(pipe) => pipe.read(&mut self.buffer).await,
            None => Ok(0),
        }
    }

    fn take(&mut self, read: io::Result<usize>, pass_on: impl FnOnce(&[u8])) {
        match read {
            Ok(length) if length > 0 => {
                let bytes = &self.buffer[..length];
                pass_on(bytes);
                self.captured.push(bytes);
            }
            // The end, or a pipe that is broken: nothing more comes.
            _ => {
                self.pipe = None;
                self.buffer = Vec::new();
            }
        }
    }
}
