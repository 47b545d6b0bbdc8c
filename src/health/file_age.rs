//! Was a file written lately, or taken away in time?

use super::age::SKEW;
use super::{Answer, Metric, View, named};
use crate::base::State;
use crate::base::range::Unit;
use crate::base::units::{Size, age};
use crate::config::check::{Bounds, FileAge, Which};
use anyhow::Result;
use chrono::{DateTime, Utc};
use std::fs;

pub(super) fn look(view: &View, options: &FileAge) -> Result<Answer> {
    let missing = if options.which == Which::Newest { State::Critical } else { State::Ok };
    let (paths, mut bad) = named::files(view, &options.paths, missing, |_, _| true)?;
    let mut files = Vec::new();
    for path in &paths {
        let name = view.loaded.home.show(path);
        match fs::metadata(path).and_then(|meta| Ok((DateTime::<Utc>::from(meta.modified()?), meta.len()))) {
            Ok((written, size)) => files.push((written, size, name)),
            // It was there a moment ago.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => bad.push((State::Unknown, format!("{name} cannot be looked at: {error}"))),
        }
    }
    files.sort();
    let one = match options.which {
        Which::Newest => files.last(),
        Which::Oldest => files.first(),
    };
    let mut metrics = Vec::new();
    let mut told = String::new();
    match one {
        None if options.which == Which::Newest && bad.is_empty() => {
            bad.push((State::Critical, format!("there is no {}", options.paths.join(", "))));
        }
        None => "nothing waits".clone_into(&mut told),
        Some((written, ..)) if *written > view.run.now + SKEW => {
            bad.push((State::Unknown, format!("{} is from the future: did a clock jump?", files[0].2)));
        }
        Some((written, size, name)) => {
            let old = age(view.run.now, *written);
            let metric = Metric::age(old).limits(Some(options.warn.0), Some(options.crit.0));
            told = format!("{name} is {old} old, {}", Size(*size));
            if metric.judge() != State::Ok {
                bad.push((metric.judge(), told.clone()));
            }
            if options.min_size.is_some_and(|least| *size < least.0) {
                bad.push((State::Critical, format!("{name} has only {}", Size(*size))));
            }
            metrics.push(metric);
        }
    }
    let (warn, crit) = Bounds::ranges(options.count);
    let count = Metric::new("count", files.len() as f64, Unit::Count).limits(warn, crit);
    if count.judge() != State::Ok {
        bad.push((count.judge(), crate::base::text::count(files.len(), "file")));
    }
    metrics.push(count);
    let (state, summary) = named::sum_up(bad).unwrap_or((State::Ok, told));
    let mut answer = Answer::new(state, summary);
    answer.metrics = metrics;
    Ok(answer)
}
