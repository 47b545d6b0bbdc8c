//! Is a metric of a Prometheus endpoint, or of a file such as node_exporter reads, as it should be?

use super::exposition::{self, Found};
use super::fetch::{Failure, Hidden, Request, fetch};
use super::value::{self, Growths, Seen};
use super::{Answer, View};
use crate::base::units::{Size, Span};
use crate::base::{lines, text};
use crate::config::check::{Aggregate, Metric, Zone};
use anyhow::{Result, bail};
use serde_json::Value;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::Instant;

/// More than this is not read.
const MOST_BYTES: u64 = 16 << 20;

pub(super) fn look(view: &View, name: &str, options: &Metric, timeout: Span) -> Result<Answer> {
    let (source, read) = match (&options.url, &options.file) {
        (Some(url), _) => (url.shown(), from_url(options, timeout)),
        (None, Some(file)) => (view.loaded.home.show(file), from_file(file)),
        (None, None) => bail!("there is neither url nor file"),
    };
    let page = match read {
        Ok(Source::There(page)) => page,
        Ok(Source::Missing(why)) => return Ok(Answer::new(options.missing, format!("{source} {why}"))),
        Err(error) => return Err(error.context(format!("{source} cannot be read"))),
    };
    let found = exposition::find(&page, &options.metric, &options.labels);
    let called = called(options);
    let judged = match choose(&found, options) {
        Choice::None if found.broken > 0 => {
            let lines = text::count(found.broken, "line");
            return Ok(Answer::unknown(format!(
                "there is no {called} at {source}, where {lines} cannot be read"
            )));
        }
        Choice::Many(count) => {
            let summary =
                format!("there are {count} series of {called} at {source}; choose by labels or aggregate");
            return Ok(Answer::unknown(summary));
        }
        Choice::One(number) if number.is_nan() => {
            return Ok(Answer::unknown(format!("{called} at {source} is NaN")));
        }
        Choice::None => None,
        // JSON has no infinity; as text it is read back.
        Choice::One(number) if number.is_infinite() => Some(Value::from(number.to_string())),
        Choice::One(number) => Some(Value::from(number)),
    };
    let mut growths = Growths::recall(view, name);
    let key = format!("{source} {called} {:?}", options.aggregate);
    let seen = Seen { name: &called, key, value: judged, zone: Zone::Utc };
    let answer = value::judge(seen, &options.rules(), &mut growths, view.run.now).into_answer();
    Ok(growths.remember(answer).remedy("look at the metrics, and at the program that offers them"))
}

/// `sum of queue_size{queue="dlq"}`
fn called(options: &Metric) -> String {
    let labels: Vec<String> =
        options.labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    let aggregate = match options.aggregate {
        None => "",
        Some(Aggregate::Sum) => "sum of ",
        Some(Aggregate::Max) => "max of ",
        Some(Aggregate::Min) => "min of ",
        Some(Aggregate::Avg) => "mean of ",
        Some(Aggregate::Count) => "count of ",
    };
    format!("{aggregate}{}{labels}", options.metric)
}

enum Choice {
    None,
    One(f64),
    Many(usize),
}

fn choose(found: &Found, options: &Metric) -> Choice {
    match (options.aggregate, found.values.as_slice()) {
        (Some(how), values) => exposition::aggregate(values, how).map_or(Choice::None, Choice::One),
        (None, []) => Choice::None,
        (None, [value]) => Choice::One(*value),
        (None, values) => Choice::Many(values.len()),
    }
}

enum Source {
    There(String),
    Missing(String),
}

fn from_url(options: &Metric, timeout: Span) -> Result<Source> {
    let Some(url) = &options.url else { bail!("there is no url") };
    let mut hidden = Hidden::default();
    let request = Request {
        url,
        method: "GET",
        headers: &options.headers,
        login: None,
        body: None,
        ca_file: options.ca_file.as_deref(),
        redirects: 0,
        most: MOST_BYTES,
        deadline: Instant::now() + timeout.0,
    };
    Ok(match fetch(&request, &mut hidden) {
        Ok(response) if response.status == 200 => {
            Source::There(String::from_utf8_lossy(&response.body).into_owned())
        }
        Ok(response) => Source::Missing(format!("answers {}", response.status)),
        Err(Failure::NoAnswer(why)) => Source::Missing(format!("does not answer: {why}")),
        Err(Failure::Late) => bail!("it was not all there within {timeout}"),
        Err(Failure::TooLarge) => bail!("it is larger than {}", Size(MOST_BYTES)),
        Err(Failure::NotAsked(why)) => bail!("it could not be asked: {why}"),
    })
}

fn from_file(path: &Path) -> Result<Source> {
    let file = match lines::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Source::Missing("is missing".to_owned()));
        }
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        bail!("it is larger than {}", Size(MOST_BYTES));
    }
    Ok(Source::There(String::from_utf8_lossy(&bytes).into_owned()))
}
