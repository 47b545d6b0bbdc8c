//! The text logs that people grep: one line an event, in `logs/NAME.log`.

use super::units::local;
use super::{Home, Run, text};
use anyhow::{Context, Result};
use std::io::Write;

/// Appends `[2026-11-20 09:30:01] [LEVEL] Title - message (run abc1234)`.
///
/// The line is written by one `write` to a file opened for append, so lines of two runs never
/// mix. `level` is one of INFO, WARNING, ERROR, CRITICAL, OK.
pub fn append(home: &Home, log: &str, run: &Run, level: &str, title: &str, message: &str) -> Result<()> {
    let path = home.log(log);
    let line = format!(
        "[{}] [{level}] {} - {} (run {})\n",
        local(run.now),
        text::one_line(title, 200),
        text::one_line(message, 2000),
        run.id
    );
    home.append(&path)?
        .write_all(line.as_bytes())
        .with_context(|| format!("cannot append to {}", path.display()))
}
