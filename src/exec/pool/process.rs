//! One slot of a pool, and the process in it from its start to its end: orders are written to it as
//! lines, answers are read from it, and whatever goes wrong is the end of the process, never of the
//! slot.

use std::future::Future;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::select_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::{self, Answer, Line, Lines, Said};
use super::{MARK, Order, Recipe, until, waited};
use crate::domain::JobId;
use crate::domain::job::{Outcome, RetryHint};
use crate::domain::text::{display_safe, size};
use crate::exec::command::{LEFTOVER_GRACE, LINGER, LINGER_LIMIT, processes, start, status, temp_failed};
use crate::exec::output::Captured;
use crate::exec::pipes::CHUNK;
use crate::exec::spawn_error::{self, Cause};
use crate::exec::tree::{Stuck, Tree};
use crate::exec::verdict::{failed, judge, timed_out};
use crate::exec::{Ended, Stream, Work, job_text};
use crate::sys::process::Child;

/// The pause before a process is started again that ended without an answer; doubles up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// The life of a slot: until the pool gives no more orders.
pub(super) async fn live(recipe: Arc<Recipe>, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut pause = Duration::ZERO;
    while let Some(order) = orders.recv().await {
        if let Some(ended) = order.patience(pause).await {
            order.over(&ended);
            continue;
        }
        match Process::start(&recipe).await {
            Ok(process) => {
                let well = process.serve(order, &mut orders).await;
                pause = if well { Duration::ZERO } else { longer(pause) };
            }
            Err(ended) => {
                order.over(&ended);
                pause = longer(pause);
            }
        }
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).clamp(PAUSE.0, PAUSE.1)
}

impl Order {
    /// Waits out a pause; answers how the order ended if it was stopped or its time ran out meanwhile.
    async fn patience(&self, pause: Duration) -> Option<Ended> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Some(Ended::Stopped),
            () = tokio::time::sleep(pause) => None,
            limit = until(self.deadline) => Some(waited(limit)),
        }
    }

    fn over(self, ended: &Ended) {
        let _ = self.reply.send(vec![ended.clone(); self.works.len()]);
    }

    fn line(&self) -> String {
        let mut line = match (self.batched, self.works.as_slice()) {
            (false, [work]) => job_text::job(work),
            (_, works) => format!("{{\"batch\":{}}}", job_text::jobs(works)),
        };
        line.push('\n');
        line
    }
}

/// An order that a process works on.
struct Under {
    order: Order,
    ended: Vec<Option<Ended>>,
}

/// What ends a process.
enum Cut {
    Exited,
    /// The time of the order at this place is over, or it was stopped.
    TimedOut(usize, Duration),
    Stopped(usize),
    /// It said what cannot be understood, or reads nothing any more.
    Broken(String),
    TooLong,
    /// No more orders come.
    Closed,
}

/// What happened next to a process.
enum Next {
    Order(Option<Order>),
    Wrote(std::io::Result<usize>),
    Out(std::io::Result<usize>),
    Err(std::io::Result<usize>),
    Cut(Cut),
}

struct Process {
    recipe: Arc<Recipe>,
    child: Child,
    /// Taken when it is ended.
    tree: Option<Tree>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    /// What is still to be written.
    input: Vec<u8>,
    lines: Lines,
    /// What it printed since it was last idle.
    printed: Captured,
    under: Vec<Under>,
    /// Whether it ever finished a job.
    answered: bool,
    buffer: Box<[u8]>,
    other: Box<[u8]>,
}

impl Process {
    async fn start(recipe: &Arc<Recipe>) -> Result<Process, Ended> {
        let context = &recipe.context;
        let place = context.place().await.map_err(|error| temp_failed(&context.settings.temp, &error))?;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // The end keeps one mark from being the beginning of another.
        let mark = place.folder.path().join(format!("{}.pool", NEXT.fetch_add(1, Ordering::Relaxed)));
        let mut environment = recipe.environment.clone();
        environment.insert(MARK.trim_end_matches('=').into(), mark.clone().into());
        let mut variable = MARK.as_bytes().to_vec();
        variable.extend_from_slice(mark.as_os_str().as_encoded_bytes());
        let explain = |cause| Ended::Outcome(spawn_error::explain(&recipe.command, &cause));
        let (mut child, tree) = start(&recipe.command, &environment, &variable, place).await.map_err(explain)?;
        let (stdin, stdout, stderr) = child.take_pipes();
        let pipes = || -> std::io::Result<_> {
            Ok((
                stdin.map(ChildStdin::from_std).transpose()?,
                stdout.map(ChildStdout::from_std).transpose()?,
                stderr.map(ChildStderr::from_std).transpose()?,
            ))
        };
        // On failure the tree is killed as it is dropped.
        let (stdin, stdout, stderr) = pipes().map_err(|error| explain(Cause::Start(error)))?;
        Ok(Process {
            recipe: recipe.clone(),
            child,
            tree: Some(tree),
            stdin,
            stdout,
            stderr,
            input: Vec::new(),
            lines: Lines::default(),
            printed: Captured::default(),
            under: Vec::new(),
            answered: false,
            buffer: vec![0; CHUNK].into(),
            other: vec![0; CHUNK].into(),
        })
    }

