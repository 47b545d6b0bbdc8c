//! The truth table of soundness: what every command says of an archive, by what was the matter with a
//! database when it was made.
//!
//! In each row there is a good archive, `A`; then something happens to `memory/case.db`, and archive `B` is
//! made.

use crate::backup::{archives, with_files};
use crate::sandbox::{Said, Sandbox, said};
use rusqlite::Connection;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// Exit codes, unless a column says otherwise.
///
/// - `B is`: its standing in `backup list`.
/// - `flaw`: the kind of what is wrong with it, or `unjudged:REASON`.
/// - `latest`: the archive that a restore takes, `verify` reads and a drill tries, when none is named.
/// - `verify B`, `drill B`: that archive by its name.
/// - `drill`: `restore --drill`, of `latest`.
/// - `restore`: all of B into the home; `+damaged`: the same with `--damaged`.
/// - `only`: `--only memory/case.db` of B; `to`: all of B into another folder.
/// - `age`: the state of the check `backup_age`; `cause`: whether `ops troubleshoot` names B.
const TABLE: &str = "
case       | backup | B is       | flaw                | latest | verify | verify B | drill | drill B | restore | +damaged | only | to | age | cause
sound      | 0      | good       | -                   | B      | 0      | 0        | 0     | 0       | 0       | 0        | 0    | 0  | 0   | no
page       | 1      | damaged    | damaged_database    | A      | 1      | 2        | 1     | 2       | 2       | 1        | 2    | 2  | 1   | yes
index      | 1      | damaged    | damaged_database    | A      | 1      | 2        | 1     | 2       | 2       | 1        | 2    | 2  | 1   | yes
header     | 1      | damaged    | damaged_database    | A      | 1      | 2        | 1     | 2       | 2       | 1        | 2    | 2  | 1   | yes
collation  | 0      | good       | unjudged:collation  | B      | 0      | 0        | 0     | 0       | 0       | 0        | 0    | 0  | 0   | no
tokenizer  | 0      | good       | unjudged:tokenizer  | B      | 0      | 0        | 0     | 0       | 0       | 0        | 0    | 0  | 0   | no
module     | 0      | good       | unjudged:module     | B      | 0      | 0        | 0     | 0       | 0       | 0        | 0    | 0  | 0   | no
encryption | 0      | good       | unjudged:encrypted  | B      | 0      | 0        | 0     | 0       | 0       | 0        | 0    | 0  | 0   | no
locked     | 1      | incomplete | left_out            | A      | 1      | 1        | 1     | 1       | 1       | 1        | 3    | 1  | 1   | yes
vanished   | 1      | incomplete | lacking_database    | A      | 1      | 1        | 1     | 1       | 1       | 1        | 3    | 1  | 1   | yes
fifo       | 1      | incomplete | lacking_database    | A      | 1      | 1        | 1     | 1       | 1       | 1        | 3    | 1  | 1   | yes
missing    | 1      | incomplete | lacking_database    | A      | 1      | 1        | 1     | 1       | 1       | 1        | 3    | 1  | 1   | yes
empty      | 1      | damaged    | damaged_database    | A      | 1      | 2        | 1     | 2       | 2       | 1        | 2    | 2  | 1   | yes
truncated  | 0      | unreadable | unreadable          | A      | 1      | 2        | 1     | 2       | 2       | 2        | 2    | 2  | 1   | yes
";

/// The words that people read of B in `verify`, by its flaw.
const WORDS: [(&str, &str); 10] = [
    ("-", "is whole"),
    ("damaged_database", "the database memory/case.db"),
    ("unjudged:collation", "could not be judged (no such collation sequence: MYC)"),
    ("unjudged:tokenizer", "could not be judged (no such tokenizer: own)"),
    ("unjudged:module", "could not be judged (no such module: vec0)"),
    ("unjudged:encrypted", "the database memory/case.db could not be judged"),
    ("left_out", "the database memory/case.db was locked by its writer and is not in it"),
    ("lacking_database", "the database memory/case.db is missing"),
    ("unreadable", "is refused"),
    ("missing_include", "is missing"),
];

