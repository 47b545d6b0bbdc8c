//! Which archives stay: a pure function of what there is, the rule, and the time.
//!
//! The rule is "all of the last week, one an ISO week for a month, one a month for a year". The
//! newest of a bucket represents it. Everything counts back from the newest good archive, not
//! from now: backups that stopped do not age away. An archive is kept if any rule wants it, so
//! one that goes today would not have been wanted tomorrow.

use super::flaw::Standing;
use super::manifest::Name;
use crate::base::text::one_line;
use crate::base::units::Span;
use crate::config::Keep;
use chrono::{DateTime, Datelike, TimeDelta, Utc};
use serde::Serialize;
use std::collections::BTreeMap;

/// What the rule needs to know of an archive.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its file name.
    pub name: String,
    /// When it was made, as its manifest says.
    pub time: DateTime<Utc>,
    /// Its place in the order of making, whatever the clock said.
    pub sequence: u64,
    /// Whether it was read back and found whole. One that was not never stands for others and
    /// never goes by itself.
    pub verified: bool,
    /// What it is good for. One that is damaged or misses something never stands for one that is good.
    pub standing: Standing,
    /// Whether a person said that it stays.
    pub pinned: bool,
    /// Databases that are flawed in the newest archive, and of which this is the last that has them.
    pub last_with: Vec<Name>,
}

/// What happens to one archive, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The archive's file name.
    pub name: String,
    /// Whether it stays.
    pub keep: bool,
    /// Every rule that wants it; or why it goes.
    pub reasons: Vec<String>,
}

/// Judges every archive, in the order given.
///
/// The newest good archive always stays, and without one nothing goes.
pub fn verdicts(archives: &[Candidate], keep: &Keep, now: DateTime<Utc>) -> Vec<Verdict> {
    let readable = |archive: &&Candidate| archive.verified && archive.time <= now;
    // Where none is good, those that only miss something are relied on.
    let best = archives.iter().filter(|archive| archive.verified).map(|archive| archive.standing).min();
    let best = best.filter(|standing| *standing < Standing::Damaged);
    let good = |archive: &&Candidate| archive.verified && Some(archive.standing) == best;
    let latest = archives.iter().filter(good).max_by_key(|archive| archive.sequence);
    let newest = archives.iter().filter(readable).filter(good).max_by_key(|archive| order(archive));
    let Some(reference) = newest.map(|newest| newest.time) else {
        let reasons = vec!["there is no good archive to rely on".to_owned()];
        return archives
            .iter()
            .map(|archive| Verdict { name: archive.name.clone(), keep: true, reasons: reasons.clone() })
            .collect();
    };
    // What came after it is flawed, and goes by its own age.
    let last = archives.iter().filter(readable).map(|archive| archive.time).max().unwrap_or(reference);
    let is_young = |archive: &Candidate, span: Span| {
        let reference = if archive.time > reference { last } else { reference };
        reference.checked_sub_signed(span.delta()).is_none_or(|since| archive.time > since)
    };

    // The best first, of those the newest, so that the first of a bucket is the one that stands for it.
    let mut ordered: Vec<&Candidate> = archives.iter().filter(readable).collect();
    ordered.sort_by_key(|archive| (archive.standing, std::cmp::Reverse(order(archive))));
    let (mut weeks, mut months) = (BTreeMap::new(), BTreeMap::new());
    for archive in ordered {
        if is_young(archive, keep.weekly) {
            weeks.entry(week(archive)).or_insert(archive.name.as_str());
        }
        if is_young(archive, keep.monthly) {
            months.entry(month(archive)).or_insert(archive.name.as_str());
        }
    }
    let stands = |name: Option<&&str>, archive: &Candidate| name.is_some_and(|name| *name == archive.name);

    archives
        .iter()
        .map(|archive| {
            let mut reasons = Vec::new();
            if latest.is_some_and(|latest| latest.name == archive.name)
                || newest.is_some_and(|newest| newest.name == archive.name)
            {
                reasons.push("the newest good one".to_owned());
            }
            if archive.pinned {
                reasons.push("pinned".to_owned());
            }
            if let [first, more @ ..] = &archive.last_with[..] {
                let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
                let name = one_line(&first.0.display().to_string(), 100);
                reasons.push(format!("the last one with {name}{more}"));
            }
            if archive.time > now {
                reasons.push("from the future: the clock was changed".to_owned());
            }
            if !archive.verified {
                reasons.push("not known to be whole: look at it, then remove it by hand".to_owned());
            } else if is_young(archive, keep.all) {
                reasons.push(format!("of the last {}", keep.all));
            }
            let (year, week_number) = week(archive);
            if stands(weeks.get(&week(archive)), archive) {
                reasons.push(format!("week {year}-W{week_number:02}"));
            }
            if stands(months.get(&month(archive)), archive) {
                reasons.push(format!("month {}", archive.time.format("%Y-%m")));
            }
            let stays = !reasons.is_empty();
            if !stays {
                if is_young(archive, keep.weekly)
                    && let Some(name) = weeks.get(&week(archive))
                {
                    reasons.push(format!("{name} stands for its week"));
                }
                match months.get(&month(archive)) {
                    Some(name) if is_young(archive, keep.monthly) => {
                        reasons.push(format!("{name} stands for its month"));
                    }
                    _ => reasons.push(format!("older than {}", keep.monthly.max(keep.weekly).max(keep.all))),
                }
            }
            Verdict { name: archive.name.clone(), keep: stays, reasons }
        })
        .collect()
}

