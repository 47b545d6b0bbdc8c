//! Which agent lives in a folder, by the files that lie there.

use super::preset::Preset;
use anyhow::Result;
use std::path::Path;

/// An agent that was recognised.
#[derive(Clone, Debug)]
pub struct Recognised {
    /// The name of its preset.
    pub preset: String,
    /// The files that it was recognised by, relative to the folder.
    pub by: Vec<String>,
}

/// The agents that live in a folder, as far as presets know them: none, one, or several that look alike.
///
/// # Errors
/// When a preset cannot be read.
pub fn recognise(folder: &Path) -> Result<Vec<Recognised>> {
    let mut found = Vec::new();
    for preset in Preset::all() {
        let there = |files: &Vec<String>| files.iter().all(|file| folder.join(file).exists());
        if let Some(by) = preset.about()?.recognise.into_iter().find(there) {
            found.push(Recognised { preset: preset.name, by });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_agent_is_recognised_and_only_it() {
        for preset in Preset::all() {
            for files in preset.about().unwrap().recognise {
                let home = tempfile::tempdir().unwrap();
                assert!(recognise(home.path()).unwrap().is_empty());
                for file in &files {
                    let path = home.path().join(file);
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(path, "").unwrap();
                }
                let found = recognise(home.path()).unwrap();
                assert_eq!(found.len(), 1, "{files:?}: {found:?}");
                assert_eq!((&found[0].preset, &found[0].by), (&preset.name, &files));
            }
        }
    }
}
