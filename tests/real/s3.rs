//! Copies in a bucket of moto, which speaks nearly all of S3: what we ask must be what S3 means.

use crate::peers::Running;
use crate::sandbox::{Sandbox, wait_until};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

/// A moto server with the bucket `backups`, and its address.
fn moto(sandbox: &Sandbox) -> (Running, String) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/real/moto/bin/moto_server");
    assert!(program.is_file(), "there is no {}: `.ci/run` installs it", program.display());
    let said = sandbox.outside("moto").join("said");
    let mut command = Command::new(program);
    command.args(["-H", "127.0.0.1", "-p", "0"]).stdout(Stdio::null()).stderr(File::create(&said).unwrap());
    let server = Running::start(&mut command);
    let address = || {
        let text = fs::read_to_string(&said).unwrap();
        let (_, rest) = text.split_once("Running on ")?;
        let (address, _) = rest.split_once('\n')?;
        Some(address.trim().to_owned())
    };
    wait_until("moto listens", || address().is_some());
    let address = address().unwrap();
    ureq::put(format!("{address}/backups")).send_empty().unwrap();
    (server, address)
}

fn config(sandbox: &Sandbox, endpoint: &str) {
    sandbox.write(
        "ops.toml",
        format!(
            "[agent]\nname = \"quiet\"\npreset = \"none\"\n[backup]\ninclude = [\"memory/**\"]\n[backup.s3]\n\
             endpoint = \"{endpoint}\"\nbucket = \"backups\"\naccess_key = \"AKIATEST\"\nsecret_key = \"secret\"\n\
             keep = {{ all = \"1d\", weekly = \"1d\", monthly = \"1d\" }}\n"
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

#[test]
fn copies_go_to_a_real_s3_server_are_resumed_pruned_and_restored_from_there() {
    let sandbox = Sandbox::new();
    let (_server, endpoint) = moto(&sandbox);
    config(&sandbox, &endpoint);
    sandbox.write("memory/notes.md", "small\n");
    let said = at(Some(0), &sandbox, "2026-11-01T03:00:00Z", &[], None);
    assert!(said.contains("1 archive copied to s3://backups/quiet/"), "{said}");
    // Large enough for three parts, and cut short after the first.
    let mut state = 88_172_645_463_325_252_u64;
    let noise: Vec<u8> = (0..2_150_000)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect();
    sandbox.write("memory/noise", &noise);
    at(None, &sandbox, "2026-11-05T03:00:00Z", &[], Some("part"));
    let said = at(Some(0), &sandbox, "2026-11-05T03:00:00Z", &["copy"], None);
    // What arrived before is not sent again.
    let sent = fs::metadata(sandbox.path("backups/20261105_030000.tar.gz")).unwrap().len() - (8 << 20);
    let list = sandbox.json(0, "backup", &["list", "--remote"]);
    assert_eq!(list["archives"].as_array().unwrap().len(), 1, "the older one was pruned there: {list}");
    assert!(said.contains("pruned there: 20261101_030000.tar.gz"), "{said}");
    let size = agent_ops::base::units::Size(sent).to_string();
    let copied = sandbox.read("logs/backup.log");
    assert!(copied.contains(&format!("{size} sent")), "{size}: {copied}");

    let other = Sandbox::new();
    config(&other, &endpoint);
    other.expect(0, "restore", &["remote:latest", "--yes"]);
    assert!(fs::read(other.path("memory/noise")).unwrap() == noise);
    assert_eq!(other.read("memory/notes.md"), "small\n");
}
