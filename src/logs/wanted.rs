//! Which logs a name on the command line means.

use crate::base::Home;
use crate::config::Config;
use crate::log_files::{Log, by_name, by_rule};
use std::collections::BTreeMap;

/// The logs that our own programs write.
const OURS: [&str; 6] = ["alerts", "backup", "cron", "health_check", "restart", "rotation"];

/// Logs, also those that are not written yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All but those that only rules name.
    All,
    /// Those of one name.
    Name(String),
    /// Those of services.
    Services(Vec<String>),
    /// Those of a rule.
    Rule(String),
}

impl Wanted {
    /// What a name means: a log, a service, a rule, or the newest log whose name begins so. `daemon` is the agent,
    /// whatever its services are called. None: nothing there is called so, or will be by our doing.
    pub fn of(name: &str, home: &Home, config: &Config) -> Option<Wanted> {
        if name == "all" {
            return Some(Wanted::All);
        }
        let one = |name: &str| Some(Wanted::Name(name.to_owned()));
        let names = by_name(home, &config.logs);
        if names.contains_key(name) {
            return one(name);
        }
        if config.service.contains_key(name) {
            return Some(Wanted::Services(vec![name.to_owned()]));
        }
        let of_rules = by_rule(home, &config.logs);
        let with_ending = || {
            of_rules.keys().find(|known| known.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
        };
        if let Some(known) = of_rules.get_key_value(name).map(|(known, _)| known).or_else(with_ending) {
            return one(known);
        }
        if config.logs.rule.contains_key(name) {
            return Some(Wanted::Rule(name.to_owned()));
        }
        if name == "daemon" && !config.service.is_empty() {
            return Some(Wanted::Services(config.service.keys().cloned().collect()));
        }
        let longer = names
            .iter()
            .chain(&of_rules)
            .filter(|(known, _)| known.strip_prefix(name).is_some_and(|rest| rest.starts_with('_')));
        if let Some((known, _)) = longer.max_by_key(|(_, logs)| logs.last().map(|log| log.modified)) {
            return one(known);
        }
        // Those that the config names without a wildcard.
        let files = config.logs.globs().filter_map(|(_, glob)| glob.rsplit('/').next());
        let mut expected = files.map(|file| file.strip_suffix(".log").unwrap_or(file));
        let is = |file: &&str| {
            file.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        if let Some(file) = expected.find(|file| !file.contains(['*', '?', '[']) && is(file)) {
            return one(file);
        }
        let to_come = OURS.contains(&name) || config.disabled.iter().any(|disabled| disabled == name);
        to_come.then(|| Wanted::Name(name.to_owned()))
    }

    /// The logs that there are now, by name; of each the one that is written to comes last.
    pub fn logs(&self, home: &Home, config: &Config) -> BTreeMap<String, Vec<Log>> {
        let mut names = by_name(home, &config.logs);
        match self {
            Wanted::All => {}
            Wanted::Name(wanted) => {
                if !names.contains_key(wanted) {
                    names = by_rule(home, &config.logs);
                }
                names.retain(|name, _| name == wanted);
            }
            Wanted::Rule(rule) => {
                let is = |log: &Log| log.rule.as_ref() == Some(rule);
                names = by_rule(home, &config.logs);
                names.retain(|_, logs| logs.iter().any(is));
            }
            // Where there is only one, what is not ours is its.
            Wanted::Services(_) if config.service.len() == 1 => {
                names.retain(|name, _| !OURS.contains(&name.as_str()));
            }
            Wanted::Services(services) => {
                let is_of = |name: &str, service: &str| {
                    let rest = name.strip_prefix(service);
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['_', '-', '.']))
                };
                // `api-gw.log` is not of `api` where there is a service `api-gw`.
                let of = |name: &str| {
                    let longest = config
                        .service
                        .keys()
                        .filter(|service| is_of(name, service))
                        .max_by_key(|name| name.len());
                    longest.is_some_and(|service| services.contains(service))
                };
                names.retain(|name, _| of(name));
            }
        }
        names
    }

    /// Every name that may be asked for.
    pub fn known(home: &Home, config: &Config) -> Vec<String> {
        let mut known: Vec<String> =
            by_name(home, &config.logs).into_keys().chain(by_rule(home, &config.logs).into_keys()).collect();
        known.extend(config.service.keys().cloned());
        known.sort();
        known.dedup();
        known
    }
}
