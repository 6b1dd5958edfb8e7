//! How much memory all requests may take together for what they send and are sent. Each has a limit of its
//! own (`limits`); this is what holds when many come near theirs at once. Who finds no room is asked to
//! come again; what was done is answered all the same, and counts until it has been taken.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};

use super::app::App;
use super::problem::Problem;
use crate::api::codes::Code;

/// For the bodies of all requests and answers, in bytes.
pub const ROOM_BYTES: usize = 256 << 20;
/// A smaller answer is written at once, and not counted.
const SMALL: u64 = 64 << 10;
/// What a larger one is handed out in, in bytes.
const PIECE: usize = 64 << 10;

/// The room of a server.
#[derive(Clone, Debug)]
pub struct Room(Arc<Taken>);

#[derive(Debug)]
struct Taken {
    bytes: AtomicUsize,
    most: usize,
}

impl Room {
    pub fn new(most: usize) -> Room {
        Room(Arc::new(Taken { bytes: AtomicUsize::new(0), most }))
    }

    /// A part of it, still empty.
    pub fn share(&self) -> Share {
        Share(Arc::new(Part { room: self.clone(), held: AtomicUsize::new(0) }))
    }

    /// Whether nothing is left.
    fn is_full(&self) -> bool {
        self.0.bytes.load(Ordering::Relaxed) >= self.0.most
    }
}

/// What one request holds of the room; given back with its last clone.
#[derive(Clone, Debug)]
pub struct Share(Arc<Part>);

#[derive(Debug)]
struct Part {
    room: Room,
    held: AtomicUsize,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.room.0.bytes.fetch_sub(*self.held.get_mut(), Ordering::Relaxed);
    }
}

impl Share {
    /// Whether so much would fit now.
    ///
    /// # Errors
    /// 503: it would not.
    pub fn fits(&self, bytes: usize) -> Result<(), Problem> {
        let room = &self.0.room.0;
        match room.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= room.most {
            true => Ok(()),
            false => Err(full()),
        }
    }

    /// Takes so much more.
    ///
    /// # Errors
    /// 503: there is not so much.
    pub fn take(&self, bytes: usize) -> Result<(), Problem> {
        let room = &self.0.room.0;
        let more = |taken: usize| taken.checked_add(bytes).filter(|sum| *sum <= room.most);
        room.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map_err(|_| full())?;
        self.0.held.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Takes it, if need be beyond what there is: it is there already.
    fn count(&self, bytes: usize) {
        self.0.room.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.0.held.fetch_add(bytes, Ordering::Relaxed);
    }
}

fn full() -> Problem {
    Problem::new(Code::Busy, "the server holds as much of other requests as it may: send this one again")
}

/// Gives each request its share, for as long as it is worked on and its answer is on its way.
pub(super) async fn share(State(app): State<App>, mut request: Request, next: Next) -> Response {
    if app.room().is_full() {
        return full().into_response();
    }
    let share = app.room().share();
    request.extensions_mut().insert(share.clone());
    let response = next.run(request).await;
    let size = response.body().size_hint().lower();
    if size < SMALL {
        return response;
    }
    share.count(usize::try_from(size).unwrap_or(usize::MAX));
    response.map(|body| Body::new(Counted { body, rest: Bytes::new(), _share: share }))
}

/// An answer that counts until it has been sent. It is handed out in pieces: the last is asked for only
/// when nearly all before it has gone.
struct Counted {
    body: Body,
    /// What the body has given and was not handed out yet.
    rest: Bytes,
    _share: Share,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            }
        }
        let piece = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut all = SizeHint::new();
        all.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            all.set_upper(upper + rest);
        }
        all
    }
}

/// The whole of a body, counted as it comes.
///
/// # Errors
/// `Ok(Err(_))`: there is no room for it; else what the body itself fails with.
pub(super) async fn collect<B>(mut body: B, share: Option<&Share>) -> Result<Result<Bytes, Problem>, B::Error>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let (mut first, mut rest) = (None, Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if let Some(Err(problem)) = share.map(|share| share.take(data.len())) {
            return Ok(Err(problem));
        }
        // Most come in one piece, which is not copied.
        match &first {
            None => first = Some(data),
            Some(first) => {
                if rest.is_empty() {
                    rest.extend_from_slice(first);
                }
                rest.extend_from_slice(&data);
            }
        }
    }
    Ok(Ok(if rest.is_empty() { first.unwrap_or_default() } else { rest.into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back_with_the_last_clone() {
        let room = Room::new(10);
        let (one, other) = (room.share(), room.share());
        assert!(one.take(6).is_ok() && one.fits(4).is_ok() && one.fits(5).is_err());
        assert!(other.take(5).is_err() && other.take(4).is_ok() && room.is_full());
        other.count(9);
        let clone = other.clone();
        drop(other);
        assert!(one.take(1).is_err() && room.is_full());
        drop(clone);
        assert!(one.take(4).is_ok() && room.is_full());
        drop(one);
        assert_eq!(room.0.bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_body_of_several_pieces_is_whole_and_ends_where_there_is_no_room() {
        let pieces = || {
            let pieces = ["ab", "cd", "ef"].map(Ok::<_, std::convert::Infallible>);
            Body::from_stream(futures_util::stream::iter(pieces))
        };
        let (small, large) = (Room::new(5).share(), Room::new(6).share());
        assert_eq!(&collect(pieces(), Some(&large)).await.expect("it comes").expect("there is room")[..], b"abcdef");
        assert!(collect(pieces(), Some(&small)).await.expect("it comes").is_err());
        assert_eq!(&collect(Body::from("one"), None).await.expect("it comes").expect("there is room")[..], b"one");
        assert!(collect(Body::empty(), None).await.expect("it comes").expect("there is room").is_empty());
    }

    #[tokio::test]
    async fn an_answer_counts_until_its_last_piece_is_taken() {
        let whole: Bytes = (0..3 * PIECE + 5).map(|nth| (nth % 251) as u8).collect();
        let room = Room::new(1 << 20);
        let share = room.share();
        share.count(whole.len());
        let mut answer = Body::new(Counted { body: Body::from(whole.clone()), rest: Bytes::new(), _share: share });
        let mut taken = Vec::new();
        while !answer.is_end_stream() {
            let left = (whole.len() - taken.len()) as u64;
            assert_eq!(answer.size_hint().exact(), Some(left), "what is left is told");
            assert_eq!(room.0.bytes.load(Ordering::Relaxed), whole.len());
            let piece = answer.frame().await.expect("there is more").expect("it comes").into_data().expect("data");
            assert!((1..=PIECE).contains(&piece.len()), "{}", piece.len());
            taken.extend_from_slice(&piece);
        }
        assert_eq!(taken, whole);
        drop(answer);
        assert_eq!(room.0.bytes.load(Ordering::Relaxed), 0);
    }
}
