//! What is wrong with a manifest or a configuration, and where: the message, the source line, a caret and a cure.
//! Knows no YAML and no rules; everything it shows has come from a file and is made harmless first.

use std::fmt;

use super::text::display_safe;

/// A place in a source: line and column count from 1, in characters; line 0 means "nowhere", as for
/// a definition that was loaded from a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: u32,
    pub column: u32,
    /// Characters to underline on that line; at least 1 is shown.
    pub len: u32,
}

/// A named source text, for the lines that problems quote.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub file: &'a str,
    pub text: &'a str,
}

/// One mistake. `Display` writes `file:line:column: message`; [`Problem::render`] adds the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    pub line: u32,
    pub column: u32,
    pub message: String,
    /// How to mend it, where that is known.
    pub hint: Option<String>,
    /// The source line, and how many of its characters are meant.
    pub snippet: Option<(String, u32)>,
}

/// Longest part of a source line that is shown, in characters; what is cut is marked by `…`.
const SHOWN: usize = 100;

impl Problem {
    pub fn new(source: Source<'_>, place: Place, message: impl Into<String>, hint: Option<String>) -> Problem {
        let line = (place.line as usize).checked_sub(1).and_then(|nth| source.text.lines().nth(nth));
        Problem {
            file: source.file.to_owned(),
            line: place.line,
            column: place.column,
            message: message.into(),
            hint,
            snippet: line.map(|line| (line.to_owned(), place.len)),
        }
    }

    /// The message, then the source line with a caret under the place, then the cure.
    pub fn render(&self) -> String {
        let mut text = self.to_string();
        let gutter = " ".repeat(self.line.to_string().len());
        if let Some((line, len)) = &self.snippet {
            let (shown, before, under) = crop(line, self.column.saturating_sub(1) as usize, *len as usize);
            let marks = "^".repeat(under);
            text.push_str(&format!("\n{gutter} |\n{} | {shown}\n{gutter} | {before}{marks}", self.line));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("\n{gutter} = {}", display_safe(hint)));
        }
        text
    }
}

/// The harmless form of a line around a column, the blanks that lead to the column, and the width
/// to underline.
fn crop(line: &str, column: usize, len: usize) -> (String, String, usize) {
    let chars: Vec<char> = line.trim_end().chars().collect();
    let column = column.min(chars.len());
    let from = if column > SHOWN * 3 / 4 { column - SHOWN / 2 } else { 0 };
    let to = chars.len().min(from + SHOWN);
    let safe = |part: &[char]| display_safe(&part.iter().collect::<String>()).into_owned();
    let lead = if from > 0 { "…" } else { "" };
    let tail = if to < chars.len() { "…" } else { "" };
    let before = format!("{lead}{}", safe(&chars[from..column]));
    let meant = safe(&chars[column..to.min(column + len.max(1)).max(column)]);
    let after = safe(&chars[to.min(column + len.max(1)).max(column)..to]);
    let blanks = " ".repeat(before.chars().count());
    let under = meant.chars().count().max(1);
    (format!("{before}{meant}{after}{tail}"), blanks, under)
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = display_safe(&self.file);
        let message = display_safe(&self.message);
        match (self.file.is_empty(), self.line) {
            (true, 0) => write!(f, "{message}"),
            (_, 0) => write!(f, "{file}: {message}"),
            _ => write!(f, "{file}:{}:{}: {message}", self.line, self.column),
        }
    }
}

/// Every mistake of a source, in the order of their places; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    pub fn render(&self) -> String {
        self.0.iter().map(Problem::render).collect::<Vec<_>>().join("\n\n")
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, problem) in self.0.iter().enumerate() {
            if nth > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_place_even_behind_hostile_text() {
        let source = Source { file: "a.yaml", text: "one\nk\u{202e}y: \u{1b}[31mvalue\n" };
        let problem = Problem::new(source, Place { line: 2, column: 6, len: 10 }, "no", Some("write it".into()));
        assert_eq!(
            problem.render(),
            "a.yaml:2:6: no\n  |\n2 | k\\u{202e}y: \\u{1b}[31mvalue\n  |             ^^^^^^^^^^^^^^^\n  = write it"
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let source = Source { file: "a.yaml", text: &text };
        let shown = Problem::new(source, Place { line: 1, column: 501, len: 1 }, "no", None).render();
        let lines: Vec<&str> = shown.lines().collect();
        let at = lines[3].chars().position(|c| c == '^').expect("a caret");
        assert_eq!(lines[2].chars().nth(at), Some('X'));
        assert!(lines[2].chars().count() < 120);
    }
}
