//! The folder of archives: what is there, what is published into it, what leaves it.

use super::index::{agent_of, peek};
use super::manifest::Manifest;
use super::retention::Candidate;
use super::sidecar::{self, Sidecar};
use crate::base::step::step;
use crate::base::{Fault, Journal, Run, State, durable, units};
use crate::config::Loaded;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, params};
use serde::{Serialize, Serializer};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Work folders of runs, beside the archives.
pub(super) const WORK: &str = ".part-";
/// The end of an archive's name.
pub(super) const PLAIN: &str = ".tar.gz";
/// The end of an encrypted archive's name.
pub(super) const ENCRYPTED: &str = ".tar.gz.age";
/// Beside an archive, says that it stays.
const PIN: &str = ".pinned";

/// One archive on the shelf.
#[derive(Clone, Debug, Serialize)]
pub struct Archive {
    /// Its file name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was made: by its manifest, else by its name.
    #[serde(serialize_with = "time")]
    pub time: DateTime<Utc>,
    /// Its place in the order of making; 0 if it is not ours.
    pub sequence: u64,
    /// Files in it.
    pub files: Option<usize>,
    /// Bytes of those files.
    pub content: Option<u64>,
    /// Whether its manifest names this agent. Nothing else is ever pruned.
    pub ours: bool,
    /// Whether it is encrypted. What is known of it then is what its note says.
    pub encrypted: bool,
    /// Whether it was read back and found whole.
    pub verified: bool,
    /// When it was last read back; none if the journal does not know.
    #[serde(serialize_with = "some_time")]
    pub verified_at: Option<DateTime<Utc>>,
    /// Whether a person said that it stays.
    pub pinned: bool,
    /// When it was last restored on trial.
    #[serde(serialize_with = "some_time")]
    pub drilled: Option<DateTime<Utc>>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

fn time<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&units::rfc3339(*at))
}

fn some_time<S: Serializer>(at: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(units::rfc3339).serialize(serializer)
}

impl Archive {
    /// What retention needs to know of it.
    pub fn candidate(&self) -> Candidate {
        Candidate {
            name: self.name.clone(),
            time: self.time,
            sequence: self.sequence,
            verified: self.verified,
            pinned: self.pinned,
        }
    }
}

/// Every archive in the backup folder, newest first. A folder that is not there has none.
///
/// An archive is published only after it was verified. It counts as verified until something
/// speaks against it: its blocks do not follow each other, its size is not the recorded one, or
/// a later look found it damaged.
pub fn list(loaded: &Loaded, journal: Option<&Journal>) -> Result<Vec<Archive>> {
    let dir = &loaded.config.backup.dir;
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read the backup folder {}", dir.display()));
        }
    };
    let mut archives = Vec::new();
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Some(stamp) = time_of_name(&name) else { continue };
        // Neither `latest` nor any other link.
        let Ok(meta) = fs::symlink_metadata(entry.path()) else { continue };
        if !meta.is_file() {
            continue;
        }
        let mut archive = Archive {
            pinned: pin_path(&entry.path()).exists(),
            path: entry.path(),
            bytes: meta.len(),
            time: stamp,
            sequence: 0,
            files: None,
            content: None,
            ours: false,
            encrypted: name.ends_with(ENCRYPTED),
            verified: false,
            verified_at: None,
            drilled: None,
            problem: None,
            name,
        };
        match known(&archive) {
            Ok(Some(known)) => {
                archive.time = known.time;
                archive.sequence = known.sequence;
                archive.files = Some(known.files);
                archive.content = Some(known.content);
                archive.ours = known.agent == loaded.config.agent.name;
                archive.verified = true;
                if !archive.ours {
                    archive.problem = Some(format!("it is of the agent {}", known.agent));
                }
            }
            // Of the old scripts, or made by hand.
            Ok(None) => {}
            Err(error) => archive.problem = Some(format!("{error:#}")),
        }
        if let Some(row) = journal.map(|journal| row(journal, &archive.name)).transpose()?.flatten() {
            archive.drilled = row.drilled.and_then(DateTime::from_timestamp_millis);
            archive.verified_at = row.verified.and_then(DateTime::from_timestamp_millis);
            if archive.verified && row.state >= i64::from(State::Critical.code()) {
                archive.verified = false;
                archive.problem = Some("the last look at it found it damaged".to_owned());
            } else if archive.verified && row.bytes != archive.bytes.cast_signed() {
                archive.verified = false;
                archive.problem = Some("it has not the size it was made with".to_owned());
            }
        }
        archives.push(archive);
    }
    archives.sort_by(|a, b| (b.time, b.sequence, &b.name).cmp(&(a.time, a.sequence, &a.name)));
    Ok(archives)
}

