//! Group commit: one thread of this process writes. Requests of all tasks queue up on a channel; the
//! writer takes what is there, carries it out in one transaction, commits once, and answers.
//!
//! ```text
//!  task ─ submit ─┐                      ┌─ BEGIN IMMEDIATE
//!  task ─ submit ─┼─▶ channel ─▶ writer ─┤  work, work, work   ─▶ answers, then wake-ups
//!  task ─ submit ─┘    (1,024)           └─ COMMIT
//! ```
//!
//! A statement that fails rolls the whole group back; then each request runs alone, so that only the
//! one at fault is told. The channel is bounded so that tasks wait rather than memory grows. It knows
//! transactions and their failures, not what a request does.

use std::sync::Arc;
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::fault::{Fault, classify, classify_commit, name_file};
use super::space::Space;
use super::tx::{Queues, Tx};
use super::wake::Bells;
use crate::domain::Clock;
use crate::store::{Result, StoreError};

/// Requests that may wait for the writer before tasks wait to hand in theirs.
const WAITING: usize = 1_024;
/// Requests in one group.
const GROUP_REQUESTS: usize = 256;
/// Jobs in one group: bounds how long the first of them waits for the last.
const GROUP_JOBS: usize = 4_096;

/// A request: run in a transaction, perhaps more than once, and then answered once.
trait Work: Send {
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault>;
    fn answer(self: Box<Self>, failure: Option<StoreError>);
    fn size(&self) -> usize;
    fn adds(&self) -> bool;
}

struct Call<T, F> {
    run: F,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<(Result<T>, F)>,
    size: usize,
    adds: bool,
}

impl<T, F> Work for Call<T, F>
where
    T: Send,
    F: FnMut(&mut Tx<'_>) -> Result<T, Fault> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        self.outcome = Some(match (self.run)(tx) {
            Err(Fault::Broken(error)) => return Err(Fault::Broken(error)),
            Err(Fault::Refused(error)) => Err(error),
            Ok(value) => Ok(value),
        });
        Ok(())
    }

    fn answer(self: Box<Self>, failure: Option<StoreError>) {
        let outcome = match failure {
            Some(error) => Err(error),
            None => self.outcome.unwrap_or_else(|| Err(StoreError::Unavailable("the request was not run".into()))),
        };
        // The request goes back to its task to be freed there: this thread has better to do. If nobody
        // waits any more, the caller was dropped; what was done stays done.
        let _ = self.reply.send((outcome, self.run));
    }

    fn size(&self) -> usize {
        self.size
    }

    fn adds(&self) -> bool {
        self.adds
    }
}

/// The way to the writer thread. Dropping it ends the thread, after what is queued.
pub(super) struct Writer {
    requests: Option<mpsc::Sender<Box<dyn Work>>>,
    thread: Option<JoinHandle<()>>,
}

/// What the writer thread owns.
pub(super) struct Desk {
    pub conn: Connection,
    pub clock: Arc<dyn Clock>,
    pub space: Space,
    pub bells: Bells,
    pub hints: watch::Sender<u64>,
    pub path: String,
}

impl Writer {
    pub(super) fn start(desk: Desk) -> Result<Writer> {
        let (requests, queue) = mpsc::channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || Loop { desk, queues: Queues::default() }.serve(queue))
            .map_err(|error| StoreError::Unavailable(format!("no thread for the writer: {error}")))?;
        Ok(Writer { requests: Some(requests), thread: Some(thread) })
    }

    /// Runs `run` in a transaction and waits until it is committed. `size` is roughly the number of
    /// jobs it touches; `adds` says that it brings new work, which is refused first when the disk is
    /// full. `run` must leave its captures as they are: it runs again if the group fails.
    pub(super) async fn submit<T, F>(&self, size: usize, adds: bool, run: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let stopped = || StoreError::Unavailable("the writer thread has stopped".to_owned());
        let (reply, answer) = oneshot::channel();
        let call = Box::new(Call { run, outcome: None, reply, size, adds });
        let requests = self.requests.as_ref().ok_or_else(stopped)?;
        requests.send(call).await.map_err(|_| stopped())?;
        // A writer that died in the middle may have committed.
        match answer.await {
            Ok((outcome, _)) => outcome,
            Err(_) => Err(StoreError::Unknown("the writer thread has stopped".to_owned())),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was already reported by its own hook.
            let _ = thread.join();
        }
    }
}

