//! Is there a recent backup that a restore would bring back sound and whole? And is a newer one flawed?

use super::age::age;
use super::{Answer, Metric, View};
use crate::backup::{Archive, Standing, catalog};
use crate::base::range::Unit;
use crate::base::units::Size;
use crate::base::{State, text};
use crate::config::check::BackupAge;
use anyhow::Result;

const REMEDY: &str =
    "`ops backup` makes one and says what is in the way; `ops backup list` shows what there is";

pub(super) fn look(view: &View, options: &BackupAge) -> Result<Answer> {
    let records = view.archives.clone().unwrap_or_default();
    let catalog = catalog::status_knowing(&view.loaded, &records)?;
    // Of other programs, the newest counts for as long as there is none of this one.
    let foreign = |archive: &&Archive| archive.standing.is_none() && archive.problem.is_none();
    let Some(latest) = catalog.latest().or_else(|| catalog.archives.iter().find(foreign)) else {
        let unreadable = catalog.newer_flaws().into_iter().next();
        let known = records.count();
        let (state, summary) = match unreadable {
            Some(why) => (State::Critical, format!("there is no good backup: {why}")),
            None if known > 0 => {
                (State::Critical, format!("the backups are gone: there were {known}, and none is left"))
            }
            None => (State::Warning, "there is no backup yet".to_owned()),
        };
        return Ok(Answer::new(state, text::one_line(&summary, 300)).remedy(REMEDY));
    };
    let name = &latest.name;
    let Some((age, metric)) = age(view.run.now, latest.time, options.warn.0, options.crit.0) else {
        return Ok(Answer::unknown(format!("{name} is from the future: did a clock jump?")));
    };
    let mut summary = format!("{age} old, {}, {name}", Size(latest.bytes));
    let mut state = metric.judge();
    if let Some(flaw) = latest.flaws.first() {
        let flawed =
            if latest.standing == Some(Standing::Incomplete) { State::Warning } else { State::Critical };
        state = state.worse(flawed);
        summary.push_str(&format!("; there is no better one, and {flaw}"));
    }
    if !latest.unjudged.is_empty() {
        let databases = text::count(latest.unjudged.len(), "database");
        summary.push_str(&format!("; {databases} in it could not be judged"));
    }
    if latest.bytes == 0 {
        state = State::Critical;
        summary.push_str(", and it is empty");
    }
    if let Some(newer) = catalog.newer_flaws().first() {
        state = state.worse(State::Warning);
        summary.push_str(&format!("; {newer}"));
    }
    Ok(Answer::new(state, text::one_line(&summary, 500))
        .metric(metric)
        .metric(Metric::new("size", latest.bytes as f64, Unit::Bytes))
        .remedy(REMEDY))
}
