//! The rows of a run's page: each step of the outline where it stands in the graph, what is inside of
//! it below, folded or not. Of a list only items that something is known of are rows; the rest is a
//! count.

use std::collections::{BTreeMap, BTreeSet};

use super::lanes::{Beside, NODE, lanes, order};
use super::moments::Known;
use super::{Items, Outline, RunDetail, StepNow};
use crate::domain::StepState;

/// A list with more items is folded until somebody opens it.
const OPEN: usize = 8;
/// More items of one list are not rows.
const MOST: usize = 500;

/// What stands before the name of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Open,
    Folded,
    /// Nothing is inside.
    Leaf,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TreeRow {
    /// The path of the step, item, round or branch.
    pub path: String,
    /// With [`NODE`] where the sign of the state goes.
    pub gutter: String,
    pub mark: Mark,
    pub label: String,
    /// What the step does; empty for what is no step.
    pub does: String,
    /// None as long as nothing is known of it.
    pub step: Option<StepNow>,
    pub items: Option<Items>,
    /// The signal that it waits for.
    pub signal: Option<String>,
    /// It stands in `finally`.
    pub last: bool,
}

/// The rows at a moment. `folds` are paths that are the other way round than they would be.
pub fn rows(detail: &RunDetail, known: &Known, folds: &BTreeSet<String>) -> Vec<TreeRow> {
    let mut making = Making { known, folds, items: items_of(known), out: Vec::new() };
    making.scope("", &detail.outline, "");
    making.out
}

/// What is known inside of each list and loop: by its path, the keys of items and rounds.
type Inside = BTreeMap<(String, char), BTreeSet<u32>>;

fn items_of(known: &Known) -> Inside {
    let mut inside = Inside::new();
    for path in known.steps.keys() {
        for (at, sign) in path.match_indices(['[', '#']) {
            let digits: String = path[at + 1..].chars().take_while(char::is_ascii_digit).collect();
            if let Ok(key) = digits.parse() {
                let sign = if sign == "[" { '[' } else { '#' };
                inside.entry((path[..at].to_owned(), sign)).or_default().insert(key);
            }
        }
    }
    inside
}

struct Making<'a> {
    known: &'a Known,
    folds: &'a BTreeSet<String>,
    items: Inside,
    out: Vec<TreeRow>,
}

