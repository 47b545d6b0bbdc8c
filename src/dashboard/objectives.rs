//! How it should be (DESIGN 6.7), and how it is.

use super::{Backups, Disk, History};
use crate::base::units::Span;
use serde::Serialize;
use std::time::Duration;

/// One objective.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Objective {
    /// What is measured.
    pub name: &'static str,
    /// What it should be.
    pub target: &'static str,
    /// What it is, as a number: percent, seconds or a count.
    pub actual: Option<f64>,
    /// The same, as people read it.
    pub text: String,
    /// Whether it is met; none, if that cannot be told yet.
    pub met: Option<bool>,
}

/// A backup a day, with room for a late run of cron.
const BACKUP: Duration = Duration::from_secs(26 * 3600);

/// All objectives, in the order in which they are shown.
pub(super) fn objectives(history: &History, backups: &Backups, disk: Option<&Disk>) -> Vec<Objective> {
    let objective =
        |name, target, actual: Option<f64>, text: &dyn Fn(f64) -> String, good: &dyn Fn(f64) -> bool| {
            Objective {
                name,
                target,
                actual,
                text: actual.map_or_else(|| "not known yet".to_owned(), text),
                met: actual.map(good),
            }
        };
    let percent = |value: f64| format!("{} % (7 d)", shorten(value));
    let newest = backups.newest.as_ref().filter(|newest| newest.verified);
    let mut all = vec![
        objective("uptime", "> 99 %", history.uptime.percent(), &percent, &|value| value > 99.0),
        objective("checks passing", "> 95 %", history.checks.percent(), &percent, &|value| value > 95.0),
        objective(
            "backup a day",
            "≤ 26 h old",
            newest.map(|newest| newest.age as f64),
            &|age| format!("{} old", Span::seconds(age as u64)),
            &|age| age <= BACKUP.as_secs_f64(),
        ),
        objective(
            "disk used",
            "< 80 %",
            disk.map(|disk| disk.used_percent),
            &|value| format!("{} %", shorten(value)),
            &|value| value < 80.0,
        ),
        objective(
            "alerts",
            "< 5 a day",
            history.alerts.map(|number| number as f64),
            &|number| format!("{number} (24 h)"),
            &|number| number < 5.0,
        ),
        objective(
            "restarts",
            "< 1 a week",
            history.restarts.map(|number| number as f64),
            &|number| format!("{number} (7 d)"),
            &|number| number < 1.0,
        ),
    ];
    // No backup at all is not a matter of not knowing.
    if let Some(backup) =
        all.iter_mut().find(|objective| objective.name == "backup a day" && objective.met.is_none())
    {
        backup.text = if backups.count == 0 { "none yet" } else { "none verified" }.to_owned();
        backup.met = Some(false);
    }
    all
}

/// Two places after the point at most, rounded down: 99.996 % is not 100 %.
fn shorten(percent: f64) -> String {
    ((percent * 100.0).floor() / 100.0).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::Archive;

    #[test]
    fn what_is_not_known_is_neither_met_nor_missed_save_that_there_is_no_backup() {
        let backups = Backups { folder: String::new(), count: 0, bytes: 0, newest: None, flaws: Vec::new() };
        let all = objectives(&History::default(), &backups, None);
        assert_eq!(all.len(), 6);
        assert!(all.iter().all(|objective| objective.actual.is_none()));
        let told: Vec<_> = all.iter().filter(|objective| objective.met.is_some()).collect();
        assert_eq!((told.len(), told[0].text.as_str(), told[0].met), (1, "none yet", Some(false)));
    }

    #[test]
    fn the_limits_of_the_design() {
        let newest = Archive {
            name: String::new(),
            at: chrono::DateTime::UNIX_EPOCH,
            age: 26 * 3600,
            bytes: 1,
            verified: true,
        };
        let mut backups =
            Backups { folder: String::new(), count: 1, bytes: 1, newest: Some(newest), flaws: Vec::new() };
        let mut history = History { alerts: Some(4), restarts: Some(0), ..History::default() };
        history.uptime = super::super::history::Share { all: 10_000, ok: 9_996 };
        history.checks = super::super::history::Share { all: 100, ok: 95 };
        let disk = Disk { free: 1, total: 1, used_percent: 79.99 };
        let met = |history: &History, backups: &Backups| -> Vec<Option<bool>> {
            objectives(history, backups, Some(&disk)).into_iter().map(|objective| objective.met).collect()
        };
        assert_eq!(met(&history, &backups), [true, false, true, true, true, true].map(Some));
        assert_eq!(objectives(&history, &backups, Some(&disk))[0].text, "99.96 % (7 d)");
        (history.alerts, history.restarts) = (Some(5), Some(1));
        if let Some(newest) = &mut backups.newest {
            newest.age += 1;
        }
        assert_eq!(met(&history, &backups), [true, false, false, true, false, false].map(Some));
    }
}
