//! Who may change a file: a config decides what we run, so only its user and root may write it.
//!
//! The rule is that of sshd's StrictModes. The file, and each folder and link on the way to it, belongs to us
//! or to root, and nobody else may write it. In a sticky folder (`/tmp`) others may write, but not replace what
//! is ours. Write permission for a group is accepted where the group is its owner's alone (user private groups,
//! umask 002), and for root's group.

use super::beneath::{self, Dir, Refused};
use super::{Fault, privilege};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const STICKY: u32 = 0o1000;

/// The most that the files of users and groups may have.
const MOST_USERS: u64 = 64 << 20;

/// Checks that nobody but us and root can change what `path` leads to, or put something else in its place.
/// `what` is what to call it in the error ("config").
///
/// # Errors
/// A [`Fault`] of state Unknown that names the place and the remedy.
pub fn check(what: &str, path: &Path) -> Result<()> {
    let us = rustix::process::geteuid().as_raw();
    let asked = std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))?;
    let real = fs::canonicalize(&asked).with_context(|| format!("cannot find {}", path.display()))?;
    // The folders of a link decide as well where it leads.
    let places: BTreeSet<&Path> = asked.ancestors().chain(real.ancestors()).collect();
    for place in places {
        let meta = fs::symlink_metadata(place)
            .with_context(|| format!("cannot tell who may change the {what} {}", path.display()))?;
        if let Some(breach) = judge(&meta, us, || is_private_group(place, &meta)) {
            return Err(breach.fault(what, path, place, meta.is_dir(), us).into());
        }
    }
    Ok(())
}

/// Refuses a folder, held open, in which anybody but us and root could put something.
///
/// # Errors
/// [`Refused::Foreign`] and [`Refused::Shared`].
pub fn check_own(folder: &Dir) -> io::Result<()> {
    let meta = folder.metadata("")?;
    if ![privilege::us(), 0].contains(&meta.uid()) {
        return Err(Refused::Foreign(meta.uid()).into());
    }
    match meta.mode() {
        mode if mode & 0o002 != 0 => Err(Refused::Shared.into()),
        mode if mode & 0o020 != 0 && !is_private_group(folder.path(), &meta) => Err(Refused::Shared.into()),
        _ => Ok(()),
    }
}

