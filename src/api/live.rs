//! The event log for many readers at once: one task looks whether the log has grown, and the pages it
//! finds are read by all who are up to date. Whoever is behind reads on their own until they are. Nothing
//! is kept for a reader that is slow: what it has not read is in the log, and its place is a text.
//! Knows cursors, not who reads.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::events::EVENT_FIELDS;
use super::filter::{BadFilter, Where};
use super::{Client, EventView, Result};
use crate::domain::Ms;
use crate::store::{Cursor, StoreError};

/// Events read at once.
const PAGE: usize = 500;
/// Pages kept at hand for those who are up to date.
const PAGES: usize = 64;
/// Looks at the log while somebody reads along; it gives no sign.
const LOOK: Duration = Duration::from_millis(100);
/// After a look that the store did not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// Between the two parts of a place: neither a cursor nor an id holds it.
const BETWEEN: char = '~';

/// An event on its way out.
#[derive(Clone, Debug)]
pub struct Told {
    /// Where to go on after it: see [`Place`].
    pub place: String,
    pub view: EventView,
    /// The event as JSON.
    pub json: Arc<str>,
}

/// Some events that follow each other in the log.
#[derive(Debug)]
pub struct Page {
    from: Cursor,
    to: Cursor,
    pub events: Vec<Told>,
}

impl Page {
    fn new(from: Cursor, to: Cursor, events: &[crate::domain::Event]) -> Page {
        let told = |event| {
            let view = EventView::from(event);
            let json = serde_json::to_string(&view).unwrap_or_default();
            Told { place: format!("{}{BETWEEN}{}", from.0, view.id), view, json: json.into() }
        };
        Page { events: events.iter().map(told).collect(), from, to }
    }
}

/// Where a reader was: the id of the last event it had, and, unless a person copied it from somewhere,
/// where the page of that event began. One that has had none yet has only a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    page: Option<Cursor>,
    event: Option<String>,
}

impl Place {
    /// Reads what [`Told::place`] gave, or the id of an event.
    pub fn parse(text: &str) -> Option<Place> {
        let (page, event) = match text.rsplit_once(BETWEEN) {
            Some((page, event)) => (Some(Cursor(page.to_owned())), event),
            None => (None, text),
        };
        if text.len() > 4096 || text.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return None;
        }
        match (event, &page) {
            ("", Some(_)) => Some(Place { page, event: None }),
            (id, _) => uuid::Uuid::try_parse(id).ok().map(|id| Place { page, event: Some(id.to_string()) }),
        }
    }
}

/// What of the log somebody wants to read.
pub struct Topic {
    name: String,
    filter: Option<Where<EventView>>,
}

/// Topics that are the events of one thing: how they begin, and the field that names it.
const OF_ONE: [(&str, &str); 5] =
    [("job:", "job"), ("run:", "run"), ("queue:", "queue"), ("worker:", "worker"), ("type:", "type")];
/// Topics that are the events of a kind.
const KINDS: [(&str, &str); 7] = [
    ("jobs", "job."),
    ("runs", "run."),
    ("steps", "step."),
    ("queues", "queue."),
    ("workers", "worker."),
    ("schedules", "schedule."),
    ("shards", "shard."),
];

#[derive(Debug, thiserror::Error)]
pub enum BadTopic {
    #[error(
        "there is no topic `{0}`: events, jobs, runs, steps, queues, workers, schedules, shards, or one of them as job:ID, run:ID, queue:NAME, worker:ID, type:NAME"
    )]
    Name(String),
    #[error(transparent)]
    Filter(#[from] BadFilter),
}

