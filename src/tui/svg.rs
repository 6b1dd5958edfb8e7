//! A frame as a picture: SVG, with the colours that a terminal would give it. For README and reports;
//! knows buffers, not what is in them.

use std::fmt::Write;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

use super::text::width;

/// Pixels of a cell, and around it all.
const CELL: (f64, f64) = (8.4, 18.0);
const EDGE: f64 = 12.0;
const BACK: &str = "#14161b";
const FORE: &str = "#d6d8de";

/// What is drawn in one piece: cells that look alike.
#[derive(Clone, Debug, PartialEq)]
struct Look {
    fore: &'static str,
    /// Behind it, if not the paper.
    back: Option<&'static str>,
    bold: bool,
    dim: bool,
}

fn colour(color: Color) -> Option<&'static str> {
    Some(match color {
        Color::Blue | Color::LightBlue => "#6cb1ff",
        Color::Yellow | Color::LightYellow => "#e8c268",
        Color::Red | Color::LightRed => "#ff7b78",
        Color::Green | Color::LightGreen => "#8ccf7e",
        Color::Reset => return None,
        _ => FORE,
    })
}

fn look(cell: &Cell) -> Look {
    let fore = colour(cell.fg).unwrap_or(FORE);
    let reversed = cell.modifier.contains(Modifier::REVERSED);
    Look {
        fore: if reversed { BACK } else { fore },
        back: if reversed { Some(fore) } else { colour(cell.bg) },
        bold: cell.modifier.contains(Modifier::BOLD),
        dim: cell.modifier.contains(Modifier::DIM),
    }
}

/// A text within XML 1.0.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A buffer as a document.
pub fn svg(buffer: &Buffer) -> String {
    let (columns, rows) = (f64::from(buffer.area.width), f64::from(buffer.area.height));
    let (wide, high) = (columns * CELL.0 + 2.0 * EDGE, rows * CELL.1 + 2.0 * EDGE);
    // Writing to a String cannot fail, here and below.
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide:.0} {high:.0}\" width=\"{wide:.0}\" \
         height=\"{high:.0}\" font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" \
         font-size=\"14\" xml:space=\"preserve\">\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACK}\"/>\n"
    );
    for y in 0..buffer.area.height {
        for (x, piece, look) in pieces(buffer, y) {
            draw(&mut text, (x, y), &piece, &look);
        }
    }
    text.push_str("</svg>\n");
    text
}

/// The pieces of a line: where each begins, its text and its look.
fn pieces(buffer: &Buffer, y: u16) -> Vec<(u16, String, Look)> {
    let mut pieces: Vec<(u16, String, Look)> = Vec::new();
    let mut skip = 0;
    for x in 0..buffer.area.width {
        let Some(cell) = buffer.cell((x, y)) else { continue };
        // The cell behind a wide character holds nothing.
        if skip > 0 {
            skip -= 1;
            continue;
        }
        skip = width(cell.symbol()).saturating_sub(1);
        let look = look(cell);
        match pieces.last_mut() {
            Some((_, text, before)) if *before == look => text.push_str(cell.symbol()),
            _ => pieces.push((x, cell.symbol().to_owned(), look)),
        }
    }
    pieces
}

fn draw(text: &mut String, at: (u16, u16), piece: &str, look: &Look) {
    let wide = width(piece) as f64 * CELL.0;
    let (x, y) = (EDGE + f64::from(at.0) * CELL.0, EDGE + f64::from(at.1) * CELL.1);
    if let Some(back) = look.back {
        let _ = writeln!(
            text,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{}\" fill=\"{back}\"/>",
            CELL.1
        );
    }
    let shown = piece.trim_end();
    if shown.trim_start().is_empty() {
        return;
    }
    let lead = shown.len() - shown.trim_start().len();
    let x = x + lead as f64 * CELL.0;
    let shown = &shown[lead..];
    let bold = if look.bold { " font-weight=\"bold\"" } else { "" };
    let dim = if look.dim { " opacity=\"0.55\"" } else { "" };
    let length = width(shown) as f64 * CELL.0;
    // The length keeps columns under each other whatever font there is.
    let _ = writeln!(
        text,
        "<text x=\"{x:.1}\" y=\"{:.1}\" fill=\"{}\" textLength=\"{length:.1}\"{bold}{dim}>{}</text>",
        y + 13.5,
        look.fore,
        escaped(shown)
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    #[test]
    fn pieces_that_look_alike_are_one_and_nothing_breaks_the_document() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 20, 2));
        buffer.set_string(1, 0, "a<b&c", Style::new());
        buffer.set_string(6, 0, "漢字", Style::new().fg(Color::Red));
        buffer.set_string(0, 1, "on", Style::new().add_modifier(Modifier::REVERSED));
        let text = svg(&buffer);
        assert!(
            text.contains(">a&lt;b&amp;c</text>") && text.contains("fill=\"#ff7b78\" textLength=\"33.6\">漢字<"),
            "{text}"
        );
        assert!(text.contains("<rect x=\"12.0\" y=\"30.0\" width=\"16.8\" height=\"18\" fill=\"#d6d8de\"/>"), "{text}");
        assert_eq!(text.matches("<text").count(), 3, "{text}");
    }
}
