//! The graph of a workflow as text: a tree for terminals, Mermaid and Graphviz's DOT. Draws what the
//! manifest says; knows nothing of runs. The caller makes it harmless for a terminal.

use std::fmt::Write;

use super::definition::Definition;
use super::expr::Template;
use super::spec::{OnTimeout, ProgramSpec, Quorum, StepSpec, SwitchMode, Verb};
use crate::domain::text::clip;
use crate::domain::time::format_duration;

/// Longest text of a label, in bytes.
const LABEL: usize = 60;

/// Steps that stand together.
struct Group<'a> {
    /// What leads to them: a branch and its condition; none for the list itself.
    label: Option<String>,
    steps: &'a [StepSpec],
}

fn groups(verb: &Verb) -> Vec<Group<'_>> {
    let group = |label: String, steps| Group { label: Some(label), steps };
    match verb {
        Verb::Steps { steps, .. } => vec![Group { label: None, steps }],
        Verb::Switch { cases, otherwise, .. } => {
            let case = |case: &'_ super::spec::Case| format!("{}: {}", case.name, clip(case.when.source(), LABEL));
            let mut all: Vec<Group<'_>> = cases.iter().map(|one| group(case(one), one.steps.as_slice())).collect();
            if !otherwise.is_empty() {
                all.push(group("else".to_owned(), otherwise));
            }
            all
        }
        Verb::Parallel { branches, .. } => {
            branches.iter().map(|branch| group(branch.name.clone(), branch.steps.as_slice())).collect()
        }
        Verb::Wait(super::spec::WaitSpec { on_timeout: OnTimeout::Steps(steps), .. })
        | Verb::Approval(super::spec::ApprovalSpec { on_timeout: OnTimeout::Steps(steps), .. }) => {
            vec![group("when the time is over".to_owned(), steps)]
        }
        _ => Vec::new(),
    }
}

