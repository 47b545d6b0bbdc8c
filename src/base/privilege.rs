//! Root acts as the owner of the home: decided once, before anything of that user is read.
//!
//! Whoever may write in a home decides what our programs run. So where root looks after the home, or the config,
//! of somebody else, the process becomes that user before it reads either: groups, group and user, real,
//! effective and saved, with an environment that has nothing of root's. Nothing afterwards is special.
//!
//! Only who speaks to the system's service manager has to be root for it: those few verbs ([`Keep::Manager`])
//! keep the saved user id of root, and take it up for that order alone ([`as_root`]). Whatever they run in between
//! has lost it: an exec sets the saved user id to the effective one.

use super::owner::Owner;
use super::{Fault, beneath, trust};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::OnceLock;

/// What root keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// What it takes to give orders to the system's service manager.
    Manager,
}

/// Of whom we keep the right to be root, if of anybody.
static ACTS_AS: OnceLock<Owner> = OnceLock::new();

/// What follows root into the user's process: how to talk to whoever called, and where to look.
const FOLLOWS: [&str; 14] = [
    "PATH",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TERM",
    "COLUMNS",
    "LINES",
    "NO_COLOR",
    "COLORTERM",
    "RUST_BACKTRACE",
    "OPS_HOME",
    "OPS_CONFIG",
    "OPS_NOW",
    "OPS_PAUSE",
];

/// Where the agent is, as far as it is known before its config is read.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Its home, or where that is to be.
    pub home: Option<PathBuf>,
    /// Its config, or where that is to be.
    pub config: Option<PathBuf>,
    /// The variables that stand for these where an option named the place, so that hints repeat the option.
    pub typed: Vec<&'static str>,
}

/// Of a process that root has become: which of the variables of its places stand for options that were typed.
const AS_OWNER: &str = "OPS_AS_OWNER";

/// Whether this variable holds what was typed as an option before root became the owner of the home.
pub fn was_typed(variable: &str) -> bool {
    let typed = std::env::var(AS_OWNER).unwrap_or_default();
    typed.split(' ').any(|known| known == variable)
}

/// As whom root acts here, in words; none: nobody was become.
pub fn acting() -> Option<String> {
    let uid = rustix::process::geteuid();
    std::env::var_os(AS_OWNER).filter(|_| !uid.is_root())?;
    let name = std::env::var("USER").unwrap_or_default();
    Some(format!("acting as {name} ({uid}), the owner of the home"))
}

/// [`acting`] after an error of missing rights: root would not expect one.
pub fn explain_denied(error: &anyhow::Error) -> Option<String> {
    let denied = |cause: &(dyn std::error::Error + 'static)| {
        let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let errno = cause.downcast_ref::<rustix::io::Errno>();
        kind == Some(std::io::ErrorKind::PermissionDenied)
            || errno
                .is_some_and(|errno| matches!(*errno, rustix::io::Errno::ACCESS | rustix::io::Errno::PERM))
    };
    if error.chain().any(denied) { acting() } else { None }
}

/// Becomes the owner of these places, if we are root and they are somebody else's. Gives an exit code where
/// another process did the work as that user; with none the caller goes on, as whoever it is now.
///
/// # Errors
/// A [`Fault`] of state Unknown where it cannot be told whose they are, or that user cannot be had.
pub fn become_owner(places: &Places, keep: Keep) -> Result<Option<ExitCode>> {
    let Some(uid) = owner(places)? else { return Ok(None) };
    let owner = Owner::find(uid)
        .with_context(|| format!("cannot look up user {uid}"))?
        .ok_or_else(|| nameless(uid))?;
    let environment = environment(&owner, places);
    match keep {
        Keep::Nothing => {
            platform::take(&owner, false).map_err(|error| refused(&owner, &error))?;
            platform::run_again(&owner, &environment).map(Some)
        }
        Keep::Manager => {
            let mut now: Vec<_> = std::env::vars_os().collect();
            now.sort();
            if now != environment {
                let error = again(&environment)?.exec();
                return Err(error).context("cannot run our own program");
            }
            platform::take(&owner, true).map_err(|error| refused(&owner, &error))?;
            let _ = ACTS_AS.set(owner);
            Ok(None)
        }
    }
}

