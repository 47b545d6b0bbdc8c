//! The format of the state in `.ops`, as one number: `.ops/format`.
//!
//! It covers the journal, the notes, the records of services and what a restore or a rotation has begun.
//! Each run compares it before it reads any of them, so that an older program never works on state it
//! would misread, and a newer one knows what it takes over.

use super::{Fault, Home, journal};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The format that this program writes, and the newest it reads. Raise it with every change of a file
/// in `.ops` that an older program would misread.
///
/// 1: before there was a mark. 2: soundness of archives in the journal.
pub const CURRENT: u32 = 2;

/// What `.ops/format` says.
#[derive(Serialize, Deserialize)]
struct Mark {
    format: u32,
    /// The version of agent-ops that wrote it.
    version: String,
}

/// Refuses a home whose state others could have written, or whose state or journal a newer agent-ops has
/// written. Writes nothing.
///
/// # Errors
/// A [`Fault`] of state Unknown when it has.
pub fn check(home: &Home) -> Result<()> {
    home.check_state()?;
    read(home)?;
    journal::check_version(home)
}

/// Marks the state of a home as being of this format, unless it is already.
///
/// # Errors
/// As of [`check`], and when the mark cannot be written.
pub fn mark(home: &Home) -> Result<()> {
    if read(home)? == Some(CURRENT) {
        return Ok(());
    }
    let mark = Mark { format: CURRENT, version: env!("CARGO_PKG_VERSION").to_owned() };
    let mut text = serde_json::to_vec(&mark)?;
    text.push(b'\n');
    home.replace(&home.format(), &text, 0o600)
}

/// The format of a home's state. None: it is not marked, or the mark says nothing; who may not read the mark
/// may not read the state either.
fn read(home: &Home) -> Result<Option<u32>> {
    let path = home.format();
    let mark = home.read(&path).ok().and_then(|text| serde_json::from_slice::<Mark>(&text).ok());
    match mark {
        Some(mark) if mark.format > CURRENT => Err(newer(&path, mark.format, CURRENT).into()),
        mark => Ok(mark.map(|mark| mark.format)),
    }
}

/// The error of a file that a newer agent-ops has written.
pub fn newer(path: &Path, found: impl Into<i64>, known: impl Into<i64>) -> Fault {
    Fault::unknown(format!(
        "{} is of format {}, written by a newer agent-ops; this one ({}) knows up to {}. Nothing was changed",
        path.display(),
        found.into(),
        env!("CARGO_PKG_VERSION"),
        known.into()
    ))
    .hint("install the newer version again; docs/upgrading.md says how to go back to an older one")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::State;
    use std::fs;

    #[test]
    fn a_newer_mark_is_refused_and_an_older_one_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().to_owned());
        check(&home).unwrap();
        fs::create_dir(home.ops()).unwrap();
        mark(&home).unwrap();
        assert_eq!(read(&home).unwrap(), Some(CURRENT));
        fs::write(home.format(), r#"{"format":1,"version":"0.0.1"}"#).unwrap();
        mark(&home).unwrap();
        assert_eq!(read(&home).unwrap(), Some(CURRENT));
        let newer = r#"{"format":99,"version":"9"}"#;
        fs::write(home.format(), newer).unwrap();
        let error = mark(&home).unwrap_err();
        assert!(error.to_string().contains("newer agent-ops"), "{error}");
        assert_eq!(Fault::of(&error).0, State::Unknown);
        assert_eq!(fs::read_to_string(home.format()).unwrap(), newer);
        // A forged or damaged one keeps nobody from working.
        fs::write(home.format(), "{").unwrap();
        check(&home).unwrap();
        mark(&home).unwrap();
        assert_eq!(read(&home).unwrap(), Some(CURRENT));
    }
}
