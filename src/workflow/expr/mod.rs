//! Templates: JSON whose strings may hold `${{ expressions }}`, compiled once and rendered often.
//!
//! A scalar that is one expression keeps the type of its result; inside text a result is text, the
//! way JSON writes it. Rendering sees the names of its [`Scope`] and nothing else: no clock, no
//! randomness, and what was rendered is never rendered again, so that data stays data.

mod environment;
pub mod scan;
pub mod value;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use minijinja::value::{Enumerator, Object, Value};
use minijinja::{ErrorKind, Expression};
use serde_json::Value as Json;

use crate::domain::text::nearest;
use environment::{FILTERS, FUNCTIONS, TESTS, environment, known};
use scan::{Piece, Ref};

/// Longest expression, in bytes.
const EXPR_BYTES: usize = 4 << 10;

/// What is wrong with an expression, or went wrong in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExprError {
    pub message: String,
    pub hint: Option<String>,
    /// Where in the expression, in bytes.
    pub at: usize,
}

impl ExprError {
    fn new(message: impl Into<String>) -> ExprError {
        ExprError { message: message.into(), hint: None, at: 0 }
    }

    /// The message and the cure on one line.
    pub fn with_hint(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}: {hint}", self.message),
            None => self.message.clone(),
        }
    }
}

/// A compiled expression. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Expr(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    source: String,
    code: Expression<'static, 'static>,
    refs: Vec<Ref>,
    /// It is one name and nothing else (`steps.a.outputs`), as most are.
    plain: bool,
}

/// Two expressions are the same when they are written the same.
impl PartialEq for Expr {
    fn eq(&self, other: &Expr) -> bool {
        self.0.source == other.0.source
    }
}

impl Expr {
    /// # Errors
    /// What does not parse, and filters, tests and functions that do not exist.
    pub fn parse(source: &str) -> Result<Expr, ExprError> {
        let source = source.trim();
        if source.is_empty() {
            return Err(ExprError::new("an expression is empty"));
        }
        if source.len() > EXPR_BYTES {
            return Err(ExprError::new(format!("an expression is longer than {EXPR_BYTES} bytes")));
        }
        let used = scan::uses(source);
        known(&used.filters, FILTERS, "filter")?;
        known(&used.tests, TESTS, "test")?;
        let calls: Vec<_> = used.refs.iter().filter(|r| r.call).map(|r| (r.path[0].clone(), r.at)).collect();
        known(&calls, FUNCTIONS, "function")?;
        if let Some(at) = used.joins.first() {
            let hint = "write the parts side by side: `${{ a }}${{ b }}`".to_owned();
            return Err(ExprError { message: "`~` does not join text here".into(), hint: Some(hint), at: *at });
        }
        let code = environment().compile_expression_owned(source.to_owned()).map_err(|error| {
            let detail = error.detail().unwrap_or("it cannot be read").to_owned();
            let at = error.range().map_or(0, |range| range.start.min(source.len()));
            ExprError { message: format!("not an expression: {detail}"), hint: None, at }
        })?;
        // The scan and the compiler must agree on the names, or a check would miss one.
        let names = code.undeclared_variables(false);
        if let Some(name) = names.iter().filter(|name| !used.refs.iter().any(|found| found.path[0] == **name)).min() {
            return Err(ExprError::new(format!("not an expression: the name `{name}` stands where none can")));
        }
        let refs: Vec<Ref> = used.refs.into_iter().filter(|found| !found.call).collect();
        let plain = matches!(refs.as_slice(), [only] if only.text() == source);
        Ok(Expr(Arc::new(Compiled { source: source.to_owned(), code, refs, plain })))
    }

    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The names it uses.
    pub fn refs(&self) -> &[Ref] {
        &self.0.refs
    }

    /// # Errors
    /// A missing name (with the nearest one there is), an operation that cannot be, a result that is
    /// not JSON, or too much work.
    pub fn eval(&self, scope: &Scope) -> Result<Json, ExprError> {
        if let Some(found) = self.0.refs.first().filter(|_| self.0.plain).and_then(|only| scope.find(&only.path)) {
            return Ok(found.clone());
        }
        let result = self.0.code.eval(scope.value()).map_err(|error| match error.kind() {
            ErrorKind::UndefinedError => self.missing(scope).unwrap_or_else(|| ExprError::new("a name is missing")),
            ErrorKind::OutOfFuel => ExprError::new("it takes too many steps to evaluate"),
            _ => ExprError::new(error.detail().map_or_else(|| error.to_string(), str::to_owned)),
        });
        let within = |error: ExprError| ExprError {
            message: format!("`{}`: {}", self.0.source, error.message),
            hint: error.hint,
            at: error.at,
        };
        let result = result.map_err(within)?;
        if result.is_undefined() {
            let missing = self.missing(scope);
            return Err(within(missing.unwrap_or_else(|| ExprError::new("there is no such value"))));
        }
        value::to_json(&result).map_err(|message| within(self.missing(scope).unwrap_or(ExprError::new(message))))
    }

