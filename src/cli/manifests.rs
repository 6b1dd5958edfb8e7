//! Manifests from files, folders and standard input. Reads and checks; changes nothing.

use std::fs;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::codes::Code;
use super::error::{CommandError, Result, fail, mistake, reason};
use super::ui::Ui;
use crate::api::Client;
use crate::domain::limits::MANIFEST_BYTES;
use crate::domain::secret;
use crate::domain::text::count;
use crate::workflow::{self, Manifest, Problem, Reference};

/// What files say, and what they refer to.
#[derive(Debug, Default)]
pub struct Found {
    pub manifests: Vec<Manifest>,
    references: Vec<Reference>,
}

impl Found {
    /// References to what is not among the manifests themselves.
    pub fn unresolved(&self) -> impl Iterator<Item = &Reference> {
        let is_here = |reference: &Reference| {
            self.manifests.iter().any(|one| one.kind() == reference.kind && *one.name() == reference.name)
        };
        self.references.iter().filter(move |reference| !is_here(reference))
    }
}

/// Reads every document of these files and folders (their `.yaml` and `.yml` files, sorted); `-` is
/// standard input. Says what is not wrong and may not have been meant.
///
/// # Errors
/// All mistakes of all files at once; a name that stands twice.
pub fn read_all(ui: &Ui, paths: &[PathBuf]) -> Result<Found> {
    let mut texts = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            texts.push(("-".to_owned(), bounded("standard input", std::io::stdin().lock())?));
        } else if path.is_dir() {
            let mut files = Vec::new();
            walk(path, &mut files).map_err(|error| unreadable(path, &error))?;
            if files.is_empty() {
                return Err(fail(Code::Unreadable, format!("{} holds no .yaml file", path.display())));
            }
            for file in files {
                texts.push((file.display().to_string(), text(&file)?));
            }
        } else {
            texts.push((path.display().to_string(), text(path)?));
        }
    }
    let (mut found, mut problems, mut remarks) = (Found::default(), Vec::new(), Vec::new());
    // Where the manifests of each file begin.
    let mut files: Vec<(&str, usize)> = Vec::new();
    for (name, text) in &texts {
        files.push((name, found.manifests.len()));
        match workflow::parse_whole(name, text) {
            Ok(parsed) => {
                found.manifests.extend(parsed.manifests);
                found.references.extend(parsed.references);
                remarks.extend(parsed.remarks);
            }
            Err(wrong) => problems.extend(wrong.0),
        }
    }
    for Reference { name, input, .. } in &found.references {
        let called = Manifest::workflow_among(&found.manifests, name);
        problems.extend(input.iter().zip(called).flat_map(|(given, workflow)| given.misfits(workflow)));
    }
    if !problems.is_empty() {
        return Err(wrong(&problems));
    }
    let file_of = |nth: usize| files.iter().rev().find(|(_, from)| *from <= nth).map_or("", |(name, _)| name);
    for (nth, manifest) in found.manifests.iter().enumerate() {
        if let Some(path) = serde_json::from_str(&manifest.text())
            .ok()
            .and_then(|fields: serde_json::Value| secret::is_missing_in(&fields))
        {
            let (kind, name) = (manifest.kind().stored(), manifest.name());
            let what = format!("`{path}` of the {kind} `{name}` is `***`, the sign of a secret that was not shown");
            return Err(fail(Code::Manifest, what).hint("put the secret itself in its place"));
        }
        let same = |other: &Manifest| other.kind() == manifest.kind() && other.name() == manifest.name();
        if let Some(first) = found.manifests[..nth].iter().position(same) {
            let (kind, name) = (manifest.kind().stored(), manifest.name());
            let what = format!("the {kind} `{name}` stands in two files, {} and {}", file_of(first), file_of(nth));
            return Err(fail(Code::Manifest, what).hint("give one of them another name"));
        }
    }
    remarks.iter().for_each(|remark| ui.warn(&remark.to_string()));
    Ok(found)
}

/// Whether everything that the manifests name is among them or in the store.
///
/// # Errors
/// All that is missing, each where it is named; the store's.
pub async fn check_references(client: &Client, found: &Found) -> Result {
    let missing = client.missing(&found.manifests, &found.references).await?;
    if missing.is_empty() { Ok(()) } else { Err(wrong(&missing)) }
}

/// The text of one manifest file.
///
/// # Errors
/// Unreadable, a folder, a named pipe, too large, not UTF-8.
pub fn text(path: &Path) -> Result<String> {
    let kind = fs::metadata(path).map_err(|error| unreadable(path, &error))?.file_type();
    if kind.is_dir() {
        return Err(fail(Code::Unreadable, format!("{} is a folder, not a file", path.display())));
    }
    if is_lonely_pipe(path, kind) {
        return Err(fail(Code::Unreadable, format!("{} is a pipe, not a file", path.display()))
            .hint("give it as standard input: `goflow apply - < PIPE`"));
    }
    let file = fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    bounded(&path.display().to_string(), file)
}

/// Whether opening this would wait for somebody to write to it. A shell's `<(…)` is a pipe too, but
/// one that surely has a writer.
pub fn is_lonely_pipe(path: &Path, kind: fs::FileType) -> bool {
    kind.is_fifo() && !path.starts_with("/dev/fd") && !path.starts_with("/proc")
}

fn bounded(name: &str, from: impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    from.take(MANIFEST_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fail(Code::Unreadable, format!("{name} cannot be read: {}", reason(&error))))?;
    if bytes.len() > MANIFEST_BYTES {
        return Err(fail(Code::Manifest, format!("{name} is larger than 1 MiB")));
    }
    String::from_utf8(bytes).map_err(|_| fail(Code::Manifest, format!("{name} is not UTF-8 text")))
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    entries.sort();
    for path in entries {
        let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        // A link to a folder may lead in a circle.
        if path.is_dir() && !path.is_symlink() {
            walk(&path, files)?;
        } else if is_yaml {
            files.push(path);
        }
    }
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> CommandError {
    fail(Code::Unreadable, format!("{} cannot be read: {}", path.display(), reason(error)))
}

/// The error for mistakes in manifests.
pub fn wrong(problems: &[Problem]) -> CommandError {
    match problems {
        [one] => mistake(Code::Manifest, one),
        several => {
            let what = format!("the manifests have {}", count(several.len() as u64, "mistake"));
            let rendered: Vec<String> = several.iter().map(Problem::render).collect();
            fail(Code::Manifest, what).detail(rendered.join("\n\n"))
        }
    }
}
