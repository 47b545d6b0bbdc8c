//! What the name of a log says, and the names that rotation gives. Names are bytes.

use super::short::fitting;
use chrono::{Datelike, NaiveDate};
use std::borrow::Cow;

/// What the agent's own logger, or logrotate, makes of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kin<'a> {
    /// The name of that log.
    pub(crate) log: &'a [u8],
    /// It is renamed again, from `.1` to `.2`, whenever there is a new one.
    pub(crate) shifts: bool,
    /// A time follows the day: it is closed. One with a day alone may be that of today, in use.
    pub(crate) timed: bool,
}

/// So many digits has a day.
const DAY: usize = 8;

/// The ending of what is compressed.
const GZ: &[u8] = b".gz";

/// A name without `.gz`.
pub(crate) fn unpacked(name: &[u8]) -> &[u8] {
    name.strip_suffix(GZ).unwrap_or(name)
}

/// Whether a name is one of a compressed log.
pub(crate) fn is_packed(name: &[u8]) -> bool {
    name.ends_with(GZ)
}

/// Tells such a name, compressed or not: `app.log.1` (Python's RotatingFileHandler, logrotate), `app.log.2026-11-19` and
/// `app.log.2026-11-19_13` (TimedRotatingFileHandler), `app.log-20261119` (logrotate's dateext).
pub(crate) fn kin(name: &[u8]) -> Option<Kin<'_>> {
    let name = unpacked(name);
    if numbered(name).is_some() {
        return None;
    }
    if let Some((log, number)) = split_last(name, b'.')
        && is_number(number)
    {
        return (!log.is_empty()).then_some(Kin { log, shifts: true, timed: false });
    }
    let dated = |text: &[u8]| {
        let only = text.iter().all(|byte| byte.is_ascii_digit() || b"-_.:T".contains(byte));
        only && text.first().is_some_and(u8::is_ascii_digit)
            && day_in(text.get(..10).unwrap_or(text)).is_some()
    };
    let mut marks = (1..name.len()).filter(|&at| matches!(name[at], b'.' | b'-'));
    let at = marks.find(|&at| dated(&name[at + 1..]))?;
    let digits = name[at + 1..].iter().filter(|byte| byte.is_ascii_digit()).count();
    Some(Kin { log: &name[..at], shifts: false, timed: digits >= DAY + 2 })
}

/// What is before the last such byte, and what is after it.
fn split_last(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let index = bytes.iter().rposition(|byte| *byte == at)?;
    Some((&bytes[..index], &bytes[index + 1..]))
}

/// Whether an ending is a number that other programs count their old logs by: `app.log.1`.
pub(crate) fn is_number(text: &[u8]) -> bool {
    text.len() <= 3 && is_count(text)
}

/// Whether it is one that we count by. More digits are a day or something else.
fn is_count(text: &[u8]) -> bool {
    (1..=6).contains(&text.len()) && text.iter().all(u8::is_ascii_digit)
}

/// A name before and from the ending that says what is in the file: `daemon` and `.log`. An ending
/// that is a number, or none, says nothing.
pub(crate) fn split(name: &[u8]) -> (&[u8], &[u8]) {
    match name.iter().rposition(|byte| *byte == b'.') {
        Some(dot) if dot > 0 && !is_count(&name[dot + 1..]) => name.split_at(dot),
        _ => (name, b""),
    }
}

/// What the log is called that becomes the `number`th of a day: `daemon_20261119.1.log`. One that
/// speaks of a day already keeps it.
pub(crate) fn rotated(name: &[u8], day: NaiveDate, number: u32) -> Vec<u8> {
    let name = fitting(name);
    let (stem, ending) = split(&name);
    let day = match day_in(&name) {
        Some(_) => String::new(),
        None => format!("_{}", day.format("%Y%m%d")),
    };
    [stem, day.as_bytes(), format!(".{number}").as_bytes(), ending].concat()
}

