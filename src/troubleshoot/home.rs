//! The home: is it there, whose is it, and can what lives in it be written? Was a restore or an upgrade broken off?

use super::cause::{Cause, Found, quoted};
use super::view::{Past, View};
use crate::base::State;
use crate::base::durable::Lock;
use anyhow::Result;
use rustix::fs::StatVfsMountFlags;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

struct Facts {
    home: String,
    /// Owner and mode, if it is a folder.
    folder: Option<(u32, u32)>,
    /// Why it cannot be looked at.
    error: Option<String>,
    us: u32,
    /// Whose it is, where that is another than who looks, and whether it is closed to us.
    other: Option<(u32, bool)>,
    /// Folders that may not be written by their agent.
    closed: Vec<String>,
    read_only: bool,
    restore: bool,
    upgrade: bool,
    damaged_journal: Option<String>,
    unreadable_journal: Option<String>,
}

pub(super) fn probe(view: &View) -> Result<Found> {
    let Some(loaded) = &view.agent else { return Ok(Found::default()) };
    let root = loaded.home.root();
    let meta = root.metadata();
    let folder = meta.as_ref().ok().filter(|meta| meta.is_dir()).map(|meta| (meta.uid(), meta.mode()));
    let disk = rustix::fs::statvfs(root);
    let (mut damaged, mut unreadable) = (None, None);
    match &view.past {
        Past::Damaged(why) => damaged = Some(why.clone()),
        Past::Unreadable(why) => unreadable = Some(why.clone()),
        Past::None | Past::Copied(_) => {}
    }
    let closed = folder.map(|(uid, _)| {
        let folders = [root.to_owned(), loaded.home.logs(), loaded.home.ops()];
        let users = view.users(uid);
        let closed = |path: &&PathBuf| users.iter().any(|user| is_closed(path, *user));
        folders.iter().filter(closed).map(|path| path.display().to_string()).collect()
    });
    let facts = Facts {
        home: root.display().to_string(),
        folder,
        error: meta.err().map(|error| error.to_string()),
        us: rustix::process::geteuid().as_raw(),
        other: view.other_owner().map(|owner| (owner, view.closed())),
        closed: closed.unwrap_or_default(),
        read_only: disk.is_ok_and(|disk| disk.f_flag.contains(StatVfsMountFlags::RDONLY)),
        restore: loaded.home.has(&loaded.home.restore_journal()),
        upgrade: loaded.home.has(&loaded.home.upgrade_note())
            && Lock::holder(&loaded.home, "upgrade").is_none(),
        damaged_journal: damaged,
        unreadable_journal: unreadable,
    };
    Ok(judge(&facts).into())
}

/// Whether a user may not write in a folder. Judged by the mode, which does not
/// bind root, but the agent.
fn is_closed(path: &Path, user: u32) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_dir() && !may_write(user, meta.uid(), meta.mode()))
}

/// Without asking for groups: what a group may write counts as open.
fn may_write(user: u32, owner: u32, mode: u32) -> bool {
    user == 0 || if user == owner { mode & 0o300 == 0o300 } else { mode & 0o022 != 0 }
}

