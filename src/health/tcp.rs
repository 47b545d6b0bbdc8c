//! Does something answer on a port, and say what it should?

use super::fetch::Hidden;
use super::{Answer, Metric};
use crate::base::State;
use crate::base::range::Unit;
use crate::config::check::Tcp;
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// What is expected must be among the first so many bytes.
const MOST_BYTES: usize = 64 << 10;

pub(super) fn look(options: &Tcp) -> Result<Answer> {
    let address = &options.address;
    let limit = Duration::try_from_secs_f64(options.crit.0.limit()).unwrap_or(Duration::from_secs(5));
    let mut hidden = Hidden::default();
    let send = options.send.as_ref().map(|send| hidden.reveal(send, Instant::now() + limit)).transpose()?;
    let addresses =
        address.to_socket_addrs().with_context(|| format!("'{address}' is no host:port that is known"))?;
    let begun = Instant::now();
    let left = || limit.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
    let mut failure = String::from("it has no address");
    // A name may stand for several addresses: one that answers is enough.
    for candidate in addresses {
        let connected = TcpStream::connect_timeout(&candidate, left());
        let talked = connected
            .map_err(|error| error.to_string())
            .and_then(|mut stream| talk(&mut stream, send.as_deref(), options.expect.as_deref(), left));
        match talked {
            Ok(()) => {
                let took = begun.elapsed().as_secs_f64();
                let metric = Metric::new("time", (took * 1e6).round() / 1e6, Unit::Seconds)
                    .limits(Some(options.warn.0), Some(options.crit.0));
                let summary = format!("{address} answers in {:.1} ms", took * 1e3);
                return Ok(Answer::new(metric.judge(), summary).metric(metric));
            }
            Err(why) => failure = why,
        }
    }
    let summary = hidden.hide(&format!("{address} does not answer: {failure}"));
    Ok(Answer::new(State::Critical, summary).remedy("look at whether the program behind it runs"))
}

/// Says what is to be said, and waits for what is expected.
fn talk(
    stream: &mut TcpStream,
    send: Option<&str>,
    expect: Option<&str>,
    left: impl Fn() -> Duration,
) -> Result<(), String> {
    let told = |error: std::io::Error| error.to_string();
    if let Some(send) = send {
        stream.set_write_timeout(Some(left())).map_err(told)?;
        stream.write_all(send.as_bytes()).map_err(told)?;
    }
    let Some(expect) = expect.filter(|expect| !expect.is_empty()) else { return Ok(()) };
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if heard.windows(expect.len()).any(|part| part == expect.as_bytes()) {
            return Ok(());
        }
        // One that says a byte at a time has no longer than one that is silent.
        if left() <= Duration::from_millis(1) {
            return Err(format!("it did not say '{expect}' in time"));
        }
        stream.set_read_timeout(Some(left())).map_err(told)?;
        match stream.read(&mut buffer) {
            Ok(0) => return Err(format!("it hung up without saying '{expect}'")),
            Ok(_) if heard.len() > MOST_BYTES => return Err(format!("it says much, but not '{expect}'")),
            Ok(count) => heard.extend_from_slice(&buffer[..count]),
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                return Err(format!("it did not say '{expect}' in time"));
            }
            Err(error) => return Err(told(error)),
        }
    }
}
