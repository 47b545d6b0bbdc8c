//! Is there a cron that runs what is in the crontab?

use crate::base::process::{self, Process};
use std::path::Path;

/// The programs that do it.
const NAMES: [&str; 6] = ["cron", "crond", "fcron", "supercronic", "dcron", "bcron-sched"];

/// What has systemd do it, without a process of its own.
const GENERATORS: [&str; 2] = [
    "/usr/lib/systemd/system-generators/systemd-crontab-generator",
    "/lib/systemd/system-generators/systemd-crontab-generator",
];

/// Whether a cron daemon runs here; none: that cannot be told.
pub fn cron_runs() -> Option<bool> {
    // launchd starts cron when there is something to do.
    if cfg!(target_os = "macos") || GENERATORS.iter().any(|path| Path::new(path).exists()) {
        return None;
    }
    let all = process::all().ok()?;
    // Where others' processes are hidden from us, cron is as well.
    let first = all.iter().any(|process| process.identity.pid == 1);
    let found = all.iter().filter(|process| process.alive()).any(|process| is_cron(&words(process)));
    (first || found).then_some(found)
}

fn words(process: &Process) -> Vec<String> {
    let last = |word: &std::ffi::OsString| {
        let word = word.to_string_lossy().into_owned();
        word.rsplit('/').next().unwrap_or_default().to_owned()
    };
    process.arguments().iter().take(2).map(last).collect()
}

fn is_cron(words: &[String]) -> bool {
    let known = |word: Option<&String>| word.is_some_and(|word| NAMES.contains(&word.as_str()));
    known(words.first()) || (words.first().is_some_and(|word| word == "busybox") && known(words.get(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_a_cron() {
        for (words, expected) in [
            (&["cron", "-f"][..], true),
            (&["busybox", "crond"], true),
            (&["vim", "cron"], false),
            (&["crontab"], false),
            (&[], false),
        ] {
            assert_eq!(is_cron(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()), expected);
        }
    }
}
