//! The operator's editor: a text goes in as a file that only they can read, and comes out changed.
//! Knows nothing of what the text says.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use super::env::Env;

/// A text under edit. The file goes when this is dropped, unless it is kept.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    keep: bool,
}

/// Why a text was not edited.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error("the file for the editor cannot be {0}: {1}")]
    File(&'static str, io::Error),
    #[error("the editor `{0}` cannot be started: {1}")]
    Start(String, io::Error),
    #[error("the editor `{0}` ended with {1}")]
    Ended(String, ExitStatus),
}

impl Draft {
    /// Writes a text to a new file of this name in a folder.
    ///
    /// # Errors
    /// [`EditError::File`].
    pub fn new(folder: &Path, name: &str, text: &str) -> Result<Draft, EditError> {
        let path = folder.join(name);
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        made.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| EditError::File("written", error))?;
        Ok(Draft { path, keep: false })
    }

    /// Opens it in $VISUAL, else $EDITOR, else vi, waits, and reads it back.
    ///
    /// # Errors
    /// [`EditError`]; an editor that fails has changed nothing.
    pub fn edit(&self, env: &Env) -> Result<String, EditError> {
        let editor = env.first(&["VISUAL", "EDITOR"]).map_or("vi", |(_, editor)| editor);
        // The variable is a command with its arguments, by an old custom; the path is never part of it.
        let status =
            Command::new("sh").arg("-c").arg(format!("{editor} \"$@\"")).arg("editor").arg(&self.path).status();
        match status {
            Err(error) => Err(EditError::Start(editor.to_owned(), error)),
            Ok(status) if !status.success() => Err(EditError::Ended(editor.to_owned(), status)),
            Ok(_) => fs::read_to_string(&self.path).map_err(|error| EditError::File("read", error)),
        }
    }

    /// Leaves the file where it is, and says where that is.
    pub fn keep(&mut self) -> &Path {
        self.keep = true;
        &self.path
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.keep {
            // It is in the folder for temporary files: whoever cleans that takes it too.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_editor_with_arguments_changes_the_text_and_the_file_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let env = |editor: &str| Env::from([("EDITOR", editor)]);
        let draft = Draft::new(folder.path(), "a b", "one").expect("written");
        assert_eq!(draft.edit(&env("sed -i s/one/two/")).expect("edited"), "two");
        assert!(matches!(draft.edit(&env("false")), Err(EditError::Ended(..))));
        assert!(matches!(draft.edit(&env("/no/such/editor")), Err(EditError::Ended(..))));
        assert!(matches!(Draft::new(folder.path(), "a b", ""), Err(EditError::File("written", _))));
        drop(draft);
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0);
    }
}
