//! Names that are too long to get an ending get a shorter one, always the same.

use super::names::{day_in, kin, split, without_day};
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// So many bytes a name can have (NAME_MAX of every usual file system).
pub(super) const LONGEST: usize = 255;

/// What rotation adds: `_20261120.123456`, then `.123.gz`.
const ADDED: usize = 23;

/// So much of a long name stays before and after what is left out.
const HEAD: usize = 100;
const TAIL: usize = 40;

/// The most that is kept of the day with what follows it, and of the ending.
const REST: usize = 40;
const ENDING: usize = 20;

/// A name that has room for what rotation adds: `NAME~hash~END_20261119.log` for one that is too long. The name
/// without its day comes out the same with and without it.
pub(super) fn fitting(name: &[u8]) -> Cow<'_, [u8]> {
    if name.len() <= LONGEST - ADDED {
        return Cow::Borrowed(name);
    }
    if let Some(kin) = kin(name).filter(|kin| name.len() - kin.log.len() <= REST) {
        return Cow::Owned([&shortened(kin.log), &name[kin.log.len()..]].concat());
    }
    Cow::Owned(shortened(name))
}

fn shortened(name: &[u8]) -> Vec<u8> {
    if name.len() <= HEAD + TAIL {
        return name.to_vec();
    }
    let (stem, ending) =
        Some(split(name)).filter(|(_, ending)| ending.len() <= ENDING).unwrap_or((name, b""));
    let bare = without_day(stem);
    let (bare, rest) = match stem.len() - bare.len() {
        0..=REST => (bare, stem[bare.len()..].to_vec()),
        // What follows the day is too long: only the day stays of it.
        _ => (
            stem,
            day_in(stem).map(|day| format!("_{}", day.format("%Y%m%d")).into_bytes()).unwrap_or_default(),
        ),
    };
    let middle = hash(&[bare, ending].concat());
    let (head, tail) =
        (boundary(bare, HEAD.min(bare.len())), boundary(bare, bare.len().saturating_sub(TAIL)));
    [&bare[..head], b"~", &middle, b"~", &bare[tail..], &rest, ending].concat()
}

/// Eight letters; digits might be taken for a day.
fn hash(bytes: &[u8]) -> Vec<u8> {
    let digest = Sha256::digest(bytes);
    digest[..4].iter().flat_map(|byte| [b'a' + (byte >> 4), b'a' + (byte & 15)]).collect()
}

/// The nearest place before `at` where a character begins, if the name is text.
fn boundary(name: &[u8], at: usize) -> usize {
    let continues = |at: &usize| name.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (at.saturating_sub(3)..=at).rev().find(|at| !continues(at)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::super::names::{family, packed, rotated};
    use super::*;
    use chrono::NaiveDate;
    use proptest::prelude::*;

    #[test]
    fn a_long_name_becomes_one_that_says_as_much() {
        let day = NaiveDate::from_ymd_opt(2026, 11, 20).unwrap();
        let long = "ü".repeat(120);
        let live = format!("{long}.log");
        let made = String::from_utf8(rotated(live.as_bytes(), day, 3)).unwrap();
        assert!(made.starts_with(&"ü".repeat(50)) && made.ends_with("ü_20261120.3.log"), "{made}");
        assert!(made.len() <= LONGEST - 7, "{made}");
        let daily = format!("{}_20261119.log", "x".repeat(238));
        let made = packed(daily.as_bytes(), 0);
        assert!(made.ends_with(b"xxx_20261119.log.gz") && made.len() <= LONGEST);
        assert_eq!(family(&made), family(format!("{}.log", "x".repeat(238)).as_bytes()));
        let counted = format!("{}.log.1", "y".repeat(245));
        assert!(packed(counted.as_bytes(), 0).ends_with(b".log.1.gz"));
        let other = format!("{}z.log", "ü".repeat(119));
        assert_ne!(rotated(other.as_bytes(), day, 3), rotated(live.as_bytes(), day, 3));
        assert_eq!(&*fitting(b"short.log"), b"short.log");
    }

    proptest! {
        #[test]
        fn every_name_has_room_for_what_is_added(name in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"0123456789.-_".to_vec())], 1..=255)) {
            let day = NaiveDate::from_ymd_opt(2026, 11, 20).unwrap();
            let made = rotated(&name, day, 999_999);
            prop_assert!(packed(&made, 999).len() <= LONGEST && packed(&name, 999).len() <= LONGEST);
            let short = fitting(&name);
            prop_assert_eq!(&fitting(&short), &short);
            prop_assert!(name.len() > 232 || *fitting(&name) == *name);
        }
    }
}
