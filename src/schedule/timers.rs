//! The jobs as timers of systemd or calendar jobs of launchd, where cron is not wanted: written, kept
//! up to date, taken away.

use super::calendar::{intervals, on_calendar};
use super::job::Job;
use crate::base::beneath::{SMALL, read_small_file};
use crate::base::launchd::escaped;
use crate::base::manager::Manager;
use crate::base::privilege::{self, as_manager};
use crate::base::systemd::quoted;
use crate::base::{Fault, Home, durable, launchd, systemd, text};
use crate::config::Loaded;
use crate::config::when::{When, parse};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const SERVICE: &str = include_str!("../../systemd/agent-ops-job.service");
const TIMER: &str = include_str!("../../systemd/agent-ops-job.timer");
const PLIST: &str = include_str!("../../launchd/org.agent-ops-job.plist");

/// The files of all jobs, as they were written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timers {
    /// The home they were written for.
    #[serde(with = "crate::base::name::path")]
    pub home: PathBuf,
    /// Whose they are.
    pub manager: Manager,
    /// The system's manager, or else the user's own.
    pub system: bool,
    /// The files.
    pub files: Vec<TimerFile>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimerFile {
    /// What the manager is told to start at the time; empty: another file of the same job is.
    pub unit: String,
    /// Where it is.
    #[serde(with = "crate::base::name::path")]
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

/// Who runs the jobs as what, from where.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The program `ops`.
    pub ops: &'a Path,
    /// The name of this host.
    pub host: &'a str,
    /// `PATH` of the jobs.
    pub path: &'a str,
    /// Whom they run as; none: whoever's manager it is.
    pub user: Option<&'a str>,
}

/// The files for the jobs of an agent, at the times of `[schedule]`.
///
/// # Errors
/// A [`Fault`] of state Unknown for times and paths that cannot stand in them.
pub fn timers(loaded: &Loaded, manager: Manager, system: bool, scene: &Scene<'_>) -> Result<Timers> {
    let mut files = Vec::new();
    let folder = match manager {
        Manager::Systemd => systemd::folder(system)?,
        Manager::Launchd => launchd::folder(system)?,
    };
    for job in Job::ALL {
        let when = job.when(&loaded.config.schedule);
        let Ok(Some(due)) = parse(when) else { continue };
        let writer = Writer { loaded, job, when, due, scene };
        let written = match manager {
            Manager::Systemd => writer.systemd(system, &folder),
            Manager::Launchd => writer.launchd(&folder),
        };
        files.extend(written.map_err(|why| {
            Fault::unknown(format!("the job {} cannot be given to {}: {why}", job.key(), manager.name()))
        })?);
    }
    Ok(Timers { home: loaded.home.root().to_owned(), manager, system, files })
}

/// One job on its way into files.
struct Writer<'a> {
    loaded: &'a Loaded,
    job: Job,
    when: &'a str,
    due: When,
    scene: &'a Scene<'a>,
}

