//! Our own files in a home: state, locks, logs, pages. They are reached beneath the home, through no link
//! and without blocking: whoever can write in the home can put anything in their place.

use super::beneath::{self, Dir, Options, Refused};
use super::{Fault, Home, durable, lines, privilege, trust};
use anyhow::{Context, Result};
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

/// No file of our state is larger.
const LIMIT: u64 = 16 << 20;

/// The folder of our state, in a home.
const STATE: &str = ".ops";

/// New folders of state are for their owner alone; logs are for others to read.
const STATE_FOLDER: u32 = 0o700;
const LOG_FOLDER: u32 = 0o755;

impl Home {
    /// The home, held open.
    ///
    /// # Errors
    /// It is not there, or no folder.
    pub fn dir(&self) -> io::Result<Dir> {
        Dir::open(self.root())
    }

    /// The folder of our state, held open: whoever may write in it decides what we do, so it is ours alone.
    ///
    /// # Errors
    /// It is not there, or [`Refused`].
    pub fn state(&self) -> io::Result<Dir> {
        open_own(&self.dir()?, STATE)
    }

    /// Refuses a home whose state others could have written. Changes nothing.
    ///
    /// # Errors
    /// A [`Fault`] of state Unknown with the remedy.
    pub fn check_state(&self) -> Result<()> {
        let Err(error) = self.state() else { return Ok(()) };
        let (ops, us) = (self.ops(), privilege::us());
        let ops = ops.display();
        let (why, remedy) = match Refused::of(&error) {
            Some(Refused::Foreign(uid)) => (
                format!("{ops} belongs to user {uid}, and you are user {us}"),
                format!("move it away: mv '{ops}' '{ops}.foreign'; if it is yours: chown -R {us} '{ops}'"),
            ),
            Some(Refused::Shared) => (
                format!("others may write in {ops}"),
                format!("chmod 700 '{ops}', after a look at what is in it"),
            ),
            // Whoever needs the state says so.
            _ => return Ok(()),
        };
        Err(Fault::unknown(format!("{why}: what it says is not followed; nothing was changed"))
            .hint(remedy)
            .into())
    }

    /// Where a file of ours is: the folder of our state, or one, held open, and the path below it. A path
    /// that is in neither the home nor the folder of logs is refused.
    ///
    /// # Errors
    /// As [`Home::state`] for what is in it.
    pub fn place(&self, path: &Path) -> io::Result<(Dir, PathBuf)> {
        let (folder, rel) =
            match self.named_logs().and_then(|logs| Some((logs, path.strip_prefix(logs).ok()?))) {
                Some(place) => place,
                None => (self.root(), path.strip_prefix(self.root()).map_err(|_| Refused::Outside)?),
            };
        if folder == self.root()
            && let Ok(inside) = rel.strip_prefix(STATE)
        {
            return Ok((self.state()?, inside.to_owned()));
        }
        Ok((Dir::open(folder)?, rel.to_owned()))
    }

    /// Opens a file of ours for reading.
    pub fn open_file(&self, path: &Path) -> io::Result<File> {
        let (folder, rel) = self.place(path)?;
        folder.open_file(rel)
    }

