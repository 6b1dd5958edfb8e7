//! The terminal: taken over and given back as it was, whatever ends the console. Draws what it is told
//! to and turns what comes in into messages. Knows no state.

use std::io::{self, BufWriter, Stdout, Write};

use base64::Engine;
use crossterm::event::{
    DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture, Event, KeyCode, KeyEventKind,
    KeyModifiers, MouseButton, MouseEventKind,
};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute, queue};
use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};

use super::msg::{Code, Key, Mouse, Msg};

/// A frame is sent in one piece.
const BUFFER: usize = 64 << 10;

type Out = BufWriter<Stdout>;

/// The terminal while it is ours. Dropped, also by a panic, it gives it back.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Out>>,
    is_ours: bool,
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// It cannot be written to or set.
    pub fn take() -> io::Result<Screen> {
        let mut screen = Screen { terminal: fresh()?, is_ours: false };
        screen.enter()?;
        Ok(screen)
    }

    /// Takes it over (again), and forgets what was drawn.
    ///
    /// # Errors
    /// It cannot be written to or set.
    pub fn enter(&mut self) -> io::Result<()> {
        enable_raw_mode()?;
        self.is_ours = true;
        let out = self.terminal.backend_mut();
        execute!(out, EnterAlternateScreen, EnableMouseCapture, EnableBracketedPaste, cursor::Hide)?;
        self.clear()
    }

    /// Gives it back as it was.
    pub fn leave(&mut self) {
        if !self.is_ours {
            return;
        }
        self.is_ours = false;
        let out = self.terminal.backend_mut();
        // A terminal that is gone needs nothing back.
        let _ = execute!(out, DisableBracketedPaste, DisableMouseCapture, LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
    }

    /// # Errors
    /// It cannot be written to.
    pub fn draw(&mut self, view: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(view).map(drop)
    }

    /// Forgets what was drawn: the next frame is whole.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn clear(&mut self) -> io::Result<()> {
        // Terminal::clear asks where the cursor is, and the answer comes between the operator's keys.
        execute!(self.terminal.backend_mut(), Clear(ClearType::All))?;
        self.terminal = fresh()?;
        Ok(())
    }

    /// Columns and rows.
    ///
    /// # Errors
    /// It does not tell.
    pub fn size(&self) -> io::Result<(u16, u16)> {
        self.terminal.size().map(|size| (size.width, size.height))
    }

    /// Puts a text on the clipboard of whoever sits at the terminal (OSC 52 of xterm's control
    /// sequences), also through ssh.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn copy(&mut self, text: &str) -> io::Result<()> {
        let packed = base64::engine::general_purpose::STANDARD.encode(text);
        let out = self.terminal.backend_mut();
        queue!(out, crossterm::style::Print(format!("\u{1b}]52;c;{packed}\u{7}")))?;
        out.flush()
    }
}

/// A terminal on which nothing was drawn.
fn fresh() -> io::Result<Terminal<CrosstermBackend<Out>>> {
    Terminal::new(CrosstermBackend::new(BufWriter::with_capacity(BUFFER, io::stdout())))
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What an event of the terminal means. Alt with a key is what becomes of Esc and a key that arrive
/// together, as they do over a slow line; no key of ours has Alt.
pub fn message(event: Event) -> Option<Msg> {
    match event {
        Event::Key(pressed) if pressed.kind != KeyEventKind::Release => {
            let ctrl = pressed.modifiers.contains(KeyModifiers::CONTROL);
            let code = match pressed.code {
                KeyCode::Char(c) => Code::Char(if ctrl { c.to_ascii_lowercase() } else { c }),
                KeyCode::Up => Code::Up,
                KeyCode::Down => Code::Down,
                KeyCode::Left => Code::Left,
                KeyCode::Right => Code::Right,
                KeyCode::Enter => Code::Enter,
                KeyCode::Esc => Code::Esc,
                KeyCode::Tab => Code::Tab,
                KeyCode::BackTab => Code::BackTab,
                KeyCode::Backspace => Code::Backspace,
                KeyCode::Delete => Code::Delete,
                KeyCode::Home => Code::Home,
                KeyCode::End => Code::End,
                KeyCode::PageUp => Code::PageUp,
                KeyCode::PageDown => Code::PageDown,
                _ => return None,
            };
            let key = Key { code, ctrl };
            Some(if pressed.modifiers.contains(KeyModifiers::ALT) { Msg::EscAnd(key) } else { Msg::Key(key) })
        }
        Event::Mouse(mouse) => match mouse.kind {
            MouseEventKind::Down(MouseButton::Left) => Some(Msg::Mouse(Mouse::Click(mouse.column, mouse.row))),
            MouseEventKind::ScrollUp => Some(Msg::Mouse(Mouse::Up)),
            MouseEventKind::ScrollDown => Some(Msg::Mouse(Mouse::Down)),
            _ => None,
        },
        Event::Paste(text) => Some(Msg::Paste(text)),
        Event::Resize(columns, rows) => Some(Msg::Resize(columns, rows)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossterm::event::KeyEvent;

    #[test]
    fn a_key_that_comes_together_with_esc_is_not_lost() {
        let told = |modifiers| message(Event::Key(KeyEvent::new(KeyCode::Char('2'), modifiers)));
        let key = Key { code: Code::Char('2'), ctrl: false };
        assert_eq!(told(KeyModifiers::NONE), Some(Msg::Key(key)));
        assert_eq!(told(KeyModifiers::ALT), Some(Msg::EscAnd(key)));
        assert_eq!(message(Event::FocusLost), None);
    }
}
