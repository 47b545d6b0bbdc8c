//! The ports of a service: whether they are free, and who has them.

use crate::base::arguments;
use crate::base::process::{self, Process};
use crate::config::Service;
use std::collections::BTreeSet;
use std::fmt;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

/// A port that somebody has.
pub(super) struct Taken {
    pub(super) port: u16,
    error: std::io::Error,
}

/// What the system says to it, and who has the port, where that can be told.
impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        let listeners = process::listeners(&BTreeSet::from([self.port])).unwrap_or_default();
        let pid = listeners.iter().find_map(|listener| listener.pid);
        match pid.and_then(|pid| Process::find(pid).ok().flatten()) {
            Some(process) => {
                let command = arguments::shown(&process.arguments(), 80);
                write!(f, " (pid {} has it: {command})", process.identity.pid)
            }
            None => Ok(()),
        }
    }
}

/// The first port of a service that is taken on this host. An address that there is not, or a port
/// that only root may have, is nobody's.
pub(super) fn taken(service: &Service) -> Option<Taken> {
    service.ports.iter().find_map(|&port| {
        [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))]
            .into_iter()
            .filter_map(|address| TcpListener::bind(address).err())
            .find(|error| error.kind() == ErrorKind::AddrInUse)
            .map(|error| Taken { port, error })
    })
}
