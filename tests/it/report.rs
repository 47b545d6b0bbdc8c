//! `ops report`: what became of the agent, printed and by mail.

use crate::checks::with_checks;
use crate::receiver::{email, mail_server};
use crate::service::{agent_pid, kill, with_agent};

#[test]
fn a_week_of_trouble_is_told() {
    let sandbox = with_agent(&[]);
    sandbox.expect(0, "ops", &["start"]);
    sandbox.expect(0, "backup", &[]);
    sandbox.run("alert", &[]);
    kill(agent_pid(&sandbox));
    sandbox.run("alert", &[]);
    sandbox.run("alert", &[]);
    let report = sandbox.json(0, "ops", &["report"]);
    assert_eq!(report["restarts"][0]["service"], "daemon");
    assert_eq!(report["restarts"][0]["good"], true);
    assert!(report["restarts"][0]["cause"].as_str().unwrap().starts_with("died: "), "{report}");
    let problem = &report["problems"][0];
    assert_eq!((&problem["kind"], &problem["check"]), (&"daemon_critical".into(), &"process".into()));
    assert!(problem["opened"].is_string());
    assert_eq!((&report["made"]["all"], &report["made"]["ok"]), (&1.into(), &1.into()));
    assert_eq!(report["runs"], 3);
    assert_eq!((&report["uptime"]["all"], &report["uptime"]["ok"]), (&3.into(), &2.into()));
    let worst = &report["checks"].as_array().unwrap()[..2];
    assert!(worst.iter().any(|check| check["name"] == "process" && check["ok"] == 2), "{worst:?}");
    assert!(report["messages"]["all"].as_u64().unwrap() >= 1);
    assert_eq!(report["messages"]["all"], report["messages"]["undelivered"], "there is no channel");

    let text = sandbox.expect(0, "ops", &["report"]).stdout;
    for part in [
        "Problems (",
        "daemon_critical (process)",
        "Restarts (1)",
        "daemon: died:",
        "66.66 %",
        "1 made",
        "reached nobody",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Of the last second there is nothing to tell.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let short = sandbox.json(0, "ops", &["report", "--since", "1s"]);
    assert_eq!((&short["runs"], &short["made"]["all"]), (&0.into(), &0.into()));
    sandbox.expect(0, "ops", &["stop"]);
}

#[test]
fn it_goes_by_mail_once_a_week() {
    let (port, mails) = mail_server("250 ok");
    let sandbox = with_checks("[check.disk]\nkind = \"disk\"\nwarn = \"1KB\"\ncrit = \"1\"\n");
    let config = sandbox.read("ops.toml");
    sandbox.write("ops.toml", format!("{config}\n{}", email(port)));
    sandbox.run("health-check", &[]);
    let said = sandbox.expect(0, "ops", &["report", "--email"]);
    assert!(said.stdout.is_empty() && said.stderr.contains("sent to"), "{}", said.stderr);
    let mail = mails.lock().unwrap().join("\n");
    assert!(
        mail.contains("Subject: [") && mail.contains("no problems since") && mail.contains("Auto-Submitted"),
        "{mail}"
    );
    assert!(mail.contains("Objectives"), "{mail}");
    let lines = sandbox.expect(0, "ops", &["cron-install", "--print"]).stdout;
    assert!(
        lines
            .lines()
            .any(|line| line.starts_with("0 9 * * 0 ") && line.contains("ops report --email --quiet")),
        "{lines}"
    );
}

#[test]
fn what_cannot_be_told_or_sent_is_said() {
    let sandbox = with_checks("[check.disk]\nkind = \"disk\"\nwarn = \"1KB\"\ncrit = \"1\"\n");
    let said = sandbox.expect(3, "ops", &["report"]);
    assert!(
        said.stderr.contains("there is no history") && said.stderr.contains("health-check"),
        "{}",
        said.stderr
    );
    sandbox.run("alert", &[]);
    for wrong in ["0s", "36d", "x"] {
        sandbox.expect(3, "ops", &["report", "--since", wrong]);
    }
    let said = sandbox.expect(1, "ops", &["report", "--email"]);
    assert!(said.stdout.contains("Objectives") && said.stderr.contains("[alerts.email]"), "{}", said.stderr);

    let (port, _mails) = mail_server("550 go away");
    let config = sandbox.read("ops.toml");
    sandbox.write("ops.toml", format!("{config}\n{}", email(port)));
    let said = sandbox.expect(2, "ops", &["report", "--email"]);
    assert!(said.stderr.contains("was not sent") && said.stderr.contains("go away"), "{}", said.stderr);
}
