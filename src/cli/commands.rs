//! Commands in what is said to people: copied as they are, they are to mean the agent that was meant here.

use super::context::Common;
use crate::base::privilege;
use crate::troubleshoot::quoted;
use std::path::{Path, PathBuf};

/// Our programs, as they begin a command that is quoted in a sentence.
const PROGRAMS: [&str; 7] =
    ["ops ", "health-check ", "alert ", "backup ", "restore ", "rotate-logs ", "dashboard "];

/// What makes a command mean this agent; nothing where nobody said which, or the environment does.
pub(super) fn options(common: &Common) -> String {
    let said = |path: &Option<PathBuf>, variable| path.clone().filter(|path| is_typed(path, variable));
    naming(said(&common.config, "OPS_CONFIG"), said(&common.home, "OPS_HOME"))
}

/// Whether a path is there by an option, and not by its variable: by that of the shell, where root has become
/// another meanwhile.
fn is_typed(path: &Path, variable: &str) -> bool {
    let known =
        path.is_absolute() && std::env::var_os(variable).is_some_and(|value| Path::new(&value) == path);
    !known || privilege::was_typed(variable)
}

/// The variables whose place was typed as an option.
pub(super) fn typed(config: Option<&Path>, home: Option<&Path>) -> Vec<&'static str> {
    let places = [("OPS_CONFIG", config), ("OPS_HOME", home)];
    places
        .into_iter()
        .filter(|(variable, path)| path.is_some_and(|path| is_typed(path, variable)))
        .map(|(variable, _)| variable)
        .collect()
}

/// The options that name a config and a home, wherever they are typed.
pub(super) fn naming(config: Option<PathBuf>, home: Option<PathBuf>) -> String {
    let option = |name: &str, path: Option<PathBuf>| {
        let path = path.map(|path| std::path::absolute(&path).unwrap_or(path));
        path.map(|path| format!(" {name} {}", quoted(&path.display().to_string())))
    };
    option("--config", config).into_iter().chain(option("--home", home)).collect()
}

/// Whether a command is one of ours.
pub(super) fn is_ours(command: &str) -> bool {
    PROGRAMS.iter().any(|program| command.starts_with(program))
}

/// A command with these options: before what belongs to another program.
pub(super) fn with_options(command: &str, options: &str) -> String {
    if !is_ours(command) {
        return command.to_owned();
    }
    match command.split_once(" -- ") {
        Some((ours, theirs)) => format!("{ours}{options} -- {theirs}"),
        None => format!("{command}{options}"),
    }
}

/// A text in which commands stand `between backticks`, each with these options.
pub(super) fn told(text: &str, options: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    // A lone backtick quotes nothing.
    if options.is_empty() || parts.len().is_multiple_of(2) {
        return text.to_owned();
    }
    let part = |(index, part): (usize, &&str)| match index % 2 {
        1 => with_options(part, options),
        _ => (*part).to_owned(),
    };
    parts.iter().enumerate().map(part).collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_of_ours_get_them() {
        for (text, with) in [
            ("`ops detect` says more of who has it", "`ops detect --home /x` says more of who has it"),
            ("`backup list`, `ops stop`", "`backup list --home /x`, `ops stop --home /x`"),
            ("`kill -CONT` lets it go on; ops is ours", "`kill -CONT` lets it go on; ops is ours"),
            ("`ops upgrade -- ops x`", "`ops upgrade --home /x -- ops x`"),
            ("a lone ` before ops detect", "a lone ` before ops detect"),
            ("`alert` tells", "`alert` tells"),
            ("", ""),
        ] {
            assert_eq!(told(text, " --home /x"), with);
            assert_eq!(told(text, ""), text);
        }
    }
}