impl Topic {
    /// # Errors
    /// A name that is no topic, a filter that cannot be read.
    pub fn parse(name: &str, filter: Option<&str>) -> Result<Topic, BadTopic> {
        let unknown = || BadTopic::Name(name.chars().take(64).collect());
        let of_one = OF_ONE.iter().find(|(begin, _)| name.len() > begin.len() && name.starts_with(begin));
        if of_one.is_none() && name != "events" && KINDS.iter().all(|(topic, _)| *topic != name) {
            return Err(unknown());
        }
        let own = match of_one {
            Some((begin, field)) => {
                let value = &name[begin.len()..];
                let plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:-*".contains(&byte));
                if !plain {
                    return Err(unknown());
                }
                Some(format!("{field}:{value}"))
            }
            None => None,
        };
        let whole: Vec<&str> =
            own.as_deref().into_iter().chain(filter).filter(|text| !text.trim().is_empty()).collect();
        let filter = match whole.as_slice() {
            [] => None,
            parts => Some(Where::parse(&parts.join(" "), EVENT_FIELDS)?),
        };
        Ok(Topic { name: name.to_owned(), filter })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn has(&self, event: &EventView, now: Ms) -> bool {
        let of_kind = KINDS.iter().find(|(topic, _)| *topic == self.name);
        of_kind.is_none_or(|(_, begin)| event.kind.starts_with(begin))
            && self.filter.as_ref().is_none_or(|filter| filter.matches(event, now))
    }
}

/// The one look at the log that all readers share.
pub struct Hub {
    client: Client,
    pages: Mutex<VecDeque<Arc<Page>>>,
    moved: watch::Sender<u64>,
}

impl Hub {
    pub fn new(client: Client) -> Arc<Hub> {
        Arc::new(Hub { client, pages: Mutex::default(), moved: watch::Sender::new(0) })
    }

    fn pages(&self) -> MutexGuard<'_, VecDeque<Arc<Page>>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the log as long as somebody reads along, until `stop`.
    pub async fn run(self: Arc<Hub>, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.look() => {}
        }
    }