fn text_of(template: &Template) -> String {
    match template.source() {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}

/// What a step does, in a few words.
pub(super) fn does(step: &StepSpec) -> String {
    let text = match &step.verb {
        Verb::Run(command) => match &command.program {
            ProgramSpec::Shell(line) => format!("run {}", line.lines().next().unwrap_or_default().trim()),
            ProgramSpec::Argv(argv) => {
                format!("run {}", argv.iter().map(text_of).collect::<Vec<_>>().join(" "))
            }
        },
        Verb::Http(http) => format!("http {} {}", http.method, text_of(&http.url)),
        Verb::Job { kind, .. } => format!("job {kind}"),
        Verb::Call { workflow, .. } => format!("call {workflow}"),
        Verb::Steps { .. } => "group".to_owned(),
        Verb::Switch { mode: SwitchMode::First, .. } => "switch".to_owned(),
        Verb::Switch { mode: SwitchMode::All, .. } => "switch, every case that holds".to_owned(),
        Verb::Parallel { wait, .. } => format!("parallel{}", quorum(*wait)),
        Verb::Wait(wait) => format!("wait for {}{}", wait.signal, limit(wait.timeout)),
        Verb::Approval(approval) => format!("approval{}", limit(approval.timeout)),
        Verb::Sleep(length) => format!("sleep {}", text_of(length)),
        Verb::Set(values) => format!("set {}", values.iter().map(|(name, _)| &**name).collect::<Vec<_>>().join(", ")),
        Verb::End(end) => match end.state {
            super::spec::EndState::Completed => "end completed".to_owned(),
            super::spec::EndState::Failed => "end failed".to_owned(),
        },
    };
    clip(&text, LABEL).into_owned()
}

fn quorum(quorum: Quorum) -> String {
    match quorum {
        Quorum::All => String::new(),
        Quorum::Any => ", any".to_owned(),
        Quorum::Count(count) => format!(", {count} of them"),
    }
}

fn limit(timeout: Option<std::time::Duration>) -> String {
    timeout.map_or_else(String::new, |timeout| format!(", at most {}", format_duration(timeout)))
}

/// What holds for a step beside its verb.
fn marks(step: &StepSpec) -> Vec<String> {
    let mut marks = Vec::new();
    marks.extend(step.condition.as_ref().map(|condition| format!("if {}", clip(condition.source(), LABEL))));
    marks.extend(step.foreach.as_ref().map(|each| {
        let items = match &each.items {
            Template::Whole(expr) => expr.source().to_owned(),
            other => text_of(other),
        };
        format!("for each of {}", clip(&items, LABEL))
    }));
    marks.extend(step.repeat.as_ref().map(|repeat| format!("while {}", clip(repeat.condition.source(), LABEL))));
    marks.extend(step.compensate.is_some().then(|| "undone by a compensation".to_owned()));
    marks
}

/// A tree with a row a step, in the order of the manifest; what a step waits for stands behind it.
pub fn terminal(def: &Definition, unicode: bool) -> String {
    let mut text = format!("{}\n", def.name());
    let spec = def.spec();
    let finally = (!spec.finally.is_empty()).then(|| Group { label: Some("finally".into()), steps: &spec.finally });
    rows(&mut text, "", &spec.steps, finally.as_slice(), unicode);
    text
}

fn rows(text: &mut String, lead: &str, steps: &[StepSpec], others: &[Group<'_>], unicode: bool) {
    let (tee, corner, bar, arrow) =
        if unicode { ("├─", "└─", "│ ", "←") } else { ("|-", "`-", "| ", "<-") };
    let widest = steps.iter().map(|step| step.id.chars().count()).max().unwrap_or(0).min(32);
    let all = steps.len() + others.len();
    for (nth, step) in steps.iter().enumerate() {
        let last = nth + 1 == all;
        let after = match step.needs.as_slice() {
            [] => String::new(),
            needs => format!("  {arrow} {}{}", needs.join(", "), quorum(step.join)),
        };
        let marks: String = marks(step).iter().map(|mark| format!("  [{mark}]")).collect();
        let branch = if last { corner } else { tee };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{lead}{branch} {:widest$}  {}{marks}{after}", step.id, does(step));
        let inside = format!("{lead}{} ", if last { "  " } else { bar });
        match groups(&step.verb).as_slice() {
            [Group { label: None, steps }] => rows(text, &inside, steps, &[], unicode),
            labelled => rows(text, &inside, &[], labelled, unicode),
        }
    }
    for (nth, group) in others.iter().enumerate() {
        let last = steps.len() + nth + 1 == all;
        let branch = if last { corner } else { tee };
        let _ = writeln!(text, "{lead}{branch} {}", group.label.as_deref().unwrap_or_default());
        rows(text, &format!("{lead}{} ", if last { "  " } else { bar }), group.steps, &[], unicode);
    }
}

/// A flowchart of Mermaid.
pub fn mermaid(def: &Definition) -> String {
    let mut drawing = Drawing { text: "flowchart TD\n".to_owned(), count: 0, edges: Vec::new() };
    drawing.mermaid_list(&def.spec().steps, 1);
    if !def.spec().finally.is_empty() {
        let _ = writeln!(drawing.text, "  subgraph finally [\"finally\"]");
        drawing.mermaid_list(&def.spec().finally, 2);
        let _ = writeln!(drawing.text, "  end");
    }
    for edge in &drawing.edges {
        let label = edge.label.as_ref().map_or_else(String::new, |label| format!("|\"{}\"|", mermaid_text(label)));
        let _ = writeln!(drawing.text, "  {} -->{label} {}", edge.from, edge.to);
    }
    drawing.text
}

/// A digraph of Graphviz.
pub fn dot(def: &Definition) -> String {
    let mut drawing = Drawing { text: String::new(), count: 0, edges: Vec::new() };
    let name = dot_text(def.name().as_str());
    drawing.text = format!("digraph \"{name}\" {{\n  compound=true;\n  node [shape=box, style=rounded];\n");
    drawing.dot_list(&def.spec().steps, 1);
    if !def.spec().finally.is_empty() {
        let _ = writeln!(drawing.text, "  subgraph cluster_finally {{\n    label=\"finally\";");
        drawing.dot_list(&def.spec().finally, 2);
        let _ = writeln!(drawing.text, "  }}");
    }
    for edge in &drawing.edges {
        let label = edge.label.as_ref().map_or_else(String::new, |label| format!(" [label=\"{}\"]", dot_text(label)));
        let _ = writeln!(drawing.text, "  {} -> {}{label};", edge.from, edge.to);
    }
    drawing.text.push_str("}\n");
    drawing.text
}

struct Drawing {
    text: String,
    count: usize,
    edges: Vec<Edge>,
}

struct Edge {
    from: String,
    to: String,
    label: Option<String>,
}

impl Drawing {
    /// The node of each step of a list, numbered, and the edges between them. Gives the nodes.
    fn nodes(&mut self, steps: &[StepSpec]) -> Vec<String> {
        let names: Vec<String> = (0..steps.len()).map(|nth| format!("n{}", self.count + nth)).collect();
        self.count += steps.len();
        for (step, to) in steps.iter().zip(&names) {
            for need in &step.needs {
                let from = steps.iter().position(|other| other.id == *need).and_then(|at| names.get(at));
                self.edges.extend(from.map(|from| Edge { from: from.clone(), to: to.clone(), label: None }));
            }
        }
        names
    }

    /// Edges from a step to the steps inside of it that wait for nothing.
    fn lead_inside(&mut self, from: &str, group: &Group<'_>, names: &[String]) {
        for (step, to) in group.steps.iter().zip(names) {
            if step.needs.is_empty() {
                self.edges.push(Edge { from: from.to_owned(), to: to.clone(), label: group.label.clone() });
            }
        }
    }

    fn mermaid_list(&mut self, steps: &[StepSpec], depth: usize) -> Vec<String> {
        let (names, lead) = (self.nodes(steps), "  ".repeat(depth));
        for (step, name) in steps.iter().zip(&names) {
            let parts: Vec<String> = lines(step).iter().map(|line| mermaid_text(line)).collect();
            let _ = writeln!(self.text, "{lead}{name}[\"{}\"]", parts.join("<br/>"));
            for (nth, group) in groups(&step.verb).iter().enumerate() {
                let label = group.label.clone().unwrap_or_else(|| step.id.clone());
                let _ = writeln!(self.text, "{lead}subgraph {name}g{nth} [\"{}\"]", mermaid_text(&label));
                let inner = self.mermaid_list(group.steps, depth + 1);
                let _ = writeln!(self.text, "{lead}end");
                self.lead_inside(name, group, &inner);
            }
        }
        names
    }

    fn dot_list(&mut self, steps: &[StepSpec], depth: usize) -> Vec<String> {
        let (names, lead) = (self.nodes(steps), "  ".repeat(depth));
        for (step, name) in steps.iter().zip(&names) {
            let parts: Vec<String> = lines(step).iter().map(|line| dot_text(line)).collect();
            let _ = writeln!(self.text, "{lead}{name} [label=\"{}\"];", parts.join("\\n"));
            for (nth, group) in groups(&step.verb).iter().enumerate() {
                let label = group.label.clone().unwrap_or_else(|| step.id.clone());
                let label = dot_text(&label);
                let _ = writeln!(self.text, "{lead}subgraph cluster_{name}g{nth} {{\n{lead}  label=\"{label}\";");
                let inner = self.dot_list(group.steps, depth + 1);
                let _ = writeln!(self.text, "{lead}}}");
                self.lead_inside(name, group, &inner);
            }
        }
        names
    }
}

fn lines(step: &StepSpec) -> Vec<String> {
    [step.id.clone(), does(step)].into_iter().chain(marks(step)).collect()
}

/// Text within the quotes of a Mermaid label, where `"` ends it, `#` begins an entity and tags are tags.
fn mermaid_text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => safe.push_str("#quot;"),
            '#' => safe.push_str("#35;"),
            '<' => safe.push_str("#lt;"),
            '>' => safe.push_str("#gt;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// Text within the quotes of a DOT string.
fn dot_text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => safe.extend(['\\', c]),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::{Manifest, parse};

    const TEXT: &str = r#"
name: draw
input: {n: {type: number, required: true}}
steps:
  - {id: a, run: [echo, "x\"<b>#"], compensate: {run: [y]}}
  - {id: b, job: noop, foreach: input.n}
  - id: c
    needs: [a, b]
    join: any
    switch:
      cases: [{name: big, when: "input.n > 1", steps: [{id: d, call: other}, {id: e, needs: [d], sleep: 5m}]}]
      else: [{id: f, end: failed}]
finally: [{id: g, job: log}]
"#;

    fn definition() -> Definition {
        match parse("t.yaml", TEXT).unwrap_or_else(|problems| panic!("{}", problems.render())).remove(0) {
            Manifest::Workflow(definition) => definition,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_tree_shows_what_each_step_does_and_waits_for() {
        assert_eq!(
            terminal(&definition(), true),
            "draw\n\
             ├─ a  run echo x\"<b>#  [undone by a compensation]\n\
             ├─ b  job noop  [for each of input.n]\n\
             ├─ c  switch  ← a, b, any\n\
             │  ├─ big: input.n > 1\n\
             │  │  ├─ d  call other\n\
             │  │  └─ e  sleep 5m  ← d\n\
             │  └─ else\n\
             │     └─ f  end failed\n\
             └─ finally\n   └─ g  job log\n"
        );
        assert!(terminal(&definition(), false).is_ascii());
    }

    #[test]
    fn mermaid_and_dot_have_every_node_and_edge_and_no_loose_quote() {
        let mermaid = mermaid(&definition());
        assert!(
            mermaid.starts_with("flowchart TD\n  n0[\"a<br/>run echo x#quot;#lt;b#gt;#35;<br/>undone"),
            "{mermaid}"
        );
        for part in ["n0 --> n2", "n1 --> n2", "n2 -->|\"big: input.n #gt; 1\"| n3", "n3 --> n4", "n2 -->|\"else\"| n5"]
        {
            assert!(mermaid.contains(part), "{part}: {mermaid}");
        }
        assert_eq!(mermaid.matches("subgraph").count(), mermaid.matches("end\n").count(), "{mermaid}");
        let dot = dot(&definition());
        assert!(dot.contains("n0 [label=\"a\\nrun echo x\\\"<b>#\\nundone"), "{dot}");
        assert!(dot.contains("n2 -> n5 [label=\"else\"];") && dot.contains("n3 -> n4;"), "{dot}");
        assert_eq!(dot.matches('{').count(), dot.matches('}').count(), "{dot}");
    }
}