/// What an archive says of itself, or its note where it is encrypted.
struct Known {
    agent: String,
    time: DateTime<Utc>,
    sequence: u64,
    files: usize,
    content: u64,
}

/// Looks at one archive, quickly. None: it was not made by this program.
fn known(archive: &Archive) -> Result<Option<Known>> {
    if archive.encrypted {
        let Sidecar { agent, time, sequence, files, content, bytes, .. } = Sidecar::read(&archive.path)?;
        anyhow::ensure!(bytes == archive.bytes, "it has not the length that its note says");
        return Ok(Some(Known { agent, time, sequence, files, content }));
    }
    Ok(peek(&archive.path)?.map(|manifest| Known {
        time: manifest.time,
        sequence: manifest.sequence,
        files: manifest.count(),
        content: manifest.bytes(),
        agent: manifest.agent,
    }))
}

/// What `latest` points to, if it is a good archive of this agent and has the newest name of all:
/// the last one that was made, then, and no other need be read to know it.
fn last_made(loaded: &Loaded, journal: Option<&Journal>) -> Result<Option<PathBuf>> {
    let dir = &loaded.config.backup.dir;
    let (Ok(target), Ok(entries)) = (fs::read_link(dir.join("latest")), fs::read_dir(dir)) else {
        return Ok(None);
    };
    // Where one second has several, `_10` comes after `_9`.
    let order = |name: &String| time_of_name(name).map(|time| (time, name.len(), name.clone()));
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let newest = names.max_by_key(order).filter(|newest| target == Path::new(newest));
    let Some(newest) = newest else { return Ok(None) };
    let path = dir.join(&newest);
    let Ok(meta) = fs::symlink_metadata(&path) else { return Ok(None) };
    let known = journal.map(|journal| row(journal, &newest)).transpose()?.flatten();
    let sound = known.is_none_or(|row| {
        row.state < i64::from(State::Critical.code()) && row.bytes == meta.len().cast_signed()
    });
    // Whatever is wrong with it, the long way tells.
    let ours = agent_of(&path).ok().flatten().is_some_and(|agent| agent == loaded.config.agent.name);
    Ok(Some(path).filter(|_| meta.is_file() && sound && ours))
}

/// Finds an archive by a path, its name, its stem, or `latest`: the newest good one of this agent.
pub fn find(loaded: &Loaded, journal: Option<&Journal>, which: &str) -> Result<PathBuf> {
    if which != "latest" {
        let dir = &loaded.config.backup.dir;
        let places = [PathBuf::from(which), dir.join(which)];
        let stems = [PLAIN, ENCRYPTED].map(|suffix| dir.join(format!("{which}{suffix}")));
        return match places.into_iter().chain(stems).find(|place| place.is_file()) {
            Some(place) => Ok(std::path::absolute(place)?),
            None => Err(Fault::unknown(format!("there is no archive '{which}'"))
                .hint("`backup list` shows the archives there are")
                .into()),
        };
    }
    if let Some(last) = last_made(loaded, journal)? {
        return Ok(last);
    }
    let archives = list(loaded, journal)?;
    let good = archives.iter().filter(|archive| archive.verified && archive.ours);
    // By the order of making: a clock that was wrong once does not matter.
    match good
        .max_by_key(|archive| archive.sequence)
        .or_else(|| archives.iter().find(|archive| is_foreign(archive)))
    {
        Some(archive) => Ok(archive.path.clone()),
        None => Err(none_good(loaded, journal, archives.len())),
    }
}

/// The fault of a folder without a good archive. Where there should be some, a disk may be missing.
fn none_good(loaded: &Loaded, journal: Option<&Journal>, there: usize) -> anyhow::Error {
    let dir = loaded.config.backup.dir.display();
    let fault = Fault::unknown(format!("there is no good archive in {dir}"));
    match gone(loaded, journal) {
        Some(gone) if there == 0 => Fault::unknown(gone)
            .hint("is a disk not mounted? [backup] dir says where they are; `restore PATH` takes one from elsewhere")
            .into(),
        _ => fault.hint("`backup` makes one; `backup list` shows what is there").into(),
    }
}

