//! Mail to real servers: encrypted with a login, with the wrong certificate, and to servers
//! that never answer.

use crate::peers::{Authority, Running, authority};
use crate::sandbox::{Said, Sandbox, said};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

struct Server {
    _running: Running,
    port: u16,
    folder: PathBuf,
}

impl Server {
    fn start(sandbox: &Sandbox, kind: &str, authority: &Authority) -> Server {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/mail_server.py");
        let folder = sandbox.outside(kind);
        let errors = folder.join("errors");
        // Debian's own Python: its packages are not those of another one on PATH.
        let python = Path::new("/usr/bin/python3");
        assert!(python.exists(), "there is no {}: install the package python3-aiosmtpd", python.display());
        let mut running = Running::start(
            Command::new(python)
                .arg(script)
                .arg(kind)
                .args([&authority.certificate, &authority.key, &folder])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(fs::File::create(&errors).unwrap()),
        );
        let mut line = String::new();
        BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap_or_else(|_| {
            let errors = fs::read_to_string(&errors).unwrap();
            panic!("the mail server does not start: is the package python3-aiosmtpd installed?\n{errors}")
        });
        Server { _running: running, port, folder }
    }

    fn mails(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.folder.join("mails.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The settings of a mail channel, and a test message to it.
struct Mail<'a> {
    port: u16,
    tls: &'a str,
    ca_file: Option<&'a Path>,
    password: &'a str,
    to: &'a str,
}

impl Mail<'_> {
    fn send(&self, sandbox: &Sandbox) -> Said {
        let ca_file =
            self.ca_file.map_or(String::new(), |path| format!("ca_file = \"{}\"\n", path.display()));
        let login =
            if self.password.is_empty() { "" } else { "user = \"agent\"\npassword = \"file:secret\"\n" };
        sandbox.write("secret", self.password);
        sandbox.write(
            "ops.toml",
            format!(
                "[alerts.desktop]\nenabled = false\n[alerts.email]\nhost = \"localhost\"\nport = {}\ntls = \"{}\"\n{ca_file}{login}from = \"agent@example.org\"\nto = [\"{}\"]\n",
                self.port, self.tls, self.to
            )
            .replace("file:secret", &format!("file:{}", sandbox.path("secret").display())),
        );
        let mut command = sandbox.program("alert");
        let begun = Instant::now();
        let mut child = command
            .args(["test", "--channel", "email"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while child.try_wait().unwrap().is_none() {
            // Only so that a hang does not hang the tests.
            if begun.elapsed() > Duration::from_secs(60) {
                child.kill().unwrap();
                panic!("alert hangs");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        said(child.wait_with_output().unwrap())
    }
}

#[test]
fn a_mail_goes_out_encrypted_with_a_login_and_nothing_goes_to_a_stranger() {
    let sandbox = Sandbox::new();
    let ours = authority(&sandbox.outside("ours"));
    let theirs = authority(&sandbox.outside("theirs"));

    for tls in ["starttls", "tls"] {
        let server = Server::start(&sandbox, tls, &ours);
        let good = Mail {
            port: server.port,
            tls,
            ca_file: Some(&ours.authority),
            password: "right",
            to: "me@example.org",
        };
        let sent = good.send(&sandbox);
        assert_eq!(sent.code, 0, "{sent:?}");
        let mails = server.mails();
        assert_eq!(mails.len(), 1, "{mails:?}");
        assert_eq!(mails[0]["from"], "agent@example.org");
        assert_eq!(mails[0]["to"][0], "me@example.org");
        assert_eq!((&mails[0]["tls"], &mails[0]["login"]), (&true.into(), &true.into()), "{}", mails[0]);
        let text = mails[0]["text"].as_str().unwrap();
        for header in
            ["Subject: ", "Message-ID: ", "Date: ", "Auto-Submitted: auto-generated", "multipart/alternative"]
        {
            assert!(text.contains(header), "{header} in {text}");
        }

        for (what, mail) in [
            ("certificate", Mail { ca_file: Some(&theirs.authority), ..good }),
            ("certificate", Mail { ca_file: None, ..good }),
            ("", Mail { password: "s3cr3t-but-wrong", ..good }),
            ("no such person", Mail { to: "nobody@example.org", ..good }),
            ("later", Mail { to: "later@example.org", ..good }),
        ] {
            let refused = mail.send(&sandbox);
            assert_eq!(refused.code, 2, "{refused:?}");
            let all = format!("{}{}", refused.stdout, refused.stderr);
            assert!(all.contains(what) && !all.contains("s3cr3t"), "{all}");
        }
        assert_eq!(server.mails().len(), 1, "nothing more arrived");
    }
}

#[test]
fn a_login_is_not_sent_to_a_server_that_does_not_encrypt() {
    let sandbox = Sandbox::new();
    let ours = authority(&sandbox.outside("ours"));
    let server = Server::start(&sandbox, "plain", &ours);
    let mail = Mail {
        port: server.port,
        tls: "starttls",
        ca_file: Some(&ours.authority),
        password: "right",
        to: "me@example.org",
    };
    let refused = mail.send(&sandbox);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(server.mails().is_empty());
    // Asked for, plain mail to a server of this machine works.
    let plain = Mail { tls: "none", password: "", ..mail };
    let sent = plain.send(&sandbox);
    assert_eq!(sent.code, 0, "{sent:?}");
    assert_eq!(server.mails().len(), 1);
}

/// Servers that hold a client up: `speak` is called with each connection.
fn black_hole(speak: fn(std::net::TcpStream)) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || speak(stream));
        }
    });
    port
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let sandbox = Sandbox::new();
    let mute = |stream: std::net::TcpStream| {
        std::thread::sleep(Duration::from_secs(300));
        drop(stream);
    };
    let banner_only = |mut stream: std::net::TcpStream| {
        let _ = stream.write_all(b"220 here I am\r\n");
        std::thread::sleep(Duration::from_secs(300));
    };
    // A byte a second: each single read is in time.
    let dripping = |mut stream: std::net::TcpStream| {
        let _ = stream.write_all(b"220");
        while stream.write_all(b"-").is_ok() {
            std::thread::sleep(Duration::from_secs(1));
        }
    };
    for speak in [mute as fn(std::net::TcpStream), banner_only, dripping] {
        let port = black_hole(speak);
        let mail = Mail { port, tls: "none", ca_file: None, password: "", to: "me@example.org" };
        let given_up = mail.send(&sandbox);
        assert_eq!(given_up.code, 2, "{given_up:?}");
        assert!(given_up.stdout.contains("failed"), "{given_up:?}");
    }
}
