//! Whether a database is damaged, as far as SQLite can judge that.
//!
//! Damage is what SQLite says is damage: SQLITE_CORRUPT, SQLITE_NOTADB, and the text of a check. What it
//! cannot judge, because its application brings something that is not here, may be as good as any.

use anyhow::{Context, Result, anyhow};
use rusqlite::{Connection, ErrorCode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// So many virtual tables are asked what they need.
const MOST_TABLES: usize = 200;
/// So many pages are looked at to tell encryption from damage.
const SAMPLES: u64 = 16;
/// How a check begins to say that a virtual table could not be checked, not that it is damaged.
const NOT_VALIDATED: &str = "unable to validate";

/// What a check said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `ok`, and nothing else.
    Sound,
    /// What SQLite found wrong, first lines.
    Damaged(String),
    /// Why SQLite cannot judge it, and what it said.
    Unjudged(Unjudged, String),
}

/// Why SQLite cannot judge a database that may be as good as any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unjudged {
    /// It sorts by a collation that its application defines.
    Collation,
    /// Its full-text index has a tokenizer that its application brings.
    Tokenizer,
    /// A virtual table of it needs an extension. The rest of it was checked.
    Module,
    /// Its pages are encrypted, or look so.
    Encrypted,
    /// Its writer held it for the whole time.
    Locked,
    /// It could not be read.
    Unreadable,
    /// Something else.
    #[serde(other)]
    Other,
}

impl Unjudged {
    /// What SQLite lacks, by its message: it has no error codes for these.
    pub fn of_message(message: &str) -> Option<Unjudged> {
        [
            ("no such collation sequence", Unjudged::Collation),
            ("no such tokenizer", Unjudged::Tokenizer),
            ("unknown tokenizer", Unjudged::Tokenizer),
            ("no such module", Unjudged::Module),
        ]
        .into_iter()
        .find_map(|(text, reason)| message.contains(text).then_some(reason))
    }
}

/// Runs `PRAGMA quick_check` or `integrity_check` on an open connection, within `budget`.
///
/// # Errors
/// When the check could not be done (locked, unreadable, no memory, `budget` used up): not a verdict.
pub fn check(connection: &mut Connection, pragma: &str, budget: Duration) -> Result<Verdict> {
    let deadline = Instant::now() + budget;
    connection
        .progress_handler(10_000, Some(move || Instant::now() > deadline))
        .context("cannot limit the time of a check")?;
    let lines = (|| {
        let mut statement = connection.prepare(&format!("PRAGMA {pragma}(20)"))?;
        statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
    })();
    let error = match lines {
        Ok(lines) => return Ok(verdict(connection, &lines)),
        Err(error) => error,
    };
    match code(&error) {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Ok(Verdict::Damaged(message(&error))),
        // SQLITE_ERROR: something that it needs is not here.
        Some(ErrorCode::Unknown) => Ok(unjudged(connection, message(&error))),
        Some(ErrorCode::OperationInterrupted) => {
            Err(anyhow!("{pragma} was not done within {}", super::units::Span(budget)))
        }
        _ => Err(error).with_context(|| format!("{pragma} failed")),
    }
}

/// What the lines of a check come to.
fn verdict(connection: &Connection, lines: &[String]) -> Verdict {
    if lines == ["ok"] {
        return match needs(connection) {
            Some((reason, message)) => Verdict::Unjudged(reason, message),
            None => Verdict::Sound,
        };
    }
    match lines.iter().all(|line| line.starts_with(NOT_VALIDATED)) {
        true => unjudged(connection, lines.join("; ")),
        false => Verdict::Damaged(lines.join("; ")),
    }
}

/// The verdict on a database that could not be checked for this reason.
fn unjudged(connection: &Connection, message: String) -> Verdict {
    let (reason, message) = match Unjudged::of_message(&message) {
        Some(reason) => (reason, message),
        // A full-text index says what it lacks only when it is asked for a word.
        None => needs(connection).unwrap_or((Unjudged::Other, message)),
    };
    Verdict::Unjudged(reason, message)
}

/// What a virtual table needs that is not here, and what SQLite says of it. Checks pass over such a table.
fn needs(connection: &Connection) -> Option<(Unjudged, String)> {
    let query = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage = 0 LIMIT ?1";
    let names = || -> rusqlite::Result<Vec<String>> {
        connection.prepare(query)?.query_map([MOST_TABLES as i64], |row| row.get(0))?.collect()
    };
    names().ok()?.into_iter().find_map(|name| {
        let name = name.replace('"', "\"\"");
        let query = format!("SELECT 1 FROM \"{name}\" WHERE \"{name}\" MATCH 'a' LIMIT 1");
        let asked = connection.prepare(&query).and_then(|mut statement| statement.exists([]));
        let message = message(&asked.err()?);
        Some((Unjudged::of_message(&message)?, message))
    })
}

/// The code of an error, of a statement that could not be prepared too.
pub fn code(error: &rusqlite::Error) -> Option<ErrorCode> {
    match error {
        rusqlite::Error::SqlInputError { error, .. } => Some(error.code),
        error => error.sqlite_error_code(),
    }
}

/// What SQLite said, without the statement.
fn message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        error => error.to_string(),
    }
}

