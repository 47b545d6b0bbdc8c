//! Starting: detached, in a session of its own, awaited until ready.

use super::identify::{self, Claim};
use super::manager::Definition;
use super::record::Record;
use super::tree::{MARKER, Mark};
use super::{Liveness, Services, Started, double, ports, ready, stop, supervise};
use crate::base::notice::Notice;
use crate::base::process::Process;
use crate::base::{Fault, Home, beneath, durable, events, session, text};
use crate::config::{self, Owner, Service};
use anyhow::{Context, Result};
use chrono::Utc;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How many lines of its log a failed start shows.
const SHOWN_LINES: usize = 10;

/// Its operator wants it to run from now on, whatever comes of the start: one that is refused and still counted
/// as stopped would never be started again, and nobody would hear of it.
pub(super) fn want(services: &Services<'_>, name: &str) -> Result<()> {
    let status = services.status(name)?;
    if status.stopped_by_operator.is_none() {
        return Ok(());
    }
    let record = Record::read(services.home, name);
    // What its manager does now is by our word, as in `launch`.
    let managed = record.managed && status.process().is_some();
    let wanted = Record { stopped_by_operator: None, managed, ..record };
    wanted.write(services.home, name)?;
    match Definition::installed(services.home, name)? {
        // Of a home that was moved: `ops install` enables what it writes anew.
        Some(definition) if !definition.home.exists() => return Ok(()),
        Some(definition) => definition.enable().with_context(|| format!("{name} was not started"))?,
        None => {}
    }
    Record { disabled: false, ..wanted }.write(services.home, name)
}

