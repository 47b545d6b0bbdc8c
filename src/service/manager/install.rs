//! Writing definitions, bringing them up to date, and taking them away again: exactly what was
//! written, and nothing that somebody else wrote.

use super::edits::edits;
use super::{Definition, asked, record};
use crate::base::beneath::{Dir, Entry, SMALL, read_small_file};
use crate::base::manager::Manager;
use crate::base::own_files::is_missing;
use crate::base::privilege::as_manager;
use crate::base::{self, Fault, Home, durable, launchd, systemd};
use crate::service::Services;
use crate::service::record::Record;
use anyhow::{Context, Result};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What became of a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// There was none.
    Written,
    /// There was another.
    Updated,
    /// It was right already.
    Unchanged,
}

/// What an installation did, or would do, for one service.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The definition.
    pub definition: Definition,
    /// What became of it.
    pub change: Change,
    /// Where settings went on that its owner had changed in it, and these.
    pub kept: Option<(PathBuf, String)>,
    /// Settings that its owner had taken out of it, and that are in it again.
    pub again: Vec<String>,
}

/// What an uninstallation did, or would do, for one service.
#[derive(Clone, Debug, Serialize)]
pub struct Removal {
    /// The service.
    pub service: String,
    /// The file that was taken away.
    #[serde(serialize_with = "crate::base::name::path::serialize")]
    pub path: PathBuf,
    /// Where it is kept, because its owner had changed it.
    #[serde(serialize_with = "crate::base::name::maybe_path::serialize")]
    pub kept: Option<PathBuf>,
}

/// Writes the definition of one service, and has it started from the next boot on, or not, or (where
/// `enabled` is none) as it was. A dry run only tells what it would do.
pub(in crate::service) fn install(
    services: &Services<'_>,
    name: &str,
    definition: Definition,
    enabled: Option<bool>,
    dry: bool,
) -> Result<Installation> {
    let path = &definition.path;
    // A note that is damaged says nothing: the file itself is looked at.
    let before = Definition::noted(services.home, name).ok().flatten();
    if let Some(before) = before.as_ref().filter(|before| before.path != *path && before.path.exists()) {
        let message = format!("{name} is with {} already: {}", before.manager(), before.path.display());
        return Err(Fault::unknown(message).hint("`ops uninstall` first").into());
    }
    let found = match read_small_file(path, SMALL) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        read => {
            let reading = || format!("cannot read {}", path.display());
            Some(String::from_utf8(read.with_context(reading)?).with_context(reading)?)
        }
    };
    let mut installation =
        Installation { change: Change::Updated, kept: None, again: Vec::new(), definition };
    let definition = &installation.definition;
    match &found {
        None => installation.change = Change::Written,
        Some(found) if *found == definition.text => installation.change = Change::Unchanged,
        Some(found) if before.as_ref().is_some_and(|before| before.text == *found) => {}
        Some(found) => {
            let written = before.as_ref().map(|before| before.text.as_str());
            let (kept, again) = edited(definition, services.home, written, found)?;
            installation.again = again;
            installation.kept = (!kept.is_empty()).then(|| (dropin(&definition.path), kept));
        }
    }
    if dry {
        return Ok(installation);
    }
    let definition = &installation.definition;
    as_manager(definition.system, || write(&installation)).with_context(|| advice(definition.system))?;
    definition.note(services.home, name)?;
    // The manager opens them before the service is there.
    services.home.make_folder(&services.home.logs())?;
    if definition.manager == Manager::Systemd {
        base::systemd::reload(definition.system)?;
    }
    match (definition.manager, enabled) {
        (_, None) => {}
        (Manager::Systemd, Some(enabled)) => {
            base::systemd::enable(definition.system, &definition.unit, enabled)?;
        }
        (Manager::Launchd, Some(enabled)) => {
            base::launchd::enable(definition.system, &definition.unit, enabled)?;
        }
    }
    Ok(installation)
}

/// Writes a definition, and what goes on of the one before.
fn write(installation: &Installation) -> Result<()> {
    if let Some((path, settings)) = &installation.kept {
        durable::make_folder(durable::parent(path), 0o755)?;
        let earlier = read_small_file(path, SMALL).unwrap_or_default();
        let earlier = String::from_utf8_lossy(&earlier);
        durable::replace(path, format!("{earlier}{settings}").as_bytes(), 0o644)?;
    }
    let Definition { path, text, .. } = &installation.definition;
    if installation.change != Change::Unchanged {
        durable::make_folder(durable::parent(path), 0o755)?;
        durable::replace(path, text.as_bytes(), 0o644)?;
    }
    Ok(())
}

fn advice(system: bool) -> &'static str {
    if system {
        "definitions of the system are root's to write: try sudo"
    } else {
        "cannot write the definition"
    }
}

