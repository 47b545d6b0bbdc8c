//! `[alerts]`: when people are told, how, and what is tried before.

use super::channels::{Alertmanager, Command, Deadman, Desktop, Email, Gotify, Ntfy, Telegram, Tls, Webhook};
use super::validate::is_this_machine;
use crate::base::Home;
use crate::base::secret::Secret;
use crate::base::units::Span;
use chrono::{NaiveTime, Timelike};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The alert types that have a runbook.
pub const TYPES: [&str; 9] = [
    "alerts_held_back",
    "daemon_critical",
    "daemon_degraded",
    "disk_critical",
    "disk_low",
    "email_errors",
    "memory_corrupt",
    "restart_loop",
    "upgrade_unfinished",
];

/// `[alerts]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    /// The least time between two messages about the same thing.
    pub cooldown: Span,
    /// Messages an hour, of all types together. A first CRITICAL and a recovery always go out.
    pub max_per_hour: usize,
    /// Whether a dead service is restarted.
    pub recover: bool,
    /// More crashes than this within an hour: no more restarts, a louder alert instead.
    pub max_restarts_per_hour: usize,
    /// Where a CRITICAL goes. Channels that are not set up are passed over.
    pub critical: Vec<ChannelName>,
    /// Where a WARNING goes.
    pub warning: Vec<ChannelName>,
    /// The hours of local time in which warnings wait.
    pub quiet_hours: Option<Hours>,
    /// Who is told as well of a CRITICAL that nobody acknowledged, and when recovery gave up.
    pub escalate: Vec<ChannelName>,
    /// After how long.
    pub escalate_after: Span,
    /// How long a message is tried again that a channel does not take.
    pub retry_for: Span,
    /// The address under which the runbooks can be read: `/TYPE.md` is added.
    pub runbooks: Option<String>,
    /// `[alerts.types.TYPE]`
    pub types: BTreeMap<String, AlertType>,
    /// `[alerts.deadman]`
    pub deadman: Deadman,
    /// `[alerts.desktop]`
    pub desktop: Desktop,
    /// `[alerts.email]`
    pub email: Option<Email>,
    /// `[alerts.webhook]`
    pub webhook: Option<Webhook>,
    /// `[alerts.telegram]`
    pub telegram: Option<Telegram>,
    /// `[alerts.ntfy]`
    pub ntfy: Option<Ntfy>,
    /// `[alerts.gotify]`
    pub gotify: Option<Gotify>,
    /// `[alerts.command]`
    pub command: Option<Command>,
    /// `[alerts.alertmanager]`
    pub alertmanager: Option<Alertmanager>,
}

impl Default for Alerts {
    fn default() -> Alerts {
        let all_but = |left_out: &[ChannelName]| {
            ChannelName::ALL.into_iter().filter(|name| !left_out.contains(name)).collect()
        };
        Alerts {
            cooldown: Span::minutes(30),
            max_per_hour: 5,
            recover: true,
            max_restarts_per_hour: 3,
            critical: all_but(&[]),
            warning: all_but(&[ChannelName::Email]),
            quiet_hours: None,
            escalate: Vec::new(),
            escalate_after: Span::minutes(30),
            retry_for: Span::days(1),
            runbooks: None,
            types: BTreeMap::new(),
            deadman: Deadman::default(),
            desktop: Desktop::default(),
            email: None,
            webhook: None,
            telegram: None,
            ntfy: None,
            gotify: None,
            command: None,
            alertmanager: None,
        }
    }
}

/// A way to reach people, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelName {
    /// `[alerts.desktop]`
    Desktop,
    /// `[alerts.email]`
    Email,
    /// `[alerts.webhook]`
    Webhook,
    /// `[alerts.telegram]`
    Telegram,
    /// `[alerts.ntfy]`
    Ntfy,
    /// `[alerts.gotify]`
    Gotify,
    /// `[alerts.command]`
    Command,
}