/// With `force`, what is left of its last run is killed if it does not end by itself.
pub(super) fn start(services: &Services<'_>, name: &str, force: bool) -> Result<Started> {
    let service = services.service(name)?;
    let record = Record::read(services.home, name);
    let status = services.status(name)?;
    if let Liveness::Running(process) = status.liveness {
        return Ok(Started::Already(process));
    }
    double::refuse(services, name, &status.liveness)?;
    // A supervisor does that itself, and again each time that it tries.
    if !services.supervised(name) {
        clear_the_way(services, service, name, &record, force)?;
    }
    let log = |level, title: &str, message: &str| {
        // The service is what matters: a log that cannot be written does not undo its start.
        let _ = events::append(services.home, "restart", services.run, level, title, message);
    };
    what_it_needs(services, service, name)
        .inspect_err(|error| log("ERROR", "Start failed", &format!("{name}: {error:#}")))?;

    let since = Utc::now();
    let begun = Instant::now();
    let output = services.output(name);
    let logs = Logs::open(services.home, &output)?;
    let mut launched = launch(services, service, name, &logs)?;
    let _notice = Notice::begin(
        services.run,
        format!(
            "{name} was started; waiting up to {} until it is ready (it runs on if you do not wait: `ops stop {name}`)",
            service.ready_timeout
        ),
    );
    let failure = loop {
        let process = match launched.look(services, name)? {
            Look::Ended(how) => {
                // A supervisor may have put it the same way.
                let refused = format!("{name} was not started: ");
                break format!("{refused}{}", how.strip_prefix(&refused).unwrap_or(&how));
            }
            Look::Runs(process) if ready::is_ready(service, &process.identity, since, begun) => {
                if let Launched::Child(child) = &launched {
                    log("INFO", "Started", &format!("{name} as pid {}", child.id()));
                }
                // Looked at again: by now it is the service, not the step before it.
                return Ok(Started::New(process.identity.find()?.unwrap_or(process)));
            }
            Look::Runs(process) => Some(process),
            Look::NotYet => None,
        };
        if begun.elapsed() >= service.ready_timeout.0 {
            let limit = service.ready_timeout;
            break match process {
                Some(process) => {
                    format!("{name} runs as pid {} but is not ready after {limit}", process.identity.pid)
                }
                None => format!("{name} does not run after {limit}"),
            };
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    if matches!(launched, Launched::Supervised) {
        supervise::take_back(services, name)?;
    }
    log("ERROR", "Start failed", &failure);
    let lines = logs.written_since();
    let shown =
        if lines.is_empty() { "it printed nothing".to_owned() } else { format!("its last words:\n{lines}") };
    let hint = format!("look at {} and {}", output[0].display(), output[1].display());
    Err(Fault::critical(format!("{failure}; {shown}")).hint(hint).into())
}

/// Before a start: what the last run left ends, the ports are free, no stale pid file is in the way. With
/// `force`, what does not end is killed.
pub(super) fn clear_the_way(
    services: &Services<'_>,
    service: &Service,
    name: &str,
    record: &Record,
    force: bool,
) -> Result<()> {
    stop::end_last_session(services, name, record, force)?;
    if let Some(taken) = ports::taken(service) {
        // Some agents live on without their port, or end with 0; and whoever has it would answer for it.
        let port = taken.port;
        return Err(Fault::critical(format!("{name} was not started: its port {port} is taken: {taken}"))
            .hint("`ops detect` says more of who has it")
            .into());
    }
    drop_stale_pid_file(service)
}

/// Whether the folder and the program of a service are there: the system says of both only that something
/// is not.
fn what_it_needs(services: &Services<'_>, service: &Service, name: &str) -> Result<()> {
    let file = services.config.file.display();
    let folder = service.cwd.display();
    if !service.cwd.is_dir() {
        return Err(Fault::critical(format!("{name} was not started: its folder {folder} is not there"))
            .hint(format!("make it, or set cwd in [service.{name}] of {file}"))
            .into());
    }
    let words = services.command(service);
    let program = words.first().map_or("", String::as_str);
    // A bare name is looked for in a PATH that may be the service's own.
    if program.contains('/') && !service.cwd.join(program).exists() {
        return Err(Fault::critical(format!(
            "cannot run {program} in {folder} as {name}: there is no such file"
        ))
        .hint(format!("is it installed? See [service.{name}] command in {file}"))
        .into());
    }
    Ok(())
}

/// A service that was told to start.
enum Launched {
    /// By us.
    Child(Child),
    /// By its manager, in a run of ours that is not the one in the record yet.
    Managed { definition: Definition, before: String, asked: Instant },
    /// By `ops run`, which stands behind it.
    Supervised,
}

/// What became of it so far.
pub(super) enum Look {
    NotYet,
    Runs(Process),
    /// How, as a clause.
    Ended(String),
}

/// How often a manager is asked how it goes.
const ASK: Duration = Duration::from_millis(500);

fn launch(services: &Services<'_>, service: &Service, name: &str, logs: &Logs) -> Result<Launched> {
    let installed = Definition::installed(services.home, name);
    if let Some(definition) = installed.with_context(|| format!("{name} was not started"))? {
        if !definition.home.exists() {
            let (manager, home) = (definition.manager(), definition.home.display());
            let message = format!("{name} is with {manager} as it was at {home}; its home was moved since");
            return Err(Fault::unknown(message).hint("`ops install` brings that up to date").into());
        }
        let record = Record::read(services.home, name);
        let before = record.run.clone();
        let asked = Record { stopped_by_operator: None, managed: false, disabled: false, ..record.clone() };
        if asked != record {
            asked.write(services.home, name)?;
        }
        definition.start()?;
        return Ok(Launched::Managed { definition, before, asked: Instant::now() });
    }
    if supervise::supervisor(services, name).is_some() {
        supervise::ask(services, name)?;
        return Ok(Launched::Supervised);
    }
    let mut child = spawn(services, service, logs, &Mark::new(services, name))?;
    let noted = Process::find(child.id())
        .and_then(|process| process.context("the process that was just started cannot be found"))
        .and_then(|process| note(services, service, name, Record::of(services, name, process.identity)));
    if let Err(error) = noted {
        // One that nobody knows of would get a second one beside it at the next start.
        let _ = child.kill();
        let _ = child.wait();
        return Err(error.context(format!("{name} was not started")));
    }
    Ok(Launched::Child(child))
}

impl Launched {
    fn look(&mut self, services: &Services<'_>, name: &str) -> Result<Look> {
        match self {
            Launched::Child(child) => {
                if let Some(status) = child.try_wait().context("cannot wait for the service")? {
                    return Ok(Look::Ended(format!("it ended at once ({status})")));
                }
                Ok(Process::find(child.id())?.map_or(Look::NotYet, Look::Runs))
            }
            Launched::Supervised => supervise::look(services, name),
            Launched::Managed { definition, before, asked } => {
                let record = Record::read(services.home, name);
                let started = record.identity.filter(|_| record.run != *before);
                if let Some(process) = started.map(|identity| identity.find()).transpose()?.flatten() {
                    return Ok(Look::Runs(process));
                }
                if asked.elapsed() < ASK {
                    return Ok(Look::NotYet);
                }
                *asked = Instant::now();
                let failure = definition.failure()?;
                Ok(failure.map_or(Look::NotYet, |how| {
                    Look::Ended(format!("{} says that {how}", definition.manager()))
                }))
            }
        }
    }
}

/// Writes down who was started, so that every later run knows it.
pub(super) fn note(services: &Services<'_>, service: &Service, name: &str, record: Record) -> Result<()> {
    let pid = record.identity.as_ref().map(|identity| identity.pid).unwrap_or_default();
    record.write(services.home, name)?;
    if let (Owner::Ops, Some(path)) = (service.owner, &service.pid_file) {
        durable::make_folder(durable::parent(path), 0o755)?;
        durable::replace(path, format!("{pid}\n").as_bytes(), 0o644)?;
    }
    Ok(())
}

/// A pid file that names no process of the service would make many agents refuse to start.
pub(super) fn drop_stale_pid_file(service: &Service) -> Result<()> {
    let Some(path) = &service.pid_file else { return Ok(()) };
    if identify::read_pid_file(path) == Claim::Missing {
        return Ok(());
    }
    // The service does not run: `start` looked, under the lock.
    durable::remove(path)
}

fn spawn(services: &Services<'_>, service: &Service, logs: &Logs, mark: &Mark) -> Result<Child> {
    let words = services.command(service);
    let mut command = session::in_own_session(&words).context("cannot find our own program")?;
    dress(services, service, mark, &mut command)?;
    logs.attach(&mut command)?;
    command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {} in {}", words.join(" "), service.cwd.display()))
}

/// The folder and the environment of a service.
pub(super) fn dress(
    services: &Services<'_>,
    service: &Service,
    mark: &Mark,
    command: &mut Command,
) -> Result<()> {
    if let Some(path) = &services.config.agent.env_file {
        command.envs(config::read_env_file(path)?);
    }
    for name in &service.env_remove {
        command.env_remove(name);
    }
    command
        .envs(service.env.iter().map(|(name, value)| (name, services.fill(value))))
        .env(MARKER, mark.to_string())
        .current_dir(&service.cwd);
    Ok(())
}

/// The files that a service's output is appended to, and where they ended before it.
pub(super) struct Logs {
    stdout: File,
    stderr: File,
    paths: [PathBuf; 2],
    ends: [u64; 2],
}

impl Logs {
    pub(super) fn open(home: &Home, paths: &[PathBuf; 2]) -> Result<Logs> {
        let open = |path: &Path| -> Result<(File, u64)> {
            let file = home.append(path)?;
            let end = file.metadata().with_context(|| format!("cannot look at {}", path.display()))?.len();
            Ok((file, end))
        };
        let (stdout, out_end) = open(&paths[0])?;
        let (stderr, err_end) = open(&paths[1])?;
        Ok(Logs { stdout, stderr, paths: paths.clone(), ends: [out_end, err_end] })
    }

    /// Has a command write to them.
    pub(super) fn attach(&self, command: &mut Command) -> Result<()> {
        command.stdout(self.stdout.try_clone()?).stderr(self.stderr.try_clone()?);
        Ok(())
    }

    /// The last lines that came since, those of stderr last, indented.
    fn written_since(&self) -> String {
        let mut lines = Vec::new();
        for (path, end) in self.paths.iter().zip(self.ends) {
            let mut bytes = Vec::new();
            let read = beneath::open_named(path).and_then(|mut file| {
                let length = file.metadata()?.len();
                file.seek(SeekFrom::Start(end.max(length.saturating_sub(64 << 10))))?;
                file.take(64 << 10).read_to_end(&mut bytes)
            });
            if read.is_ok() {
                let text = String::from_utf8_lossy(&bytes);
                lines.extend(text.lines().map(|line| format!("  {}", text::one_line(line, 200))));
            }
        }
        lines.split_off(lines.len().saturating_sub(SHOWN_LINES)).join("\n")
    }
}
