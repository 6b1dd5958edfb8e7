//! `foreach`: one step done for each item of a list or a map. The items lie outside the header but
//! for small lists; in it are the live ones, at most `max_parallel`, and of the others compact sets:
//! an item costs the same at 10 and at 100,000.

use std::rc::Rc;

use serde_json::{Value, json};

use super::begin::is_bad;
use super::end::End;
use super::{Addr, Advance, MORE_TIMER, NeedValues, Todo};
use crate::domain::Json;
use crate::domain::event::{Event, EventKind};
use crate::domain::job::JobError;
use crate::domain::run::{StepEvent, StepState};
use crate::domain::text::count;
use crate::workflow::record::{Body, Each, Items, Slot, StepRecord, Stop, item_output};
use crate::workflow::run::INLINE_BYTES;
use crate::workflow::spec::{Foreach, OnError, Quorum, Rest};

/// Of the items that failed at most so many are named.
const NAMED_ITEMS: usize = 5;

impl Advance<'_> {
    pub(super) fn begin_each(&mut self, addr: &Addr) -> Result<(), NeedValues> {
        let node = self.node(addr);
        let Some(each) = &node.spec.foreach else { return Ok(()) };
        let scope = self.scope(&node.work, &addr.hops, Some(addr))?;
        let items = match each.items.render(&scope) {
            Ok(Value::Array(items)) => self.keep_items(addr, items, false),
            Ok(Value::Object(fields)) => {
                let pairs = fields.into_iter().map(|(key, value)| json!([key, value])).collect();
                self.keep_items(addr, pairs, true)
            }
            Ok(other) => {
                let what = crate::domain::text::clip(&other.to_string(), 60).into_owned();
                let error = JobError::new("foreach", format!("`items` gives {what}, not a list or a map"));
                return self.end(addr, End::Failed(error), self.now);
            }
            Err(error) => return self.end(addr, End::Failed(super::render::expression("items", &error)), self.now),
        };
        if let Some(record) = self.record_mut(addr) {
            record.body = Some(Box::new(Body::Each(Each::new(items))));
        }
        self.step_event(addr, StepEvent::Start, None);
        self.agenda.push_back(Todo::Fill(addr.clone()));
        Ok(())
    }

    fn keep_items(&mut self, addr: &Addr, items: Vec<Value>, map: bool) -> Items {
        let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        let path = self.value_path(addr);
        let whole = Json::from_value(&Value::Array(items));
        if whole.as_str().len() <= INLINE_BYTES {
            return Items { count, map, inline: Some(whole), path: String::new() };
        }
        let items = Items { count, map, inline: None, path };
        if let Value::Array(all) = whole.to_value() {
            for (nth, chunk) in all.chunks(Items::CHUNK).enumerate() {
                let key = items.chunk((nth * Items::CHUNK) as u32);
                self.out.values.push((key, Json::from_value(&Value::Array(chunk.to_vec()))));
            }
        }
        items
    }

    /// Starts items while there is room, and ends the step when none is left.
    pub(super) fn fill(&mut self, addr: &Addr) -> Result<(), NeedValues> {
        self.forget_items(addr);
        if self.state(addr) != StepState::Running {
            self.poke_around(addr);
            return Ok(());
        }
        if self.drained(addr)? {
            return Ok(());
        }
        let node = self.node(addr);
        let most = node.spec.foreach.as_ref().map_or(1, |each| each.max_parallel.max(1)) as usize;
        loop {
            let may = self.may_start(&addr.inner(0, 0));
            let Some(each) = self.record_mut(addr).and_then(StepRecord::each_mut) else { return Ok(()) };
            if !may || each.live.len() >= most || each.is_exhausted() {
                break;
            }
            if self.budget == 0 {
                self.out.timers.push((MORE_TIMER.to_owned(), std::time::Duration::ZERO));
                return Ok(());
            }
            self.budget -= 1;
            let Some(each) = self.record_mut(addr).and_then(StepRecord::each_mut) else { return Ok(()) };
            let again = !each.again.is_empty();
            let Some(index) = each.take_next() else { break };
            let at = each.live.partition_point(|(other, _)| *other < index);
            each.live.insert(at, (index, StepRecord::new(String::new())));
            if again {
                let step = Some(self.path(&addr.inner(index, 0)));
                self.tell(Event { step, ..Event::new(EventKind::StepReset) });
            }
            self.begin(&addr.inner(index, 0))?;
        }
        self.check_each(addr)
    }

    /// Items that are over leave the header, but for those that may be tried again from where they
    /// failed.
    fn forget_items(&mut self, addr: &Addr) {
        let keeps = self.node(addr).spec.foreach.as_ref().is_some_and(fails_fast);
        let Some(record) = self.record_mut(addr) else { return };
        let ended = record.state == StepState::Completed;
        let Some(each) = record.each_mut() else { return };
        each.live.retain(|(_, step)| {
            let kept = keeps && matches!(step.state, StepState::Failed | StepState::Cancelled);
            kept || !step.state.has_ended() || step.is_alive()
        });
        if ended && !record.is_alive() {
            record.body = None;
        }
    }

    /// One item has ended: what it gave is kept, and it is counted.
    pub(super) fn item_ended(&mut self, addr: &Addr, index: u32) -> Result<(), NeedValues> {
        let item = addr.inner(index, 0);
        let Some(record) = self.record(&item) else { return Ok(()) };
        let bad = is_bad(self.node(&item), record);
        let (state, output) = (record.state, record.output.clone());
        let output = match output.filter(|_| state == StepState::Completed) {
            Some(output) => match self.flat(&output)? {
                Ok(output) => Some(output).filter(|output| !output.is_null()),
                Err(error) => return self.item_failed_late(addr, index, error),
            },
            None => None,
        };
        let path = self.value_path(addr);
        let Some(owner) = self.record_mut(addr) else { return Ok(()) };
        let Some(each) = owner.each_mut() else { return Ok(()) };
        let has_output = output.is_some();
        match state {
            StepState::Completed => {
                each.completed += 1;
                if has_output {
                    each.with_output.insert(index);
                }
            }
            _ if bad => each.failed.insert(index),
            _ => {}
        }
        if let Some(output) = output {
            self.out.values.push((item_output(&path, index), output));
        }
        Ok(())
    }

    /// What an item gave cannot be kept in one piece.
    fn item_failed_late(&mut self, addr: &Addr, index: u32, error: JobError) -> Result<(), NeedValues> {
        if let Some(record) = self.record_mut(&addr.inner(index, 0)) {
            record.output = None;
        }
        if self.state(addr) == StepState::Running {
            return self.fail_inside(addr, Stop::Failed, Some(error), false);
        }
        self.item_ended(addr, index)
    }

    /// Whether enough items have gone well, or too many have not.
    fn check_each(&mut self, addr: &Addr) -> Result<(), NeedValues> {
        let node = self.node(addr);
        let (Some(spec), Some(each)) = (&node.spec.foreach, self.record(addr).and_then(StepRecord::each)) else {
            return Ok(());
        };
        let count = each.items.count as usize;
        let (completed, failed) = (each.completed as usize, each.failed.len());
        let need = super::branches::needed(spec.wait, count);
        let over = each.is_exhausted() && !each.live.iter().any(|(_, step)| step.is_alive());
        let quorum = spec.wait != Quorum::All;
        let lost = match spec.wait {
            Quorum::All => spec.on_error == OnError::FailFast && failed > 0,
            _ => failed > count - need,
        };
        if lost || (over && quorum && completed < need) {
            let error = self.item_error(addr);
            return self.fail_inside(addr, Stop::Failed, Some(error), false);
        }
        if over || (quorum && completed >= need) {
            let output = self.list_output(addr);
            self.end(addr, End::Completed(output), self.now)?;
            if quorum && spec.rest == Rest::Cancel {
                self.halt_items(addr)?;
            }
        }
        Ok(())
    }

    /// The items under way are not needed any more.
    fn halt_items(&mut self, addr: &Addr) -> Result<(), NeedValues> {
        self.halt_inside(addr, true, Stop::Dropped)?;
        self.forget_items(addr);
        Ok(())
    }

    fn item_error(&self, addr: &Addr) -> JobError {
        let each = self.record(addr).and_then(StepRecord::each);
        let kept = each.and_then(|each| {
            let (index, step) = each.live.iter().find(|(index, _)| each.failed.contains(*index))?;
            Some((*index, step.error.clone()?))
        });
        match kept {
            Some((index, error)) => JobError::new(error.class, format!("item {index} failed: {}", error.message)),
            None => {
                let failed = each.map_or(0, |each| each.failed.len());
                JobError::new("foreach", format!("{failed} items failed: too few are left"))
            }
        }
    }

    /// What a list says that goes on in spite of failures: how many there were, and the first of them.
    pub(super) fn failed_items(&self, addr: &Addr) -> Option<JobError> {
        let each = self.record(addr)?.each()?;
        let (failed, path) = (each.failed.len(), self.path(addr));
        let named: Vec<String> = each.failed.iter().take(NAMED_ITEMS).map(|index| format!("{path}[{index}]")).collect();
        let more = match failed - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let told =
            || format!("{failed} of {} failed: {}{more}", count(each.items.count.into(), "item"), named.join(", "));
        (failed > 0).then(|| JobError::new("foreach", told()))
    }

    fn list_output(&self, addr: &Addr) -> Option<Slot> {
        let each = self.record(addr)?.each()?;
        let (items, with_output) = (each.items.clone(), each.with_output.clone());
        Some(Slot::List { items, path: self.value_path(addr), with_output })
    }

    /// An item of a list, or of a map as `{key, value}`.
    pub(super) fn item(&self, addr: &Addr, index: u32, missing: &mut Vec<String>) -> Value {
        let Some(each) = self.record(addr).and_then(StepRecord::each) else { return Value::Null };
        let (chunk, at) = match &each.items.inline {
            Some(inline) => (Rc::new(inline.to_value()), index as usize),
            None => {
                let key = each.items.chunk(index);
                let kept = self.chunks.borrow().get(&key).cloned();
                let chunk = kept.or_else(|| {
                    let chunk = Rc::new(self.stored(&key)?.to_value());
                    self.chunks.borrow_mut().insert(key.clone(), chunk.clone());
                    Some(chunk)
                });
                let Some(chunk) = chunk else {
                    missing.push(key);
                    return Value::Null;
                };
                (chunk, index as usize % Items::CHUNK)
            }
        };
        let item = chunk.get(at).cloned().unwrap_or_default();
        if each.items.map { json!({"key": item[0], "value": item[1]}) } else { item }
    }
}

/// Whether the first failure ends the list: the failed item is kept, to be tried again from there.
fn fails_fast(each: &Foreach) -> bool {
    each.wait == Quorum::All && each.on_error == OnError::FailFast
}
