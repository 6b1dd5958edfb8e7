//! What the handlers saw: one line when an execution begins, one when it ends.

use std::collections::BTreeMap;
use std::path::Path;

#[derive(Clone, Debug)]
pub struct Execution {
    pub epoch: u64,
    pub attempt: u32,
    pub ended: bool,
}

#[derive(Debug, Default)]
pub struct Witness {
    /// By job.
    pub executions: BTreeMap<String, Vec<Execution>>,
}

impl Witness {
    pub fn read(file: &Path) -> Witness {
        let mut witness = Witness::default();
        let text = std::fs::read_to_string(file).expect("the witness file");
        for line in text.lines() {
            // Who is killed within a write leaves the beginning of a line, and the next one writes behind it.
            let whole = line.rfind("start ").max(line.rfind("end ")).map_or(line, |from| &line[from..]);
            let words: Vec<&str> = whole.split(' ').collect();
            let [what, job, epoch, attempt] = words.as_slice() else { panic!("a broken line: {line}") };
            let epoch = epoch.parse().expect("an epoch");
            let executions = witness.executions.entry((*job).to_owned()).or_default();
            match *what {
                "start" => {
                    let attempt = attempt.parse().expect("an attempt");
                    executions.push(Execution { epoch, attempt, ended: false });
                }
                _ => {
                    let begun = executions.iter_mut().find(|execution| execution.epoch == epoch);
                    begun.expect("an execution begins before it ends").ended = true;
                }
            }
        }
        witness
    }

    pub fn of(&self, job: &str) -> &[Execution] {
        self.executions.get(job).map_or(&[], Vec::as_slice)
    }

    pub fn total(&self) -> usize {
        self.executions.values().map(Vec::len).sum()
    }
}
