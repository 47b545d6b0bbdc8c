//! The names in the folder of archives: by the second an archive was made in.

use super::sidecar;
use crate::base::beneath::Dir;
use crate::base::units::parse_stamp;
use chrono::{DateTime, Utc};
use std::path::Path;

/// Work folders of runs, beside the archives.
pub(super) const WORK: &str = ".part-";
/// The end of an archive's name.
pub(super) const PLAIN: &str = ".tar.gz";
/// The end of an encrypted archive's name.
pub(super) const ENCRYPTED: &str = ".tar.gz.age";

/// An archive's name without its ending, and the ending.
pub(super) fn split_name(name: &str) -> Option<(&str, &'static str)> {
    [PLAIN, ENCRYPTED].into_iter().find_map(|suffix| Some((name.strip_suffix(suffix)?, suffix)))
}

/// The time in a name `YYYYMMDD_HHMMSS.tar.gz` or `YYYYMMDD_HHMMSS_1.tar.gz`, or one of those with
/// `.age` at its end.
pub(super) fn time_of_name(name: &str) -> Option<DateTime<Utc>> {
    let (stem, _) = split_name(name)?;
    let (stamp, rest) = stem.split_at_checked(15)?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let ends_well = rest.is_empty() || rest.strip_prefix('_').is_some_and(is_number);
    if ends_well { parse_stamp(stamp) } else { None }
}

/// Whether no archive, and no note of one, has this name.
pub(super) fn is_free(dir: &Dir, stem: &str) -> bool {
    let (plain, encrypted) = (format!("{stem}{PLAIN}"), format!("{stem}{ENCRYPTED}"));
    [sidecar::path(Path::new(&encrypted)), plain.into(), encrypted.into()]
        .iter()
        .all(|name| dir.metadata(name).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_archives_from_other_files() {
        for name in [
            "20261120_093001.tar.gz",
            "20261120_093001_1.tar.gz",
            "20261120_093001_12.tar.gz",
            "20261120_093001.tar.gz.age",
        ] {
            assert_eq!(time_of_name(name).unwrap().to_rfc3339(), "2026-11-20T09:30:01+00:00");
        }
        for name in [
            "latest",
            "20261120_093001.tar",
            "20261120_093001.age",
            "20261120_093001.tar.gz.age.json",
            "20261120_093001.tar.gz.age.age",
            "20261120_093001_.tar.gz",
            "20261120_093001x.tar.gz",
            "20261120_093001xy.tar.gz",
            "20261120_093001_1x.tar.gz",
            "20261320_093001.tar.gz",
            "x20261120_093001.tar.gz",
            "20261120_0930011.tar.gz",
            "ö.tar.gz",
            ".tar.gz",
        ] {
            assert_eq!(time_of_name(name), None, "{name}");
        }
    }
}
