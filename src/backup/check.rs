//! Checks copies of databases in a thread of its own, while other work goes on.

use super::pool::give_way;
use crate::base::database::{self, Unjudged, Verdict};
use anyhow::{Error, Result, anyhow};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fs, io};

/// How long the check of one database may take: it is the last word on a backup, so it has time.
const CHECK: Duration = Duration::from_secs(3600);

/// Checks databases one after another.
pub(super) struct Checker {
    queue: mpsc::SyncSender<PathBuf>,
    thread: JoinHandle<Vec<Result<Verdict>>>,
}

/// A check that took too long says nothing; any other error is one of this run.
fn not_done(error: Error) -> Result<Verdict> {
    match error.chain().all(|cause| !cause.is::<rusqlite::Error>() && !cause.is::<io::Error>()) {
        true => Ok(Verdict::Unjudged(Unjudged::Other, error.to_string())),
        false => Err(error),
    }
}

impl Checker {
    /// Begins. At most `waiting` databases wait for it, then [`Checker::add`] does; those that
    /// were checked are removed, if `remove` says so.
    pub(super) fn begin(waiting: usize, remove: bool) -> Checker {
        let (queue, coming) = mpsc::sync_channel::<PathBuf>(waiting);
        let thread = std::thread::spawn(move || {
            give_way();
            let mut verdicts = Vec::new();
            for path in coming {
                verdicts.push(match database::is_sqlite(&path) {
                    Ok(true) => database::quick_check(&path, CHECK).or_else(not_done),
                    Ok(false) => Ok(Verdict::Damaged("it is no database".to_owned())),
                    Err(error) => Err(error.into()),
                });
                if remove {
                    // What is left goes with the folder it is in.
                    let _ = fs::remove_file(&path);
                }
            }
            verdicts
        });
        Checker { queue, thread }
    }

    /// Hands in a database.
    pub(super) fn add(&self, path: PathBuf) -> Result<()> {
        self.queue.send(path).map_err(|_| anyhow!("the checks of databases ended early"))
    }

    /// Waits for the verdicts, in the order of handing in.
    pub(super) fn finish(self) -> Result<Vec<Result<Verdict>>> {
        drop(self.queue);
        self.thread.join().map_err(|_| anyhow!("the checks of databases ended early"))
    }
}
