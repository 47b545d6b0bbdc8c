//! Copies in buckets of real S3 servers: what we ask must be what S3 means. moto speaks nearly all
//! of it, s3s-fs checks signatures and hashes.

use crate::peers::{Authority, Running, authority};
use crate::sandbox::{Sandbox, wait_until};
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program that `.ci/run` installs below `target/real`.
fn installed(path: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/real").join(path);
    assert!(program.is_file(), "there is no {}: `.ci/run` installs it", program.display());
    program
}

/// A moto server with the bucket `backups`, and its address.
fn moto(sandbox: &Sandbox, tls: Option<&Authority>) -> (Running, String) {
    let said = sandbox.outside("moto").join("said");
    let mut command = Command::new(installed("moto/bin/moto_server"));
    command.args(["-H", "127.0.0.1", "-p", "0"]).stdout(Stdio::null()).stderr(File::create(&said).unwrap());
    let mut tls_config = ureq::tls::TlsConfig::builder();
    if let Some(tls) = tls {
        command.arg("-s").arg("-c").arg(&tls.certificate).arg("-k").arg(&tls.key);
        // Only to make the bucket.
        tls_config = tls_config.disable_verification(true);
    }
    let server = Running::start(&mut command);
    let address = || {
        let text = fs::read_to_string(&said).unwrap();
        let (_, rest) = text.split_once("Running on ")?;
        let (address, _) = rest.split_once('\n')?;
        Some(address.trim().to_owned())
    };
    wait_until("moto listens", || address().is_some());
    let address = address().unwrap();
    let agent: ureq::Agent = ureq::Agent::config_builder().tls_config(tls_config.build()).build().into();
    agent.put(format!("{address}/backups")).send_empty().unwrap();
    (server, address)
}

/// An s3s-fs server with the bucket `backups`, and its address.
fn s3s(sandbox: &Sandbox) -> (Running, String) {
    let root = sandbox.outside("s3s");
    fs::create_dir(root.join("backups")).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut command = Command::new(installed("s3s/bin/s3s-fs"));
    command.args([
        "--host",
        "127.0.0.1",
        "--port",
        &port,
        "--access-key",
        "AKIATEST",
        "--secret-key",
        "secret",
    ]);
    command.arg(root).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Running::start(&mut command);
    let address = format!("127.0.0.1:{port}");
    wait_until("s3s-fs listens", || TcpStream::connect(&address).is_ok());
    (server, format!("http://{address}"))
}

fn config(sandbox: &Sandbox, endpoint: &str, more: &str) {
    sandbox.write(
        "ops.toml",
        format!(
            "[agent]\nname = \"quiet\"\npreset = \"none\"\n[backup]\ninclude = [\"memory/**\"]\n[backup.s3]\n\
             endpoint = \"{endpoint}\"\nbucket = \"backups\"\naccess_key = \"AKIATEST\"\nsecret_key = \"secret\"\n\
             keep = {{ all = \"1d\", weekly = \"1d\", monthly = \"1d\" }}\n{more}"
        ),
    );
}