    /// Serves orders until something ends the process; all of them are told by then. Answers whether
    /// another may be started at once: this one did something, or ended because it was told to.
    async fn serve(mut self, first: Order, orders: &mut mpsc::UnboundedReceiver<Order>) -> bool {
        self.take(first);
        let cut = loop {
            match self.next(orders).await {
                Next::Order(Some(order)) => self.take(order),
                Next::Order(None) => break Cut::Closed,
                Next::Wrote(Ok(0)) => break Cut::Broken("it reads its input no more".to_owned()),
                Next::Wrote(Ok(more)) => {
                    self.input.drain(..more);
                }
                // It may be ending: its exit says more than a broken pipe.
                Next::Wrote(Err(_)) => {
                    let ending = timeout(LINGER, self.child.exited()).await;
                    break if ending.is_ok() { Cut::Exited } else { Cut::Broken("it reads its input no more".into()) };
                }
                Next::Out(read) => {
                    if let Some(cut) = self.out(read) {
                        break cut;
                    }
                }
                Next::Err(read) => self.err(read),
                Next::Cut(cut) => break cut,
            }
        };
        let told = matches!(cut, Cut::TimedOut(..) | Cut::Stopped(_) | Cut::Closed);
        let well = self.answered || told;
        self.finish(cut).await;
        well
    }

    fn take(&mut self, order: Order) {
        if self.under.is_empty() {
            self.printed = Captured::default();
        }
        self.input.extend_from_slice(order.line().as_bytes());
        let ended = vec![None; order.works.len()];
        self.under.push(Under { order, ended });
    }

    async fn next(&mut self, orders: &mut mpsc::UnboundedReceiver<Order>) -> Next {
        let Process { child, stdin, stdout, stderr, input, under, buffer, other, .. } = self;
        let stops: Vec<_> = under.iter().map(|one| Box::pin(one.order.stop.cancelled())).collect();
        let stopped = async {
            match stops.is_empty() {
                true => std::future::pending().await,
                false => select_all(stops).await.1,
            }
        };
        let soonest = under.iter().enumerate().filter_map(|(at, one)| Some((one.order.deadline?, at))).min();
        let late = async {
            let limit = until(soonest.map(|(deadline, _)| deadline)).await;
            (soonest.map_or(0, |(_, at)| at), limit)
        };
        tokio::select! {
            biased;
            // Before the streams, which may never run dry.
            at = stopped => Next::Cut(Cut::Stopped(at)),
            (at, limit) = late => Next::Cut(Cut::TimedOut(at, limit)),
            // Before the exit: what was said until then counts.
            read = read(stdout, buffer), if stdout.is_some() => Next::Out(read),
            read = read(stderr, other), if stderr.is_some() => Next::Err(read),
            () = child.exited() => Next::Cut(Cut::Exited),
            wrote = write(stdin, input), if !input.is_empty() => Next::Wrote(wrote),
            order = orders.recv() => Next::Order(order),
        }
    }

    /// Takes what it said; what ends it, if anything does.
    fn out(&mut self, read: std::io::Result<usize>) -> Option<Cut> {
        match read {
            Ok(length) if length > 0 => self.lines.push(&self.buffer[..length]),
            // Closed: without a way to answer it is of no use, but its exit says more.
            _ => {
                self.stdout = None;
                let rest = self.lines.rest();
                return rest.and_then(|line| self.line(line));
            }
        }
        while let Some(line) = self.lines.next() {
            if let Some(cut) = self.line(line) {
                return Some(cut);
            }
        }
        None
    }

    fn line(&mut self, line: Line) -> Option<Cut> {
        match line {
            Line::Answers(answers) => {
                answers.into_iter().for_each(|answer| self.answer(answer));
                None
            }
            Line::Log(mut bytes) => {
                bytes.push(b'\n');
                self.log(Stream::Stdout, &bytes);
                None
            }
            Line::Broken(why) => Some(Cut::Broken(why)),
            Line::TooLong => Some(Cut::TooLong),
        }
    }

