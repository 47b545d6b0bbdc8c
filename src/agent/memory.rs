//! What the agent remembers: episodes and facts in `memory/agent.db`, an append-only
//! `memory/journal.jsonl`, and who it is in `memory/identity_core.json`.

use crate::base::beneath::Options;
use crate::base::{Home, units};
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS episodes(
  id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, kind TEXT NOT NULL, content TEXT NOT NULL,
  consolidated INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS episodes_open ON episodes(id) WHERE consolidated = 0;
CREATE TABLE IF NOT EXISTS facts(
  name TEXT PRIMARY KEY, count INTEGER NOT NULL, least REAL NOT NULL, mean REAL NOT NULL, most REAL NOT NULL,
  updated_at TEXT NOT NULL);
";

pub(super) struct Memory {
    connection: Connection,
    home: Home,
    journal: std::path::PathBuf,
}

impl Memory {
    pub(super) fn open(home: &Home) -> Result<Memory> {
        let folder = home.path("memory");
        home.make_folder(&folder)?;
        let path = folder.join("agent.db");
        let connection =
            Connection::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.execute_batch(TABLES).with_context(|| format!("cannot lay out {}", path.display()))?;
        let identity = folder.join("identity_core.json");
        if !home.has(&identity) {
            let born = json!({"name": "built-in agent", "born": units::rfc3339(Utc::now()), "purpose": "to be operated"});
            home.replace(&identity, serde_json::to_string_pretty(&born)?.as_bytes(), 0o600)?;
        }
        Ok(Memory { connection, home: home.clone(), journal: folder.join("journal.jsonl") })
    }

    /// Commits one episode and gives its number.
    pub(super) fn remember(&self, at: DateTime<Utc>, kind: &str, content: &str) -> Result<i64> {
        self.connection
            .execute(
                "INSERT INTO episodes(at, kind, content) VALUES(?1, ?2, ?3)",
                params![units::rfc3339(at), kind, content],
            )
            .context("cannot remember an episode")?;
        Ok(self.connection.last_insert_rowid())
    }

    /// Appends one line: one write to a file opened for append, so it is whole or absent.
    pub(super) fn append_journal(&self, at: DateTime<Utc>, content: &Value) -> Result<()> {
        let line =
            format!("{}\n", json!({"at": units::rfc3339(at), "source": "heartbeat", "content": content}));
        self.home
            .open_with(&self.journal, &Options::new().append().create(0o600))?
            .write_all(line.as_bytes())
            .with_context(|| format!("cannot append to {}", self.journal.display()))
    }

    /// Whether the memory still answers.
    pub(super) fn alive(&self) -> Result<()> {
        self.connection
            .query_row("SELECT count(*) FROM facts", [], |_| Ok(()))
            .context("the memory does not answer")
    }

    pub(super) fn episodes(&self) -> i64 {
        self.connection
            .query_row("SELECT coalesce(max(id), 0) FROM episodes", [], |row| row.get(0))
            .unwrap_or_default()
    }

    /// Draws facts from the episodes that were not looked at yet: of each number seen, how
    /// often, the least, the mean and the most. Gives how many episodes and facts.
    pub(super) fn consolidate(&mut self, now: DateTime<Utc>) -> Result<(usize, usize)> {
        let transaction = self.connection.transaction()?;
        let mut numbers: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        let (mut last, mut count) = (0, 0);
        {
            let mut open = transaction
                .prepare("SELECT id, content FROM episodes WHERE consolidated = 0 ORDER BY id LIMIT 10000")?;
            let mut rows = open.query([])?;
            while let Some(row) = rows.next()? {
                last = row.get(0)?;
                count += 1;
                let content: String = row.get(1)?;
                let Ok(Value::Object(content)) = serde_json::from_str(&content) else { continue };
                for (name, value) in content {
                    if let Some(number) = value.as_f64() {
                        numbers.entry(name).or_default().push(number);
                    }
                }
            }
        }
        for (name, seen) in &numbers {
            let sum: f64 = seen.iter().sum();
            let least = seen.iter().copied().fold(f64::INFINITY, f64::min);
            let most = seen.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            transaction.execute(
                "INSERT INTO facts(name, count, least, mean, most, updated_at) VALUES(?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT(name) DO UPDATE SET
                   mean = (mean * count + ?4 * ?2) / (count + ?2), count = count + ?2,
                   least = min(least, ?3), most = max(most, ?5), updated_at = ?6",
                params![name, seen.len() as i64, least, sum / seen.len() as f64, most, units::rfc3339(now)],
            )?;
        }
        transaction
            .execute("UPDATE episodes SET consolidated = 1 WHERE consolidated = 0 AND id <= ?1", [last])?;
        transaction.commit()?;
        Ok((count, numbers.len()))
    }

    /// Folds the WAL into the database, so that a clean stop leaves one file.
    pub(super) fn close(&self) -> Result<()> {
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .context("cannot fold the WAL into the memory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn episodes_become_facts_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = Memory::open(&Home::new(dir.path().to_owned())).unwrap();
        let now = Utc::now();
        for load in [1.0, 2.0, 6.0] {
            memory.remember(now, "observation", &json!({"load": load, "note": "x"}).to_string()).unwrap();
        }
        memory.remember(now, "note", "no JSON").unwrap();
        assert_eq!(memory.consolidate(now).unwrap(), (4, 1));
        memory.remember(now, "observation", "{\"load\": 7}").unwrap();
        assert_eq!(memory.consolidate(now).unwrap(), (1, 1));
        assert_eq!(memory.consolidate(now).unwrap(), (0, 0));
        let fact: (i64, f64, f64, f64) = memory
            .connection
            .query_row("SELECT count, least, mean, most FROM facts WHERE name = 'load'", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .unwrap();
        assert_eq!(fact, (4, 1.0, 4.0, 7.0));
    }
}