    /// As [`Expr::eval`], for conditions: anything but true, false and null is an error, since a
    /// text such as "false" would count as true.
    pub fn eval_bool(&self, scope: &Scope) -> Result<bool, ExprError> {
        match self.eval(scope)? {
            Json::Bool(flag) => Ok(flag),
            Json::Null => Ok(false),
            other => {
                let message = format!("`{}` gives {}, not true or false", self.0.source, short(&other));
                Err(ExprError { message, hint: Some("compare it with something".into()), at: 0 })
            }
        }
    }

    /// The first name of the expression that the scope does not have, and the nearest it has.
    fn missing(&self, scope: &Scope) -> Option<ExprError> {
        self.0.refs.iter().find_map(|found| {
            let mut here = scope.value();
            for (nth, part) in found.path.iter().enumerate() {
                let next = here.get_attr(part).ok().filter(|next| !next.is_undefined());
                let Some(next) = next else {
                    let base = scan::written(&found.path[..nth]);
                    if nth > 0 && here.is_none() {
                        return Some(ExprError::new(format!("`{base}` is null, so there is no `{part}` in it")));
                    }
                    let names: Vec<String> =
                        here.try_iter().map(|keys| keys.map(|key| key.to_string()).collect()).unwrap_or_default();
                    let hint = nearest(part, names.iter().map(String::as_str))
                        .map(|name| format!("did you mean `{name}`?"))
                        .or_else(|| (!names.is_empty()).then(|| format!("there is {}", listed(&names))));
                    let message = match nth {
                        0 => format!("there is no name `{part}`"),
                        _ => format!("there is no `{part}` in `{base}`"),
                    };
                    return Some(ExprError { message, hint, at: found.at });
                };
                here = next;
            }
            None
        })
    }
}

/// Up to eight names for a message.
pub fn listed<S: AsRef<str>>(names: &[S]) -> String {
    let shown: Vec<String> = names.iter().take(8).map(|name| format!("`{}`", name.as_ref())).collect();
    let more = if names.len() > 8 { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

fn short(json: &Json) -> String {
    crate::domain::text::clip(&json.to_string(), 60).into_owned()
}

/// The names that an expression can see, and their values.
#[derive(Debug)]
pub struct Scope {
    roots: Vec<(Cow<'static, str>, Json)>,
    /// The same for the evaluator, made when it is first needed.
    value: OnceLock<Value>,
}

#[derive(Debug)]
struct Roots(Vec<(String, Value)>);

impl Object for Roots {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.0.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.iter().map(|(name, _)| Value::from(name.as_str())).collect())
    }
}

impl Scope {
    /// Of two roots with one name the first counts.
    pub fn new<N: Into<Cow<'static, str>>>(roots: Vec<(N, Json)>) -> Scope {
        let roots = roots.into_iter().map(|(name, value)| (name.into(), value)).collect();
        Scope { roots, value: OnceLock::new() }
    }

    fn value(&self) -> Value {
        let make = || Roots(self.roots.iter().map(|(name, json)| (name.to_string(), value::from_json(json))).collect());
        self.value.get_or_init(|| Value::from_object(make())).clone()
    }

    /// The value at a path, if every part of it is there.
    fn find(&self, path: &[String]) -> Option<&Json> {
        let (root, rest) = path.split_first()?;
        let mut here = self.roots.iter().find(|(name, _)| name == root).map(|(_, json)| json)?;
        for part in rest {
            here = here.as_object()?.get(part)?;
        }
        Some(here)
    }
}

/// JSON with expressions in its strings, compiled. Keys of mappings are never expressions.
#[derive(Clone, Debug, PartialEq)]
pub enum Template {
    /// No expression anywhere inside.
    Literal(Json),
    /// One expression and nothing around it.
    Whole(Expr),
    Text(Vec<Part>),
    List(Vec<Template>),
    Map(Vec<(String, Template)>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    Text(String),
    Expr(Expr),
}

impl Template {
    /// # Errors
    /// The first mistake in one of its expressions.
    pub fn parse(json: &Json) -> Result<Template, ExprError> {
        Ok(match json {
            Json::String(text) => {
                let mut first = None;
                let template = Template::build_text(text, &mut |_, error| {
                    first.get_or_insert(error);
                });
                return first.map_or(Ok(template), Err);
            }
            Json::Array(items) => Template::list(items.iter().map(Template::parse).collect::<Result<_, _>>()?),
            Json::Object(fields) => {
                let fields = fields.iter().map(|(key, field)| Ok((key.clone(), Template::parse(field)?)));
                Template::map(fields.collect::<Result<_, ExprError>>()?)
            }
            other => Template::Literal(other.clone()),
        })
    }