#[track_caller]
fn at(code: Option<i32>, sandbox: &Sandbox, now: &str, args: &[&str], cut: Option<&str>) -> String {
    let mut command = sandbox.program("backup");
    command.args(args).env("OPS_NOW", now);
    if let Some(step) = cut {
        command.env("OPS_ABORT_AT", step);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), code, "{output:?}");
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// Small and large archives go there, one cut short goes on (where the server can tell of it), the
/// rule holds, and another host restores from there.
fn there_and_back(endpoint: &str, resumes: bool) {
    let sandbox = Sandbox::new();
    config(&sandbox, endpoint, "");
    sandbox.write("memory/notes.md", "small\n");
    let said = at(Some(0), &sandbox, "2026-11-01T03:00:00Z", &[], None);
    assert!(said.contains("1 archive copied to s3://backups/quiet/"), "{said}");
    // Large enough for three parts, and cut short after the first.
    let mut state = 88_172_645_463_325_252_u64;
    let mut noise = Vec::new();
    for _ in 0..2_150_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    sandbox.write("memory/noise", &noise);
    at(None, &sandbox, "2026-11-05T03:00:00Z", &[], Some("part"));
    let said = at(Some(0), &sandbox, "2026-11-05T03:00:00Z", &["copy"], None);
    // What arrived before is not sent again.
    let whole = fs::metadata(sandbox.path("backups/20261105_030000.tar.gz")).unwrap().len();
    let sent = if resumes { whole - (8 << 20) } else { whole };
    let list = sandbox.json(0, "backup", &["list", "--remote"]);
    assert_eq!(list["archives"].as_array().unwrap().len(), 1, "the older one was pruned there: {list}");
    assert!(said.contains("pruned there: 20261101_030000.tar.gz"), "{said}");
    let size = agent_ops::base::units::Size(sent).to_string();
    let copied = sandbox.read("logs/backup.log");
    assert!(copied.contains(&format!("{size} sent")), "{size}: {copied}");

    let other = Sandbox::new();
    config(&other, endpoint, "");
    other.expect(3, "restore", &["remote:latest", "--yes"]);
    let key = sandbox.outside("keys").join("signing.key");
    sandbox.expect(0, "backup", &["key", "export", key.to_str().unwrap()]);
    other.expect(0, "backup", &["key", "import", key.to_str().unwrap()]);
    // Copies of earlier versions, or of a lost key, are signed on the word of a person.
    fs::remove_file(sandbox.path(".ops/signing.key")).unwrap();
    fs::remove_dir_all(sandbox.path("backups")).unwrap();
    let said = at(Some(0), &sandbox, "2026-11-05T03:00:00Z", &["copy", "--trust"], None);
    assert!(said.contains("1 signed that was there already"), "{said}");
    sandbox.expect(0, "restore", &["remote:latest", "--drill"]);
    sandbox.expect(0, "backup", &["key", "export", sandbox.path("new.key").to_str().unwrap()]);
    other.expect(0, "backup", &["key", "import", sandbox.path("new.key").to_str().unwrap()]);
    other.expect(0, "restore", &["remote:latest", "--yes"]);
    assert!(fs::read(other.path("memory/noise")).unwrap() == noise);
    assert_eq!(other.read("memory/notes.md"), "small\n");
}

#[test]
fn copies_go_to_moto_are_resumed_pruned_and_restored_from_there() {
    let sandbox = Sandbox::new();
    let (_server, endpoint) = moto(&sandbox, None);
    there_and_back(&endpoint, true);
}

#[test]
fn copies_go_to_s3s_which_checks_every_signature_and_come_back() {
    let sandbox = Sandbox::new();
    let (_server, endpoint) = s3s(&sandbox);
    // It cannot list uploads that are under way.
    there_and_back(&endpoint, false);
    config(&sandbox, &endpoint, "");
    let wrong = sandbox.read("ops.toml").replace("secret_key = \"secret\"", "secret_key = \"another\"");
    sandbox.write("ops.toml", wrong);
    let said = sandbox.expect(2, "backup", &["list", "--remote"]);
    assert!(said.stderr.contains("403") && said.stderr.contains("look at access_key"), "{}", said.stderr);
}

#[test]
fn a_server_with_a_certificate_of_ones_own_is_trusted_by_its_authority_alone() {
    let sandbox = Sandbox::new();
    let tls = authority(&sandbox.outside("tls"));
    let other = authority(&sandbox.outside("other"));
    let (_server, endpoint) = moto(&sandbox, Some(&tls));
    assert!(endpoint.starts_with("https://"), "{endpoint}");
    sandbox.write("memory/notes.md", "small\n");
    let trusting = |ca: &Path| config(&sandbox, &endpoint, &format!("ca_file = \"{}\"\n", ca.display()));
    trusting(&tls.authority);
    let said = at(Some(0), &sandbox, "2026-11-01T03:00:00Z", &[], None);
    assert!(said.contains("1 archive copied to s3://backups/quiet/"), "{said}");
    // Another authority, the public ones, and a file that is none.
    trusting(&other.authority);
    let said = at(Some(1), &sandbox, "2026-11-02T03:00:00Z", &[], None);
    assert!(
        said.contains("certificate") && said.contains("it is safe here")
            || said.contains("nothing was copied"),
        "{said}"
    );
    config(&sandbox, &endpoint, "");
    let said = at(Some(2), &sandbox, "2026-11-02T03:00:00Z", &["list", "--remote"], None);
    assert!(said.contains("certificate") && said.contains("ca_file"), "{said}");
    let empty = sandbox.write("no-certificate.pem", "nothing\n");
    trusting(&empty);
    let said = at(Some(3), &sandbox, "2026-11-02T03:00:00Z", &["list", "--remote"], None);
    assert!(said.contains("no-certificate.pem"), "{said}");
    trusting(&tls.authority);
    let said = at(Some(0), &sandbox, "2026-11-02T03:00:00Z", &["copy"], None);
    assert!(said.contains("1 archive copied"), "{said}");
}
