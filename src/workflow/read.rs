//! Reading nodes as what they must be, collecting every mistake instead of stopping at the first.
//! Knows types and names in general; which keys there are is the manifest's business.

use std::time::Duration;

use super::check::{Outline, Site, Whereabouts};
use super::expr::{Expr, ExprError, Template, listed};
use super::problem::{Place, Problem, Problems, Source};
use super::reference::Reference;
use super::yaml::{Entry, Node, Value};
use crate::domain::Name;
use crate::domain::text::nearest;
use crate::domain::time::parse_duration;

/// The source, what has been found in it so far, and everything that is to be checked when the whole
/// graph is known.
pub struct Reader<'s> {
    source: Source<'s>,
    problems: Vec<Problem>,
    remarks: Vec<Problem>,
    sites: Vec<Site>,
    references: Vec<Reference>,
    /// The steps of the workflow that is being read.
    pub outline: Outline,
    /// Where the expressions stand that are read next.
    pub at: Whereabouts,
}

/// Keys that people know from elsewhere, and what they are called here, where that is a key.
const ELSEWHERE: &[(&str, &str)] = &[
    ("args", "run"),
    ("cmd", "run"),
    ("command", "run"),
    ("script", "run"),
    ("shell", "run"),
    ("depends_on", "needs"),
    ("dependsOn", "needs"),
    ("after", "needs"),
    ("condition", "if"),
    ("when", "if"),
    ("name", "id"),
    ("loop", "foreach"),
    ("with_items", "foreach"),
    ("on", "errors"),
    ("attempts", "max"),
    ("max_attempts", "max"),
    ("max_retries", "max"),
    ("delay", "initial"),
    ("interval", "initial"),
    ("inputs", "input"),
    ("params", "with"),
    ("type", "job"),
    ("uses", "job"),
    ("workflow", "call"),
    ("body", "json"),
    ("tz", "timezone"),
    ("rollback", "compensate"),
    ("undo", "compensate"),
];

/// The keys of one mapping, checked to be known and not repeated.
#[derive(Clone, Copy)]
pub struct Fields<'n> {
    entries: &'n [Entry],
    /// Where the mapping begins.
    pub place: Place,
}

impl<'n> Fields<'n> {
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub fn entry(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The place of the key itself.
    pub fn place_of(&self, key: &str) -> Place {
        self.entry(key).map_or(self.place, |entry| entry.place)
    }
}

impl<'s> Reader<'s> {
    pub fn new(source: Source<'s>) -> Reader<'s> {
        Reader {
            source,
            problems: Vec::new(),
            remarks: Vec::new(),
            sites: Vec::new(),
            references: Vec::new(),
            outline: Outline::default(),
            at: Whereabouts::Outputs,
        }
    }

    pub fn source(&self) -> Source<'s> {
        self.source
    }

    /// Does something while expressions stand elsewhere.
    pub fn within<T>(&mut self, at: Whereabouts, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.at, at);
        let value = read(self);
        self.at = before;
        value
    }

    /// What is not wrong, and may not have been meant.
    pub fn remark(&mut self, place: Place, message: impl Into<String>) {
        self.remarks.push(Problem::new(self.source, place, message, None));
    }

    /// Something that must be there when this is applied.
    pub fn refers(&mut self, reference: Reference) {
        self.references.push(reference);
    }

    /// Remarks and references, which are forgotten.
    pub fn take_rest(&mut self) -> (Vec<Problem>, Vec<Reference>) {
        (std::mem::take(&mut self.remarks), std::mem::take(&mut self.references))
    }

    /// The expressions read so far, which are forgotten.
    pub fn take_sites(&mut self) -> Vec<Site> {
        std::mem::take(&mut self.sites)
    }

    /// The outline of the workflow that was read, which is forgotten.
    pub fn take_outline(&mut self) -> Outline {
        std::mem::take(&mut self.outline)
    }

    /// Puts back what [`Reader::take_sites`] gave.
    pub fn put_sites(&mut self, sites: Vec<Site>) {
        self.sites = sites;
    }