struct Loop {
    desk: Desk,
    queues: Queues,
}

/// Why a group did not commit.
enum Failure {
    /// No request of it can do better alone.
    Whole(StoreError),
    /// One of them is at fault, or it was too much together.
    Some(StoreError),
}

impl Loop {
    fn serve(mut self, mut queue: mpsc::Receiver<Box<dyn Work>>) {
        // Here and not where the store is opened: the first time it takes some milliseconds.
        self.has_room();
        while let Some(first) = queue.blocking_recv() {
            let mut jobs = first.size();
            let mut group = vec![first];
            while group.len() < GROUP_REQUESTS && jobs < GROUP_JOBS {
                let Ok(next) = queue.try_recv() else { break };
                jobs += next.size();
                group.push(next);
            }
            if group.iter().any(|work| work.adds()) && !self.has_room() {
                let (adding, rest) = group.into_iter().partition(|work| work.adds());
                self.refuse(adding);
                group = rest;
            }
            self.carry_out(group, true);
        }
    }

    fn has_room(&mut self) -> bool {
        let now = self.desk.clock.now();
        self.desk.space.has_reserve(now)
    }

    fn refuse(&self, group: Vec<Box<dyn Work>>) {
        let error = StoreError::Full(format!("{}: the disk is full: no new work is taken", self.desk.path));
        for work in group {
            work.answer(Some(error.clone()));
        }
    }

    /// Runs a group and answers it. `free` allows to make room for it once if the disk is full.
    fn carry_out(&mut self, mut group: Vec<Box<dyn Work>>, free: bool) {
        if group.is_empty() {
            return;
        }
        let error = match self.attempt(&mut group) {
            Ok(wake) => {
                for work in group {
                    work.answer(None);
                }
                if wake {
                    self.desk.hints.send_modify(|count| *count += 1);
                    self.desk.bells.ring();
                }
                return;
            }
            Err(Failure::Whole(error)) => {
                let error = name_file(error, &self.desk.path);
                for work in group {
                    work.answer(Some(error.clone()));
                }
                return;
            }
            Err(Failure::Some(error)) => error,
        };
        let full = matches!(error, StoreError::Full(_));
        let freed = full && free && self.desk.space.release(&self.desk.conn);
        let alone = group.len() == 1;
        if alone && (group[0].adds() || !freed) {
            let error = name_file(error, &self.desk.path);
            group.into_iter().for_each(|work| work.answer(Some(error.clone())));
            return;
        }
        for work in group {
            match work.adds() && full {
                true => self.refuse(vec![work]),
                false => self.carry_out(vec![work], free && !full),
            }
        }
    }

    /// One transaction. `Ok` tells whether somebody may find new work.
    fn attempt(&mut self, group: &mut [Box<dyn Work>]) -> Result<bool, Failure> {
        let conn = &self.desk.conn;
        execute(conn, "BEGIN IMMEDIATE").map_err(|error| Failure::Whole(classify(&error)))?;
        let worked = (|| {
            let mut tx = Tx::begin(conn, self.desk.clock.now(), &mut self.queues)?;
            for work in group {
                work.run(&mut tx)?;
            }
            tx.finish()
        })();
        let wake = match worked {
            Ok(wake) => wake,
            Err(fault) => {
                self.roll_back()?;
                return Err(Failure::Some(fault.into_error()));
            }
        };
        match execute(conn, "COMMIT") {
            Ok(()) => Ok(wake),
            Err(error) => {
                self.roll_back()?;
                Err(match classify_commit(&error) {
                    error @ StoreError::Unknown(_) => Failure::Whole(error),
                    error => Failure::Some(error),
                })
            }
        }
    }

    fn roll_back(&mut self) -> Result<(), Failure> {
        self.queues = Queues::default();
        // Some failures have rolled back already.
        if self.desk.conn.is_autocommit() {
            return Ok(());
        }
        execute(&self.desk.conn, "ROLLBACK").map_err(|error| Failure::Whole(classify(&error)))
    }
}

fn execute(conn: &Connection, sql: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(sql)?.execute(()).map(|_| ())
}
