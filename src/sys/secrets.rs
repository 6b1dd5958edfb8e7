//! The secrets that manifests name and never hold: `env:NAME` and `file:PATH`, looked up each time they are
//! needed, so that a file that was changed counts at once. What it finds never shows itself.

use std::fmt;
use std::io::Read;

use super::env::Env;
use crate::domain::signature::Secret;

/// Longest file, in bytes: a secret is short, and this may be the wrong file.
const FILE_BYTES: u64 = 64 << 10;

/// Where secrets are looked up.
#[derive(Clone)]
pub struct Secrets {
    env: Env,
    usual: Option<Secret>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(***)")
    }
}

/// Why a reference leads to no secret.
#[derive(Debug, thiserror::Error)]
pub enum NoSecret {
    #[error("{0}: the variable is not set")]
    Variable(String),
    #[error("{reference}: {why}")]
    File { reference: String, why: String },
    #[error("{0}: it is empty")]
    Empty(String),
    #[error("{0}: a secret is found at env:NAME or file:PATH")]
    Reference(String),
}

impl Secrets {
    /// `usual` is the one that holds where no other is named: `webhooks.secret` of the configuration.
    pub fn new(env: Env, usual: Option<&str>) -> Secrets {
        Secrets { env, usual: usual.and_then(Secret::new) }
    }

    /// The secrets that these references lead to, and why others lead to none. Without references, the
    /// usual one, if there is one.
    pub fn find(&self, references: &[String]) -> (Vec<Secret>, Vec<NoSecret>) {
        if references.is_empty() {
            return (self.usual.iter().cloned().collect(), Vec::new());
        }
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for reference in references {
            match self.one(reference) {
                Ok(secret) => found.push(secret),
                Err(error) => missing.push(error),
            }
        }
        (found, missing)
    }

    fn one(&self, reference: &str) -> Result<Secret, NoSecret> {
        let named = || reference.to_owned();
        let text = if let Some(name) = reference.strip_prefix("env:") {
            self.env.get(name).ok_or_else(|| NoSecret::Variable(named()))?.to_owned()
        } else if let Some(path) = reference.strip_prefix("file:") {
            let read = || {
                let mut text = String::new();
                std::fs::File::open(path)?.take(FILE_BYTES + 1).read_to_string(&mut text)?;
                Ok::<String, std::io::Error>(text)
            };
            let text = read().map_err(|error| NoSecret::File { reference: named(), why: error.to_string() })?;
            if text.len() as u64 > FILE_BYTES {
                return Err(NoSecret::File { reference: named(), why: "it is larger than 64 KiB".to_owned() });
            }
            text
        } else {
            return Err(NoSecret::Reference(named()));
        };
        Secret::new(&text).ok_or_else(|| NoSecret::Empty(named()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_where_it_is_said_and_nowhere_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        std::fs::write(&path, "of a file\n").expect("a file");
        std::fs::write(folder.path().join("empty"), " \n").expect("a file");
        let file = |name: &str| format!("file:{}", folder.path().join(name).display());
        let secrets = Secrets::new([("A", "of A"), ("BLANK", " ")].into(), Some("usual"));
        let (found, missing) = secrets.find(&["env:A".into(), file("secret"), "env:B".into(), file("empty")]);
        assert_eq!(found, [Secret::new("of A").expect("one"), Secret::new("of a file").expect("one")]);
        let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
        assert_eq!(missing.len(), 2, "{missing:?}");
        assert_eq!(missing[0], "env:B: the variable is not set");
        // It fails closed: named secrets that are missing do not make the usual one hold.
        for nothing in ["env:B", "env:BLANK", "plain", &file("none")] {
            let (found, missing) = secrets.find(&[nothing.to_owned()]);
            assert_eq!((found.len(), missing.len()), (0, 1), "{nothing}");
        }
        assert_eq!(secrets.find(&[]).0, [Secret::new("usual").expect("one")]);
        assert!(Secrets::new(Env::default(), Some("")).find(&[]).0.is_empty());
        assert!(!format!("{secrets:?}").contains("usual"));
    }
}