/// What a log is called once it is compressed. Where that name is taken, a number goes before `.log.gz`, so that the
/// patterns of the config still fit.
pub(crate) fn packed(name: &[u8], number: u32) -> Vec<u8> {
    /// `.123` and `.gz` are still to come.
    const ROOM: usize = super::short::LONGEST - 7;
    let name = if name.len() > ROOM { fitting(name) } else { Cow::Borrowed(name) };
    let (stem, ending) = split(&name);
    match number {
        0 => [&*name, GZ].concat(),
        _ => [stem, format!(".{number}").as_bytes(), ending, GZ].concat(),
    }
}

/// The number in the name of one that was rotated, compressed or not. Without a day it may be that of a worker.
pub(crate) fn numbered(name: &[u8]) -> Option<u32> {
    let (stem, ending) = split(unpacked(name));
    let (bare, number) = split_last(stem, b'.')?;
    // `daemon_20261119.log.1` is another program's.
    let ours = !ending.is_empty() || split(bare).1.is_empty();
    let number = || std::str::from_utf8(number).ok().filter(|text| is_count(text.as_bytes()))?.parse().ok();
    (ours && day_in(bare).is_some()).then(number)?
}

/// The name of the log that a rotated one was: without `.gz`, number and day.
pub(crate) fn family(name: &[u8]) -> Vec<u8> {
    fitting(&bare(unpacked(name))).into_owned()
}

fn bare(name: &[u8]) -> Vec<u8> {
    let name = kin(name).map_or(name, |kin| kin.log);
    let (stem, ending) = split(name);
    let stem = match split_last(stem, b'.') {
        Some((bare, _)) if numbered(name).is_some() => bare,
        _ => stem,
    };
    [without_day(stem), ending].concat()
}

/// A name without the day that it speaks of; one that is nothing else stays.
pub(super) fn without_day(stem: &[u8]) -> &[u8] {
    let Some(day) = day_in(stem) else { return stem };
    let spellings = ["%Y%m%d", "%Y-%m-%d", "%Y_%m_%d"].map(|format| day.format(format).to_string());
    let at = |day: &String| stem.windows(day.len()).position(|window| window == day.as_bytes());
    let mut bare = spellings.iter().find_map(at).map_or(stem, |at| &stem[..at]);
    while let [rest @ .., b'_' | b'-' | b'.'] = bare {
        bare = rest;
    }
    if bare.is_empty() { stem } else { bare }
}

/// What the logs of a glob are called once they were rotated or compressed.
pub(crate) fn rotated_forms(glob: &str) -> Vec<String> {
    if glob.ends_with(".gz") {
        return Vec::new();
    }
    let at = glob.rfind('/').map_or(0, |slash| slash + 1);
    let (folder, name) = glob.split_at(at);
    // One that is too long to get an ending gets another name first.
    let short = String::from_utf8(fitting(name.as_bytes()).into_owned()).ok();
    let short = short.filter(|short| short != name && !name.contains(['*', '?', '[']));
    [Some(name), short.as_deref()].into_iter().flatten().flat_map(|name| forms(folder, name)).collect()
}

fn forms(folder: &str, name: &str) -> [String; 4] {
    let (stem, ending) = name.split_at(split(name.as_bytes()).0.len());
    let day = "[0-9]".repeat(8);
    [
        format!("{folder}{name}.gz"),
        // Where that name was taken. Not compressed it may be a log of its own, in use.
        format!("{folder}{stem}.[0-9]*{ending}.gz"),
        format!("{folder}{stem}_{day}.[0-9]*{ending}"),
        format!("{folder}{stem}_{day}.[0-9]*{ending}.gz"),
    ]
}

