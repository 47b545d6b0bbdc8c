//! Encrypts archives, and opens them again. What is encrypted here, plain `age -d` opens.

use super::age::{Age, expected_length};
use super::damage::refuse;
use super::hashed::Hashed;
use super::sidecar::Sidecar;
use crate::base::Fault;
use crate::base::beneath::open_named;
use crate::base::progress::Progress;
use crate::base::step::step;
use crate::base::text::count;
use crate::config::Backup;
use anyhow::{Context, Result};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What came of encrypting a file.
#[derive(Clone, Debug)]
pub(super) struct Encrypted {
    /// The length of the encrypted file.
    pub(super) bytes: u64,
    /// Its SHA-256.
    pub(super) sha256: String,
}

/// The program, ready to encrypt to somebody.
pub(super) struct Recipients<'a> {
    age: Age<'a>,
    /// Whether the identity here opens what is encrypted: then every archive is opened again.
    pub(super) opens: bool,
    /// What is wrong with the identity.
    pub(super) problem: Option<String>,
}

impl Recipients<'_> {
    /// Gets ready, and tries with a word, so that an archive is not begun in vain. None: archives
    /// are not encrypted.
    ///
    /// # Errors
    /// A [`Fault`] of state Unknown when there is no program, or it does not take the recipients.
    pub(super) fn ready(backup: &Backup) -> Result<Option<Recipients<'_>>> {
        if backup.encrypt_to.is_empty() {
            return Ok(None);
        }
        let age = Age::find(backup)?;
        let mut word = Vec::new();
        if let Err(why) = age.encrypt(&mut "a word".as_bytes(), &mut word)? {
            return Err(Fault::unknown(format!("nothing can be encrypted to encrypt_to in [backup]: {why}"))
                .hint("no backup was begun; encrypt_to takes what `age-keygen -y KEYFILE` prints, age1…")
                .into());
        }
        let problem = match &backup.identity {
            None => None,
            Some(identity) => match age.decrypt(&mut word.as_slice(), &mut io::sink()) {
                Ok(Ok(())) => None,
                Ok(Err(why)) => Some(format!(
                    "the identity {} does not open what encrypt_to encrypts, so archives are not opened again: {why}",
                    identity.display()
                )),
                Err(error) => Some(format!("archives are not opened again: {error:#}")),
            },
        };
        let opens = backup.identity.is_some() && problem.is_none();
        Ok(Some(Recipients { age, opens, problem }))
    }

    /// How many keys open it, for people.
    pub(super) fn shown(&self) -> String {
        count(self.age.backup.encrypt_to.len(), "recipient")
    }

    /// Encrypts a file to a new one, synced, and reads that back: opened and compared where the
    /// identity is here, else by its hash, its form and its length.
    ///
    /// # Errors
    /// When it cannot be written, or is not what it must be.
    pub(super) fn encrypt(&self, plain: &Path, to: &Path, shown: bool) -> Result<Encrypted> {
        let reading = || format!("cannot read {}", plain.display());
        let writing = || format!("cannot write {}", to.display());
        let file = open_named(plain).with_context(reading)?;
        let length = file.metadata().with_context(reading)?.len();
        let progress = Progress::new("encrypting", length, shown);
        let mut input = Hashed::new(file, Some(&progress));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
        let mut output = Hashed::new(file.with_context(writing)?, None);
        step("encrypt")?;
        if let Err(why) = self.age.encrypt(&mut input, &mut output).with_context(writing)? {
            return Err(Fault::critical(format!("the archive cannot be encrypted: {why}"))
                .hint("older archives are untouched and nothing was pruned")
                .into());
        }
        output.inner.sync_all().with_context(writing)?;
        step("encrypted")?;
        let (bytes, sha256, plain) = (output.bytes, output.finish(), input.finish());
        let wrong = |why: &str| {
            anyhow::Error::from(Fault::critical(format!("the encrypted archive is not whole: {why}")))
        };
        let file = open_named(to).with_context(writing)?;
        let expected = expected_length(&file, length).with_context(writing)?;
        let expected = expected.ok_or_else(|| wrong("it has not the form of age"))?;
        if expected != bytes {
            return Err(wrong("its length is not that of its content"));
        }
        let file = open_named(to).with_context(writing)?;
        let (mut input, mut opened) = (Hashed::new(file, None), Hashed::new(io::sink(), None));
        if !self.opens {
            io::copy(&mut input, &mut io::sink()).with_context(writing)?;
        } else if let Err(why) = self.age.decrypt(&mut input, &mut opened)? {
            return Err(wrong(&why));
        } else if opened.finish() != plain {
            return Err(wrong("what comes out is not what went in"));
        }
        if input.finish() != sha256 {
            return Err(wrong("its hash is another when it is read back"));
        }
        step("reopened")?;
        Ok(Encrypted { bytes, sha256 })
    }
}