impl ChannelName {
    /// All, in the order in which one stands in for another.
    pub const ALL: [ChannelName; 7] = [
        ChannelName::Desktop,
        ChannelName::Email,
        ChannelName::Webhook,
        ChannelName::Telegram,
        ChannelName::Ntfy,
        ChannelName::Gotify,
        ChannelName::Command,
    ];

    /// As it is written in the config.
    pub fn word(self) -> &'static str {
        match self {
            ChannelName::Desktop => "desktop",
            ChannelName::Email => "email",
            ChannelName::Webhook => "webhook",
            ChannelName::Telegram => "telegram",
            ChannelName::Ntfy => "ntfy",
            ChannelName::Gotify => "gotify",
            ChannelName::Command => "command",
        }
    }
}

/// `[alerts.types.TYPE]`: what differs for one alert type.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertType {
    /// Where it goes, whatever its severity.
    pub channels: Option<Vec<ChannelName>>,
    /// The least time between two messages about it.
    pub cooldown: Option<Span>,
}

/// Hours of the day, such as `22:00-07:00`: from the first minute, up to the last without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    from: NaiveTime,
    until: NaiveTime,
}

impl Hours {
    /// Reads `22:00-07:00`.
    pub fn parse(text: &str) -> Result<Hours, String> {
        let time = |text: &str| NaiveTime::parse_from_str(text.trim(), "%H:%M").ok();
        let hours = text.split_once('-').and_then(|(from, until)| time(from).zip(time(until)));
        match hours {
            Some((from, until)) if from != until => Ok(Hours { from, until }),
            _ => Err(format!("'{text}' is no part of the day; write it like \"22:00-07:00\"")),
        }
    }

    /// Whether a local time lies in them.
    pub fn contain(self, time: NaiveTime) -> bool {
        if self.from < self.until {
            self.from <= time && time < self.until
        } else {
            self.from <= time || time < self.until
        }
    }

    /// When they end.
    pub fn until(self) -> NaiveTime {
        self.until
    }
}

impl<'de> Deserialize<'de> for Hours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hours, D::Error> {
        Hours::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl Serialize for Hours {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Hours { from, until } = self;
        serializer.collect_str(&format_args!(
            "{:02}:{:02}-{:02}:{:02}",
            from.hour(),
            from.minute(),
            until.hour(),
            until.minute()
        ))
    }
}

impl Alerts {
    /// What the types cannot say: the name of the table, and what is wrong in it. `types`: every
    /// alert type that can come up.
    pub(super) fn validate(&self, types: &[&str]) -> Result<(), (String, String)> {
        let wrong = |table: &str, message: String| Err((format!("alerts{table}"), message));
        for name in self.types.keys() {
            if !types.contains(&name.as_str()) {
                let near = crate::base::text::nearest(name, types.iter().copied());
                let near = near.map_or(String::new(), |near| format!("; did you mean '{near}'?"));
                return wrong(".types", format!("no check raises an alert of type '{name}'{near}"));
            }
        }
        if self.escalate_after.0.is_zero() {
            return wrong(".escalate_after", "escalate_after is no time at all".to_owned());
        }
        let http = |url: &str| url.starts_with("http://") || url.starts_with("https://");
        if let Some(telegram) = self.telegram.as_ref().filter(|telegram| !http(&telegram.api)) {
            return wrong(
                ".telegram",
                format!("api = \"{}\" is no http:// or https:// address", telegram.api),
            );
        }
        if let Some(gotify) = self.gotify.as_ref().filter(|gotify| !http(&gotify.url)) {
            return wrong(".gotify", format!("url = \"{}\" is no http:// or https:// address", gotify.url));
        }
        if let Some(email) = &self.email
            && (email.tls == Tls::None && email.password.is_some())
            && !(email.allow_plaintext || is_this_machine(&email.host))
        {
            let message = "tls = \"none\" sends the password to another machine in clear; use starttls or tls, or \
                           allow_plaintext = true where nobody else is on the way";
            return wrong(".email", message.to_owned());
        }
        if self.runbooks.as_ref().is_some_and(|url| !http(url)) {
            return wrong(".runbooks", "runbooks is no http:// or https:// address".to_owned());
        }
        if let Some(command) = &self.command
            && command.run.first().is_none_or(String::is_empty)
        {
            return wrong(".command", "run names no program".to_owned());
        }
        if let Some(ntfy) = &self.ntfy
            && (ntfy.user.is_some() != ntfy.password.is_some() || ntfy.user.is_some() && ntfy.token.is_some())
        {
            return wrong(".ntfy", "either token, or user and password".to_owned());
        }
        if let Some(alertmanager) = &self.alertmanager {
            let plain = |name: &str| {
                !name.starts_with(|c: char| c.is_ascii_digit())
                    && !name.is_empty()
                    && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            };
            if let Some(name) = alertmanager.labels.keys().find(|name| !plain(name)) {
                return wrong(
                    ".alertmanager",
                    format!("'{name}' is no name of a label: letters, digits and _"),
                );
            }
        }
        Ok(())
    }

