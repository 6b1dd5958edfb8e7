//! The grammar of `--where`, the same for jobs, queues, workers and events: words of a field, a sign
//! and a value, split at spaces. Quotes and backslashes take what follows as it is. Knows places in
//! the text, for errors that point at a word, and not what any field means.
//!
//! ```text
//! filter = { word }                     every word must hold
//! word   = [ "!" ] field sign value     "!" turns it round
//! sign   = ":" | "~" | ">" | "<" | ">=" | "<="
//! value  = text { "," text }            any of them; "*" is any text, "?" one character
//! ```

use super::BadFilter;
use super::pattern::Glob;

/// Where something stands in the text of a filter, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub from: usize,
    pub len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    Is,
    Contains,
    Above,
    Below,
    AtLeast,
    AtMost,
}

/// A character, and whether a quote or a backslash took its meaning away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Char {
    pub c: char,
    pub literal: bool,
}

/// One word, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub negated: bool,
    pub field: String,
    pub sign: Sign,
    /// As it is written, with its sign and its quotes: for messages.
    pub raw: String,
    pub span: Span,
    value: Vec<Char>,
}

impl Word {
    /// The value as one text.
    pub fn text(&self) -> String {
        self.value.iter().map(|one| one.c).collect()
    }

    /// The texts between the commas.
    pub fn texts(&self) -> Vec<String> {
        self.split().map(|part| part.iter().map(|one| one.c).collect()).collect()
    }

    /// The patterns between the commas.
    pub fn globs(&self) -> Vec<Glob> {
        self.split().map(Glob::new).collect()
    }

    fn split(&self) -> impl Iterator<Item = &[Char]> {
        self.value.split(|one| one.c == ',' && !one.literal)
    }

    pub fn wrong(&self, problem: super::Problem) -> BadFilter {
        BadFilter { problem, span: Some(self.span) }
    }
}

/// Takes the text of a filter apart.
///
/// # Errors
/// A quote that is not closed, a word without a sign or without a value.
pub(super) fn words(text: &str) -> Result<Vec<Word>, BadFilter> {
    let mut words = Vec::new();
    let mut chars = text.chars().enumerate().peekable();
    loop {
        while chars.next_if(|(_, c)| c.is_whitespace()).is_some() {}
        let Some((from, _)) = chars.peek().copied() else { return Ok(words) };
        let (mut word, mut raw) = (Vec::new(), String::new());
        let mut quote: Option<(usize, char)> = None;
        while let Some((at, c)) = chars.next_if(|(_, c)| quote.is_some() || !c.is_whitespace()) {
            raw.push(c);
            match (c, quote) {
                ('\\', _) => {
                    let Some((_, c)) = chars.next() else { break };
                    raw.push(c);
                    word.push(Char { c, literal: true });
                }
                (c, Some((_, end))) if c == end => quote = None,
                ('"' | '\'', None) => quote = Some((at, c)),
                (c, quote) => word.push(Char { c, literal: quote.is_some() }),
            }
        }
        let span = Span { from, len: raw.chars().count() };
        if let Some((at, c)) = quote {
            let span = Span { from: at, len: span.from + span.len - at };
            return Err(BadFilter { problem: super::Problem::Quote(c), span: Some(span) });
        }
        words.push(apart(&word, raw, span)?);
    }
}

fn apart(word: &[Char], raw: String, span: Span) -> Result<Word, BadFilter> {
    let negated = word.first().is_some_and(|one| one.c == '!' && !one.literal);
    let word = &word[usize::from(negated)..];
    let is_sign = |one: &Char| !one.literal && matches!(one.c, ':' | '~' | '>' | '<');
    let Some(at) = word.iter().position(is_sign) else {
        let field = word.iter().map(|one| one.c).collect();
        return Err(BadFilter { problem: super::Problem::NoSign { raw, field }, span: Some(span) });
    };
    let or_equal = word.get(at + 1).is_some_and(|one| one.c == '=' && !one.literal);
    let (sign, len) = match (word[at].c, or_equal) {
        (':', _) => (Sign::Is, 1),
        ('~', _) => (Sign::Contains, 1),
        ('>', false) => (Sign::Above, 1),
        ('>', true) => (Sign::AtLeast, 2),
        (_, false) => (Sign::Below, 1),
        (_, true) => (Sign::AtMost, 2),
    };
    let value = word[at + len..].to_vec();
    if value.is_empty() {
        return Err(BadFilter { problem: super::Problem::Empty(raw), span: Some(span) });
    }
    let field = word[..at].iter().map(|one| one.c).collect();
    Ok(Word { negated, field, sign, raw, span, value })
}