/// Who decides what a path of root's leads to: the owner of the nearest folder on the way to it that is not root's,
/// else root.
///
/// # Errors
/// A [`Fault`] of state Unknown where others may write who are no owners.
pub fn decided_by(path: &Path) -> Result<u32> {
    let asked = std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))?;
    let real = fs::canonicalize(&asked).with_context(|| format!("cannot find {}", path.display()))?;
    let owner = |place: &Path| fs::symlink_metadata(place).map_or(0, |meta| meta.uid());
    let foreign = real.ancestors().chain(asked.ancestors()).map(owner).find(|uid| *uid != 0);
    match foreign {
        Some(uid) => Ok(uid),
        None => check("home", path).map(|()| 0),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Breach {
    Owner(u32),
    Group(u32),
    Everybody,
}

fn judge(meta: &Metadata, us: u32, private: impl FnOnce() -> bool) -> Option<Breach> {
    if ![us, 0].contains(&meta.uid()) {
        return Some(Breach::Owner(meta.uid()));
    }
    let mode = meta.mode();
    if meta.is_symlink() || (meta.is_dir() && mode & STICKY != 0) {
        return None;
    }
    match mode {
        mode if mode & 0o002 != 0 => Some(Breach::Everybody),
        mode if mode & 0o020 != 0 && !private() => Some(Breach::Group(meta.gid())),
        _ => None,
    }
}

impl Breach {
    fn fault(&self, what: &str, path: &Path, place: &Path, is_folder: bool, us: u32) -> Fault {
        let path = path.display();
        let shown = place.display();
        let place_is = match is_folder {
            true => format!("its folder {shown}"),
            false => "it".to_owned(),
        };
        let (why, remedy) = match self {
            Breach::Owner(uid) => (
                format!("{place_is} belongs to user {uid}, and you are user {us}"),
                format!(
                    "run this as user {uid} (`sudo -u '#{uid}' …`), or give it to you or root: chown {us} '{shown}'"
                ),
            ),
            Breach::Group(gid) => (
                format!("the group {gid} may write {}", if is_folder { &place_is } else { "it" }),
                format!("chmod g-w '{shown}'"),
            ),
            Breach::Everybody => (
                format!("everybody may write {}", if is_folder { &place_is } else { "it" }),
                format!("chmod go-w '{shown}'"),
            ),
        };
        let message = format!("the {what} {path} is not used: others could change it: {why}");
        Fault::unknown(message).hint(format!("{remedy}, after a look at what it says"))
    }
}

/// Whether the owner of a file is the only member of its group, by the local files. An access list may let in
/// others behind the bits of the group.
fn is_private_group(path: &Path, meta: &Metadata) -> bool {
    if has_access_list(path) {
        return false;
    }
    if meta.gid() == 0 {
        return true;
    }
    let read = |path| {
        let bytes = beneath::read_small_file(path, MOST_USERS).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    is_private(&read("/etc/passwd"), &read("/etc/group"), meta.uid(), meta.gid())
}

#[cfg(target_os = "linux")]
fn has_access_list(path: &Path) -> bool {
    let mut none: [u8; 0] = [];
    rustix::fs::lgetxattr(path, "system.posix_acl_access", &mut none[..]).is_ok()
}

/// Access lists of macOS are beside the bits: they are not looked at.
#[cfg(not(target_os = "linux"))]
fn has_access_list(_: &Path) -> bool {
    false
}

/// The texts are those of passwd(5) and group(5). A group is private to a user when it has the user's name, is
/// the main group of no one else and has no other members.
fn is_private(passwd: &str, group: &str, uid: u32, gid: u32) -> bool {
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let number =
        |fields: &[String], index: usize| fields.get(index).and_then(|field| field.parse::<u32>().ok());
    let users: Vec<_> = passwd.lines().map(fields).collect();
    let Some(name) = users.iter().find(|user| number(user, 2) == Some(uid)).and_then(|user| user.first())
    else {
        return false;
    };
    let is_only = users.iter().all(|user| number(user, 3) != Some(gid) || number(user, 2) == Some(uid));
    let mut groups = group.lines().map(fields).filter(|group| number(group, 2) == Some(gid)).peekable();
    is_only
        && groups.peek().is_some()
        && groups.all(|group| {
            let members = group.get(3).map_or("", String::as_str);
            group.first() == Some(name)
                && members.split(',').all(|member| member.is_empty() || member == name)
        })
}

/// The folder that a path is or would be in, as far as it exists: what decides whose a new home is.
pub fn nearest(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    const PASSWD: &str =
        "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\nbob:x:1001:100::/home/bob:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nme:x:1000:\nteam:x:2000:me,bob\nbob:x:1001:me\n";

    #[test]
    fn a_group_is_private_only_without_anybody_else_in_it() {
        assert!(is_private(PASSWD, GROUP, 1000, 1000));
        assert!(!is_private(PASSWD, GROUP, 1000, 2000));
        assert!(!is_private(PASSWD, GROUP, 1001, 100));
        assert!(!is_private(PASSWD, GROUP, 1001, 1001), "another is a member of it");
        assert!(!is_private(PASSWD, "", 1000, 1000), "a group that is not in the file may have members");
        let shared = format!("{PASSWD}eve:x:1002:1000::/:/bin/sh\n");
        assert!(!is_private(&shared, GROUP, 1000, 1000), "it is the main group of another user");
    }

    #[test]
    fn only_what_nobody_else_can_change_is_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        let file = folder.join("ops.toml");
        fs::write(&file, "").unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(&file, 0o644);
        mode(&folder, 0o755);
        check("config", &file).unwrap();
        mode(&file, 0o646);
        let error = check("config", &file).unwrap_err();
        assert!(error.to_string().contains("everybody may write it"), "{error}");
        assert!(Fault::of(&error).1.unwrap().contains("chmod go-w"), "{error}");
        mode(&file, 0o600);
        mode(&folder, 0o777);
        let error = check("config", &file).unwrap_err();
        assert!(error.to_string().contains("everybody may write its folder"), "{error}");
        // Others may write in it, but not replace what is ours.
        mode(&folder, 0o1777);
        check("config", &file).unwrap();
        // A link is judged by where it lies, too.
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        mode(&open, 0o777);
        symlink(&file, open.join("ops.toml")).unwrap();
        assert!(check("config", &open.join("ops.toml")).is_err());
        mode(&open, 0o755);
        check("config", &open.join("ops.toml")).unwrap();
    }
}
