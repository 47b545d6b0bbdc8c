//! The dead-man's pings, against a server of the healthchecks.io protocol.

use crate::receiver::{Receiver, Request, at, crit, with_checks};
use crate::sandbox::Sandbox;

/// As healthchecks.io answers: unknown checks are 404, statuses beyond 255 are 400.
fn server() -> Receiver {
    let server = Receiver::new();
    server.answer(|request| {
        let (path, _) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let mut parts = path.trim_start_matches('/').split('/');
        let status = match (parts.next(), parts.next(), parts.next()) {
            (Some("gone"), ..) => "404 Not Found",
            (Some(_), None | Some("start" | "fail" | "log"), None) => "200 OK",
            (Some(_), Some(code), None) if code.parse::<u8>().is_ok() => "200 OK",
            _ => "400 Bad Request",
        };
        Some((status.to_owned(), String::new()))
    });
    server
}

/// Path and run of each ping.
fn pings(requests: &[Request]) -> Vec<(String, String)> {
    let split = |request: &Request| {
        let (path, rid) = request.path.split_once("?rid=").unwrap();
        (path.to_owned(), rid.to_owned())
    };
    requests.iter().map(split).collect()
}

fn watched(server: &Receiver) -> Sandbox {
    let url = &server.url;
    with_checks(
        1,
        &format!(
            "[alerts.deadman]\nalert = \"{url}/alert\"\nbackup = \"{url}/backup\"\n\
             rotate_logs = \"{url}/rotate\"\ndrill = \"{url}/drill\"\n"
        ),
    )
}

#[test]
fn each_job_says_that_it_begins_and_how_it_ended() {
    let server = server();
    let sandbox = watched(&server);
    sandbox.write("data/x.txt", "x");
    for (program, args, path, words) in [
        ("alert", &[][..], "/alert", "all is well"),
        ("backup", &[], "/backup", "backups/"),
        ("rotate-logs", &[], "/rotate", ""),
        ("restore", &["latest", "--drill"], "/drill", "restored on trial"),
    ] {
        sandbox.expect(0, program, args);
        let got = server.take();
        let pings = pings(&got);
        assert_eq!(pings.len(), 2, "{program}: {got:?}");
        assert_eq!((pings[0].0.clone(), pings[1].0.as_str()), (format!("{path}/start"), path));
        assert_eq!(pings[0].1, pings[1].1, "one run, one name");
        let parts: Vec<usize> = pings[0].1.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "a UUID");
        assert!(got[1].text().contains(words), "{program}: {}", got[1].text());
    }
    for (program, args) in
        [("alert", ["--dry-run"]), ("backup", ["--dry-run"]), ("rotate-logs", ["--dry-run"])]
    {
        sandbox.expect(0, program, &args);
        assert!(server.is_empty(), "{program}: nothing was done");
    }
    // Verbs are no runs of the job.
    sandbox.expect(0, "alert", &["list"]);
    sandbox.expect(0, "backup", &["list"]);
    assert!(server.is_empty());
}

#[test]
fn a_failure_tells_its_exit_status_and_why() {
    let server = server();
    let sandbox = watched(&server);
    sandbox.expect(3, "restore", &["no-such-archive", "--drill"]);
    let got = server.take();
    assert_eq!(pings(&got)[1].0, "/drill/3");
    assert!(got[1].text().contains("no-such-archive"), "{}", got[1].text());

    let config = sandbox.read("ops.toml");
    sandbox.write("ops.toml", format!("{config}[alerts.webhook]\nurl = \"http://127.0.0.1:1/\"\n"));
    crit(&sandbox);
    at(2, &sandbox, "12:00");
    assert_eq!(pings(&server.take())[1].0, "/alert/2", "nobody was told: somebody else does it");
}

#[test]
fn words_are_cut_at_what_the_server_takes() {
    let server = server();
    let sandbox = watched(&server);
    for number in 0..300 {
        sandbox.write(&format!("data/{number}-{}.log", "é".repeat(40)), [b'x'; 10]);
    }
    let config = sandbox.read("ops.toml").replace("[logs]\n", "[logs]\nmax_size = \"4B\"\nkeep_lines = 1\n");
    sandbox.write("ops.toml", config);
    sandbox.run("rotate-logs", &[]);
    let got = server.take();
    assert!(got[1].body.len() <= 10_000 && got[1].body.len() > 9_000, "{}", got[1].body.len());
    let _ = got[1].text();
}

#[test]
fn a_switch_that_fails_changes_nothing_about_the_job() {
    let server = server();
    let sandbox = with_checks(1, &format!("[alerts.deadman]\nalert = \"{}/gone/s3cr3t\"\n", server.url));
    let said = at(0, &sandbox, "12:00");
    assert!(said.stderr.contains("dead-man") && said.stderr.contains("404"), "{}", said.stderr);
    assert!(!said.stderr.contains("s3cr3t"), "{}", said.stderr);
    server.answer(|_| None);
    let said = at(0, &sandbox, "12:05");
    assert!(said.stderr.contains("was not reached"), "{}", said.stderr);
}
