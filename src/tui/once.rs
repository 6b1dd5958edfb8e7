//! One frame, as plain text or as a picture, for pipes, scripts and bug reports.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use super::data;
use super::msg::{Answer, Effect, Msg, Reply};
use super::record::Kept;
use super::state::{Page, State};
use super::svg::svg;
use super::update::{self, update};
use super::view::view;
use crate::api::{ApiError, Client};

/// The state once the content of its page is there.
///
/// # Errors
/// The store's.
pub async fn once(mut state: State, client: &Client) -> Result<State, ApiError> {
    state.about.sharded = client.store().shards().is_some();
    for effect in update::first(&mut state) {
        if let Effect::Fetch(ask) = effect {
            let body = data::once(client, &ask).await?;
            let reply = Reply { generation: ask.generation, at: client.clock().now(), answer: Answer::Body(body) };
            // What it asks for next is not waited for.
            let _ = update(&mut state, Msg::Reply(reply));
        }
    }
    Ok(state)
}

/// The last page that was recorded.
pub fn last_of(mut state: State, kept: &[Kept]) -> State {
    if let Some(last) = kept.last() {
        state.stack = vec![Page { of: last.of.clone(), ..Page::new(last.view) }];
        state.now = last.at;
        // What it asks for was told already.
        let _ = update::first(&mut state);
        let reply = Reply { generation: state.generation, at: last.at, answer: last.answer.clone() };
        let _ = update(&mut state, Msg::Reply(reply));
    }
    state
}

/// A state as lines.
pub fn frame(state: &State) -> String {
    lines(&drawn(state))
}

/// A state as a picture.
pub fn picture(state: &State) -> String {
    svg(&drawn(state))
}

fn drawn(state: &State) -> Buffer {
    // Writing to memory cannot fail.
    let Ok(mut terminal) = Terminal::new(TestBackend::new(state.size.0, state.size.1));
    let Ok(_) = terminal.draw(|frame| view(state, frame));
    terminal.backend().buffer().clone()
}

/// The text of a buffer, a line each, without what is blank at their ends.
fn lines(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let mut line = String::new();
        let mut skip = 0;
        for x in 0..buffer.area.width {
            let Some(cell) = buffer.cell((x, y)) else { continue };
            if skip > 0 {
                skip -= 1;
                continue;
            }
            line.push_str(cell.symbol());
            // The cell behind a wide character holds nothing.
            skip = super::text::width(cell.symbol()).saturating_sub(1);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
