//! The ports of the services: who has them?

use super::cause::{Cause, Found};
use super::view::View;
use crate::base::State;
use crate::service::{Detected, Kind};
use anyhow::Result;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

struct Facts {
    service: String,
    port: u16,
    /// Whether the service runs.
    runs: bool,
    gravity: State,
    /// Who listens there and is not the service, where that can be told.
    other: Option<Detected>,
    /// We may not see what the service itself holds: it runs as another user.
    blind: bool,
    /// Somebody listens there: all that can be told on some systems.
    answers: bool,
}

pub(super) fn probe(view: &View) -> Result<Found> {
    let Some(loaded) = view.whole() else { return Ok(Found::default()) };
    if loaded.config.service.values().all(|service| service.ports.is_empty()) {
        return Ok(Found::default());
    }
    let detected = view.services(loaded).detect()?;
    let told = !detected.notes.iter().any(|note| note.contains("cannot be told"));
    let mut causes = Vec::new();
    let me = rustix::process::geteuid();
    for (_, name, service, status) in view.each() {
        let process = status.as_ref().ok().and_then(|status| status.process());
        for &port in &service.ports {
            let why = format!("listens at port {port} of {name}");
            let listens = |process: &&Detected| process.why.contains(&why);
            let runs = view.runs(name);
            let facts = Facts {
                service: name.to_owned(),
                port,
                runs,
                gravity: view.gravity(name),
                other: detected
                    .processes
                    .iter()
                    .find(|process| listens(process) && process.kind != Kind::Service)
                    .cloned(),
                blind: process.is_some_and(|process| !me.is_root() && process.uid != me.as_raw()),
                // One that runs has its port itself.
                answers: !told && !runs && answers(port),
            };
            causes.extend(judge(&facts));
        }
    }
    Ok(causes.into())
}

fn answers(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_ok()
}

fn judge(facts: &Facts) -> Option<Cause> {
    let Facts { service, port, runs, .. } = facts;
    let text = match runs {
        true => format!("{service} runs without its port {port}: another has it"),
        false => format!("{service} cannot start: its port {port} is taken"),
    };
    // Alive and deaf is as bad as dead: whoever has the port answers for it.
    let state = if *runs { State::Critical } else { facts.gravity };
    let cause = Cause::new("port_taken", state, 15, text).of(service);
    match &facts.other {
        Some(Detected { pid: Some(pid), kind, command, .. }) => {
            let cause = cause.seen(format!("pid {pid} listens there: '{command}'"));
            Some(match kind {
                Kind::Leftover => cause.run(format!("ops stop {service} --force")).run(format!("ops start {service}")),
                _ => cause
                    .run(format!("kill {pid}"))
                    .run(format!("ops restart {service}"))
                    .advise("look at it first: it may be a second instance, or another program that wants the same port"),
            })
        }
        Some(_) if facts.blind => None,
        Some(_) => Some(
            cause
                .seen("a process that may not be looked at listens there: another user's")
                .run(format!("sudo ss -ltnp 'sport = :{port}'")),
        ),
        None if facts.answers => {
            Some(cause.seen("somebody answers there").run(format!("lsof -nP -iTCP:{port} -sTCP:LISTEN")))
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_port_it_is() {
        let facts = |runs, other: Option<(Option<u32>, Kind)>, answers| Facts {
            service: "web".to_owned(),
            port: 80,
            runs,
            gravity: if runs { State::Warning } else { State::Critical },
            other: other.map(|(pid, kind)| Detected {
                pid,
                kind,
                service: "web".to_owned(),
                why: Vec::new(),
                command: "nc -l 80".to_owned(),
                started: None,
            }),
            blind: false,
            answers,
        };
        assert!(judge(&facts(true, None, false)).is_none() && judge(&facts(false, None, false)).is_none());
        for (facts, part, remedy) in [
            (facts(false, Some((Some(7), Kind::Stranger)), false), "cannot start", "kill 7"),
            (facts(true, Some((Some(7), Kind::Stranger)), false), "runs without", "kill 7"),
            (facts(false, Some((Some(7), Kind::Leftover)), false), "cannot start", "ops stop web --force"),
            (facts(false, Some((None, Kind::Stranger)), false), "cannot start", "sudo ss"),
            (facts(false, None, true), "cannot start", "lsof"),
        ] {
            let cause = judge(&facts).unwrap();
            assert_eq!((cause.id, cause.state), ("port_taken", State::Critical));
            assert!(cause.cause.contains(part) && cause.remedy[0].contains(remedy), "{cause:?}");
        }
    }
}
