//! Links whose targets are not in the archive.

use super::manifest::{Leads, LinkOut, Name};
use std::path::{Component, Path, PathBuf};

/// Where the system keeps what is no state of an agent: it comes with the system, or goes with each boot.
const SYSTEM: [&str; 14] = [
    "/bin", "/boot", "/dev", "/lib", "/lib32", "/lib64", "/nix", "/proc", "/run", "/sbin", "/sys", "/usr",
    "/var/run", "/System",
];

/// What there is to say of a link at a path, if it leads to nothing in the archive. `is_in` says whether a
/// path, relative to the home, or something below it, goes in; `exists`, whether there is such a path.
///
/// It is read as text: nothing outside of the home is looked at, so that no mount can hold us up.
pub(super) fn judge(
    home: &Path,
    path: &Path,
    target: &Path,
    is_in: impl Fn(&Path) -> bool,
    exists: impl Fn(&Path) -> bool,
) -> Option<LinkOut> {
    let absolute = normal(&home.join(path.parent().unwrap_or(Path::new(""))).join(target));
    let leads = match absolute.strip_prefix(home) {
        Ok(inside) if inside == Path::new("") || is_in(inside) => return None,
        Ok(inside) if exists(inside) => Leads::NotIncluded,
        Ok(_) => Leads::Nowhere,
        // With an absolute include.
        Err(_) if is_in(&absolute) => return None,
        Err(_) if SYSTEM.iter().any(|system| absolute.starts_with(system)) => Leads::System,
        Err(_) => Leads::Outside,
    };
    Some(LinkOut { path: Name(path.to_owned()), target: Name(target.to_owned()), leads })
}

/// A path without `.` and `..`, as text.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(normal.pop()),
            part => normal.push(part),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_targets_that_are_missing_in_the_archive_are_told() {
        let home = Path::new("/srv/agent");
        let is_in = |path: &Path| ["a", "dir", "/srv/chroma"].iter().any(|known| path == Path::new(known));
        let exists = |path: &Path| path == Path::new("left/out");
        for (path, target, leads) in [
            ("l", "a", None),
            ("sub/l", "../dir", None),
            ("l", "/srv/agent/a", None),
            ("l", ".", None),
            ("l", "/srv/chroma", None),
            ("l", "left/out", Some(Leads::NotIncluded)),
            ("l", "left/gone", Some(Leads::Nowhere)),
            ("l", "../other/x", Some(Leads::Outside)),
            ("l", "/mnt/disk", Some(Leads::Outside)),
            ("l", "/srv/agentx", Some(Leads::Outside)),
            ("venv/bin/python", "/usr/bin/python3", Some(Leads::System)),
            ("l", "../../usr/lib", Some(Leads::System)),
            ("l", "/../../etc/x", Some(Leads::Outside)),
        ] {
            let said = judge(home, Path::new(path), Path::new(target), is_in, exists);
            assert_eq!(said.map(|said| said.leads), leads, "{path} -> {target}");
        }
    }
}
