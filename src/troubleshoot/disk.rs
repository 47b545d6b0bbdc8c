//! Is there room, on every disk that is written, and what takes it?

use super::cause::{Cause, Found, quoted};
use super::view::View;
use crate::base::State;
use crate::base::units::Size;
use crate::config::Kind;
use crate::logs;
use anyhow::Result;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Below this nothing can be relied on, whatever the config says.
const NOTHING: u64 = 100_000_000;

/// Percent of inodes below which to say so, and below which files cannot be made soon.
const INODES: (f64, f64) = (5.0, 1.0);

struct Disk {
    what: String,
    /// Its first folder.
    path: PathBuf,
    free: u64,
    total: u64,
    /// Free inodes in percent; none: it has no table of them.
    inodes: Option<f64>,
    /// Below which to warn, and below which it is critical.
    limits: (u64, u64),
}

struct Facts {
    disks: Vec<Disk>,
    logs: u64,
    backups: u64,
    asides: u64,
}

pub(super) fn probe(view: &View) -> Result<Found> {
    let Some(loaded) = view.at_home() else { return Ok(Found::default()) };
    let (home, config) = (&loaded.home, &loaded.config);
    let mut places: BTreeMap<PathBuf, (String, (u64, u64))> = BTreeMap::new();
    let usual = (10 * NOTHING, NOTHING);
    places.insert(home.root().to_owned(), ("the home".to_owned(), usual));
    if config.backup.dir.is_dir() {
        places.insert(config.backup.dir.clone(), ("the backups".to_owned(), usual));
    }
    places.insert(std::env::temp_dir(), ("the temporary folder".to_owned(), usual));
    for check in config.check.values().filter(|check| check.common.enabled) {
        if let Kind::Disk(options) = &check.kind {
            let limit = |limit: f64| limit.max(0.0) as u64;
            let limits = (limit(options.warn.0.limit()), limit(options.crit.0.limit()).max(NOTHING));
            let shown =
                if options.path == home.root() { "the home".to_owned() } else { home.show(&options.path) };
            places.insert(options.path.clone(), (shown, limits));
        }
    }
    // Several places on one disk are told of once: by the strictest limits.
    let mut disks: Vec<(u64, Disk)> = Vec::new();
    for (path, (what, limits)) in places {
        let Ok(stat) = rustix::fs::statvfs(&path) else { continue };
        let disk = Disk {
            what,
            path: mounted_at(&path),
            free: stat.f_bavail * stat.f_frsize,
            total: stat.f_blocks * stat.f_frsize,
            inodes: (stat.f_files > 0).then(|| stat.f_favail as f64 / stat.f_files as f64 * 100.0),
            limits,
        };
        match disks.iter_mut().find(|(id, _)| *id == stat.f_fsid) {
            Some((_, known)) if known.limits.0 >= limits.0 => {}
            Some((_, known)) => *known = disk,
            None => disks.push((stat.f_fsid, disk)),
        }
    }
    let facts = Facts {
        disks: disks.into_iter().map(|(_, disk)| disk).collect(),
        logs: logs::find(home, &config.logs).logs.iter().map(|log| log.bytes).sum(),
        backups: size_of(&config.backup.dir),
        asides: asides(home.root()).iter().map(|path| size_of(path)).sum(),
    };
    Ok(judge(&facts).into())
}

/// Where the disk of a folder begins.
fn mounted_at(folder: &Path) -> PathBuf {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let device = |path: &Path| path.metadata().ok().map(|meta| meta.dev());
    let of = device(&folder);
    folder.ancestors().take_while(|path| device(path) == of).last().unwrap_or(&folder).to_owned()
}

fn asides(home: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(home).into_iter().flatten().flatten();
    let aside = |name: &str| name.starts_with(".pre-restore.");
    entries.filter(|entry| entry.file_name().to_str().is_some_and(aside)).map(|entry| entry.path()).collect()
}

fn size_of(folder: &Path) -> u64 {
    let files = WalkDir::new(folder).into_iter().flatten().filter_map(|entry| entry.metadata().ok());
    files.filter(|meta| meta.is_file()).map(|meta| meta.len()).sum()
}

fn judge(facts: &Facts) -> Vec<Cause> {
    let mut causes = Vec::new();
    let taken = |cause: Cause, path: &str| {
        cause
            .seen(format!(
                "the logs take {}, the backups {}, what restores moved aside {}",
                Size(facts.logs),
                Size(facts.backups),
                Size(facts.asides)
            ))
            .run("ops rotate-logs")
            .run("ops backup prune --dry-run")
            .run(format!("du -xh {path} 2>/dev/null | sort -h | tail"))
            .advise("the first frees what the logs take, the second shows what the rule would free, the third what else is large")
    };
    for disk in &facts.disks {
        let Disk { what, path, free, total, inodes, limits } = disk;
        let path = quoted(&path.display().to_string());
        let state = match *free {
            free if free < limits.1 => State::Critical,
            free if free < limits.0 => State::Warning,
            _ => State::Ok,
        };
        if state != State::Ok {
            let wanted = Size(if state == State::Critical { limits.1 } else { limits.0 });
            let how = match *free > total / 2 {
                true => format!("too small, {wanted} are to be free"),
                false => "nearly full".to_owned(),
            };
            let cause = format!("the disk of {what} is {how}: {} free of {}", Size(*free), Size(*total));
            causes.push(taken(Cause::new("disk_full", state, 5, cause), &path));
        }
        let left = inodes.unwrap_or(100.0);
        if left < INODES.0 {
            let state = if left < INODES.1 { State::Critical } else { State::Warning };
            let cause = format!(
                "the disk of {what} has few inodes left ({left:.1} %): no new file, though there is room"
            );
            causes.push(
                Cause::new("disk_inodes", state, 5, cause)
                    .run(format!("find {path} -xdev 2>/dev/null | sed 's|/[^/]*$||' | sort | uniq -c | sort -n | tail"))
                    .advise("some folder has very many small files: a cache, a queue, sessions that nobody deletes"),
            );
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_and_inodes_against_their_limits() {
        let judged = |free, total, inodes| {
            let disk = Disk {
                what: "the home".to_owned(),
                path: "/srv/my bot".into(),
                free,
                total,
                inodes,
                limits: (500, 200),
            };
            judge(&Facts { disks: vec![disk], logs: 1, backups: 2, asides: 3 })
        };
        let ids = |free, inodes| {
            judged(free, 1000, inodes).iter().map(|cause| (cause.id, cause.state)).collect::<Vec<_>>()
        };
        let small = judged(190, 200, None).remove(0);
        assert_eq!(
            small.cause,
            "the disk of the home is too small, 200 B are to be free: 190 B free of 200 B"
        );
        assert_eq!(small.remedy[2], "du -xh '/srv/my bot' 2>/dev/null | sort -h | tail");
        assert_eq!(
            judged(100, 1000, None)[0].cause,
            "the disk of the home is nearly full: 100 B free of 1.0 KB"
        );
        assert!(ids(600, Some(50.0)).is_empty() && ids(600, None).is_empty());
        assert_eq!(ids(400, None), [("disk_full", State::Warning)]);
        assert_eq!(ids(100, None), [("disk_full", State::Critical)]);
        assert_eq!(ids(600, Some(3.0)), [("disk_inodes", State::Warning)]);
        assert_eq!(ids(600, Some(0.0)), [("disk_inodes", State::Critical)]);
    }
}
