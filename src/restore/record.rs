//! `.ops/restore.json`, and its copy beside old files: written by us, read like anything else in the home.

use super::swap::{ASIDE, Phase, RECORD, Swap};
use crate::backup::manifest::Name;
use crate::backup::places::{Places, is_below, open_home};
use crate::base::beneath::Dir;
use crate::base::own_files::open_own;
use crate::base::step::step;
use crate::base::{Fault, Home, render, text};
use anyhow::{Context, Result};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where a restore lays files ready, relative to the home ([`Home::staging`]).
pub(super) const STAGING: &str = ".ops/restore";
/// The journal of a restore, relative to the home ([`Home::restore_journal`]).
const JOURNAL: &str = ".ops/restore.json";
/// No journal is larger: it has a few hundred bytes for each file.
const LARGEST: u64 = 256 << 20;

impl Swap {
    /// The swap that was cut short in this home, if any.
    ///
    /// # Errors
    /// A [`Fault`] of state Unknown when there is something that no restore of ours has written, or only
    /// part of it. Nothing was changed then.
    pub(super) fn load(home: &Home, places: &Places) -> Result<Option<Swap>> {
        let held = open_own(&places.home, ".ops").and_then(|ops| ops.read_small("restore.json", LARGEST));
        let bytes = match held {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(home, &format!("cannot be read: {error}"))),
        };
        let swap = serde_json::from_slice(&bytes)
            .map_err(|error| wrong(home, &format!("is damaged, or no journal of a restore: {error}")))?;
        let swap = checked(swap, home, places).and_then(|swap| {
            for folder in [&swap.staged.0, &swap.set_aside.0] {
                match open_own(&places.home, folder) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        return Err(format!("names {}, which is not used: {error}", folder.display()));
                    }
                    _ => {}
                }
            }
            Ok(swap)
        });
        swap.map(Some).map_err(|why| wrong(home, &why))
    }

    /// The swap that filled a folder of old files. Torn, forged or gone, it is missed, not needed.
    pub(super) fn of_aside(aside: &Dir, home: &Home, places: &Places) -> Option<Swap> {
        let bytes = aside.read_small(RECORD, LARGEST).ok()?;
        checked(serde_json::from_slice(&bytes).ok()?, home, places).ok()
    }

    /// Writes down how far it is.
    pub(super) fn save(&mut self, places: &Places, phase: Phase) -> Result<()> {
        self.phase = phase;
        let written = places.home.replace(JOURNAL, &self.document()?, 0o600);
        written.with_context(|| format!("cannot write {JOURNAL}"))?;
        step("phase")?;
        Ok(())
    }

    pub(super) fn document(&self) -> Result<Vec<u8>> {
        Ok(render::document(self)?.into_bytes())
    }

    /// Removes the journal.
    pub(super) fn forget(home: &Dir) -> Result<()> {
        match home.remove_file(JOURNAL) {
            // It could not even be begun.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            done => done.with_context(|| format!("cannot remove {JOURNAL}"))?,
        }
        home.open_dir(".ops").and_then(|ops| ops.sync()).context("cannot sync .ops")
    }
}

/// Whether a restore was cut short, as far as a file says.
pub(super) fn is_cut_short(home: &Home) -> Result<bool> {
    match open_home(home)?.metadata(JOURNAL) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        // Whatever is there: reading it tells.
        _ => Ok(true),
    }
}

fn wrong(home: &Home, why: &str) -> anyhow::Error {
    let path = home.restore_journal();
    Fault::unknown(format!("{} {}; nothing was changed", path.display(), text::one_line(why, 500)))
        .hint(format!(
            "no restore of agent-ops left it so: look at it, and at what `restore --aside` lists; then remove it: rm '{}'",
            path.display()
        ))
        .into()
}

