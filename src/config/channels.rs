//! `[alerts.NAME]`: the tables of the channels, and of the dead-man's pings.

use super::filling::Filling;
use crate::base::secret::Secret;
use crate::base::units::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `[alerts.deadman]`: addresses that hear of each run of a job, in the protocol of
/// healthchecks.io. Who does not hear of one in time raises the alarm.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deadman {
    /// For runs of `alert`.
    pub alert: Option<Secret>,
    /// For backups.
    pub backup: Option<Secret>,
    /// For rotations of the logs.
    pub rotate_logs: Option<Secret>,
    /// For restores on trial.
    pub drill: Option<Secret>,
}

/// `[alerts.desktop]`: a notification on this machine's screen.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Desktop {
    /// Whether to try. Without a desktop session it is passed over, not failed.
    pub enabled: bool,
}

impl Default for Desktop {
    fn default() -> Desktop {
        Desktop { enabled: true }
    }
}

/// How a mail connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// Plain, then STARTTLS (port 587). Refused if the server does not offer it.
    Starttls,
    /// TLS from the first byte (port 465).
    Tls,
    /// None: only for a server on this machine (port 25).
    None,
}

/// `[alerts.email]`: a mail by SMTP.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// The server's name.
    pub host: String,
    /// Its port; 587, 465 or 25 by `tls`.
    #[serde(default)]
    pub port: Option<u16>,
    /// `starttls`, `tls` or `none`.
    #[serde(default = "starttls")]
    pub tls: Tls,
    /// A PEM file of a certificate authority to trust besides the public ones.
    #[serde(default, serialize_with = "crate::base::name::maybe_path::serialize")]
    pub ca_file: Option<PathBuf>,
    /// The user to log in as.
    #[serde(default)]
    pub user: Option<String>,
    /// The password: `${VAR}`, `file:PATH` or `command:…`.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Whether the password may go to another machine in clear.
    #[serde(default)]
    pub allow_plaintext: bool,
    /// The sender: `name@host` or `Name <name@host>`.
    pub from: String,
    /// The recipients.
    pub to: Vec<String>,
}

fn starttls() -> Tls {
    Tls::Starttls
}

/// `[alerts.webhook]`: a JSON document by HTTP POST.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where to. Often a secret itself: `${VAR}`, `file:PATH` or `command:…`.
    pub url: Secret,
    /// Headers to add, such as `Authorization`.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// What the other side understands.
    #[serde(default)]
    pub format: Format,
    /// A document of one's own instead, with placeholders.
    #[serde(default)]
    pub template: Option<Filling>,
    /// The key of the signature in `X-Signature-256`.
    #[serde(default)]
    pub secret: Option<Secret>,
}

/// How a webhook's document looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Everything there is to say, as our own JSON.
    #[default]
    Generic,
    /// An incoming webhook of Slack (Mattermost and Rocket.Chat take it too).
    Slack,
    /// A webhook of a Discord channel.
    Discord,
    /// A workflow of Microsoft Teams: an adaptive card.
    Teams,
}

/// `[alerts.telegram]`: a message by a bot.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Telegram {
    /// The bot's token.
    pub token: Secret,
    /// The chat: its number, or `@channel`.
    pub chat: String,
    /// The topic in a group that has topics.
    #[serde(default)]
    pub topic: Option<i64>,
    /// The address of the Bot API.
    #[serde(default = "telegram_api")]
    pub api: String,
}

fn telegram_api() -> String {
    "https://api.telegram.org".to_owned()
}

/// `[alerts.ntfy]`: a notification by an ntfy server.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ntfy {
    /// The address of the topic: who knows it can read it.
    pub url: Secret,
    /// An access token.
    #[serde(default)]
    pub token: Option<Secret>,
    /// Or a user,
    #[serde(default)]
    pub user: Option<String>,
    /// and its password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Tags to add; the names of emojis become emojis.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// `[alerts.gotify]`: a notification by a Gotify server.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Gotify {
    /// The address of the server.
    pub url: String,
    /// The token of the application.
    pub token: Secret,
}

/// `[alerts.command]`: a program that gets the message as JSON on its standard input.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Program and arguments. No shell reads them.
    pub run: Vec<String>,
    /// How long it may take; then it is killed, with all it started.
    #[serde(default = "eight_seconds")]
    pub timeout: Span,
}

fn eight_seconds() -> Span {
    Span::seconds(8)
}

/// `[alerts.alertmanager]`: the open problems, told to an Alertmanager in every run. It has rules
/// of its own for who hears of them and how often.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Alertmanager {
    /// Its address, without `/api/v2`.
    pub url: Secret,
    /// Headers to add, such as `Authorization`.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Labels to add.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Not told again within this, a problem counts as resolved there: longer than the time between
    /// two runs.
    #[serde(default = "quarter_of_an_hour")]
    pub resolve_after: Span,
}

fn quarter_of_an_hour() -> Span {
    Span::minutes(15)
}
