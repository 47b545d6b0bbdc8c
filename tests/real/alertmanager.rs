//! A real Alertmanager: it receives what is open, groups it, silences it, and resolves it.

use crate::peers::{Running, Sink, output, peer, wait_long};
use crate::sandbox::Sandbox;
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};

struct Alertmanager {
    url: String,
    sink: Sink,
    _running: Running,
}

impl Alertmanager {
    fn start(sandbox: &Sandbox) -> Alertmanager {
        let folder = sandbox.outside("alertmanager");
        let sink = Sink::start();
        let config = folder.join("alertmanager.yml");
        fs::write(
            &config,
            format!(
                "route:\n  receiver: sink\n  group_by: [agent]\n  group_wait: 1s\n  group_interval: 1s\n  \
                 repeat_interval: 1h\nreceivers:\n- name: sink\n  webhook_configs:\n  - url: {}\n    \
                 send_resolved: true\n",
                sink.url
            ),
        )
        .unwrap();
        output(Command::new(peer("amtool", "prometheus-alertmanager")).arg("check-config").arg(&config));
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let running = Running::start(
            Command::new(peer("prometheus-alertmanager", "prometheus-alertmanager"))
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.path={}", folder.join("data").display()))
                .arg(format!("--web.listen-address={address}"))
                // No gossip with others.
                .arg("--cluster.listen-address=")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(fs::File::create(folder.join("errors")).unwrap()),
        );
        let url = format!("http://{address}");
        wait_long(30, "the Alertmanager is ready", || ureq::get(format!("{url}/-/ready")).call().is_ok());
        Alertmanager { url, sink, _running: running }
    }

    /// The alerts it has, by check.
    fn alerts(&self) -> Vec<Value> {
        let text =
            ureq::get(format!("{}/api/v2/alerts", self.url)).call().unwrap().body_mut().read_to_string();
        let mut alerts: Vec<Value> = serde_json::from_str(&text.unwrap()).unwrap();
        alerts.sort_by_key(|alert| alert["labels"]["check"].as_str().unwrap().to_owned());
        alerts
    }
}

/// Two checks of `data/*.log`: `errors` and `size`.
fn home(manager: &Alertmanager, sandbox: &Sandbox) {
    sandbox.write(
        "ops.toml",
        format!(
            "[agent]\nname = \"mama\"\npreset = \"none\"\n[logs]\ninclude = [\"data/*.log\"]\n\
             [check.size]\nkind = \"log_size\"\nwarn = \"1KB\"\ncrit = \"10KB\"\nalert_critical = \"disk_critical\"\n\
             [check.errors]\nkind = \"log_errors\"\npaths = [\"data/*.log\"]\nwarn = 1\n\
             [alerts]\nrunbooks = \"https://wiki.example/ops\"\n[alerts.desktop]\nenabled = false\n\
             [alerts.alertmanager]\nurl = \"{}\"\n",
            manager.url
        ),
    );
}

#[test]
fn it_receives_groups_silences_and_resolves() {
    let sandbox = Sandbox::new();
    let manager = Alertmanager::start(&sandbox);
    home(&manager, &sandbox);
    sandbox.write("data/a.log", "an error\n".repeat(2000));
    sandbox.expect(0, "alert", &[]);

    let mut notified: Vec<Value> = Vec::new();
    wait_long(30, "it has told of both", || {
        notified.extend(manager.sink.taken());
        notified.iter().any(|one| one["alerts"].as_array().is_some_and(|alerts| alerts.len() == 2))
    });
    assert_eq!(notified.len(), 1, "both in one message: {notified:?}");
    assert_eq!(
        (&notified[0]["status"], &notified[0]["groupLabels"]["agent"]),
        (&"firing".into(), &"mama".into())
    );
    let alerts = manager.alerts();
    let labels = &alerts[1]["labels"];
    assert_eq!((&labels["alertname"], &labels["severity"]), (&"disk_critical".into(), &"critical".into()));
    assert_eq!(alerts[1]["annotations"]["runbook_url"], "https://wiki.example/ops/disk_critical.md");
    let began = alerts[1]["startsAt"].clone();

    // Told again it is the same alert, and ends later.
    sandbox.expect(0, "alert", &[]);
    let again = manager.alerts();
    assert_eq!((again.len(), &again[1]["startsAt"]), (2, &began));
    assert!(again[1]["endsAt"].as_str() > alerts[1]["endsAt"].as_str());
    assert_eq!(again[1]["fingerprint"], alerts[1]["fingerprint"]);

    // Silenced there, it is suppressed there.
    let now = chrono::Utc::now();
    let silence = json!({
        "matchers": [{"name": "check", "value": "size", "isRegex": false, "isEqual": true}],
        "startsAt": now.to_rfc3339(),
        "endsAt": (now + chrono::TimeDelta::hours(1)).to_rfc3339(),
        "createdBy": "a test",
        "comment": "a test",
    });
    ureq::post(format!("{}/api/v2/silences", manager.url)).send_json(&silence).unwrap();
    sandbox.expect(0, "alert", &[]);
    wait_long(30, "it is suppressed", || manager.alerts()[1]["status"]["state"] == "suppressed");
    assert_eq!(manager.alerts()[0]["status"]["state"], "active");

    // Well again, both end at once, and people hear of the one that is not silenced.
    sandbox.write("data/a.log", "");
    sandbox.expect(0, "alert", &[]);
    assert!(manager.alerts().is_empty(), "{:?}", manager.alerts());
    wait_long(30, "it has told of the end", || {
        manager
            .sink
            .taken()
            .iter()
            .any(|one| one["status"] == "resolved" && one["alerts"][0]["labels"]["check"] == "errors")
    });
    // A test alert arrives as well.
    sandbox.expect(0, "alert", &["test"]);
}

#[test]
fn one_that_refuses_or_is_away_is_said_and_told_all_later() {
    let sandbox = Sandbox::new();
    let manager = Alertmanager::start(&sandbox);
    home(&manager, &sandbox);
    let text = sandbox.read("ops.toml");
    sandbox.write("data/a.log", "an error\n".repeat(2000));
    sandbox.write("ops.toml", text.replace(&manager.url, "http://127.0.0.1:1"));
    let said = sandbox.expect(2, "alert", &[]);
    assert!(said.stderr.contains("alertmanager: "), "{}", said.stderr);
    sandbox.write("ops.toml", text);
    sandbox.expect(0, "alert", &[]);
    assert_eq!(manager.alerts().len(), 2);
}
