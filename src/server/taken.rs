//! A connection whose other side takes what is written, or is cut off. Without it a reader that has
//! stopped would keep a task and its buffers for as long as its machine lives. Knows no HTTP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Fails a write once nothing of it was taken for so long.
pub struct Taken<T> {
    inner: T,
    within: Duration,
    /// Only while a write waits.
    waits: Option<Pin<Box<Sleep>>>,
}

impl<T> Taken<T> {
    pub fn new(inner: T, within: Duration) -> Taken<T> {
        Taken { inner, within, waits: None }
    }

    /// What became of a write, if its time is not over.
    fn judge(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.waits = None;
            return written;
        }
        let within = self.within;
        let waits = self.waits.get_or_insert_with(|| Box::pin(sleep(within)));
        ready!(waits.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "what was sent is not taken")))
    }

    /// Until when the write that waits may wait.
    #[cfg(test)]
    fn deadline(&self) -> Option<tokio::time::Instant> {
        self.waits.as_ref().map(|waits| waits.deadline())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Taken<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, into)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Taken<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_cut_off_and_who_takes_a_little_is_not() {
        let (ours, mut theirs) = duplex(4);
        let mut ours = Taken::new(ours, Duration::from_secs(20));
        let began = Instant::now();
        let reads = tokio::spawn(async move {
            for _ in 0..3 {
                sleep(Duration::from_secs(15)).await;
                theirs.read_exact(&mut [0; 4]).await.expect("it comes");
            }
            theirs
        });
        ours.write_all(&[0; 16]).await.expect("each wait is shorter than allowed");
        assert_eq!((began.elapsed(), ours.deadline()), (Duration::from_secs(45), None));
        let _theirs = reads.await.expect("it ends");
        let failed = ours.write_all(&[0; 8]).await.expect_err("nobody reads");
        assert_eq!((failed.kind(), began.elapsed()), (io::ErrorKind::TimedOut, Duration::from_secs(65)));
    }
}