/// What its owner changed in a definition since it was `written`.
fn edited(
    definition: &Definition,
    home: &Home,
    written: Option<&str>,
    found: &str,
) -> Result<(String, Vec<String>)> {
    let file = definition.path.display();
    // A whole line: the name of another home may begin alike.
    let line = match definition.manager {
        Manager::Systemd => {
            format!("WorkingDirectory={}", systemd::folder_path(&home.root().to_string_lossy()))
        }
        Manager::Launchd => format!("<string>{}</string>", launchd::escaped(&home.root().to_string_lossy())),
    };
    let of_this_home = found.contains("`ops install`") && found.lines().any(|other| other.trim() == line);
    if written.is_none() && !of_this_home {
        return Err(Fault::unknown(format!("{file} is there already, and is not of this home"))
            .hint("another agent of this name? Give this one another: [agent] name")
            .into());
    }
    match definition.manager {
        Manager::Systemd => Ok(edits(written.unwrap_or(&definition.text), found)),
        // launchd reads no drop-ins.
        Manager::Launchd => Err(Fault::unknown(format!("{file} was changed since it was installed"))
            .hint("launchd has no place for changes of one's own: move the file aside, and install again")
            .into()),
    }
}

fn dropin(unit: &Path) -> PathBuf {
    let mut folder = unit.as_os_str().to_owned();
    folder.push(".d");
    PathBuf::from(folder).join("edited.conf")
}

/// The names of services that were installed, whether the config still has them or not.
pub(in crate::service) fn installed_services(home: &Home) -> Result<Vec<String>> {
    let folder = home.ops().join("service");
    let entries = match home.place(&folder).and_then(|(dir, rel)| dir.entries(rel)) {
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot read {}", folder.display()))?,
    };
    let name = |entry: Entry| Some(entry.name.to_str()?.strip_suffix(".installed")?.to_owned());
    let mut names: Vec<String> = entries.flatten().filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// A service that a manager has, and the config has not.
#[derive(Clone, Debug)]
pub struct Unconfigured {
    /// Its name.
    pub service: String,
    /// What its manager has of it.
    pub definition: Definition,
    /// The config has it still, with `enabled = false`.
    pub disabled: bool,
}

impl Unconfigured {
    /// Why it is one, as a clause.
    pub fn why(&self) -> &'static str {
        if self.disabled { "it is not enabled in ops.toml" } else { "it is not in ops.toml any more" }
    }
}

/// The services that a manager has, and the config has not.
pub(in crate::service) fn unconfigured(services: &Services<'_>) -> Result<Vec<Unconfigured>> {
    let mut found = Vec::new();
    for service in installed_services(services.home)? {
        if services.config.service.contains_key(&service) {
            continue;
        }
        let disabled = services.config.disabled.contains(&service);
        let definition = Definition::noted(services.home, &service)?;
        found.extend(definition.map(|definition| Unconfigured { service, definition, disabled }));
    }
    Ok(found)
}

/// Takes the definition of one service away, and ends what the manager runs by it.
pub(in crate::service) fn uninstall(
    services: &Services<'_>,
    name: &str,
    dry: bool,
) -> Result<Option<Removal>> {
    let Some(definition) = Definition::noted(services.home, name)? else { return Ok(None) };
    let mut removal = Removal { service: name.to_owned(), path: definition.path.clone(), kept: None };
    let there = definition.path.symlink_metadata().is_ok();
    // Of a link only the link goes: what it leads to is not the definition's.
    let found = Dir::open(durable::parent(&definition.path))
        .and_then(|folder| folder.read_small(definition.path.file_name().unwrap_or_default(), SMALL));
    let found = found.ok().filter(|found| *found != definition.text.as_bytes());
    if found.is_some() {
        let file = definition.path.file_name().unwrap_or_default();
        removal.kept = Some(record(services.home, name).with_file_name(file));
    }
    if dry {
        return Ok(Some(removal));
    }
    if there {
        // What goes on without it afterwards did not crash.
        Record { ended: true, ..Record::read(services.home, name) }.write(services.home, name)?;
        // launchd remembers what is disabled by name, long after the file is gone.
        definition.stop(definition.manager == Manager::Systemd)?;
        if let (Some(kept), Some(found)) = (&removal.kept, &found) {
            services.home.replace(kept, found, 0o600)?;
        }
        as_manager(definition.system, || durable::remove(&definition.path))?;
        if definition.manager == Manager::Systemd {
            base::systemd::reload(definition.system)?;
        }
    }
    asked::forget(services.home, name);
    let record = record(services.home, name);
    services.home.remove(&record)?;
    Ok(Some(removal))
}
