//! Absolute includes of `[backup]`: what the agent keeps outside its home.

use super::globs::{includes, literal};
use crate::config::Backup;
use glob::Pattern;
use std::path::{Component, Path, PathBuf};

/// One absolute include.
#[derive(Clone, Debug)]
pub struct Outside {
    pattern: Pattern,
    /// The folder that everything it can match is in. Links on the way to it are the operator's.
    pub root: PathBuf,
}

impl Outside {
    /// The absolute includes of a config.
    pub fn all(backup: &Backup) -> Vec<Outside> {
        backup.include.iter().filter_map(|glob| Outside::new(glob)).collect()
    }

    fn new(glob: &str) -> Option<Outside> {
        let glob = glob.trim_end_matches('/');
        let pattern = Pattern::new(glob).ok().filter(|_| glob.starts_with('/'))?;
        let literal = literal(&pattern);
        let names_one = literal.as_os_str() == glob;
        let root = if names_one { literal.parent()?.to_owned() } else { literal };
        Some(Outside { pattern, root })
    }

    /// Whether it takes in an absolute path, or the path is that of its root.
    pub fn covers(&self, path: &Path) -> bool {
        is_plain(path) && (path == self.root || includes(&self.pattern, path) || self.is_above(path))
    }

    /// Whether a folder lies between its root and something that it can match.
    fn is_above(&self, path: &Path) -> bool {
        path.starts_with(&self.root)
            && Path::new(self.pattern.as_str()).components().count() > path.components().count()
            && path.components().zip(Path::new(self.pattern.as_str()).components()).all(|(part, glob)| {
                let glob = Pattern::new(&glob.as_os_str().to_string_lossy());
                glob.is_ok_and(|glob| glob.matches(&part.as_os_str().to_string_lossy()))
            })
    }
}

/// Whether a path is absolute and made of normal parts.
pub fn is_plain(path: &Path) -> bool {
    let mut parts = path.components();
    parts.next() == Some(Component::RootDir)
        && parts.clone().next().is_some()
        && parts.all(|part| matches!(part, Component::Normal(_)))
}
