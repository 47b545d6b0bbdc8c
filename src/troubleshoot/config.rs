//! The config: can it be read, now and by cron, and is everything in it filled in?

use super::cause::{Cause, Found};
use super::view::View;
use crate::base::State;
use crate::base::beneath::read_small_text;
use crate::config::{self, Loaded};
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};

/// What cron, too, gives to its jobs.
const CRON_HAS: [&str; 6] = ["HOME", "LOGNAME", "USER", "SHELL", "PATH", "PWD"];

struct Facts {
    /// Why it cannot be read, and what to do.
    broken: Option<(String, Option<String>)>,
    file: String,
    /// The variables it cannot do without that are set by this shell alone.
    shell_only: BTreeSet<String>,
    /// The variables in `env_file` that have no value.
    empty: Vec<String>,
    /// Services with words that were to be filled in, and are not.
    unfilled: Vec<(String, String)>,
}

pub(super) fn probe(view: &View) -> Result<Found> {
    let file = view.agent.as_ref().map(|loaded| loaded.config.file.display().to_string()).unwrap_or_default();
    let mut facts = Facts {
        // What is closed to us is not known to be wrong.
        broken: view.broken.clone().filter(|_| !(view.closed() && view.other_owner().is_some())),
        file,
        shell_only: BTreeSet::new(),
        empty: Vec::new(),
        unfilled: Vec::new(),
    };
    if let Some(loaded) = view.whole() {
        let file = loaded.config.agent.env_file.as_ref();
        let variables = file.and_then(|path| config::read_env_file(path).ok()).unwrap_or_default();
        let source = read_small_text(&loaded.config.file)?;
        facts.shell_only = shell_only(&source, &variables);
        facts.empty =
            variables.into_iter().filter(|(_, value)| value.is_empty()).map(|(name, _)| name).collect();
        facts.unfilled = unfilled(loaded);
    }
    Ok(judge(&facts).into())
}

/// The `${NAME}` without a default of a config that only the environment fills in.
fn shell_only(source: &str, env_file: &BTreeMap<String, String>) -> BTreeSet<String> {
    let lines = source.lines().filter(|line| !line.trim_start().starts_with('#'));
    let names = lines.flat_map(|line| {
        line.match_indices("${")
            .filter(|(at, _)| !line[..*at].ends_with('$'))
            .filter_map(|(at, _)| line[at + 2..].split_once('}'))
            .map(|(name, _)| name.to_owned())
            .collect::<Vec<_>>()
    });
    let set = |name: &String| env_file.get(name).is_some_and(|value| !value.is_empty());
    names.filter(|name| !name.contains(":-") && !set(name) && !CRON_HAS.contains(&name.as_str())).collect()
}

/// What looks like a variable in the command or the environment of a service, as it is run.
fn unfilled(loaded: &Loaded) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, service) in &loaded.config.service {
        let words = service.command.iter().map(|word| ("its command".to_owned(), word));
        let env = service.env.iter().map(|(key, value)| (format!("env {key}"), value));
        for (place, text) in words.chain(env) {
            let braces = text.contains("${");
            let bare = text.strip_prefix('$').is_some_and(|rest| {
                !rest.is_empty() && rest.chars().all(|c| c.is_ascii_uppercase() || c == '_')
            });
            if braces || bare {
                found.push((name.clone(), place));
            }
        }
    }
    found
}

fn judge(facts: &Facts) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let Some((message, hint)) = &facts.broken {
        let mut cause =
            Cause::new("config", State::Critical, 1, format!("the config cannot be read: {message}")).seen(
                "until it is right, nothing of ops looks after the agent: no checks, no restarts, no backups",
            );
        if facts.file.is_empty() {
            cause = cause.run("ops init");
        } else {
            cause = cause.run("ops config check");
        }
        causes.push(match hint {
            Some(hint) => cause.advise(hint),
            None => cause,
        });
    }
    if !facts.shell_only.is_empty() {
        let names = facts.shell_only.iter().map(|name| format!("${{{name}}}")).collect::<Vec<_>>().join(", ");
        causes.push(
            Cause::new(
                "environment_of_cron",
                State::Warning,
                100,
                format!(
                    "{} needs {names}, which only this shell sets: cron's jobs cannot read the config",
                    facts.file
                ),
            )
            .advise("put them as NAME=value into a file of mode 0600, and name it as env_file in [agent]"),
        );
    }
    if !facts.empty.is_empty() {
        let names = facts.empty.join(", ");
        causes.push(
            Cause::new("environment_empty", State::Warning, 110, format!("the env_file has no value for {names}"))
                .advise("if a service needs it, it starts and fails later, or ends at once: fill it in, or take the line away"),
        );
    }
    for (service, place) in &facts.unfilled {
        causes.push(
            Cause::new(
                "environment_unfilled",
                State::Warning,
                105,
                format!("{place} of {service} holds a variable that nothing fills in: no shell reads it"),
            )
            .of(service)
            .seen(format!("[service.{service}] in {}", facts.file))
            .advise("write ${NAME}, with braces and a single $: it is filled in from the environment and env_file"),
        );
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_this_shell_knows_is_found() {
        let source = "a = \"${TOKEN} ${PORT:-80} $${X} ${HOME}\"\n# ${COMMENT}\nb = \"${KEPT}\"\n";
        let file = BTreeMap::from([("KEPT".to_owned(), "x".to_owned()), ("TOKEN".to_owned(), String::new())]);
        assert_eq!(shell_only(source, &file), BTreeSet::from(["TOKEN".to_owned()]));
        let facts = Facts {
            broken: Some(("ops.toml:3:1: no".to_owned(), Some("did you mean?".to_owned()))),
            file: "/h/ops.toml".to_owned(),
            shell_only: shell_only(source, &file),
            empty: vec!["TOKEN".to_owned()],
            unfilled: vec![("bot".to_owned(), "env KEY".to_owned())],
        };
        let causes = judge(&facts);
        let ids: Vec<_> = causes.iter().map(|cause| (cause.id, cause.state)).collect();
        assert_eq!(
            ids,
            [
                ("config", State::Critical),
                ("environment_of_cron", State::Warning),
                ("environment_empty", State::Warning),
                ("environment_unfilled", State::Warning)
            ]
        );
        assert_eq!(causes[0].advice.as_deref(), Some("did you mean?"));
        assert!(causes[1].cause.contains("${TOKEN}"));
    }
}