    fn answer(&mut self, answer: Answer) {
        let Some((at, nth)) = self.find(answer.id) else {
            // Late, or twice: the job is somebody else's by now.
            let kind = &self.recipe.kind;
            tracing::warn!(handler = %kind, job = %answer.id, "an answer for a job that is not in this process");
            return;
        };
        let outcome = match answer.what {
            Said::Progress(progress) => {
                self.under[at].order.works[nth].notes.progress(progress);
                return;
            }
            Said::Result(result) => Outcome::Completed { result },
            Said::Snooze(delay) => Outcome::Snoozed { delay },
            Said::Error(error, retry) => Outcome::Failed { error, retry },
        };
        self.answered = true;
        let one = &mut self.under[at];
        one.ended[nth] = Some(Ended::Outcome(outcome));
        self.recipe.captured(&self.under[at].order.works[nth], &self.printed);
        if self.under[at].ended.iter().all(Option::is_some) {
            let one = self.under.remove(at);
            let _ = one.order.reply.send(one.ended.into_iter().flatten().collect());
        }
    }

    /// Where a job is that is not over.
    fn find(&self, id: JobId) -> Option<(usize, usize)> {
        self.under.iter().enumerate().find_map(|(at, one)| {
            let nth = one.order.works.iter().position(|work| work.job == id)?;
            one.ended[nth].is_none().then_some((at, nth))
        })
    }

    fn err(&mut self, read: std::io::Result<usize>) {
        match read {
            Ok(length) if length > 0 => {
                let bytes = self.other[..length].to_vec();
                self.printed.push(&bytes);
                self.log(Stream::Stderr, &bytes);
            }
            _ => self.stderr = None,
        }
    }

    /// Passes on what was printed: as the job's own where there is only one it can be, else as the
    /// pool's.
    fn log(&self, stream: Stream, bytes: &[u8]) {
        match self.under.as_slice() {
            [one] => self.recipe.context.settings.sink.chunk(&one.order.works[0], stream, bytes),
            _ => {
                for line in String::from_utf8_lossy(bytes).lines() {
                    tracing::info!(handler = %self.recipe.kind, "{}", display_safe(line));
                }
            }
        }
    }

    /// Ends the process as `cut` demands, and then tells the orders that are under way.
    async fn finish(mut self, cut: Cut) {
        let grace = self.recipe.context.settings.grace;
        match &cut {
            Cut::Closed => {
                // The end of its input asks it to end.
                self.stdin = None;
                let exited = timeout(grace, self.exit()).await.is_ok();
                self.end_tree(if exited { LEFTOVER_GRACE.min(grace) } else { grace }).await;
            }
            Cut::Exited => {
                self.drain().await;
                self.end_tree(LEFTOVER_GRACE.min(grace)).await;
            }
            // It has lost its way: asking it to end would be more of the same, but it may clean up.
            Cut::Broken(_) | Cut::TooLong | Cut::TimedOut(..) | Cut::Stopped(_) => self.end_tree(grace).await,
        }
        let Process { recipe, child, printed, under, .. } = self;
        // Only now: as long as the tree was looked for, the leader's number had to be its own.
        let status = status(child);
        if let (true, Cut::Exited) = (under.is_empty(), &cut) {
            let how = status.map_or_else(|| "by itself".to_owned(), |status| format!("by itself ({status})"));
            tracing::warn!(handler = %recipe.kind, "a process of the pool ended {how}; the next job starts another");
        }
        let alone = under.iter().map(|one| one.order.works.len()).sum::<usize>() == 1;
        for (at, one) in under.into_iter().enumerate() {
            let own = matches!(cut, Cut::TimedOut(which, _) | Cut::Stopped(which) if which == at);
            let verdict = match &cut {
                Cut::Exited => died(status, &printed),
                cut => cut.verdict(own, alone, &printed),
            };
            one.tell(|work| recipe.captured(work, &printed), &verdict);
        }
    }

    /// Waits for its exit, and reads what it says on the way.
    async fn exit(&mut self) {
        loop {
            let Process { child, stdout, stderr, buffer, other, .. } = self;
            let next = tokio::select! {
                biased;
                read = read(stdout, buffer), if stdout.is_some() => Next::Out(read),
                read = read(stderr, other), if stderr.is_some() => Next::Err(read),
                () = child.exited() => return,
            };
            match next {
                Next::Out(read) => drop(self.out(read)),
                Next::Err(read) => self.err(read),
                _ => {}
            }
        }
    }

