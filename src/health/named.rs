//! The files that the patterns of a check name.

use super::View;
use crate::base::State;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// How bad, and what.
pub(super) type Trouble = (State, String);

/// The files, and what is wrong with finding them: a plain name that is not there is as bad as
/// `missing` says, what may not be looked at is no alarm, and no all-clear.
pub(super) fn files(
    view: &View,
    patterns: &[String],
    missing: State,
    wanted: impl Fn(&Path, &Metadata) -> bool,
) -> Result<(BTreeSet<PathBuf>, Vec<Trouble>)> {
    let (mut paths, mut bad) = (BTreeSet::new(), Vec::new());
    for pattern in patterns {
        let full = view.loaded.home.path(pattern);
        if !pattern.contains(['*', '?', '[']) {
            match std::fs::metadata(&full) {
                Ok(meta) if meta.is_file() => _ = paths.insert(full),
                Ok(_) => bad.push((State::Critical, format!("{pattern} is not a file"))),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    if missing != State::Ok {
                        bad.push((missing, format!("{pattern} is missing")));
                    }
                }
                // In a folder that is not ours it may well be.
                Err(error) => bad.push((State::Unknown, format!("{pattern} cannot be looked at: {error}"))),
            }
            continue;
        }
        let matches =
            glob::glob(&full.to_string_lossy()).with_context(|| format!("'{pattern}' is no pattern"))?;
        for found in matches {
            match found {
                Ok(path) => {
                    if std::fs::metadata(&path).is_ok_and(|meta| meta.is_file() && wanted(&path, &meta)) {
                        paths.insert(path);
                    }
                }
                Err(error) if error.error().kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    let name = view.loaded.home.show(error.path());
                    bad.push((State::Unknown, format!("{name} cannot be looked at: {}", error.error())));
                }
            }
        }
    }
    Ok((paths, bad))
}

/// The worst of what is bad, and all of it in one line, the worst first.
pub(super) fn sum_up(mut bad: Vec<Trouble>) -> Option<(State, String)> {
    bad.sort_by_key(|(state, _)| std::cmp::Reverse(state.badness(false)));
    let worst = bad.first()?.0;
    Some((worst, bad.into_iter().map(|(_, what)| what).collect::<Vec<_>>().join("; ")))
}
