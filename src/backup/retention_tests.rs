use super::*;
use chrono::TimeDelta;
use proptest::prelude::*;

fn at(text: &str) -> DateTime<Utc> {
    format!("{text}Z").parse().unwrap()
}

fn archive(sequence: u64, time: DateTime<Utc>) -> Candidate {
    Candidate {
        name: format!("{sequence:05}"),
        time,
        sequence,
        verified: true,
        standing: Standing::Good,
        pinned: false,
        last_with: Vec::new(),
    }
}

fn kept(archives: &[Candidate], now: DateTime<Utc>) -> Vec<Candidate> {
    let verdicts = verdicts(archives, &Keep::default(), now);
    let kept = |archive: &&Candidate| verdicts.iter().any(|v| v.keep && v.name == archive.name);
    archives.iter().filter(kept).cloned().collect()
}

/// The rule once more, said the other way round, of all that were ever made, oldest first: who
/// is young, or the last before a new week or month begins?
fn wanted(ever: &[Candidate]) -> Vec<DateTime<Utc>> {
    let Some(newest) = ever.last() else { return Vec::new() };
    let is_wanted = |(index, one): (usize, &Candidate)| {
        let (age, next) = (newest.time - one.time, ever.get(index + 1));
        let last = age < TimeDelta::days(7)
            || age < TimeDelta::days(30) && next.is_none_or(|next| week(next) != week(one))
            || age < TimeDelta::days(365) && next.is_none_or(|next| month(next) != month(one));
        last.then_some(one.time)
    };
    ever.iter().enumerate().filter_map(is_wanted).collect()
}

/// Two years of runs, pruned after each. On every day there must be exactly what the rule wants
/// of all that were ever made: what went was never missed. Gives how many there were each day.
fn two_years(runs_on: impl Fn(i64) -> Vec<DateTime<Utc>>) -> Vec<usize> {
    let (mut ever, mut left, mut counts, mut made) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for day in 0..731 {
        for now in runs_on(day) {
            made += 1;
            let new = archive(made, now);
            ever.push(new.clone());
            left.push(new);
            left = kept(&left, now);
        }
        // What is out of the longest reach is out for good.
        let newest = ever.last().map(|one: &Candidate| one.time);
        ever.retain(|one| newest.is_some_and(|newest| newest - one.time < TimeDelta::days(400)));
        assert_eq!(left.iter().map(|one| one.time).collect::<Vec<_>>(), wanted(&ever), "day {day}");
        counts.push(left.len());
    }
    counts
}

#[test]
fn two_years_of_daily_runs_keep_what_the_rule_says_on_every_day() {
    let begin = at("2025-01-01T03:00:00");
    let counts = two_years(|day| vec![begin + TimeDelta::days(day)]);
    assert!(counts[400..].iter().all(|count| (20..=25).contains(count)), "{counts:?}");
}

#[test]
fn two_years_with_an_outage_keep_what_the_rule_says_on_every_day() {
    let begin = at("2025-01-01T03:00:00");
    // Of a day, a week, a month, three months, over a year; in the middle and at the edges.
    for (from, days) in [(400, 1), (363, 7), (300, 40), (20, 90), (200, 380), (0, 3), (700, 31)] {
        let runs = |day: i64| {
            if (from..from + days).contains(&day) { Vec::new() } else { vec![begin + TimeDelta::days(day)] }
        };
        two_years(runs);
    }
}

