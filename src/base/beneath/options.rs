//! How a file is opened.

use super::resolve;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io;

/// How [`Dir::open_with`](super::Dir::open_with) opens a file, as `std::fs::OpenOptions` says it.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    read: bool,
    write: bool,
    flags: OFlags,
    truncate: bool,
    mode: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options::new()
    }
}

impl Options {
    /// Neither for reading nor for writing yet.
    pub const fn new() -> Options {
        Options { read: false, write: false, flags: OFlags::empty(), truncate: false, mode: 0 }
    }

    /// For reading.
    #[must_use]
    pub const fn read(mut self) -> Options {
        self.read = true;
        self
    }

    /// For writing.
    #[must_use]
    pub const fn write(mut self) -> Options {
        self.write = true;
        self
    }

    /// For writing at the end, wherever that is by then.
    #[must_use]
    pub const fn append(mut self) -> Options {
        self.flags = self.flags.union(OFlags::APPEND);
        self.write()
    }

    /// Emptied, once it is known to be a regular file.
    #[must_use]
    pub const fn truncate(mut self) -> Options {
        self.truncate = true;
        self
    }

    /// Made with this mode, less the umask, where it is missing.
    #[must_use]
    pub const fn create(mut self, mode: u32) -> Options {
        self.flags = self.flags.union(OFlags::CREATE);
        self.mode = mode;
        self
    }

    /// Made with this mode, less the umask; one that is there already is an error.
    #[must_use]
    pub const fn create_new(mut self, mode: u32) -> Options {
        self.flags = self.flags.union(OFlags::EXCL);
        self.create(mode)
    }

    pub(super) fn flags(&self) -> OFlags {
        let access = match (self.read, self.write) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            _ => OFlags::RDONLY,
        };
        access | self.flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC
    }

    pub(super) fn mode(&self) -> Mode {
        Mode::from_raw_mode(self.mode as _)
    }

    /// Judges what was opened.
    pub(super) fn accept(&self, file: File) -> io::Result<File> {
        resolve::regular(&file.metadata()?)?;
        if self.write {
            // It may become the output of a child, which did not ask for this. Reading keeps it: a file of
            // /proc can block as well.
            rustix::fs::fcntl_setfl(&file, self.flags & OFlags::APPEND)?;
        }
        if self.truncate {
            file.set_len(0)?;
        }
        Ok(file)
    }
}
