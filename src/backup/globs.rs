//! The globs of `[backup]`, matched on the bytes of paths.

use super::manifest::Include;
use crate::base::Fault;
use crate::config::{Backup, LOGS};
use anyhow::Result;
use glob::{MatchOptions, Pattern};
use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What stands for a byte that is no text while a glob is matched: characters for private use, which mean
/// nothing of their own.
const BYTES: RangeInclusive<char> = '\u{10ff00}'..='\u{10ffff}';

/// The globs of `[backup]`.
#[derive(Debug)]
pub struct Globs {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    /// What the exclude of logs does not mean.
    streams: Vec<Pattern>,
}

const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

impl Globs {
    /// The globs of a config.
    ///
    /// # Errors
    /// As of [`Globs::new`].
    pub fn of(backup: &Backup) -> Result<Globs> {
        let streams = Globs::new(&backup.streams, &[])?.include;
        Ok(Globs { streams, ..Globs::new(&backup.include, &backup.exclude)? })
    }

    /// Globs of what goes in and of what stays out.
    ///
    /// # Errors
    /// A [`Fault`] of state Unknown that names one that is wrong.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Globs> {
        let compile = |globs: &[String]| {
            let compiled = globs.iter().map(|glob| {
                let glob = glob.trim_start_matches("./").trim_end_matches('/');
                Pattern::new(&text(Path::new(glob))).map_err(|error| {
                    Fault::unknown(format!("the glob '{glob}' in [backup] is wrong: {error}")).into()
                })
            });
            compiled.collect::<Result<Vec<_>>>()
        };
        Ok(Globs { include: compile(include)?, exclude: compile(exclude)?, streams: Vec::new() })
    }

    /// Whether a path is included.
    pub fn takes(&self, path: &Path) -> bool {
        self.include.iter().any(|glob| includes(glob, path))
    }

    /// How many includes there are.
    pub(super) fn count(&self) -> usize {
        self.include.len()
    }

    /// Counts for each include whether it takes this path.
    pub(super) fn note(&self, path: &Path, found: &mut [usize]) {
        for (glob, found) in self.include.iter().zip(found) {
            *found += usize::from(includes(glob, path));
        }
    }

    /// What each include found. One that names a path has to find something, unless it is optional.
    pub(super) fn includes(&self, backup: &Backup, found: &[usize]) -> Result<Vec<Include>> {
        let optional = Globs::new(&backup.optional, &[])?;
        let include = |((pattern, glob), &found): ((&String, &Pattern), &usize)| {
            let path = literal(glob);
            let literal = path.as_os_str() == glob.as_str();
            Include { pattern: pattern.clone(), found, required: literal && !optional.takes(&path) }
        };
        Ok(backup.include.iter().zip(&self.include).zip(found).map(include).collect())
    }

    /// Whether a path, or a folder it is in, is excluded.
    pub(super) fn leaves_out(&self, path: &Path) -> bool {
        let is_stream = || self.streams.iter().any(|glob| matches(glob, path));
        self.exclude.iter().any(|glob| {
            path.ancestors().any(|part| matches(glob, part)) && !(glob.as_str() == LOGS && is_stream())
        })
    }

    /// Whether anything in a folder could be included.
    pub(super) fn reaches_into(&self, folder: &Path) -> bool {
        self.include.iter().any(|glob| {
            let literal = literal(glob);
            literal.starts_with(folder) || folder.starts_with(&literal)
        })
    }

    /// Whether a path is where a glob begins: `memory` of `memory/**`.
    pub(super) fn is_root(&self, path: &Path) -> bool {
        self.include.iter().any(|glob| literal(glob).starts_with(path))
    }
}

/// Whether a glob takes in a path: it matches, or the path is below a folder that it names without
/// wildcards.
pub(super) fn includes(glob: &Pattern, path: &Path) -> bool {
    matches(glob, path) || (literal(glob).as_os_str() == glob.as_str() && path.starts_with(glob.as_str()))
}

fn matches(glob: &Pattern, path: &Path) -> bool {
    glob.matches_with(&text(path), OPTIONS)
}

/// A path as text, different ones differently: a byte that is no text is one of [`BYTES`], and so is each
/// byte of those characters themselves.
pub(super) fn text(path: &Path) -> Cow<'_, str> {
    let path = path.as_os_str();
    if let Some(text) = path.to_str().filter(|text| !text.contains(|c| BYTES.contains(&c))) {
        return Cow::Borrowed(text);
    }
    let byte = |byte: u8| char::from_u32(u32::from(*BYTES.start()) + u32::from(byte)).unwrap_or_default();
    let mut text = String::new();
    for chunk in path.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if BYTES.contains(&c) {
                text.extend(c.encode_utf8(&mut [0; 4]).bytes().map(byte));
            } else {
                text.push(c);
            }
        }
        text.extend(chunk.invalid().iter().copied().map(byte));
    }
    Cow::Owned(text)
}

/// The part of a glob before the first wildcard.
pub(super) fn literal(glob: &Pattern) -> PathBuf {
    let parts = Path::new(glob.as_str()).iter();
    parts.take_while(|part| !part.to_string_lossy().contains(['*', '?', '['])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(include: &[&str], exclude: &[&str]) -> Globs {
        let owned = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect::<Vec<_>>();
        Globs::new(&owned(include), &owned(exclude)).unwrap()
    }

    #[test]
    fn globs_read_as_people_mean_them() {
        let g =
            globs(&["memory/**", "config", "*.json", "data/*/keep.txt"], &["**/__pycache__/**", "**/*.tmp"]);
        for inside in
            ["memory/a", "memory/a/b.db", "memory/.hidden/x", "config/x/y", "a.json", "data/x/keep.txt"]
        {
            assert!(g.takes(Path::new(inside)) && !g.leaves_out(Path::new(inside)), "{inside}");
        }
        for outside in ["memoryx/a", "other", "sub/a.json", "data/x/y/keep.txt"] {
            assert!(!g.takes(Path::new(outside)), "{outside}");
        }
        for out in ["memory/__pycache__/x", "memory/a/__pycache__/b/c", "memory/x.tmp"] {
            assert!(g.leaves_out(Path::new(out)), "{out}");
        }
        assert!(g.reaches_into(Path::new("data")) && g.reaches_into(Path::new("data/x")));
        assert!(globs(&["**"], &[]).takes(Path::new("any/where")));
        assert!(!globs(&["memory/**"], &[]).reaches_into(Path::new("node_modules")));
    }

    #[test]
    fn a_wrong_glob_is_named() {
        let error = Globs::new(&["a***b".to_owned()], &[]).err().unwrap();
        assert!(error.to_string().contains("'a***b'"), "{error}");
    }

    #[test]
    fn names_that_are_no_text_are_matched_by_their_bytes() {
        use std::ffi::OsStr;
        let path = |bytes: &'static [u8]| Path::new(OsStr::from_bytes(bytes));
        let g = globs(&["m/?", "n/*.db", "o\u{fffd}"], &["**/x\u{10ff41}"]);
        assert!(g.takes(path(b"m/\xff")) && !g.takes(path(b"m/\xff\xff")) && g.takes(path(b"n/\xc0\xff.db")));
        assert!(!g.takes(path(b"o\xff")) && g.takes(Path::new("o\u{fffd}")));
        assert!(g.leaves_out(Path::new("a/x\u{10ff41}")) && !g.leaves_out(Path::new("a/xA")));
        assert_ne!(text(path(b"\xff")), text(path(b"\xfe")));
        assert_ne!(text(path(b"\xff")), text(Path::new("\u{10ffff}")));
    }
}