/// What is to be said when the journal knows of archives, and not one of them is in the backup
/// folder.
pub(super) fn gone(loaded: &Loaded, journal: Option<&Journal>) -> Option<String> {
    let dir = &loaded.config.backup.dir;
    let mut statement = journal?.connection().prepare("SELECT name FROM backups").ok()?;
    let known = statement.query_map([], |row| row.get::<_, String>(0)).ok()?;
    let known: Vec<String> = known.collect::<Result<_, _>>().ok()?;
    if known.is_empty() || known.iter().any(|name| fs::symlink_metadata(dir.join(name)).is_ok()) {
        return None;
    }
    let missing = if dir.is_dir() { "" } else { ", which is not there" };
    let archives = crate::base::text::count(known.len(), "archive");
    Some(format!("none of {archives} made before is in {}{missing}", dir.display()))
}

/// Whether it was made by another program, as far as can be told without reading it.
fn is_foreign(archive: &Archive) -> bool {
    archive.sequence == 0 && archive.problem.is_none()
}

/// An archive's name without its ending, and the ending.
pub(super) fn split_name(name: &str) -> Option<(&str, &'static str)> {
    [PLAIN, ENCRYPTED].into_iter().find_map(|suffix| Some((name.strip_suffix(suffix)?, suffix)))
}

/// The time in a name `YYYYMMDD_HHMMSS.tar.gz` or `YYYYMMDD_HHMMSS_1.tar.gz`, or one of those with
/// `.age` at its end.
pub(super) fn time_of_name(name: &str) -> Option<DateTime<Utc>> {
    let (stem, _) = split_name(name)?;
    let (stamp, rest) = stem.split_at_checked(15)?;
    let number = rest.strip_prefix('_').unwrap_or("0");
    if !rest.is_empty() && (rest.len() < 2 || !number.bytes().all(|byte| byte.is_ascii_digit())) {
        return None;
    }
    chrono::NaiveDateTime::parse_from_str(stamp, "%Y%m%d_%H%M%S").ok().map(|time| time.and_utc())
}

/// Whether no archive, and no note of one, has this name.
pub(super) fn is_free(dir: &Path, stem: &str) -> bool {
    let plain = dir.join(format!("{stem}{PLAIN}"));
    let encrypted = dir.join(format!("{stem}{ENCRYPTED}"));
    [&sidecar::path(&encrypted), &plain, &encrypted]
        .into_iter()
        .all(|path| fs::symlink_metadata(path).is_err())
}

/// Points `latest` at an archive: a relative link, replaced in one move.
pub(super) fn point_latest(dir: &Path, name: &str) -> Result<()> {
    let link = dir.join("latest");
    if fs::symlink_metadata(&link).is_ok_and(|meta| !meta.is_symlink()) {
        anyhow::bail!("{} is not a link of ours; move it away", link.display());
    }
    let temp = dir.join(format!("{WORK}latest-{}", std::process::id()));
    let _ = fs::remove_file(&temp);
    std::os::unix::fs::symlink(name, &temp)
        .with_context(|| format!("cannot create a link in {}", dir.display()))?;
    durable::rename(&temp, &link)
}

fn pin_path(archive: &Path) -> PathBuf {
    let mut name = archive.as_os_str().to_owned();
    name.push(PIN);
    PathBuf::from(name)
}

/// Says that an archive stays, or takes it back. False: it was so already.
pub fn pin(archive: &Path, on: bool) -> Result<bool> {
    let mark = pin_path(archive);
    if mark.exists() == on {
        return Ok(false);
    }
    if on {
        durable::replace(&mark, b"kept until `backup pin --off`\n", 0o600)?;
    } else {
        fs::remove_file(&mark).with_context(|| format!("cannot remove {}", mark.display()))?;
    }
    Ok(true)
}

/// Deletes an archive, then its note: one without the other is swept, the other way round nobody
/// would know whose it is.
pub(super) fn delete(archive: &Archive, journal: Option<&Journal>) -> Result<()> {
    let deleting = || format!("cannot delete {}", archive.path.display());
    fs::remove_file(&archive.path).with_context(deleting)?;
    if archive.encrypted {
        durable::sync_folder(durable::parent(&archive.path))?;
        step("note")?;
        fs::remove_file(sidecar::path(&archive.path)).with_context(deleting)?;
    }
    if let Some(journal) = journal {
        journal
            .connection()
            .execute("DELETE FROM backups WHERE name = ?1", [&archive.name])
            .context("cannot write to the journal")?;
    }
    Ok(())
}

/// What the journal knows of an archive.
struct Row {
    bytes: i64,
    state: i64,
    verified: Option<i64>,
    drilled: Option<i64>,
}

