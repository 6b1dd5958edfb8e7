//! The text of templates and expressions, looked at without evaluating it: where `${{ … }}` begins
//! and ends, and which names, filters and tests an expression uses. Everything that can be told
//! before a run rests on this; it must never accept a name that evaluation would not see.

/// A piece of a template's text.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Text(&'a str),
    /// What stands between `${{` and `}}`.
    Expr(&'a str),
}

/// What opens an expression inside text.
pub const OPEN: &str = "${{";

/// Cuts text at its expressions. A `}}` inside quotes or inside a mapping does not end one.
///
/// # Errors
/// The rest of the text from a `${{` that is never closed.
pub fn pieces(text: &str) -> Result<Vec<Piece<'_>>, &str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find(OPEN) {
        if open > 0 {
            pieces.push(Piece::Text(&rest[..open]));
        }
        let inner = &rest[open + OPEN.len()..];
        let Some(close) = closing(inner) else { return Err(&rest[open..]) };
        pieces.push(Piece::Expr(inner[..close].trim()));
        rest = &inner[close + 2..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut open) = (0, 0usize);
    while at < bytes.len() {
        match bytes[at] {
            b'"' | b'\'' => at = end_of_string(bytes, at),
            b'{' => open += 1,
            b'}' if open > 0 => open -= 1,
            b'}' if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The index of the quote that ends the string begun at `at`, or the last index of the text.
fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let quote = bytes[at];
    let mut end = at + 1;
    while end < bytes.len() && bytes[end] != quote {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    end.min(bytes.len().saturating_sub(1)).max(at)
}

/// A name that an expression uses, with what follows it: `steps.a['b'].c` is `[steps, a, b, c]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ref {
    pub path: Vec<String>,
    /// Where it stands in the expression, in bytes.
    pub at: usize,
    /// Whether it is called as a function.
    pub call: bool,
}

impl Ref {
    /// The path as it would be written.
    pub fn text(&self) -> String {
        written(&self.path)
    }
}

/// `steps.a`, or `steps['a-b']` where a part is not a plain name.
pub fn written(path: &[String]) -> String {
    let mut text = String::new();
    for (nth, part) in path.iter().enumerate() {
        let plain = part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !part.bytes().next().is_none_or(|b| b.is_ascii_digit());
        match (nth, plain) {
            (0, _) => text.push_str(part),
            (_, true) => text.extend([".", part]),
            (_, false) => text.extend(["['", part, "']"]),
        }
    }
    text
}

/// What an expression uses.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Uses {
    pub refs: Vec<Ref>,
    /// Names after `|`, and where.
    pub filters: Vec<(String, usize)>,
    /// Names after `is`, and where.
    pub tests: Vec<(String, usize)>,
    /// Where a `~` joins text.
    pub joins: Vec<usize>,
}

const KEYWORDS: &[&str] =
    &["and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None"];

/// Lists the names of an expression. Text in quotes is no name.
pub fn uses(text: &str) -> Uses {
    let mut scanner = Scanner { text, at: 0, next: Next::Name, found: Uses::default() };
    while scanner.at < text.len() {
        scanner.token();
    }
    scanner.found
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    next: Next,
    found: Uses,
}

/// What the name that comes next would be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Name,
    Filter,
    Test,
    Attribute,
}

impl Scanner<'_> {
    fn token(&mut self) {
        let bytes = self.text.as_bytes();
        match bytes[self.at] {
            b'"' | b'\'' => self.go(end_of_string(bytes, self.at) + 1, Next::Name),
            b'|' => self.go(self.at + 1, Next::Filter),
            b'.' => self.go(self.at + 1, Next::Attribute),
            b'~' => {
                self.found.joins.push(self.at);
                self.go(self.at + 1, Next::Name);
            }
            b if is_name_start(b) => self.word(),
            b if b.is_ascii_digit() => {
                let digits = bytes[self.at..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_');
                self.go(self.at + digits.count(), Next::Name);
            }
            b if b.is_ascii_whitespace() => self.at += 1,
            _ => self.go(self.at + 1, Next::Name),
        }
    }

    fn go(&mut self, at: usize, next: Next) {
        self.at = at;
        self.next = next;
    }

    fn word(&mut self) {
        let bytes = self.text.as_bytes();
        let (at, end) = (self.at, end_of_name(bytes, self.at));
        let name = &self.text[at..end];
        match (self.next, name) {
            (Next::Test, "not") => return self.at = end,
            (Next::Name, "is") => return self.go(end, Next::Test),
            (Next::Filter, _) => self.found.filters.push((name.to_owned(), at)),
            (Next::Test, _) => self.found.tests.push((name.to_owned(), at)),
            (Next::Attribute, _) => {}
            (Next::Name, _) if KEYWORDS.contains(&name) => {}
            (Next::Name, _) => {
                let after = skip_blanks(bytes, end);
                // `name=` names an argument, `name ==` compares.
                let argument = bytes.get(after) == Some(&b'=') && bytes.get(after + 1) != Some(&b'=');
                if !argument {
                    let (reference, end) = reference(self.text, at, end);
                    self.found.refs.push(reference);
                    return self.go(end, Next::Name);
                }
            }
        }
        self.go(end, Next::Name);
    }
}

