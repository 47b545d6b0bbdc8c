//! The note beside an encrypted archive: what must be known of it without opening it.
//!
//! It names no file of the agent's. Whoever can write to the folder can also write a note, so it
//! tells damage, not forgery; an archive that is opened must agree with its note.

use super::flaw::Flaw;
use super::manifest::Manifest;
use crate::base::beneath::Dir;
use crate::base::durable;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The end of a note's name, after that of its archive.
const SUFFIX: &str = ".json";
/// The version of the note that this program writes, and the newest it reads.
const SCHEMA: u32 = 1;
/// A note is far shorter.
const MOST: u64 = 64 << 10;

/// What is known of an encrypted archive without its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sidecar {
    /// The version of this note.
    pub schema: u32,
    /// The agent's name.
    pub agent: String,
    /// The host it was made on.
    pub host: String,
    /// The run that made it.
    pub run: String,
    /// When that run began.
    pub time: DateTime<Utc>,
    /// The place in the order of making.
    pub sequence: u64,
    /// The version of agent-ops that made it.
    pub version: String,
    /// How many files are in it.
    pub files: usize,
    /// How many of them are databases.
    pub databases: usize,
    /// The bytes of those files.
    pub content: u64,
    /// The length of the encrypted file, in bytes.
    pub bytes: u64,
    /// The SHA-256 of the encrypted file, hexadecimal.
    pub sha256: String,
    /// How many of its databases are damaged. Earlier versions did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged: Option<usize>,
    /// How many databases, includes and dumps are missing in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<usize>,
}

impl Sidecar {
    /// The note for an archive with this manifest, encrypted to so many bytes with this hash.
    pub(super) fn new(manifest: &Manifest, bytes: u64, sha256: String) -> Sidecar {
        let flaws = manifest.flaws();
        let damaged = flaws.iter().filter(|flaw| matches!(flaw, Flaw::DamagedDatabase { .. })).count();
        Sidecar {
            schema: SCHEMA,
            agent: manifest.agent.clone(),
            host: manifest.host.clone(),
            run: manifest.run.clone(),
            time: manifest.time,
            sequence: manifest.sequence,
            version: manifest.version.clone(),
            files: manifest.count(),
            databases: manifest.databases.len(),
            content: manifest.bytes(),
            bytes,
            sha256,
            damaged: Some(damaged),
            missing: Some(flaws.len() - damaged),
        }
    }

    /// What is wrong with the archive, as far as the note says.
    pub fn flaws(&self) -> Vec<Flaw> {
        match (self.damaged.unwrap_or(0), self.missing.unwrap_or(0)) {
            (0, 0) => Vec::new(),
            (damaged, missing) => vec![Flaw::Encrypted { damaged, missing }],
        }
    }

    /// Whether this is the note of the archive with this manifest.
    pub(super) fn fits(&self, manifest: &Manifest) -> bool {
        let new = Sidecar::new(manifest, self.bytes, self.sha256.clone());
        *self
            == Sidecar {
                damaged: self.damaged.and(new.damaged),
                missing: self.missing.and(new.missing),
                ..new
            }
    }

    /// Reads the note beside an archive.
    ///
    /// # Errors
    /// When there is none, or it is none of ours.
    pub(super) fn read(archive: &Path) -> Result<Sidecar> {
        let name = archive.file_name().unwrap_or_default();
        let folder = Dir::open(durable::parent(archive));
        Sidecar::read_in(&folder.with_context(|| format!("cannot read {}", archive.display()))?, name)
    }

    /// [`Sidecar::read`], of an archive in a folder that is held.
    pub(super) fn read_in(folder: &Dir, archive: &OsStr) -> Result<Sidecar> {
        let name = path(Path::new(archive));
        let text = folder
            .read_small(&name, MOST)
            .with_context(|| format!("it is encrypted, and its note {} cannot be read", name.display()))?;
        Sidecar::parse(&text).with_context(|| format!("its note {} is damaged", name.display()))
    }

    /// Reads the text of a note.
    ///
    /// # Errors
    /// When it is none, or a newer version wrote it.
    pub fn parse(text: &[u8]) -> Result<Sidecar> {
        let sidecar: Sidecar = serde_json::from_slice(text)?;
        anyhow::ensure!(sidecar.schema <= SCHEMA, "a newer agent-ops wrote it");
        Ok(sidecar)
    }

    /// The text of the note.
    pub(super) fn text(&self) -> Result<Vec<u8>> {
        Ok(serde_json::to_vec_pretty(self)?)
    }

    /// Puts the note beside an archive, to last.
    pub(super) fn write(&self, archive: &Path) -> Result<()> {
        let name = archive.file_name().unwrap_or_default();
        self.write_in(&Dir::open(durable::parent(archive))?, name)
    }

    /// [`Sidecar::write`], in a folder that is held.
    pub(super) fn write_in(&self, folder: &Dir, archive: &OsStr) -> Result<()> {
        let name = path(Path::new(archive));
        folder
            .replace(&name, &self.text()?, 0o600)
            .with_context(|| format!("cannot write {}", folder.path().join(name).display()))
    }
}

/// Where the note of an archive is.
pub(super) fn path(archive: &Path) -> PathBuf {
    let mut name = archive.as_os_str().to_owned();
    name.push(SUFFIX);
    PathBuf::from(name)
}

/// The name of the archive that a note belongs to.
pub(super) fn archive_of(name: &str) -> Option<&str> {
    name.strip_suffix(SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sidecar() -> Sidecar {
        Sidecar {
            schema: SCHEMA,
            agent: "bot".to_owned(),
            host: "h".to_owned(),
            run: "abc".to_owned(),
            time: "2026-11-20T09:30:01Z".parse().unwrap(),
            sequence: 3,
            version: "0.1.0".to_owned(),
            files: 4,
            databases: 1,
            content: 99,
            bytes: 300,
            sha256: "ab".repeat(32),
            damaged: Some(1),
            missing: None,
        }
    }

    #[test]
    fn a_note_is_read_back_and_a_missing_or_newer_one_is_said_so() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("20261120_093001.tar.gz.age");
        let missing = format!("{:#}", Sidecar::read(&archive).unwrap_err());
        assert!(missing.contains("20261120_093001.tar.gz.age.json"), "{missing}");
        sidecar().write(&archive).unwrap();
        assert_eq!(Sidecar::read(&archive).unwrap(), sidecar());
        let newer = Sidecar { schema: SCHEMA + 1, ..sidecar() };
        newer.write(&archive).unwrap();
        assert!(format!("{:#}", Sidecar::read(&archive).unwrap_err()).contains("newer"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_note_or_an_error(bytes in any::<Vec<u8>>()) {
            let _ = Sidecar::parse(&bytes);
        }
    }
}