/// Gives up the right to be root as well, for good.
///
/// # Errors
/// When it could be had again.
pub fn keep_nothing() -> Result<()> {
    match ACTS_AS.get() {
        Some(owner) => platform::take(owner, false).map_err(|error| refused(owner, &error).into()),
        None => Ok(()),
    }
}

/// Keeps what the caller had open, beside the standard streams, from everything that this program runs: the first
/// thing that it does.
pub fn pass_no_descriptors() {
    close_fds::set_fds_cloexec(3, &[]);
}

/// The user as whom we act, also while we are root for the service manager.
pub fn us() -> u32 {
    ACTS_AS.get().map_or_else(|| rustix::process::geteuid().as_raw(), |owner| owner.uid)
}

/// Whether orders to the system's service manager are root's.
pub fn manages_system() -> bool {
    rustix::process::geteuid().is_root() || (ACTS_AS.get().is_some() && platform::keeps_root())
}

/// Does something that only root may, where we are root or kept that right. Nothing that the home says decides
/// what that is.
pub fn as_root<T>(work: impl FnOnce() -> T) -> T {
    let Some(owner) = ACTS_AS.get().filter(|_| platform::keeps_root()) else { return work() };
    // Refused, the work itself tells what it may not do.
    let _back = platform::Raised::begin(owner);
    work()
}

/// [`as_root`] for what is the system's, else as whoever we are.
pub fn as_manager<T>(system: bool, work: impl FnOnce() -> T) -> T {
    if system { as_root(work) } else { work() }
}

