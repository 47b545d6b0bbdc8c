//! Is a file what it was said to be? By its SHA-256; one that was not touched is not read again.

use super::{Answer, Metric, View, named};
use crate::base::range::Unit;
use crate::base::text::{self, hex};
use crate::base::{State, lines};
use crate::config::check::{self, Pin};
use anyhow::Result;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What is remembered as.
const HASHES: &str = "hashes";

/// Of each file its stamp and its hash, when it was last read.
type Hashes = BTreeMap<String, (String, String)>;

pub(super) fn look(view: &View, name: &str, options: &Pin) -> Result<Answer> {
    let known = view.recall::<Hashes>(name, HASHES).map(|(_, hashes)| hashes).unwrap_or_default();
    let (mut hashes, mut bad) = (Hashes::new(), Vec::new());
    for (file, check::Sha256(wanted)) in &options.files {
        match hash(&view.loaded.home.path(file), known.get(file)) {
            Ok((stamp, found)) => {
                if found != *wanted {
                    bad.push((State::Critical, format!("{file} was changed: its SHA-256 is {found}")));
                }
                hashes.insert(file.clone(), (stamp, found));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bad.push((State::Critical, format!("{file} is missing")));
            }
            Err(error) => bad.push((State::Unknown, format!("{file} cannot be read: {error}"))),
        }
    }
    let metric = Metric::new("changed", bad.len() as f64, Unit::Count);
    let well = || (State::Ok, format!("{} as pinned", text::count(options.files.len(), "file")));
    let (state, summary) = named::sum_up(bad).unwrap_or_else(well);
    Ok(Answer::new(state, summary).metric(metric).remember(HASHES, &hashes).remedy(
        "if the change was meant, pin the new SHA-256 in ops.toml; else `ops restore --only` brings the file back",
    ))
}

/// The stamp and the hash of a file.
fn hash(path: &Path, known: Option<&(String, String)>) -> io::Result<(String, String)> {
    let mut file = lines::open(path)?;
    let stamp = stamp(&file.metadata()?);
    if let Some((_, hash)) = known.filter(|(then, _)| *then == stamp) {
        return Ok((stamp, hash.clone()));
    }
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((stamp, hex(&hasher.finalize())))
}

/// What changes whenever a file does. The change time cannot be set back by a program.
fn stamp(meta: &Metadata) -> String {
    format!(
        "{}:{}:{}:{}.{:09}:{}.{:09}",
        meta.dev(),
        meta.ino(),
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec()
    )
}