fn judge(facts: &Facts) -> Vec<Cause> {
    let home = &facts.home;
    if let Some((owner, true)) = facts.other {
        let text = format!("{home} is closed to you, user {}: it belongs to user {owner}", facts.us);
        return vec![
            Cause::new("home_not_ours", State::Critical, 0, text)
                .run("ops troubleshoot")
                .advise("nothing in it can be looked at as another user; what ops would make here would be of no use to it"),
        ];
    }
    let Some((owner, _)) = facts.folder else {
        let why = facts.error.as_deref().unwrap_or("it is not a folder");
        return vec![
            Cause::new("home_missing", State::Critical, 2, format!("the agent's home {home} is not there: {why}"))
                .advise("is its disk mounted? was it moved? --home or [agent] home says where it is; ops restore --to DIR brings a backup back"),
        ];
    };
    let mut causes = Vec::new();
    if facts.read_only {
        causes.push(
            Cause::new(
                "disk_read_only",
                State::Critical,
                3,
                format!("the disk of {home} is mounted read-only"),
            )
            .seen("a kernel does that to a disk with errors")
            .run("dmesg | tail -50")
            .advise("copy what matters away first; mount -o remount,rw, or repair the disk"),
        );
    }
    if let Some((owner, _)) = facts.other {
        let text = format!("{home} belongs to user {owner}, and you are user {}", facts.us);
        let cause = Cause::new("home_not_ours", State::Warning, 20, text).run("ops troubleshoot");
        causes.push(cause.advise("as another user you see less, and what you start runs as you"));
    }
    for folder in &facts.closed {
        causes.push(
            Cause::new(
                "not_writable",
                State::Critical,
                4,
                format!("{folder} cannot be written by the user that the agent runs as"),
            )
            .run(format!("ls -ld {}", quoted(folder)))
            .run(format!("sudo chown {owner} {0} && sudo chmod u+rwx {0}", quoted(folder)))
            .advise("if it runs as another user than the owner of its home, give the folder to that one"),
        );
    }
    if facts.restore {
        causes.push(
            Cause::new("restore_broken_off", State::Critical, 6, "a restore was broken off: files of two states may lie side by side")
                .seen(".ops/restore.json is there")
                .run("ops start")
                .advise("whichever of ops start and ops restore comes next puts everything back first; if one runs now, wait for it"),
        );
    }
    if facts.upgrade {
        causes.push(
            Cause::new(
                "upgrade_broken_off",
                State::Critical,
                7,
                "an upgrade was broken off: program and state may be half new",
            )
            .seen(".ops/upgrade.json is there")
            .run("ops upgrade --back")
            .advise("ops upgrade --keep instead, if all is well: things stay as they are"),
        );
    }
    if let Some(why) = &facts.damaged_journal {
        causes.push(
            Cause::new("journal_damaged", State::Warning, 120, "our own journal .ops/ops.db is damaged: alerts may repeat, history is lost")
                .seen(why)
                .run("ops alert")
                .advise("the next run sets it aside as ops.db.damaged-… and begins a new one; the agent's data is not in it"),
        );
    }
    if let Some(why) = &facts.unreadable_journal {
        causes.push(Cause::untold("our journal .ops/ops.db", why));
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            home: "/srv/bot".to_owned(),
            folder: Some((1000, 0o40_755)),
            error: None,
            us: 1000,
            other: None,
            closed: Vec::new(),
            read_only: false,
            restore: false,
            upgrade: false,
            damaged_journal: None,
            unreadable_journal: None,
        }
    }

    #[test]
    fn each_fact_has_its_cause_and_a_good_home_none() {
        let ids = |facts: &Facts| judge(facts).iter().map(|cause| cause.id).collect::<Vec<_>>();
        assert!(ids(&facts()).is_empty());
        assert_eq!(ids(&Facts { folder: None, restore: true, ..facts() }), ["home_missing"]);
        let other = |us, closed| judge(&Facts { us, other: Some((1000, closed)), ..facts() }).remove(0);
        assert_eq!((other(1001, false).id, other(1001, false).state), ("home_not_ours", State::Warning));
        assert_eq!((other(1001, true).id, other(1001, true).state), ("home_not_ours", State::Critical));
        assert_eq!(ids(&Facts { read_only: true, ..facts() }), ["disk_read_only"]);
        assert_eq!(ids(&Facts { closed: vec!["/srv/bot/logs".to_owned()], ..facts() }), ["not_writable"]);
        assert_eq!(ids(&Facts { restore: true, ..facts() }), ["restore_broken_off"]);
        assert_eq!(ids(&Facts { upgrade: true, ..facts() }), ["upgrade_broken_off"]);
        assert_eq!(ids(&Facts { damaged_journal: Some("x".to_owned()), ..facts() }), ["journal_damaged"]);
        assert_eq!(ids(&Facts { unreadable_journal: Some("x".to_owned()), ..facts() }), ["could_not_tell"]);
    }

    #[test]
    fn who_may_write_a_folder() {
        assert!(may_write(1000, 1000, 0o755) && !may_write(1000, 1000, 0o555));
        assert!(!may_write(1000, 0, 0o755) && may_write(1000, 0, 0o775) && may_write(0, 1000, 0));
    }
}