/// Whether a file of the system's manager is of the user as whom we act. What a home says of it is that user's
/// word; the file is root's.
pub fn may_order(file: &Path) -> bool {
    let Some(owner) = ACTS_AS.get() else { return true };
    let timer = file.extension().is_some_and(|extension| extension == "timer");
    let unit = if timer { file.with_extension("service") } else { file.to_owned() };
    match beneath::read_small_text(unit) {
        Ok(text) => text.lines().any(|line| line.strip_prefix("User=") == Some(&owner.name)),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// The user whose places these are, where we are root and they are not root's own.
///
/// # Errors
/// A [`Fault`] of state Unknown where it cannot be told, or they are of two users.
pub fn owner(places: &Places) -> Result<Option<u32>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let home = places.home.as_deref().map(owner_of).transpose()?;
    let config = places.config.as_deref().map(owner_of).transpose()?;
    let (Some(home_path), Some(config_path)) = (&places.home, &places.config) else {
        return Ok(home.or(config).filter(|uid| *uid != 0));
    };
    match (home.unwrap_or(0), config.unwrap_or(0)) {
        (0, 0) => Ok(None),
        (uid, 0) | (0, uid) => Ok(Some(uid)),
        (a, b) if a == b => Ok(Some(a)),
        (home, config) => Err(Fault::unknown(format!(
            "nothing was done: the home {} belongs to user {home}, and the config {} to user {config}",
            home_path.display(),
            config_path.display()
        ))
        .hint(format!("give the config to the owner of the home: chown {home} '{}'", config_path.display()))
        .into()),
    }
}

/// The owner of what is there, or of the folder in which it would be made. Judged by what is open: a name may
/// lead elsewhere a moment later.
fn owner_of(path: &Path) -> Result<u32> {
    let place = trust::nearest(path);
    let looking = || format!("cannot tell whose {} is", path.display());
    let meta = platform::open_place(&place).with_context(looking)?.metadata().with_context(looking)?;
    // Whoever may put another one in its place decides what it is.
    if meta.uid() == 0 { trust::decided_by(&place) } else { Ok(meta.uid()) }
}

fn nameless(uid: u32) -> Fault {
    Fault::unknown(format!(
        "nothing was done: this is the agent of user {uid}, who is not known here, and you are root"
    ))
    .hint(format!(
        "run it as that user: setpriv --reuid {uid} --regid {uid} --clear-groups …, in a container --user {uid}"
    ))
}

fn refused(owner: &Owner, error: &std::io::Error) -> Fault {
    let name = &owner.name;
    Fault::unknown(format!(
        "nothing was done: this is {name}'s agent, and root may not become {name} here: {error}"
    ))
    .hint(format!("run it as that user: sudo -u '{name}' …, in a container --user {}", owner.uid))
}

/// All that the user's process gets, sorted.
fn environment(owner: &Owner, places: &Places) -> Vec<(OsString, OsString)> {
    let follows = |name: &str| {
        FOLLOWS.contains(&name)
            || name.starts_with("LC_")
            || (cfg!(debug_assertions) && name.starts_with("OPS_"))
    };
    let mut all: Vec<(OsString, OsString)> =
        std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(follows)).collect();
    // Found where root looks, they are said to whom looks elsewhere.
    let mut set = |name: &str, value: OsString| {
        all.retain(|(known, _)| known != name);
        all.push((name.into(), value));
    };
    set("HOME", owner.folder.clone().into());
    set("USER", owner.name.clone().into());
    set("LOGNAME", owner.name.clone().into());
    set("SHELL", "/bin/sh".into());
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    if let Some(home) = &places.home {
        set("OPS_HOME", absolute(home).into());
    }
    if let Some(config) = &places.config {
        set("OPS_CONFIG", absolute(config).into());
    }
    let mut typed = places.typed.clone();
    // Run again already, options and variables are the same.
    typed.extend(["OPS_HOME", "OPS_CONFIG"].into_iter().filter(|name| was_typed(name)));
    typed.sort_unstable();
    typed.dedup();
    set(AS_OWNER, typed.join(" ").into());
    all.sort();
    all
}

/// This program, with the same arguments and another environment.
fn again(environment: &[(OsString, OsString)]) -> Result<Command> {
    let mut arguments = std::env::args_os();
    let mut command = Command::new(me()?);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments).env_clear().envs(environment.iter().cloned());
    Ok(command)
}

/// Our own program: by its path, so that it has its name, where this user may run it.
fn me() -> std::io::Result<PathBuf> {
    let me = std::env::current_exe()?;
    let closed = rustix::fs::access(&me, rustix::fs::Access::EXEC_OK).is_err();
    Ok(if cfg!(target_os = "linux") && closed { "/proc/self/exe".into() } else { me })
}

#[cfg(target_os = "linux")]
#[path = "privilege_linux.rs"]
mod platform;
#[cfg(not(target_os = "linux"))]
#[path = "privilege_other.rs"]
mod platform;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_root_s_environment_follows_but_how_to_talk() {
        let owner =
            Owner { uid: 1000, gid: 1000, groups: vec![1000], name: "me".into(), folder: "/home/me".into() };
        let places = Places { home: Some("/srv/agent".into()), config: None, typed: vec!["OPS_HOME"] };
        let made = environment(&owner, &places);
        let value = |name: &str| {
            made.iter().find(|(known, _)| known == name).map(|(_, value)| value.to_str().unwrap())
        };
        assert_eq!(value("HOME"), Some("/home/me"));
        assert_eq!(value("OPS_HOME"), Some("/srv/agent"));
        assert_eq!(value(AS_OWNER), Some("OPS_HOME"));
        assert_eq!(value("PATH").map(str::to_owned), std::env::var("PATH").ok());
        assert_eq!(value("CARGO_MANIFEST_DIR"), None);
        assert!(made.is_sorted());
    }
}
