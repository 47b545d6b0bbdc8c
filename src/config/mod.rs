//! `ops.toml` → [`Config`]: typed, complete, with every path absolute.
//!
//! Every default is written down once: in the `Default` of the table it belongs to. What an
//! agent needs beyond that is data, in `presets/`.

pub mod alerts;
mod bare;
pub mod channels;
pub mod check;
mod disabled;
mod doubts;
mod expand;
mod filling;
mod find;
mod includes;
mod indented;
mod layer;
mod load;
pub mod logs;
mod origin;
mod place;
pub mod preset;
mod recognise;
mod resolve;
mod runtime;
mod secrets;
mod tables;
mod template;
mod upgrade;
mod validate;
pub mod when;

pub use alerts::{Alerts, ChannelName};
pub use bare::bare;
pub use check::{Check, Kind};
pub use find::{find, program};
pub use load::{Loaded, home_named, load, parse, read_env_file};
pub use logs::Logs;
pub use origin::{Origin, origins};
pub use recognise::{Recognised, recognise};
pub use runtime::{Runtime, Version};
pub use template::starter;
pub use upgrade::Upgrade;
pub use validate::plain_name;

use crate::base::secret::{REDACTED, Secret};
use crate::base::units::Span;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Everything an operator can say about one agent.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// The file it was read from.
    #[serde(skip)]
    pub file: PathBuf,
    /// `[agent]`
    pub agent: Agent,
    /// `[service.NAME]`: those that are enabled.
    pub service: BTreeMap<String, Service>,
    /// The names of those that are not.
    #[serde(skip)]
    pub disabled: Vec<String>,
    /// The variables that it took from the environment of this run alone: a run from elsewhere may not
    /// have them.
    #[serde(skip)]
    pub from_environment: BTreeSet<String>,
    /// `[check.NAME]`
    pub check: BTreeMap<String, Check>,
    /// `[backup]`
    pub backup: Backup,
    /// `[logs]`
    pub logs: Logs,
    /// `[alerts]`
    pub alerts: Alerts,
    /// `[dashboard]`
    pub dashboard: Dashboard,
    /// `[schedule]`
    pub schedule: Schedule,
    /// `[upgrade]`
    pub upgrade: Upgrade,
    /// `[builtin_agent]`
    pub builtin_agent: BuiltinAgent,
}

/// `[agent]`: what is operated.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Agent {
    /// Its name, in every line, mail and page. Letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Its home folder; the folder of `ops.toml` unless said otherwise.
    #[serde(serialize_with = "crate::base::name::path::serialize")]
    pub home: PathBuf,
    /// The preset that this file adds to: `builtin` where there is no `[service]`, else `none`.
    pub preset: String,
    /// A file of `NAME=value` lines for `${NAME}` in this file and for the services.
    #[serde(serialize_with = "crate::base::name::maybe_path::serialize")]
    pub env_file: Option<PathBuf>,
}

impl Default for Agent {
    fn default() -> Agent {
        Agent { name: "agent".to_owned(), home: PathBuf::new(), preset: String::new(), env_file: None }
    }
}

/// Whose pid file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// The service writes and removes it.
    Agent,
    /// We write it when we start the service.
    Ops,
}

/// When a manager starts a service again that ended without its operator's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// When it crashed: an exit code that is not among the good ones, or a signal.
    OnFailure,
    /// However it ended.
    Always,
}