/// The ISO year and week.
fn week(archive: &Candidate) -> (i32, u32) {
    let week = archive.time.iso_week();
    (week.year(), week.week())
}

/// The year and month.
fn month(archive: &Candidate) -> (i32, u32) {
    (archive.time.year(), archive.time.month())
}

/// What the rule comes to in the long run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Settled {
    /// How many archives there will be.
    pub archives: usize,
    /// Their bytes, if they stay as large as the newest.
    pub bytes: u64,
    /// The time between two of them that this takes for granted, in seconds.
    pub every_seconds: i64,
}

/// Where the rule settles if archives of the newest's size go on coming as they did lately; of
/// fewer than two, one a day is expected. None: there is no good archive.
pub fn settled(
    archives: &[Candidate],
    keep: &Keep,
    newest_bytes: u64,
    now: DateTime<Utc>,
) -> Option<Settled> {
    let mut times: Vec<_> =
        archives.iter().filter(|one| one.verified && one.time <= now).map(|one| one.time).collect();
    times.sort_by_key(|time| std::cmp::Reverse(*time));
    let newest = *times.first()?;
    let mut gaps: Vec<TimeDelta> = times.windows(2).take(9).map(|pair| pair[0] - pair[1]).collect();
    gaps.sort();
    let every = gaps.get(gaps.len() / 2).copied().unwrap_or(TimeDelta::days(1));
    // Whoever made some by hand, one after another, will not go on so for a year.
    let every = every.clamp(TimeDelta::minutes(5), TimeDelta::days(366));
    // Buckets are a week long at least: four a day tell as much as one a minute.
    let sparse = every.max(TimeDelta::hours(6));
    let longest = keep.all.max(keep.weekly).max(keep.monthly).delta().min(TimeDelta::days(20 * 366));
    let mut made = Vec::new();
    let mut age = TimeDelta::zero();
    while age <= longest {
        let time = newest - age;
        made.push(Candidate {
            name: made.len().to_string(),
            time,
            sequence: 0,
            verified: true,
            standing: Standing::Good,
            pinned: false,
            last_with: Vec::new(),
        });
        // An archive more on the edge of the densest part, so that none is missed between.
        age += if age <= keep.all.delta() { every } else { sparse };
    }
    let archives = verdicts(&made, keep, newest).iter().filter(|verdict| verdict.keep).count();
    let bytes = newest_bytes.saturating_mul(archives as u64);
    Some(Settled { archives, bytes, every_seconds: every.num_seconds() })
}

fn order(archive: &Candidate) -> (DateTime<Utc>, u64) {
    (archive.time, archive.sequence)
}

/// Whether so many deletions at once look like a slip: more than three, and more than half.
pub fn is_drastic(verdicts: &[Verdict]) -> bool {
    let gone = verdicts.iter().filter(|verdict| !verdict.keep).count();
    gone > 3 && gone * 2 > verdicts.len()
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
