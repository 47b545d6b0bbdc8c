//! Where things are: `ops.toml`, and our own programs.

use super::resolve::user_home;
use crate::base::Fault;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Where a config is looked for, in order: `--config`, `OPS_CONFIG`, `<home>/ops.toml`,
/// `./ops.toml`, the XDG config folder, `~/.agent-ops/ops.toml`. With a home given
/// (`--home`, `OPS_HOME`) nothing below it is looked at.
///
/// # Errors
/// A [`Fault`] of state Unknown that lists the places, when there is none.
pub fn find(config: Option<&Path>, home: Option<&Path>) -> Result<PathBuf> {
    if let Some(file) = config {
        return Ok(file.to_owned());
    }
    let places: Vec<PathBuf> = match home {
        Some(home) => vec![home.join("ops.toml")],
        None => {
            let user = user_home();
            let xdg = std::env::var_os("XDG_CONFIG_HOME")
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
                .or_else(|| user.as_ref().map(|user| user.join(".config")));
            [
                Some(PathBuf::from("ops.toml")),
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
    Err(Fault::unknown(format!("there is no config: looked for {looked}"))
        .hint("`ops up` makes one and starts the built-in agent; `ops init` only writes it; --config names another")
        .into())
}

/// One of our own programs: the file beside the one that runs.
pub fn program(name: &str) -> PathBuf {
    let me = std::env::current_exe().unwrap_or_default();
    me.parent().unwrap_or(Path::new("")).join(name)
}
