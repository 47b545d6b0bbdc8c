//! As whom a service runs: as we do, or, where we are root and its home is another user's, as that user.
//!
//! Else root's daemon would leave files that its owner cannot go on with, and a process that its owner cannot
//! stop; and whoever may write in the home would be root.

use crate::base::owner::Owner;
use anyhow::Result;
use std::fmt;
use std::io;
use std::process::Command;
use std::str::FromStr;

/// What of root's environment says something of root.
const OF_ROOT: [&str; 11] = [
    "DBUS_SESSION_BUS_ADDRESS",
    "MAIL",
    "SUDO_COMMAND",
    "SUDO_GID",
    "SUDO_UID",
    "SUDO_USER",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
];

/// The numbers of a user, as the step between us and a service gets them: `UID:GID:GROUP,GROUP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Ids {
    pub(super) fn of(owner: &Owner) -> Result<Ids> {
        Ok(Ids { uid: owner.uid, gid: owner.gid, groups: owner.groups()? })
    }

    /// Has a command that is to replace this process do so as that user.
    #[cfg(target_os = "linux")]
    pub(super) fn take(&self, _: &mut Command) -> io::Result<()> {
        use rustix::thread::{Gid, Uid};
        use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        // What this thread is, the program will be that it becomes.
        set_thread_groups(&groups)?;
        set_thread_res_gid(gid, gid, gid)?;
        Ok(set_thread_res_uid(uid, uid, uid)?)
    }

    /// The user's other groups are for the system to look up.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn take(&self, command: &mut Command) -> io::Result<()> {
        use std::os::unix::process::CommandExt;
        command.gid(self.gid).uid(self.uid);
        Ok(())
    }
}

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        write!(f, "{}:{}:{}", self.uid, self.gid, groups.join(","))
    }
}

impl FromStr for Ids {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Ids, Self::Err> {
        let mut parts = text.splitn(3, ':');
        let mut next = || parts.next().unwrap_or_default();
        let (uid, gid) = (next().parse()?, next().parse()?);
        let groups = next().split(',').filter(|group| !group.is_empty());
        Ok(Ids { uid, gid, groups: groups.map(str::parse).collect::<Result<_, _>>()? })
    }
}

/// The environment of a user in place of root's.
pub(super) fn dress(owner: &Owner, command: &mut Command) {
    OF_ROOT.iter().for_each(|name| {
        command.env_remove(name);
    });
    for name in ["USER", "LOGNAME"] {
        match &owner.name {
            Some(user) => command.env(name, user),
            None => command.env_remove(name),
        };
    }
    match &owner.folder {
        Some(folder) => command.env("HOME", folder),
        None => command.env_remove("HOME"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        for groups in [vec![], vec![100], vec![100, 998]] {
            let ids = Ids { uid: 1000, gid: 100, groups };
            assert_eq!(ids.to_string().parse(), Ok(ids));
        }
        assert!("".parse::<Ids>().is_err() && "0".parse::<Ids>().is_err() && "1:x:".parse::<Ids>().is_err());
    }
}
