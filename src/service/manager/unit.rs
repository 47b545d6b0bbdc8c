//! The files in which managers find a service: the templates of `systemd/` and `launchd/`, filled in.

use super::{Definition, asked};
use crate::base::launchd::escaped;
use crate::base::manager::Manager;
use crate::base::systemd::{appending, command_line, folder_path, quoted};
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
    /// Where systemd leaves word that it was asked to stop the service.
    pub(super) word: PathBuf,
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
            word: asked::path(services.home, name),
            path: base::manager::search_path(),
            user: user.map(str::to_owned),
        };
        let unit = match manager {
            Manager::Systemd => format!("agent-ops-{}-{name}.service", parts.agent),
            Manager::Launchd => format!("org.agent-ops.{}.{name}", parts.agent),
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
        let home = services.home.root().to_owned();
        Ok(Definition { home, manager, system, unit, path, text })
    }
}

impl Parts<'_> {
    /// How the service is run.
    fn command(&self) -> Result<Vec<&str>, String> {
        let mut words = vec![text::line_path(&self.ops)?, "run", "--exec", self.name];
        if self.config != self.home.join("ops.toml") {
            words.extend(["--config", text::line_path(self.config)?]);
        }
        words.extend(["--home", text::line_path(self.home)?]);
        Ok(words)
    }

    /// The unit for systemd.
    pub(super) fn systemd(&self, unit: &str, system: bool) -> Result<String, String> {
        let logs = [text::line_path(&self.output[0])?, text::line_path(&self.output[1])?];
        let (command, output) = appending(system, &self.command()?, logs);
        let codes: Vec<String> = self.service.success_exit.iter().map(u8::to_string).collect();
        let hardening = match (self.service.harden, system) {
            (false, _) => String::new(),
            (true, false) => HARDENING.trim_end().to_owned(),
            (true, true) => format!("{HARDENING}{}", HARDENING_SYSTEM.trim_end()),
        };
        let parts = [
            ("{agent}", self.agent),
            ("{service}", self.name),
            ("{config}", text::line_path(self.config)?),
            ("{unit}", unit),
            ("{systemctl}", if system { "systemctl" } else { "systemctl --user" }),
            ("{after}", if system { "After=network-online.target\nWants=network-online.target" } else { "" }),
            ("{command}", &command),
            ("{home}", &folder_path(text::line_path(self.home)?)),
            ("{path}", &quoted(&format!("PATH={}", self.path))),
            ("{output}", &output),
            ("{user}", &self.user.as_ref().map(|user| format!("User={user}")).unwrap_or_default()),
            ("{stopping}", &command_line(&["/bin/sh", "-c", asked::LEAVE, text::line_path(&self.word)?])),
            ("{restart}", if self.service.restart == Restart::Always { "always" } else { "on-failure" }),
            ("{success_exit}", &codes.join(" ")),
            ("{grace}", &self.grace().to_string()),
            ("{hardening}", &hardening),
            ("{target}", if system { "multi-user.target" } else { "default.target" }),
        ];
        Ok(text::filled(UNIT, &parts))
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
            ("{home}", &escaped(text::line_path(self.home)?)),
            ("{path}", &escaped(&self.path)),
            ("{stdout}", &escaped(text::line_path(&self.output[0])?)),
            ("{stderr}", &escaped(text::line_path(&self.output[1])?)),
            ("{user}", user.as_deref().unwrap_or_default()),
            ("{keep_alive}", keep_alive),
            ("{grace}", &self.grace().to_string()),
        ];
        Ok(text::filled(PLIST, &parts))
    }

    /// Whole seconds from TERM to KILL; 0 would be never to both managers.
    fn grace(&self) -> u64 {
        self.service.stop_grace.0.as_secs().max(1)
    }
}