/// Decrypts an archive to a new file. `note` is what is known of it.
///
/// # Errors
/// A [`Fault`]: of state Critical where the archive is not what its note says, else of state
/// Unknown (no identity, another one, no program). What was written until then is worth nothing.
pub(super) fn decrypt(backup: &Backup, archive: &Path, note: Option<&Sidecar>, to: &Path) -> Result<()> {
    need_identity(backup, archive)?;
    let age = Age::find(backup)?;
    let mut input =
        Hashed::new(open_named(archive).with_context(|| format!("cannot read {}", archive.display()))?, None);
    let writing = || format!("cannot write {}", to.display());
    let mut output =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).with_context(writing)?;
    let opened = age.decrypt(&mut input, &mut output).with_context(writing)?;
    // All of it, so that its hash tells damage from a key that does not fit.
    io::copy(&mut input, &mut io::sink()).with_context(|| format!("cannot read {}", archive.display()))?;
    compare(archive, note, input.bytes, &input.finish())?;
    if let Err(why) = opened {
        let identity = backup.identity.as_deref().unwrap_or(Path::new(""));
        return Err(Fault::unknown(format!(
            "{} cannot be opened with the identity {}: {why}",
            archive.display(),
            identity.display()
        ))
        .hint("nothing was changed; is it another key's archive? identity in [backup] names the file of the key")
        .into());
    }
    Ok(())
}

/// Refuses an encrypted archive where no identity is set or it cannot be read.
pub(super) fn need_identity(backup: &Backup, archive: &Path) -> Result<()> {
    let Some(identity) = &backup.identity else {
        return Err(Fault::unknown(format!("{} is encrypted, and no identity is set", archive.display()))
            .hint("nothing was changed; set identity in [backup] to the file of the key that opens it")
            .into());
    };
    open_named(identity).map(drop).map_err(|error| {
        Fault::unknown(format!("cannot read the identity {}: {error}", identity.display()))
            .hint("nothing was changed; identity in [backup] names the file of the key")
            .into()
    })
}

/// Reads an encrypted archive and compares it with its note: all that can be verified without the
/// key.
///
/// # Errors
/// A [`Fault`] when it is not what the note says.
pub(super) fn verify_closed(archive: &Path, note: &Sidecar) -> Result<()> {
    let reading = || format!("cannot read {}", archive.display());
    let mut file = Hashed::new(open_named(archive).with_context(reading)?, None);
    io::copy(&mut file, &mut io::sink()).with_context(reading)?;
    compare(archive, Some(note), file.bytes, &file.finish())
}

fn compare(archive: &Path, note: Option<&Sidecar>, bytes: u64, sha256: &str) -> Result<()> {
    match note {
        Some(note) if note.bytes != bytes => Err(refuse(
            archive,
            &format!("it is damaged: it has {bytes} bytes, and {} when it was made", note.bytes),
        )),
        Some(note) if note.sha256 != sha256 => {
            Err(refuse(archive, "it is damaged: its hash is not the one it was made with"))
        }
        _ => Ok(()),
    }
}