/// `[service.NAME]`: one long-running process.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// Whether there is such a service. One that is not enabled is as if it were not there, with
    /// the checks that ask about it and those that come after these.
    pub enabled: bool,
    /// Program and arguments. `{ops}` is our own program, `{home}` the agent's home, `{config}` this
    /// file.
    pub command: Vec<String>,
    /// The folder it runs in; the agent's home unless said otherwise.
    #[serde(serialize_with = "crate::base::name::path::serialize")]
    pub cwd: PathBuf,
    /// Environment to set, with the same words filled in.
    #[serde(serialize_with = "hide_values")]
    pub env: BTreeMap<String, String>,
    /// Environment to take away.
    pub env_remove: Vec<String>,
    /// Its pid file, if it has one.
    #[serde(serialize_with = "crate::base::name::maybe_path::serialize")]
    pub pid_file: Option<PathBuf>,
    /// Whose the pid file is.
    pub owner: Owner,
    /// The status file it writes (DESIGN of the format: README, "The status file").
    #[serde(serialize_with = "crate::base::name::maybe_path::serialize")]
    pub status_file: Option<PathBuf>,
    /// When it counts as started: `status` (the status file says running, written since the
    /// start), `tcp:HOST:PORT` (answers), `alive` (still there after a second). Empty: `status`
    /// if there is a status file, else `alive`.
    pub ready: String,
    /// How long it may take to be ready.
    pub ready_timeout: Span,
    /// How long it may take to stop after TERM.
    pub stop_grace: Span,
    /// Ports that must be free before a start and again after a stop.
    #[serde(deserialize_with = "ports")]
    pub ports: Vec<u16>,
    /// When systemd, launchd or `ops run` starts it again.
    pub restart: Restart,
    /// Exit codes besides 0 that are no crash.
    pub success_exit: Vec<u8>,
    /// Whether its systemd unit takes rights away that few agents need.
    pub harden: bool,
    /// Whether `alert` restarts it when it died.
    pub recover: bool,
    /// Whether it restarts it too when it is there, but all evidence says that it hangs.
    pub recover_hung: bool,
    /// What it runs on, and which versions of that it is made for.
    pub runtime: Option<Runtime>,
}

impl Default for Service {
    fn default() -> Service {
        Service {
            enabled: true,
            command: Vec::new(),
            cwd: PathBuf::new(),
            env: BTreeMap::new(),
            env_remove: Vec::new(),
            pid_file: None,
            owner: Owner::Ops,
            status_file: None,
            ready: String::new(),
            ready_timeout: Span::seconds(30),
            stop_grace: Span::seconds(30),
            ports: Vec::new(),
            restart: Restart::OnFailure,
            // What programs that catch INT and TERM like to end with.
            success_exit: vec![130, 143],
            harden: true,
            recover: true,
            recover_hung: false,
            runtime: None,
        }
    }
}

/// Numbers, or texts of numbers: `"${PORT:-8080}"` is a text.
fn ports<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u16>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a port is a number from 1 to 65535")]
    enum Port {
        Number(u16),
        Text(String),
    }
    let read = |port: Port| match port {
        Port::Number(number) => Ok(number),
        Port::Text(text) => {
            text.trim().parse().map_err(|_| serde::de::Error::custom(format!("'{text}' is no port")))
        }
    };
    Vec::<Port>::deserialize(deserializer)?.into_iter().map(read).collect()
}

/// `[backup]`: what is kept safe, where, and for how long.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backup {
    /// Where archives go.
    #[serde(serialize_with = "crate::base::name::path::serialize")]
    pub dir: PathBuf,
    /// Whether ops.toml says so: then it may be a link on purpose.
    #[serde(skip)]
    pub dir_is_named: bool,
    /// Globs of what goes in: relative to the home, or absolute for what is outside it. `**` crosses
    /// folders.
    pub include: Vec<String>,
    /// Globs of what `include` may name although it does not exist: other paths that it names without
    /// wildcards are missed, with a warning.
    pub optional: Vec<String>,
    /// Globs of what stays out although included. Our own state, the backups, pid and lock
    /// files, sockets and the sidecars of databases never go in.
    pub exclude: Vec<String>,
    /// Globs of the streams that rotation archives. They are state: excluding a folder of logs does not
    /// exclude them.
    #[serde(skip)]
    pub streams: Vec<String>,
    /// Globs of work that waits to be done. A restore into the home leaves what it says of the archive out:
    /// it would be done again.
    pub queues: Vec<String>,
    /// `[backup.dump.NAME]`
    pub dump: BTreeMap<String, Dump>,
    /// What stays.
    pub keep: Keep,
    /// Who can read archives: `age1…` or `ssh-…`, or `file:PATH` of a list of them. Empty: they are
    /// not encrypted.
    #[serde(deserialize_with = "one_or_more")]
    pub encrypt_to: Vec<String>,
    /// The file of the key that opens encrypted archives.
    #[serde(serialize_with = "crate::base::name::maybe_path::serialize")]
    pub identity: Option<PathBuf>,
    /// The program that encrypts and decrypts: a name, or a path.
    #[serde(serialize_with = "crate::base::name::path::serialize")]
    pub age_program: PathBuf,
    /// `[backup.s3]`
    pub s3: Option<S3>,
}