/// The day that a file name speaks of: `20261119`, `2026-11-19` or `2026_11_19`, with no digit
/// beside it. Only this century: other numbers of eight digits are not meant as days.
pub(crate) fn day_in(name: &[u8]) -> Option<NaiveDate> {
    let is_digit = |at: usize| name.get(at).is_some_and(u8::is_ascii_digit);
    let starts = (0..name.len()).filter(|&at| is_digit(at) && !at.checked_sub(1).is_some_and(is_digit));
    starts.into_iter().find_map(|start| {
        let day = |format: &str, length: usize| {
            let text = name.get(start..start + length).filter(|_| !is_digit(start + length))?;
            NaiveDate::parse_from_str(std::str::from_utf8(text).ok()?, format).ok()
        };
        let plain = || name.get(start..start + DAY)?.iter().all(u8::is_ascii_digit).then_some(());
        let found = plain()
            .and_then(|()| day("%Y%m%d", DAY))
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
            assert_eq!(day_in(name.as_bytes()).map(|day| day.to_string()).as_deref(), day, "{name}");
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
            let name_of_first = String::from_utf8(rotated(name.as_bytes(), day, 1)).unwrap();
            assert_eq!(name_of_first, wanted);
            assert_eq!(numbered(name_of_first.as_bytes()), Some(1), "{name}");
            assert_eq!(family_of(&format!("{name_of_first}.gz")), first);
            assert_eq!(family_of(name), first);
        }
        assert_eq!(
            (family_of("app.log.3.gz"), family_of("2026-11-19.log")),
            ("app.log".into(), "2026-11-19.log".into())
        );
        assert_eq!((numbered(b"a_20261120.log"), numbered(b"a.log.3")), (None, None));
        assert_eq!((numbered(b"worker.2.log"), family_of("worker.2.log")), (None, "worker.2.log".into()));
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
            assert_eq!(kin(name.as_bytes()), Some(Kin { log: log.as_bytes(), shifts, timed }), "{name}");
        }
        assert_eq!(family_of("app.log-20261101.gz"), "app.log");
        assert_eq!(family_of("daemon_20261119.log.1.gz"), "daemon.log");
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
            assert_eq!(kin(none.as_bytes()), None, "{none}");
        }
    }

    fn family_of(name: &str) -> String {
        String::from_utf8(family(name.as_bytes())).unwrap()
    }

    #[test]
    fn names_that_are_no_text() {
        let day = NaiveDate::from_ymd_opt(2026, 11, 20).unwrap();
        assert_eq!(rotated(b"\xff.log", day, 1), b"\xff_20261120.1.log");
        assert_eq!(family(b"\xff_20261120.1.log.gz"), b"\xff.log");
        assert_eq!(packed(b"\xff\n.log", 2), b"\xff\n.2.log.gz");
        assert_eq!(kin(b"\xfe.log.1").map(|kin| kin.log), Some(&b"\xfe.log"[..]));
        assert_eq!(day_in(b"\xff20261119\xff"), NaiveDate::from_ymd_opt(2026, 11, 19));
    }

    proptest! {
        #[test]
        fn any_name_is_told_or_not(name in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"0123456789.-_gz".to_vec())], 0..24)) {
            if let Some(kin) = kin(&name) {
                prop_assert!(!kin.log.is_empty() && name.starts_with(kin.log));
            }
            family(&name);
        }

        #[test]
        fn a_rotated_log_is_found_by_the_glob_of_the_live_one(
            stem in "[a-z][a-z_-]{0,8}", long in prop::sample::select(vec![0, 0, 220, 240, 250]),
            ending in "(\\.log|\\.jsonl|\\.txt|)", number in 1u32..5000,
        ) {
            let name = format!("{stem}{}{ending}", "x".repeat((long as usize).saturating_sub(stem.len() + ending.len())));
            let day = NaiveDate::from_ymd_opt(2026, 11, 20).unwrap();
            let rotated_name = String::from_utf8(rotated(name.as_bytes(), day, number)).unwrap();
            for path in [rotated_name.clone(), format!("{rotated_name}.gz")] {
                let fits = |form: &String| glob::Pattern::new(form).unwrap().matches(&format!("logs/{path}"));
                prop_assert!(rotated_forms(&format!("logs/{name}")).iter().any(fits), "{}", path);
                prop_assert!(rotated_forms(&format!("logs/*{ending}")).iter().any(fits), "{}", path);
                prop_assert_eq!(numbered(path.as_bytes()), Some(number));
                prop_assert_eq!(day_in(path.as_bytes()), Some(day));
            }
            if long > 0 {
                prop_assert_eq!(family(rotated_name.as_bytes()), family(name.as_bytes()));
            }
            prop_assert!(packed(rotated_name.as_bytes(), 999).len() <= 255);
            if long == 0 {
                let bare = format!("{}{ending}", stem.trim_end_matches(['_', '-']));
                prop_assert_eq!(family_of(&rotated_name), bare);
            }
        }
    }
}
