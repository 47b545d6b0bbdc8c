//! The word that systemd leaves when it is asked to stop a service: systemd itself keeps no difference
//! between that and a service that ended well by itself.

use crate::base::Home;
use chrono::{DateTime, Utc};
use std::path::PathBuf;

/// What a unit runs when its service stops. systemd names the first process only while that is there, and
/// calls all well only when nothing else (the kernel that is out of memory, a watchdog) wants an end to it.
pub(super) const LEAVE: &str =
    r#"[ -z "$MAINPID" ] || [ "$SERVICE_RESULT" != success ] || echo "$INVOCATION_ID" >"$0""#;

/// The last run of a service was asked to end.
pub(super) struct Word {
    /// Which run, as systemd calls it.
    pub invocation: String,
    /// When.
    pub at: Option<DateTime<Utc>>,
}

/// Where it is left.
pub(super) fn path(home: &Home, service: &str) -> PathBuf {
    home.service_record(service).with_extension("asked")
}

/// The word, if there is one.
pub(super) fn read(home: &Home, service: &str) -> Option<Word> {
    let path = path(home, service);
    let invocation = String::from_utf8(home.read(&path).ok()?).ok()?.trim().to_owned();
    let at = home.metadata(&path).and_then(|metadata| metadata.modified()).ok().map(DateTime::from);
    Some(Word { invocation, at }).filter(|word| !word.invocation.is_empty())
}

/// Before another run begins. One that stays is no harm: it names the run.
pub(in crate::service) fn forget(home: &Home, service: &str) {
    let _ = home.remove(&path(home, service));
}
