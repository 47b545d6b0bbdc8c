//! Which archives stay: a pure function of what there is, the rule, and the time.
//!
//! The rule is "all of the last week, one an ISO week for a month, one a month for a year". The
//! newest of a bucket represents it. Everything counts back from the newest good archive, not
//! from now: backups that stopped do not age away. An archive is kept if any rule wants it, so
//! one that goes today would not have been wanted tomorrow.

use crate::config::Keep;
use chrono::{DateTime, Datelike, Utc};
use serde::Serialize;
use std::collections::BTreeSet;

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
    /// Whether a person said that it stays.
    pub pinned: bool,
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
    let good = |archive: &&Candidate| archive.verified && archive.time <= now;
    let latest = archives.iter().filter(|archive| archive.verified).max_by_key(|archive| archive.sequence);
    let newest = archives.iter().filter(good).max_by_key(|archive| order(archive));
    let Some(reference) = newest.map(|newest| newest.time) else {
        let reasons = vec!["there is no good archive to rely on".to_owned()];
        return archives
            .iter()
            .map(|archive| Verdict { name: archive.name.clone(), keep: true, reasons: reasons.clone() })
            .collect();
    };
    let since = |span: crate::base::units::Span| {
        reference.checked_sub_signed(span.delta()).unwrap_or(DateTime::<Utc>::MIN_UTC)
    };

    // Newest first, so that the first of a bucket is the one that stands for it.
    let mut ordered: Vec<&Candidate> = archives.iter().filter(good).collect();
    ordered.sort_by_key(|archive| std::cmp::Reverse(order(archive)));
    let (mut weeks, mut months) = (BTreeSet::new(), BTreeSet::new());
    let mut first_of_week = BTreeSet::new();
    let mut first_of_month = BTreeSet::new();
    for archive in ordered {
        let week = archive.time.iso_week();
        if archive.time > since(keep.weekly) && weeks.insert((week.year(), week.week())) {
            first_of_week.insert(archive.name.as_str());
        }
        if archive.time > since(keep.monthly) && months.insert((archive.time.year(), archive.time.month())) {
            first_of_month.insert(archive.name.as_str());
        }
    }

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
            if archive.time > now {
                reasons.push("from the future: the clock was changed".to_owned());
            }
            if !archive.verified {
                reasons.push("not known to be whole: look at it, then remove it by hand".to_owned());
            } else if archive.time > since(keep.all) {
                reasons.push(format!("of the last {}", keep.all));
            }
            if first_of_week.contains(archive.name.as_str()) {
                let week = archive.time.iso_week();
                reasons.push(format!("week {}-W{:02}", week.year(), week.week()));
            }
            if first_of_month.contains(archive.name.as_str()) {
                reasons.push(format!("month {}", archive.time.format("%Y-%m")));
            }
            let keep = !reasons.is_empty();
            if !keep {
                reasons.push("a newer one stands for its time".to_owned());
            }
            Verdict { name: archive.name.clone(), keep, reasons }
        })
        .collect()
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
mod tests {
    use super::*;
    use crate::base::units::Span;
    use chrono::TimeDelta;
    use proptest::prelude::*;

    fn at(text: &str) -> DateTime<Utc> {
        format!("{text}Z").parse().unwrap()
    }

    fn archive(sequence: u64, time: DateTime<Utc>) -> Candidate {
        Candidate { name: format!("{sequence:05}"), time, sequence, verified: true, pinned: false }
    }

    fn kept(archives: &[Candidate], now: DateTime<Utc>) -> Vec<Candidate> {
        let verdicts = verdicts(archives, &Keep::default(), now);
        let kept = |archive: &&Candidate| verdicts.iter().any(|v| v.keep && v.name == archive.name);
        archives.iter().filter(kept).cloned().collect()
    }

    #[test]
    fn two_years_of_daily_runs_with_an_outage() {
        let begin = at("2025-01-01T03:00:00");
        let mut archives = Vec::new();
        let mut most = 0;
        for day in 0..730 {
            let now = begin + TimeDelta::days(day);
            if (300..340).contains(&day) {
                continue;
            }
            archives.push(archive(day as u64, now));
            archives = kept(&archives, now);
            most = most.max(archives.len());
            let has = |from: TimeDelta, to: TimeDelta| {
                archives.iter().any(|one| one.time > now - from && one.time <= now - to)
            };
            if day > 40 && !(300..420).contains(&day) {
                for back in 0..7 {
                    assert!(
                        has(TimeDelta::days(back + 1), TimeDelta::days(back)),
                        "day {day}: {back} days back"
                    );
                }
                assert!(has(TimeDelta::days(16), TimeDelta::days(7)), "day {day}: nothing of two weeks ago");
                assert!(has(TimeDelta::days(30), TimeDelta::days(20)), "day {day}: nothing of a month ago");
            }
            for pair in archives.windows(2) {
                let outage = pair[0].time < begin + TimeDelta::days(300)
                    && pair[1].time > begin + TimeDelta::days(339);
                assert!(outage || pair[1].time - pair[0].time <= TimeDelta::days(31), "day {day}: {pair:?}");
            }
            // A year back, less the month that is its oldest and the month that had none.
            assert!(
                archives[0].time <= (begin + TimeDelta::days(31)).max(now - TimeDelta::days(300)),
                "day {day}: {:?}",
                archives[0]
            );
        }
        assert!(most <= 25, "{most} archives at once");
        assert!((18..=25).contains(&archives.len()), "{} archives in the end", archives.len());
    }

