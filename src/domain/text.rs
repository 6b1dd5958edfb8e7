//! Text for people: the one way by which foreign text reaches a terminal, and the one helper each
//! for counts, sizes and near misses.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

/// Makes any text harmless on a terminal: control characters (C0 and C1, ESC among them),
/// bidirectional controls (Unicode TR 9), and zero-width characters are written out as `\u{202e}`
/// instead of being sent. Newlines and tabs too: what is shown is one line.
pub fn display_safe(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            c if is_unsafe(c) => {
                // Writing to a String cannot fail.
                let _ = write!(safe, "\\u{{{:x}}}", c as u32);
            }
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// As [`display_safe`], but line breaks stay: for blocks such as the tail of a command's output.
pub fn display_safe_lines(text: &str) -> String {
    text.lines().map(display_safe).collect::<Vec<_>>().join("\n")
}

/// As [`display_safe`] for a text that is JSON already: the same value, its harmful characters
/// written as the escapes of RFC 8259. They can only stand within strings; line breaks stay.
pub fn json_safe(json: &str) -> Cow<'_, str> {
    let escaped = |c: char| c != '\n' && is_unsafe(c);
    if !json.chars().any(escaped) {
        return Cow::Borrowed(json);
    }
    let mut safe = String::with_capacity(json.len() + 16);
    let mut units = [0; 2];
    for c in json.chars() {
        if escaped(c) {
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `1 job`, `2 jobs`, `1,204 jobs`.
pub fn count(n: u64, noun: &str) -> String {
    let plural = if n == 1 {
        ""
    } else if noun.ends_with('s') || noun.ends_with("sh") || noun.ends_with("ch") {
        "es"
    } else {
        "s"
    };
    format!("{} {noun}{plural}", thousands(n))
}

/// `1,204,000`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count where there is little room: `999`, `1.2k`, `250k`, `34M`. Rounded down, so that it never tells
/// of more than there is.
pub fn rough(n: u64) -> String {
    const UNITS: [(u64, char); 4] = [(1_000_000_000_000, 'T'), (1_000_000_000, 'G'), (1_000_000, 'M'), (1_000, 'k')];
    match UNITS.into_iter().find(|(unit, _)| n >= *unit) {
        None => n.to_string(),
        Some((unit, sign)) if n < 10 * unit => format!("{}.{}{sign}", n / unit, n % unit / (unit / 10)),
        Some((unit, sign)) => format!("{}{sign}", n / unit),
    }
}

/// `340 B`, `1.2 KiB`, `1.0 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

/// A rough age for tables: `12ms`, `41s`, `3m`, `2h11m`, `5d`.
pub fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The candidate most like `word`, if one is like it enough to be what was meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&word, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Cuts text to at most `limit` bytes at a character, and says by how much.
pub fn clip(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit {
        return Cow::Borrowed(text);
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}… ({} more)", &text[..end], size((text.len() - end) as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_foreign_reaches_the_terminal_raw() {
        let value = "\u{9b}\u{202e}\u{e0041}\u{1b}é漢\u{1f600}";
        let json = format!("{{\n  {}\n}}", serde_json::json!({ "k": value }).to_string().trim_matches(['{', '}']));
        let safe = json_safe(&json);
        assert!(!safe.chars().any(|c| c != '\n' && is_unsafe(c)) && safe.contains("é漢\u{1f600}"), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).expect("JSON")["k"], value);
        let hostile = "a\u{1b}[31mb\u{9b}2Jc\u{202e}d\u{200b}e\u{7}f\ng";
        let safe = display_safe(hostile);
        assert_eq!(safe, "a\\u{1b}[31mb\\u{9b}2Jc\\u{202e}d\\u{200b}e\\u{7}f\\ng");
        assert!(matches!(display_safe("plain é 漢字"), Cow::Borrowed(_)));
    }

    #[test]
    fn counts_read_well() {
        assert_eq!(count(1, "job"), "1 job");
        assert_eq!(count(0, "job"), "0 jobs");
        assert_eq!(count(1_204, "batch"), "1,204 batches");
        assert_eq!(size(1_536), "1.5 KiB");
        assert_eq!(age(Duration::from_secs(7_860)), "2h11m");
    }

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        assert_eq!(nearest("enqeue", ["enqueue", "worker"]), Some("enqueue"));
        assert_eq!(nearest("zzz", ["enqueue", "worker"]), None);
    }
}