    /// Reads a small file of ours.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        beneath::read_limited(&self.open_file(path)?, LIMIT)
    }

    /// The last lines of a log ([`lines::last_lines_of`]).
    pub fn last_lines(&self, path: &Path, n: usize, max_bytes: u64) -> io::Result<Vec<String>> {
        lines::last_lines_of(&self.open_file(path)?, n, max_bytes)
    }

    /// What is at the place of a file of ours; a link is a link.
    pub fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let (folder, rel) = self.place(path)?;
        folder.metadata(rel)
    }

    /// Whether there is anything at the place of a file of ours, as far as can be told.
    pub fn has(&self, path: &Path) -> bool {
        self.metadata(path).is_ok()
    }

    /// Replaces a file of ours whole ([`Dir::replace`]), and makes the folder it is in.
    pub fn replace(&self, path: &Path, content: &[u8], mode: u32) -> Result<()> {
        let write = || {
            let (folder, name) = self.folder_of(path)?;
            folder.replace(&name, content, mode)
        };
        write()
            .map_err(|error| self.explain(error))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes a file of ours, if it is there.
    pub fn remove(&self, path: &Path) -> Result<()> {
        let remove = || {
            let (folder, rel) = self.place(path)?;
            folder.remove_file(rel)
        };
        match remove() {
            Err(error) if !is_missing(&error) => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Opens a file of ours as the options say, and makes the folder it is in.
    pub fn open_with(&self, path: &Path, options: &Options) -> Result<File> {
        let open = || {
            let (folder, name) = self.folder_of(path)?;
            folder.open_with(&name, options)
        };
        open().map_err(|error| self.explain(error)).with_context(|| format!("cannot open {}", path.display()))
    }

    /// Opens a text log of ours to append to it.
    pub fn append(&self, path: &Path) -> Result<File> {
        self.open_with(path, &Options::new().append().create(0o644))
    }

    /// Makes a folder of ours, with what is missing above it.
    pub fn make_folder(&self, path: &Path) -> Result<Dir> {
        self.make(path)
            .map_err(|error| self.explain(error))
            .with_context(|| format!("cannot create the folder {}", path.display()))
    }

    fn folder_of(&self, path: &Path) -> io::Result<(Dir, PathBuf)> {
        let name = path.file_name().ok_or(Refused::Outside)?;
        Ok((self.make(durable::parent(path))?, PathBuf::from(name)))
    }

    fn make(&self, path: &Path) -> io::Result<Dir> {
        let mode = if path.starts_with(self.logs()) { LOG_FOLDER } else { STATE_FOLDER };
        if let Some(logs) = self.named_logs().filter(|logs| path.starts_with(logs)) {
            let missing = durable::make_folder(logs, mode);
            missing.map_err(|error| error.downcast::<io::Error>().unwrap_or_else(io::Error::other))?;
        }
        if path.starts_with(self.ops()) && self.state().is_err_and(|error| is_missing(&error)) {
            self.dir()?.make_dir(STATE, STATE_FOLDER)?;
        }
        let (folder, rel) = self.place(path)?;
        match folder.open_dir(&rel) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => folder.make_dir(&rel, mode),
            opened => opened,
        }
    }

    /// Says what to do about a folder of logs that is a link.
    fn explain(&self, error: io::Error) -> anyhow::Error {
        let is_link = || self.metadata(&self.logs()).is_ok_and(|meta| meta.is_symlink());
        if Refused::of(&error) == Some(Refused::Link) && self.named_logs().is_none() && is_link() {
            let message = format!("{} is a symbolic link, which is not followed", self.logs().display());
            return Fault::critical(message).hint(LINKED_LOGS).into();
        }
        error.into()
    }
}

const LINKED_LOGS: &str = "if you made that link, say so in ops.toml: `dir = \"logs\"` below `[logs]`";

/// Opens a folder in which nobody but us and root can put anything: judged by what is open.
///
/// # Errors
/// It is not there, or [`Refused`].
pub fn open_own(dir: &Dir, rel: impl AsRef<Path>) -> io::Result<Dir> {
    let folder = dir.open_dir(rel)?;
    trust::check_own(&folder)?;
    Ok(folder)
}

/// Whether there is no such file of ours.
pub fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_folder_of_logs_that_is_a_link_is_followed_only_where_the_operator_named_it() {
        let dir = tempfile::tempdir().unwrap();
        let (root, elsewhere) = (dir.path().join("home"), dir.path().join("elsewhere"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, root.join("logs")).unwrap();
        let home = Home::new(root.clone());
        let error = home.append(&home.log("alerts")).unwrap_err();
        assert!(format!("{error:#}").contains("is a symbolic link"), "{error:#}");
        assert!(home.replace(&home.status_json(), b"{}", 0o644).is_err());
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        let named = home.with_logs(root.join("logs"));
        named.append(&named.log("alerts")).unwrap();
        named.replace(&named.status_json(), b"{}", 0o644).unwrap();
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 2);
        // A link that lies in it is none of the operator's.
        symlink("/dev/null", elsewhere.join("backup.log")).unwrap();
        assert!(named.append(&named.log("backup")).is_err());
        assert!(named.last_lines(&named.log("backup"), 1, 100).is_err());
        assert_eq!(named.last_lines(&named.status_json(), 1, 100).unwrap(), ["{}"]);
    }

    #[test]
    fn modes_are_those_of_state_and_of_logs() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().to_owned());
        home.replace(&home.service_record("bot"), b"{}", 0o600).unwrap();
        home.append(&home.log("alerts")).unwrap();
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(home.ops()), 0o700);
        assert_eq!(mode(home.ops().join("service")), 0o700);
        assert_eq!(mode(home.service_record("bot")), 0o600);
        assert_eq!(mode(home.logs()) | 0o055, 0o755);
        assert!(home.replace(Path::new("/etc/never"), b"", 0o600).is_err());
    }
}
