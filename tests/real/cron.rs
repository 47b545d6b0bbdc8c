//! A real cron, with its bare environment, runs what `ops cron-install` wrote.

use crate::peers::{peer, wait_long};
use crate::room::Room;

/// Lines as people have them: no block of ours may touch one of them.
const FOREIGN: &str = "# my own jobs\nMAILTO=\"\"\n\n17 3 * * *\t/usr/bin/true  # tab, and two spaces \n@reboot echo 'it''s up' > /dev/null\n0 4 * * 1 date +\\%F > /dev/null\n";

const EVERY_MINUTE: &str = r#"
[check.disk]
warn = "1MB"
crit = "1KB"
[alerts.desktop]
enabled = false
[schedule]
alert = "* * * * *"
rotate_logs = "* * * * *"
backup = "* * * * *"
dashboard = "* * * * *"
"#;

/// A private spool, and nothing of the machine's own jobs.
const SPOOL: &str = r"
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/spool/cron
mkdir /var/spool/cron/crontabs
chgrp crontab /var/spool/cron/crontabs
chmod 1730 /var/spool/cron/crontabs
mkdir -p /etc/cron.d
mount -t tmpfs tmpfs /etc/cron.d
if [ -e /etc/crontab ]; then mount --bind /dev/null /etc/crontab; fi
";

#[test]
fn a_real_cron_runs_every_job() {
    let cron = peer("cron", "cron");
    let room = Room::new(SPOOL);
    room.sandbox.write("ops.toml", EVERY_MINUTE);
    let foreign = room.sandbox.write("foreign", FOREIGN);
    room.shell("crontab \"$HOME_FOLDER/foreign\"; rm \"$HOME_FOLDER/foreign\"");
    assert!(!foreign.exists());

    room.expect(0, "ops", &["start"]);
    let first = room.agent();
    room.shell(&format!("kill -9 {first}"));
    assert_eq!(room.run("health-check", &["--only", "process"]).code, 2, "the agent is dead");

    // Under the name it has when it is installed, and in the user's crontab.
    room.expect(0, "ops", &["cron-install"]);
    let installed = room.shell("crontab -l");
    assert!(installed.starts_with(FOREIGN), "{installed}");
    assert_eq!(installed.matches("* * * * * ").count(), 4, "{installed}");

    // Most crons take % for the end of a line.
    let awkward = room.path("100% it's mine");
    std::fs::create_dir(&awkward).unwrap();
    std::fs::write(awkward.join("ops.toml"), EVERY_MINUTE).unwrap();
    let inside = format!("{}/100% it's mine", room.home.display());
    room.expect(0, "ops", &["cron-install", "--home", &inside]);

    // From the start of a minute that cron sees.
    room.shell(&format!("setsid {} -f -L 15 </dev/null >/dev/null 2>&1 &", cron.display()));
    wait_long(150, "cron made the page", || room.path("logs/dashboard.html").exists());
    wait_long(150, "cron made a backup", || room.path("backups/latest").exists());
    wait_long(150, "cron rotated the logs", || room.path("logs/rotation.log").exists());
    wait_long(150, "cron restarted the agent", || room.run("health-check", &["--only", "process"]).code == 0);
    // It runs a moment before it says so itself.
    wait_long(20, "its heart beats", || room.agent() != first);
    wait_long(150, "somebody was told", || room.path("logs/alerts.log").exists());
    let told = room.sandbox.read("logs/alerts.log");
    assert!(told.contains("[CRITICAL]"), "{told}");

    room.shell("kill \"$(cat /run/crond.pid)\"");
    // What the jobs print is a hint of trouble that an operator would read.
    let printed = std::fs::read_to_string(room.path("logs/cron.log")).unwrap_or_default();
    for word in ["not found", "No such file", "rror:", "panicked", "unexpected argument", "hint:"] {
        assert!(!printed.contains(word), "{printed}");
    }
    let page = room.sandbox.read("logs/dashboard.html");
    assert!(page.trim_end().ends_with("</html>"));

    wait_long(150, "cron made the other page", || awkward.join("logs/dashboard.html").exists());
    room.expect(0, "ops", &["cron-uninstall", "--home", &inside]);
    room.expect(0, "ops", &["cron-uninstall"]);
    assert_eq!(room.shell("crontab -l"), FOREIGN);
    room.expect(0, "ops", &["stop"]);
}