/// Only the names: what a service is told may be secret.
fn hide_values<S: Serializer>(env: &BTreeMap<String, String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(env.keys().map(|name| (name, REDACTED)))
}

/// A text alone is a list of one. An error quotes nothing: it may be a key in the wrong place.
fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "this is no text and no list of texts")]
    enum Either {
        One(String),
        More(Vec<String>),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::One(one) => vec![one],
        Either::More(more) => more,
    })
}

/// The exclude that keeps logs out of backups.
pub const LOGS: &str = "logs/**";

impl Default for Backup {
    fn default() -> Backup {
        Backup {
            dir: PathBuf::from("backups"),
            dir_is_named: false,
            include: vec!["**".to_owned()],
            optional: Vec::new(),
            exclude: [LOGS, "**/__pycache__/**", "**/node_modules/**", "**/.venv/**"]
                .map(str::to_owned)
                .into(),
            streams: Vec::new(),
            queues: Vec::new(),
            dump: BTreeMap::new(),
            keep: Keep::default(),
            encrypt_to: Vec::new(),
            identity: None,
            age_program: PathBuf::from("age"),
            s3: None,
        }
    }
}

/// `[backup.dump.NAME]`: a command whose output goes into every archive.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Dump {
    /// Program and arguments, with no shell. It runs in the home, with the variables of `env_file`.
    pub command: Vec<String>,
    /// What loads such a dump, which it reads on its standard input.
    #[serde(default)]
    pub restore: Vec<String>,
    /// How long the command may take.
    #[serde(default = "ten_minutes")]
    pub timeout: Span,
}

fn ten_minutes() -> Span {
    Span::minutes(10)
}

/// `[backup.s3]`: a copy of every archive in a bucket of S3-compatible storage.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// Its address, such as `https://s3.eu-west-1.amazonaws.com`.
    pub endpoint: String,
    /// Whether archives may go to another machine in clear (`http://`).
    #[serde(default)]
    pub allow_plaintext: bool,
    /// The bucket. It must exist.
    pub bucket: String,
    /// The region it is in.
    #[serde(default = "us_east_1")]
    pub region: String,
    /// What every key begins with; the agent's name and `/` unless said otherwise.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Whether the bucket is named in the path of an address, or else in its host.
    #[serde(default = "yes")]
    pub path_style: bool,
    /// The id of the key; `AWS_ACCESS_KEY_ID` of the environment unless said otherwise.
    #[serde(default)]
    pub access_key: Option<Secret>,
    /// The key; `AWS_SECRET_ACCESS_KEY` unless said otherwise.
    #[serde(default)]
    pub secret_key: Option<Secret>,
    /// The token of a key for a while; `AWS_SESSION_TOKEN` unless said otherwise.
    #[serde(default)]
    pub session_token: Option<Secret>,
    /// What stays there; the same as here unless said otherwise.
    #[serde(default)]
    pub keep: Option<Keep>,
    /// A PEM file of the certificate authorities to trust instead of the public ones.
    #[serde(default, serialize_with = "crate::base::name::maybe_path::serialize")]
    pub ca_file: Option<PathBuf>,
    /// How long the storage may be silent before a request counts as failed.
    #[serde(default = "half_a_minute")]
    pub timeout: Span,
}

