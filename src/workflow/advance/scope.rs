//! The names that a step's expressions see, and their values. Looks only at what the expressions
//! name, so that a step whose templates hold none costs nothing here.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::place::Hop;
use super::{Addr, Advance, NeedValues};
use crate::domain::Json;
use crate::workflow::expr::Scope;
use crate::workflow::graph::{Layer, Uses};
use crate::workflow::record::{Slot, StepRecord};
use crate::workflow::step_key;

pub(super) type Roots = Vec<(Cow<'static, str>, Value)>;

impl Advance<'_> {
    /// What templates see that stand among the steps at `hops`.
    pub(super) fn scope(&self, uses: &Uses, hops: &[Hop], own: Option<&Addr>) -> Result<Scope, NeedValues> {
        self.scope_with(uses, hops, own, |_| {})
    }

    /// As [`Advance::scope`], with more names.
    pub(super) fn scope_with(
        &self,
        uses: &Uses,
        hops: &[Hop],
        own: Option<&Addr>,
        more: impl FnOnce(&mut Roots),
    ) -> Result<Scope, NeedValues> {
        if !uses.any {
            return Ok(Scope::new(Roots::new()));
        }
        let run = &self.out.run;
        let mut missing = Vec::new();
        let mut roots = Roots::with_capacity(6);
        // What is added comes first, so that it hides what is further out.
        more(&mut roots);
        if uses.input {
            roots.push(("input".into(), self.value(Some(&run.input), &mut missing)));
        }
        let mut steps = Map::new();
        let mut needs = Map::new();
        for ((up, pos), outputs) in &uses.steps {
            let around = &hops[..hops.len().saturating_sub(*up)];
            let addr = Addr { hops: around.to_vec(), pos: *pos };
            let id = self.node(&addr).spec.id.clone();
            let seen = self.seen(self.record(&addr), *outputs, &mut missing);
            if uses.needs.contains(&(*up, *pos)) {
                needs.insert(id.clone(), seen.clone());
            }
            steps.insert(id, seen);
        }
        for (name, up) in &uses.items {
            if let Some((owner, key)) = inside_of(hops, *up) {
                roots.push((name.clone().into(), self.item(&owner, key, &mut missing)));
            }
        }
        if let Some((owner, key)) = uses.looped.and_then(|up| inside_of(hops, up)) {
            roots.push(("loop".into(), self.looped(&owner, key, &mut missing)?));
        }
        if !missing.is_empty() {
            return Err(NeedValues(missing));
        }
        if !uses.needs.is_empty() {
            roots.push(("needs".into(), Value::Object(needs)));
        }
        roots.push(("steps".into(), Value::Object(steps)));
        if uses.run {
            let state = run.outcome.unwrap_or(run.state);
            let about = json!({
                "id": run.id.to_string(),
                "workflow": run.workflow.as_str(),
                "state": state.as_str(),
                "started_at": run.started_at.map(|at| at.rfc3339()),
            });
            roots.push(("run".into(), about));
        }
        if let (true, Some(addr)) = (uses.step, own) {
            let key = step_key(run.id, &self.path(addr));
            // A command is rendered once, before its first attempt; the number of the attempt under
            // way is in its environment.
            let attempt = self.record(addr).map_or(1, |record| record.attempt.max(1));
            roots.push(("step".into(), json!({"key": key, "attempt": attempt})));
        }
        Ok(Scope::new(roots))
    }

    /// A step as expressions see it.
    fn seen(&self, record: Option<&StepRecord>, outputs: bool, missing: &mut Vec<String>) -> Value {
        let output = record.and_then(|record| record.output.as_ref()).filter(|_| outputs);
        let error = record.and_then(|record| record.error.as_ref());
        let error = error.map(|error| json!({"class": error.class, "message": error.message}));
        let mut fields = Map::new();
        fields.insert("outputs".into(), self.value(output, missing));
        fields.insert("state".into(), record.map_or("pending", |record| record.state.as_str()).into());
        fields.insert("error".into(), error.unwrap_or(Value::Null));
        fields.insert("attempt".into(), record.map_or(0, |record| record.attempt).into());
        Value::Object(fields)
    }

    /// `loop`: of a list the index and the key of the item, of a `while` the round.
    fn looped(&self, owner: &Addr, key: u32, missing: &mut Vec<String>) -> Result<Value, NeedValues> {
        let node = self.node(owner);
        if node.layer == Layer::Loop {
            return Ok(json!({"index": key, "key": null}));
        }
        let expr = node.spec.foreach.as_ref().and_then(|each| each.key.as_ref());
        let named = match expr {
            Some(expr) => {
                let scope = self.scope(&node.choice, &owner.inside(key), Some(owner))?;
                // A key that cannot be worked out is the index; nothing is told apart by it but in `loop.key`.
                expr.eval(&scope).unwrap_or_else(|_| json!(key))
            }
            None if self.record(owner).and_then(StepRecord::each).is_some_and(|each| each.items.map) => {
                self.item(owner, key, missing)["key"].clone()
            }
            None => json!(key),
        };
        Ok(json!({"index": key, "key": named}))
    }

    /// A value, with what of it lies outside the header; what is not loaded is noted as missing.
    pub(super) fn value(&self, slot: Option<&Slot>, missing: &mut Vec<String>) -> Value {
        match slot {
            None => Value::Null,
            Some(Slot::Inline(value)) => value.to_value(),
            Some(slot) => slot.resolve(&mut |key| {
                let found = self.stored(key).map(|value| value.to_value());
                if found.is_none() {
                    missing.push(key.to_owned());
                }
                found
            }),
        }
    }

    /// A value by its key: written by this very advance, or loaded.
    pub(super) fn stored(&self, key: &str) -> Option<Json> {
        let fresh = self.out.values.iter().rev().find(|(kept, _)| kept == key).map(|(_, value)| value.clone());
        fresh.or_else(|| (self.values)(key))
    }
}

/// The list or loop that the steps so many scopes up are inside of, and the item or round.
fn inside_of(hops: &[Hop], up: usize) -> Option<(Addr, u32)> {
    let at = hops.len().checked_sub(up + 1)?;
    Some((Addr { hops: hops[..at].to_vec(), pos: hops[at].pos }, hops[at].key))
}