#[test]
fn every_command_says_the_same_of_an_archive() {
    let mut rows = TABLE.trim().lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let head = rows.next().unwrap();
    let rows: Vec<Vec<&str>> = rows.collect();
    let found: Vec<Vec<String>> = std::thread::scope(|scope| {
        let rows: Vec<_> = rows.iter().map(|row| scope.spawn(|| found(row[0], row[3]))).collect();
        rows.into_iter().map(|row| row.join().unwrap()).collect()
    });
    let wrong: Vec<String> = rows
        .iter()
        .zip(&found)
        .flat_map(|(row, found)| row.iter().zip(found).zip(&head).map(|cell| (row[0], cell)))
        .filter(|(_, ((expected, found), _))| *expected != found)
        .map(|(case, ((expected, found), column))| format!("{case}, {column}: {found}, not {expected}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// One row, as it is.
fn found(case: &str, flaw: &str) -> Vec<String> {
    let sandbox = with_files();
    let config = sandbox.read("ops.toml") + "[check.backup]\nkind = \"backup_age\"\n";
    sandbox.write("ops.toml", config);
    let db = sandbox.path("memory/case.db");
    make(&db, case);
    sandbox.expect(0, "backup", &[]);
    let good = newest(&sandbox);
    let code = second_backup(&sandbox, &db, case);
    let bad = archives(&sandbox).into_iter().map(|path| name_of(&path)).find(|name| *name != good).unwrap();
    if case == "truncated" {
        let path = sandbox.path("backups").join(&bad);
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 700]).unwrap();
    }
    // What is restored is not there, so that a restore has something to do.
    fs::remove_file(&db).ok();

    let list: Value = sandbox.json(0, "backup", &["list"]);
    let of = |name: &str| {
        list["archives"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone()
    };
    let (a, b) = (of(&good), of(&bad));
    let unjudged = b["unjudged"].as_array().unwrap().first();
    let flaw_found = match (b["flaws"].as_array().unwrap().first(), unjudged) {
        (Some(flaw), _) => flaw["kind"].as_str().unwrap().to_owned(),
        (None, Some(unjudged)) => format!("unjudged:{}", unjudged["reason"].as_str().unwrap()),
        (None, None) => "-".to_owned(),
    };
    let latest = if b["latest"] == true { "B" } else { "A" };
    assert_ne!(a["latest"], b["latest"], "{case}");
    let link = fs::read_link(sandbox.path("backups/latest")).unwrap();
    // Nobody looked since the file was cut.
    if case != "truncated" {
        assert_eq!(link == Path::new(&bad), latest == "B", "{case}: the link");
    }
    assert_eq!(a["standing"], "good");

    let run = |program: &str, args: &[&str]| sandbox.run(program, args);
    let verify = run("backup", &["verify"]);
    let verify_b = run("backup", &["verify", &bad]);
    let words = WORDS.iter().find(|(of, _)| *of == flaw).unwrap().1;
    let says = |said: &Said| format!("{}{}", said.stdout, said.stderr).contains(words);
    assert!(says(&verify_b), "{case}: {words}: {verify_b:?}");
    if flaw.starts_with("unjudged") {
        assert_eq!(b["unjudged"][0]["path"], "memory/case.db");
        let listed = run("backup", &["list"]).stdout;
        assert!(listed.contains("1 database not judged"), "{case}: {listed}");
        assert!(sandbox.read("logs/backup.log").contains(words), "{case}: the log");
    }
    if flaw.starts_with("unjudged") || flaw == "damaged_database" {
        // Said at every step.
        for args in
            [["restore", &bad, "--list"], ["restore", &bad, "--dry-run"], ["restore", &bad, "--drill"]]
        {
            let said = run("ops", &args);
            assert!(says(&said), "{case}: {args:?}: {said:?}");
        }
    }
    if latest == "A" {
        assert!(verify.stderr.contains(&bad), "{case}: the newer one is named: {verify:?}");
        let would = run("restore", &["latest", "-n"]);
        assert!(would.code == 1 && would.stderr.contains(&bad), "{case}: {would:?}");
    }
    let all = run("backup", &["verify", "--all"]);
    assert_eq!(all.code, verify_b.code, "{case}: {all:?}");
    let drill = run("restore", &["--drill"]);
    let age = finding(&sandbox, &bad, latest);
    let trouble: Value = serde_json::from_str(&run("ops", &["troubleshoot", "--json"]).stdout).unwrap();
    let cause = if trouble.to_string().contains("backup_damaged") { "yes" } else { "no" };
    let drill_b = run("restore", &[&bad, "--drill"]);
    let to = run("restore", &[&bad, "--to", sandbox.outside("to").to_str().unwrap()]);
    let only = run(
        "restore",
        &[&bad, "--only", "memory/case.db", "--to", sandbox.outside("only").to_str().unwrap()],
    );
    let before = sandbox.read("memory/notes/today.md");
    sandbox.write("memory/notes/today.md", "changed since");
    let restore = run("restore", &[&bad, "--yes"]);
    if restore.code == 2 {
        assert_eq!(sandbox.read("memory/notes/today.md"), "changed since", "{case}: nothing is changed");
        assert!(!db.exists(), "{case}: {restore:?}");
    } else {
        assert_eq!(sandbox.read("memory/notes/today.md"), before, "{case}: {restore:?}");
    }
    let damaged = run("restore", &[&bad, "--damaged", "--yes"]);
    if damaged.code == 1 && flaw == "damaged_database" {
        assert!(db.exists(), "{case}: {damaged:?}");
    }
    // Whatever is wrong with B, neither goes: A is the last good one, or of the last week.
    let pruned = sandbox.json(0, "backup", &["prune"]);
    assert_eq!(pruned["deleted"].as_array().unwrap().len(), 0, "{case}");

    let code_of = |said: &Said| said.code.to_string();
    vec![
        case.to_owned(),
        code.to_string(),
        b["standing"].as_str().unwrap().to_owned(),
        flaw_found,
        latest.to_owned(),
        code_of(&verify),
        code_of(&verify_b),
        code_of(&drill),
        code_of(&drill_b),
        code_of(&restore),
        code_of(&damaged),
        code_of(&only),
        code_of(&to),
        age,
        cause.to_owned(),
    ]
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn newest(sandbox: &Sandbox) -> String {
    name_of(archives(sandbox).last().unwrap())
}

/// The state of the check of the backups' age. It names a newer one that a restore does not take.
fn finding(sandbox: &Sandbox, bad: &str, latest: &str) -> String {
    let report: Value = serde_json::from_str(&sandbox.run("health-check", &["--json"]).stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["kind"] == "backup_age").unwrap();
    let named = finding["summary"].as_str().unwrap().contains(bad);
    assert!(named, "{latest}: {finding}");
    match finding["state"].as_str().unwrap() {
        "ok" => "0",
        "warning" => "1",
        "critical" => "2",
        _ => "3",
    }
    .to_owned()
}

/// A sound database, of the kind that the case needs.
fn make(path: &Path, case: &str) {
    let db = Connection::open(path).unwrap();
    let schema = match case {
        "collation" => "CREATE TABLE t(a COLLATE NOCASE); CREATE INDEX i ON t(a); INSERT INTO t VALUES('x');",
        "tokenizer" => "CREATE VIRTUAL TABLE t USING fts5(a, tokenize='porter'); INSERT INTO t VALUES('x');",
        "module" => "CREATE VIRTUAL TABLE t USING fts5(a); INSERT INTO t VALUES('x');",
        _ => {
            "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); CREATE INDEX i ON t(b);
             WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<500)
             INSERT INTO t SELECT x, hex(randomblob(40)) FROM n;"
        }
    };
    db.execute_batch(schema).unwrap();
}

/// What happens to it, and the backup after that: its exit code.
fn second_backup(sandbox: &Sandbox, path: &Path, case: &str) -> i32 {
    let edit = |from: &str, to: &str| {
        let db = Connection::open(path).unwrap();
        let sql = format!("UPDATE sqlite_schema SET sql = replace(sql, '{from}', '{to}')");
        db.execute_batch(&format!("PRAGMA writable_schema=ON; {sql};")).unwrap();
    };
    let overwrite = |at: usize, length: usize, with: &mut dyn FnMut() -> u8| {
        let mut bytes = fs::read(path).unwrap();
        let end = bytes.len().min(at + length);
        bytes[at..end].fill_with(with);
        fs::write(path, bytes).unwrap();
    };
    let page_of = |name: &str| -> usize {
        let db = Connection::open(path).unwrap();
        let root: i64 = db
            .query_row("SELECT rootpage FROM sqlite_schema WHERE name = ?1", [name], |row| row.get(0))
            .unwrap();
        usize::try_from(root - 1).unwrap() * 4096
    };
    let mut seed = 1u64;
    let mut noise = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 56) as u8
    };
    let plain = |sandbox: &Sandbox| sandbox.run("backup", &[]).code;
    match case {
        "sound" | "truncated" => {
            Connection::open(path).unwrap().execute("INSERT INTO t(b) VALUES('more')", []).unwrap();
        }
        "page" => overwrite(page_of("t"), 4096, &mut || 0xA5),
        "index" => overwrite(page_of("i"), 4096, &mut || 0xA5),
        "header" => overwrite(40, 4056, &mut || 0),
        "collation" => edit("NOCASE", "MYC"),
        "tokenizer" => edit("porter", "own"),
        "module" => edit("fts5", "vec0"),
        "encryption" => overwrite(32, usize::MAX - 32, &mut noise),
        "missing" => fs::remove_file(path).unwrap(),
        "empty" => fs::write(path, "").unwrap(),
        "locked" => {
            let writer = Connection::open(path).unwrap();
            writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
            return said(sandbox.program("backup").env("OPS_PATIENCE", "100").output().unwrap()).code;
        }
        "vanished" | "fifo" => {
            Connection::open(path).unwrap().execute("INSERT INTO t(b) VALUES('more')", []).unwrap();
            return stopped(sandbox, || {
                fs::remove_file(path).unwrap();
                if case == "fifo" {
                    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
                }
            });
        }
        other => panic!("{other}"),
    }
    plain(sandbox)
}

