//! Checks that ask by network: HTTP and TCP.

use crate::checks::{look, look_at, with_checks};
use crate::plugins::runs;
use crate::sandbox::{Sandbox, wait_until};
use chrono::Utc;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The finding of the only check, now.
pub fn only(sandbox: &Sandbox) -> Value {
    look_at(sandbox, Utc::now(), "it", &[])
}

pub fn summary(finding: &Value) -> &str {
    finding["summary"].as_str().unwrap()
}

#[track_caller]
pub fn expect(finding: &Value, state: &str, part: &str) {
    assert!(finding["state"] == state && summary(finding).contains(part), "{state} {part}: {finding}");
}

/// Serves one connection after the other, until the test ends.
pub fn serve(answer: impl Fn(TcpStream) + Send + 'static) -> String {
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

pub fn response(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// A server that always says the same.
pub fn says(answer: impl Into<String>) -> String {
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

/// On a busy machine nothing here is slow.
const PATIENT: &str = "warn = \"1m\"\ncrit = \"1m\"\ntimeout = \"1m\"\n";

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
            "json = [{ value = \"failed\", warn = 5 }]",
            "warning",
            "is 7 (limit 5)",
        ),
        (
            says(response("200 OK", "{\"ok\": true}")),
            "json = [{ value = \"ok\", equals = true }]",
            "ok",
            "ok is 'true'",
        ),
        (says(response("200 OK", &"x".repeat(2000))), "max_body = \"1kB\"", "unknown", "larger than 1.0 KB"),
        (says("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), "", "critical", "no answer"),
        (says("SSH-2.0-OpenSSH\r\n"), "", "critical", "no answer"),
        (says("\x1b[2J\0\0\0\r\n\r\n"), "", "critical", "no answer"),
        (closed, "", "critical", "refused"),
        ("no.such.host.invalid".to_owned(), "", "unknown", "name is not known"),
    ] {
        let found = only(&http(&address, &format!("{PATIENT}{keys}")));
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
         json = [{ value = \"echo\", equals = \"nothing\" }]",
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
        let check = format!("[check.it]\nkind = \"http\"\nurl = \"https://{host}:{port}/\"\n{PATIENT}{keys}");
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

#[test]
fn a_secret_that_is_slow_to_come_leaves_nothing_running() {
    let address = says(response("200 OK", ""));
    let sandbox = http(&address, "timeout = \"300ms\"\nheaders = { X = \"command:sleep 5.6789\" }");
    expect(&only(&sandbox), "unknown", "could not be asked");
    wait_until("nothing is left running", || !runs("5.6789"));
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
        ("kind = \"json\"\nfile = \"f\"\nage = true\nper = \"1h\"", "only one of them"),
        ("kind = \"json\"\nfile = \"f\"\nper = \"9999y\"", "longer than a year"),
        ("kind = \"json\"\nfile = \"f\"\nwhere = { a = 1 }", "count = true"),
        ("kind = \"json\"\nfile = \"f\"\nwarn = \"lots\"", "no threshold"),
        ("kind = \"json\"\nfile = \"f\"\nmissing = \"fine\"", "fine"),
        ("kind = \"metric\"\nmetric = \"m\"", "a url or a file"),
        ("kind = \"command\"\ncommand = []", "command is empty"),
        ("kind = \"systemd_units\"", "nothing to ask"),
    ] {
        let said = with_checks(&format!("[check.it]\n{check}\n")).expect(3, "health-check", &[]);
        assert!(said.stderr.contains("ops.toml:") && said.stderr.contains(part), "{check}: {}", said.stderr);
    }
}

/// What the published agents answer, and what some of them answer when they are not well.
fn agents() -> String {
    serve(|mut stream| {
        let request = head(&mut stream);
        let path = request.split(' ').nth(1).unwrap_or_default();
        let token = request.to_lowercase().contains("authorization: bearer t0k3nt0k3n");
        let nanoseconds = Utc::now().timestamp_nanos_opt().unwrap();
        let answer = match path {
            "/api/status" if !token => response("401 Unauthorized", "{\"error\":\"unauthorized\"}"),
            "/api/status" => response("200 OK", "{\"status\":\"running\",\"jobs\":0}"),
            "/api/cost" => response("200 OK", "{\"todayCostUsd\":1.5,\"records\":9}"),
            "/health" => response("200 OK", "{\"ok\":true}"),
            "/stats" => response("200 OK", "{\"inbox\":0,\"failed\":3,\"dlq\":1,\"workers\":2}"),
            "/ready" => response("503 Service Unavailable", "starting"),
            "/api/v1/timeline?limit=1" => response("200 OK", "null"),
            "/api/summary" => response("200 OK", "{\"error\":\"no such file\"}"),
            "/host" => response("200 OK", "{\"health_score\":80,\"failed_services\":[\"a\",\"b\"]}"),
            "/api/v2/heartbeat" => response("200 OK", &format!("{{\"nanosecond heartbeat\":{nanoseconds}}}")),
            // Of any path that there is not.
            _ => response("200 OK", ""),
        };
        let _ = stream.write_all(answer.as_bytes());
    })
}

#[test]
fn what_the_agents_offer_can_be_asked() {
    let address = agents();
    for (path, keys, state, part) in [
        ("/api/status", "status = 401", "ok", "401"),
        (
            "/api/status",
            "headers = { Authorization = \"Bearer t0k3nt0k3n\" }\njson = [{ value = \"status\", equals = \"running\" }]",
            "ok",
            "status is 'running'",
        ),
        (
            "/api/cost",
            "json = [{ value = \"todayCostUsd\", warn = 1, crit = 5, label = \"cost\" }]",
            "warning",
            "todayCostUsd is 1.5 (limit 1)",
        ),
        ("/health", "json = [{ value = \"ok\", equals = true }]", "ok", "ok is 'true'"),
        (
            "/stats",
            "json = [{ value = \"failed\", warn = 1 }, { value = \"dlq\", crit = 0 }, { value = \"workers\", crit = \"1:\" }]",
            "critical",
            "dlq is 1 (limit 0); failed is 3 (limit 1); workers is 2",
        ),
        ("/ready", "expect = \"^ready$\"", "critical", "503"),
        ("/api/v1/timeline?limit=1", "expect = '^(\\[|null)'", "ok", "200"),
        ("/nowhere", "min_body = 1", "critical", "less than 1 B"),
        ("/api/summary", "json = [{ value = \"error\", equals = \"null\" }]", "critical", "not null"),
        (
            "/host",
            "json = [{ value = \"failed_services\", count = true, warn = 0 }]",
            "warning",
            "is 2 (limit 0)",
        ),
        (
            "/api/v2/heartbeat",
            "json = [{ value = \"nanosecond heartbeat\", age = true, crit = \"1m\" }]",
            "ok",
            "ago",
        ),
    ] {
        let check =
            format!("[check.it]\nkind = \"http\"\nurl = \"http://{address}{path}\"\n{PATIENT}{keys}\n");
        expect(&only(&with_checks(&check)), state, part);
    }
}