    /// A list of templates, literal if all of them are.
    pub fn list(items: Vec<Template>) -> Template {
        if !items.iter().all(|item| matches!(item, Template::Literal(_))) {
            return Template::List(items);
        }
        Template::Literal(Json::Array(items.iter().map(Template::source).collect()))
    }

    /// A mapping of templates, literal if all of them are.
    pub fn map(fields: Vec<(String, Template)>) -> Template {
        if !fields.iter().all(|(_, field)| matches!(field, Template::Literal(_))) {
            return Template::Map(fields);
        }
        Template::Literal(Json::Object(fields.iter().map(|(key, field)| (key.clone(), field.source())).collect()))
    }

    /// Compiles one string.
    pub fn build_text(text: &str, wrong: &mut dyn FnMut(&str, ExprError)) -> Template {
        let literal = || Template::Literal(Json::String(text.to_owned()));
        let pieces = match scan::pieces(text) {
            Ok(pieces) => pieces,
            Err(rest) => {
                wrong(rest, ExprError::new("`${{` is never closed: an expression ends with `}}`"));
                return literal();
            }
        };
        let mut parts = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match piece {
                Piece::Text(text) => parts.push(Part::Text(text.to_owned())),
                Piece::Expr(source) => match Expr::parse(source) {
                    Ok(expr) => parts.push(Part::Expr(expr)),
                    Err(error) => wrong(source, error),
                },
            }
        }
        match parts.as_slice() {
            [Part::Expr(expr)] => Template::Whole(expr.clone()),
            parts if parts.iter().all(|part| matches!(part, Part::Text(_))) => literal(),
            _ => Template::Text(parts),
        }
    }

    /// # Errors
    /// The first expression that fails.
    pub fn render(&self, scope: &Scope) -> Result<Json, ExprError> {
        Ok(match self {
            Template::Literal(json) => json.clone(),
            Template::Whole(expr) => expr.eval(scope)?,
            Template::Text(parts) => {
                let mut text = String::new();
                for part in parts {
                    match part {
                        Part::Text(part) => text.push_str(part),
                        Part::Expr(expr) => text.push_str(&value::text(&expr.eval(scope)?)),
                    }
                }
                Json::String(text)
            }
            Template::List(items) => {
                Json::Array(items.iter().map(|item| item.render(scope)).collect::<Result<_, _>>()?)
            }
            Template::Map(fields) => {
                let fields = fields.iter().map(|(key, field)| Ok((key.clone(), field.render(scope)?)));
                Json::Object(fields.collect::<Result<_, ExprError>>()?)
            }
        })
    }

    /// As [`Template::render`], as text: a string itself, any other value its JSON.
    pub fn render_text(&self, scope: &Scope) -> Result<String, ExprError> {
        Ok(match self.render(scope)? {
            Json::String(text) => text,
            other => other.to_string(),
        })
    }

    /// Every expression inside.
    pub fn exprs<'a>(&'a self, found: &mut Vec<&'a Expr>) {
        match self {
            Template::Literal(_) => {}
            Template::Whole(expr) => found.push(expr),
            Template::Text(parts) => found.extend(parts.iter().filter_map(|part| match part {
                Part::Expr(expr) => Some(expr),
                Part::Text(_) => None,
            })),
            Template::List(items) => items.iter().for_each(|item| item.exprs(found)),
            Template::Map(fields) => fields.iter().for_each(|(_, field)| field.exprs(found)),
        }
    }

    /// The JSON it was made from.
    pub fn source(&self) -> Json {
        match self {
            Template::Literal(json) => json.clone(),
            Template::Whole(expr) => Json::String(format!("${{{{ {} }}}}", expr.source())),
            Template::Text(parts) => Json::String(
                parts
                    .iter()
                    .map(|part| match part {
                        Part::Text(text) => text.clone(),
                        Part::Expr(expr) => format!("${{{{ {} }}}}", expr.source()),
                    })
                    .collect(),
            ),
            Template::List(items) => Json::Array(items.iter().map(Template::source).collect()),
            Template::Map(fields) => {
                Json::Object(fields.iter().map(|(key, field)| (key.clone(), field.source())).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests;
