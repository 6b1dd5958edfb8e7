//! Where goflow keeps its files: the XDG base directories, or one folder for all of them when
//! `GOFLOW_HOME` is set. Only computes paths; creates nothing.

use std::path::{Path, PathBuf};

use super::env::Env;

/// The folders of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Holds `goflow.yaml`.
    pub config: PathBuf,
    /// Holds `goflow.db`.
    pub data: PathBuf,
}

impl Paths {
    /// By the XDG Base Directory Specification 0.8: relative paths in its variables are ignored.
    /// `None` when neither `GOFLOW_HOME`, the XDG variables nor `HOME` are set.
    pub fn find(env: &Env) -> Option<Paths> {
        if let Some(home) = env.get("GOFLOW_HOME") {
            let home = PathBuf::from(home);
            return Some(Paths { config: home.clone(), data: home });
        }
        let folder = |variable: &str, under_home: &str| {
            let named = env.get(variable).map(Path::new).filter(|path| path.is_absolute());
            match named {
                Some(path) => Some(path.join("goflow")),
                None => Some(Path::new(env.get("HOME")?).join(under_home).join("goflow")),
            }
        };
        Some(Paths { config: folder("XDG_CONFIG_HOME", ".config")?, data: folder("XDG_DATA_HOME", ".local/share")? })
    }

    /// The user's own configuration.
    pub fn config_file(&self) -> PathBuf {
        self.config.join("goflow.yaml")
    }

    /// The store that is used when none is named.
    pub fn database(&self) -> PathBuf {
        self.data.join("goflow.db")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_variable_replaces_every_folder() {
        let found = |env: Env| Paths::find(&env).map(|paths| (paths.config_file(), paths.database()));
        let pair = |config: &str, data: &str| Some((PathBuf::from(config), PathBuf::from(data)));
        assert_eq!(found([("HOME", "/u"), ("GOFLOW_HOME", "/g")].into()), pair("/g/goflow.yaml", "/g/goflow.db"));
        assert_eq!(
            found([("HOME", "/u")].into()),
            pair("/u/.config/goflow/goflow.yaml", "/u/.local/share/goflow/goflow.db")
        );
        assert_eq!(
            found([("HOME", "/u"), ("XDG_DATA_HOME", "/d"), ("XDG_CONFIG_HOME", "relative")].into()),
            pair("/u/.config/goflow/goflow.yaml", "/d/goflow/goflow.db")
        );
        assert_eq!(found(Env::default()), None);
    }
}
