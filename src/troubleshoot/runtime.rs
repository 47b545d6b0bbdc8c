//! Is what a service runs on of a version that it is made for?

use super::cause::{Cause, Found};
use super::view::View;
use crate::base::{State, process, text};
use crate::config::{Runtime, Version};
use anyhow::Result;
use std::process::Command;
use std::time::Duration;

/// How long a program may take to tell its version.
const LIMIT: Duration = Duration::from_secs(3);

struct Facts {
    service: String,
    gravity: State,
    runtime: Runtime,
    /// What it printed, or why that is not known.
    said: Result<String, String>,
}

pub(super) fn probe(view: &View) -> Result<Found> {
    let mut causes = Vec::new();
    for (_, name, service, _) in view.each() {
        let Some(runtime) = &service.runtime else { continue };
        let Some((program, arguments)) = runtime.command.split_first() else { continue };
        // With a slash it is found from where the service runs.
        let program = if program.contains('/') { service.cwd.join(program) } else { program.into() };
        let mut command = Command::new(program);
        command.args(arguments).envs(&service.env).current_dir(&service.cwd);
        let said = process::run(command, None, LIMIT).map_err(|error| format!("{error:#}"));
        let said = said.and_then(|output| {
            // Python before 3.4 told it on stderr.
            let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
            let said = String::from_utf8_lossy(&said).into_owned();
            match output.status.success() {
                true => Ok(said),
                false => Err(format!("it ended with {}: {}", output.status, text::one_line(&said, 100))),
            }
        });
        let facts =
            Facts { service: name.to_owned(), gravity: view.gravity(name), runtime: runtime.clone(), said };
        causes.extend(judge(&facts));
    }
    Ok(causes.into())
}

fn judge(facts: &Facts) -> Option<Cause> {
    let Facts { service, runtime, .. } = facts;
    let command = runtime.command.join(" ");
    let said = match &facts.said {
        Ok(said) => said,
        // That the program is not there is told of by another probe, if the service is started with it.
        Err(why) => {
            let what = format!("the version of what {service} runs on");
            return Some(Cause::untold(&what, why).of(service));
        }
    };
    let Some(version) = Version::find(said) else {
        let why = format!("`{command}` printed '{}'", text::one_line(said, 60));
        return Some(Cause::untold(&format!("the version of what {service} runs on"), &why).of(service));
    };
    (!runtime.takes(&version)).then(|| {
        let text =
            format!("{service} is made for another version of {}: this is {version}", runtime.command[0]);
        Cause::new("runtime_version", facts.gravity, 12, text)
            .of(service)
            .seen(format!("`{command}` says {}; it must be {runtime}", text::one_line(said, 60)))
            .advise(format!(
                "install such a version, or name it in command and runtime of [service.{service}]"
            ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_out_of_range_and_one_that_is_not_told() {
        let judged = |said: Result<&str, &str>| {
            let runtime = Runtime {
                command: vec!["node".to_owned(), "--version".to_owned()],
                min: Version::find("22"),
                below: Version::find("25"),
            };
            let facts = Facts {
                service: "bot".to_owned(),
                gravity: State::Critical,
                runtime,
                said: said.map(str::to_owned).map_err(str::to_owned),
            };
            judge(&facts).map(|cause| (cause.id, cause.state))
        };
        assert_eq!(judged(Ok("v24.1.0\n")), None);
        assert_eq!(judged(Ok("v18.20.4\n")), Some(("runtime_version", State::Critical)));
        assert_eq!(judged(Ok("v25.0.0\n")), Some(("runtime_version", State::Critical)));
        assert_eq!(judged(Ok("")), Some(("could_not_tell", State::Unknown)));
        assert_eq!(judged(Err("gone")), Some(("could_not_tell", State::Unknown)));
    }
}
