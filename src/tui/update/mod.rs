//! What becomes of the state when something happens: pure, without a clock. Here is the table of
//! messages and what moves between pages; `moves` is moving within one, `acts` verbs and marks,
//! `sorting` the order of a list, `inputs` what takes the keys while it is open and `forms` what is filled in, `runs` the page of a run,
//! `replies` what the data task tells.

mod acts;
mod forms;
mod inputs;
mod moves;
mod replies;
mod runs;
mod sorting;

pub use self::acts::{does, word};
pub use self::inputs::choices;

use super::keys::{self, Action};
use super::layout;
use super::msg::{Ask, Body, Code, Effect, Key, Mouse, Msg, Subject, Verb};
use super::rows::{Rows, columns};
use super::state::{Flash, INTERVALS, Overlay, Page, State};
use super::theme::Colours;
use super::views::View;

/// What to ask for before anything has happened.
pub fn first(state: &mut State) -> Vec<Effect> {
    moves::settle(state);
    vec![fetch(state)]
}

/// The only way the state changes.
pub fn update(state: &mut State, msg: Msg) -> Vec<Effect> {
    let mut effects = match msg {
        Msg::Key(key) => on_key(state, key),
        Msg::EscAnd(key) => return on_esc_and(state, key),
        Msg::Mouse(mouse) => on_mouse(state, mouse),
        Msg::Paste(text) => inputs::paste(state, &text),
        Msg::Resize(columns, rows) => {
            state.size = (columns, rows);
            Vec::new()
        }
        Msg::Tick(now) => {
            state.now = now;
            // While the store is away the data task asks by itself.
            if state.frozen || state.asked.is_some() || state.is_lost() || rests(state) {
                Vec::new()
            } else {
                vec![fetch(state)]
            }
        }
        Msg::Reply(reply) => replies::take(state, reply),
        Msg::Told(text) => flash(state, text, false),
        Msg::Failed(text) => flash(state, text, true),
    };
    moves::settle(state);
    effects.extend(moves::refill(state));
    effects.extend(runs::follow_log(state));
    effects
}

/// Records that a filter without an index looks at in a millisecond, on the average.
const LOOKED_A_MS: u64 = 20;

/// Whether what is shown cost so much that it is not looked for again yet.
fn rests(state: &State) -> bool {
    let page = state.page();
    let (Some(Body::Jobs(part)), Some(at)) = (&page.body, page.at) else { return false };
    let rest = part.looked.unwrap_or(0) / LOOKED_A_MS;
    page.told == state.generation && state.now.since(at).as_millis() < u128::from(rest)
}

fn flash(state: &mut State, text: impl Into<String>, bad: bool) -> Vec<Effect> {
    state.flash = Some(Flash { text: text.into(), command: None, bad });
    Vec::new()
}

/// Asks for the content of the page; what was asked for before is void.
fn fetch(state: &mut State) -> Effect {
    state.asked = Some(state.now);
    let height = usize::from(layout::of(state).list.height);
    Effect::Fetch(Ask { generation: state.generation, query: state.page().query(height) })
}

/// The same for a page that shows something else than before.
fn fetch_anew(state: &mut State) -> Vec<Effect> {
    state.generation += 1;
    vec![fetch(state)]
}

fn on_key(state: &mut State, key: Key) -> Vec<Effect> {
    // What ends or suspends the console does so whatever is open.
    match keys::action(state.page().view, key) {
        Some(Action::Quit) => return quit(state),
        Some(Action::Suspend) => return vec![Effect::Suspend],
        _ => {}
    }
    if state.overlay.is_some() {
        return inputs::key(state, key);
    }
    match keys::action(state.page().view, key) {
        Some(action) => act(state, action),
        None => Vec::new(),
    }
}

/// Whoever pressed Alt with a key may have meant neither: what lies over the page is closed and no more, and
/// of what the second key does only that is done which changes nothing but what is looked at.
fn on_esc_and(state: &mut State, key: Key) -> Vec<Effect> {
    let was_open = state.overlay.is_some();
    let mut effects = update(state, Msg::Key(Key { code: Code::Esc, ctrl: false }));
    if keys::action(state.page().view, key).is_some_and(|action| action.ends() || !was_open && action.moves()) {
        effects.extend(update(state, Msg::Key(key)));
    }
    effects
}

fn quit(state: &mut State) -> Vec<Effect> {
    state.has_quit = true;
    vec![Effect::Quit]
}

fn on_mouse(state: &mut State, mouse: Mouse) -> Vec<Effect> {
    let wheel = |code| Key { code, ctrl: false };
    match mouse {
        // What lies over the page is scrolled as by keys, and not clicked through.
        Mouse::Up if state.overlay.is_some() => return inputs::key(state, wheel(Code::Up)),
        Mouse::Down if state.overlay.is_some() => return inputs::key(state, wheel(Code::Down)),
        Mouse::Click(..) if state.overlay.is_some() => {}
        Mouse::Up => moves::by(state, -3),
        Mouse::Down => moves::by(state, 3),
        Mouse::Click(x, y) => return moves::click(state, x, y),
    }
    Vec::new()
}

