//! Meanings as styles. The colours are the terminal's own; the mono theme sets no colour at all, since
//! under NO_COLOR a colour that is set back wipes reverse video too. State is told by glyph and word
//! first, so that no theme loses anything.

use ratatui::style::{Color, Modifier, Style};
use serde::{Deserialize, Serialize};

use crate::domain::{JobState, RunState, StepState};

/// What a piece of text means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    #[default]
    Plain,
    Good,
    Busy,
    Wait,
    Bad,
    Faint,
    Title,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Colours {
    Own,
    Mono,
}

/// How everything is painted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Theme {
    pub colours: Colours,
    /// The locale knows more than ASCII.
    pub unicode: bool,
}

impl Theme {
    pub fn style(self, tone: Tone) -> Style {
        let plain = Style::new();
        if self.colours == Colours::Mono {
            return match tone {
                Tone::Plain | Tone::Good | Tone::Busy | Tone::Wait => plain,
                Tone::Bad | Tone::Title => plain.add_modifier(Modifier::BOLD),
                Tone::Faint => plain.add_modifier(Modifier::DIM),
            };
        }
        match tone {
            Tone::Plain => plain,
            Tone::Good => plain.fg(Color::Green),
            Tone::Busy => plain.fg(Color::Blue),
            Tone::Wait => plain.fg(Color::Yellow),
            Tone::Bad => plain.fg(Color::Red),
            Tone::Faint => plain.add_modifier(Modifier::DIM),
            Tone::Title => plain.add_modifier(Modifier::BOLD),
        }
    }

    /// The row or button that keys act on.
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// One of two ways to write a sign.
    pub fn sign(self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.unicode { unicode } else { ascii }
    }

    /// Columns of rising height for a sparkline.
    pub fn bars(self) -> &'static [&'static str] {
        if self.unicode {
            &["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"]
        } else {
            &["_", ".", "-", "=", "+", "*", "#"]
        }
    }
}

/// A state as glyph and word, with what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sign {
    pub glyph: &'static str,
    pub ascii: &'static str,
    pub word: &'static str,
    pub tone: Tone,
}

impl Sign {
    pub fn text(self, unicode: bool) -> String {
        format!("{} {}", if unicode { self.glyph } else { self.ascii }, self.word)
    }
}

const fn sign(glyph: &'static str, ascii: &'static str, word: &'static str, tone: Tone) -> Sign {
    Sign { glyph, ascii, word, tone }
}

pub const PAUSED: Sign = sign("‖", "=", "paused", Tone::Wait);
pub const OPEN: Sign = sign("▶", ">", "run", Tone::Plain);

pub fn job_sign(state: JobState) -> Sign {
    match state {
        JobState::Pending => sign("○", "o", "pending", Tone::Plain),
        JobState::Running => sign("▶", ">", "running", Tone::Busy),
        JobState::Scheduled => sign("◷", "@", "scheduled", Tone::Wait),
        JobState::Retrying => sign("↻", "~", "retrying", Tone::Wait),
        JobState::Completed => sign("✓", "+", "completed", Tone::Good),
        JobState::Dead => sign("■", "#", "dead", Tone::Bad),
        JobState::Cancelled => sign("⊘", "x", "cancelled", Tone::Faint),
    }
}

pub fn run_sign(state: RunState) -> Sign {
    match state {
        RunState::Pending => sign("○", "o", "pending", Tone::Plain),
        RunState::Running => sign("▶", ">", "running", Tone::Busy),
        RunState::Paused => PAUSED,
        RunState::Compensating => sign("↺", "<", "compensating", Tone::Wait),
        RunState::Completed => sign("✓", "+", "completed", Tone::Good),
        RunState::Failed => sign("✗", "!", "failed", Tone::Bad),
        RunState::Compensated => sign("↩", "u", "compensated", Tone::Wait),
        RunState::Cancelled => sign("⊘", "x", "cancelled", Tone::Faint),
    }
}

pub fn step_sign(state: StepState) -> Sign {
    match state {
        StepState::Pending => sign("○", "o", "pending", Tone::Plain),
        StepState::Running => sign("▶", ">", "running", Tone::Busy),
        StepState::Retrying => sign("↻", "~", "retrying", Tone::Wait),
        StepState::Waiting => sign("◷", "@", "waiting", Tone::Wait),
        StepState::Completed => sign("✓", "+", "completed", Tone::Good),
        StepState::Failed => sign("✗", "!", "failed", Tone::Bad),
        StepState::Skipped => sign("⇢", "-", "skipped", Tone::Faint),
        StepState::Cancelled => sign("⊘", "x", "cancelled", Tone::Faint),
        StepState::Compensating => sign("↺", "<", "compensating", Tone::Wait),
        StepState::Compensated => sign("↩", "u", "compensated", Tone::Wait),
    }
}

/// How it stands with a shard: its state, or `away`.
pub fn shard_sign(word: &str) -> Sign {
    match word {
        "away" => sign("✗", "!", "away", Tone::Bad),
        "joining" => sign("◷", "@", "joining", Tone::Wait),
        "draining" => sign("↺", "<", "draining", Tone::Wait),
        "removed" => sign("⊘", "x", "removed", Tone::Faint),
        _ => sign("●", "*", "active", Tone::Good),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mono_theme_sets_no_colour() {
        let mono = Theme { colours: Colours::Mono, unicode: true };
        for tone in [Tone::Plain, Tone::Good, Tone::Busy, Tone::Wait, Tone::Bad, Tone::Faint, Tone::Title] {
            let style = mono.style(tone);
            assert_eq!((style.fg, style.bg), (None, None), "{tone:?}");
        }
        assert_eq!((mono.selected().fg, mono.selected().bg), (None, None));
    }

    #[test]
    fn the_ascii_set_is_ascii() {
        let ascii = Theme { colours: Colours::Mono, unicode: false };
        assert!(ascii.bars().iter().all(|bar| bar.is_ascii()));
        for state in JobState::ALL {
            assert!(job_sign(state).text(false).is_ascii());
        }
    }
}
