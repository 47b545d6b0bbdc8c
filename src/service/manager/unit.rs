//! The files in which managers find a service: the templates of `systemd/` and `launchd/`, filled in.

use super::{Definition, Manager, launchd, systemd};
use crate::base::launchd::escaped;
use crate::base::systemd::{path, quoted};
use crate::base::{self, Fault, text};
use crate::config::{self, Restart, Service};
use crate::service::Services;
use anyhow::Result;
use std::path::{Path, PathBuf};

const UNIT: &str = include_str!("../../../systemd/agent-ops.service");
const HARDENING: &str = include_str!("../../../systemd/hardening-user.conf");
const HARDENING_SYSTEM: &str = include_str!("../../../systemd/hardening-system.conf");
const PLIST: &str = include_str!("../../../launchd/org.agent-ops.plist");

/// What a definition says.
#[derive(Clone, Debug)]
pub(super) struct Parts<'a> {
    pub(super) agent: &'a str,
    pub(super) name: &'a str,
    pub(super) service: &'a Service,
    pub(super) home: &'a Path,
    pub(super) config: &'a Path,
    pub(super) ops: PathBuf,
    /// Where its output goes: stdout, stderr.
    pub(super) output: [PathBuf; 2],
    /// `PATH`, as whoever installs it has it.
    pub(super) path: String,
    /// Whom it runs as; none: whoever's manager it is.
    pub(super) user: Option<String>,
}

impl Definition {
    /// The definition of a service as the config wants it.
    ///
    /// # Errors
    /// A [`Fault`] of state Unknown when a path cannot stand in one.
    pub(in crate::service) fn of(
        services: &Services<'_>,
        name: &str,
        manager: Manager,
        system: bool,
        user: Option<&str>,
    ) -> Result<Definition> {
        let parts = Parts {
            agent: &services.config.agent.name,
            name,
            service: services.service(name)?,
            home: services.home.root(),
            config: &services.config.file,
            ops: config::program("ops"),
            output: services.output(name),
            path: search_path(&std::env::var("PATH").unwrap_or_default()),
            user: user.map(str::to_owned),
        };
        let unit = match manager {
            Manager::Systemd => systemd::unit(&parts),
            Manager::Launchd => launchd::label(&parts),
        };
        let path = match manager {
            Manager::Systemd => base::systemd::folder(system)?.join(&unit),
            Manager::Launchd => base::launchd::folder(system)?.join(format!("{unit}.plist")),
        };
        let text = match manager {
            Manager::Systemd => parts.systemd(&unit, system),
            Manager::Launchd => parts.launchd(&unit),
        }
        .map_err(|why| Fault::unknown(format!("{name} cannot be given to {}: {why}", manager.name())))?;
        Ok(Definition { manager, system, unit, path, text })
    }
}

/// The folders of `PATH` that mean the same wherever one stands.
fn search_path(path: &str) -> String {
    let folders: Vec<&str> = path.split(':').filter(|folder| folder.starts_with('/')).collect();
    if folders.is_empty() { "/usr/local/bin:/usr/bin:/bin".to_owned() } else { folders.join(":") }
}

impl Parts<'_> {
    /// How the service is run.
    fn command(&self) -> Result<Vec<&str>, String> {
        let mut words = vec![plain(&self.ops)?, "run", "--exec", self.name];
        if self.config != self.home.join("ops.toml") {
            words.extend(["--config", plain(self.config)?]);
        }
        words.extend(["--home", plain(self.home)?]);
        Ok(words)
    }

    /// The unit for systemd.
    pub(super) fn systemd(&self, unit: &str, system: bool) -> Result<String, String> {
        let [ops, _, _, _, options @ ..] = &*self.command()? else { return Err("no command".to_owned()) };
        let options: Vec<String> = options.iter().map(|word| quoted(word)).collect();
        let codes: Vec<String> = self.service.success_exit.iter().map(u8::to_string).collect();
        let hardening = match (self.service.harden, system) {
            (false, _) => String::new(),
            (true, false) => HARDENING.trim_end().to_owned(),
            (true, true) => format!("{HARDENING}{}", HARDENING_SYSTEM.trim_end()),
        };
        let parts = [
            ("{agent}", self.agent),
            ("{service}", self.name),
            ("{config}", plain(self.config)?),
            ("{unit}", unit),
            ("{systemctl}", if system { "systemctl" } else { "systemctl --user" }),
            ("{after}", if system { "After=network-online.target\nWants=network-online.target" } else { "" }),
            ("{ops}", &quoted(ops)),
            ("{options}", &options.join(" ")),
            ("{home}", &path(plain(self.home)?)),
            ("{path}", &quoted(&format!("PATH={}", self.path))),
            ("{stdout}", &path(plain(&self.output[0])?)),
            ("{stderr}", &path(plain(&self.output[1])?)),
            ("{user}", &self.user.as_ref().map(|user| format!("User={user}")).unwrap_or_default()),
            ("{restart}", if self.service.restart == Restart::Always { "always" } else { "on-failure" }),
            ("{success_exit}", &codes.join(" ")),
            ("{grace}", &self.grace().to_string()),
            ("{hardening}", &hardening),
            ("{target}", if system { "multi-user.target" } else { "default.target" }),
        ];
        Ok(filled(UNIT, &parts))
    }

    /// The property list for launchd.
    pub(super) fn launchd(&self, label: &str) -> Result<String, String> {
        let arguments: Vec<String> =
            self.command()?.iter().map(|word| format!("    <string>{}</string>", escaped(word))).collect();
        let user = self
            .user
            .as_ref()
            .map(|user| format!("  <key>UserName</key>\n  <string>{}</string>", escaped(user)));
        let keep_alive = match self.service.restart {
            Restart::Always => "  <true/>",
            Restart::OnFailure => "  <dict>\n    <key>SuccessfulExit</key>\n    <false/>\n  </dict>",
        };
        let parts = [
            ("{unit}", label),
            ("{arguments}", &arguments.join("\n")),
            ("{home}", &escaped(plain(self.home)?)),
            ("{path}", &escaped(&self.path)),
            ("{stdout}", &escaped(plain(&self.output[0])?)),
            ("{stderr}", &escaped(plain(&self.output[1])?)),
            ("{user}", user.as_deref().unwrap_or_default()),
            ("{keep_alive}", keep_alive),
            ("{grace}", &self.grace().to_string()),
        ];
        Ok(filled(PLIST, &parts))
    }

    /// Whole seconds from TERM to KILL; 0 would be never to both managers.
    fn grace(&self) -> u64 {
        self.service.stop_grace.0.as_secs().max(1)
    }
}

/// A template with its places filled in; a line that is left empty is left out.
fn filled(template: &str, parts: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for line in template.lines() {
        let filled = text::fill(line, parts);
        if filled.is_empty() != line.is_empty() {
            continue;
        }
        text.push_str(&filled);
        text.push('\n');
    }
    text
}

/// A path that can stand in a file of lines.
fn plain(path: &Path) -> Result<&str, String> {
    let refused = |why: &str| format!("the path {} {why}", path.display());
    let text = path.to_str().ok_or_else(|| refused("is not UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(refused("holds a control character"));
    }
    if !path.is_absolute() {
        return Err(refused("is not absolute"));
    }
    Ok(text)
}