#[test]
fn two_years_of_odd_hours_keep_what_the_rule_says_on_every_day() {
    let begin = at("2025-01-01T00:00:00");
    // None, one or several a day, never at the same hour; now and then nothing for weeks.
    let mix = |n: i64| (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    let runs = |day: i64| {
        if mix(day / 17) % 5 == 0 {
            return Vec::new();
        }
        let mut seconds: Vec<_> = (0..mix(day) % 3).map(|n| mix(day * 7 + n as i64) % 86_400).collect();
        seconds.sort();
        seconds.into_iter().map(|s| begin + TimeDelta::days(day) + TimeDelta::seconds(s as i64)).collect()
    };
    two_years(runs);
}

#[test]
fn where_the_rule_settles_is_known_from_the_first_archive() {
    let now = at("2026-06-10T03:00:00");
    let of = |every: TimeDelta, count: i32| {
        let archives: Vec<_> = (0..count).map(|n| archive(n as u64, now - every * n)).collect();
        settled(&archives, &Keep::default(), 1000, now)
    };
    assert_eq!(of(TimeDelta::days(1), 0), None);
    let daily = of(TimeDelta::days(1), 1).unwrap();
    assert!((20..=25).contains(&daily.archives), "{daily:?}");
    assert_eq!(daily.bytes, daily.archives as u64 * 1000);
    assert_eq!(of(TimeDelta::days(1), 9), Some(daily));
    let hourly = of(TimeDelta::hours(1), 9).unwrap();
    assert!((180..=186).contains(&hourly.archives), "{hourly:?}");
    assert_eq!(hourly.every_seconds, 3600);
    assert!((12..=14).contains(&of(TimeDelta::days(30), 3).unwrap().archives));
    // Twenty by hand within a minute, and a shelf of nothing but the future.
    assert!(of(TimeDelta::seconds(3), 20).unwrap().archives < 2100);
    assert_eq!(settled(&[archive(1, now + TimeDelta::days(9))], &Keep::default(), 1, now), None);
}

#[test]
fn each_verdict_has_its_reason() {
    let now = at("2026-06-10T03:00:00");
    let archives = [
        archive(1, at("2025-01-01T00:00:00")),
        archive(2, at("2026-03-01T00:00:00")),
        archive(3, at("2026-03-02T00:00:00")),
        archive(4, at("2026-05-19T00:00:00")),
        archive(5, at("2026-05-20T00:00:00")),
        archive(6, now),
        archive(7, at("2027-01-01T00:00:00")),
    ];
    let all = verdicts(&archives, &Keep::default(), now);
    let reasons: Vec<_> = all.iter().map(|verdict| verdict.reasons.join(", ")).collect();
    assert_eq!(reasons[0], "older than 365d");
    assert_eq!(reasons[1], "00003 stands for its month");
    assert_eq!(reasons[2], "month 2026-03");
    assert_eq!(reasons[3], "00005 stands for its week, 00005 stands for its month");
    assert_eq!(reasons[4], "week 2026-W21, month 2026-05");
    assert!(reasons[5].starts_with("the newest good one, of the last 7d, week 2026-W24"), "{reasons:?}");
    assert!(reasons[6].contains("from the future"), "{reasons:?}");
    let keep = |verdict: &Verdict| verdict.keep;
    assert_eq!(all.iter().map(keep).collect::<Vec<_>>(), [false, false, true, false, true, true, true]);
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
    let mut archives: Vec<_> = (0..7).map(|day| archive(day, now - TimeDelta::days(day as i64))).collect();
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
    let plan = |kept: usize, gone: usize| [vec![verdict(true); kept], vec![verdict(false); gone]].concat();
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

/// Archives of every standing. One that cannot be read is not verified; the clock was now and then wrong.
fn mixed_archives() -> impl Strategy<Value = Vec<Candidate>> {
    use Standing::{Damaged, Good, Incomplete, Unreadable};
    let standing = prop::sample::select(vec![Good, Good, Good, Incomplete, Incomplete, Damaged, Unreadable]);
    // Often there is no good one at all, or nothing but damage.
    let best = prop::sample::select(vec![Good, Good, Incomplete, Damaged, Unreadable]);
    let one = (0i64..800 * 86_400, standing, prop::bool::weighted(0.05), prop::bool::weighted(0.05));
    (best, prop::collection::vec(one, 0..60)).prop_map(|(best, mut all)| {
        all.sort_by_key(|(seconds, ..)| *seconds);
        let begin = at("2024-01-01T00:00:00");
        let archives = all.into_iter().enumerate().map(|(n, (seconds, standing, pinned, wrong))| {
            let standing = standing.max(best);
            let seconds = if wrong { (seconds * 7919) % (800 * 86_400) } else { seconds };
            let time = begin + TimeDelta::seconds(seconds);
            Candidate { standing, verified: standing < Unreadable, pinned, ..archive(n as u64, time) }
        });
        archives.collect()
    })
}

/// The one that a restore takes: of those that are good for most, the one made last.
fn restored(archives: &[Candidate]) -> Option<&Candidate> {
    let readable = archives.iter().filter(|archive| archive.standing < Standing::Unreadable);
    readable.max_by_key(|archive| (std::cmp::Reverse(archive.standing), archive.sequence))
}

proptest! {
    #[test]
    fn of_mixed_archives_what_a_restore_takes_stays(archives in mixed_archives(), day in 0i64..900) {
        let now = at("2024-01-01T00:00:00") + TimeDelta::days(day);
        let left = kept(&archives, now);
        let name = |archive: Option<&Candidate>| archive.map(|archive| archive.name.clone());
        prop_assert_eq!(name(restored(&left)), name(restored(&archives)));
        // The same without clocks that run ahead: what was made by now.
        let by_now = |all: &[Candidate]| all.iter().filter(|a| a.time <= now).cloned().collect::<Vec<_>>();
        let best = restored(&by_now(&archives)).map(|archive| archive.standing);
        let newest = |all: &[Candidate]| {
            let all = by_now(all);
            let best = all.iter().filter(|a| a.verified && Some(a.standing) == best);
            best.max_by_key(|a| (a.time, a.sequence)).map(|a| a.name.clone())
        };
        prop_assert_eq!(newest(&left), newest(&archives));
    }

    #[test]
    fn of_mixed_archives_nothing_goes_without_one_as_good_in_its_stead(archives in mixed_archives(), day in 0i64..900) {
        let now = at("2024-01-01T00:00:00") + TimeDelta::days(day);
        let left = kept(&archives, now);
        let is_left = |archive: &Candidate| left.iter().any(|left| left.name == archive.name);
        let gone: Vec<_> = archives.iter().filter(|archive| !is_left(archive)).collect();
        if gone.is_empty() {
            return Ok(());
        }
        // What all is counted from: the newest of the best there are, and those are not damaged.
        let best = archives.iter().filter(|a| a.verified).map(|a| a.standing).min().unwrap();
        prop_assert!(best < Standing::Damaged);
        let from = archives.iter().filter(|a| a.verified && a.standing == best && a.time <= now).map(|a| a.time).max();
        let from = from.unwrap();
        for one in gone {
            prop_assert!(one.verified && !one.pinned && one.time <= now, "{one:?}");
            // What came after the newest good one is flawed, and its age counts from the last of its kind.
            let last = archives.iter().filter(|a| a.verified && a.time <= now).map(|a| a.time).max().unwrap();
            let age = if one.time > from { last } else { from } - one.time;
            prop_assert!(age >= TimeDelta::days(7), "{one:?}");
            let stands = |same: &dyn Fn(&Candidate) -> bool| {
                left.iter().any(|l| l.verified && l.time <= now && l.standing <= one.standing && same(l))
            };
            prop_assert!(age >= TimeDelta::days(30) || stands(&|l| week(l) == week(one)), "{one:?}");
            prop_assert!(age >= TimeDelta::days(365) || stands(&|l| month(l) == month(one)), "{one:?}");
            // Older than all reach, one that is better than itself or as good is there still.
            prop_assert!(stands(&|_| true), "{one:?}");
        }
    }

    #[test]
    fn of_mixed_archives_worse_ones_change_nothing_for_the_best(archives in mixed_archives(), day in 0i64..900) {
        let now = at("2024-01-01T00:00:00") + TimeDelta::days(day);
        let Some(best) = archives.iter().filter(|a| a.verified).map(|a| a.standing).min() else { return Ok(()) };
        let of_best = |all: Vec<Candidate>| {
            all.into_iter().filter(|a| a.verified && a.standing == best).map(|a| a.name).collect::<Vec<_>>()
        };
        let alone: Vec<_> = archives.iter().filter(|a| a.verified && a.standing == best).cloned().collect();
        prop_assert_eq!(of_best(kept(&archives, now)), of_best(kept(&alone, now)));
    }

    #[test]
    fn of_mixed_archives_a_second_run_finds_nothing_more_to_do(archives in mixed_archives(), day in 0i64..900) {
        let now = at("2024-01-01T00:00:00") + TimeDelta::days(day);
        let once = kept(&archives, now);
        prop_assert_eq!(kept(&once, now).len(), once.len());
    }

    #[test]
    fn of_mixed_archives_what_goes_today_would_not_be_wanted_tomorrow(
        archives in mixed_archives(), day in 0i64..900, later in 1i64..60, standing in 0usize..4
    ) {
        let standing = [Standing::Good, Standing::Incomplete, Standing::Damaged, Standing::Unreadable][standing];
        let today = at("2024-01-01T00:00:00") + TimeDelta::days(day);
        let then = today + TimeDelta::days(later);
        let new = Candidate { standing, verified: standing < Standing::Unreadable, ..archive(9999, then) };
        let with = |mut all: Vec<Candidate>| {
            all.push(new.clone());
            kept(&all, then)
        };
        let left = with(kept(&archives, today));
        for one in with(archives.clone()) {
            // A worse one made room for a better one of its month, which has aged away since.
            let was_worse = || {
                let same = |a: &Candidate| month(a) == month(&one) || week(a) == week(&one);
                archives.iter().any(|a| a.verified && a.standing < one.standing && same(a))
            };
            prop_assert!(left.iter().any(|left| left.name == one.name) || was_worse(), "{} is missed", one.name);
        }
    }

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
    fn without_a_good_one_nothing_goes(mut archives in some_archives(), day in 0i64..900) {
        let now = at("2024-01-01T00:00:00") + TimeDelta::days(day);
        for one in &mut archives {
            one.verified = one.time > now && one.verified;
        }
        prop_assert_eq!(kept(&archives, now).len(), archives.len());
    }

    #[test]
    fn a_damaged_or_future_one_changes_nothing_for_the_others(archives in some_archives(), day in 0i64..900) {
        let now = at("2024-01-01T00:00:00") + TimeDelta::days(day);
        let sound: Vec<_> = archives.iter().filter(|a| a.verified && a.time <= now).cloned().collect();
        prop_assume!(!sound.is_empty());
        let names = |all: Vec<Candidate>| all.into_iter().map(|a| a.name).collect::<Vec<_>>();
        let with: Vec<_> = kept(&archives, now).into_iter().filter(|a| a.verified && a.time <= now).collect();
        let latest = archives.iter().filter(|a| a.verified).max_by_key(|a| a.sequence).map(|a| a.name.clone());
        // Only `latest`, the last one made, stays whatever its date.
        let (mut with, mut without) = (names(with), names(kept(&sound, now)));
        with.retain(|name| Some(name) != latest.as_ref());
        without.retain(|name| Some(name) != latest.as_ref());
        prop_assert_eq!(with, without);
    }

    #[test]
    fn every_day_week_and_month_that_had_one_keeps_one(archives in some_archives(), day in 0i64..900) {
        let now = at("2024-01-01T00:00:00") + TimeDelta::days(day);
        let left = kept(&archives, now);
        let good: Vec<_> = archives.iter().filter(|a| a.verified && a.time <= now).collect();
        let Some(newest) = good.iter().map(|a| a.time).max() else { return Ok(()) };
        for one in good {
            let stands = |same: &dyn Fn(&Candidate) -> bool| left.iter().any(|l| l.verified && same(l));
            let age = newest - one.time;
            prop_assert!(age >= TimeDelta::days(7) || stands(&|l| l.name == one.name));
            prop_assert!(age >= TimeDelta::days(30) || stands(&|l| week(l) == week(one)));
            prop_assert!(age >= TimeDelta::days(365) || stands(&|l| month(l) == month(one)));
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(archives in some_archives(), day in 0i64..900) {
        let now = at("2024-01-01T00:00:00") + TimeDelta::days(day);
        let mut backwards = archives.clone();
        backwards.reverse();
        let mut there = verdicts(&backwards, &Keep::default(), now);
        there.reverse();
        prop_assert_eq!(verdicts(&archives, &Keep::default(), now), there);
    }
}
