//! Does something answer on a port?

use super::{Answer, Metric};
use crate::base::State;
use crate::base::range::Unit;
use crate::config::check::Tcp;
use anyhow::{Context, Result};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

pub(super) fn look(options: &Tcp) -> Result<Answer> {
    let address = &options.address;
    let addresses =
        address.to_socket_addrs().with_context(|| format!("'{address}' is no host:port that is known"))?;
    let limit = Duration::try_from_secs_f64(options.crit.0.limit()).unwrap_or(Duration::from_secs(5));
    let begun = Instant::now();
    let mut failure = String::from("it has no address");
    // A name may stand for several addresses: one that answers is enough.
    for candidate in addresses {
        let left = limit.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&candidate, left) {
            Ok(_) => {
                let took = begun.elapsed().as_secs_f64();
                let metric = Metric::new("time", (took * 1e6).round() / 1e6, Unit::Seconds)
                    .limits(Some(options.warn.0), Some(options.crit.0));
                let summary = format!("{address} answers in {:.1} ms", took * 1e3);
                return Ok(Answer::new(metric.judge(), summary).metric(metric));
            }
            Err(error) => failure = error.to_string(),
        }
    }
    Ok(Answer::new(State::Critical, format!("{address} does not answer: {failure}"))
        .remedy("look at whether the program behind it runs"))
}
