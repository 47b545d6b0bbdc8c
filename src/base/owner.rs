//! Users: who a number is, and what comes with that.

use super::process;
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The main group.
    pub gid: u32,
    /// All groups.
    pub groups: Vec<u32>,
    /// The login name.
    pub name: String,
    /// The user's home folder.
    pub folder: PathBuf,
}

impl Owner {
    /// The user of this number; none: there is none of this name here. Where a directory service knows the user
    /// it is asked, for 10 s at most.
    ///
    /// # Errors
    /// When the user's groups cannot be told.
    pub fn find(uid: u32) -> Result<Option<Owner>> {
        let of_file = || entry(&fs::read_to_string("/etc/passwd").unwrap_or_default(), uid);
        let Some(owner) = of_file().or_else(|| asked(uid)) else { return Ok(None) };
        let groups = ask("id", &["-G", &owner.name])?;
        let groups = groups.split_whitespace().map(str::parse).collect::<Result<Vec<u32>, _>>();
        Ok(Some(Owner { groups: groups.context("`id -G` printed no numbers")?, ..owner }))
    }
}

/// Who is not in the file may be in a directory service.
fn asked(uid: u32) -> Option<Owner> {
    let uid_text = uid.to_string();
    let (program, words) =
        if cfg!(target_os = "macos") { ("id", ["-P", &uid_text]) } else { ("getent", ["passwd", &uid_text]) };
    entry(&ask(program, &words).ok()?, uid)
}

fn ask(program: &str, words: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(words).env("LC_ALL", "C");
    let output = process::run(command, None, Duration::from_secs(10))?;
    anyhow::ensure!(output.status.success(), "{program} {} failed: {}", words.join(" "), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A line of passwd(5): `name:password:uid:gid:…:folder:shell`, with more in between on a Mac.
fn entry(text: &str, uid: u32) -> Option<Owner> {
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, number, gid, .., folder, _] = &fields[..] else { return None };
        let (name, folder) = ((*name).to_owned(), PathBuf::from(folder));
        let gid = gid.parse().ok()?;
        let is_it = number.parse() == Ok(uid) && folder.is_absolute() && !name.is_empty();
        is_it.then(|| Owner { uid, gid, groups: Vec::new(), name, folder })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_by_number() {
        let text = "root:x:0:0:root:/root:/bin/bash\nbad line\n\
                    me:x:1000:100:Me, A:/home/me:/bin/sh\n\
                    _mac:*:501:20::0:0:Mac User:/Users/mac:/bin/zsh\n";
        let me = entry(text, 1000).unwrap();
        assert_eq!((me.name.as_str(), me.gid, me.folder.to_str()), ("me", 100, Some("/home/me")));
        let mac = entry(text, 501).unwrap();
        assert_eq!((mac.gid, mac.folder.to_str()), (20, Some("/Users/mac")));
        assert_eq!(entry(text, 7), None);
    }

    #[test]
    fn groups_come_with_a_user() {
        let root = Owner::find(0).unwrap().unwrap();
        assert!(root.groups.contains(&0));
        assert_eq!(Owner::find(3_999_999_999).unwrap(), None);
    }
}