    fn saw(&mut self, node: &Node, template: &Template) {
        let mut exprs = Vec::new();
        template.exprs(&mut exprs);
        let at = self.at;
        self.sites.extend(exprs.into_iter().map(|expr| Site { expr: expr.clone(), node: node.clone(), at }));
    }

    pub fn wrong(&mut self, place: Place, message: impl Into<String>) {
        self.problems.push(Problem::new(self.source, place, message, None));
    }

    pub fn wrong_hint(&mut self, place: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem::new(self.source, place, message, Some(hint.into())));
    }

    /// A mistake in an expression of a scalar, placed at that expression.
    pub fn wrong_expr(&mut self, node: &Node, expr: &str, error: &ExprError) {
        self.wrong_expr_at(node, expr, error, usize::MAX);
    }

    /// As [`Reader::wrong_expr`], underlining only `len` characters.
    pub fn wrong_expr_at(&mut self, node: &Node, expr: &str, error: &ExprError, len: usize) {
        let (before, meant) = expr.split_at_checked(error.at).unwrap_or(("", expr));
        let place = match node.place_of(expr, self.source) {
            Some(mut place) if !before.contains('\n') => {
                let meant = meant.lines().next().unwrap_or("").chars().count();
                place.column += before.chars().count() as u32;
                place.len = meant.min(len) as u32;
                place
            }
            _ => node.place,
        };
        self.problems.push(Problem::new(self.source, place, error.message.clone(), error.hint.clone()));
    }

    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// # Errors
    /// All the mistakes, by place, if there are any.
    pub fn finish<T>(mut self, value: T) -> Result<T, Problems> {
        if self.problems.is_empty() {
            return Ok(value);
        }
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        self.problems.dedup();
        Err(Problems(self.problems))
    }

    /// The keys of a mapping. Unknown and repeated ones are told; `what` says what the mapping is,
    /// with its article ("a step").
    pub fn fields<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> Option<Fields<'n>> {
        let entries = self.entries(node, what)?;
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let elsewhere = ELSEWHERE.iter().find(|(theirs, ours)| *theirs == entry.key && known.contains(ours));
            let hint = match (elsewhere, nearest(&entry.key, known.iter().copied())) {
                (Some((_, ours)), _) => format!("it is called `{ours}` here"),
                (None, Some(name)) => format!("did you mean `{name}`?"),
                (None, None) => format!("its keys are {}", all(known)),
            };
            self.wrong_hint(entry.place, format!("`{}` is not a key of {what}", entry.key), hint);
        }
        Some(Fields { entries, place: node.place })
    }

    /// The entries of a mapping whose keys are free. Repeated ones are told.
    pub fn entries<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Entry]> {
        let Value::Map(entries) = &node.value else {
            self.wrong(node.place, format!("{what} is a mapping, not {}", node.what()));
            return None;
        };
        let mut seen = std::collections::BTreeMap::new();
        for entry in entries {
            if let Some(first) = seen.insert(entry.key.as_str(), entry.place.line) {
                self.wrong(entry.place, format!("the key `{}` stands twice, first in line {first}", entry.key));
            }
        }
        Some(entries)
    }

    pub fn list<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Node]> {
        if let Value::List(items) = &node.value {
            return Some(items);
        }
        self.wrong(node.place, format!("{what} is a list, not {}", node.what()));
        None
    }

    /// A string, or another scalar as it was written.
    pub fn text(&mut self, node: &Node, what: &str) -> Option<String> {
        let text = node.scalar_text().filter(|_| node.value != Value::Null);
        if text.is_none() {
            let message = format!("{what} is text, not {}", node.what());
            match &node.written {
                Some(written) => self.wrong_hint(node.place, message, format!("write it in quotes: \"{written}\"")),
                None => self.wrong(node.place, message),
            }
        }
        text
    }

    pub fn flag(&mut self, node: &Node, what: &str) -> Option<bool> {
        if let Value::Bool(flag) = node.value {
            return Some(flag);
        }
        let hint = "write true or false";
        self.wrong_hint(node.place, format!("{what} is true or false, not {}", found(node)), hint);
        None
    }

    /// A whole number within bounds.
    pub fn whole(&mut self, node: &Node, what: &str, least: i64, most: i64) -> Option<i64> {
        let number = match &node.value {
            Value::Number(number) => number.as_i64(),
            _ => None,
        };
        let fits = number.filter(|number| (least..=most).contains(number));
        if fits.is_none() {
            self.wrong(node.place, format!("{what} is a whole number from {least} to {most}, not {}", found(node)));
        }
        fits
    }

    /// How many: at least 1.
    pub fn count(&mut self, node: &Node, what: &str) -> Option<u32> {
        self.whole(node, what, 1, 1_000_000).and_then(|count| u32::try_from(count).ok())
    }

    pub fn share(&mut self, node: &Node, what: &str) -> Option<f64> {
        let number = match &node.value {
            Value::Number(number) => number.as_f64(),
            _ => None,
        };
        let fits = number.filter(|number| (0.0..=1.0).contains(number));
        if fits.is_none() {
            self.wrong(node.place, format!("{what} is a number from 0 to 1, not {}", found(node)));
        }
        fits
    }

    pub fn duration(&mut self, node: &Node, what: &str) -> Option<Duration> {
        let text = match node.scalar_text() {
            Some(text) if node.value != Value::Null => text,
            _ => {
                self.wrong(node.place, format!("{what} is a duration such as 30s, not {}", node.what()));
                return None;
            }
        };
        match parse_duration(&text) {
            Ok(duration) => Some(duration),
            Err(error) => {
                self.wrong(node.place, format!("{what}: {error}"));
                None
            }
        }
    }

    pub fn name(&mut self, node: &Node, what: &str) -> Option<Name> {
        let text = self.text(node, what)?;
        match text.parse() {
            Ok(name) => Some(name),
            Err(error) => {
                self.wrong(node.place, format!("{what}: {error}"));
                None
            }
        }
    }

    /// One of a few words.
    pub fn word<T: Copy>(&mut self, node: &Node, what: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(node, what)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let hint = match nearest(&text, names.iter().copied()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("it is one of {}", listed(&names)),
            };
            self.wrong_hint(node.place, format!("{what} cannot be `{text}`"), hint);
        }
        found
    }

    /// JSON with expressions in it.
    pub fn template(&mut self, node: &Node) -> Template {
        match &node.value {
            Value::List(items) => {
                let items: Vec<Template> = items.iter().map(|item| self.template(item)).collect();
                Template::list(items)
            }
            Value::Map(_) => {
                let entries = self.entries(node, "this").unwrap_or_default();
                let fields = entries.iter().map(|entry| (entry.key.clone(), self.template(&entry.value))).collect();
                Template::map(fields)
            }
            Value::Text(_) => self.text_template(node, "this"),
            _ => Template::Literal(node.to_json()),
        }
    }

    /// Text with expressions in it: a scalar as it was written.
    pub fn text_template(&mut self, node: &Node, what: &str) -> Template {
        let Some(text) = self.text(node, what) else { return Template::Literal(serde_json::Value::Null) };
        let mut wrong = Vec::new();
        let template = Template::build_text(&text, &mut |expr, error| wrong.push((expr.to_owned(), error)));
        for (expr, error) in wrong {
            self.wrong_expr(node, &expr, &error);
        }
        self.saw(node, &template);
        template
    }

    /// A field that is always an expression, and takes it bare or in `${{ }}`.
    pub fn expr(&mut self, node: &Node, what: &str) -> Option<Expr> {
        let text = self.text(node, what)?;
        let trimmed = text.trim();
        let bare = trimmed.strip_prefix("${{").and_then(|inner| inner.strip_suffix("}}")).unwrap_or(trimmed);
        match Expr::parse(bare) {
            Ok(expr) => {
                self.sites.push(Site { expr: expr.clone(), node: node.clone(), at: self.at });
                Some(expr)
            }
            Err(error) => {
                self.wrong_expr(node, bare.trim(), &error);
                None
            }
        }
    }
}

/// What stands there, for messages: a scalar as it was written, else its kind.
fn found(node: &Node) -> String {
    match node.scalar_text() {
        Some(text) => format!("`{}`", crate::domain::text::clip(&text, 40)),
        None => node.what().to_owned(),
    }
}

fn all(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
