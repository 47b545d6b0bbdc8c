//! The globs of `[backup]`: below the home, or absolute; and those that can never match.

use super::Config;
use super::resolve::{clean, tilde};
use glob::{MatchOptions, Pattern};
use std::path::{Component, Path, PathBuf};

/// A glob as it is matched: `~` filled in, and relative where it names what is in the home.
pub(super) fn resolve(glob: &str, home: &Path) -> String {
    if !glob.starts_with('/') && !glob.starts_with('~') {
        return glob.to_owned();
    }
    let absolute = clean(&tilde(Path::new(glob)));
    let below = absolute.strip_prefix(home).ok().filter(|below| below.file_name().is_some());
    below.unwrap_or(&absolute).to_string_lossy().into_owned()
}

/// What is wrong with the includes: the first that cannot match anything, whatever there is.
pub(super) fn wrong(config: &Config) -> Result<(), String> {
    for glob in &config.backup.include {
        never(config, glob).map_err(|why| format!("the include '{glob}' can never match: {why}"))?;
    }
    Ok(())
}

fn never(config: &Config, glob: &str) -> Result<(), String> {
    let path = Path::new(glob.trim_start_matches("./").trim_end_matches('/'));
    if path.as_os_str().is_empty() {
        return Err("it is empty".to_owned());
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err("it has '..'; name what is outside the home by an absolute path".to_owned());
    }
    if path.starts_with("~") && !config.backup.optional.iter().any(|optional| optional == glob) {
        return Err("there is no home folder of a user to put in for '~'".to_owned());
    }
    let literal: PathBuf =
        path.iter().take_while(|part| !part.to_string_lossy().contains(['*', '?', '['])).collect();
    let (home, dir) = (&config.agent.home, &config.backup.dir);
    for system in ["/proc", "/sys", "/dev"] {
        if literal.starts_with(system) {
            return Err(format!("{system} is no place of files"));
        }
    }
    let absolute = home.join(&literal);
    if absolute.starts_with(dir) && dir != home {
        return Err("the archives are there, which never go in".to_owned());
    }
    if absolute.starts_with(home.join(".ops")) {
        return Err("our own state is there, which never goes in".to_owned());
    }
    if path.is_absolute() && absolute.starts_with(home) {
        return Err("name what is in the home by a relative path".to_owned());
    }
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
    // Where all of a folder is excluded, so is a file that nobody thought of.
    let inside = if literal == path { literal.clone() } else { literal.join("\u{1}agent-ops\u{1}") };
    for exclude in &config.backup.exclude {
        let Ok(pattern) = Pattern::new(exclude.trim_start_matches("./").trim_end_matches('/')) else {
            continue;
        };
        if inside.ancestors().any(|part| pattern.matches_with(&part.to_string_lossy(), options)) {
            return Err(format!("exclude has all of it, by '{exclude}'"));
        }
    }
    Ok(())
}
