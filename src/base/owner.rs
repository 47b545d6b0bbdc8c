//! The user whose a home is, where root looks after it.

use super::process;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A user who is not root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The login name; none: the number has no name here.
    pub name: Option<String>,
    /// The user's home folder.
    pub folder: Option<PathBuf>,
}

impl Owner {
    /// The owner of a folder, if we are root and the folder is not root's. None as well when there is no
    /// such folder. Where a directory service knows the user it is asked, for 10 s at most.
    pub fn to_be(folder: &Path) -> Option<Owner> {
        let uid = Owner::uid_to_be(folder)?;
        let of_file = || entry(&fs::read_to_string("/etc/passwd").unwrap_or_default(), uid);
        let nameless = || Owner { uid, name: None, folder: None };
        Some(of_file().or_else(|| asked(uid)).unwrap_or_else(nameless))
    }

    /// Only the number of [`Owner::to_be`]: nobody is asked.
    pub fn uid_to_be(folder: &Path) -> Option<u32> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        fs::metadata(folder).ok().map(|meta| meta.uid()).filter(|uid| *uid != 0)
    }
}

/// Who is not in the file may be in a directory service.
fn asked(uid: u32) -> Option<Owner> {
    let uid_text = uid.to_string();
    let (program, words) =
        if cfg!(target_os = "macos") { ("id", ["-P", &uid_text]) } else { ("getent", ["passwd", &uid_text]) };
    entry(&ask(program, &words).ok()?, uid)
}

fn ask(program: &str, words: &[&str]) -> anyhow::Result<String> {
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
        let [name, _, number, .., folder, _] = &fields[..] else { return None };
        let folder = Some(PathBuf::from(folder)).filter(|folder| folder.is_absolute());
        (number.parse() == Ok(uid)).then(|| Owner { uid, name: Some((*name).to_owned()), folder })
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
        assert_eq!((me.name.as_deref(), me.folder), (Some("me"), Some("/home/me".into())));
        assert_eq!(entry(text, 501).unwrap().folder, Some("/Users/mac".into()));
        assert_eq!(entry(text, 7), None);
    }
}
