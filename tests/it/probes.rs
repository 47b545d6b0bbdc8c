//! Checks that ask elsewhere: HTTP, JSON, SQL, metrics, plugins, systemd.

use crate::checks::{look, look_at, with_checks};
use crate::sandbox::{Sandbox, said, wait_until};
use chrono::{TimeDelta, Utc};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The finding of the only check, now.
fn only(sandbox: &Sandbox) -> Value {
    look_at(sandbox, Utc::now(), "it", &[])
}

fn summary(finding: &Value) -> &str {
    finding["summary"].as_str().unwrap()
}

#[track_caller]
fn expect(finding: &Value, state: &str, part: &str) {
    assert!(finding["state"] == state && summary(finding).contains(part), "{state} {part}: {finding}");
}

/// Serves one connection after the other, until the test ends.
fn serve(answer: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || listener.incoming().flatten().for_each(answer));
    address
}

/// The head of a request.
fn head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn response(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// A server that always says the same.
fn says(answer: impl Into<String>) -> String {
    let answer = answer.into();
    serve(move |mut stream| {
        head(&mut stream);
        let _ = stream.write_all(answer.as_bytes());
    })
}

fn http(address: &str, keys: &str) -> Sandbox {
    with_checks(&format!(
        "[check.it]\nkind = \"http\"\nurl = \"http://{address}/health?key=s3cr3tqu3ry\"\n{keys}"
    ))
}

#[test]
fn http_tells_good_answers_from_bad_ones() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for (address, keys, state, part) in [
        (says(response("200 OK", "ready")), "expect = \"ready\"", "ok", "200 in"),
        (says(response("200 OK", "")), "min_body = 1", "critical", "less than 1 B"),
        (
            says(response("200 OK", "{\"error\": \"x\"}")),
            "refuse = '\"error\"'",
            "critical",
            "the body matches",
        ),
        (says(response("401 Unauthorized", "")), "status = 401", "ok", "401 in"),
        (says(response("503 Oops", "")), "", "critical", "expected 2xx"),
        (
            says("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"),
            "",
            "critical",
            "redirects",
        ),
        (
            says(response("200 OK", "{\"failed\": 7}")),
            "json = [{ value = \"/failed\", warn = 5 }]",
            "warning",
            "is 7 (limit 5)",
        ),
        (
            says(response("200 OK", "{\"ok\": true}")),
            "json = [{ value = \"/ok\", equals = true }]",
            "ok",
            "/ok is 'true'",
        ),
        (says(response("200 OK", &"x".repeat(2000))), "max_body = \"1kB\"", "unknown", "larger than 1.0 KB"),
        (says("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), "", "critical", "no answer"),
        (says("SSH-2.0-OpenSSH\r\n"), "", "critical", "no answer"),
        (says("\x1b[2J\0\0\0\r\n\r\n"), "", "critical", "no answer"),
        (closed, "", "critical", "refused"),
        ("no.such.host.invalid".to_owned(), "", "unknown", "name is not known"),
    ] {
        let found = only(&http(&address, keys));
        expect(&found, state, part);
        assert!(!found.to_string().contains("s3cr3tqu3ry"), "{found}");
    }
}

#[test]
fn http_sends_what_is_secret_and_never_tells_it() {
    let heard = Arc::new(Mutex::new(String::new()));
    let note = Arc::clone(&heard);
    // One that says all it was told back, in its headers and its body.
    let address = serve(move |mut stream| {
        let request = head(&mut stream);
        let echo =
            request.lines().find(|line| line.to_lowercase().starts_with("x-token")).unwrap_or_default();
        let body = format!("{{\"echo\": \"{echo}\"}}");
        let _ = stream.write_all(response("500 No", &body).as_bytes());
        *note.lock().unwrap() = request;
    });
    let sandbox = http(
        &address,
        "headers = { X-Token = \"file:token\" }\nuser = \"me\"\npassword = \"${PASS:-pa55word}\"\n\
         json = [{ value = \"/echo\", equals = \"nothing\" }]",
    );
    sandbox.write("token", "t0k3nt0k3n\n");
    let said = look(&sandbox, Utc::now(), &["--json"]);
    let all = format!("{}{}{}", said.stdout, said.stderr, sandbox.read("logs/health_check.log"));
    assert!(all.contains("[redacted]") && all.contains("500"), "{all}");
    let shown = sandbox.expect(0, "ops", &["config", "show"]).stdout;
    for secret in ["t0k3nt0k3n", "pa55word", "bWU6cGE1NXdvcmQ=", "s3cr3tqu3ry"] {
        assert!(!all.contains(secret), "{secret}: {all}");
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
    let heard = heard.lock().unwrap().to_lowercase();
    assert!(
        heard.starts_with("get /health?key=s3cr3tqu3ry http/1.1") && heard.contains("x-token: t0k3nt0k3n"),
        "{heard}"
    );
    assert!(heard.contains("authorization: basic bwu6cge1nxdvcmq="), "{heard}");
}

#[test]
fn http_that_drips_or_is_silent_is_cut() {
    let drip = serve(|mut stream| {
        head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        while stream.write_all(b".").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let silent = serve(|mut stream| {
        head(&mut stream);
        std::thread::sleep(Duration::from_secs(60));
    });
    for address in [drip, silent] {
        expect(&only(&http(&address, "crit = \"300ms\"")), "critical", "no whole answer within 300ms");
        // Cut before `crit`, nobody knows whether it would have been there in time.
        expect(&only(&http(&address, "timeout = \"300ms\"")), "unknown", "no whole answer within 300ms");
    }
}

/// A server with TLS, with the certificate of this name in `tests/it/data/tls`.
fn tls(certificate: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/tls");
    let chain = vec![CertificateDer::from_pem_file(folder.join(certificate)).unwrap()];
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    serve(move |stream| {
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, stream);
        if head(&mut stream).starts_with("GET") {
            let _ = stream.write_all(response("200 OK", "fine").as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    })
}

#[test]
fn https_is_verified_and_its_certificate_watched() {
    let authority = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/tls/authority.pem");
    let ours = format!("ca_file = \"{}\"\n", authority.display());
    let ask = |certificate: &str, host: &str, keys: &str| {
        let port = tls(certificate).rsplit_once(':').unwrap().1.to_owned();
        let check = format!("[check.it]\nkind = \"http\"\nurl = \"https://{host}:{port}/\"\n{keys}");
        only(&with_checks(&check))
    };
    let good = ask("server.pem", "localhost", &ours);
    expect(&good, "ok", "200 in");
    let certificate = &good["metrics"][2];
    assert!(certificate["label"] == "certificate" && certificate["value"].as_f64().unwrap() > 2e9, "{good}");
    // It holds until 2120, which is sooner than in two hundred years.
    expect(
        &ask("server.pem", "127.0.0.1", &format!("{ours}cert_warn = \"200y\"")),
        "warning",
        "certificate expires in",
    );
    expect(
        &ask("server.pem", "localhost", &format!("{ours}cert_crit = \"200y\"")),
        "critical",
        "certificate expires in",
    );
    expect(&ask("server.pem", "localhost", ""), "critical", "UnknownIssuer");
    expect(&ask("expired.pem", "localhost", &ours), "critical", "expired");
    expect(&ask("server.pem", "localhost", "ca_file = \"ops.toml\""), "unknown", "no certificate");
    // Asked in clear, and not by TLS.
    let clear = serve(|mut stream| _ = stream.write_all(response("200 OK", "").as_bytes()));
    let check = format!("[check.it]\nkind = \"http\"\nurl = \"https://{clear}/\"\n");
    expect(&only(&with_checks(&check)), "critical", "no answer");
}

#[test]
fn tcp_can_be_asked_for_a_word() {
    let pong = serve(|mut stream| {
        let mut ping = [0; 6];
        let _ = stream.read_exact(&mut ping);
        let _ = stream.write_all(if &ping == b"PING\r\n" { b"+PONG\r\n" } else { b"-ERR\r\n" });
    });
    let ask = |keys: &str| {
        only(&with_checks(&format!(
            "[check.it]\nkind = \"tcp\"\naddress = \"{pong}\"\ncrit = \"1s\"\n{keys}"
        )))
    };
    expect(&ask("send = \"PING\\r\\n\"\nexpect = \"PONG\""), "ok", "answers in");
    expect(&ask("send = \"QUIT\\r\\n\"\nexpect = \"PONG\""), "critical", "hung up without saying 'PONG'");
    expect(&ask("expect = \"HELLO\""), "critical", "did not say 'HELLO' in time");
}

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
            "value = \"/saved_ts\"\nage = true\nwarn = \"3m\"",
            "ok",
            "/saved_ts in work/state.json was 30s ago",
        ),
        (
            format!("{{\"saved_ts\": {}}}", ago(300)),
            "value = \"/saved_ts\"\nage = true\nwarn = \"3m\"",
            "warning",
            "was 5m ago (limit 3m)",
        ),
        (
            format!("{{\"created_ms\": {}000}}", ago(60)),
            "value = \"/created_ms\"\nage = true\ncrit = \"15s\"",
            "critical",
            "was 1m ago",
        ),
        (format!("{{\"t\": {}}}", ago(-900)), "value = \"/t\"\nage = true", "unknown", "in the future"),
        (
            "\u{feff}{\"dlq\": 3}".to_owned(),
            "value = \"/dlq\"\nwarn = 2\ncrit = 10",
            "warning",
            "is 3 (limit 2)",
        ),
        (
            "{\"stats\": {\"status\": \"running\"}}".to_owned(),
            "value = \"/stats/status\"\nequals = [\"running\", \"idle\"]",
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
        ("{}".to_owned(), "value = \"/a\"\nwarn = 1", "unknown", "there is no /a"),
        ("{}".to_owned(), "value = \"/a\"\nwarn = 1\nmissing_value = \"ok\"", "ok", "there is no /a"),
        ("{\"a\":".to_owned(), "value = \"/a\"", "unknown", "it is not JSON"),
        (String::new(), "value = \"/a\"", "unknown", "it is not JSON"),
        ("[".repeat(100_000), "value = \"/a\"", "unknown", "it is not JSON"),
        (" ".repeat(17 << 20), "value = \"/a\"", "unknown", "larger than"),
        ("{\"a\": \"\\u001b[2J\\u202e\"}".to_owned(), "value = \"/a\"\nequals = 1", "critical", "\\u{1b}[2J"),
    ] {
        let sandbox = json(keys);
        sandbox.write("work/state.json", content);
        let found = look_at(&sandbox, now, "it", &[]);
        assert!(!summary(&found).chars().any(char::is_control), "{found}");
        expect(&found, state, part);
    }
    expect(&only(&json("value = \"/a\"")), "critical", "work/state.json is missing");
    expect(&only(&json("value = \"/a\"\nmissing = \"ok\"")), "ok", "is missing");
    let folder = json("value = \"/a\"");
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
        "[check.it]\nkind = \"json\"\nfile = \"usage.json\"\nvalue = \"/tokens\"\nper = \"1h\"\nwarn = 1000\ncrit = 5000\nlabel = \"tokens\"\n",
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

fn plugin(script: &str, keys: &str) -> Sandbox {
    let sandbox = with_checks(&format!(
        "[check.it]\nkind = \"command\"\ncommand = [\"bin/check\", \"a b\", \"$HOME;x\"]\n{keys}"
    ));
    use std::os::unix::fs::PermissionsExt;
    let path = sandbox.write("bin/check", format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    sandbox
}

#[test]
fn any_plugin_can_be_asked() {
    for (script, state, part) in [
        ("echo 'OK - fine | a=1'", "ok", "OK - fine"),
        ("echo slow; exit 1", "warning", "slow"),
        ("echo broken; exit 2", "critical", "broken"),
        ("echo what; exit 3", "unknown", "what"),
        ("echo odd; exit 77", "unknown", "odd (exit code 77)"),
        ("echo gone; kill -9 $$", "unknown", "gone (ended by signal 9)"),
        ("echo complaint >&2; exit 2", "critical", "complaint"),
        ("exit 2", "critical", "it said nothing"),
        ("echo \"$1|x=1\"; [ \"$2\" = '$HOME;x' ]", "ok", "a b"),
        ("printf '\\033[2J\\000bad\\377\\n'", "ok", "\\u{1b}[2J"),
        ("pwd -P | sed 's/.*home$/in the home/'", "ok", "in the home"),
        ("env | grep -c -e ^OPS_ -e ^LANG | sed 's/^/ours: /'", "ok", "ours: 0"),
        ("yes | head -c 3000000", "ok", "y"),
        ("sleep 60 & echo left one", "ok", "left one"),
    ] {
        expect(&only(&plugin(script, "")), state, part);
    }
    let sandbox = plugin("echo \"token is $TOKEN\"", "env = { TOKEN = \"s3cr3tt0k3n\" }");
    expect(&only(&sandbox), "ok", "token is [redacted]");
    expect(
        &only(&with_checks("[check.it]\nkind = \"command\"\ncommand = [\"no-such-plugin\"]\n")),
        "unknown",
        "cannot run no-such-plugin",
    );
}

#[test]
fn the_numbers_of_a_plugin_are_taken_over() {
    let sandbox = plugin("printf 'OK | time=250ms;500;1000;0\\nmore | size=4KB\\n'", "");
    let said = said(sandbox.program("health-check").output().unwrap());
    let first = said.stdout.lines().next().unwrap();
    assert!(first.ends_with("| 'it_time'=0.25s;0.5;1;0 'it_size'=4000B"), "{said:?}");
}

/// Whether a process with this argument runs.
fn runs(argument: &str) -> bool {
    agent_ops::base::process::all()
        .unwrap()
        .iter()
        .any(|process| process.arguments().iter().any(|word| word == argument) && process.alive())
}

#[test]
fn one_that_hangs_costs_itself_only_and_leaves_nothing_running() {
    let sandbox = with_checks(
        "[check.stuck]\nkind = \"command\"\ncommand = [\"sleep\", \"5.1234\"]\ntimeout = \"300ms\"\n\
         [check.stubborn]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"trap '' TERM HUP; sleep 5.4321 & sleep 5.4321\"]\ntimeout = \"300ms\"\n\
         [check.fine]\nkind = \"command\"\ncommand = [\"echo\", \"fine\"]\n",
    );
    let said = look(&sandbox, Utc::now(), &["--json"]);
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    let states: Vec<_> =
        report["findings"].as_array().unwrap().iter().map(|f| (&f["check"], &f["state"])).collect();
    assert_eq!(said.code, 3);
    let expected = [("fine", "ok"), ("stubborn", "unknown"), ("stuck", "unknown")];
    assert_eq!(
        states,
        expected
            .map(|(check, state)| (check.into(), state.into()))
            .iter()
            .map(|(a, b): &(Value, Value)| (a, b))
            .collect::<Vec<_>>(),
        "{report}"
    );
    assert!(said.stdout.contains("sleep was not done within"), "{}", said.stdout);
    wait_until("nothing is left running", || !runs("5.1234") && !runs("5.4321"));
}

#[test]
fn a_secret_that_is_slow_to_come_leaves_nothing_running() {
    let address = says(response("200 OK", ""));
    let sandbox = http(&address, "timeout = \"300ms\"\nheaders = { X = \"command:sleep 5.6789\" }");
    expect(&only(&sandbox), "unknown", "could not be asked");
    wait_until("nothing is left running", || !runs("5.6789"));
}

#[cfg(target_os = "linux")]
#[test]
fn systemd_is_asked_for_its_units() {
    let ask = |script: &str, keys: &str| {
        let sandbox = with_checks(&format!("[check.it]\nkind = \"systemd_units\"\n{keys}"));
        sandbox.fake("systemctl", script);
        only(&sandbox)
    };
    let block = |active: &str, sub: &str| {
        format!(
            "echo \"$@\" >&2\nprintf 'Id=bot.service\\nLoadState=loaded\\nActiveState={active}\\nSubState={sub}\\nNRestarts=3\\nResult=exit-code\\n'"
        )
    };
    let units = "units = [\"bot\"]";
    let good = ask(&block("active", "running"), units);
    expect(&good, "ok", "1 unit active");
    assert_eq!(
        (&good["metrics"][0]["label"], &good["metrics"][0]["value"]),
        (&"restarts".into(), &3.0.into())
    );
    expect(
        &ask(&block("activating", "auto-restart"), units),
        "warning",
        "bot: activating (auto-restart, exit-code)",
    );
    expect(&ask(&block("failed", "failed"), units), "critical", "bot: failed");
    expect(
        &ask("echo 'System has not been booted with systemd' >&2; exit 1", units),
        "unknown",
        "has not been booted",
    );
    expect(&ask("printf '\\033[2J\\n\\n\\n='", units), "unknown", "told of");
    expect(&ask("sleep 60", &format!("{units}\ntimeout = \"300ms\"")), "unknown", "not done within");
    expect(
        &ask("[ \"$2\" = --user ] && [ -n \"$XDG_RUNTIME_DIR\" ] || exit 9\n", "failed = true\nuser = true"),
        "ok",
        "no unit failed",
    );
    expect(
        &ask("echo 'web.service loaded failed failed Web'", "failed = true"),
        "critical",
        "1 other unit failed: web.service",
    );
    let none = with_checks(&format!("[check.it]\nkind = \"systemd_units\"\n{units}"));
    let found = said(none.program("health-check").env("PATH", "/nowhere").arg("--json").output().unwrap());
    assert!(
        found.stdout.contains("cannot run systemctl") && found.stdout.contains("no systemd"),
        "{found:?}"
    );
}

#[test]
fn keys_that_contradict_each_other_are_refused_at_their_place() {
    for (check, part) in [
        ("kind = \"http\"\nurl = \"ftp://x\"", "no http:// or https:// address"),
        ("kind = \"http\"\nurl = \"http://x\"\nexpect = \"(\"", "no regular expression"),
        ("kind = \"http\"\nurl = \"http://x\"\nstatus = \"20\"", "no status"),
        (
            "kind = \"http\"\nurl = \"http://x\"\nredirects = 1\nheaders = { A = \"b\" }",
            "a redirect would carry",
        ),
        ("kind = \"http\"\nurl = \"http://x\"\nuser = \"me\"", "user and password go together"),
        ("kind = \"http\"\nurl = \"http://x\"\nbody = \"b\"\nmethod = \"GET\"", "body"),
        ("kind = \"http\"\nurl = \"http://x\"\njson = [{ value = \"a.b\" }]", "write it like \\\"/a/b\\\""),
        ("kind = \"json\"\nfile = \"f\"\nage = true\nper = \"1h\"", "only one of them"),
        ("kind = \"json\"\nfile = \"f\"\nwhere = { a = 1 }", "count = true"),
        ("kind = \"json\"\nfile = \"f\"\nwarn = \"lots\"", "no threshold"),
        ("kind = \"json\"\nfile = \"f\"\nmissing = \"fine\"", "fine"),
        ("kind = \"metric\"\nmetric = \"m\"", "a url or a file"),
        ("kind = \"command\"\ncommand = []", "command is empty"),
        ("kind = \"systemd_units\"", "nothing to ask"),
    ] {
        let said = with_checks(&format!("[check.it]\n{check}\n")).expect(3, "health-check", &[]);
        let part = part.replace("\\\"", "\"");
        assert!(said.stderr.contains("ops.toml:") && said.stderr.contains(&part), "{check}: {}", said.stderr);
    }
}
