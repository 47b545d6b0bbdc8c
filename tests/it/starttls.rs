//! A mail server, or somebody on the way to it, that answers before it is asked.

use crate::sandbox::Sandbox;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the server does.
#[derive(Clone, Copy, Default)]
struct Script {
    /// Written in clear together with the answer to STARTTLS.
    with_go: &'static str,
    /// Written in clear together with the answer to the first EHLO.
    with_hello: &'static str,
    /// What it answers to DATA, and to the mail.
    data: &'static str,
    mail: &'static str,
}

const FAKE: &str = "250-h\r\n250 AUTH PLAIN\r\n250 ok\r\n250 ok\r\n354 go\r\n250 queued\r\n221 bye\r\n";

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/tls")
}

/// One line, read to its end and no further.
fn line(stream: &mut impl Read) -> Option<String> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while stream.read_exact(&mut byte).is_ok() {
        line.push(byte[0]);
        if byte == *b"\n" {
            return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
    }
    None
}

fn talk(mut stream: TcpStream, config: Arc<rustls::ServerConfig>, script: Script) -> Option<()> {
    stream.write_all(b"220 h ESMTP\r\n").ok()?;
    line(&mut stream)?;
    stream.write_all(format!("250-h\r\n250 STARTTLS\r\n{}", script.with_hello).as_bytes()).ok()?;
    line(&mut stream).filter(|line| line == "STARTTLS")?;
    stream.write_all(format!("220 go\r\n{}", script.with_go).as_bytes()).ok()?;
    let connection = rustls::ServerConnection::new(config).unwrap();
    let mut stream = BufReader::new(rustls::StreamOwned::new(connection, stream));
    let mut text = String::new();
    while stream.read_line(&mut text).ok()? > 0 {
        let verb = text.split_whitespace().next().unwrap_or_default().to_uppercase();
        let answer = match verb.as_str() {
            "EHLO" => "250 h",
            "DATA" => script.data,
            "QUIT" => "221 bye",
            _ => "250 ok",
        };
        stream.get_mut().write_all(format!("{answer}\r\n").as_bytes()).ok()?;
        if verb == "DATA" {
            loop {
                text.clear();
                if stream.read_line(&mut text).ok()? == 0 || text == ".\r\n" {
                    break;
                }
            }
            stream.get_mut().write_all(format!("{}\r\n", script.mail).as_bytes()).ok()?;
        }
        text.clear();
    }
    Some(())
}

/// The exit code of `alert test` by mail, and what it said.
fn sent_to(script: Script) -> (i32, String) {
    let chain = vec![CertificateDer::from_pem_file(data().join("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(data().join("server.key.pem")).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            std::thread::spawn(move || talk(stream, config, script));
        }
    });
    let sandbox = Sandbox::new();
    sandbox.write(
        "ops.toml",
        format!(
            "[alerts.desktop]\nenabled = false\n[alerts.email]\nhost = \"localhost\"\nport = {port}\nca_file = \"{}\"\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\n",
            data().join("authority.pem").display()
        ),
    );
    let said = sandbox.run("alert", &["test", "--channel", "email"]);
    (said.code, format!("{}{}", said.stdout, said.stderr))
}

#[test]
fn answers_from_before_the_handshake_deliver_nothing() {
    let honest = Script { data: "354 go", mail: "250 queued", ..Script::default() };
    let (code, said) = sent_to(honest);
    assert_eq!(code, 0, "{said}");
    // The server takes nothing; who is on the way says in clear that it took all.
    let refusing = Script { data: "554 no", mail: "554 no", ..Script::default() };
    for script in [
        Script { with_go: FAKE, ..refusing },
        Script { with_hello: "220 go\r\n", with_go: FAKE, ..refusing },
        Script { with_hello: const_str(), ..refusing },
        // Some of it, so that each answer counts for the command after.
        Script { with_go: "250 h\r\n", data: "354 go", mail: "554 no", ..Script::default() },
    ] {
        let (code, said) = sent_to(script);
        assert_ne!(code, 0, "{said}");
        assert!(!said.contains("delivered"), "{said}");
    }
}

/// All of it at once, before STARTTLS is asked for.
fn const_str() -> &'static str {
    "220 go\r\n250-h\r\n250 AUTH PLAIN\r\n250 ok\r\n250 ok\r\n354 go\r\n250 queued\r\n221 bye\r\n"
}

#[test]
fn an_answer_that_is_none_to_the_command_delivers_nothing() {
    for (data, mail) in [("250 ok", "250 queued"), ("354 go", "354 go on"), ("554 no", "250 queued")] {
        let (code, said) = sent_to(Script { data, mail, ..Script::default() });
        assert_ne!(code, 0, "{data} {mail}: {said}");
    }
}