impl Making<'_> {
    /// The steps of one list, in an order in which lines lead downwards.
    fn scope(&mut self, prefix: &str, steps: &[Outline], lead: &str) {
        let place = |id: &String| steps.iter().position(|step| step.id == *id);
        let needs: Vec<Vec<usize>> = steps.iter().map(|step| step.needs.iter().filter_map(place).collect()).collect();
        let order = order(&needs);
        let rank = |at: usize| order.iter().position(|one| *one == at).unwrap_or(0);
        let needs: Vec<Vec<usize>> =
            order.iter().map(|at| needs[*at].iter().map(|need| rank(*need)).collect()).collect();
        for (at, beside) in order.iter().zip(lanes(&needs)) {
            self.step(prefix, &steps[*at], lead, &beside);
        }
    }

    fn step(&mut self, prefix: &str, outline: &Outline, lead: &str, beside: &Beside) {
        let path = format!("{prefix}{}", outline.id);
        let step = self.known.steps.get(&path).cloned();
        let items = outline.each.then(|| self.count(&path, step.as_ref())).flatten();
        let (has_inside, opens) = self.inside(&path, outline);
        let mark = self.mark(&path, has_inside, opens);
        self.out.push(TreeRow {
            gutter: format!("{lead}{}", beside.row),
            mark,
            label: outline.id.clone(),
            does: outline.does.clone(),
            step,
            items,
            signal: outline.signal.clone(),
            last: outline.last,
            path: path.clone(),
        });
        if mark == Mark::Open {
            let below = if beside.below.is_empty() { "  " } else { &beside.below };
            let lead = format!("{lead}{below}");
            self.whole(&path, outline, &lead);
        }
    }

    /// Whether there is anything inside of a step, and whether it is shown if nobody says otherwise.
    fn inside(&self, path: &str, outline: &Outline) -> (bool, bool) {
        if outline.each || outline.repeats {
            let sign = if outline.each { '[' } else { '#' };
            let known = self.items.get(&(path.to_owned(), sign)).map_or(0, BTreeSet::len);
            let has_more = known > 0 && (outline.each || known > 1 || !outline.inside.is_empty());
            return (has_more, known <= OPEN);
        }
        (!outline.inside.is_empty(), true)
    }

    fn mark(&self, path: &str, has_inside: bool, opens: bool) -> Mark {
        match (has_inside, opens != self.folds.contains(path)) {
            (false, _) => Mark::Leaf,
            (true, true) => Mark::Open,
            (true, false) => Mark::Folded,
        }
    }

    /// What is inside of a whole step: its items, its rounds, or the steps inside.
    fn whole(&mut self, path: &str, outline: &Outline, lead: &str) {
        if outline.each {
            self.entries(path, outline, '[', lead);
        } else {
            self.rounds(path, outline, lead);
        }
    }

    fn rounds(&mut self, path: &str, outline: &Outline, lead: &str) {
        if outline.repeats { self.entries(path, outline, '#', lead) } else { self.body(path, outline, lead) }
    }

    /// The items of a list or the rounds of a loop that something is known of.
    fn entries(&mut self, path: &str, outline: &Outline, sign: char, lead: &str) {
        let keys = self.items.get(&(path.to_owned(), sign)).cloned().unwrap_or_default();
        let all = keys.len();
        for key in self.picked(path, sign, keys) {
            let name = if sign == '[' { format!("[{key}]") } else { format!("#{key}") };
            let here = format!("{path}{name}");
            let has_inside = !outline.inside.is_empty() || (sign == '[' && outline.repeats);
            let step = self.known.steps.get(&here).cloned();
            let is_over = step.as_ref().is_some_and(|step| step.state == StepState::Completed);
            let mark = self.mark(&here, has_inside, !is_over);
            self.out.push(TreeRow {
                path: here.clone(),
                gutter: format!("{lead}{NODE}"),
                mark,
                label: name,
                does: String::new(),
                step,
                items: None,
                signal: outline.signal.clone(),
                last: false,
            });
            if mark == Mark::Open {
                let lead = format!("{lead}  ");
                if sign == '[' { self.rounds(&here, outline, &lead) } else { self.body(&here, outline, &lead) }
            }
        }
        if all > MOST {
            let label = format!("{} more", crate::domain::text::thousands((all - MOST) as u64));
            self.plain_row(&format!("{path}{sign}"), lead, label);
        }
    }

    /// Of too many items those that are of interest, in their order.
    fn picked(&self, path: &str, sign: char, keys: BTreeSet<u32>) -> Vec<u32> {
        if keys.len() <= MOST {
            return keys.into_iter().collect();
        }
        let is_over = |key: &u32| {
            let close = if sign == '[' { "]" } else { "" };
            let step = self.known.steps.get(&format!("{path}{sign}{key}{close}"));
            step.is_some_and(|step| matches!(step.state, StepState::Completed | StepState::Skipped))
        };
        let (over, open): (Vec<u32>, Vec<u32>) = keys.into_iter().partition(is_over);
        let mut picked: Vec<u32> = open.into_iter().chain(over).take(MOST).collect();
        picked.sort_unstable();
        picked
    }

    /// The steps inside of one execution of a step.
    fn body(&mut self, path: &str, outline: &Outline, lead: &str) {
        // A second attempt at a group has steps of its own.
        let attempt = self.known.steps.get(path).map_or(0, |step| step.attempt);
        let again = format!("{path}~{attempt}");
        let is_again = attempt > 1 && self.begins(&format!("{again}/"));
        let path = if is_again { again.as_str() } else { path };
        for (branch, steps) in &outline.inside {
            let Some(branch) = branch else {
                self.scope(&format!("{path}/"), steps, lead);
                continue;
            };
            let here = format!("{path}/{branch}");
            let is_taken = self.begins(&format!("{here}/"));
            let mark = self.mark(&here, true, is_taken);
            let gutter = format!("{lead}{NODE}");
            let label = branch.clone();
            self.out.push(TreeRow { mark, gutter, ..TreeRow::plain(&here, label) });
            if mark == Mark::Open {
                self.scope(&format!("{here}/"), steps, &format!("{lead}  "));
            }
        }
    }

    /// Whether anything is known whose path begins so.
    fn begins(&self, prefix: &str) -> bool {
        let next = self.known.steps.range(prefix.to_owned()..).next();
        next.is_some_and(|(path, _)| path.starts_with(prefix))
    }

    fn plain_row(&mut self, path: &str, lead: &str, label: String) {
        self.out.push(TreeRow { gutter: format!("{lead}{NODE}"), ..TreeRow::plain(path, label) });
    }

    /// The items of a list in numbers: as its record tells, or else counted.
    fn count(&self, path: &str, step: Option<&StepNow>) -> Option<Items> {
        if let Some(items) = step.and_then(|step| step.items) {
            return Some(items);
        }
        let keys = self.items.get(&(path.to_owned(), '['))?;
        let mut items = Items::default();
        for key in keys {
            match self.known.steps.get(&format!("{path}[{key}]")).map(|step| step.state) {
                Some(StepState::Completed | StepState::Compensated) => items.completed += 1,
                Some(StepState::Failed | StepState::Cancelled) => items.failed += 1,
                Some(StepState::Running | StepState::Retrying | StepState::Waiting | StepState::Compensating) => {
                    items.active += 1;
                }
                _ => {}
            }
        }
        Some(items)
    }
}

