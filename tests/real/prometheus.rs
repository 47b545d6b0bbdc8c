//! `promtool` finds nothing to say about our metrics, and node_exporter serves them from its textfile
//! collector.

use crate::peers::{Running, peer, wait_long};
use crate::sandbox::Sandbox;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

fn home() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("logs/bot.log", "ERROR one\n");
    sandbox.write(
        "ops.toml",
        "[agent]\nname = \"bot\"\n[service.bot]\ncommand = [\"bot\"]\n[check.process]\nkind = \"process\"\nservice = \"bot\"\n\
         [check.disk]\nkind = \"disk\"\nwarn = \"1B\"\ncrit = \"1B\"\n\
         [check.errors]\nkind = \"log_errors\"\npaths = [\"logs/*.log\"]\n",
    );
    sandbox
}

/// What `promtool check metrics` says of a text; nothing, if it is clean.
fn lint(text: &str) -> String {
    let mut child = Command::new(peer("promtool", "prometheus"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(output.status.success(), said.is_empty());
    String::from_utf8_lossy(&said).into_owned()
}

fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

#[test]
fn the_metrics_are_clean() {
    // The test of the test: promtool does complain.
    assert!(lint("# TYPE x counter\nx 1\n").contains("_total"));
    let sandbox = home();
    let file = sandbox.outside("textfile").join("bot.prom");
    sandbox.expect(2, "health-check", &["--prom", file.to_str().unwrap()]);
    assert_eq!(lint(&std::fs::read_to_string(&file).unwrap()), "");
    let said = sandbox.run("dashboard", &["prom"]);
    assert!(said.stdout.contains("agent_ops_service_up"), "{said:?}");
    assert_eq!(lint(&said.stdout), "");
}

#[test]
fn node_exporter_serves_them() {
    let sandbox = home();
    let folder = sandbox.outside("textfile");
    let file = folder.join("bot.prom");
    sandbox.expect(2, "health-check", &["--prom", file.to_str().unwrap()]);
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let _exporter = Running::start(
        Command::new(peer("prometheus-node-exporter", "prometheus-node-exporter"))
            .arg(format!("--web.listen-address={address}"))
            .args(["--collector.disable-defaults", "--collector.textfile"])
            .arg(format!("--collector.textfile.directory={}", folder.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    let mut served = String::new();
    wait_long(20, "node_exporter answers", || {
        served = get(&address, "/metrics").unwrap_or_default();
        served.contains("node_textfile_scrape_error")
    });
    assert!(served.contains("node_textfile_scrape_error 0"), "{served}");
    for sample in [
        "agent_ops_check_state{agent=\"bot\",check=\"process\",kind=\"process\"} 2",
        "agent_ops_check_state{agent=\"bot\",check=\"disk\",kind=\"disk\"} 0",
        "agent_ops_check_value{agent=\"bot\",check=\"errors\",metric=\"errors\"} 1",
        "agent_ops_state{agent=\"bot\"} 2",
    ] {
        assert!(served.contains(sample), "{sample} is missing in\n{served}");
    }
    // Written again and again while it is scraped: never a torn file.
    for _ in 0..20 {
        sandbox.expect(2, "health-check", &["--prom", file.to_str().unwrap()]);
        let served = get(&address, "/metrics").unwrap();
        assert!(served.contains("node_textfile_scrape_error 0"), "{served}");
        assert!(served.contains("agent_ops_state{agent=\"bot\"} 2"), "{served}");
    }
}