/// Whether the pages of a file with SQLite's header look encrypted: the first is none that SQLite writes, and
/// of the others that are sampled hardly any is. A file that was overwritten as a whole with something other
/// than one byte looks the same: no program can tell these apart without the key.
pub fn looks_encrypted(path: &Path) -> io::Result<bool> {
    let file = super::database::open_file(path)?;
    let mut head = [0; 20];
    file.read_exact_at(&mut head, 0)?;
    let page = match u64::from(u16::from_be_bytes([head[16], head[17]])) {
        1 => 65536,
        size if size.is_power_of_two() && size >= 512 => size,
        _ => return Ok(false),
    };
    let pages = file.metadata()?.len() / page;
    if pages == 0 || is_plain(&file, 100, page - 100)? {
        return Ok(false);
    }
    let step = usize::try_from((pages / SAMPLES).max(1)).unwrap_or(usize::MAX);
    let sampled: Vec<u64> = (1..pages).step_by(step).take(SAMPLES as usize).collect();
    let mut plain = 0;
    for number in &sampled {
        plain += usize::from(is_plain(&file, number * page, page)?);
    }
    // By chance, one in fifty encrypted pages begins like a plain one.
    Ok(plain <= sampled.len() / 8)
}

/// Whether a page may be one that SQLite writes, by its first byte: of a tree, or, with 0, one that goes on
/// with a long row or is free. One that has hardly any different bytes was overwritten, not encrypted.
fn is_plain(file: &File, at: u64, length: u64) -> io::Result<bool> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(65536)];
    file.read_exact_at(&mut bytes, at)?;
    let different = bytes.iter().collect::<BTreeSet<_>>().len();
    Ok([0x00, 0x02, 0x05, 0x0a, 0x0d].contains(&bytes[0]) || different < 16)
}

#[cfg(test)]
mod tests {
    use super::super::database::{integrity_check, quick_check};
    use super::*;

    const TIME: Duration = Duration::from_secs(5);

    #[test]
    fn what_sqlite_lacks_is_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        for (number, (schema, from, to, expected)) in [
            ("CREATE TABLE t(a COLLATE NOCASE); CREATE INDEX i ON t(a)", "NOCASE", "C", Unjudged::Collation),
            (
                "CREATE TABLE t(a COLLATE NOCASE PRIMARY KEY) WITHOUT ROWID",
                "NOCASE",
                "C",
                Unjudged::Collation,
            ),
            ("CREATE VIRTUAL TABLE t USING fts5(a, tokenize='porter')", "porter", "own", Unjudged::Tokenizer),
            ("CREATE VIRTUAL TABLE t USING fts4(a, tokenize=porter)", "porter", "own", Unjudged::Tokenizer),
            ("CREATE VIRTUAL TABLE t USING fts5(a)", "fts5", "vec0", Unjudged::Module),
            ("CREATE VIRTUAL TABLE \"a \"\"b\" USING fts5(a)", "fts5", "vec0", Unjudged::Module),
        ]
        .into_iter()
        .enumerate()
        {
            let path = dir.path().join(format!("{number}.db"));
            let writer = Connection::open(&path).unwrap();
            writer.execute_batch(schema).unwrap();
            let edit = "PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql = replace(sql,";
            writer.execute_batch(&format!("{edit} '{from}', '{to}');")).unwrap();
            drop(writer);
            for check in [quick_check, integrity_check] {
                let verdict = check(&path, TIME).unwrap();
                assert!(
                    matches!(&verdict, Verdict::Unjudged(why, _) if *why == expected),
                    "{schema}: {verdict:?}"
                );
            }
        }
        // Its index needs a function of its application: only the full check asks for it.
        let path = dir.path().join("function.db");
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch("CREATE TABLE t(a); CREATE INDEX i ON t(lower(a)); INSERT INTO t VALUES('x');")
            .unwrap();
        let edit = "PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql = replace(sql, 'lower', 'mine');";
        writer.execute_batch(edit).unwrap();
        drop(writer);
        assert_eq!(quick_check(&path, TIME).unwrap(), Verdict::Sound);
        assert!(matches!(integrity_check(&path, TIME).unwrap(), Verdict::Unjudged(Unjudged::Other, _)));
        // What it does not lack is sound.
        let path = dir.path().join("text.db");
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch(
                "CREATE VIRTUAL TABLE t USING fts5(a); CREATE VIRTUAL TABLE r USING rtree(i, a, b);",
            )
            .unwrap();
        drop(writer);
        assert_eq!(quick_check(&path, TIME).unwrap(), Verdict::Sound);
    }

    #[test]
    fn encrypted_pages_under_a_plain_header_are_told_from_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let writer = Connection::open(&path).unwrap();
        let rows = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<900) INSERT INTO t SELECT x, hex(x) FROM n";
        writer.execute_batch(&format!("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); {rows};")).unwrap();
        drop(writer);
        let plain = std::fs::read(&path).unwrap();
        let mut seed = 1u64;
        let mut noise = |bytes: &mut [u8]| {
            for byte in bytes {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                *byte = (seed >> 56) as u8;
            }
        };
        let verdict = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            quick_check(&path, TIME).unwrap()
        };
        let mut encrypted = plain.clone();
        noise(&mut encrypted[32..]);
        assert!(matches!(verdict(&encrypted), Verdict::Unjudged(Unjudged::Encrypted, _)));
        // Weakly, too.
        let mut weakly = plain.clone();
        weakly[100..].iter_mut().for_each(|byte| *byte ^= 0x5a);
        assert!(matches!(verdict(&weakly), Verdict::Unjudged(Unjudged::Encrypted, _)));
        let mut filled = plain.clone();
        filled[100..].fill(0xa5);
        assert!(matches!(verdict(&filled), Verdict::Damaged(_)));
        // A page of noise, and the first page gone with the others as they were, are damage.
        let mut page = plain.clone();
        noise(&mut page[4096..8192]);
        assert!(matches!(verdict(&page), Verdict::Damaged(_)));
        let mut first = plain.clone();
        noise(&mut first[100..4096]);
        assert!(matches!(verdict(&first), Verdict::Damaged(_)));
        let mut zeros = plain;
        zeros[32..].fill(0);
        assert!(matches!(verdict(&zeros), Verdict::Damaged(_)));
    }
}
