//! Is the value that a query gives as it should be? The database is only read, and only by one SELECT.

use super::value::{self, Growths, Seen};
use super::{Answer, View};
use crate::base::units::Span;
use crate::base::{State, database, text};
use crate::config::check::{Sql, Zone};
use anyhow::{Context, Result, anyhow, bail};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode};
use serde_json::Value;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

/// A value larger than this is not read.
const MOST_BYTES: i32 = 1 << 20;

pub(super) fn look(view: &View, name: &str, options: &Sql, timeout: Span) -> Result<Answer> {
    let shown = view.loaded.home.show(&options.database);
    match std::fs::metadata(&options.database) {
        Ok(meta) if meta.len() == 0 => return Ok(Answer::unknown(format!("{shown} is empty"))),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Answer::new(options.missing, format!("{shown} is missing")));
        }
        Err(error) => return Ok(Answer::unknown(format!("{shown} cannot be looked at: {error}"))),
    }
    let value = match ask(&options.database, &options.query, options.rows, timeout.0) {
        Ok(value) => value,
        Err(error) => return unanswered(error, &shown, options, timeout),
    };
    let mut growths = Growths::recall(view, name);
    let rules = options.rules();
    let called = match (&rules.label, options.rows) {
        (Some(label), _) => format!("{label} in {shown}"),
        (None, true) => format!("number of rows from {shown}"),
        (None, false) => format!("value from {shown}"),
    };
    let key = format!("{shown} {} {}", options.rows, options.query);
    // What SQLite's own functions write is UTC.
    let seen = Seen { name: &called, key, value, zone: Zone::Utc };
    let answer = value::judge(seen, &rules, &mut growths, view.run.now).into_answer();
    Ok(growths.remember(answer).remedy("ask the database the same with sqlite3 -readonly"))
}

/// What to say when the query could not be answered.
fn unanswered(error: anyhow::Error, shown: &str, options: &Sql, timeout: Span) -> Result<Answer> {
    let (code, message) = match error.downcast_ref::<rusqlite::Error>() {
        Some(rusqlite::Error::SqliteFailure(code, message)) => (code, message.as_deref().unwrap_or_default()),
        Some(rusqlite::Error::SqlInputError { error, msg, .. }) => (error, msg.as_str()),
        _ => return Err(error.context(format!("{shown} cannot be asked"))),
    };
    let missing = ["no such table", "no such column"].iter().any(|begin| message.starts_with(begin));
    let why = match code.code {
        ErrorCode::OperationInterrupted => format!("the query was not done within {timeout}"),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => format!("it was locked for {timeout}"),
        ErrorCode::NotADatabase => "it is not an SQLite database".to_owned(),
        ErrorCode::AuthorizationForStatementDenied => "the query does more than SELECT".to_owned(),
        _ => text::one_line(message, 160),
    };
    Ok(Answer::new(if missing { options.missing_table } else { State::Unknown }, format!("{shown}: {why}")))
}

/// The one value of the one row that a query gives, or the number of its rows.
fn ask(path: &Path, query: &str, rows: bool, limit: Duration) -> Result<Option<Value>> {
    let deadline = Instant::now() + limit;
    let mut connection = database::open_read_only(path)?;
    bound(&mut connection, deadline)?;
    let mut statement = connection.prepare(query)?;
    if !statement.readonly() {
        bail!("the query does more than SELECT");
    }
    let columns = statement.column_count();
    if columns == 0 || (columns > 1 && !rows) {
        bail!("the query gives {} and not one value", text::count(columns, "column"));
    }
    let mut found = statement.query([])?;
    if rows {
        let mut count = 0u64;
        while found.next()?.is_some() {
            count += 1;
        }
        return Ok(Some(Value::from(count)));
    }
    let Some(row) = found.next()? else { return Ok(None) };
    let value = match row.get_ref(0)? {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::from(number),
        ValueRef::Real(number) => Value::from(number),
        ValueRef::Text(bytes) => Value::from(String::from_utf8_lossy(bytes)),
        ValueRef::Blob(_) => bail!("the query gives a blob"),
    };
    if found.next()?.is_some() {
        bail!("the query gives more than one row: write it with LIMIT 1, or ask for rows = true");
    }
    Ok(Some(value))
}

/// Lets a connection do no more than SELECT, until a deadline.
fn bound(connection: &mut Connection, deadline: Instant) -> Result<()> {
    // A little less: being late is for the progress handler to say.
    connection.busy_timeout(deadline.saturating_duration_since(Instant::now()).mul_f64(0.9))?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MOST_BYTES)?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    connection
        .progress_handler(10_000, Some(move || Instant::now() > deadline))
        .context("cannot limit the time of a query")?;
    let allowed = |context: AuthContext<'_>| match context.action {
        AuthAction::Select
        | AuthAction::Read { .. }
        | AuthAction::Function { .. }
        | AuthAction::Recursive => Authorization::Allow,
        _ => Authorization::Deny,
    };
    connection.authorizer(Some(allowed)).map_err(|error| anyhow!("cannot limit what a query may do: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_select_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES(1),(2);").unwrap();
        let before = std::fs::read(&path).unwrap();
        let asked = |query: &str, rows| ask(&path, query, rows, Duration::from_secs(5));
        assert_eq!(asked("SELECT sum(a) FROM t", false).unwrap(), Some(Value::from(3)));
        assert_eq!(asked("WITH n(x) AS (SELECT a FROM t) SELECT x FROM n WHERE x > 9", false).unwrap(), None);
        assert_eq!(asked("SELECT a, a FROM t;", true).unwrap(), Some(Value::from(2)));
        assert_eq!(asked("SELECT max(a) FROM t WHERE a > 9", false).unwrap(), Some(Value::Null));
        for wrong in [
            "DELETE FROM t",
            "SELECT 1; DELETE FROM t",
            "SELECT a FROM t",
            "SELECT a, a FROM t LIMIT 1",
            "SELECT x'00'",
            "SELECT zeroblob(2000000)",
            "PRAGMA journal_mode = WAL",
            "PRAGMA user_version",
            "ATTACH 'x.db' AS x",
            "VACUUM INTO 'x.db'",
            "CREATE TEMP TABLE x(a)",
            "INSERT INTO t VALUES(1) RETURNING a",
            "BEGIN",
            "",
            "-- nothing",
        ] {
            assert!(asked(wrong, false).is_err(), "{wrong}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_query_without_end_is_interrupted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t(a)").unwrap();
        let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n) SELECT count(*) FROM n";
        let error = ask(&path, endless, false, Duration::from_millis(50)).unwrap_err();
        let failure = error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
        assert_eq!(failure, Some(ErrorCode::OperationInterrupted));
    }
}
