//! Lists a page at a time, for those who come back for the next one. A cursor is opaque text; one that
//! was not made here is refused. A page may hold fewer than were asked for, and still not be the last.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::filter::Where;
use super::{ApiError, Client, EventView, Filter, Result, RunView};
use crate::domain::{Name, RunState, limits};
use crate::store::{Cursor, ListQuery, RunQuery, StoreError, Stored};

/// A page, and where the next begins.
#[derive(Clone, Debug)]
pub struct Slice<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

/// Which part of a list, and where in it.
fn encode(part: usize, cursor: Option<&Cursor>) -> String {
    URL_SAFE_NO_PAD.encode(format!("{part}:{}", cursor.map_or("", |cursor| cursor.0.as_str())))
}

fn decode(text: &str) -> Result<(usize, Option<Cursor>)> {
    let bad = || ApiError::BadCursor(text.to_owned());
    let inner = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(bad)?;
    let (part, rest) = inner.split_once(':').ok_or_else(bad)?;
    let part = part.parse().map_err(|_| bad())?;
    Ok((part, (!rest.is_empty()).then(|| Cursor(rest.to_owned()))))
}

/// A store refuses a cursor that is none of its own.
fn of_cursor<T>(answer: Result<T, StoreError>, given: Option<&str>) -> Result<T> {
    match (answer, given) {
        (Err(StoreError::Refused(_)), Some(text)) => Err(ApiError::BadCursor(text.to_owned())),
        (answer, _) => Ok(answer?),
    }
}

impl Client {
    /// Jobs that match, in the order of their places, at most `limit`; [`limits::LIST_BUDGET`] are
    /// looked at.
    ///
    /// # Errors
    /// [`ApiError::BadCursor`]; the store's.
    pub async fn jobs_page(&self, filter: &Filter, after: Option<&str>, limit: usize) -> Result<Slice<Stored>> {
        let now = self.clock().now();
        let places = filter.places();
        let (mut nth, mut cursor) = after.map_or(Ok((0, None)), decode)?;
        let (mut items, mut looked, mut given) = (Vec::new(), 0, after);
        while let Some(place) = places.get(nth).copied() {
            let room = limit - items.len();
            let budget = if filter.is_selective() { room.max(200) } else { room };
            let query = ListQuery { place, queue: filter.queue().cloned(), after: cursor.clone(), budget };
            let mut page = of_cursor(self.store().list(&query).await, given.take())?;
            looked += page.items.len();
            if page.items.iter().filter(|stored| filter.matches(stored, now)).count() > room {
                // Look at so few that none is passed over.
                page = self.store().list(&ListQuery { budget: room, ..query }).await?;
            }
            items.extend(page.items.into_iter().filter(|stored| filter.matches(stored, now)));
            cursor = page.next;
            if cursor.is_none() {
                nth += 1;
            }
            if items.len() >= limit || looked >= limits::LIST_BUDGET {
                break;
            }
        }
        let next = (nth < places.len()).then(|| encode(nth, cursor.as_ref()));
        Ok(Slice { items, next })
    }

    /// Runs, live ones first, the latest first, at most `limit`.
    ///
    /// # Errors
    /// As [`Client::jobs_page`].
    pub async fn runs_page(
        &self,
        state: Option<RunState>,
        workflow: Option<&Name>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Slice<RunView>> {
        let (mut part, mut cursor) = after.map_or(Ok((0, None)), decode)?;
        let (mut items, mut looked, mut given) = (Vec::new(), 0, after);
        while part < 2 {
            let finished = part == 1;
            if state.is_some_and(|state| state.is_terminal() != finished) {
                (part, cursor) = (part + 1, None);
                continue;
            }
            let query = RunQuery { finished, after: cursor.take(), budget: limit - items.len() };
            let page = of_cursor(self.store().runs(&query).await, given.take())?;
            looked += page.items.len();
            for record in &page.items {
                let fits = state.is_none_or(|state| record.state == state)
                    && workflow.is_none_or(|workflow| record.workflow == *workflow);
                if fits {
                    match self.run(record.id).await {
                        Ok(view) => items.push(view),
                        // It was trimmed since.
                        Err(ApiError::NotFound { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                part += 1;
            }
            if items.len() >= limit || looked >= limits::LIST_BUDGET {
                break;
            }
        }
        let next = (part < 2).then(|| encode(part, cursor.as_ref()));
        Ok(Slice { items, next })
    }

    /// Events after a cursor, oldest first, at most about `limit` of them looked at; `next` is always
    /// there, because the log goes on.
    ///
    /// # Errors
    /// As [`Client::jobs_page`].
    pub async fn events_page(
        &self,
        filter: &Where<EventView>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Slice<EventView>> {
        let cursor = after.map(decode).transpose()?.and_then(|(_, cursor)| cursor);
        let (events, next) = of_cursor(self.store().events(cursor.as_ref(), limit).await, after)?;
        let now = self.clock().now();
        let items = events.iter().map(EventView::from).filter(|view| filter.matches(view, now)).collect();
        Ok(Slice { items, next: Some(encode(0, Some(&next))) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_others_are_refused() {
        let cursor = Cursor("12.34".to_owned());
        assert_eq!(decode(&encode(3, Some(&cursor))), Ok((3, Some(cursor))));
        assert_eq!(decode(&encode(0, None)), Ok((0, None)));
        for bad in ["", "x", "!!!", "YWJj"] {
            assert!(matches!(decode(bad), Err(ApiError::BadCursor(_))), "{bad}");
        }
    }
}