    #[test]
    fn the_same_week_in_two_years_is_one_bucket() {
        // 30 December 2024 and 2 January 2025 are of one ISO week.
        let now = at("2025-01-10T00:00:00");
        let archives =
            [archive(1, at("2024-12-30T00:00:00")), archive(2, at("2025-01-02T00:00:00")), archive(3, now)];
        let verdicts = verdicts(&archives, &Keep::default(), now);
        assert_eq!(verdicts[0].reasons, ["month 2024-12"]);
        assert_eq!(verdicts[1].reasons, ["week 2025-W01"]);
    }

    #[test]
    fn a_bad_newest_never_displaces_a_good_older_one() {
        let now = at("2026-06-10T00:00:00");
        let mut bad = archive(2, now);
        bad.verified = false;
        let archives = [archive(1, at("2026-01-01T00:00:00")), bad];
        let verdicts = verdicts(&archives, &Keep::default(), now);
        assert!(verdicts[0].keep && verdicts[0].reasons[0] == "the newest good one");
        assert!(verdicts[1].keep && verdicts[1].reasons[0].starts_with("not known"));
    }

    #[test]
    fn a_clock_in_2099_wipes_nothing() {
        let now = at("2026-06-10T00:00:00");
        let mut archives: Vec<_> =
            (0..7).map(|day| archive(day, now - TimeDelta::days(day as i64))).collect();
        archives.push(archive(99, at("2099-01-01T00:00:00")));
        assert_eq!(kept(&archives, now).len(), 8);
    }

    #[test]
    fn backups_that_stopped_do_not_age_away() {
        let made = at("2024-06-10T00:00:00");
        let archives: Vec<_> = (0..7).map(|day| archive(day, made + TimeDelta::days(day as i64))).collect();
        assert_eq!(kept(&archives, at("2026-06-10T00:00:00")).len(), 7);
    }

    #[test]
    fn many_deletions_at_once_look_like_a_slip() {
        let verdict = |keep| Verdict { name: String::new(), keep, reasons: Vec::new() };
        let plan =
            |kept: usize, gone: usize| [vec![verdict(true); kept], vec![verdict(false); gone]].concat();
        assert!(!is_drastic(&plan(1, 3)));
        assert!(!is_drastic(&plan(4, 4)));
        assert!(is_drastic(&plan(3, 4)));
    }

    fn some_archives() -> impl Strategy<Value = Vec<Candidate>> {
        let one = (0i64..800 * 86_400, prop::bool::weighted(0.9), prop::bool::weighted(0.05));
        prop::collection::vec(one, 0..80).prop_map(|mut all| {
            all.sort();
            let begin = at("2024-01-01T00:00:00");
            all.into_iter()
                .enumerate()
                .map(|(n, (seconds, verified, pinned))| Candidate {
                    verified,
                    pinned,
                    ..archive(n as u64, begin + TimeDelta::seconds(seconds))
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn the_newest_good_one_and_every_pin_stay(archives in some_archives(), day in 0i64..900) {
            let now = at("2024-01-01T00:00:00") + TimeDelta::days(day);
            let left = kept(&archives, now);
            let newest = |all: &[Candidate]| {
                all.iter().filter(|a| a.verified && a.time <= now).map(|a| a.sequence).max()
            };
            prop_assert_eq!(newest(&left), newest(&archives));
            prop_assert!(archives.iter().filter(|a| a.pinned || !a.verified || a.time > now)
                .all(|a| left.iter().any(|l| l.name == a.name)));
        }

        #[test]
        fn a_second_run_finds_nothing_more_to_do(archives in some_archives(), day in 0i64..900) {
            let now = at("2024-01-01T00:00:00") + TimeDelta::days(day);
            let once = kept(&archives, now);
            prop_assert_eq!(kept(&once, now).len(), once.len());
        }

        #[test]
        fn what_goes_today_would_not_be_wanted_tomorrow(archives in some_archives(), day in 0i64..900, later in 1i64..60) {
            let today = at("2024-01-01T00:00:00") + TimeDelta::days(day);
            let then = today + TimeDelta::days(later);
            let mut both = archives.clone();
            both.push(archive(9999, then));
            let mut pruned = kept(&archives, today);
            pruned.push(archive(9999, then));
            let names = |all: Vec<Candidate>| all.into_iter().map(|a| a.name).collect::<Vec<_>>();
            let gone: Vec<_> = names(archives.clone());
            let left = names(kept(&pruned, then));
            // Whatever the later rule keeps of the full set is still there in the thinned one.
            for name in names(kept(&both, then)) {
                prop_assert!(left.contains(&name) || !gone.contains(&name), "{name} is missed");
            }
        }

        #[test]
        fn every_month_that_had_one_keeps_one(archives in some_archives()) {
            let now = at("2026-03-12T00:00:00");
            let keep = Keep { all: Span::days(7), weekly: Span::days(30), monthly: Span::days(365) };
            let good: Vec<_> = archives.iter().filter(|a| a.verified).collect();
            let Some(newest) = good.iter().map(|a| a.time).max() else { return Ok(()) };
            let verdicts = verdicts(&archives, &keep, now);
            for one in good.iter().filter(|a| a.time > newest - TimeDelta::days(365)) {
                let month = |a: &Candidate| (a.time.year(), a.time.month());
                let stands = archives.iter().zip(&verdicts)
                    .any(|(a, v)| v.keep && a.verified && month(a) == month(one));
                prop_assert!(stands);
            }
        }
    }
}