    /// Reads what it said before its end; a pipe that somebody else holds open is not waited for.
    async fn drain(&mut self) {
        let end = Instant::now() + LINGER_LIMIT;
        while self.stdout.is_some() || self.stderr.is_some() {
            let Process { stdout, stderr, buffer, other, .. } = self;
            let turn = async {
                tokio::select! {
                    biased;
                    read = read(stdout, buffer), if stdout.is_some() => Next::Out(read),
                    read = read(stderr, other), if stderr.is_some() => Next::Err(read),
                }
            };
            match timeout_at(end.min(Instant::now() + LINGER), turn).await {
                Ok(Next::Out(read)) => drop(self.out(read)),
                Ok(Next::Err(read)) => self.err(read),
                _ => return,
            }
        }
    }

    async fn end_tree(&mut self, grace: Duration) {
        let Some(tree) = self.tree.take() else { return };
        if !tree.is_over(&tree.members()) {
            let ended = self.served_until(tree.end(grace)).await;
            if let Err(Stuck(pids)) = ended {
                let number = processes(pids.len());
                tracing::warn!(handler = %self.recipe.kind, "{number} outlived KILL, hanging in the kernel: {pids:?}");
            }
        }
        tree.close();
    }

    /// Reads on while something is waited for: a process may have last words.
    async fn served_until<F: Future>(&mut self, done: F) -> F::Output {
        let mut done = pin!(done);
        loop {
            let Process { stdout, stderr, buffer, other, .. } = self;
            let next = tokio::select! {
                biased;
                done = &mut done => return done,
                read = read(stdout, buffer), if stdout.is_some() => Next::Out(read),
                read = read(stderr, other), if stderr.is_some() => Next::Err(read),
            };
            match next {
                // Answers that come after the end was decided are too late.
                Next::Out(Ok(length)) if length > 0 => {}
                Next::Out(_) => self.stdout = None,
                Next::Err(read) => self.err(read),
                _ => {}
            }
        }
    }
}

impl Cut {
    /// What it means for an order that was under way: `own` if the cut is its doing, `alone` if nothing
    /// else was in the process.
    fn verdict(&self, own: bool, alone: bool, printed: &Captured) -> Ended {
        let fail = |class: &str, why: &str, retry| Ended::Outcome(failed(class, why, retry));
        match self {
            Cut::TimedOut(_, limit) if own => Ended::Outcome(timed_out(*limit, Some(printed))),
            Cut::Stopped(_) if own => Ended::Stopped,
            Cut::Closed => Ended::Stopped,
            Cut::TimedOut(..) | Cut::Stopped(_) => {
                let why = "its process was ended, because another job in it timed out or was stopped";
                fail("pool", why, RetryHint::Uncounted)
            }
            Cut::Broken(why) => fail("protocol", why, RetryHint::Policy),
            Cut::TooLong if alone => {
                let limit = size(answer::LONGEST as u64);
                let why = format!("its answer is longer than {limit}: store the result elsewhere");
                fail("output", &why, RetryHint::Never)
            }
            Cut::TooLong => fail("protocol", "an answer of its process was too long", RetryHint::Policy),
            Cut::Exited => died(None, printed),
        }
    }
}

/// What the end of the process means for a job in it. Which of several jobs did it is unknown, so the
/// exit code says nothing about trying again.
fn died(status: Option<ExitStatus>, printed: &Captured) -> Ended {
    match status.and_then(|status| judge(status, printed)) {
        Some(Outcome::Failed { error, .. }) => {
            let message = format!("its process ended before it answered: {}", error.message);
            Ended::Outcome(failed(error.class, message, RetryHint::Policy))
        }
        _ => Ended::Outcome(failed("pool", "its process ended before it answered", RetryHint::Policy)),
    }
}

impl Recipe {
    fn captured(&self, work: &Work, printed: &Captured) {
        let sink = &self.context.settings.sink;
        sink.captured(work, Stream::Stdout, &Captured::default());
        sink.captured(work, Stream::Stderr, printed);
    }
}

impl Under {
    fn tell(self, captured: impl Fn(&Work), verdict: &Ended) {
        let Under { order, ended } = self;
        let missing = order.works.iter().zip(&ended).filter(|(_, ended)| ended.is_none());
        missing.for_each(|(work, _)| captured(work));
        let all = ended.into_iter().map(|ended| ended.unwrap_or_else(|| verdict.clone())).collect();
        let _ = order.reply.send(all);
    }
}

async fn read<P: tokio::io::AsyncRead + Unpin>(pipe: &mut Option<P>, buffer: &mut [u8]) -> std::io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(buffer).await,
        None => std::future::pending().await,
    }
}

async fn write(pipe: &mut Option<ChildStdin>, input: &[u8]) -> std::io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.write(input).await,
        None => std::future::pending().await,
    }
}
