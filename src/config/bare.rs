//! What is known of an agent whose config cannot be read: where its home is.

use super::expand;
use super::load::read_trusted;
use super::resolve::{clean, resolve, tilde};
use super::{Agent, Alerts, Backup, BuiltinAgent, Config, Dashboard, Loaded, Logs, Schedule, Upgrade};
use crate::base::Home;
use std::collections::BTreeMap;
use std::path::Path;

/// The home that a file speaks of, as far as it can be told, and the default of everything else: no
/// services, no checks. For looking at what is there all the same.
pub fn bare(file: &Path, home: Option<&Path>) -> Loaded {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    // Of one that others could have written, nothing.
    let source = read_trusted("config", &file, "").unwrap_or_default();
    let agent = |key: &str| {
        let (root, _) = toml::de::DeTable::parse_recoverable(&source);
        let written = root.get_ref().get("agent")?.get_ref().get(key)?.get_ref().as_str()?.to_owned();
        expand::expand(&written, &|name| std::env::var(name).ok()).ok()
    };
    let folder = file.parent().unwrap_or(Path::new("/"));
    let home = match home {
        Some(home) => std::path::absolute(home).unwrap_or_else(|_| home.to_owned()),
        None => folder.join(tilde(Path::new(&agent("home").unwrap_or_default()))),
    };
    let home = Home::new(clean(&home));
    let mut config = Config {
        agent: Agent {
            name: agent("name").unwrap_or(Agent::default().name),
            preset: "none".to_owned(),
            env_file: agent("env_file").map(Into::into),
            ..Agent::default()
        },
        file,
        service: BTreeMap::new(),
        disabled: Vec::new(),
        from_environment: std::collections::BTreeSet::new(),
        check: BTreeMap::new(),
        backup: Backup::default(),
        logs: Logs::default(),
        alerts: Alerts::default(),
        dashboard: Dashboard::default(),
        schedule: Schedule::default(),
        upgrade: Upgrade::default(),
        builtin_agent: BuiltinAgent::default(),
    };
    resolve(&mut config, &home);
    Loaded { config, home }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_of_a_file_with_an_error_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ops.toml");
        for (text, home) in [
            ("[agent]\nhome = \"x\"\n[alerts]\ncoldown = 1\n", "x"),
            ("[agent]\nhome = \"x\"\nname = \n[alerts", "x"),
            ("[agent]\nhome = \"${NOT_SET_ANYWHERE}\"\n", ""),
            ("\u{0}", ""),
        ] {
            std::fs::write(&file, text).unwrap();
            let loaded = bare(&file, None);
            assert_eq!(loaded.home.root(), clean(&dir.path().join(home)), "{text}");
            assert!(loaded.config.service.is_empty() && loaded.config.backup.dir.is_absolute());
        }
        assert_eq!(bare(&file, Some(Path::new("/h"))).home.root(), Path::new("/h"));
    }
}
