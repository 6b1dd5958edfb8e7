//! What a filter can ask of a kind of thing: a table of fields, and the tests that words become.
//! A test is read once and then holds or does not hold for each of thousands of things.

use std::borrow::Cow;
use std::time::Duration;

use super::pattern::Glob;
use super::words::{Sign, Word};
use super::{BadFilter, Problem};
use crate::domain::Ms;
use crate::domain::text::nearest;
use crate::domain::time::parse_duration;

/// What a field holds, which says what can be asked of it.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `:` a pattern, `~` a part whatever its case.
    Text,
    /// An id: `:` any part of it, `*` that there is one.
    Id,
    /// `:` `>` `<` `>=` `<=` a whole number.
    Number,
    /// `>` `<` a duration.
    Age,
    /// `:` one of a few words, read to the field's own form of it; what they are called, and a list.
    Choice(fn(&str) -> Option<&'static str>, &'static str, &'static str),
}

/// What one thing has in a field.
#[derive(Clone, Debug)]
pub enum Found<'a> {
    Nothing,
    Text(Cow<'a, str>),
    /// Several texts, of which one must fit.
    Any(&'a [String]),
    Number(i64),
    Age(Duration),
}

impl<'a> From<&'a str> for Found<'a> {
    fn from(text: &'a str) -> Found<'a> {
        Found::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Found<'_> {
    fn from(text: String) -> Self {
        Found::Text(Cow::Owned(text))
    }
}

impl From<i64> for Found<'_> {
    fn from(number: i64) -> Self {
        Found::Number(number)
    }
}

impl<'a, T: Into<Found<'a>>> From<Option<T>> for Found<'a> {
    fn from(found: Option<T>) -> Found<'a> {
        found.map_or(Found::Nothing, Into::into)
    }
}

/// One field. A name that ends in a point takes a key behind it, as in `meta.customer`; `get` is
/// handed the key.
pub struct Field<T: ?Sized> {
    pub name: &'static str,
    pub kind: Kind,
    pub get: for<'a> fn(&'a T, &str, Ms) -> Found<'a>,
}

