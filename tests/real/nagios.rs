//! Nagios Core runs our plugin as a service check; what it made of state, text and performance data
//! is read from its own status file.

use crate::peers::{Running, peer, wait_long};
use crate::sandbox::{Sandbox, built};
use std::fs;
use std::process::{Command, Stdio};

/// The block of a service in `status.dat`, as `key=value` lines.
fn service(status: &str, name: &str) -> Option<String> {
    let block = status
        .split("servicestatus {")
        .find(|block| block.contains(&format!("service_description={name}\n")))?;
    Some(block.split("\n\t}").next().unwrap_or(block).to_owned())
}

fn value<'a>(block: &'a str, key: &str) -> &'a str {
    let line = block.lines().find_map(|line| line.trim().strip_prefix(&format!("{key}=")));
    line.unwrap_or_else(|| panic!("no {key} in {block}"))
}

#[test]
fn nagios_runs_the_plugin_and_understands_it() {
    let sandbox = Sandbox::new();
    let home = sandbox.home.display().to_string();
    sandbox.write("logs/bot.log", "fine\n");
    sandbox.write(
        "ops.toml",
        "[service.bot]\ncommand = [\"bot\"]\n[check.disk]\nkind = \"disk\"\nwarn = \"1B\"\ncrit = \"1B\"\n\
         [check.errors]\nkind = \"log_errors\"\npaths = [\"logs/bot.log\"]\nwarn = 2\ncrit = 5\n",
    );
    let folder = sandbox.outside("nagios");
    let at = |name: &str| folder.join(name).display().to_string();
    for name in ["var", "rw", "results", "archives"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    fs::write(
        folder.join("objects.cfg"),
        format!(
            "define command {{\n command_name agent\n command_line {} --home {home} $ARG1$\n}}\n\
             define command {{\n command_name nothing\n command_line /bin/true\n}}\n\
             define timeperiod {{\n timeperiod_name always\n alias always\n \
             monday 00:00-24:00\n tuesday 00:00-24:00\n wednesday 00:00-24:00\n thursday 00:00-24:00\n \
             friday 00:00-24:00\n saturday 00:00-24:00\n sunday 00:00-24:00\n}}\n\
             define contact {{\n contact_name me\n host_notifications_enabled 0\n service_notifications_enabled 0\n \
             host_notification_period always\n service_notification_period always\n \
             host_notification_commands nothing\n service_notification_commands nothing\n}}\n\
             define host {{\n host_name here\n address 127.0.0.1\n check_command nothing\n check_interval 60\n \
             max_check_attempts 1\n check_period always\n contacts me\n}}\n\
             define service {{\n host_name here\n service_description all\n check_command agent!\n \
             check_interval 1\n retry_interval 1\n max_check_attempts 1\n check_period always\n contacts me\n}}\n\
             define service {{\n host_name here\n service_description disk\n check_command agent!--only disk -q\n \
             check_interval 1\n retry_interval 1\n max_check_attempts 1\n check_period always\n contacts me\n}}\n\
             define service {{\n host_name here\n service_description broken\n check_command agent!--no-such-option\n \
             check_interval 1\n retry_interval 1\n max_check_attempts 1\n check_period always\n contacts me\n}}\n",
            built("health-check").display()
        ),
    )
    .unwrap();
    fs::write(
        folder.join("nagios.cfg"),
        format!(
            "log_file={}\ncfg_file={}\nobject_cache_file={}\nprecached_object_file={}\nstatus_file={}\n\
             status_update_interval=1\ntemp_file={}\ntemp_path={}\ncheck_result_path={}\nlock_file={}\n\
             command_file={}\nquery_socket={}\nlog_archive_path={}\nstate_retention_file={}\n\
             nagios_user=root\nnagios_group=root\ninterval_length=1\nuse_syslog=0\nevent_broker_options=0\n\
             check_workers=1\nenable_notifications=0\nexecute_service_checks=1\n\
             illegal_macro_output_chars=`~$&|'\"<>\n",
            at("nagios.log"),
            at("objects.cfg"),
            at("var/objects.cache"),
            at("var/objects.precache"),
            at("var/status.dat"),
            at("var/temp"),
            at("var"),
            at("results"),
            at("var/lock"),
            at("rw/nagios.cmd"),
            at("rw/nagios.qh"),
            at("archives"),
            at("var/retention.dat"),
        ),
    )
    .unwrap();
    let nagios = peer("nagios4", "nagios4-core");
    let config = folder.join("nagios.cfg");
    crate::peers::output(Command::new(&nagios).arg("-v").arg(&config));
    let running = Running::start(
        Command::new(&nagios).arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()),
    );
    let seen = |name: &str, state: &str| {
        let mut found = None;
        wait_long(60, &format!("{name} is in state {state}"), || {
            let status = fs::read_to_string(folder.join("var/status.dat")).unwrap_or_default();
            found = service(&status, name).filter(|block| {
                value(block, "has_been_checked") == "1" && value(block, "current_state") == state
            });
            found.is_some()
        });
        found.unwrap()
    };

    let all = seen("all", "0");
    let first = value(&all, "plugin_output");
    assert!(first.starts_with("AGENT OK - all is well (0 critical, 0 warning, 2 ok)"), "{first}");
    let long = value(&all, "long_plugin_output");
    assert!(long.contains("[OK] disk: ") && long.contains("\\n[OK] errors: "), "{long}");
    let data = value(&all, "performance_data");
    assert!(data.starts_with("'disk_free'=") && data.contains(" 'errors'=0;2;5;0"), "{data}");

    let disk = seen("disk", "0");
    assert_eq!(value(&disk, "long_plugin_output"), "", "{disk}");
    let broken = seen("broken", "3");
    // stdout is empty: Nagios shows that, and Unknown.
    assert!(value(&broken, "plugin_output").contains("No output on stdout"), "{broken}");

    // Lines that try to smuggle in perfdata, more lines and macros.
    sandbox.write("logs/bot.log", "ERROR | 'x'=1 $HOSTNAME$ \x1b[31m<b>\n".repeat(4));
    let all = seen("all", "1");
    let first = value(&all, "plugin_output");
    assert!(first.starts_with("AGENT WARNING - errors: 4 errors in the last 4 lines"), "{first}");
    assert!(!first.contains(['|', '\x1b']), "{first}");
    assert!(!value(&all, "performance_data").contains("'x'=1"), "{all}");
    sandbox.write("logs/bot.log", "FATAL\n".repeat(6));
    assert!(value(&seen("all", "2"), "plugin_output").starts_with("AGENT CRITICAL"));
    drop(running);
}
