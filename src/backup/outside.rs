//! Absolute includes of `[backup]`: what the agent keeps outside its home.

use super::globs::{Globs, includes, literal, text};
use crate::base::database;
use crate::config::Backup;
use anyhow::Result;
use glob::Pattern;
use std::io;
use std::path::{Component, Path, PathBuf};

/// One absolute include.
#[derive(Clone, Debug)]
pub struct Outside {
    pattern: Pattern,
    /// The include, as the config has it.
    pub(super) glob: String,
    /// Its place among the includes.
    pub(super) number: usize,
    /// The folder that everything it can match is in. Links on the way to it are the operator's.
    pub root: PathBuf,
}

impl Outside {
    /// The absolute includes of a config.
    pub fn all(backup: &Backup) -> Vec<Outside> {
        let globs = backup.include.iter().enumerate();
        globs.filter_map(|(number, glob)| Outside::new(number, glob)).collect()
    }

    fn new(number: usize, glob: &str) -> Option<Outside> {
        let glob = glob.trim_end_matches('/');
        let pattern = Pattern::new(&text(Path::new(glob))).ok().filter(|_| glob.starts_with('/'))?;
        let literal = literal(&pattern);
        let names_one = literal.as_os_str() == glob;
        let root = if names_one { literal.parent()?.to_owned() } else { literal };
        Some(Outside { pattern, glob: glob.to_owned(), number, root })
    }

    /// What to say of its folder, which cannot be opened: nothing where it may be missing, or where the
    /// include names one path, which is missed all the same.
    pub(super) fn unread(&self, backup: &Backup, error: &io::Error) -> Result<Option<String>> {
        let optional = Globs::new(&backup.optional, &[])?;
        let names_one = literal(&self.pattern).as_os_str() == self.glob.as_str();
        let missing = error.kind() == io::ErrorKind::NotFound;
        if missing && (names_one || optional.takes(&self.root) || backup.optional.contains(&self.glob)) {
            return Ok(None);
        }
        let (root, glob) = (self.root.display(), &self.glob);
        Ok(Some(format!("cannot read {root}, which include in [backup] names by {glob}: {error}")))
    }

    /// Whether it takes in an absolute path or the file that it is a sidecar of, or the path is that of its root.
    pub fn covers(&self, path: &Path) -> bool {
        let takes = |path: &Path| includes(&self.pattern, path);
        is_plain(path)
            && (path == self.root
                || takes(path)
                || self.is_above(path)
                || database::of_sidecar(path).is_some_and(|owner| takes(&owner)))
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