impl TreeRow {
    fn plain(path: &str, label: String) -> TreeRow {
        TreeRow {
            path: path.to_owned(),
            gutter: String::new(),
            mark: Mark::Leaf,
            label,
            does: String::new(),
            step: None,
            items: None,
            signal: None,
            last: false,
        }
    }

    /// The job whose log is the row's.
    pub fn job(&self) -> Option<&str> {
        self.step.as_ref()?.job.as_deref()
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::{Moment, at};
    use super::*;
    use crate::domain::event::EventKind;
    use crate::domain::{Ms, RunState};
    use crate::tui::rows::RunRow;

    pub fn moment(ms: i64, kind: EventKind, step: Option<&str>) -> Moment {
        Moment { at: Ms(ms), kind, step: step.map(str::to_owned), attempt: None, job: None, data: None }
    }

    fn outline(id: &str, needs: &[&str]) -> Outline {
        let needs = needs.iter().map(|id| (*id).to_owned()).collect();
        Outline { id: id.to_owned(), does: format!("job {id}"), needs, ..Outline::default() }
    }

    /// `a`, then a list `b`, then a switch `c` with a branch of two steps; `z` at the end.
    pub fn detail() -> RunDetail {
        use EventKind as K;
        let branch = vec![outline("d", &[]), outline("e", &["d"])];
        let inside = vec![(Some("big".to_owned()), branch), (Some("else".to_owned()), vec![outline("f", &[])])];
        let mut retrying = StepNow::new("b[1]", StepState::Retrying);
        (retrying.attempt, retrying.error) = (2, Some("exit:1: no".to_owned()));
        let items = Items { count: Some(12), completed: 1, failed: 0, active: 1 };
        let steps = vec![
            StepNow { items: Some(items), ..StepNow::new("b", StepState::Running) },
            retrying,
            StepNow::new("a", StepState::Completed),
        ];
        RunDetail {
            head: RunRow {
                id: "019c420a-7740-7000-8000-000000000042".to_owned(),
                workflow: "order".to_owned(),
                state: RunState::Running,
                error: None,
                parent: None,
                key: None,
                created_at: Ms(1_000),
                started_at: Some(Ms(1_001)),
                finished_at: None,
                steps: 4,
                ended: 1,
                failed: 0,
                active: vec!["b".to_owned()],
                approvals: 0,
                owed: Vec::new(),
            },
            version: "ab".to_owned(),
            input: "{}".to_owned(),
            output: None,
            outline: vec![
                outline("a", &[]),
                Outline { each: true, ..outline("b", &["a"]) },
                Outline { inside, ..outline("c", &["b"]) },
                Outline { last: true, ..outline("z", &[]) },
            ],
            steps,
            moments: vec![
                moment(1_001, K::RunStarted, None),
                moment(1_002, K::StepStarted, Some("a")),
                moment(1_003, K::StepCompleted, Some("a")),
                moment(1_004, K::StepStarted, Some("b")),
                moment(1_005, K::StepStarted, Some("b[0]")),
                moment(1_006, K::StepStarted, Some("b[1]")),
                moment(1_007, K::StepCompleted, Some("b[0]")),
            ],
            is_cut: false,
            log: None,
        }
    }

    fn drawn(moment: Option<usize>, folds: &[&str]) -> String {
        let detail = detail();
        let folds = folds.iter().map(|path| (*path).to_owned()).collect();
        let mut text = String::new();
        for row in rows(&detail, &at(&detail, moment), &folds) {
            let mark = match row.mark {
                Mark::Open => "v ",
                Mark::Folded => "> ",
                Mark::Leaf => "",
            };
            let state = row.step.as_ref().map_or("-", |step| step.state.as_str());
            let items = row.items.map_or(String::new(), |items| format!(" ({})", items.text()));
            text.push_str(&format!("{} {mark}{} {state}{items}\n", row.gutter.replace(NODE, "●"), row.label));
        }
        text
    }

    #[test]
    fn each_step_is_a_row_with_what_is_inside_below() {
        let whole = "\
● a completed
● v b running (1 of 12 done, 1 under way)
│ ● [0] completed
│ ● [1] retrying
● v c -
  ● > big -
  ● > else -
● z -
";
        assert_eq!(drawn(None, &[]), whole);
    }

    #[test]
    fn rows_fold_and_open() {
        let folded = drawn(None, &["b", "c/big"]);
        assert!(folded.contains("● > b running (1 of 12 done, 1 under way)\n● v c -\n"), "{folded}");
        assert!(folded.contains("  ● v big -\n    ● d -\n    ● e -\n"), "{folded}");
    }

    #[test]
    fn a_moment_of_the_past_shows_no_more_than_had_happened() {
        assert!(drawn(Some(2), &[]).starts_with("● a running\n● b -\n● v c -\n"));
        let later = drawn(Some(7), &[]);
        assert!(later.contains("● v b running (1 done, 1 under way)\n│ ● [0] completed\n│ ● [1] running\n"), "{later}");
    }

    #[test]
    fn a_long_list_is_folded_and_bounded() {
        let mut detail = detail();
        for n in 0..2_000 {
            let state = if n % 1_000 == 7 { StepState::Failed } else { StepState::Completed };
            detail.steps.push(StepNow::new(&format!("b[{n}]"), state));
        }
        let known = at(&detail, None);
        let folded = rows(&detail, &known, &BTreeSet::new());
        assert_eq!(folded[1].mark, Mark::Folded);
        let open = rows(&detail, &known, &["b".to_owned()].into());
        assert_eq!(open.iter().filter(|row| row.path.starts_with("b[")).count(), MOST + 1);
        assert!(open.iter().any(|row| row.path == "b[1007]"), "what failed is among those that are shown");
        assert!(open.iter().any(|row| row.label == "1,500 more"));
    }
}