/// Does what a key or a line of the palette asks for.
pub(super) fn act(state: &mut State, action: Action) -> Vec<Effect> {
    let page_rows = isize::try_from(layout::of(state).list.height).unwrap_or(1).max(1);
    match action {
        Action::Up => moves::by(state, -1),
        Action::Down => moves::by(state, 1),
        Action::PageUp => moves::by(state, -page_rows),
        Action::PageDown => moves::by(state, page_rows),
        Action::First => return moves::first(state),
        Action::Last => moves::by(state, isize::MAX),
        Action::TabLeft => return turn(state, -1),
        Action::TabRight => return turn(state, 1),
        Action::Open => return open(state),
        Action::Back => return back(state),
        Action::Leave if state.stack.len() == 1 => return quit(state),
        Action::Leave => return back(state),
        Action::Go(view) => return go(state, view),
        Action::Palette => state.overlay = Some(Overlay::Palette { input: String::new(), at: 0 }),
        Action::Filter => {
            let input = state.page().filter.clone();
            state.overlay = Some(Overlay::Filter { before: input.clone(), input, error: None });
        }
        Action::Problems => {
            let page = state.page_mut();
            page.problems = !page.problems;
            page.window = Default::default();
            return fetch_anew(state);
        }
        Action::Sort => return sorting::sort(state),
        Action::Reverse => return sorting::reverse(state),
        Action::Wide => return wide(state),
        Action::Mark => acts::mark(state),
        Action::MarkRange => acts::mark_range(state),
        Action::MarkAll => acts::mark_all(state),
        Action::Do(verb @ (Verb::Approve | Verb::Reject | Verb::Signal | Verb::Add)) => {
            return forms::open(state, verb);
        }
        Action::Do(Verb::Drain) if state.page().view == View::Shards => return forms::open(state, Verb::Drain),
        Action::Do(verb) => return acts::order(state, verb),
        Action::Earlier => return runs::travel(state, -1),
        Action::Later => return runs::travel(state, 1),
        Action::Edit => return acts::edit(state),
        Action::Logs => return logs(state),
        Action::Follow => state.page_mut().follow = !state.page().follow,
        Action::Raw => return acts::raw(state),
        Action::Copy => return acts::copy(state),
        Action::Freeze => state.frozen = !state.frozen,
        Action::Refresh if state.about.is_recording => return vec![Effect::Step(0), fetch(state)],
        Action::Refresh => return vec![fetch(state)],
        Action::StepBack => return step(state, -1),
        Action::StepOn => return step(state, 1),
        Action::Slower => return pace(state, 1),
        Action::Faster => return pace(state, -1),
        Action::Theme => {
            let next = if state.theme.colours == Colours::Own { Colours::Mono } else { Colours::Own };
            state.theme.colours = next;
            return vec![Effect::Redraw];
        }
        Action::Help => state.overlay = Some(Overlay::Help { scroll: 0 }),
        Action::Suspend => return vec![Effect::Suspend],
        Action::Quit => return quit(state),
    }
    Vec::new()
}

/// The columns that were not shown; after the last of them, what fits best.
fn wide(state: &mut State) -> Vec<Effect> {
    let Some(body) = &state.page().body else { return Vec::new() };
    let (width, wide) = (layout::of(state).list.width, state.page().wide);
    // The pane beside the list gives way first.
    let had_pane = wide.is_none() && layout::of(state).detail.is_some();
    let next = columns::next(body, width, wide).or(had_pane.then_some(1));
    state.page_mut().wide = next;
    if next.is_none() && wide.is_none() {
        return flash(state, "every column is shown", false);
    }
    Vec::new()
}

/// By one answer of a recording, and shows it.
fn step(state: &mut State, by: isize) -> Vec<Effect> {
    if !state.about.is_recording {
        return flash(state, "this is no recording", false);
    }
    vec![Effect::Step(by), fetch(state)]
}

fn pace(state: &mut State, by: isize) -> Vec<Effect> {
    let at = INTERVALS.iter().position(|ms| *ms == state.interval).unwrap_or(2);
    state.interval = INTERVALS[at.saturating_add_signed(by).min(INTERVALS.len() - 1)];
    vec![Effect::Interval(state.interval)]
}

/// Shows another tab, as it was left.
fn go(state: &mut State, view: View) -> Vec<Effect> {
    if state.stack.len() == 1 && state.page().view == view {
        return Vec::new();
    }
    if !view.is_there(state.about.sharded) {
        return flash(state, "this store is not one of several shards: `goflow shard add URL` makes it one", false);
    }
    state.flash = None;
    let first = state.stack.swap_remove(0);
    state.left.insert(first.view, first);
    let next = state.left.remove(&view).unwrap_or_else(|| Page::new(view));
    state.stack = vec![next];
    fetch_anew(state)
}

/// To a page of its own, from which Esc leads back.
fn enter(state: &mut State, page: Page) -> Vec<Effect> {
    state.flash = None;
    state.stack.push(page);
    fetch_anew(state)
}

