//! What the types of a config cannot say: names, and what refers to what.

use super::{Config, Kind, Runtime, alerts, when};
use crate::base::text;

/// The table that is wrong, and why.
type Wrong = (String, String);

/// What the types cannot say. An error names its table.
pub(super) fn validate(config: &Config) -> Result<(), Wrong> {
    if !plain_name(&config.agent.name) {
        let message =
            format!("the agent's name '{}' may only hold letters, digits, -, _ and .", config.agent.name);
        return Err(("agent".to_owned(), message));
    }
    services(config)?;
    checks(config)?;
    for (key, time) in config.schedule.times() {
        when::parse(time).map_err(|why| {
            let fields = "minute, hour, day of the month, month, day of the week";
            let message =
                format!("schedule.{key} = \"{}\": {why}; five fields: {fields}", time.escape_debug());
            (format!("schedule.{key}"), message)
        })?;
    }
    if config.schedule.jitter.0.as_secs() > 3600 {
        return Err(("schedule".to_owned(), "jitter: an hour at most".to_owned()));
    }
    recipients(config).map_err(|message| ("backup".to_owned(), message))?;
    dumps(config).map_err(|message| ("backup.dump".to_owned(), message))?;
    bucket(config).map_err(|message| ("backup.s3".to_owned(), message.to_owned()))?;
    logs(config)?;
    config.alerts.validate(&alert_types(config))
}

fn services(config: &Config) -> Result<(), Wrong> {
    for (name, service) in &config.service {
        let table = format!("service.{name}");
        if !plain_name(name) {
            return Err((table, format!("the name '{name}' may only hold letters, digits, -, _ and .")));
        }
        if service.command.first().is_none_or(String::is_empty) {
            return Err((table, format!("the service '{name}' has no command")));
        }
        let known =
            ["", "status", "alive"].contains(&service.ready.as_str()) || service.ready.starts_with("tcp:");
        if !known {
            let message = format!("ready = \"{}\" is none of status, alive, tcp:HOST:PORT", service.ready);
            return Err((table, message));
        }
        if service.recover_hung && service.status_file.is_none() {
            return Err((
                table,
                "recover_hung needs a status_file: without one nothing tells a hang".to_owned(),
            ));
        }
        if let Some(why) = service.runtime.as_ref().and_then(Runtime::wrong) {
            return Err((table, format!("the service '{name}': {why}")));
        }
        if service.ready == "status" && service.status_file.is_none() {
            return Err((table, "ready = \"status\" needs a status_file".to_owned()));
        }
    }
    Ok(())
}

fn checks(config: &Config) -> Result<(), Wrong> {
    for (name, check) in &config.check {
        if !plain_name(name) {
            let table = format!("check.{name}");
            return Err((table, format!("the name '{name}' may only hold letters, digits, -, _ and .")));
        }
        if let Err(message) = follows(config, name, &mut Vec::new()) {
            return Err((format!("check.{name}"), message));
        }
        if let Some(why) = check.kind.wrong() {
            return Err((format!("check.{name}"), format!("the check '{name}': {why}")));
        }
        let table = format!("check.{name}");
        if matches!(check.kind, Kind::CopyAge(_)) && config.backup.s3.is_none() {
            return Err((table, format!("the check '{name}' needs a bucket: there is no [backup.s3]")));
        }
        let Some(service) = check.kind.service() else { continue };
        let Some(found) = config.service.get(service) else {
            let near = text::nearest(service, config.service.keys().map(String::as_str));
            let known = near.map_or(String::new(), |near| format!("; did you mean '{near}'?"));
            return Err((
                table,
                format!("the check '{name}' asks about a service '{service}' that there is not{known}"),
            ));
        };
        if matches!(check.kind, Kind::Heartbeat(_)) && found.status_file.is_none() {
            return Err((table, format!("the check '{name}' needs service.{service}.status_file")));
        }
    }
    Ok(())
}

/// One that is switched off is a service all the same: its rule has nothing to do then.
fn logs(config: &Config) -> Result<(), Wrong> {
    if let Some(name) = config.logs.rule.keys().find(|name| !plain_name(name)) {
        let message = format!("the name '{name}' may only hold letters, digits, -, _ and .");
        return Err(("logs.rule".to_owned(), message));
    }
    config
        .logs
        .validate(config.service.keys().map(String::as_str))
        .map_err(|(name, why)| ("logs.rule".to_owned(), format!("the rule '{name}': {why}")))
}

