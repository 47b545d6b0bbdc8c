//! Causes in what is to be done regularly: the crontab, alerts, backups.

use super::*;

#[test]
fn what_cron_would_not_have_is_told() {
    let sandbox = home("");
    let with = sandbox.read("ops.toml") + "env = { KEY = \"${ONLY_HERE}\" }\n";
    sandbox.write("ops.toml", with);
    let output = sandbox.program("ops").env("ONLY_HERE", "x1y2z3").args(["troubleshoot", "--json"]).output();
    let found = cause(&said(output.unwrap()), "environment_of_cron", "warning");
    assert!(found["cause"].as_str().unwrap().contains("${ONLY_HERE}"), "{found}");
    let with = sandbox.read("ops.toml").replace("[agent]", "[agent]\nenv_file = \".env\"");
    sandbox.write("ops.toml", with);
    let env = sandbox.write(".env", "ONLY_HERE=x1y2z3\nEMPTY=\n");
    fs::set_permissions(env, fs::Permissions::from_mode(0o644)).unwrap();
    let found = ids(&sandbox);
    assert!(!found.contains(&"environment_of_cron".to_owned()), "{found:?}");
    expect(&sandbox, "environment_empty", "warning");
    let found = expect(&sandbox, "secrets_open", "warning");
    assert!(found["remedy"][0].as_str().unwrap().starts_with("chmod 600 "), "{found}");
}

#[test]
fn a_crontab_without_our_lines_and_jobs_that_did_not_run() {
    let sandbox = home("recover = false\n");
    expect(&sandbox, "no_schedule", "warning");
    expect(&sandbox, "not_started_at_boot", "warning");
    sandbox.expect(0, "ops", &["cron-install"]);
    let found = ids(&sandbox);
    assert!(
        !found.contains(&"no_schedule".to_owned()) && found.contains(&"not_started_at_boot".to_owned()),
        "{found:?}"
    );
    let crontab = sandbox.outside("spool").join("crontab");
    let text = fs::read_to_string(&crontab).unwrap();
    fs::write(&crontab, format!("{text}@reboot /opt/ops start --home {}\n", sandbox.home.display())).unwrap();
    assert!(!ids(&sandbox).contains(&"not_started_at_boot".to_owned()));
    fs::write(&crontab, text.replace("*/5", "*/6")).unwrap();
    expect(&sandbox, "schedule_changed", "warning");
    fs::write(&crontab, "").unwrap();
    let found = expect(&sandbox, "schedule_gone", "warning");
    assert_eq!(found["remedy"][0], "ops cron-install");
    fs::write(&crontab, &text).unwrap();
    // An hour on, and nothing ran. Whether cron runs is this machine's matter.
    let now = (Utc::now() + TimeDelta::hours(1)).to_rfc3339();
    let output =
        sandbox.program("ops").env("OPS_NOW", now).args(["troubleshoot", "--json"]).output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let late = document["causes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|cause| ["jobs_late", "cron_not_running"].iter().any(|id| cause["id"] == *id));
    assert!(late.unwrap()["evidence"].to_string().contains("alert was due"), "{document:#}");
    sandbox.fake("crontab", "echo cannot open the spool >&2\nexit 2\n");
    expect(&sandbox, "could_not_tell", "unknown");
    // Without the program there is no cron.
    let sandbox = home("");
    let nowhere = sandbox.outside("nowhere");
    let output =
        sandbox.program("ops").env("PATH", nowhere).args(["troubleshoot", "--json"]).output().unwrap();
    cause(&said(output), "cron_missing", "warning");
}

#[test]
fn an_alert_by_hand_is_no_schedule() {
    let sandbox = home("");
    let run = |minutes: i64, program: &str, args: &[&str]| {
        let now = (Utc::now() + TimeDelta::minutes(minutes)).to_rfc3339();
        said(sandbox.program(program).env("OPS_NOW", now).args(args).output().unwrap())
    };
    for minutes in [0, 1, 2] {
        let ran = run(minutes, "ops", &["alert"]);
        assert!(ran.code < 3, "{ran:?}");
    }
    at(&sandbox, TimeDelta::minutes(2), "no_schedule", "warning");
    // Whatever runs it again and again is one.
    for minutes in [7, 12, 17] {
        run(minutes, "alert", &["-q"]);
    }
    let looked = run(18, "ops", &["troubleshoot", "--json"]);
    assert!(looked.code < 3 && !looked.stdout.contains("no_schedule"), "{looked:?}");
}

#[test]
fn that_no_cron_runs_is_told_at_once() {
    let sandbox = home("");
    let said = sandbox.expect(0, "ops", &["cron-install"]);
    // Whether one does is this machine's matter: both say what is so.
    let told = agent_ops::schedule::cron_runs() == Some(false);
    assert_eq!(said.stderr.contains("no cron runs here"), told, "{said:?}");
    assert_eq!(ids(&sandbox).contains(&"cron_not_running".to_owned()), told);
}

#[test]
fn alerts_that_reach_nobody() {
    let sandbox = home("");
    let toml = sandbox.read("ops.toml");
    sandbox.write("ops.toml", toml.replace("[alerts.command]\nrun = [\"true\"]\n", ""));
    expect(&sandbox, "no_channel", "warning");
    let desktop =
        toml.replace("[alerts.command]\nrun = [\"true\"]\n", "").replace("enabled = false", "enabled = true");
    sandbox.write("ops.toml", desktop);
    let session = Path::new(&format!("/run/user/{}/bus", rustix::process::geteuid().as_raw())).exists();
    assert_eq!(ids(&sandbox).contains(&"no_channel".to_owned()), cfg!(target_os = "linux") && !session);
    // A port where nobody listens.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mail = format!(
        "[alerts.email]\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\n"
    );
    sandbox.write("ops.toml", toml.replace("run = [\"true\"]", "run = [\"false\"]") + &mail);
    let found = expect(&sandbox, "mail_server", "warning");
    assert!(found["cause"].as_str().unwrap().contains(&format!("127.0.0.1:{port}")), "{found}");
    // What was not delivered is known from the journal.
    sandbox.write(
        "ops.toml",
        sandbox.read("ops.toml")
            + "[check.process]\nkind = \"process\"\nservice = \"bot\"\n[alerts]\nrecover = false\n",
    );
    sandbox.run("alert", &[]);
    let found = expect(&sandbox, "delivery_failed", "warning");
    assert!(found["remedy"].to_string().contains("ops alert test"), "{found}");
}

#[test]
fn backups_that_are_none_or_old_or_failed() {
    let sandbox = home("");
    let found = expect(&sandbox, "no_backup", "warning");
    assert_eq!(found["remedy"][0], "ops backup");
    sandbox.expect(0, "ops", &["backup"]);
    assert!(!ids(&sandbox).contains(&"no_backup".to_owned()));
    at(&sandbox, TimeDelta::days(5), "backup_old", "warning");
    // The folder it should go to is a file now.
    fs::rename(sandbox.path("backups"), sandbox.path("elsewhere")).unwrap();
    let found = expect(&sandbox, "backups_gone", "warning");
    assert!(found["advice"].as_str().unwrap().contains("mounted"), "{found}");
    sandbox.write("backups", "");
    let failed = sandbox.run("ops", &["backup"]);
    assert!(failed.code >= 2, "{failed:?}");
    fs::remove_file(sandbox.path("backups")).unwrap();
    fs::rename(sandbox.path("elsewhere"), sandbox.path("backups")).unwrap();
    expect(&sandbox, "backup_failed", "warning");
}
