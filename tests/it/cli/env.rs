//! A hermetic place for command tests: a folder of its own, an empty environment, and the whole
//! answer of a command (status, stdout, stderr) as one text with ids and times at fixed width.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub struct TestEnvironment {
    folder: tempfile::TempDir,
    vars: Vec<(String, String)>,
}

/// What a command answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    home: PathBuf,
}

impl TestEnvironment {
    pub fn new() -> Self {
        TestEnvironment { folder: tempfile::tempdir().expect("a folder"), vars: Vec::new() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.vars.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes a file below the folder in which commands run.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(&path, text).expect("a file");
        path
    }

    /// A command that will find nothing of this machine but PATH.
    pub fn command<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_goflow"));
        command
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("GOFLOW_HOME", self.path().join("home"))
            .env("HOME", self.path().join("nobody"))
            .env("TMPDIR", self.path())
            .env("COLUMNS", "100")
            .env("LANG", "C.UTF-8")
            .envs(self.vars.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a line of words.
    pub fn run(&self, line: &str) -> Answer {
        self.answer(self.command(line.split_whitespace()).output().expect("it runs"))
    }

    pub fn args<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Answer {
        self.answer(self.command(args).output().expect("it runs"))
    }

    /// Runs a line of words with this on standard input.
    pub fn feed(&self, line: &str, input: impl AsRef<[u8]>) -> Answer {
        let mut child = self.command(line.split_whitespace()).stdin(Stdio::piped()).spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("standard input");
        let input = input.as_ref().to_vec();
        // The command may end before it has read everything.
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().expect("it ends");
        writer.join().expect("the writer ends");
        self.answer(output)
    }

    fn answer(&self, output: Output) -> Answer {
        Answer {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
            home: self.path().to_owned(),
        }
    }
}

impl Answer {
    #[track_caller]
    pub fn ok(self) -> Answer {
        assert_eq!(self.status, Some(0), "{}", self.text());
        self
    }

    /// What was printed, without the last line break.
    pub fn line(&self) -> &str {
        self.stdout.trim_end()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Status, stdout and stderr for a snapshot.
    pub fn text(&self) -> String {
        let status = self.status.map_or("killed".to_owned(), |status| status.to_string());
        let mut text = format!("exit {status}\n");
        for (name, part) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !part.is_empty() {
                text.push_str(&format!("--- {name}\n{}", redact(part, &self.home)));
            }
        }
        text
    }
}

/// Replaces ids and times by others of the same width, and the folder by `~`.
pub fn redact(text: &str, home: &Path) -> String {
    let text = text.replace(&*home.to_string_lossy(), "~");
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(c) = rest.chars().next() {
        if let Some(id) = rest.get(..36).filter(|part| is_like(part, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")) {
            out.push_str("iiiiiiii-iiii-iiii-iiii-iiiiiiiiiiii");
            rest = &rest[id.len()..];
        } else if let Some(time) = rest.get(..24).filter(|part| is_like(part, "dddd-dd-ddTdd:dd:dd.dddZ")) {
            out.push_str("2026-02-09T10:30:00.000Z");
            rest = &rest[time.len()..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

fn is_like(text: &str, pattern: &str) -> bool {
    text.len() == pattern.len()
        && text.bytes().zip(pattern.bytes()).all(|(byte, wanted)| match wanted {
            b'x' => byte.is_ascii_hexdigit(),
            b'd' => byte.is_ascii_digit(),
            other => byte == other,
        })
}
