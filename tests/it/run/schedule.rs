//! The jobs of the schedule in a supervisor.

use super::*;

#[test]
fn the_schedule_runs_what_is_due_once_at_a_time() {
    let schedule = "[schedule]\nbackup = \"30 9 * * *\"\nalert = \"\"\nrotate_logs = \"@reboot\"\ndrill = \"\"\n\
                    dashboard = \"31 9 * * *\"\n[backup]\ninclude = [\"memory/**\"]\n";
    let sandbox = with_scripts(&[("bot", "while :; do sleep 0.05; done")], schedule);
    sandbox.write("memory/a", "saved");
    let supervisor = Supervisor::begin_at(&sandbox, &["--schedule"], Some("2026-11-21T09:29:58.500Z"));
    wait_until("the backup is made", || sandbox.path("backups/latest").exists());
    wait_until("the logs were rotated", || sandbox.path("logs/rotation.log").exists());
    assert!(!sandbox.path("logs/dashboard.html").exists(), "it is not due");
    supervisor.stop();

    // A time that cron would not understand.
    let text = sandbox.read("ops.toml").replace("30 9 * * *", "30 25 * * *");
    sandbox.write("ops.toml", text);
    let said = Supervisor::begin(&sandbox, &["--schedule"]).ends(3);
    assert!(said.stderr.contains("schedule.backup"), "{}", said.stderr);
}

#[test]
fn people_are_told_that_it_gave_up_although_the_schedule_ends_with_it() {
    let quiet = "[schedule]\nbackup = \"\"\nalert = \"0 0 1 1 *\"\nrotate_logs = \"\"\ndrill = \"\"\ndashboard = \"\"\n\
                 report = \"\"\n[alerts.command]\nrun = [\"true\"]\n[alerts]\nmax_restarts_per_hour = 1\n\
                 [check.process]\nkind = \"process\"\nservice = \"bot\"\n";
    let sandbox = with_scripts(&[("bot", "echo run >> runs; exit 7")], quiet);
    let text = sandbox.read("ops.toml").replace("[alerts.desktop]\nenabled = false\n", "");
    sandbox.write("ops.toml", text);
    Supervisor::begin(&sandbox, &["--schedule"]).ends(2);
    let told = fs::read_to_string(sandbox.path("logs/alerts.log")).unwrap_or_default();
    assert!(told.contains("[CRITICAL]"), "{told}");
}

#[cfg(target_os = "linux")]
#[test]
fn jobs_that_cron_has_as_well_are_told_of() {
    let sandbox = with_scripts(&[("bot", "while :; do sleep 0.05; done")], "");
    crate::managers::crontab_stand_in(&sandbox);
    sandbox.expect(0, "ops", &["cron-install"]);
    let supervisor = Supervisor::begin(&sandbox, &["--schedule"]);
    supervisor.runs("bot", None);
    assert!(supervisor.stop().stderr.contains("ops cron-uninstall"));
    sandbox.expect(0, "ops", &["cron-uninstall"]);
    let supervisor = Supervisor::begin(&sandbox, &["--schedule"]);
    supervisor.runs("bot", None);
    assert!(!supervisor.stop().stderr.contains("cron-uninstall"));
}