fn is_name_start(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_' || b >= 0x80
}

fn end_of_name(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    at + rest.iter().take_while(|b| is_name_start(**b) || b.is_ascii_digit()).count()
}

fn skip_blanks(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().take_while(|b| b.is_ascii_whitespace()).count()
}

/// Reads what follows a name as far as it is fixed: `.name` and `['name']`.
fn reference(text: &str, at: usize, end_of_root: usize) -> (Ref, usize) {
    let bytes = text.as_bytes();
    let mut path = vec![text[at..end_of_root].to_owned()];
    let mut end = end_of_root;
    let mut call = false;
    loop {
        let next = skip_blanks(bytes, end);
        match bytes.get(next) {
            Some(b'.') => {
                let from = skip_blanks(bytes, next + 1);
                let to = end_of_name(bytes, from.min(bytes.len()));
                if to == from {
                    break;
                }
                path.push(text[from..to].to_owned());
                end = to;
            }
            Some(b'[') => {
                let from = skip_blanks(bytes, next + 1);
                if !matches!(bytes.get(from), Some(b'"' | b'\'')) {
                    break;
                }
                let to = end_of_string(bytes, from);
                let close = skip_blanks(bytes, (to + 1).min(bytes.len()));
                if bytes.get(close) != Some(&b']') || text[from + 1..to].contains('\\') {
                    break;
                }
                path.push(text[from + 1..to].to_owned());
                end = close + 1;
            }
            Some(b'(') => {
                // The last part is a method of what stands before it, or the root is a function.
                if path.len() > 1 {
                    path.pop();
                } else {
                    call = true;
                }
                break;
            }
            _ => break,
        }
    }
    (Ref { path, at, call }, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_its_expressions() {
        assert_eq!(pieces("plain"), Ok(vec![Piece::Text("plain")]));
        assert_eq!(pieces("${{ a }}"), Ok(vec![Piece::Expr("a")]));
        assert_eq!(
            pieces("x ${{ '}}' }} y ${{ {'a': {'b': 1}}.a }}"),
            Ok(vec![Piece::Text("x "), Piece::Expr("'}}'"), Piece::Text(" y "), Piece::Expr("{'a': {'b': 1}}.a")])
        );
        assert_eq!(pieces("x ${{ a"), Err("${{ a"));
        assert_eq!(pieces("x ${{ 'a }}"), Err("${{ 'a }}"));
        assert_eq!(pieces("${{"), Err("${{"));
    }

    #[test]
    fn names_are_told_from_text_keywords_arguments_and_attributes() {
        let names = |text: &str| uses(text).refs.iter().map(Ref::text).collect::<Vec<_>>();
        assert_eq!(names("input.a > 3 and not steps['x-y'].outputs.n"), ["input.a", "steps['x-y'].outputs.n"]);
        assert_eq!(names("'input.b' ~ \"a\\\"b c\" if true else none"), Vec::<String>::new());
        assert_eq!(names("input.items | map(attribute='sku') | join(',') "), ["input.items"]);
        assert_eq!(names("x is not defined or y is defined"), ["x", "y"]);
        assert_eq!(names("input[steps.a.outputs]"), ["input", "steps.a.outputs"]);
        assert_eq!(names("(input).foo . bar + 1e5 + 0x1f"), ["input"]);
        assert_eq!(names("input.items() + range(3)"), ["input", "range"]);
        assert_eq!(names("steps.face-detect"), ["steps.face", "detect"]);
        assert!(uses("range(3)").refs[0].call);
    }

    #[test]
    fn filters_and_tests_are_listed() {
        let used = uses("a | upper | default('x') is not string");
        assert_eq!(used.filters.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["upper", "default"]);
        assert_eq!(used.tests, [("string".to_owned(), 32)]);
    }

    #[test]
    fn any_text_is_scanned_without_a_fault() {
        for text in ["'", "\"\\", "a[", "a['", "a['b", "a.", "é.ü['", "${{'", "a['b'", "|", "is", "a(", "1.2.3"] {
            let _ = uses(text);
            let _ = pieces(text);
        }
    }
}
