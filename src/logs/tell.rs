//! Tells a writer that its logs were renamed or cut.

use crate::base::Run;
use crate::base::process::{self, Signal};
use crate::base::{arguments, text};
use crate::config::Loaded;
use crate::config::logs::{After, SignalName, Told};
use crate::service::Services;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::process::Command;
use std::time::Duration;

/// So long a command may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be done, in words.
pub(super) fn plan(after: &After) -> String {
    match after {
        After::Command(words) => arguments::shown(&words.iter().map(OsString::from).collect::<Vec<_>>(), 200),
        After::Signal(Told { signal, service }) => format!("{} to {service}", name(*signal)),
    }
}

/// Does it. Gives what was done.
///
/// # Errors
/// When it failed: it is owed then.
pub(super) fn tell(loaded: &Loaded, run: &Run, after: &After) -> Result<String> {
    match after {
        After::Command(words) => {
            let Some((program, arguments)) = words.split_first() else { bail!("after names no program") };
            let program_at = match program.contains('/') {
                true => loaded.home.path(program),
                false => program.into(),
            };
            let mut command = Command::new(program_at);
            command.args(arguments).current_dir(loaded.home.root());
            let output = process::run(command, None, PATIENCE)?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
                bail!("{}: {} {}", program, output.status, text::one_line(last, 200));
            }
            Ok(plan(after))
        }
        After::Signal(Told { service, .. }) if loaded.config.disabled.contains(service) => {
            Ok(format!("{service} is not enabled"))
        }
        After::Signal(Told { signal, service }) => {
            let services = Services { home: &loaded.home, config: &loaded.config, run };
            let status = services.status(service)?;
            let number = match signal {
                SignalName::Hup => Signal::HUP,
                SignalName::Usr1 => Signal::USR1,
                SignalName::Usr2 => Signal::USR2,
            };
            // One that does not run opens its log anew when it starts.
            let sent = match status.process() {
                Some(process) => process
                    .identity
                    .signal(number)
                    .with_context(|| format!("cannot send {} to {service}", name(*signal)))?,
                None => false,
            };
            Ok(if sent { plan(after) } else { format!("{service} does not run") })
        }
    }
}

fn name(signal: SignalName) -> &'static str {
    match signal {
        SignalName::Hup => "HUP",
        SignalName::Usr1 => "USR1",
        SignalName::Usr2 => "USR2",
    }
}
