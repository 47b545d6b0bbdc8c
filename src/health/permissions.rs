//! Can others read or write what they must not?

use super::{Answer, Metric, View, named};
use crate::base::range::Unit;
use crate::base::{State, text};
use crate::config::check::Permissions;
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::MetadataExt;

pub(super) fn look(view: &View, options: &Permissions) -> Result<Answer> {
    // What is not there gives nothing away.
    let (paths, mut bad) = named::files(view, &options.paths, State::Ok, |_, _| true)?;
    let home = fs::metadata(view.loaded.home.root()).context("cannot look at the home")?;
    for path in &paths {
        let name = view.loaded.home.show(path);
        let Ok(meta) = fs::metadata(path) else { continue };
        let mode = meta.mode() & 0o777;
        if let Some(state) = judge(mode, options.mode.0) {
            bad.push((state, format!("{name} is {mode:04o}, more than {:04o}", options.mode.0)));
        }
        // root may own what it likes: it can read everything as it is.
        if meta.uid() != home.uid() && meta.uid() != 0 {
            bad.push((
                State::Warning,
                format!("{name} is owned by user {}, the home by {}", meta.uid(), home.uid()),
            ));
        }
    }
    let number = Metric::new("wrong", bad.len() as f64, Unit::Count);
    let well = || (State::Ok, format!("{} at most {:04o}", text::count(paths.len(), "file"), options.mode.0));
    let (state, summary) = named::sum_up(bad).unwrap_or_else(well);
    Ok(Answer::new(state, summary)
        .metric(number)
        .remedy(&format!("chmod {:04o} takes the rights away", options.mode.0)))
}

/// How bad a mode is beside the most that is allowed; none: not at all.
fn judge(mode: u32, most: u32) -> Option<State> {
    match mode & !most {
        0 => None,
        // Everybody on the machine, not only a group.
        beyond if beyond & 0o007 != 0 => Some(State::Critical),
        _ => Some(State::Warning),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_worse_than_a_group() {
        for (mode, most, expected) in [
            (0o600, 0o600, None),
            (0o400, 0o600, None),
            (0o640, 0o600, Some(State::Warning)),
            (0o644, 0o600, Some(State::Critical)),
            (0o700, 0o600, Some(State::Warning)),
            (0o755, 0o755, None),
            (0o777, 0o755, Some(State::Critical)),
        ] {
            assert_eq!(judge(mode, most), expected, "{mode:o} {most:o}");
        }
    }
}