    async fn look(&self) {
        let mut at: Option<Cursor> = None;
        loop {
            if self.moved.receiver_count() == 0 {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            match self.client.store().events(at.as_ref(), PAGE).await {
                Ok((events, to)) => {
                    let full = events.len() >= PAGE;
                    if !events.is_empty() {
                        if let Some(from) = at.replace(to.clone()) {
                            self.add(Page::new(from, to, &events));
                        }
                    } else if at.is_none() {
                        at = Some(to);
                    }
                    if !events.is_empty() {
                        self.moved.send_modify(|count| *count += 1);
                    }
                    if !full {
                        tokio::time::sleep(LOOK).await;
                    }
                }
                Err(error) => {
                    tracing::debug!("the event log cannot be read: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn add(&self, page: Page) {
        let mut pages = self.pages();
        pages.push_back(Arc::new(page));
        while pages.len() > PAGES {
            pages.pop_front();
        }
    }

    fn page_from(&self, at: &Cursor) -> Option<Arc<Page>> {
        self.pages().iter().rev().find(|page| page.from == *at).cloned()
    }

    /// A page that ends within these events, and after how many of them.
    fn page_ending_in(&self, events: &[Told]) -> Option<(usize, Cursor)> {
        let pages = self.pages();
        let last = |page: &Arc<Page>| Some((page.events.last()?.view.id.clone(), page.to.clone()));
        pages.iter().rev().filter_map(last).find_map(|(id, to)| {
            let place = events.iter().rposition(|event| event.view.id == id)?;
            Some((place + 1, to))
        })
    }

    /// Reads along from now on, or from after a place. Whether the place was found: if not, it is older
    /// than what is kept, and everything that is kept comes.
    ///
    /// # Errors
    /// The store's.
    pub async fn read(self: &Arc<Hub>, after: Option<&Place>) -> Result<(Reader, bool)> {
        let moved = self.moved.subscribe();
        let reader = |at, first| Reader { hub: self.clone(), at, first, moved };
        match after {
            None => {
                let at = self.end().await?;
                Ok((reader(at, None), true))
            }
            Some(Place { page: Some(at), event: None }) => Ok((reader(at.clone(), None), true)),
            Some(place) => match self.locate(place).await? {
                Some((at, rest)) => Ok((reader(at, rest), true)),
                None => {
                    let (oldest, at) = self.page(None).await?;
                    let page = Page::new(Cursor(String::new()), at.clone(), &oldest);
                    Ok((reader(at, Some(Arc::new(page))), false))
                }
            },
        }
    }

    async fn page(&self, after: Option<&Cursor>) -> Result<(Vec<crate::domain::Event>, Cursor)> {
        self.client.patiently(|| self.client.store().events(after, PAGE)).await
    }

    /// The end of the log.
    async fn end(&self) -> Result<Cursor> {
        let mut after = self.pages().back().map(|page| page.to.clone());
        loop {
            let (events, next) = self.page(after.as_ref()).await?;
            if events.is_empty() {
                return Ok(next);
            }
            after = Some(next);
        }
    }

    /// Where to go on after a place, with what is left of its page.
    async fn locate(&self, place: &Place) -> Result<Option<(Cursor, Option<Arc<Page>>)>> {
        let mut after = place.page.clone();
        loop {
            let (events, to) = match self.page(after.as_ref()).await {
                Ok(page) => page,
                // Whoever sent it has made it up.
                Err(super::ApiError::Store(StoreError::Refused(_) | StoreError::Corrupt(_)))
                    if place.page.is_some() =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            if events.is_empty() {
                return Ok(None);
            }
            let from = after.unwrap_or_else(|| Cursor(String::new()));
            let mut page = Page::new(from, to.clone(), &events);
            if let Some(found) = page.events.iter().rposition(|event| Some(&event.view.id) == place.event.as_ref()) {
                page.events.drain(..=found);
                return Ok(Some((to, Some(Arc::new(page)))));
            }
            after = Some(to);
        }
    }
}

/// One who reads along.
pub struct Reader {
    hub: Arc<Hub>,
    at: Cursor,
    first: Option<Arc<Page>>,
    moved: watch::Receiver<u64>,
}

impl Reader {
    /// Where it is before its first event.
    pub fn place(&self) -> String {
        format!("{}{BETWEEN}", self.at.0)
    }

    /// The next events; waits for them. May be dropped while it waits, and asked again.
    ///
    /// # Errors
    /// The store's, when it stays away for longer than patience lasts; asked again, it goes on.
    pub async fn next(&mut self) -> Result<Arc<Page>> {
        if let Some(first) = self.first.take().filter(|page| !page.events.is_empty()) {
            return Ok(first);
        }
        loop {
            self.moved.borrow_and_update();
            if let Some(page) = self.hub.page_from(&self.at) {
                self.at = page.to.clone();
                return Ok(page);
            }
            let (events, to) = self.hub.page(Some(&self.at)).await?;
            if !events.is_empty() {
                let mut page = Page::new(self.at.clone(), to, &events);
                // From where the shared pages go on, so that the next one is read together.
                if let Some((count, to)) = self.hub.page_ending_in(&page.events) {
                    page.events.truncate(count);
                    page.to = to;
                }
                self.at = page.to.clone();
                return Ok(Arc::new(page));
            }
            self.at = to;
            if self.moved.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_id_with_or_without_its_page() {
        let id = "0192f0c1-2b3c-8000-8a9b-0123456789ab";
        let place = Place::parse(&format!("12~3~{id}")).expect("a place");
        assert_eq!(place, Place { page: Some(Cursor("12~3".into())), event: Some(id.into()) });
        assert_eq!(Place::parse("12~"), Some(Place { page: Some(Cursor("12".into())), event: None }));
        assert_eq!(Place::parse(&id.to_uppercase()), Some(Place { page: None, event: Some(id.into()) }));
        for bad in ["", "12", "1 2~", &format!("{}~{id}", "x".repeat(5_000))] {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn topics_are_kinds_or_things() {
        let event = |kind: crate::domain::EventKind, queue: &str| {
            let queue = Some(queue.parse().expect("a name"));
            EventView::from(&crate::domain::Event { queue, ..crate::domain::Event::new(kind) })
        };
        let dead = event(crate::domain::EventKind::JobDead, "mail");
        let has = |name: &str, filter: Option<&str>| Topic::parse(name, filter).expect(name).has(&dead, Ms(0));
        assert!(has("events", None) && has("jobs", None) && has("queue:mail", None) && has("type:job.dead", None));
        assert!(!has("runs", None) && !has("queue:other", None) && !has("events", Some("type:job.created")));
        for bad in ["", "job", "job:", "nothing", "job:a b", "queue:x' type:y"] {
            assert!(Topic::parse(bad, None).is_err(), "{bad}");
        }
        assert!(Topic::parse("events", Some("colour:red")).is_err());
    }
}
