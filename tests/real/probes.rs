//! Checks that ask elsewhere, beside those they were made for: Nagios plugins, node_exporter, systemd.

use crate::peers::{Running, peer, wait_long};
use crate::room::Room;
use crate::sandbox::{Sandbox, said};
use serde_json::Value;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

/// A home with one service that nobody starts, and these checks.
fn home(checks: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", format!("[service.bot]\ncommand = [\"bot\"]\n{checks}"));
    sandbox
}

#[track_caller]
fn finding(report: &str, check: &str) -> Value {
    let report: Value = serde_json::from_str(report).unwrap_or_else(|error| panic!("{error}: {report}"));
    report["findings"].as_array().unwrap().iter().find(|finding| finding["check"] == check).unwrap().clone()
}

fn metric(finding: &Value, label: &str) -> Value {
    let metrics = finding["metrics"].as_array().unwrap();
    metrics.iter().find(|metric| metric["label"] == label).unwrap_or_else(|| panic!("{finding}")).clone()
}

#[test]
fn real_plugins_are_asked_and_their_numbers_taken_over() {
    peer("check_disk", "monitoring-plugins-basic");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sandbox = home(&format!(
        "[check.disk]\nkind = \"command\"\ncommand = [\"check_disk\", \"-w\", \"1\", \"-c\", \"0\", \"-p\", \"/\"]\n\
         [check.procs]\nkind = \"command\"\ncommand = [\"check_procs\", \"-w\", \"0\"]\n\
         [check.dummy]\nkind = \"command\"\ncommand = [\"check_dummy\", \"2\", \"all is lost\"]\n\
         [check.tcp]\nkind = \"command\"\ncommand = [\"check_tcp\", \"-H\", \"127.0.0.1\", \"-p\", \"{port}\"]\n\
         [check.usage]\nkind = \"command\"\ncommand = [\"check_disk\", \"--nonsense\"]\n"
    ));
    let report = sandbox.expect(2, "health-check", &["--json"]).stdout;
    let disk = finding(&report, "disk");
    assert_eq!((&disk["state"], &disk["metrics"][0]["unit"]), (&"ok".into(), &"B".into()), "{disk}");
    assert!(disk["metrics"][0]["max"].as_f64().unwrap() > 1e8, "{disk}");
    let procs = finding(&report, "procs");
    assert!(procs["state"] == "warning" && metric(&procs, "procs")["value"].as_f64() > Some(0.0), "{procs}");
    assert_eq!(finding(&report, "dummy")["state"], "critical");
    assert!(finding(&report, "dummy")["summary"].as_str().unwrap().contains("all is lost"));
    let time = metric(&finding(&report, "tcp"), "time");
    assert_eq!((&time["unit"], &time["min"]), (&"s".into(), &0.0.into()), "{time}");
    assert_eq!(finding(&report, "usage")["state"], "unknown");
}

#[test]
fn the_metrics_of_a_real_exporter_are_understood() {
    let exporter = peer("prometheus-node-exporter", "prometheus-node-exporter");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _exporter = Running::start(
        Command::new(exporter).arg(format!("--web.listen-address=127.0.0.1:{port}")).stderr(Stdio::null()),
    );
    wait_long(30, "the exporter listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let check = |name: &str, keys: &str| {
        format!("[check.{name}]\nkind = \"metric\"\nurl = \"http://127.0.0.1:{port}/metrics\"\n{keys}\n")
    };
    let sandbox = home(&[
        check("idle", "metric = \"node_cpu_seconds_total\"\nlabels = { mode = \"idle\" }\naggregate = \"sum\"\nper = \"1h\""),
        check("cores", "metric = \"node_cpu_seconds_total\"\nlabels = { mode = \"idle\" }\naggregate = \"count\"\ncrit = \"1:\""),
        check("built", "metric = \"node_exporter_build_info\"\nequals = 1"),
        check("memory", "metric = \"node_memory_MemTotal_bytes\"\nunit = \"B\"\ncrit = 1"),
        check("many", "metric = \"node_cpu_seconds_total\""),
        check("none", "metric = \"node_nothing\""),
    ]
    .concat());
    let report = sandbox.expect(2, "health-check", &["--json"]).stdout;
    for (name, state) in [
        ("idle", "ok"),
        ("cores", "ok"),
        ("built", "ok"),
        ("memory", "critical"),
        ("many", "unknown"),
        ("none", "unknown"),
    ] {
        assert_eq!(finding(&report, name)["state"], state, "{report}");
    }
    assert!(
        finding(&report, "none")["summary"] == "there is no node_nothing",
        "every line is understood: {report}"
    );
}

const SERVICES: &str = r#"
export XDG_RUNTIME_DIR=/run/user/0 XDG_CONFIG_HOME=/run/config
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/user/0 /run/config/systemd/user
cd /run/config/systemd/user
printf '[Service]\nExecStart=/bin/sleep 600\n' >good.service
printf '[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=3\n[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=50ms\n' >bad.service
printf '[Service]\nType=oneshot\nExecStart=/bin/sleep 600\n' >slow.service
setsid /lib/systemd/systemd --user </dev/null >/run/log 2>&1 &
"#;

#[test]
fn a_real_systemd_tells_of_its_units() {
    peer("systemctl", "systemd");
    let room = Room::new(SERVICES);
    let systemctl = |words: &str| {
        room.shell(&format!("XDG_RUNTIME_DIR=/run/user/0 systemctl --user --no-pager {words} 2>&1 || true"))
    };
    wait_long(30, "systemd answers", || systemctl("is-system-running").contains("ing"));
    systemctl("start good.service");
    systemctl("start bad.service");
    systemctl("start --no-block slow.service");
    wait_long(30, "bad gave up", || systemctl("is-active bad.service").contains("failed"));
    let check =
        |name: &str, keys: &str| format!("[check.{name}]\nkind = \"systemd_units\"\nuser = true\n{keys}\n");
    room.sandbox.write(
        "ops.toml",
        [
            "[service.bot]\ncommand = [\"bot\"]\n".to_owned(),
            check("good", "units = [\"good\"]"),
            check("bad", "units = [\"good\", \"bad.service\"]"),
            check("slow", "units = [\"slow\"]"),
            check("absent", "units = [\"absent\"]"),
            check("failed", "units = [\"good\"]\nfailed = true"),
        ]
        .concat(),
    );
    let report = said(room.program("health-check").arg("--json").output().unwrap());
    for (name, state, part) in [
        ("good", "ok", "1 unit active"),
        ("bad", "critical", "bad.service: failed (failed, exit-code)"),
        ("slow", "warning", "slow: activating (start)"),
        ("absent", "critical", "absent: there is no such unit"),
        ("failed", "critical", "1 other unit failed: bad.service"),
    ] {
        let found = finding(&report.stdout, name);
        let summary = found["summary"].as_str().unwrap();
        assert!(found["state"] == state && summary.contains(part), "{found}");
    }
    assert_eq!(metric(&finding(&report.stdout, "bad"), "restarts_bad_service")["value"], 3.0);
}
