//! Checks that read a value: JSON files, databases, metrics, counters.

use crate::checks::{look_at, with_checks};
use crate::probes::{expect, only, response, says, summary};
use crate::sandbox::Sandbox;
use chrono::{TimeDelta, Utc};

fn json(keys: &str) -> Sandbox {
    with_checks(&format!("[check.it]\nkind = \"json\"\nfile = \"work/state.json\"\n{keys}"))
}

#[test]
fn json_files_are_read_whatever_their_shape() {
    let now = Utc::now();
    let ago = |seconds: i64| (now - TimeDelta::seconds(seconds)).timestamp();
    for (content, keys, state, part) in [
        (
            format!("{{\"saved_ts\": {}}}", ago(30)),
            "value = \"saved_ts\"\nage = true\nwarn = \"3m\"",
            "ok",
            "saved_ts in work/state.json was 30s ago",
        ),
        (
            format!("{{\"saved_ts\": {}}}", ago(300)),
            "value = \"saved_ts\"\nage = true\nwarn = \"3m\"",
            "warning",
            "was 5m ago (limit 3m)",
        ),
        (
            format!("{{\"created_ms\": {}000}}", ago(60)),
            "value = \"created_ms\"\nage = true\ncrit = \"15s\"",
            "critical",
            "was 1m ago",
        ),
        (format!("{{\"t\": {}}}", ago(-900)), "value = \"t\"\nage = true", "unknown", "in the future"),
        (
            "\u{feff}{\"dlq\": 3}".to_owned(),
            "value = \"dlq\"\nwarn = 2\ncrit = 10",
            "warning",
            "is 3 (limit 2)",
        ),
        (
            "{\"stats\": {\"status\": \"running\"}}".to_owned(),
            "value = \"stats.status\"\nequals = [\"running\", \"idle\"]",
            "ok",
            "is 'running'",
        ),
        (
            "[{\"approved\": null}, {\"approved\": true}]".to_owned(),
            "count = true\nwhere = { approved = \"null\" }\nwarn = 0",
            "warning",
            "is 1 (limit 0)",
        ),
        (
            "{\"a\": 1}\n{\"success\": false}\n{\"success\": true}\n{\"torn".to_owned(),
            "lines = 100\ncount = true\nwhere = { success = false }",
            "ok",
            "is 1",
        ),
        ("{}".to_owned(), "value = \"a\"\nwarn = 1", "unknown", "there is no a in work/state.json"),
        (
            "{}".to_owned(),
            "value = \"a\"\nwarn = 1\nmissing_value = \"ok\"",
            "ok",
            "there is no a in work/state.json",
        ),
        ("{\"a\":".to_owned(), "value = \"a\"", "unknown", "it is not JSON"),
        (String::new(), "value = \"a\"", "unknown", "it is not JSON"),
        ("[".repeat(100_000), "value = \"a\"", "unknown", "it is not JSON"),
        (" ".repeat(5 << 20), "value = \"a\"", "unknown", "larger than"),
        ("{\"a\": \"\\u001b[2J\\u202e\"}".to_owned(), "value = \"a\"\nequals = 1", "critical", "\\u{1b}[2J"),
    ] {
        let sandbox = json(keys);
        sandbox.write("work/state.json", content);
        let found = look_at(&sandbox, now, "it", &[]);
        assert!(!summary(&found).chars().any(char::is_control), "{found}");
        expect(&found, state, part);
    }
    expect(&only(&json("value = \"a\"")), "critical", "work/state.json is missing");
    expect(&only(&json("value = \"a\"\nmissing = \"ok\"")), "ok", "is missing");
    let folder = json("value = \"a\"");
    std::fs::create_dir_all(folder.path("work/state.json")).unwrap();
    expect(&only(&folder), "unknown", "not a regular file");
}

