//! What does a Nagios plugin say? Its exit code is the state, its first line the summary, and its
//! performance data are taken over.

use super::fetch::Hidden;
use super::{Answer, View, perfdata};
use crate::base::process::{self, Output};
use crate::base::units::Span;
use crate::base::{State, text};
use crate::config::check::Command;
use anyhow::{Context, Result, bail};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Instant;

/// Where programs are looked for. Also where Debian, Fedora and Homebrew keep plugins.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:/opt/homebrew/bin:\
                    /usr/lib/nagios/plugins:/usr/lib64/nagios/plugins:/opt/homebrew/sbin";

/// What of our environment a plugin gets: what cron gives, by hand as well.
const KEPT: [&str; 5] = ["HOME", "LOGNAME", "USER", "TZ", "TMPDIR"];

pub(super) fn look(view: &View, options: &Command, timeout: Span) -> Result<Answer> {
    let deadline = Instant::now() + timeout.0;
    let Some((program, arguments)) = options.command.split_first() else { bail!("command is empty") };
    let mut hidden = Hidden::default();
    let mut command = std::process::Command::new(find(view, program));
    command.args(arguments).current_dir(view.loaded.home.root()).env_clear().env("PATH", PATH);
    command.envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    for (name, value) in &options.env {
        command.env(name, hidden.reveal(value, deadline).with_context(|| format!("the variable {name}"))?);
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let Output { status, stdout, stderr } = match process::run(command, None, left) {
        Ok(output) => output,
        Err(error) => {
            let remedy =
                "look at its command: a path is under the home, a name is looked for where plugins are";
            return Ok(Answer::unknown(format!("{error:#}")).remedy(remedy));
        }
    };
    let (said, metrics) = perfdata::read(&String::from_utf8_lossy(&stdout));
    let stderr = String::from_utf8_lossy(&stderr);
    let said = match said.is_empty() {
        false => said,
        true => stderr.lines().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned(),
    };
    let said = text::one_line(&hidden.hide(&said), 280);
    let answer = match (status.code(), status.signal()) {
        (Some(code @ 0..=3), _) => Answer::new(State::from_code(code.into()), said),
        (Some(code), _) => Answer::unknown(format!("{said} (exit code {code})")),
        (None, signal) => Answer::unknown(format!("{said} (ended by signal {})", signal.unwrap_or_default())),
    };
    let answer = metrics.into_iter().fold(answer, Answer::metric);
    Ok(answer.remedy("run its command by hand to see all it says"))
}

/// A path is under the home, as everywhere in a config; a name alone is looked for.
fn find(view: &View, program: &str) -> PathBuf {
    if program.contains('/') { view.loaded.home.path(program) } else { PathBuf::from(program) }
}
