//! Reads the index of an archive of this program alone.

use super::damage::{refuse, unreadable};
use super::limits;
use super::manifest::{MANIFEST, Manifest, SCHEMA};
use super::stream::{MOST_BETWEEN, Tail, members};
use super::unpack::Unpacker;
use crate::base::Fault;
use crate::base::text::one_line;
use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::cell::Cell;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// An index of up to this length is read at once, which is quicker.
const SMALL_INDEX: u64 = 4 << 20;

/// Reads the index alone: quick, and not checked against the content. None: the archive was not
/// made by this program.
///
/// # Errors
/// A [`Fault`] when it was, and is cut or damaged.
pub fn peek(archive: &Path) -> Result<Option<Manifest>> {
    let newer = |schema: u32, version: &str| -> anyhow::Error {
        Fault::unknown(format!(
            "{} was made by agent-ops {}, which writes a newer format (schema {schema}; this program reads up to {SCHEMA})",
            archive.display(),
            one_line(version, 40)
        ))
        .hint("nothing was changed; use that version, or `tar xzf` by hand")
        .into()
    };
    match parse::<Manifest>(archive) {
        Ok(Some(manifest)) if manifest.schema > SCHEMA => Err(newer(manifest.schema, &manifest.version)),
        Ok(manifest) => Ok(manifest),
        Err(error) => match parse::<Writer>(archive) {
            Ok(Some(writer)) if writer.schema > SCHEMA => Err(newer(writer.schema, &writer.version)),
            _ => Err(error),
        },
    }
}

/// Who wrote a manifest: that much any format says.
#[derive(Deserialize)]
struct Writer {
    schema: u32,
    version: String,
}

/// Reads of an index what is wanted of it.
fn parse<T: DeserializeOwned>(archive: &Path) -> Result<Option<T>> {
    let Some((file, mut blocks)) = members(archive)? else { return Ok(None) };
    blocks.retain(|block| block.index);
    if !limits::allow_index(&blocks) {
        return Err(refuse(archive, "its index is longer than any of an archive of its length"));
    }
    let read = || -> Result<T> {
        let between = Cell::new(Some(MOST_BETWEEN));
        let mut tar = tar::Archive::new(Tail::new(Unpacker::new(file, blocks), &between));
        let entry = tar.entries()?.next().context("there is no manifest")??;
        anyhow::ensure!(
            entry.path()?.file_name().is_some_and(|name| name == MANIFEST),
            "the manifest is not where it belongs"
        );
        between.set(None);
        if entry.size() > SMALL_INDEX {
            return Ok(serde_json::from_reader(BufReader::new(entry))?);
        }
        let mut text = Vec::new();
        entry.take(SMALL_INDEX).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    };
    read().map(Some).map_err(|error| match error.downcast::<io::Error>() {
        Ok(error) => unreadable(archive, error),
        Err(error) => refuse(archive, &format!("its index: {error:#}")),
    })
}
