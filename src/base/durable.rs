//! Files that survive a crash: atomic replacement, and locks that a dead process cannot hold.

use super::beneath::{Dir, Options};
use super::{Fault, Home, Run};
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Replaces a file whole, in a folder that the operator named: written beside it, fsynced, renamed over it,
/// folder fsynced. A reader sees the old content or the new, never a part; `mode` is that of the new file. A file
/// of ours in the home: [`Home::replace`].
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    replace_with(path, mode, |_, file| file.write_all(content))
}

/// [`replace`] with content that is written piece by piece, by a file that stays ours.
pub fn replace_with(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&Dir, &mut File) -> io::Result<()>,
) -> Result<()> {
    let work = || {
        let folder = Dir::open(parent(path))?;
        folder.replace_with(path.file_name().unwrap_or_default(), mode, |file| write(&folder, file))
    };
    work().with_context(|| format!("cannot write {}", path.display()))
}

/// Removes a file that the operator named, or a link of that name, if it is there.
pub fn remove(path: &Path) -> Result<()> {
    let remove = || Dir::open(parent(path))?.remove_file(path.file_name().unwrap_or_default());
    match remove() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Renames within one file system and makes it last.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
    Dir::open(parent(from))
        .and_then(|folder| folder.rename(name(from), &Dir::open(parent(to))?, name(to)))
        .with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))?;
    sync_folder(parent(to))?;
    if parent(from) != parent(to) {
        sync_folder(parent(from))?;
    }
    Ok(())
}

/// Makes the names in a folder last (a rename or a deletion in it).
pub fn sync_folder(folder: &Path) -> Result<()> {
    Dir::open(folder)
        .and_then(|folder| folder.sync())
        .with_context(|| format!("cannot sync the folder {}", folder.display()))
}

/// So many syncs one by one take about as long as one of a file system that is not busy.
const FEW: usize = 8;

/// Makes the names in many folders last: those of one file system together, where that is quicker.
pub fn sync_folders<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let mut by_device: BTreeMap<u64, Vec<&Path>> = BTreeMap::new();
    for folder in folders {
        let meta =
            fs::metadata(folder).with_context(|| format!("cannot sync the folder {}", folder.display()))?;
        by_device.entry(meta.dev()).or_default().push(folder);
    }
    for folders in by_device.values() {
        match folders[..] {
            [first, ..] if folders.len() > FEW && cfg!(target_os = "linux") => {
                let file = Dir::open(first).and_then(|folder| folder.to_file());
                file.and_then(|file| sync_file_system(&file))
                    .with_context(|| format!("cannot sync the file system of {}", first.display()))?;
            }
            _ => folders.iter().try_for_each(|folder| sync_folder(folder))?,
        }
    }
    Ok(())
}

/// A new folder that files are written into, to be made to last together.
#[derive(Debug)]
pub struct Tree {
    path: PathBuf,
    /// Linux tells of writes that failed since this was opened (syncfs(2), since 5.8).
    folder: File,
    /// Where they are synced together: asks the disk to begin.
    ahead: Option<Ahead>,
}

/// Has the disk write what there is while there comes more, so that the sync at the end is short.
#[derive(Debug)]
struct Ahead {
    ask: mpsc::SyncSender<()>,
    since: Cell<u64>,
}

impl Tree {
    /// To be opened before the first of about so many files is written.
    pub fn open(path: &Path, files: usize) -> Result<Tree> {
        let opening = || format!("cannot open the folder {}", path.display());
        let open = || Dir::open(path).and_then(|folder| folder.to_file());
        let folder = open().with_context(opening)?;
        // A busy file system has more to write than a few files of ours.
        let together = cfg!(target_os = "linux") && files > FEW;
        let ahead = together.then(|| open().map(Ahead::begin)).transpose().with_context(opening)?;
        Ok(Tree { path: path.to_owned(), folder, ahead })
    }

    /// To be called when so many bytes of a file were written.
    pub fn wrote(&self, bytes: u64) {
        if let Some(ahead) = &self.ahead {
            ahead.wrote(bytes);
        }
    }

    /// To be called with each file that is done.
    pub fn done(&self, file: &File) -> io::Result<()> {
        if self.ahead.is_some() { Ok(()) } else { file.sync_all() }
    }

