//! What running jobs tell of themselves, gathered until the worker sends it: a few batches a second,
//! however much is said. A job's last words go before its end does, or its lease would be gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::{Epoch, JobId, Progress, text};
use crate::exec;
use crate::store::{Note, Result, Store, StoreError};

/// One note's text, in bytes: what the contract allows.
const CHUNK: usize = 64 << 10;
/// Text of one job that waits to be sent, in bytes. A job that prints faster than the store takes it
/// loses the oldest of it, and is told so.
const WAITING: usize = 256 << 10;

/// The lease of a job that tells something.
type Key = (JobId, Epoch);

/// What waits to be sent.
#[derive(Debug, Default)]
pub struct NoteBook {
    pages: Mutex<BTreeMap<Key, Page>>,
    changed: Notify,
    /// One batch at a time, so that a job's text keeps its order.
    sending: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Page {
    text: String,
    /// The beginning of a character whose end has not come yet.
    rest: Vec<u8>,
    left_out: u64,
    /// Not sent yet.
    progress: Option<Progress>,
    /// The latest, sent or not.
    latest: Option<Progress>,
    /// Some of it was sent and has not been answered.
    on_its_way: bool,
}

/// The page of one job, for its handler.
#[derive(Clone, Debug)]
pub struct JobNotes {
    book: Arc<NoteBook>,
    key: Key,
}

impl JobNotes {
    pub fn new(book: &Arc<NoteBook>, id: JobId, epoch: Epoch) -> JobNotes {
        JobNotes { book: book.clone(), key: (id, epoch) }
    }
}

impl exec::Notes for JobNotes {
    fn progress(&self, progress: Progress) {
        self.book.write(self.key, |page| {
            page.latest = Some(progress.clone());
            page.progress = Some(progress);
        });
    }

    /// Takes what the job prints, as it comes: cut anywhere, and not always UTF-8.
    fn log(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.book.write(self.key, |page| page.print(bytes));
        }
    }
}

impl Page {
    fn print(&mut self, bytes: &[u8]) {
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend_from_slice(bytes);
        let mut bytes = &rest[..];
        loop {
            match std::str::from_utf8(bytes) {
                Ok(text) => {
                    self.text.push_str(text);
                    break;
                }
                Err(error) => {
                    let (good, bad) = bytes.split_at(error.valid_up_to());
                    self.text.push_str(&String::from_utf8_lossy(good));
                    let Some(length) = error.error_len() else {
                        self.rest = bad.to_vec();
                        break;
                    };
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    bytes = &bad[length..];
                }
            }
        }
        if self.text.len() > WAITING {
            let from = self.text.ceil_char_boundary(self.text.len() - WAITING);
            self.left_out += from as u64;
            self.text.drain(..from);
        }
    }

    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.progress.is_none() && self.left_out == 0
    }

    /// Everything that waits, in notes of at most [`CHUNK`].
    fn take(&mut self, (id, epoch): Key) -> Vec<Note> {
        self.on_its_way = true;
        let mut text = std::mem::take(&mut self.text);
        if self.left_out > 0 {
            let left_out = text::size(std::mem::take(&mut self.left_out));
            text.insert_str(0, &format!("[{left_out} were printed too fast to be kept]\n"));
        }
        let mut notes = vec![Note { id, epoch, progress: self.progress.take(), log: String::new() }];
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.floor_char_boundary(CHUNK));
            match notes.last_mut() {
                Some(last) if last.log.is_empty() => last.log = now.to_owned(),
                _ => notes.push(Note { id, epoch, progress: None, log: now.to_owned() }),
            }
            rest = later;
        }
        notes
    }

    /// What could not be sent waits again, before all that has come since.
    fn put_back(&mut self, note: Note) {
        self.text.insert_str(0, &note.log);
        if self.progress.is_none() {
            self.progress = note.progress;
        }
    }
}

