//! The loop: the one task that owns the state and the terminal. It waits for keys, replies, the next
//! look and signals, lets `update` say what becomes of them, and draws when something changed: at once
//! after a key, else at most thirty times a second.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossterm::event::EventStream;
use futures_util::StreamExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::data;
use super::edit::edit_and_enqueue;
use super::msg::{Ask, Effect, Msg, Reply};
use super::record::{Kept, replay};
use super::screen::{Screen, message};
use super::state::State;
use super::update::{self, update};
use super::view::view;
use crate::api::Client;
use crate::domain::Clock;
use crate::sys::env::Env;

/// Between two frames that no key asks for.
const FRAME: Duration = Duration::from_millis(33);
/// Replies that wait to be shown; the data task waits when there are more.
const REPLIES: usize = 16;
/// TSTP and CONT of signal(7), which tokio has no names for.
const TSTP: i32 = 20;
const CONT: i32 = 18;

/// Why the console ended otherwise than by its own keys.
#[derive(Debug, thiserror::Error)]
pub enum Ended<E> {
    /// The store was not opened.
    #[error("the store cannot be opened")]
    Store(E),
    #[error("the terminal cannot be used: {0}")]
    Terminal(#[from] io::Error),
    #[error("the recording cannot be written: {0}")]
    Record(io::Error),
    /// SIGINT from outside; the key is a key.
    #[error("interrupted")]
    Interrupted,
}

/// Where what is told comes from.
pub enum Source<F> {
    /// A store, which is opened while the first frame is already there.
    Store(F),
    /// A recorded session.
    Recording(Vec<Kept>),
}

/// What the console is given.
pub struct Given {
    /// Where the session is written down.
    pub record: Option<Box<dyn io::Write + Send>>,
    pub state: State,
    pub clock: Arc<dyn Clock>,
    pub env: Env,
}

/// Signals that matter to whoever has taken the terminal over.
struct Signals {
    term: Signal,
    hup: Signal,
    int: Signal,
    stop: Signal,
    go_on: Signal,
}

impl Signals {
    fn watch() -> io::Result<Signals> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            hup: signal(SignalKind::hangup())?,
            int: signal(SignalKind::interrupt())?,
            stop: signal(SignalKind::from_raw(TSTP))?,
            go_on: signal(SignalKind::from_raw(CONT))?,
        })
    }
}

/// A task that ends with whoever started it.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Console {
    state: State,
    screen: Screen,
    clock: Arc<dyn Clock>,
    env: Env,
    client: Option<Client>,
    asks: mpsc::UnboundedSender<Ask>,
    /// The last question, and when it was asked.
    asked: Option<(u64, Instant)>,
    /// To a recording: by how many of its answers to go.
    steps: Option<mpsc::UnboundedSender<isize>>,
    replies: mpsc::Sender<Reply>,
    keys: Option<EventStream>,
    tasks: Vec<Task>,
    ticks: tokio::time::Interval,
}

/// Shows the console until the operator leaves it.
///
/// # Errors
/// [`Ended`].
pub async fn run<E, F>(given: Given, source: Source<F>) -> Result<(), Ended<E>>
where
    F: Future<Output = Result<Client, E>>,
{
    let mut signals = Signals::watch()?;
    let screen = Screen::take()?;
    let (asks, asked) = mpsc::unbounded_channel();
    let (replies, mut told) = mpsc::channel(REPLIES);
    let ticks = ticker(given.state.interval);
    let Given { state, clock, env, mut record } = given;
    let keys = Some(EventStream::new());
    let mut console = Console {
        state,
        screen,
        clock,
        env,
        client: None,
        asks,
        asked: None,
        steps: None,
        replies,
        keys,
        tasks: Vec::new(),
        ticks,
    };
    console.state.size = console.screen.size()?;
    let first = update::first(&mut console.state);
    console.perform(first).await?;
    console.draw()?;
    let mut asked = Some(asked);
    let connect = match source {
        Source::Store(connect) => Some(connect),
        Source::Recording(kept) => {
            if let Some(asked) = asked.take() {
                let (steps, stepped) = mpsc::unbounded_channel();
                console.steps = Some(steps);
                console.tasks.push(Task(tokio::spawn(replay(kept, asked, stepped, console.replies.clone()))));
            }
            None
        }
    };
    let mut connect = std::pin::pin!(futures_util::future::OptionFuture::from(connect));
    let (mut drawn, mut dirty) = (Instant::now(), false);
    while !console.state.has_quit {
        let mut at_once = false;
        tokio::select! {
            biased;
            _ = signals.term.recv() => return Ok(()),
            _ = signals.hup.recv() => return Ok(()),
            _ = signals.int.recv() => return Err(Ended::Interrupted),
            _ = signals.stop.recv() => console.suspend()?,
            _ = signals.go_on.recv() => console.resume()?,
            event = next_key(&mut console.keys) => {
                // Without a terminal to read from nobody could leave.
                let Some(event) = event else { return Ok(()) };
                if let Some(msg) = message(event?) {
                    console.take(msg).await?;
                    at_once = true;
                }
            }
            reply = told.recv() => match reply {
                Some(reply) => {
                    if let Some(file) = &mut record {
                        console.keep(file.as_mut(), &reply).map_err(Ended::Record)?;
                    }
                    console.take(Msg::Reply(reply)).await?;
                }
                None => return Ok(()),
            },
            Some(client) = &mut connect, if asked.is_some() => {
                let client = client.map_err(Ended::Store)?;
                if let Some(asked) = asked.take() {
                    let serving = data::serve(client.clone(), asked, console.replies.clone());
                    console.tasks.push(Task(tokio::spawn(serving)));
                }
                console.state.about.store = client.describe();
                console.state.about.sharded = client.store().shards().is_some();
                console.client = Some(client);
            }
            _ = console.ticks.tick() => {
                let now = console.clock.now();
                console.take(Msg::Tick(now)).await?;
                console.tend()?;
            }
            () = sleep_until(drawn + FRAME), if dirty => at_once = true,
        }
        dirty = true;
        if at_once || drawn.elapsed() >= FRAME {
            console.draw()?;
            (drawn, dirty) = (Instant::now(), false);
        }
    }
    Ok(())
}

