//! Which agent lives in a folder, by the files that lie there.

use super::preset::Preset;
use anyhow::Result;
use std::path::Path;

/// An agent that was recognised.
#[derive(Clone, Debug)]
pub struct Recognised {
    /// The name of its preset.
    pub preset: String,
    /// The files that it was recognised by, relative to the folder, or its name as well.
    pub by: Vec<String>,
}

/// The agents that live in a folder, as far as presets know them: none, one, or several that look alike.
///
/// # Errors
/// When a preset cannot be read.
pub fn recognise(folder: &Path) -> Result<Vec<Recognised>> {
    let mut found = Vec::new();
    let place = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    for preset in Preset::all() {
        let there = |files: &Vec<String>| files.iter().all(|file| folder.join(file).exists());
        let about = preset.about()?;
        let by_name = about.named.into_iter().find(|named| {
            place.file_name().is_some_and(|name| *name == *named.folder) && folder.join(&named.file).exists()
        });
        let by_name = by_name.map(|named| vec!["its name".to_owned(), named.file]);
        if let Some(by) = about.recognise.into_iter().find(there).or(by_name) {
            found.push(Recognised { preset: preset.name, by });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_with_a_config_alone_is_known_by_its_name() {
        let user = tempfile::tempdir().unwrap();
        for (name, file, preset) in [
            (".gomikrobot", "config.json", Some("gomikrobot")),
            (".mama", "config.yaml", Some("mama")),
            ("x", "config.json", None),
        ] {
            let home = user.path().join(name);
            std::fs::create_dir(&home).unwrap();
            assert!(recognise(&home).unwrap().is_empty(), "a name alone is none");
            std::fs::write(home.join(file), "").unwrap();
            let found = recognise(&home).unwrap();
            assert_eq!(found.first().map(|found| found.preset.as_str()), preset, "{found:?}");
        }
    }

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