fn open(state: &mut State) -> Vec<Effect> {
    let page = state.page();
    let Some(id) = page.id_at(page.cursor.at).map(str::to_owned) else { return Vec::new() };
    match page.view {
        View::Overview => match overview_subject(page) {
            Some(subject) => about(state, &subject),
            None => Vec::new(),
        },
        View::Queues => about(state, &Subject::Queue(id)),
        View::Runs => about(state, &Subject::Run(id)),
        View::Run => runs::open(state),
        View::Dlq => {
            let mut jobs = Page::new(View::Jobs);
            jobs.tab = jobs.tabs().iter().position(|tab| *tab == "dead").unwrap_or(0);
            jobs.filter = id;
            enter(state, jobs)
        }
        View::Schedules | View::Events => match page.rows().and_then(|rows| leads_to(rows, page.cursor.at)) {
            Some(subject) => about(state, &subject),
            None => acts::raw(state),
        },
        View::Workers => {
            let mut jobs = Page::new(View::Jobs);
            jobs.filter = format!("worker:{id}");
            // What it holds is running.
            jobs.tab = jobs.tabs().iter().position(|tab| *tab == "running").unwrap_or(0);
            enter(state, jobs)
        }
        View::Jobs => enter(state, Page::of(View::Job, &id)),
        View::Shards => acts::raw(state),
        View::Job => Vec::new(),
    }
}

/// What the selected line of the overview is about.
fn overview_subject(page: &Page) -> Option<Subject> {
    match &page.body {
        Some(Body::Overview(overview)) => overview.subject(page.cursor.at),
        _ => None,
    }
}

/// What an event is about, or what a schedule has started last.
fn leads_to(rows: &Rows, at: usize) -> Option<Subject> {
    let (job, run) = match rows {
        Rows::Events(rows) => rows.get(at).map(|row| (row.job.clone(), row.run.clone()))?,
        Rows::Schedules(rows) => rows.get(at).map(|row| (row.last_job.clone(), row.last_run.clone()))?,
        _ => return None,
    };
    run.map(Subject::Run).or(job.map(Subject::Job))
}

/// To the page of a thing.
fn about(state: &mut State, subject: &Subject) -> Vec<Effect> {
    let page = match subject {
        Subject::Queue(name) => Page { filter: format!("queue:{name}"), ..Page::new(View::Jobs) },
        Subject::Job(id) => Page::of(View::Job, id),
        Subject::Run(run) => Page::of(View::Run, run),
        Subject::Approval { run, step } => {
            let mut page = Page::of(View::Run, run);
            page.cursor.id = Some(step.clone());
            page
        }
        Subject::Shard(id) => {
            let mut page = Page::new(View::Shards);
            page.cursor.id = Some(id.clone());
            page
        }
        Subject::Schedule(name) => Page { filter: format!("name:{name}"), ..Page::new(View::Schedules) },
    };
    enter(state, page)
}

/// To the end of a job's page, where its log is, and on with it.
fn logs(state: &mut State) -> Vec<Effect> {
    let page = state.page_mut();
    if page.view == View::Job {
        page.follow = true;
        return Vec::new();
    }
    if page.view == View::Run {
        return runs::logs(state);
    }
    let Some(id) = page.id_at(page.cursor.at).map(str::to_owned) else { return Vec::new() };
    enter(state, Page { follow: true, ..Page::of(View::Job, &id) })
}

/// Out of the page; at the top out of the filter, and then nowhere.
fn back(state: &mut State) -> Vec<Effect> {
    // First out of the past.
    if state.page_mut().moment.take().is_some() {
        return Vec::new();
    }
    if state.stack.len() > 1 {
        state.stack.pop();
        return fetch_anew(state);
    }
    let page = state.page_mut();
    if !page.marks.is_empty() || page.all_marked {
        page.marks.clear();
        page.all_marked = false;
    } else if !page.filter.is_empty() || page.problems {
        page.filter.clear();
        page.problems = false;
        page.window = Default::default();
        return fetch_anew(state);
    }
    Vec::new()
}

/// To the tab beside: within the page if it has tabs, else among the views.
fn turn(state: &mut State, by: isize) -> Vec<Effect> {
    let page = state.page_mut();
    let tabs = page.tabs().len();
    if tabs > 0 {
        page.tab = usize::try_from((page.tab as isize + by).rem_euclid(tabs as isize)).unwrap_or(0);
        page.window = Default::default();
        page.cursor = Default::default();
        page.marks.clear();
        page.all_marked = false;
        return fetch_anew(state);
    }
    let views: Vec<View> = View::TABS.iter().copied().filter(|view| view.is_there(state.about.sharded)).collect();
    let at = views.iter().position(|view| *view == state.tab()).unwrap_or(0) as isize;
    match usize::try_from((at + by).rem_euclid(views.len() as isize)).ok().and_then(|next| views.get(next)) {
        Some(next) => go(state, *next),
        None => Vec::new(),
    }
}
