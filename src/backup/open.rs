//! An archive as something to read: as it is, or decrypted beside its reader for as long as it is
//! read.

use super::age::is_encrypted;
use super::contents::Contents;
use super::crypt;
use super::damage::refuse;
use super::folder;
use super::index::peek;
use super::scratch::Scratch;
use super::sidecar::Sidecar;
use super::space::free_space;
use super::verify::verify;
use crate::base::beneath::Dir;
use crate::base::units::Size;
use crate::base::{Fault, State};
use crate::config::{Backup, Loaded};
use anyhow::{Context, Result};
use rustix::fs::{Access, AtFlags};
use std::fs;
use std::path::{Path, PathBuf};

/// An archive that can be read. Where it is encrypted, what was decrypted goes away with this.
#[derive(Debug)]
pub struct Readable {
    path: PathBuf,
    _decrypted: Option<Scratch>,
}

impl Readable {
    /// A plain archive.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Verifies all of an archive and gives it to be read. One that is encrypted is decrypted into a
/// new folder in `scratch`, readable by its owner alone; databases are unpacked there too.
///
/// # Errors
/// As [`verify`]; for an encrypted one also when there is no identity, or not the right one, or it
/// is not what its note says.
pub fn open(backup: &Backup, archive: &Path, scratch: &Path) -> Result<(Readable, Contents)> {
    let readable = ready(backup, archive, scratch)?;
    let contents = verify(readable.path(), scratch);
    let contents = match is_encrypted(archive) {
        true => contents.with_context(|| archive.display().to_string())?,
        false => contents?,
    };
    Ok((readable, contents))
}

/// Gives an archive to be read, decrypted as by [`open`], and not verified.
///
/// # Errors
/// For an encrypted one, when there is no identity, or not the right one, or it is not what its note
/// says.
pub fn ready(backup: &Backup, archive: &Path, scratch: &Path) -> Result<Readable> {
    if !is_encrypted(archive) {
        return Ok(Readable { path: archive.to_owned(), _decrypted: None });
    }
    let note = Sidecar::read(archive).ok();
    let readable = decrypt(backup, archive, note.as_ref(), scratch)?;
    let manifest = peek(readable.path()).with_context(|| archive.display().to_string())?;
    if let (Some(note), Some(manifest)) = (&note, &manifest)
        && !note.fits(manifest)
    {
        return Err(refuse(archive, "the note beside it is of another archive"));
    }
    Ok(readable)
}

/// Decrypts an archive into a new folder in `scratch`. What comes out is not verified yet.
pub(super) fn decrypt(
    backup: &Backup,
    archive: &Path,
    note: Option<&Sidecar>,
    scratch: &Path,
) -> Result<Readable> {
    crypt::need_identity(backup, archive)?;
    let bytes = fs::metadata(archive).with_context(|| format!("cannot read {}", archive.display()))?.len();
    let free = free_space(scratch)?;
    if bytes > free {
        return Err(Fault::critical(format!(
            "no room in {} to decrypt {}: {} are needed and {} are free",
            scratch.display(),
            archive.display(),
            Size(bytes),
            Size(free)
        ))
        .hint("nothing was changed; free some space and run this again")
        .into());
    }
    let held = Scratch::new(scratch, ".part-open-")?;
    let name = archive.file_stem().unwrap_or_default();
    let path = held.path().join(name);
    crypt::decrypt(backup, archive, note, &path)?;
    Ok(Readable { path, _decrypted: Some(held) })
}

/// What a look at an archive could tell.
#[derive(Debug)]
pub enum Look {
    /// It was read, all of it.
    Opened(Box<Contents>),
    /// It is encrypted and could not be opened here: it is, to the bit, what was made. Its content was
    /// verified before it was encrypted.
    Closed {
        /// What is known of it.
        note: Box<Sidecar>,
        /// Why it could not be opened although an identity is set.
        why: Option<String>,
    },
}

/// [`look`], with what has to be written beside the archives if that is allowed, else where temporary files go.
///
/// # Errors
/// The same; also when the folder of archives is a link that ops.toml does not name.
pub fn look_beside(loaded: &Loaded, archive: &Path) -> Result<Look> {
    let dir = folder::open(loaded)?;
    let mine = |dir: &Dir| rustix::fs::accessat(dir, ".", Access::WRITE_OK, AtFlags::empty()).is_ok();
    let scratch = match dir.filter(mine) {
        Some(dir) => Scratch::beneath(dir, ".part-look-")?,
        None => Scratch::new(&std::env::temp_dir(), ".part-look-")?,
    };
    look(&loaded.config.backup, archive, scratch.path())
}

/// Verifies an archive as far as that can be done here.
///
/// # Errors
/// When it is damaged. Also when it can neither be opened nor compared with its note.
fn look(backup: &Backup, archive: &Path, scratch: &Path) -> Result<Look> {
    if !is_encrypted(archive) {
        return Ok(Look::Opened(Box::new(verify(archive, scratch)?)));
    }
    let mut why = None;
    if backup.identity.is_some() {
        match open(backup, archive, scratch) {
            Ok((_, contents)) => return Ok(Look::Opened(Box::new(contents))),
            Err(error) if Fault::of(&error).0 == State::Unknown => why = Some(format!("{error:#}")),
            Err(error) => return Err(error),
        }
    }
    let note = Sidecar::read(archive).map_err(|error| {
        let why = why.iter().cloned().chain([format!("{error:#}")]).collect::<Vec<_>>().join("; ");
        Fault::unknown(format!("{} cannot be verified: {why}", archive.display()))
            .hint("identity in [backup] names the file of the key that opens it")
    })?;
    crypt::verify_closed(archive, &note)?;
    Ok(Look::Closed { note: Box::new(note), why })
}