fn row(journal: &Journal, name: &str) -> Result<Option<Row>> {
    journal
        .connection()
        .query_row(
            "SELECT bytes, state, verified_at, drilled_at FROM backups WHERE name = ?1",
            [name],
            |row| {
                Ok(Row {
                    bytes: row.get(0)?,
                    state: row.get(1)?,
                    verified: row.get(2)?,
                    drilled: row.get(3)?,
                })
            },
        )
        .optional()
        .context("cannot read the journal")
}

/// Journals a new archive, verified now.
pub(super) fn record(
    journal: &Journal,
    run: &Run,
    name: &str,
    bytes: u64,
    manifest: &Manifest,
    state: State,
) -> Result<()> {
    journal
        .connection()
        .execute(
            "INSERT OR REPLACE INTO backups(name, run, at, bytes, content, files, state, verified_at)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?3)",
            params![
                name,
                run.id,
                run.now.timestamp_millis(),
                bytes.cast_signed(),
                manifest.bytes().cast_signed(),
                manifest.count() as i64,
                state.code()
            ],
        )
        .context("cannot write to the journal")?;
    Ok(())
}

/// Journals what a look at an archive found. `drill`: it was restored on trial as well.
///
/// An archive that is elsewhere than on the shelf is not journaled.
pub fn record_look(
    loaded: &Loaded,
    journal: &Journal,
    run: &Run,
    archive: &Path,
    manifest: Option<&Manifest>,
    sound: bool,
    drill: bool,
) -> Result<()> {
    let Some(name) = archive.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
    if archive.parent() != Some(loaded.config.backup.dir.as_path()) {
        return Ok(());
    }
    let at = run.now.timestamp_millis();
    let (verified, drilled) = (sound.then_some(at), (sound && drill).then_some(at));
    let bytes = fs::metadata(archive).map_or(0, |meta| meta.len());
    if !sound {
        journal.connection().execute("UPDATE backups SET state = 2 WHERE name = ?1", [name])
    } else {
        journal.connection().execute(
            "INSERT INTO backups(name, run, at, bytes, content, files, state, verified_at, drilled_at)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT(name) DO UPDATE SET verified_at = ?8, drilled_at = coalesce(?9, drilled_at),
               bytes = ?4, state = CASE WHEN state = 2 THEN 0 ELSE state END",
            params![
                name,
                manifest.map_or(run.id.as_str(), |manifest| manifest.run.as_str()),
                manifest.map_or(at, |manifest| manifest.time.timestamp_millis()),
                bytes.cast_signed(),
                manifest.map_or(0, Manifest::bytes).cast_signed(),
                manifest.map_or(0, |manifest| manifest.count() as i64),
                u8::from(manifest.is_some_and(|manifest| !manifest.problems.is_empty())),
                verified,
                drilled
            ],
        )
    }
    .context("cannot write to the journal")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_archives_from_other_files() {
        for name in [
            "20261120_093001.tar.gz",
            "20261120_093001_1.tar.gz",
            "20261120_093001_12.tar.gz",
            "20261120_093001.tar.gz.age",
        ] {
            assert_eq!(time_of_name(name).unwrap().to_rfc3339(), "2026-11-20T09:30:01+00:00");
        }
        for name in [
            "latest",
            "20261120_093001.tar",
            "20261120_093001.age",
            "20261120_093001.tar.gz.age.json",
            "20261120_093001.tar.gz.age.age",
            "20261120_093001_.tar.gz",
            "20261120_093001x.tar.gz",
            "20261320_093001.tar.gz",
            "x20261120_093001.tar.gz",
            "20261120_0930011.tar.gz",
            "ö.tar.gz",
            ".tar.gz",
        ] {
            assert_eq!(time_of_name(name), None, "{name}");
        }
    }

    #[test]
    fn latest_is_never_put_over_a_file_of_somebody_else() {
        let dir = tempfile::tempdir().unwrap();
        point_latest(dir.path(), "a").unwrap();
        point_latest(dir.path(), "b").unwrap();
        assert_eq!(fs::read_link(dir.path().join("latest")).unwrap(), Path::new("b"));
        fs::remove_file(dir.path().join("latest")).unwrap();
        fs::write(dir.path().join("latest"), "mine").unwrap();
        assert!(point_latest(dir.path(), "c").is_err());
        assert_eq!(fs::read_to_string(dir.path().join("latest")).unwrap(), "mine");
    }
}