impl Writer<'_> {
    fn name(&self) -> String {
        self.job.key().replace('_', "-")
    }

    /// What follows the job's own words.
    fn options(&self) -> Result<Vec<&str>, String> {
        let (home, config) = (self.loaded.home.root(), &self.loaded.config.file);
        let mut words = vec!["--quiet"];
        if *config != home.join("ops.toml") {
            words.extend(["--config", text::line_path(config)?]);
        }
        words.extend(["--home", text::line_path(home)?]);
        Ok(words)
    }

    fn systemd(&self, system: bool, folder: &Path) -> Result<Vec<TimerFile>, String> {
        let stem = format!("agent-ops-{}--{}", self.loaded.config.agent.name, self.name());
        let due = match &self.due {
            When::Boot => "OnStartupSec=5s".to_owned(),
            When::Times(times) => on_calendar(times)
                .iter()
                .map(|line| format!("OnCalendar={line}"))
                .collect::<Vec<_>>()
                .join("\n"),
        };
        let jitter = match (self.job, self.loaded.config.schedule.jitter.0.as_secs()) {
            (Job::Dashboard, _) | (_, 0) => String::new(),
            (_, seconds) => format!("RandomizedDelaySec={seconds}s\nFixedRandomDelay=yes"),
        };
        let log = self.loaded.home.log("cron");
        let log = text::line_path(&log)?;
        let words = [&[text::line_path(self.scene.ops)?], self.job.words(), &*self.options()?].concat();
        let (command, output) = systemd::appending(system, &words, [log, log]);
        let parts = [
            ("{agent}", &*self.loaded.config.agent.name),
            ("{job}", &*self.name()),
            ("{when}", self.when),
            ("{due}", &*due),
            ("{jitter}", &*jitter),
            ("{command}", &*command),
            ("{output}", &*output),
            ("{path}", &*quoted(&format!("PATH={}", self.scene.path))),
            ("{user}", &*self.scene.user.map(|user| format!("User={user}")).unwrap_or_default()),
        ];
        let file = |kind: &str, unit: &str, template| TimerFile {
            unit: unit.to_owned(),
            path: folder.join(format!("{stem}.{kind}")),
            text: text::filled(template, &parts),
        };
        Ok(vec![file("service", "", SERVICE), file("timer", &format!("{stem}.timer"), TIMER)])
    }

    fn launchd(&self, folder: &Path) -> Result<Vec<TimerFile>, String> {
        let label = format!("org.agent-ops.{}--{}", self.loaded.config.agent.name, self.name());
        let dictionary = |interval: &super::calendar::Interval| {
            let keys: Vec<String> = interval
                .iter()
                .map(|(key, value)| format!("<key>{key}</key><integer>{value}</integer>"))
                .collect();
            format!("    <dict>{}</dict>\n", keys.concat())
        };
        let due = match &self.due {
            When::Boot => "  <key>RunAtLoad</key>\n  <true/>".to_owned(),
            When::Times(times) => format!(
                "  <key>StartCalendarInterval</key>\n  <array>\n{}  </array>",
                intervals(times)?.iter().map(dictionary).collect::<String>()
            ),
        };
        let home = self.loaded.home.root();
        let delay = self.job.delay(&self.loaded.config.schedule, self.scene.host, home);
        let script = format!("sleep {delay}; exec \"$0\" \"$@\"");
        let mut words = if delay > 0 { vec!["/bin/sh", "-c", &script] } else { Vec::new() };
        words.push(text::line_path(self.scene.ops)?);
        words.extend(self.job.words());
        words.extend(self.options()?);
        let words: Vec<_> =
            words.iter().map(|word| format!("    <string>{}</string>", escaped(word))).collect();
        let log = self.loaded.home.log("cron");
        let user = self
            .scene
            .user
            .map(|user| format!("  <key>UserName</key>\n  <string>{}</string>", escaped(user)));
        let parts = [
            ("{unit}", &*label),
            ("{arguments}", &*words.join("\n")),
            ("{path}", &*escaped(self.scene.path)),
            ("{log}", &*escaped(text::line_path(&log)?)),
            ("{user}", user.as_deref().unwrap_or_default()),
            ("{due}", &*due),
        ];
        let path = folder.join(format!("{label}.plist"));
        let text = text::filled(PLIST, &parts);
        Ok(vec![TimerFile { unit: label, path, text }])
    }
}

/// Those that are installed, and since when; none: there are none.
///
/// # Errors
/// When it cannot be told.
pub fn installed_timers(home: &Home) -> Result<Option<(Timers, SystemTime)>> {
    let path = record(home);
    let read = || Ok((home.read(&path)?, home.metadata(&path)?.modified()?));
    let (bytes, since) = match read() {
        Err(error) if std::io::Error::kind(&error) == ErrorKind::NotFound => return Ok(None),
        read => read.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let damaged = |why: String| {
        Fault::unknown(format!("{} is damaged: {why}", path.display()))
            .hint("`ops cron-install` with the same --manager writes it anew")
    };
    let timers: Timers = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    let foreign = |file: &&TimerFile| {
        !timers.manager.can_be_ours(timers.system, &file.unit, &file.path)
            || (timers.system && !privilege::may_order(&file.path))
    };
    if let Some(file) = timers.files.iter().find(foreign) {
        return Err(damaged(format!("it names {:?} as {:?}", file.path, file.unit)).into());
    }
    for file in timers.files.iter().filter(|file| !is_timer(&file.path)) {
        if !timers.manager.is_of_home(&file.path, &timers.home)? {
            return Err(damaged(format!("{} is not of this home", file.path.display())).into());
        }
    }
    let alone = |file: &&TimerFile| {
        let service = file.path.with_extension("service");
        is_timer(&file.path) && !timers.files.iter().any(|other| other.path == service)
    };
    if let Some(file) = timers.files.iter().find(alone) {
        return Err(damaged(format!("it names {:?} without its service", file.path)).into());
    }
    // What is noted in a copy of a home is of the first one.
    Ok(Some((timers, since)).filter(|(timers, _)| home.is_or_was(&timers.home)))
}

/// A timer of systemd says nothing of the home; the service beside it does.
fn is_timer(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "timer")
}