impl S3 {
    /// The parts of its key.
    pub(super) fn secrets(&mut self) -> Vec<&mut Secret> {
        [&mut self.access_key, &mut self.secret_key, &mut self.session_token].into_iter().flatten().collect()
    }

    /// Where archives go, as people read it: `s3://bucket/prefix`.
    pub fn shown(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix.as_deref().unwrap_or_default())
    }
}

fn us_east_1() -> String {
    "us-east-1".to_owned()
}

fn yes() -> bool {
    true
}

fn half_a_minute() -> Span {
    Span::seconds(30)
}

/// `keep`: how far back archives are kept, and how densely.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keep {
    /// Every archive of the last while.
    pub all: Span,
    /// One an ISO week for so long.
    pub weekly: Span,
    /// One a month for so long.
    pub monthly: Span,
}

impl Default for Keep {
    fn default() -> Keep {
        Keep { all: Span::days(7), weekly: Span::days(30), monthly: Span::days(365) }
    }
}

/// `[dashboard]`: the page.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dashboard {
    /// How often an open page loads itself again.
    pub refresh: Span,
}

impl Default for Dashboard {
    fn default() -> Dashboard {
        Dashboard { refresh: Span::seconds(10) }
    }
}

/// `[schedule]`: when cron runs what. Five fields each, local time; empty: not at all.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Health check and alerts.
    pub alert: String,
    /// Log rotation.
    pub rotate_logs: String,
    /// Backup.
    pub backup: String,
    /// A restore on trial of the newest backup.
    pub drill: String,
    /// The status page.
    pub dashboard: String,
    /// The report by mail.
    pub report: String,
    /// Up to this much later, each home at a moment of its own.
    pub jitter: Span,
    /// How long a run of each may take.
    pub limit: Limits,
}

/// `[schedule.limit]`: a run that takes longer ends itself; `"0s"`: none does.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// `health-check`, besides what `--wait` says.
    pub health_check: Span,
    /// Health check and alerts.
    pub alert: Span,
    /// Log rotation.
    pub rotate_logs: Span,
    /// Backup, with its copy in the bucket.
    pub backup: Span,
    /// A restore on trial.
    pub drill: Span,
    /// The status page.
    pub dashboard: Span,
    /// The report by mail.
    pub report: Span,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            health_check: Span::minutes(10),
            alert: Span::minutes(30),
            rotate_logs: Span::minutes(3 * 60),
            backup: Span::minutes(12 * 60),
            drill: Span::minutes(12 * 60),
            dashboard: Span::minutes(10),
            report: Span::minutes(10),
        }
    }
}

impl Schedule {
    /// When each job runs, by its key.
    fn times(&self) -> [(&'static str, &str); 6] {
        let Schedule { alert, rotate_logs, backup, drill, dashboard, report, jitter: _, limit: _ } = self;
        [
            ("alert", alert),
            ("rotate_logs", rotate_logs),
            ("backup", backup),
            ("drill", drill),
            ("dashboard", dashboard),
            ("report", report),
        ]
    }
}

impl Default for Schedule {
    fn default() -> Schedule {
        Schedule {
            alert: "*/5 * * * *".to_owned(),
            rotate_logs: "0 0 * * *".to_owned(),
            backup: "0 2 * * *".to_owned(),
            drill: "0 4 * * 0".to_owned(),
            dashboard: "* * * * *".to_owned(),
            report: "0 9 * * 0".to_owned(),
            jitter: Span::seconds(0),
            limit: Limits::default(),
        }
    }
}

/// `[builtin_agent]`: the agent that comes along, `ops agent`. Read again on SIGHUP.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BuiltinAgent {
    /// How often its heart beats.
    pub heartbeat: Span,
    /// How often it draws facts from its episodes.
    pub consolidate: Span,
}

impl Default for BuiltinAgent {
    fn default() -> BuiltinAgent {
        BuiltinAgent { heartbeat: Span::minutes(1), consolidate: Span::minutes(10) }
    }
}