#[test]
fn sql_answers_and_touches_nothing() {
    let ask = |keys: &str| {
        let sandbox = with_checks(&format!("[check.it]\nkind = \"sql\"\ndatabase = \"bot.db\"\n{keys}"));
        let writer = rusqlite::Connection::open(sandbox.path("bot.db")).unwrap();
        writer
            .execute_batch(
                "PRAGMA journal_mode = WAL; CREATE TABLE jobs(state TEXT, at TEXT); CREATE TABLE empty(at TEXT);
                 INSERT INTO jobs VALUES('failed', datetime('now', '-2 hours')), ('failed', datetime('now')), ('done', NULL);",
            )
            .unwrap();
        drop(writer);
        let listing =
            || std::fs::read_dir(&sandbox.home).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
        let (before, bytes) = (listing(), std::fs::read(sandbox.path("bot.db")).unwrap());
        let found = only(&sandbox);
        let after = listing().into_iter().filter(|name| name != ".ops" && name != "logs").collect::<Vec<_>>();
        assert_eq!((after, std::fs::read(sandbox.path("bot.db")).unwrap()), (before, bytes), "{keys}");
        found
    };
    let failed = "query = \"SELECT count(*) FROM jobs WHERE state = 'failed'\"\n";
    for (keys, state, part) in [
        (format!("{failed}warn = 5"), "ok", "value from bot.db is 2"),
        (format!("{failed}warn = 1\ncrit = 5"), "warning", "is 2 (limit 1)"),
        (format!("{failed}crit = 1"), "critical", "is 2 (limit 1)"),
        ("query = \"SELECT * FROM jobs\"\nrows = true\nwarn = 2".to_owned(), "warning", "number of rows from bot.db is 3"),
        ("query = \"SELECT min(at) FROM jobs\"\nage = true\nwarn = \"1h\"".to_owned(), "warning", "was 2h"),
        ("query = \"SELECT max(at) FROM empty\"\nage = true".to_owned(), "unknown", "there is no value"),
        ("query = \"SELECT max(at) FROM empty\"\nmissing_value = \"ok\"".to_owned(), "ok", "there is no value"),
        ("query = \"SELECT count(*) FROM tasks\"".to_owned(), "unknown", "no such table: tasks"),
        ("query = \"SELECT count(*) FROM tasks\"\nmissing_table = \"ok\"".to_owned(), "ok", "no such table: tasks"),
        ("query = \"SELECT count(* FROM jobs\"\nmissing_table = \"ok\"".to_owned(), "unknown", "syntax error"),
        ("query = \"DELETE FROM jobs\"".to_owned(), "unknown", "bot.db"),
        ("query = \"SELECT 1; DROP TABLE jobs\"".to_owned(), "unknown", "bot.db"),
        ("query = \"WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n) SELECT count(*) FROM n\"\ntimeout = \"300ms\"".to_owned(), "unknown", "not done within 300ms"),
    ] {
        expect(&ask(&keys), state, part);
    }
    let bare = |keys: &str| {
        with_checks(&format!(
            "[check.it]\nkind = \"sql\"\ndatabase = \"bot.db\"\nquery = \"SELECT 1\"\n{keys}"
        ))
    };
    expect(&only(&bare("")), "critical", "bot.db is missing");
    let odd = bare("");
    odd.write("bot.db", "this is no database, however long it may be");
    expect(&only(&odd), "unknown", "not an SQLite database");
    odd.write("bot.db", "");
    expect(&only(&odd), "unknown", "is empty");
}

#[test]
fn a_locked_database_costs_its_check_only() {
    let sandbox = with_checks(
        "[check.it]\nkind = \"sql\"\ndatabase = \"bot.db\"\nquery = \"SELECT count(*) FROM t\"\ntimeout = \"300ms\"\n\
         [check.other]\nkind = \"json\"\nfile = \"ops.json\"\n",
    );
    sandbox.write("ops.json", "{}");
    let writer = rusqlite::Connection::open(sandbox.path("bot.db")).unwrap();
    writer.execute_batch("CREATE TABLE t(a); BEGIN EXCLUSIVE; INSERT INTO t VALUES(1);").unwrap();
    let now = Utc::now();
    expect(&look_at(&sandbox, now, "it", &[]), "unknown", "locked");
    expect(&look_at(&sandbox, now, "other", &[]), "ok", "");
}

