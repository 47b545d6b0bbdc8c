//! Where things are: `ops.toml`, and our own programs.

use super::resolve::user_home;
use crate::base::{Fault, trust};
use anyhow::Result;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where a config is looked for, in order: `--config`, `OPS_CONFIG`, `<home>/ops.toml`,
/// `./ops.toml`, the XDG config folder, `~/.agent-ops/ops.toml`. With a home given
/// (`--home`, `OPS_HOME`) nothing below it is looked at. That of the current folder counts only if it is
/// ours and nobody else could have put it there.
///
/// # Errors
/// A [`Fault`] of state Unknown that lists the places, when there is none.
pub fn find(config: Option<&Path>, home: Option<&Path>) -> Result<PathBuf> {
    if let Some(file) = config {
        return Ok(file.to_owned());
    }
    let mut not_used = None;
    let places: Vec<PathBuf> = match home {
        Some(home) => vec![home.join("ops.toml")],
        None => {
            let user = user_home();
            let xdg = std::env::var_os("XDG_CONFIG_HOME")
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
                .or_else(|| user.as_ref().map(|user| user.join(".config")));
            [
                in_current_folder(&mut not_used),
                xdg.map(|folder| folder.join("agent-ops/ops.toml")),
                user.map(|user| user.join(".agent-ops/ops.toml")),
            ]
            .into_iter()
            .flatten()
            .collect()
        }
    };
    if let Some(found) = places.iter().find(|place| place.exists()) {
        return Ok(found.clone());
    }
    let looked = places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ");
    let not_used = not_used.map_or(String::new(), |why: String| format!("; {why}"));
    Err(Fault::unknown(format!("there is no config: looked for {looked}{not_used}"))
        .hint("`ops up` makes one and starts the built-in agent; `ops init` only writes it; --config names another")
        .into())
}

/// `./ops.toml`, unless there is one that others may have put there: then why.
fn in_current_folder(not_used: &mut Option<String>) -> Option<PathBuf> {
    let file = PathBuf::from("ops.toml");
    let Ok(meta) = file.metadata() else { return Some(file) };
    let us = rustix::process::geteuid().as_raw();
    let why = match meta.uid() == us {
        true => trust::check("config", &file).err().map(|error| format!("{error:#}")),
        false => Some(format!(
            "./ops.toml belongs to user {}, and you are user {us}: name it by --config",
            meta.uid()
        )),
    };
    *not_used = why;
    not_used.is_none().then_some(file)
}

/// One of our own programs: the file beside the one that runs.
pub fn program(name: &str) -> PathBuf {
    let me = std::env::current_exe().unwrap_or_default();
    me.parent().unwrap_or(Path::new("")).join(name)
}