impl<T> Field<T> {
    pub const fn new(name: &'static str, kind: Kind, get: for<'a> fn(&'a T, &str, Ms) -> Found<'a>) -> Field<T> {
        Field { name, kind, get }
    }

    fn takes(&self, word: &str) -> bool {
        if self.name.ends_with('.') {
            word.strip_prefix(self.name).is_some_and(|key| !key.is_empty())
        } else {
            self.name == word
        }
    }

    /// How the field is written with the sign that is used most: `state:`, `age>`.
    pub fn shown(&self) -> String {
        match self.kind {
            Kind::Age => format!("{}>", self.name),
            Kind::Text if self.name == "error" => "error~".to_owned(),
            _ if self.name.ends_with('.') => format!("{}KEY:", self.name),
            _ => format!("{}:", self.name),
        }
    }
}

/// A word that was understood: which field, and what it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Test {
    field: usize,
    key: String,
    negated: bool,
    asks: Asks,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Asks {
    Globs(Vec<Glob>),
    /// In lower case.
    Part(String),
    /// Digits of ids, without hyphens; an empty one fits every id.
    Digits(Vec<String>),
    Number(Sign, i64),
    Age(Sign, Duration),
    OneOf(Vec<&'static str>),
}

impl Test {
    /// Reads a word by the table of fields.
    ///
    /// # Errors
    /// [`BadFilter`] with the word and what would fit.
    pub fn read<T>(word: &Word, fields: &[Field<T>]) -> Result<Test, BadFilter> {
        let Some(at) = fields.iter().position(|field| field.takes(&word.field)) else {
            return Err(word.wrong(unknown(&word.raw, &word.field, fields)));
        };
        let field = &fields[at];
        let unfit = || word.wrong(Problem::Sign { raw: word.raw.clone(), shown: signs(field) });
        let asks = match (field.kind, word.sign) {
            (Kind::Text, Sign::Is) => Asks::Globs(word.globs()),
            (Kind::Text, Sign::Contains) => Asks::Part(word.text().to_lowercase()),
            (Kind::Id, Sign::Is | Sign::Contains) => {
                let digits = word.texts().iter().map(|text| digits(text)).collect::<Option<_>>();
                Asks::Digits(digits.ok_or_else(|| word.wrong(Problem::Id(word.text())))?)
            }
            (Kind::Number, sign) if sign != Sign::Contains => {
                let number = word.text().parse().map_err(|_| word.wrong(Problem::Number(word.text())))?;
                Asks::Number(sign, number)
            }
            (Kind::Age, sign) if !matches!(sign, Sign::Is | Sign::Contains) => {
                Asks::Age(sign, parse_duration(&word.text()).map_err(|error| word.wrong(error.into()))?)
            }
            (Kind::Choice(read, noun, known), Sign::Is) => {
                let one = |text: String| {
                    read(&text.to_lowercase()).ok_or_else(|| word.wrong(Problem::Choice { text, noun, known }))
                };
                Asks::OneOf(word.texts().into_iter().map(one).collect::<Result<_, _>>()?)
            }
            _ => return Err(unfit()),
        };
        let key = word.field.strip_prefix(field.name).unwrap_or_default().to_owned();
        Ok(Test { field: at, key, negated: word.negated, asks })
    }

    pub fn holds<T>(&self, thing: &T, fields: &[Field<T>], now: Ms) -> bool {
        let found = (fields[self.field].get)(thing, &self.key, now);
        self.asks.fits(&found) != self.negated
    }
}

impl Asks {
    fn fits(&self, found: &Found<'_>) -> bool {
        match (self, found) {
            (asks, Found::Any(texts)) => texts.iter().any(|text| asks.fits(&Found::from(text.as_str()))),
            (Asks::Globs(globs), Found::Text(text)) => globs.iter().any(|glob| glob.matches(text)),
            (Asks::Part(part), Found::Text(text)) => text.to_lowercase().contains(part.as_str()),
            (Asks::Digits(parts), Found::Text(text)) => {
                let digits = text.replace('-', "");
                parts.iter().any(|part| digits.contains(part.as_str()))
            }
            (Asks::Number(sign, wanted), Found::Number(number)) => compare(*sign, number, wanted),
            (Asks::Age(sign, wanted), Found::Age(age)) => compare(*sign, age, wanted),
            (Asks::OneOf(words), Found::Text(text)) => words.iter().any(|word| word == text),
            _ => false,
        }
    }
}

fn compare<N: Ord>(sign: Sign, found: &N, wanted: &N) -> bool {
    match sign {
        Sign::Is | Sign::Contains => found == wanted,
        Sign::Above => found > wanted,
        Sign::Below => found < wanted,
        Sign::AtLeast => found >= wanted,
        Sign::AtMost => found <= wanted,
    }
}

/// A part of an id as its digits; `*` is every id.
fn digits(text: &str) -> Option<String> {
    if text == "*" {
        return Some(String::new());
    }
    let digits: String = text.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(digits)
}

fn signs<T>(field: &Field<T>) -> String {
    let name = field.name;
    match field.kind {
        Kind::Text if name.ends_with('.') => format!("{name}KEY:TEXT or {name}KEY~PART"),
        Kind::Text => format!("{name}:TEXT or {name}~PART"),
        Kind::Id => format!("{name}:PART"),
        Kind::Number => format!("{name}:N, {name}>N or {name}<N"),
        Kind::Age => format!("{name}>DURATION or {name}<DURATION"),
        Kind::Choice(_, _, known) => format!("{name}: with {known}"),
    }
}

/// What is said of a word whose field is none.
pub(super) fn unknown<T>(raw: &str, field: &str, fields: &[Field<T>]) -> Problem {
    let near = nearest(field, fields.iter().map(|field| field.name));
    let shown = |name: &str| fields.iter().find(|field| field.name == name).map(Field::shown);
    let near = near.and_then(shown);
    let known = fields.iter().map(Field::shown).collect::<Vec<_>>().join(" ");
    Problem::Word { raw: raw.to_owned(), near, known }
}