fn record(home: &Home) -> PathBuf {
    home.ops().join("timers.installed")
}

impl Timers {
    /// The files that are not, on disk, what they should be.
    pub fn wrong(&self) -> Vec<&Path> {
        let differs = |file: &&TimerFile| {
            read_small_file(&file.path, SMALL).ok().as_deref() != Some(file.text.as_bytes())
        };
        self.files.iter().filter(differs).map(|file| &*file.path).collect()
    }

    /// Writes the files, starts the timers, and takes away those of `before` that are no more. Whether
    /// anything changed.
    ///
    /// # Errors
    /// A [`Fault`] of state Unknown, with nothing changed, for a file that is there and that neither this
    /// nor `before` wrote.
    pub fn install(&self, home: &Home, before: Option<&Timers>) -> Result<bool> {
        let old: &[TimerFile] = before.map_or(&[], |before| &before.files);
        for file in &self.files {
            let Ok(found) = read_small_file(&file.path, SMALL) else { continue };
            let ours = old.iter().any(|old| old.path == file.path && old.text.as_bytes() == found);
            if found != file.text.as_bytes() && !ours {
                let what = format!("{} is there already, and is not what was written", file.path.display());
                return Err(Fault::unknown(what)
                    .hint(
                        "another agent of this name? Give this one another: [agent] name. If it is this one's, \
                         changed by hand: move the file aside (systemd reads such changes from a drop-in)",
                    )
                    .into());
            }
        }
        let changed = before != Some(self) || !self.wrong().is_empty();
        if !changed {
            return Ok(false);
        }
        // The jobs append to a log in it.
        home.make_folder(&home.logs())?;
        let gone = old.iter().filter(|old| !self.files.iter().any(|file| file.path == old.path));
        if let Some(before) = before {
            before.stop(gone.clone())?;
        }
        for file in gone {
            as_manager(before.is_some_and(|before| before.system), || durable::remove(&file.path))?;
        }
        home.replace(&record(home), &serde_json::to_vec_pretty(self)?, 0o600)?;
        for file in &self.files {
            as_manager(self.system, || {
                durable::make_folder(durable::parent(&file.path), 0o755)?;
                durable::replace(&file.path, file.text.as_bytes(), 0o644)
            })?;
        }
        match self.manager {
            Manager::Systemd => {
                systemd::reload(self.system)?;
                for file in self.files.iter().filter(|file| !file.unit.is_empty()) {
                    systemd::enable(self.system, &file.unit, true)?;
                    systemd::systemctl(!self.system, ["restart", &*file.unit], systemd::ORDER)?;
                }
            }
            Manager::Launchd => {
                self.stop(self.files.iter())?;
                for file in &self.files {
                    launchd::enable(self.system, &file.unit, true)?;
                    let path = file.path.display().to_string();
                    launchd::told(&["bootstrap", &launchd::domain(self.system), &path])?;
                }
            }
        }
        Ok(true)
    }

    /// Stops the timers and takes their files away. One that was changed since goes as well: it is ours.
    ///
    /// # Errors
    /// When one cannot be stopped or taken away.
    pub fn uninstall(&self, home: &Home) -> Result<()> {
        self.stop(self.files.iter())?;
        for file in &self.files {
            as_manager(self.system, || durable::remove(&file.path))?;
        }
        if self.manager == Manager::Systemd {
            systemd::reload(self.system)?;
        }
        home.remove(&record(home))
    }

    /// Has the manager forget some of them.
    fn stop<'a>(&self, files: impl Iterator<Item = &'a TimerFile>) -> Result<()> {
        for file in files.filter(|file| !file.unit.is_empty() && file.path.exists()) {
            match self.manager {
                Manager::Systemd => {
                    systemd::enable(self.system, &file.unit, false)?;
                    systemd::systemctl(!self.system, ["stop", &*file.unit], systemd::ORDER)?;
                }
                Manager::Launchd => {
                    let target = launchd::target(self.system, &file.unit);
                    if launchd::launchctl(&["print", &target])?.status.success() {
                        launchd::told(&["bootout", &target])?;
                    }
                }
            }
        }
        Ok(())
    }
}