    /// Makes everything below it last, files and names. Many files on Linux: with all that their
    /// file system has to write, for one wait for the disk is shorter than one a file.
    pub fn sync(self) -> Result<()> {
        let syncing = || format!("cannot sync the files in {}", self.path.display());
        if self.ahead.is_some() {
            return sync_file_system(&self.folder).with_context(syncing);
        }
        for entry in walkdir::WalkDir::new(&self.path).contents_first(true) {
            let entry = entry.with_context(syncing)?;
            if entry.file_type().is_dir() {
                sync_folder(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Ahead {
    /// So many bytes at a time.
    const PART: u64 = 64 << 20;

    fn begin(folder: File) -> Ahead {
        let (ask, asked) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            while let Ok(()) = asked.recv() {
                // The sync at the end tells what went wrong: each open file is told of an error once.
                let _ = sync_file_system(&folder);
            }
        });
        Ahead { ask, since: Cell::new(0) }
    }

    fn wrote(&self, bytes: u64) {
        self.since.set(self.since.get() + bytes);
        if self.since.get() >= Ahead::PART {
            self.since.set(0);
            // If it is at it still, it goes on then.
            let _ = self.ask.try_send(());
        }
    }
}

/// Makes everything last that was written to the file system of a file.
#[cfg(target_os = "linux")]
pub fn sync_file_system(file: &File) -> io::Result<()> {
    rustix::fs::syncfs(file).map_err(io::Error::from)
}

/// There is no such call outside Linux.
#[cfg(not(target_os = "linux"))]
pub fn sync_file_system(_: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Creates a folder and what is missing above it; new ones get `mode`.
pub fn make_folder(folder: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))
}

/// The folder a path is in.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// How long a second run waits for the first one, unless told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// One kind of work on one home, held by one process. The kernel frees it when the process
/// ends, however it ends, so it cannot go stale; the file stays, so nobody unlinks it from
/// under another.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Who holds a lock, as written in it.
#[derive(serde::Serialize, serde::Deserialize)]
struct Holder {
    pid: u32,
    program: String,
    run: String,
    since: DateTime<Utc>,
}

impl Lock {
    /// Takes the lock of one kind of `work`, waiting up to `patience` for another holder.
    ///
    /// # Errors
    /// A [`Fault`] of state Unknown that names the holder, when it stays taken.
    pub fn take(home: &Home, work: &str, run: &Run, patience: Duration) -> Result<Lock> {
        let path = home.lock(work);
        let mut file = home.open_with(&path, &Options::new().read().write().create(0o600))?;
        let deadline = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(25));
                }
                Err(fs::TryLockError::WouldBlock) => return Err(busy(&mut file, work).into()),
                Err(fs::TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
        }
        let holder = Holder {
            pid: std::process::id(),
            program: run.program.clone(),
            run: run.id.clone(),
            since: run.now,
        };
        // Only for the message of whoever waits: a full disk must not stop the work itself.
        let _ =
            file.set_len(0).and_then(|()| file.write_all(&serde_json::to_vec(&holder).unwrap_or_default()));
        Ok(Lock { _file: file })
    }

    /// Who holds the lock of one kind of work at this moment, as a sentence. None: nobody, as far as can be
    /// told. Writes nothing.
    pub fn holder(home: &Home, work: &str) -> Option<String> {
        let mut file = home.open_file(&home.lock(work)).ok()?;
        match file.try_lock_shared() {
            Err(fs::TryLockError::WouldBlock) => Some(busy(&mut file, work).to_string()),
            _ => None,
        }
    }
}

fn busy(file: &mut File, work: &str) -> Fault {
    let mut text = String::new();
    let _ = file.rewind().and_then(|()| file.take(4096).read_to_string(&mut text));
    let who = match serde_json::from_str::<Holder>(&text) {
        Ok(holder) => format!(
            "{} (pid {}, run {}) has been at it since {}",
            holder.program,
            holder.pid,
            holder.run,
            super::units::local(holder.since)
        ),
        Err(_) => "another run is at it".to_owned(),
    };
    Fault::unknown(format!("the {work} of this home is busy: {who}"))
        .hint("wait until it is done and run this again; the lock frees itself when that process ends")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_rubbish() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.json");
        replace(&path, b"old", 0o644).unwrap();
        let failed = replace_with(&path, 0o644, |_, file| {
            file.write_all(b"half")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_made_is_told_by_its_own_name() {
        let told = format!("{:#}", replace(Path::new("/nowhere/at/all.json"), b"", 0o644).unwrap_err());
        assert_eq!(told, "cannot write /nowhere/at/all.json: No such file or directory (os error 2)");
    }

    #[test]
    fn the_second_holder_is_told_who_is_first() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().to_owned());
        let run = Run::begin("backup");
        let first = Lock::take(&home, "backup", &run, Duration::ZERO).unwrap();
        let refused = Lock::take(&home, "backup", &run, Duration::from_millis(30)).unwrap_err();
        assert!(refused.to_string().contains(&run.id), "{refused}");
        assert_eq!(Fault::of(&refused).0, super::super::State::Unknown);
        assert!(Lock::holder(&home, "backup").unwrap().contains(&run.id));
        assert_eq!(Lock::holder(&home, "alert"), None);
        drop(first);
        assert_eq!(Lock::holder(&home, "backup"), None);
        Lock::take(&home, "backup", &run, Duration::ZERO).unwrap();
    }
}