/// A backup that is stopped when its plan is made, goes on when this is done, and ends with this code.
fn stopped(sandbox: &Sandbox, meanwhile: impl FnOnce()) -> i32 {
    use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
    let mut child = sandbox.program("backup").env("OPS_STOP_AT", "planned").spawn().unwrap();
    let pid = Pid::from_child(&child);
    let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
    assert!(status.stopped(), "{status:?}");
    meanwhile();
    kill_process(pid, Signal::CONT).unwrap();
    child.wait().unwrap().code().unwrap()
}

#[test]
fn an_include_that_is_missing_marks_the_archive_until_it_is_there_or_optional() {
    let sandbox = with_files();
    let config = sandbox.read("ops.toml");
    let with = config.replace("\"memory/**\"", "\"memory/**\", \"soul.md\"");
    sandbox.write("ops.toml", &with);
    let made = sandbox.json(1, "backup", &[]);
    assert!(made["problems"][0].as_str().unwrap().starts_with("soul.md is missing"), "{made}");
    let list = sandbox.json(0, "backup", &["list"]);
    assert_eq!(list["archives"][0]["standing"], "incomplete");
    assert_eq!(list["archives"][0]["flaws"][0]["kind"], "missing_include");
    // There is no better one.
    assert_eq!(list["archives"][0]["latest"], true);
    sandbox.write("ops.toml", with.clone() + "optional = [\"soul.md\"]\n");
    sandbox.expect(0, "backup", &[]);
    sandbox.write("ops.toml", &with);
    sandbox.write("soul.md", "me");
    sandbox.expect(0, "backup", &[]);
    let standing = |list: &Value| -> BTreeSet<String> {
        list["archives"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["standing"].as_str().unwrap().to_owned())
            .collect()
    };
    let list = sandbox.json(0, "backup", &["list"]);
    assert_eq!(standing(&list).len(), 2);
    assert_eq!(list["archives"][0]["latest"], true);
}