impl NoteBook {
    fn pages(&self) -> MutexGuard<'_, BTreeMap<Key, Page>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, key: Key, write: impl FnOnce(&mut Page)) {
        write(self.pages().entry(key).or_default());
        self.changed.notify_one();
    }

    /// Somebody has written something, now or since this was last awaited.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether the job of this lease has told anything.
    pub fn has(&self, key: Key) -> bool {
        let pages = self.pages();
        !pages.is_empty() && pages.contains_key(&key)
    }

    /// How far the job of this lease has come.
    pub fn latest(&self, key: Key) -> Option<Progress> {
        self.pages().get(&key)?.latest.clone()
    }

    /// The lease is over.
    pub fn close(&self, key: Key) {
        self.pages().remove(&key);
    }

    /// Sends what waits: of these leases, or of all. Answers whose lease did not hold any more. When it is
    /// over nothing of these leases is on its way either: so their ends may be sent, which notes must not
    /// come after.
    ///
    /// # Errors
    /// The store's transient ones; then everything waits again.
    pub async fn send(&self, store: &dyn Store, only: Option<&[Key]>) -> Result<Vec<Key>> {
        let is_meant = |key: &Key| only.is_none_or(|only| only.contains(key));
        let concerns = |page: &Page| !page.is_empty() || (only.is_some() && page.on_its_way);
        if !self.pages().iter().any(|(key, page)| is_meant(key) && concerns(page)) {
            return Ok(Vec::new());
        }
        let _one_at_a_time = self.sending.lock().await;
        let mut notes = Vec::new();
        for (key, page) in self.pages().iter_mut().filter(|(key, page)| is_meant(key) && !page.is_empty()) {
            notes.extend(page.take(*key));
        }
        if notes.is_empty() {
            return Ok(Vec::new());
        }
        let answer = store.note(&notes).await;
        for (_, page) in self.pages().iter_mut().filter(|(_, page)| page.on_its_way) {
            page.on_its_way = false;
        }
        match answer {
            Ok(held) => {
                let lost = notes.iter().zip(held).filter(|(_, held)| !held);
                Ok(lost.map(|(note, _)| (note.id, note.epoch)).collect())
            }
            // No room for words must not keep a job from ending; what else a store refuses is told by
            // the exchange.
            Err(error @ (StoreError::Full(_) | StoreError::Refused(_))) => {
                tracing::warn!(%error, notes = notes.len(), "what jobs told of themselves is not kept");
                Ok(Vec::new())
            }
            Err(error) => {
                let mut pages = self.pages();
                for note in notes.into_iter().rev() {
                    pages.entry((note.id, note.epoch)).or_default().put_back(note);
                }
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Ms, Shard};
    use crate::exec::Notes as _;

    fn book() -> (Arc<NoteBook>, JobNotes, Key) {
        let book = Arc::new(NoteBook::default());
        let key = (JobId::from_parts(Ms(1), Shard(0), 7), Epoch(3));
        (book.clone(), JobNotes::new(&book, key.0, key.1), key)
    }

    fn taken(book: &NoteBook, key: Key) -> Vec<Note> {
        book.pages().get_mut(&key).expect("a page").take(key)
    }

    #[test]
    fn characters_that_come_in_parts_are_whole_and_what_is_none_is_marked() {
        let (book, notes, key) = book();
        for part in [&b"a\xe2"[..], b"\x82", b"\xac b\xff", b"c\xc3"] {
            notes.log(part);
        }
        assert_eq!(taken(&book, key)[0].log, "a\u{20ac} b\u{fffd}c");
        notes.log(b"\xa9");
        assert_eq!(taken(&book, key)[0].log, "\u{e9}");
    }

    #[test]
    fn much_text_goes_in_parts_and_too_much_loses_its_beginning_and_says_so() {
        let (book, notes, key) = book();
        notes.log("\u{e9}".repeat(CHUNK).as_bytes());
        let all = taken(&book, key);
        assert!(all.len() >= 2 && all.iter().all(|note| note.log.len() <= CHUNK));
        assert_eq!(all.iter().map(|note| note.log.chars().count()).sum::<usize>(), CHUNK);
        for _ in 0..8 {
            notes.log(&[b'x'; CHUNK]);
        }
        let all = taken(&book, key);
        assert!(all[0].log.starts_with("[256.0 KiB were printed too fast to be kept]\nxxx"), "{}", &all[0].log[..60]);
    }

    #[tokio::test]
    async fn an_end_waits_for_the_notes_that_are_on_their_way() {
        let (book, notes, key) = book();
        let store = crate::store::MemoryStore::new(Arc::new(crate::sys::clock::SystemClock));
        notes.log(b"the last words");
        // As somebody does who sends them at this moment.
        let on_its_way = book.sending.lock().await;
        assert_eq!(taken(&book, key).len(), 1);
        let ends = [key];
        let mut sent = std::pin::pin!(book.send(&store, Some(&ends)));
        assert!(futures_util::poll!(sent.as_mut()).is_pending());
        drop(on_its_way);
        assert!(sent.await.is_ok_and(|lost| lost.is_empty()));
    }

    #[test]
    fn what_could_not_be_sent_comes_first_again() {
        let (book, notes, key) = book();
        notes.log(b"one ");
        notes.progress(Progress { percent: Some(10.0), message: String::new() });
        let first = taken(&book, key);
        notes.log(b"two");
        book.pages().get_mut(&key).expect("a page").put_back(first.into_iter().next().expect("a note"));
        let again = taken(&book, key).remove(0);
        assert_eq!((again.log.as_str(), again.progress.and_then(|progress| progress.percent)), ("one two", Some(10.0)));
        assert!(book.latest(key).is_some());
        book.close(key);
        assert!(book.latest(key).is_none());
    }
}
