//! `[logs]`: which logs there are and how they are bounded.

use crate::base::text;
use crate::base::units::{Size, Span};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `[logs]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logs {
    /// Where our logs and pages are, where that is not `logs` in the home or that is a link.
    #[serde(serialize_with = "crate::base::name::maybe_path::serialize")]
    pub dir: Option<PathBuf>,
    /// Globs, relative to the home, of the log files.
    pub include: Vec<String>,
    /// Globs of files among them that are left alone.
    pub exclude: Vec<String>,
    /// How a log in use that became too large is shortened.
    pub discipline: Discipline,
    /// A closed log is compressed when it was not written for this long.
    pub compress_after: Span,
    /// A compressed log is deleted when it is older.
    pub delete_after: Span,
    /// A log in use that is larger is cut or renamed.
    pub max_size: Size,
    /// How many lines stay when a log is cut, if they fit into half of `max_size`.
    pub keep_lines: usize,
    /// All logs together; beyond it the oldest closed ones go until it is half as much.
    pub max_total: Size,
    /// `[logs.rule.NAME]`: what differs for some of them.
    pub rule: BTreeMap<String, Rule>,
}

impl Default for Logs {
    fn default() -> Logs {
        Logs {
            dir: None,
            include: vec!["logs/**/*.log".to_owned(), "logs/**/*.log.gz".to_owned()],
            exclude: Vec::new(),
            discipline: Discipline::Copytruncate,
            compress_after: Span::days(1),
            delete_after: Span::days(30),
            max_size: Size(100_000_000),
            keep_lines: 1000,
            max_total: Size(10_000_000_000),
            rule: BTreeMap::new(),
        }
    }
}

/// What the writer of a log does with it, and so what may be done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Discipline {
    /// It keeps the file open: the file stays, its beginning goes.
    Copytruncate,
    /// It opens the file anew for each line, or when it is told to: the file gets another name.
    Rename,
}

/// `[logs.rule.NAME]`: how some logs are treated. What it does not say is as in `[logs]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Globs of these logs; they need not be in `include`. What rotation makes of them is found by
    /// itself.
    pub paths: Vec<String>,
    /// See [`Logs::discipline`].
    pub discipline: Option<Discipline>,
    /// See [`Logs::compress_after`].
    pub compress_after: Option<Span>,
    /// See [`Logs::delete_after`].
    pub delete_after: Option<Span>,
    /// See [`Logs::max_size`].
    pub max_size: Option<Size>,
    /// See [`Logs::keep_lines`].
    pub keep_lines: Option<usize>,
    /// So many closed ones of each log stay; of `whole` ones so many in all.
    pub keep: Option<usize>,
    /// What leaves the log goes to `archive/YYYYMMDD/` and is never deleted.
    pub archive: bool,
    /// Never cut nor renamed: a file is compressed and deleted only as a whole.
    pub whole: bool,
    /// What happens once after a run that renamed or cut some of these.
    pub after: Option<After>,
}

/// `after`: how the writer is told.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(
    untagged,
    expecting = "after is a command such as [\"program\", \"argument\"], or { signal = \"HUP\", service = \"NAME\" }"
)]
pub enum After {
    /// A program and its arguments; it runs in the home.
    Command(Vec<String>),
    /// A signal to a service.
    Signal(Told),
}

/// Which signal, and to which service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// The signal.
    pub signal: SignalName,
    /// The service: `[service.NAME]`.
    pub service: String,
}

/// The signals by which programs are told to open their logs anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "their names say it")]
pub enum SignalName {
    Hup,
    Usr1,
    Usr2,
}

impl Logs {
    /// Every glob of logs: of `include`, and of the rules with their names.
    pub fn globs(&self) -> impl Iterator<Item = (Option<&str>, &str)> {
        let include = self.include.iter().map(|glob| (None, glob.as_str()));
        let rules = self
            .rule
            .iter()
            .flat_map(|(name, rule)| rule.paths.iter().map(|glob| (Some(name.as_str()), glob.as_str())));
        include.chain(rules)
    }

    /// What the types cannot say. Gives the rule that is wrong, and why.
    pub(super) fn validate<'a>(
        &self,
        services: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<(), (&str, String)> {
        for (name, rule) in &self.rule {
            let wrong = |why: &str| Err((name.as_str(), why.to_owned()));
            if rule.paths.is_empty() {
                return wrong("it has no paths");
            }
            if rule.whole && (rule.archive || rule.discipline.is_some() || rule.keep_lines.is_some()) {
                return wrong(
                    "whole files are never cut: archive, discipline and keep_lines mean nothing there",
                );
            }
            if rule.archive && (rule.keep.is_some() || rule.delete_after.is_some()) {
                return wrong("what is archived is never deleted: keep and delete_after mean nothing there");
            }
            match &rule.after {
                Some(After::Command(words)) if words.first().is_none_or(String::is_empty) => {
                    return wrong("after names no program");
                }
                Some(After::Signal(Told { service, .. }))
                    if !services.clone().any(|known| known == service) =>
                {
                    let near = text::nearest(service, services);
                    let near = near.map_or(String::new(), |near| format!("; did you mean '{near}'?"));
                    return wrong(&format!("after asks for a service '{service}' that there is not{near}"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
