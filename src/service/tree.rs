//! Which processes belong to a service besides its first one: what carries its mark, what descends
//! from it, what is in its session.
//!
//! Each is a proof. A mark is inherited, and holds the home. A child of a process that is the
//! service's is the service's. The number of a session goes to no other as long as one process is in
//! it, so one member that is proven proves them all. What resembles a service is none of it.

use super::Services;
use crate::base::process::{self, Process};
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// The variable that marks what descends from a service that we started.
pub(super) const MARKER: &str = "AGENT_OPS_SERVICE";

/// The value of [`MARKER`]: `SERVICE:RUN:HOME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The name of the service.
    pub(super) service: String,
    /// The run that started it.
    pub(super) run: String,
    /// The agent's home, without symbolic links: another agent's service may have the same name.
    pub(super) home: String,
}

impl Mark {
    /// The mark of a service that this run starts.
    pub(super) fn new(services: &Services<'_>, service: &str) -> Mark {
        Mark { service: service.to_owned(), run: services.run.id.clone(), home: home(services) }
    }

    pub(super) fn parse(text: &str) -> Option<Mark> {
        let mut parts = text.splitn(3, ':').map(str::to_owned);
        Some(Mark { service: parts.next()?, run: parts.next()?, home: parts.next()? })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.service, self.run, self.home)
    }
}

/// The home as marks name it.
pub(super) fn home(services: &Services<'_>) -> String {
    let root: &Path = services.home.root();
    root.canonicalize().unwrap_or_else(|_| root.to_owned()).to_string_lossy().into_owned()
}

/// One process, and its mark.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// It.
    pub(super) process: Process,
    /// What its environment says; none: nothing, or it may not be read.
    pub(super) mark: Option<Mark>,
}

/// All processes that run now.
pub(super) fn look_around() -> Result<Vec<Seen>> {
    let alive = process::all()?.into_iter().filter(Process::alive);
    let seen = |process: Process| {
        let mark = process.environment(MARKER).and_then(|text| Mark::parse(&text.to_string_lossy()));
        Seen { process, mark }
    };
    Ok(alive.map(seen).collect())
}

/// Why a process belongs to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tie {
    /// It is proven by itself.
    Proven,
    /// This process of the service is its parent.
    Child(u32),
    /// It is in the session of this number, in which there is a process of the service.
    Session(u32),
}

/// What belongs to those that are proven, by pid; them as well. `sessions` are the numbers of those
/// that the service was once the first in. What `foreign` says is another's ends the line.
pub(super) fn belongings(
    all: &[Seen],
    sessions: &BTreeSet<u32>,
    proven: impl Fn(&Seen) -> bool,
    foreign: impl Fn(&Seen) -> bool,
) -> BTreeMap<u32, Tie> {
    let mut found = BTreeMap::new();
    let mut starts = BTreeMap::new();
    let mut own_sessions = BTreeSet::new();
    loop {
        let before = found.len();
        for seen in all {
            let Process { identity, parent, session, .. } = &seen.process;
            if found.contains_key(&identity.pid) || foreign(seen) {
                continue;
            }
            // A parent is no younger than its child: else the number was recycled while we looked.
            let child = starts.get(parent).is_some_and(|&start| start <= identity.start);
            let tie = match () {
                () if proven(seen) => Tie::Proven,
                () if child => Tie::Child(*parent),
                () if own_sessions.contains(session) => Tie::Session(*session),
                () => continue,
            };
            found.insert(identity.pid, tie);
            starts.insert(identity.pid, identity.start);
            if sessions.contains(session) || *session == identity.pid {
                own_sessions.insert(*session);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// A process and those that it runs under: `ops stop` in a shell of the agent does not end itself.
pub(super) fn lineage(all: &[Seen], pid: u32) -> BTreeSet<u32> {
    let parents: BTreeMap<u32, u32> =
        all.iter().map(|seen| (seen.process.identity.pid, seen.process.parent)).collect();
    let mut line = BTreeSet::new();
    let mut next = Some(pid);
    while let Some(pid) = next
        && line.insert(pid)
    {
        next = parents.get(&pid).copied();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::process::Identity;
    use chrono::DateTime;

    /// A process that started at the time of its pid.
    fn seen(pid: u32, parent: u32, session: u32, mark: &str) -> Seen {
        Seen {
            process: Process {
                identity: Identity { pid, start: u64::from(pid), boot: String::new() },
                session,
                parent,
                ..Process::example(DateTime::UNIX_EPOCH)
            },
            mark: Mark::parse(mark),
        }
    }

    fn of(all: &[Seen], sessions: &[u32]) -> Vec<(u32, Tie)> {
        let ours = |mark: &Mark| mark.service == "bot" && mark.home == "/a";
        let found = belongings(
            all,
            &sessions.iter().copied().collect(),
            |seen| seen.mark.as_ref().is_some_and(ours),
            |seen| seen.mark.as_ref().is_some_and(|mark| !ours(mark)),
        );
        found.into_iter().collect()
    }

    #[test]
    fn a_mark_names_service_run_and_home() {
        let mark = Mark::parse("bot:r1:/a:b").unwrap();
        assert_eq!((mark.home.as_str(), mark.to_string().as_str()), ("/a:b", "bot:r1:/a:b"));
        assert_eq!(Mark::parse("bot:r1"), None);
    }

    #[test]
    fn children_and_sessions_of_what_is_proven() {
        let all = [
            seen(10, 1, 10, "bot:r:/a"),
            seen(11, 10, 10, ""),
            // It left the session, and so did its child.
            seen(12, 10, 12, ""),
            seen(13, 12, 12, ""),
            // Orphaned, its environment gone, but in a session of the service.
            seen(14, 1, 10, ""),
            seen(15, 1, 12, ""),
            seen(20, 1, 20, ""),
        ];
        let expected = [
            (10, Tie::Proven),
            (11, Tie::Child(10)),
            (12, Tie::Child(10)),
            (13, Tie::Child(12)),
            (14, Tie::Session(10)),
            (15, Tie::Session(12)),
        ];
        assert_eq!(of(&all, &[]), expected);
    }

    #[test]
    fn a_session_is_proven_by_its_members_only() {
        // The first process is dead; one that is marked is left, and one whose mark is gone.
        let left = [seen(11, 1, 10, "bot:r:/a"), seen(12, 1, 10, "")];
        assert_eq!(of(&left, &[10]), [(11, Tie::Proven), (12, Tie::Session(10))]);
        // The number of the session may have gone to another since.
        assert_eq!(of(&[seen(12, 1, 10, "")], &[10]), []);
        // A marked process in a terminal of its user's says nothing of the others there.
        assert_eq!(of(&[seen(11, 1, 5, "bot:r:/a"), seen(12, 1, 5, "")], &[10]), [(11, Tie::Proven)]);
    }

    #[test]
    fn what_is_marked_as_another_s_is_not_ours_nor_what_is_below_it() {
        let all = [
            seen(10, 1, 10, "bot:r:/a"),
            seen(11, 10, 11, "email:r:/a"),
            seen(12, 11, 11, ""),
            seen(13, 10, 13, "bot:r:/b"),
            // A parent that is younger than its child has a recycled number.
            seen(9, 10, 1, ""),
        ];
        assert_eq!(of(&all, &[]), [(10, Tie::Proven)]);
    }

    #[test]
    fn a_lineage_ends_with_the_first_process() {
        let all = [seen(1, 0, 1, ""), seen(5, 1, 5, ""), seen(7, 5, 5, ""), seen(8, 5, 5, "")];
        assert_eq!(lineage(&all, 7), BTreeSet::from([0, 1, 5, 7]));
    }
}