#[test]
fn a_database_is_missed_until_it_is_excluded() {
    let sandbox = with_files();
    sandbox.expect(0, "backup", &[]);
    fs::remove_file(sandbox.path("memory/agent.db")).unwrap();
    for _ in 0..2 {
        let made = sandbox.json(1, "backup", &[]);
        assert!(made["problems"].to_string().contains("memory/agent.db is missing"), "{made}");
    }
    let list = sandbox.json(0, "backup", &["list"]);
    let latest =
        |list: &Value| list["archives"].as_array().unwrap().iter().position(|one| one["latest"] == true);
    assert_eq!(latest(&list), Some(2));
    let config = sandbox.read("ops.toml") + "exclude = [\"memory/agent.db\"]\n";
    sandbox.write("ops.toml", config);
    sandbox.expect(0, "backup", &[]);
    assert_eq!(latest(&sandbox.json(0, "backup", &["list"])), Some(0));
}

#[test]
fn locked_databases_are_waited_for_once_and_hold_up_nobody_else() {
    let sandbox = with_files();
    let locks: Vec<Connection> = (0..3)
        .map(|number| {
            let db = Connection::open(sandbox.path(&format!("memory/{number}.db"))).unwrap();
            db.execute_batch("CREATE TABLE t(a); BEGIN EXCLUSIVE;").unwrap();
            db
        })
        .collect();
    let other = sandbox.path("memory/other.db");
    let writer = Connection::open(&other).unwrap();
    writer.execute_batch("CREATE TABLE t(a)").unwrap();
    // Far less than what the locked ones are waited for.
    writer.busy_timeout(Duration::from_secs(1)).unwrap();
    let mut program = sandbox.program("backup");
    program.env("OPS_PATIENCE", "3000").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut backup = program.spawn().unwrap();
    while backup.try_wait().unwrap().is_none() {
        writer.execute("INSERT INTO t VALUES(1)", []).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    let said = said(backup.wait_with_output().unwrap());
    assert_eq!(said.code, 1, "{said:?}");
    drop(locks);
    let list = sandbox.json(0, "backup", &["list"]);
    let flaws = list["archives"][0]["flaws"].as_array().unwrap();
    assert!(flaws.len() == 3 && flaws.iter().all(|flaw| flaw["kind"] == "left_out"), "{flaws:?}");
    sandbox.expect(1, "restore", &["--drill"]);
    sandbox.expect(0, "backup", &[]);
    assert_eq!(sandbox.json(0, "backup", &["list"])["archives"][0]["latest"], true);
}

/// Databases as a busy agent has them: half in use, with a WAL, half at rest.
pub fn many(sandbox: &Sandbox, number: usize) {
    let seed = sandbox.outside("seed").join("a.db");
    let db = crate::backup::database(&seed);
    db.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES(1);").unwrap();
    let wal = seed.with_extension("db-wal");
    for number in 0..number {
        let target = sandbox.path(&format!("memory/{number}.db"));
        fs::copy(&seed, &target).unwrap();
        if number % 2 == 0 {
            fs::copy(&wal, target.with_extension("db-wal")).unwrap();
        }
    }
}

/// Runs a program that may have few files open, whatever it would like.
pub fn with_few_files(sandbox: &Sandbox, limit: u64, program: &str, args: &[&str]) -> Said {
    let script = format!("ulimit -n {limit}; exec \"$@\"");
    let built = sandbox.program(program).get_program().to_owned();
    let like = sandbox.program(program);
    let mut limited = std::process::Command::new("sh");
    limited.arg("-c").arg(script).arg("sh").arg(built).args(args).env_clear();
    limited.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    said(limited.current_dir(&sandbox.home).output().unwrap())
}

#[test]
fn many_databases_need_few_open_files() {
    let sandbox = with_files();
    many(&sandbox, 120);
    for limit in [90, 256] {
        let said = with_few_files(&sandbox, limit, "backup", &[]);
        assert_eq!(said.code, 0, "{limit}: {said:?}");
    }
    let list = sandbox.json(0, "backup", &["list"]);
    assert!(list["archives"][0]["standing"] == "good" && list["archives"][0]["files"] == 124, "{list}");
    sandbox.expect(0, "restore", &["--drill"]);
}

#[test]
fn the_first_backup_of_up_waits_for_the_database_that_include_names() {
    let sandbox = Sandbox::new();
    let db = crate::backup::database(&sandbox.outside("seed").join("a.db"));
    db.execute_batch("PRAGMA journal_mode=delete; CREATE TABLE t(a); INSERT INTO t VALUES(1);").unwrap();
    drop(db);
    // As an agent that takes a while to make its state.
    let script = "sleep 1; cp ../seed/a.db agent.db.new; mv agent.db.new agent.db; exec sleep 60";
    sandbox.write(
        "ops.toml",
        format!(
            "[agent]\nname = \"slow\"\npreset = \"none\"\n[service.daemon]\ncommand = [\"sh\", \"-c\", \"{script}\"]\n\
             [backup]\ninclude = [\"agent.db\"]\n"
        ),
    );
    sandbox.run("ops", &["up"]);
    let list = sandbox.json(0, "backup", &["list"]);
    assert_eq!(list["archives"][0]["standing"], "good", "{list}");
    sandbox.expect(0, "ops", &["stop"]);
}
