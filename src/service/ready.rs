//! When a started service counts as ready.

use crate::base::process::Identity;
use crate::base::status_file::StatusFile;
use crate::config::Service;
use chrono::{DateTime, Utc};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// How long a service without any sign of its own must stay alive.
const SETTLE: Duration = Duration::from_secs(1);

/// Whether a service that was started at `since` (and `begun`) as `identity` is ready now.
pub(super) fn is_ready(service: &Service, identity: &Identity, since: DateTime<Utc>, begun: Instant) -> bool {
    if let Some(address) = service.ready.strip_prefix("tcp:") {
        return answers(address);
    }
    match (&service.status_file, service.ready.as_str()) {
        (Some(path), "status") => {
            StatusFile::read(path).is_ok_and(|status| says_running(&status, identity, since))
        }
        _ => begun.elapsed() >= SETTLE,
    }
}

/// A status file left by a predecessor is no sign: it must be this process's, or newer than the
/// start.
fn says_running(status: &StatusFile, identity: &Identity, since: DateTime<Utc>) -> bool {
    let newer = status.sign_of_life().is_some_and(|at| at >= since);
    status.status == "running" && newer && status.pid.is_none_or(|pid| pid == identity.pid || newer)
}

fn answers(address: &str) -> bool {
    address
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .is_some_and(|address| TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok())
}
