//! Starting: detached, in a session of its own, awaited until ready.

use super::identify::{self, Claim};
use super::record::{MARKER, Record};
use super::{Liveness, Services, Started, ready, session, stop, taken_port};
use crate::base::process::Process;
use crate::base::{Fault, durable, events, text};
use crate::config::{self, Owner, Service};
use anyhow::{Context, Result};
use chrono::Utc;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How many lines of its log a failed start shows.
const SHOWN_LINES: usize = 10;

/// With `force`, what is left of its last run is killed if it does not end by itself.
pub(super) fn start(services: &Services<'_>, name: &str, force: bool) -> Result<Started> {
    let service = services.service(name)?;
    let mut record = Record::read(services.home, name);
    let status = services.status(name)?;
    if let Liveness::Running(process) = status.liveness {
        if record.stopped_by_operator.take().is_some() {
            record.write(services.home, name)?;
        }
        return Ok(Started::Already(process));
    }
    if let Liveness::Stranger { pid, command, resembles: true } = &status.liveness {
        let message = format!("{name} may run already: its pid file names {pid}, which is '{command}'");
        let hint = "if it is, stop it first; if it is not, remove the pid file and start again";
        return Err(Fault::unknown(message).hint(hint).into());
    }
    stop::end_leftovers(&record, force)?;
    if let Some((port, error)) = taken_port(service) {
        // Some agents live on without their port, or end with 0; and whoever has it would answer for it.
        return Err(Fault::critical(format!("{name} was not started: its port {port} is taken: {error}"))
            .hint(format!("`ss -ltnp sport = :{port}` says who has it"))
            .into());
    }
    drop_stale_pid_file(services, service)?;
    durable::make_folder(&services.home.logs(), 0o755)?;

    let since = Utc::now();
    let begun = Instant::now();
    let output = ["stdout", "stderr"].map(|stream| services.home.log(&format!("{name}_{stream}")));
    let marker = format!("{name}:{}", services.run.id);
    let logs = Logs::open(&output)?;
    let mut child = spawn(services, service, &logs, &marker)?;
    let process = Process::find(child.id())?.context("the process that was just started cannot be found")?;
    record = Record {
        identity: Some(process.identity.clone()),
        marker,
        started: Some(since),
        run: services.run.id.clone(),
        stopped_by_operator: None,
    };
    if let Err(error) = note(services, service, name, &record, child.id()) {
        // One that nobody knows of would get a second one beside it at the next start.
        let _ = child.kill();
        let _ = child.wait();
        return Err(error.context(format!("{name} was not started")));
    }

    let log = |level, title: &str, message: &str| {
        // The service is what matters: a log that cannot be written does not undo its start.
        let _ = events::append(services.home, "restart", services.run, level, title, message);
    };
    let failure = loop {
        if let Some(status) = child.try_wait().context("cannot wait for the service")? {
            break format!("{name} ended at once ({status})");
        }
        if ready::is_ready(service, &process.identity, since, begun) {
            log("INFO", "Started", &format!("{name} as pid {}", child.id()));
            // Looked at again: by now it is the service, not the step before it.
            return Ok(Started::New(process.identity.find()?.unwrap_or(process)));
        }
        if begun.elapsed() >= service.ready_timeout.0 {
            break format!(
                "{name} runs as pid {} but is not ready after {}",
                child.id(),
                service.ready_timeout
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    log("ERROR", "Start failed", &failure);
    let lines = logs.written_since();
    let shown =
        if lines.is_empty() { "it printed nothing".to_owned() } else { format!("its last words:\n{lines}") };
    let hint = format!("look at {} and {}", output[0].display(), output[1].display());
    Err(Fault::critical(format!("{failure}; {shown}")).hint(hint).into())
}

/// Writes down who was started, so that every later run knows it.
fn note(services: &Services<'_>, service: &Service, name: &str, record: &Record, pid: u32) -> Result<()> {
    record.write(services.home, name)?;
    if let (Owner::Ops, Some(path)) = (service.owner, &service.pid_file) {
        durable::make_folder(durable::parent(path), 0o755)?;
        durable::replace(path, format!("{pid}\n").as_bytes(), 0o644)?;
    }
    Ok(())
}

/// A pid file that names no process of the service would make many agents refuse to start.
fn drop_stale_pid_file(services: &Services<'_>, service: &Service) -> Result<()> {
    let Some(path) = &service.pid_file else { return Ok(()) };
    if identify::read_pid_file(path) == Claim::Missing {
        return Ok(());
    }
    // The service does not run: `start` looked, under the lock.
    std::fs::remove_file(path)
        .with_context(|| format!("cannot remove the stale pid file {}", services.home.show(path)))
}

fn spawn(services: &Services<'_>, service: &Service, logs: &Logs, marker: &str) -> Result<Child> {
    let words = services.command(service);
    let mut command = session::in_own_session(&words).context("cannot find our own program")?;
    if let Some(path) = &services.config.agent.env_file {
        command.envs(config::read_env_file(path)?);
    }
    for name in &service.env_remove {
        command.env_remove(name);
    }
    command
        .envs(service.env.iter().map(|(name, value)| (name, services.fill(value))))
        .env(MARKER, marker)
        .current_dir(&service.cwd)
        .stdin(Stdio::null())
        .stdout(logs.stdout.try_clone()?)
        .stderr(logs.stderr.try_clone()?)
        .spawn()
        .with_context(|| format!("cannot start {} in {}", words.join(" "), service.cwd.display()))
}

/// The files that a service's output is appended to, and where they ended before it.
struct Logs {
    stdout: File,
    stderr: File,
    paths: [PathBuf; 2],
    ends: [u64; 2],
}

impl Logs {
    fn open(paths: &[PathBuf; 2]) -> Result<Logs> {
        let open = |path: &Path| -> Result<(File, u64)> {
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o644)
                .open(path)
                .with_context(|| format!("cannot open {}", path.display()))?;
            let end = file.metadata().with_context(|| format!("cannot look at {}", path.display()))?.len();
            Ok((file, end))
        };
        let (stdout, out_end) = open(&paths[0])?;
        let (stderr, err_end) = open(&paths[1])?;
        Ok(Logs { stdout, stderr, paths: paths.clone(), ends: [out_end, err_end] })
    }

    /// The last lines that came since, those of stderr last, indented.
    fn written_since(&self) -> String {
        let mut lines = Vec::new();
        for (path, end) in self.paths.iter().zip(self.ends) {
            let mut bytes = Vec::new();
            let read = File::open(path).and_then(|mut file| {
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
