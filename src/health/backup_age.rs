//! Is there a recent, verified backup? `latest` is only ever set to an archive that was read
//! back and verified, so its age is the answer.

use super::age::age;
use super::{Answer, Metric, View};
use crate::base::State;
use crate::base::range::Unit;
use crate::base::units::{Size, parse_stamp};
use crate::config::check::BackupAge;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use std::fs;

pub(super) fn look(view: &View, options: &BackupAge) -> Result<Answer> {
    let latest = view.loaded.config.backup.dir.join("latest");
    let remedy = "`ops backup` makes one and says what is in the way";
    let target = match fs::canonicalize(&latest) {
        Ok(target) => target,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let dangling = latest.symlink_metadata().is_ok();
            let (state, summary) = match dangling {
                true => (State::Critical, "the latest backup is gone"),
                false => (State::Warning, "there is no backup yet"),
            };
            return Ok(Answer::new(state, summary).remedy(remedy));
        }
        Err(error) => return Err(error).with_context(|| format!("cannot look at {}", latest.display())),
    };
    let meta = fs::metadata(&target).with_context(|| format!("cannot look at {}", target.display()))?;
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let made = stamp_of(&name).map_or_else(|| meta.modified().map(DateTime::<Utc>::from), Ok)?;
    let Some((age, metric)) = age(view.run.now, made, options.warn.0, options.crit.0) else {
        return Ok(Answer::unknown(format!("{name} is from the future: did a clock jump?")));
    };
    let mut summary = format!("{age} old, {}, {name}", Size(meta.len()));
    let mut state = metric.judge();
    if meta.len() == 0 {
        state = State::Critical;
        summary.push_str(", and it is empty");
    }
    Ok(Answer::new(state, summary)
        .metric(metric)
        .metric(Metric::new("size", meta.len() as f64, Unit::Bytes))
        .remedy(remedy))
}

/// The UTC time in an archive's name, `20261120_093001.tar.gz`.
fn stamp_of(name: &str) -> Option<DateTime<Utc>> {
    parse_stamp(name.get(..15)?)
}
