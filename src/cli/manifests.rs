//! Manifests from files, folders and standard input. Reads and checks; changes nothing.

use std::fs;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::codes::Code;
use super::error::{CommandError, Result, fail, mistake, reason};
use crate::domain::limits::MANIFEST_BYTES;
use crate::domain::text::count;
use crate::store::Definition;
use crate::workflow::{self, Manifest, Problem};

/// Reads every document of these files and folders (their `.yaml` and `.yml` files, sorted); `-` is
/// standard input.
///
/// # Errors
/// All mistakes of all files at once; a name that stands twice.
pub fn read_all(paths: &[PathBuf]) -> Result<Vec<Manifest>> {
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
    let (mut manifests, mut problems) = (Vec::<Manifest>::new(), Vec::new());
    for (name, text) in &texts {
        match workflow::parse(name, text) {
            Ok(found) if found.is_empty() => {
                return Err(fail(Code::Manifest, format!("{name} is empty: there is nothing to apply")));
            }
            Ok(found) => manifests.extend(found),
            Err(found) => problems.extend(found.0),
        }
    }
    if !problems.is_empty() {
        return Err(wrong(&problems));
    }
    for (nth, manifest) in manifests.iter().enumerate() {
        let twice =
            manifests[..nth].iter().any(|other| other.kind() == manifest.kind() && other.name() == manifest.name());
        if twice {
            let what = format!("the {} `{}` stands in two files", manifest.kind().to_lowercase(), manifest.name());
            return Err(fail(Code::Manifest, what));
        }
    }
    Ok(manifests)
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

/// What the store keeps of a manifest.
pub fn definition(manifest: &Manifest) -> Definition {
    match manifest {
        Manifest::Workflow(workflow) => Definition {
            kind: "workflow".to_owned(),
            name: workflow.name().clone(),
            hash: workflow.hash().to_owned(),
            text: workflow.text().to_owned(),
        },
        Manifest::Handler(handler) => {
            let text = handler.canonical().to_string();
            let hash = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
            Definition { kind: "handler".to_owned(), name: handler.name.clone(), hash, text }
        }
    }
}
