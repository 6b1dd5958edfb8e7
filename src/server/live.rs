//! Live events: over a WebSocket (`/ws`), where a client subscribes to topics, and as server-sent events
//! (`/events`). Both go on after a place in the log without a gap or a repeat. Nobody is waited for: who
//! does not take what is sent in time is cut, and goes on later from the place they had; so is whoever may
//! not look any more.
//!
//! A WebSocket client sends `{"type":"subscribe","topic":"events"}`, perhaps with `after` and `where`;
//! `{"type":"unsubscribe","topic":…}`; `{"type":"ping"}`. It is sent `subscribed`, `unsubscribed`, `event`,
//! `pong` and `error`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Extension, Query, State};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream::{self, Stream};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout};

use super::app::App;
use super::auth::{Caller, until_shut_out};
use super::problem::Problem;
use crate::api::codes::Code;
use crate::api::live::{Page, Place, Reader, Topic};
use crate::api::tokens::Scope;

/// The largest message that a client may send, in bytes.
const MESSAGE_BYTES: usize = 64 << 10;
/// Topics of one connection.
const TOPICS: usize = 64;
/// How long a client may take to take a message.
const TAKE: Duration = Duration::from_secs(10);
/// A ping is sent so often, and one that was not answered by the next ends the connection.
const PING: Duration = Duration::from_secs(20);

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum Asked {
    Subscribe {
        topic: String,
        /// The `place` or the id of the last event that the client had.
        after: Option<String>,
        #[serde(rename = "where")]
        filter: Option<String>,
    },
    Unsubscribe {
        topic: String,
    },
    Ping {},
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Said<'a> {
    Subscribed {
        topic: &'a str,
        /// Whether everything after `after` is still kept; null without one.
        complete: Option<bool>,
        /// Where it begins without `after`: for who is cut before the first event.
        place: Option<&'a str>,
    },
    Unsubscribed {
        topic: &'a str,
    },
    Event {
        topic: &'a str,
        /// To be sent as `after`.
        place: &'a str,
        event: &'a RawValue,
    },
    Pong {},
    Error {
        code: &'static str,
        message: &'a str,
    },
}

/// `GET /ws`.
pub async fn socket(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade.max_message_size(MESSAGE_BYTES).max_frame_size(MESSAGE_BYTES).on_upgrade(move |socket| async move {
        let stop = app.stop().clone();
        let shut_out = until_shut_out(app.clone(), caller, Scope::Read);
        let mut talk = Talk { app, socket, subscriptions: Vec::new(), answered: true };
        let end = tokio::select! {
            biased;
            () = stop.cancelled() => Some((close_code::AWAY, "the server stops; go on at another one")),
            () = shut_out => Some((close_code::POLICY, "the token is not known any more")),
            end = talk.go_on() => end,
        };
        if let Some((code, reason)) = end {
            let frame = CloseFrame { code, reason: reason.into() };
            // Who does not read does not read this.
            let _ = timeout(Duration::from_secs(1), talk.socket.send(Message::Close(Some(frame)))).await;
        }
    })
}

struct Talk {
    app: App,
    socket: WebSocket,
    subscriptions: Vec<(Topic, Reader)>,
    /// The last ping was.
    answered: bool,
}

