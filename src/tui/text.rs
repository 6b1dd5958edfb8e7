//! Text for cells: harmless on a terminal, and cut by what it takes up there, not by characters. All
//! that comes from a store passes through [`fit`] or [`lines`]. Pure.

use std::borrow::Cow;
use std::time::Duration;

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use crate::domain::text::display_safe;

/// More of one text is never looked at: no screen holds it, and payloads may be a megabyte.
const MOST: usize = 4_096;

/// Columns that a text takes up.
pub fn width(text: &str) -> usize {
    text.width()
}

/// The beginning of a text that is enough to fill any line.
fn head(text: &str) -> &str {
    if text.len() <= MOST {
        return text;
    }
    let mut end = MOST;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A text as one harmless line of at most `columns`; one that is cut ends in `…` (`~` in ASCII).
pub fn fit(text: &str, columns: usize, unicode: bool) -> Cow<'_, str> {
    let clean = clean(text, unicode);
    if width(&clean) <= columns {
        return clean;
    }
    let mark = if unicode { "…" } else { "~" };
    let room = columns.saturating_sub(1);
    let (mut used, mut end) = (0, 0);
    for (at, cluster) in clean.grapheme_indices(true) {
        let wide = width(cluster);
        if used + wide > room {
            break;
        }
        (used, end) = (used + wide, at + cluster.len());
    }
    Cow::Owned(if columns == 0 { String::new() } else { format!("{}{mark}", &clean[..end]) })
}

/// A text as one harmless line, as long as it is (but for the megabytes).
pub fn clean(text: &str, unicode: bool) -> Cow<'_, str> {
    let safe = display_safe(head(text));
    if unicode || safe.is_ascii() {
        safe
    } else {
        Cow::Owned(safe.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect())
    }
}

/// A text as harmless lines of at most `columns`, at most `most` of them; long ones go on in the next.
pub fn lines(text: &str, columns: usize, most: usize, unicode: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let columns = columns.max(1);
    for line in text.lines() {
        let mut rest: &str = line;
        loop {
            if lines.len() >= most {
                return lines;
            }
            let part = head(rest);
            let clean = clean(part, unicode);
            let (mut row, mut used) = (String::new(), 0);
            for cluster in clean.graphemes(true) {
                let wide = width(cluster);
                if used + wide > columns {
                    lines.push(std::mem::take(&mut row));
                    used = 0;
                    if lines.len() >= most {
                        return lines;
                    }
                }
                row.push_str(cluster);
                used += wide;
            }
            lines.push(row);
            rest = &rest[part.len()..];
            if rest.is_empty() {
                break;
            }
        }
    }
    lines
}

/// A duration in at most six columns: `340ms`, `1.2s`, `41s`, `2h11m`.
pub fn brief(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..10_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        _ => crate::domain::text::age(duration),
    }
}

/// The last eight characters of an id: enough to name it.
pub fn short(id: &str) -> &str {
    let start = id.char_indices().rev().nth(7).map_or(0, |(at, _)| at);
    &id[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_whatever_it_holds() {
        assert_eq!(fit("plain", 5, true), "plain");
        assert_eq!(fit("plainer", 5, true), "plai…");
        assert_eq!(fit("plainer", 5, false), "plai~");
        assert_eq!(fit("漢字漢字", 5, true), "漢字…");
        assert_eq!(fit("e\u{301}e\u{301}e\u{301}", 2, true), "e\u{301}…");
        assert_eq!(fit("é", 5, false), "?");
        assert_eq!(fit("abc", 0, true), "");
        assert_eq!(fit("a\u{1b}[2Jb\nc", 40, true), "a\\u{1b}[2Jb\\nc");
        let long = "x".repeat(1 << 20);
        assert_eq!(width(&fit(&long, 80, true)), 80);
    }

    #[test]
    fn blocks_are_wrapped_and_bounded() {
        assert_eq!(lines("abcdef\ngh", 4, 10, true), ["abcd", "ef", "gh"]);
        assert_eq!(lines(&"y".repeat(1 << 20), 10, 3, true).len(), 3);
        assert_eq!(lines("\u{202e}", 40, 3, true), ["\\u{202e}"]);
        assert_eq!(lines("漢字", 1, 10, true).len(), 3);
    }

    #[test]
    fn durations_and_ids_are_short() {
        assert_eq!(brief(Duration::from_millis(12)), "12ms");
        assert_eq!(brief(Duration::from_millis(1_250)), "1.2s");
        assert_eq!(brief(Duration::from_secs(7_860)), "2h11m");
        assert_eq!(short("0192f0c1-2b3c-7000-8a9b-0123456789ab"), "456789ab");
        assert_eq!(short("ab"), "ab");
    }
}
