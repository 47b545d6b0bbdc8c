//! What the name of a log says, and the names that rotation gives.

use chrono::{Datelike, NaiveDate};

/// What the agent's own logger, or logrotate, makes of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kin<'a> {
    /// The name of that log.
    pub(crate) log: &'a str,
    /// It is renamed again, from `.1` to `.2`, whenever there is a new one.
    pub(crate) shifts: bool,
    /// A time follows the day: it is closed. One with a day alone may be that of today, in use.
    pub(crate) timed: bool,
}

/// So many digits has a day.
const DAY: usize = 8;

/// Tells such a name, compressed or not: `app.log.1` (Python's RotatingFileHandler, logrotate), `app.log.2026-11-19` and
/// `app.log.2026-11-19_13` (TimedRotatingFileHandler), `app.log-20261119` (logrotate's dateext).
pub(crate) fn kin(name: &str) -> Option<Kin<'_>> {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    if numbered(name).is_some() {
        return None;
    }
    if let Some((log, number)) = name.rsplit_once('.')
        && is_number(number)
    {
        return (!log.is_empty()).then_some(Kin { log, shifts: true, timed: false });
    }
    let dated = |text: &str| {
        let only = text.bytes().all(|byte| byte.is_ascii_digit() || b"-_.:T".contains(&byte));
        only && text.starts_with(|c: char| c.is_ascii_digit())
            && day_in(text.get(..10).unwrap_or(text)).is_some()
    };
    let (at, _) = name.match_indices(['.', '-']).find(|(at, _)| *at > 0 && dated(&name[at + 1..]))?;
    let digits = name[at + 1..].bytes().filter(u8::is_ascii_digit).count();
    Some(Kin { log: &name[..at], shifts: false, timed: digits >= DAY + 2 })
}

/// Whether an ending is a number that other programs count their old logs by: `app.log.1`.
pub(crate) fn is_number(text: &str) -> bool {
    text.len() <= 3 && is_count(text)
}

/// Whether it is one that we count by. More digits are a day or something else.
fn is_count(text: &str) -> bool {
    (1..=6).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A name before and from the ending that says what is in the file: `daemon` and `.log`. An ending
/// that is a number, or none, says nothing.
pub(crate) fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && !is_count(&name[dot + 1..]) => name.split_at(dot),
        _ => (name, ""),
    }
}

/// What the log is called that becomes the `number`th of a day: `daemon_20261119.1.log`. One that
/// speaks of a day already keeps it.
pub(crate) fn rotated(name: &str, day: NaiveDate, number: u32) -> String {
    let (stem, ending) = split(name);
    match day_in(name) {
        Some(_) => format!("{stem}.{number}{ending}"),
        None => format!("{stem}_{}.{number}{ending}", day.format("%Y%m%d")),
    }
}

/// The number in such a name, compressed or not. Without a day it may be that of a worker.
pub(crate) fn numbered(name: &str) -> Option<u32> {
    let (stem, ending) = split(name.strip_suffix(".gz").unwrap_or(name));
    let (bare, number) = stem.rsplit_once('.')?;
    // `daemon_20261119.log.1` is another program's.
    let ours = !ending.is_empty() || split(bare).1.is_empty();
    (ours && is_count(number) && day_in(bare).is_some()).then(|| number.parse().ok())?
}

/// The name of the log that a rotated one was: without `.gz`, number and day.
pub(crate) fn family(name: &str) -> String {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    let name = kin(name).map_or(name, |kin| kin.log);
    let (stem, ending) = split(name);
    let stem = match stem.rsplit_once('.') {
        Some((bare, _)) if numbered(name).is_some() => bare,
        _ => stem,
    };
    format!("{}{ending}", without_day(stem))
}

/// A name without the day that it speaks of; one that is nothing else stays.
fn without_day(stem: &str) -> &str {
    let Some(day) = day_in(stem) else { return stem };
    let spellings = ["%Y%m%d", "%Y-%m-%d", "%Y_%m_%d"].map(|format| day.format(format).to_string());
    let bare = spellings.iter().find_map(|day| stem.split_once(day.as_str())).map_or(stem, |(bare, _)| bare);
    match bare.trim_end_matches(['_', '-', '.']) {
        "" => stem,
        bare => bare,
    }
}

/// What the logs of a glob are called once they were rotated or compressed.
pub(crate) fn rotated_forms(glob: &str) -> Vec<String> {
    if glob.ends_with(".gz") {
        return Vec::new();
    }
    let at = glob.rfind('/').map_or(0, |slash| slash + 1);
    let (folder, name) = glob.split_at(at);
    let (stem, ending) = split(name);
    let day = "[0-9]".repeat(8);
    vec![
        format!("{glob}.gz"),
        // Where that name was taken. Not compressed it may be a log of its own, in use.
        format!("{folder}{stem}.[0-9]*{ending}.gz"),
        format!("{folder}{stem}_{day}.[0-9]*{ending}"),
        format!("{folder}{stem}_{day}.[0-9]*{ending}.gz"),
    ]
}