/// Takes a journal that names nothing but what a restore of this home may touch.
fn checked(mut swap: Swap, home: &Home, places: &Places) -> Result<Swap, String> {
    swap.staged = Name(own_folder(&swap.staged.0, home)?);
    let aside = own_folder(&swap.set_aside.0, home)?;
    if aside.starts_with(STAGING) || aside == swap.staged.0 {
        return Err(format!("names {} as the folder of old files", aside.display()));
    }
    swap.set_aside = Name(aside);
    for one in &swap.moves {
        for path in std::iter::once(&one.path).chain(&one.belongs_to) {
            if !places.allow(&path.0) || is_ours(&path.0) {
                return Err(format!("names {}, which no restore touches", path.0.display()));
            }
        }
    }
    for folder in swap.folders.iter().chain(&swap.emptied) {
        if !places.allow_folder(&folder.0) || is_ours(&folder.0) {
            return Err(format!("names the folder {}, which no restore touches", folder.0.display()));
        }
    }
    Ok(swap)
}

/// Our own state and the old files: no move is of these.
fn is_ours(path: &Path) -> bool {
    let first = path.iter().next().unwrap_or_default();
    first == ".ops" || first.to_string_lossy().starts_with(ASIDE)
}

/// A folder of files laid ready or of old ones, relative to the home. Earlier versions wrote them absolute.
fn own_folder(path: &Path, home: &Home) -> Result<PathBuf, String> {
    let real = home.root().canonicalize().ok();
    let roots = std::iter::once(home.root()).chain(real.as_deref());
    let below = roots.filter_map(|root| path.strip_prefix(root).ok()).next().unwrap_or(path);
    let laid_ready = below.strip_prefix(STAGING).is_ok_and(|rest| rest.components().count() == 1);
    let old = below.components().count() == 1 && is_ours(below) && !below.starts_with(".ops");
    if is_below(below) && (laid_ready || old) {
        return Ok(below.to_owned());
    }
    Err(format!("names {}, which is no folder of a restore of this home", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::State;
    use serde_json::{Value, json};
    use std::fs;

    /// What a journal says with one thing changed in it.
    fn loaded(change: impl Fn(&mut Value)) -> Result<Option<Swap>> {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("home"));
        fs::create_dir_all(home.ops()).unwrap();
        let mut journal = json!({
            "archive": "backups/a.tar.gz", "run": "r", "at": "2026-01-01T00:00:00Z", "phase": "swapping",
            "staged": ".ops/restore/x", "set_aside": ".pre-restore.20260101_000000", "services": [],
            "moves": [{ "path": "memory/a", "had": true, "place": true, "belongs_to": null }],
            "folders": ["memory"],
        });
        change(&mut journal);
        fs::write(home.restore_journal(), journal.to_string()).unwrap();
        let places = Places::only(open_home(&home).unwrap());
        Swap::load(&home, &places)
    }

    #[test]
    fn a_journal_names_nothing_but_what_a_restore_touches() {
        assert!(loaded(|_| ()).unwrap().is_some());
        for path in
            ["../outside", "/etc", "memory/../../x", "", ".", ".ops/restore/../..", ".ops/locks", "memory"]
        {
            let bad = |key: &'static str| loaded(move |journal| journal[key] = json!(path)).unwrap_err();
            for key in ["staged", "set_aside"] {
                let error = bad(key);
                assert_eq!(Fault::of(&error).0, State::Unknown, "{key} {path}: {error:#}");
                assert!(error.to_string().contains(".ops/restore.json"), "{error:#}");
            }
        }
        for path in ["../outside", "/etc/passwd", "memory/../../x", "", ".ops/ops.db", ".pre-restore.x/a"] {
            loaded(|journal| journal["moves"][0]["path"] = json!(path)).unwrap_err();
            loaded(|journal| journal["moves"][0]["belongs_to"] = json!(path)).unwrap_err();
            loaded(|journal| journal["folders"][0] = json!(path)).unwrap_err();
            loaded(|journal| journal["emptied"] = json!([path])).unwrap_err();
        }
        loaded(|journal| journal["set_aside"] = json!(".ops/restore/y")).unwrap_err();
        loaded(|journal| *journal = json!("torn")).unwrap_err();
    }
}