type End = Option<(u16, &'static str)>;

impl Talk {
    /// Until the client goes, or why it is cut.
    async fn go_on(&mut self) -> End {
        let mut ping = Instant::now() + PING;
        loop {
            let ended = tokio::select! {
                biased;
                message = self.socket.recv() => match message {
                    None | Some(Err(_) | Ok(Message::Close(_))) => return None,
                    Some(Ok(message)) => self.heard(message).await,
                },
                (nth, page) = next_of(&mut self.subscriptions) => match page {
                    Ok(page) => self.pass_on(nth, &page).await,
                    Err(error) => {
                        tracing::debug!("live events: {error}");
                        return Some((close_code::AGAIN, "the store cannot be read; go on later"));
                    }
                },
                () = tokio::time::sleep_until(ping) => {
                    if !std::mem::take(&mut self.answered) {
                        return Some((close_code::AWAY, "no pong came"));
                    }
                    ping = Instant::now() + PING;
                    self.send(Message::Ping(Vec::new().into())).await
                }
            };
            if let Err(end) = ended {
                return end;
            }
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match timeout(TAKE, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(None),
            Err(_) => Err(Some((close_code::AGAIN, "too slow; go on from the last place"))),
        }
    }

    async fn say(&mut self, said: &Said<'_>) -> Result<(), End> {
        let text = serde_json::to_string(said).unwrap_or_default();
        self.send(Message::Text(text.into())).await
    }

    async fn refuse(&mut self, message: &str) -> Result<(), End> {
        self.say(&Said::Error { code: Code::Usage.as_str(), message }).await
    }

    async fn heard(&mut self, message: Message) -> Result<(), End> {
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(_) => return Err(Some((close_code::UNSUPPORTED, "messages are JSON texts"))),
            Message::Pong(_) => {
                self.answered = true;
                return Ok(());
            }
            // Answered below us.
            Message::Ping(_) | Message::Close(_) => return Ok(()),
        };
        match serde_json::from_str::<Asked>(&text) {
            Ok(Asked::Ping {}) => self.say(&Said::Pong {}).await,
            Ok(Asked::Subscribe { topic, after, filter }) => {
                self.subscribe(&topic, after.as_deref(), filter.as_deref()).await
            }
            Ok(Asked::Unsubscribe { topic }) => {
                self.subscriptions.retain(|(kept, _)| kept.name() != topic);
                self.say(&Said::Unsubscribed { topic: &topic }).await
            }
            Err(error) => {
                let message = format!(
                    "not understood: {error}; send {{\"type\":\"subscribe\",\"topic\":\"events\"}}, unsubscribe or ping"
                );
                self.refuse(&message).await
            }
        }
    }

    async fn subscribe(&mut self, name: &str, after: Option<&str>, filter: Option<&str>) -> Result<(), End> {
        let topic = match Topic::parse(name, filter) {
            Ok(topic) => topic,
            Err(error) => return self.refuse(&error.to_string()).await,
        };
        let place = match after.map(Place::parse) {
            None => None,
            Some(Some(place)) => Some(place),
            Some(None) => return self.refuse("`after` is not the place or the id of an event").await,
        };
        // A topic that is subscribed again begins anew.
        self.subscriptions.retain(|(kept, _)| kept.name() != name);
        if self.subscriptions.len() >= TOPICS {
            return self.refuse("too many topics on one connection").await;
        }
        match self.app.hub().read(place.as_ref()).await {
            Ok((reader, found)) => {
                let (complete, begins) = match place {
                    Some(_) => (Some(found), None),
                    None => (None, Some(reader.place())),
                };
                self.say(&Said::Subscribed { topic: name, complete, place: begins.as_deref() }).await?;
                self.subscriptions.push((topic, reader));
                Ok(())
            }
            Err(error) => {
                let message = error.to_string();
                self.say(&Said::Error { code: Code::from(&error).as_str(), message: &message }).await
            }
        }
    }

    async fn pass_on(&mut self, nth: usize, page: &Page) -> Result<(), End> {
        let now = self.app.client().clock().now();
        for told in &page.events {
            let Some((topic, _)) = self.subscriptions.get(nth) else { return Ok(()) };
            if !topic.has(&told.view, now) {
                continue;
            }
            let Ok(event) = serde_json::from_str::<&RawValue>(&told.json) else { continue };
            let said = Said::Event { topic: topic.name(), place: &told.place, event };
            let text = serde_json::to_string(&said).unwrap_or_default();
            self.send(Message::Text(text.into())).await?;
        }
        Ok(())
    }
}

/// The next page of any subscription, and of which; waits for ever without one.
async fn next_of(subscriptions: &mut [(Topic, Reader)]) -> (usize, crate::api::Result<Arc<Page>>) {
    if subscriptions.is_empty() {
        return std::future::pending().await;
    }
    let waits = subscriptions
        .iter_mut()
        .enumerate()
        .map(|(nth, (_, reader))| Box::pin(async move { (nth, reader.next().await) }));
    futures_util::future::select_all(waits).await.0
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    topic: Option<String>,
    #[serde(rename = "where")]
    filter: Option<String>,
    /// As the header `Last-Event-ID`, for those who cannot set one.
    after: Option<String>,
}

/// `GET /events`: server-sent events (HTML standard, 9.2).
pub async fn stream(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let bad = |detail: String| Problem::new(Code::Usage, detail);
    let Query(query) = query.map_err(|rejection| bad(rejection.body_text()))?;
    let topic = Topic::parse(query.topic.as_deref().unwrap_or("events"), query.filter.as_deref());
    let topic = topic.map_err(|error| bad(error.to_string()))?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned).or(query.after);
    let place = match last.filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => {
            let place = Place::parse(&text);
            Some(place.ok_or_else(|| bad("Last-Event-ID is not the id of an event".to_owned()))?)
        }
    };
    let (reader, found) = app.hub().read(place.as_ref()).await?;
    // An id without data is where a client begins that is cut before its first event.
    let first = match place {
        None => Some(SseEvent::default().id(reader.place())),
        Some(_) => (!found).then(|| SseEvent::default().event("gap").data("{}")),
    };
    let alive = KeepAlive::new().interval(Duration::from_secs(15));
    let shut_out = Box::pin(until_shut_out(app.clone(), caller, Scope::Read));
    Ok(Sse::new(told(app, topic, reader, first).take_until(shut_out)).keep_alive(alive).into_response())
}

/// The events of a topic, one after the other. It ends with the server, and when the store cannot be
/// read: a client then comes again with the last id it had.
fn told(
    app: App,
    topic: Topic,
    reader: Reader,
    first: Option<SseEvent>,
) -> impl Stream<Item = Result<SseEvent, Infallible>> {
    struct State {
        app: App,
        topic: Topic,
        reader: Reader,
        page: Option<(Arc<Page>, usize)>,
        first: Option<SseEvent>,
    }
    let state = State { app, topic, reader, page: None, first };
    stream::unfold(state, |mut state| async move {
        if let Some(first) = state.first.take() {
            return Some((Ok(first), state));
        }
        let stop = state.app.stop().clone();
        loop {
            if let Some((page, nth)) = state.page.take()
                && let Some(told) = page.events.get(nth)
            {
                let now = state.app.client().clock().now();
                let event = state
                    .topic
                    .has(&told.view, now)
                    .then(|| SseEvent::default().id(&told.place).event(told.view.kind).data(&*told.json));
                state.page = Some((page, nth + 1));
                match event {
                    Some(event) => return Some((Ok(event), state)),
                    None => continue,
                }
            }
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                next = state.reader.next() => next,
            };
            match next {
                Ok(page) => state.page = Some((page, 0)),
                Err(error) => {
                    tracing::debug!("live events: {error}");
                    return None;
                }
            }
        }
    })
}