/// The day that a file name speaks of: `20261119`, `2026-11-19` or `2026_11_19`, with no digit
/// beside it. Only this century: other numbers of eight digits are not meant as days.
pub(crate) fn day_in(name: &str) -> Option<NaiveDate> {
    let bytes = name.as_bytes();
    (0..bytes.len()).find_map(|start| {
        let before = start.checked_sub(1).and_then(|index| bytes.get(index));
        if before.is_some_and(u8::is_ascii_digit) {
            return None;
        }
        let day = |format: &str, length: usize| {
            let end = start + length;
            if bytes.get(end).is_some_and(u8::is_ascii_digit) {
                return None;
            }
            NaiveDate::parse_from_str(name.get(start..end)?, format).ok()
        };
        let plain = || name.get(start..start + 8)?.bytes().all(|byte| byte.is_ascii_digit()).then_some(());
        let found = plain()
            .and_then(|()| day("%Y%m%d", 8))
            .or_else(|| day("%Y-%m-%d", 10))
            .or_else(|| day("%Y_%m_%d", 10))?;
        (2000..2100).contains(&found.year()).then_some(found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn days_are_recognised_in_names() {
        for (name, day) in [
            ("daemon_20261119.log", Some("2026-11-19")),
            ("2026-11-19.log", Some("2026-11-19")),
            ("app.log.2026_11_19", Some("2026-11-19")),
            ("daemon_20261119_120000.log.gz", Some("2026-11-19")),
            ("daemon.log", None),
            ("id_120261119.log", None),
            ("id_202611190.log", None),
            ("n_20261350.log", None),
            ("n_19700101.log", None),
            ("ünïcödé_20261119é.log", Some("2026-11-19")),
            ("2026-11-9", None),
        ] {
            assert_eq!(day_in(name).map(|day| day.to_string()).as_deref(), day, "{name}");
        }
    }

    #[test]
    fn names_of_rotated_logs() {
        let day = NaiveDate::from_ymd_opt(2026, 11, 20).unwrap();
        for (name, wanted, first) in [
            ("orchestrator.log", "orchestrator_20261120.1.log", "orchestrator.log"),
            ("mail.jsonl", "mail_20261120.1.jsonl", "mail.jsonl"),
            ("daemon_20261119.log", "daemon_20261119.1.log", "daemon.log"),
            ("daemon-2026-11-19.log", "daemon-2026-11-19.1.log", "daemon.log"),
            ("plain", "plain_20261120.1", "plain"),
        ] {
            let name_of_first = rotated(name, day, 1);
            assert_eq!(name_of_first, wanted);
            assert_eq!(numbered(&name_of_first), Some(1), "{name}");
            assert_eq!(family(&format!("{name_of_first}.gz")), first);
            assert_eq!(family(name), first);
        }
        assert_eq!(
            (family("app.log.3.gz"), family("2026-11-19.log")),
            ("app.log".into(), "2026-11-19.log".into())
        );
        assert_eq!((numbered("a_20261120.log"), numbered("a.log.3")), (None, None));
        assert_eq!((numbered("worker.2.log"), family("worker.2.log")), (None, "worker.2.log".into()));
    }

    #[test]
    fn what_other_programs_make_of_a_log() {
        for (name, log, shifts, timed) in [
            ("app.log.1", "app.log", true, false),
            ("app.log.12.gz", "app.log", true, false),
            ("app.log.2026-11-01", "app.log", false, false),
            ("app.log.2026-11-01_13", "app.log", false, true),
            ("app.log.2026-11-01_13-05", "app.log", false, true),
            ("app.log.20261101.gz", "app.log", false, false),
            ("app.log-20261101", "app.log", false, false),
            ("app-2026-11-01", "app", false, false),
            ("app.log-2026-11-01-1793500000.gz", "app.log", false, true),
            ("daemon_20261119.log.1", "daemon_20261119.log", true, false),
        ] {
            assert_eq!(kin(name), Some(Kin { log, shifts, timed }), "{name}");
        }
        assert_eq!(family("app.log-20261101.gz"), "app.log");
        assert_eq!(family("daemon_20261119.log.1.gz"), "daemon.log");
        for none in [
            "app.log",
            "app.log.gz",
            "app.log.1234",
            "app.log.pid",
            "app.1.log",
            "app-2026-11-01.log",
            "daemon_20261120.1",
            "daemon_20261120.1.log.gz",
            ".1",
            "-20261101",
            "20261101",
            "2026-11-01",
            "app.log-2026110",
        ] {
            assert_eq!(kin(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_told_or_not(name in "[a-zé.-]{0,6}[0-9._Té-]{0,14}(\\.gz)?") {
            if let Some(kin) = kin(&name) {
                prop_assert!(!kin.log.is_empty() && name.starts_with(kin.log));
            }
        }

        #[test]
        fn a_rotated_log_is_found_by_the_glob_of_the_live_one(
            stem in "[a-z][a-z_-]{0,8}", ending in "(\\.log|\\.jsonl|\\.txt|)", number in 1u32..5000,
        ) {
            let name = format!("{stem}{ending}");
            let day = NaiveDate::from_ymd_opt(2026, 11, 20).unwrap();
            let rotated_name = rotated(&name, day, number);
            for path in [rotated_name.clone(), format!("{rotated_name}.gz")] {
                let fits = |form: &String| glob::Pattern::new(form).unwrap().matches(&format!("logs/{path}"));
                prop_assert!(rotated_forms(&format!("logs/{name}")).iter().any(fits), "{}", path);
                prop_assert!(rotated_forms(&format!("logs/*{ending}")).iter().any(fits), "{}", path);
                prop_assert_eq!(numbered(&path), Some(number));
                prop_assert_eq!(day_in(&path), Some(day));
            }
            let bare = format!("{}{ending}", stem.trim_end_matches(['_', '-']));
            prop_assert_eq!(family(&rotated_name), bare);
        }
    }
}