const METRICS: &str = "# TYPE machina_queue gauge\nmachina_queue{name=\"inbox\"} 4\nmachina_queue{name=\"dlq\"} 2\n\
                       jobs_fail_total 12\nbad NaN\nbig +Inf\n";

#[test]
fn metrics_are_read_from_addresses_and_files() {
    let address = says(response("200 OK", METRICS));
    for (keys, state, part) in [
        ("metric = \"jobs_fail_total\"\nwarn = 20", "ok", "jobs_fail_total is 12"),
        (
            "metric = \"machina_queue\"\nlabels = { name = \"dlq\" }\nwarn = 1",
            "warning",
            "machina_queue{name=\"dlq\"} is 2 (limit 1)",
        ),
        (
            "metric = \"machina_queue\"\naggregate = \"sum\"\ncrit = 5",
            "critical",
            "sum of machina_queue is 6 (limit 5)",
        ),
        ("metric = \"machina_queue\"", "unknown", "2 series"),
        ("metric = \"nothing\"", "unknown", "there is no nothing"),
        ("metric = \"nothing\"\nmissing_value = \"ok\"", "ok", "there is no nothing"),
        ("metric = \"bad\"\nwarn = 1", "unknown", "NaN"),
        ("metric = \"big\"\ncrit = 1", "critical", "is inf (limit 1)"),
    ] {
        let sandbox = with_checks(&format!(
            "[check.it]\nkind = \"metric\"\nurl = \"http://{address}/metrics\"\n{keys}"
        ));
        expect(&only(&sandbox), state, part);
        let sandbox = with_checks(&format!("[check.it]\nkind = \"metric\"\nfile = \"a.prom\"\n{keys}"));
        sandbox.write("a.prom", METRICS);
        expect(&only(&sandbox), state, part);
    }
    let other = says(response("404 Not Found", METRICS));
    let ask = |source: &str| {
        only(&with_checks(&format!("[check.it]\nkind = \"metric\"\nmetric = \"up\"\n{source}\n")))
    };
    expect(&ask(&format!("url = \"http://{other}/\"")), "unknown", "answers 404");
    expect(&ask(&format!("url = \"http://{other}/\"\nmissing = \"critical\"")), "critical", "answers 404");
    expect(&ask("file = \"none.prom\""), "unknown", "is missing");
    expect(&ask(&format!("url = \"http://{}/\"", says("\0\x1b"))), "unknown", "does not answer");
}

#[test]
fn a_counter_is_judged_by_its_growth() {
    let sandbox = with_checks(
        "[check.it]\nkind = \"json\"\nfile = \"usage.json\"\nvalue = \"tokens\"\nper = \"1h\"\nwarn = 1000\ncrit = 5000\nlabel = \"tokens\"\n",
    );
    let begin = Utc::now();
    let at = |minutes: i64, tokens: u64| {
        sandbox.write("usage.json", format!("{{\"tokens\": {tokens}}}"));
        look_at(&sandbox, begin + TimeDelta::minutes(minutes), "it", &[])
    };
    expect(&at(0, 70_000), "ok", "its growth is not known yet");
    expect(&at(5, 70_500), "ok", "by 500");
    expect(&at(10, 71_500), "warning", "by 1500 (limit 1000)");
    // It began again at nothing.
    expect(&at(15, 4_000), "critical", "by 5500 (limit 5000)");
    let later = at(75, 4_000);
    expect(&later, "ok", "grew within 1h by 0");
    assert_eq!(later["metrics"][0]["label"], "tokens");
    // A clock that went back begins anew and alarms nobody.
    expect(&at(-600, 4_000), "ok", "not known yet");
}