fn ticker(ms: u64) -> tokio::time::Interval {
    let period = Duration::from_millis(ms);
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn next_key(keys: &mut Option<EventStream>) -> Option<io::Result<crossterm::event::Event>> {
    match keys {
        Some(keys) => keys.next().await,
        None => std::future::pending().await,
    }
}

impl Console {
    fn draw(&mut self) -> io::Result<()> {
        let size = self.screen.size()?;
        if size != self.state.size {
            let effects = update(&mut self.state, Msg::Resize(size.0, size.1));
            self.ask(&effects);
        }
        self.screen.draw(|frame| view(&self.state, frame))
    }

    /// Writes down what is told about the page that is shown.
    fn keep(&self, file: &mut (dyn io::Write + Send), reply: &Reply) -> io::Result<()> {
        let page = self.state.page();
        let took = self.asked.filter(|(generation, _)| *generation == reply.generation).map(|(_, at)| at.elapsed());
        let Some(kept) = Kept::of(page, reply, took).filter(|_| reply.generation == self.state.generation) else {
            return Ok(());
        };
        file.write_all(kept.line()?.as_bytes())?;
        file.flush()
    }

    async fn take(&mut self, msg: Msg) -> io::Result<()> {
        let effects = update(&mut self.state, msg);
        self.perform(effects).await
    }

    /// Sends the questions among the effects on.
    fn ask(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Fetch(ask) = effect {
                // The data task ends only after this loop.
                let _ = self.asks.send(ask.clone());
                self.asked = Some((ask.generation, Instant::now()));
            }
        }
    }

    async fn perform(&mut self, effects: Vec<Effect>) -> io::Result<()> {
        // A step is before the question whose answer shows it.
        for effect in &effects {
            if let (Effect::Step(by), Some(steps)) = (effect, &self.steps) {
                let _ = steps.send(*by);
            }
        }
        self.ask(&effects);
        for effect in effects {
            match effect {
                Effect::Fetch(_) | Effect::Step(_) | Effect::Quit => {}
                Effect::Act(order) => {
                    let replies = self.replies.clone();
                    self.spawn(|client| async move { data::act(&client, &order, &replies).await });
                }
                Effect::Survey(order) => {
                    self.spawn(|client| async move { data::survey(&client, &order).await });
                }
                Effect::Copy(text) => self.screen.copy(&text)?,
                Effect::Edit(id) => self.edit(&id).await?,
                Effect::Suspend => self.suspend()?,
                Effect::Redraw => self.screen.clear()?,
                Effect::Interval(ms) => self.ticks = ticker(ms),
            }
        }
        Ok(())
    }

    /// Does something beside the loop, and replies.
    fn spawn<F, D>(&mut self, doing: D)
    where
        D: FnOnce(Client) -> F,
        F: Future<Output = Reply> + Send + 'static,
    {
        let Some(client) = self.client.clone() else { return };
        let (replies, doing) = (self.replies.clone(), doing(client));
        let task = async move {
            // Nobody listens any more: it was done all the same.
            let _ = replies.send(doing.await).await;
        };
        self.tasks.push(Task(tokio::spawn(task)));
    }

    /// A task that panicked has said so to nobody: its panic goes on here.
    fn tend(&mut self) -> io::Result<()> {
        let (ended, going): (Vec<Task>, Vec<Task>) =
            std::mem::take(&mut self.tasks).into_iter().partition(|task| task.0.is_finished());
        self.tasks = going;
        for mut task in ended {
            let ended = futures_util::FutureExt::now_or_never(&mut task.0);
            if let Some(Err(error)) = ended
                && error.is_panic()
            {
                self.screen.leave();
                std::panic::resume_unwind(error.into_panic());
            }
        }
        Ok(())
    }

    fn suspend(&mut self) -> io::Result<()> {
        self.screen.leave();
        crate::sys::process::stop_self();
        self.resume()
    }

    fn resume(&mut self) -> io::Result<()> {
        self.screen.enter()?;
        self.draw()
    }

    /// Gives the terminal to the editor, and takes it back.
    async fn edit(&mut self, id: &str) -> io::Result<()> {
        let Some(client) = self.client.clone() else { return Ok(()) };
        // Whoever reads the terminal beside the editor takes its keys away.
        self.keys = None;
        self.screen.leave();
        let edited = edit_and_enqueue(&client, &self.env, id).await;
        self.screen.enter()?;
        self.keys = Some(EventStream::new());
        let msg = match edited {
            Ok(new) => {
                let short = super::text::short(&new).to_owned();
                Msg::Told(format!("enqueued job {short}, edited from {}", super::text::short(id)))
            }
            Err(why) => Msg::Failed(why),
        };
        let effects = update(&mut self.state, msg);
        self.ask(&effects);
        Ok(())
    }
}