fn dumps(config: &Config) -> Result<(), String> {
    for (name, dump) in &config.backup.dump {
        if !plain_name(name) {
            return Err(format!("the name '{name}' may only hold letters, digits, -, _ and ."));
        }
        if dump.command.first().is_none_or(String::is_empty) {
            return Err(format!("the dump '{name}' has no command"));
        }
        if dump.timeout.0.is_zero() {
            return Err(format!("the dump '{name}': no command is done in no time (timeout)"));
        }
    }
    Ok(())
}

/// The host in an address without its scheme: `user@host:port/path`, `[::1]:9000`.
fn host_of(address: &str) -> &str {
    let authority = address.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

/// Whether a host is this very machine, so that nobody is on the way.
pub(super) fn is_this_machine(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let is_loopback = |address: std::net::IpAddr| address.to_canonical().is_loopback();
    name == "localhost" || name.ends_with(".localhost") || host.parse().is_ok_and(is_loopback)
}

fn bucket(config: &Config) -> Result<(), &'static str> {
    if let Some(s3) = &config.backup.s3 {
        if !(s3.endpoint.starts_with("http://") || s3.endpoint.starts_with("https://")) {
            return Err("endpoint is no http:// or https:// address");
        }
        if let Some(address) = s3.endpoint.strip_prefix("http://")
            && !s3.allow_plaintext
            && !is_this_machine(host_of(address))
        {
            return Err("endpoint: by http:// archives go to another machine in clear; use https://, or \
                        allow_plaintext = true where nobody else is on the way");
        }
        if s3.bucket.is_empty() || s3.bucket.contains('/') {
            return Err("bucket is not the name of a bucket");
        }
        if s3.access_key.is_some() != s3.secret_key.is_some() {
            return Err("access_key and secret_key go together");
        }
        let prefix = s3.prefix.as_deref().unwrap_or_default();
        let odd = |part: &str| [".", ".."].contains(&part) || part.chars().any(char::is_control);
        if prefix.starts_with('/') || prefix.contains("//") || prefix.split('/').any(odd) {
            return Err("prefix may not begin with / nor have an empty part, . or ..");
        }
    }
    Ok(())
}

/// Follows the checks that a check comes `after`: all must be there, and none may come after itself.
fn follows<'a>(config: &'a Config, name: &'a str, path: &mut Vec<&'a str>) -> Result<(), String> {
    path.push(name);
    for parent in config.check.get(name).map_or(&[][..], |check| check.common.after.as_slice()) {
        if path.contains(&parent.as_str()) {
            return Err(format!("the checks {} come after each other", path.join(", ")));
        }
        if !config.check.contains_key(parent) {
            let near = text::nearest(parent, config.check.keys().map(String::as_str));
            let near = near.map_or(String::new(), |near| format!("; did you mean '{near}'?"));
            return Err(format!("the check '{name}' comes after '{parent}', which there is not{near}"));
        }
        follows(config, parent, path)?;
    }
    path.pop();
    Ok(())
}

/// Every alert type that can come up: those of the house, a check's own name, and what it is told to
/// raise.
fn alert_types(config: &Config) -> Vec<&str> {
    let own = config.check.iter().flat_map(|(name, check)| {
        let common = &check.common;
        [Some(name), common.alert_warning.as_ref(), common.alert_critical.as_ref()].into_iter().flatten()
    });
    alerts::TYPES.into_iter().chain(own.map(String::as_str)).collect()
}

/// Whether the keys of encryption are where they belong. No message quotes one.
fn recipients(config: &Config) -> Result<(), String> {
    const SECRET: &str = "AGE-SECRET-KEY-";
    let is_secret = |text: &str| text.to_ascii_uppercase().contains(SECRET);
    if config.backup.identity.as_ref().is_some_and(|identity| is_secret(&identity.to_string_lossy())) {
        return Err("identity is a key; write the key into a file, and the file's path here".to_owned());
    }
    for (index, recipient) in config.backup.encrypt_to.iter().enumerate() {
        if is_secret(recipient) {
            return Err("encrypt_to holds a secret key; it takes the public one, age1…".to_owned());
        }
        if !["age1", "ssh-", "file:"].iter().any(|start| recipient.starts_with(start)) {
            return Err(format!("encrypt_to, entry {}: it begins with none of age1, ssh-, file:", index + 1));
        }
    }
    Ok(())
}

/// A name that can stand in a file name, a label and a mail.
pub fn plain_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}
