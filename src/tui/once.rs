//! One plain frame, for pipes, scripts and bug reports.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use super::data;
use super::msg::{Answer, Effect, Msg, Reply};
use super::state::State;
use super::update::{self, update};
use super::view::view;
use crate::api::{ApiError, Client};

/// Draws the page of a state once its content is there, as lines without colours.
///
/// # Errors
/// The store's.
pub async fn once(mut state: State, client: &Client) -> Result<String, ApiError> {
    for effect in update::first(&mut state) {
        if let Effect::Fetch(ask) = effect {
            let body = data::once(client, &ask).await?;
            let reply = Reply { generation: ask.generation, at: client.clock().now(), answer: Answer::Body(body) };
            // What it asks for next is not waited for.
            let _ = update(&mut state, Msg::Reply(reply));
        }
    }
    Ok(frame(&state))
}

/// A state as lines.
pub fn frame(state: &State) -> String {
    // Writing to memory cannot fail.
    let Ok(mut terminal) = Terminal::new(TestBackend::new(state.size.0, state.size.1));
    let Ok(_) = terminal.draw(|frame| view(state, frame));
    lines(terminal.backend().buffer())
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