    /// All secrets of the channels.
    pub(super) fn secrets(&mut self) -> Vec<&mut Secret> {
        let mut secrets: Vec<&mut Secret> = Vec::new();
        let Deadman { alert, backup, rotate_logs, drill } = &mut self.deadman;
        secrets.extend([alert, backup, rotate_logs, drill].into_iter().flatten());
        if let Some(email) = &mut self.email {
            secrets.extend(&mut email.password);
        }
        if let Some(webhook) = &mut self.webhook {
            secrets.push(&mut webhook.url);
            secrets.extend(webhook.headers.values_mut());
            secrets.extend(&mut webhook.secret);
        }
        if let Some(telegram) = &mut self.telegram {
            secrets.push(&mut telegram.token);
        }
        if let Some(ntfy) = &mut self.ntfy {
            secrets.push(&mut ntfy.url);
            secrets.extend(ntfy.token.iter_mut().chain(&mut ntfy.password));
        }
        if let Some(gotify) = &mut self.gotify {
            secrets.push(&mut gotify.token);
        }
        if let Some(alertmanager) = &mut self.alertmanager {
            secrets.push(&mut alertmanager.url);
            secrets.extend(alertmanager.headers.values_mut());
        }
        secrets
    }

    /// Makes every path absolute.
    pub(super) fn resolve(&mut self, home: &Home, fix: impl Fn(&mut PathBuf)) {
        if let Some(email) = &mut self.email {
            email.ca_file.iter_mut().for_each(&fix);
        }
        self.secrets().into_iter().for_each(|secret| secret.anchor(home));
        if let Some(program) = self.command.as_mut().and_then(|command| command.run.first_mut())
            && (program.contains('/') || program.starts_with('~'))
        {
            let mut path = PathBuf::from(&*program);
            fix(&mut path);
            *program = path.display().to_string();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_config() {
        for name in ChannelName::ALL {
            assert_eq!(serde_json::to_value(name).unwrap(), name.word());
        }
    }

    #[test]
    fn hours_of_the_day_may_cross_midnight() {
        let time = |text: &str| NaiveTime::parse_from_str(text, "%H:%M").unwrap();
        let night = Hours::parse("22:00-07:00").unwrap();
        for (at, inside) in
            [("21:59", false), ("22:00", true), ("00:00", true), ("06:59", true), ("07:00", false)]
        {
            assert_eq!(night.contain(time(at)), inside, "{at}");
        }
        let noon = Hours::parse("12:00 - 13:00").unwrap();
        assert!(noon.contain(time("12:30")) && !noon.contain(time("13:00")) && !noon.contain(time("00:00")));
        assert_eq!(serde_json::to_value(night).unwrap(), "22:00-07:00");
        for wrong in ["", "22-7", "22:00", "25:00-07:00", "22:00-22:00", "22:00-07:00-08:00"] {
            assert!(Hours::parse(wrong).is_err(), "{wrong}");
        }
    }
}
