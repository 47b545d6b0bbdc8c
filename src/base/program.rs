//! Where a program is, as the system would find it.

use rustix::fs::{Access, access};
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What the system takes where there is no PATH.
const PATH: &str = "/usr/bin:/bin";

/// The program that a word names when it is run in this folder: a path, or a name along PATH. None: there
/// is none, or none that may be run.
pub fn find(word: &str, folder: &Path) -> Option<PathBuf> {
    let runs = |path: &PathBuf| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    if word.contains('/') {
        return Some(folder.join(word)).filter(runs);
    }
    let path = env::var_os("PATH").unwrap_or_else(|| OsString::from(PATH));
    let found = env::split_paths(&path).map(|place| folder.join(place).join(word)).find(runs);
    found.filter(|_| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_path_is_one_from_the_folder_and_a_name_stands_on_path() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tool"), "#!/bin/sh\n").unwrap();
        assert_eq!(find("./tool", folder.path()), None, "it may not be run");
        fs::set_permissions(folder.path().join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(find("./tool", folder.path()).is_some() && find("/bin/sh", folder.path()).is_some());
        assert!(find("sh", folder.path()).is_some());
        for none in ["tool", "", "/", "./", "./other", "no-such-program-anywhere"] {
            assert_eq!(find(none, folder.path()), None, "{none}");
        }
    }
}
