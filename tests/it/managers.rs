//! `ops install` and `uninstall`, and services that a manager runs: with stand-ins of `systemctl` and
//! `launchctl` that read the files and run what is in them. The real systemd: `tests/real/managers.rs`.

use crate::sandbox::{Sandbox, wait_until};
use crate::service::{agent_pid, alive, kill, with_agent};
use agent_ops::base::process::{Process, Signal};
use std::fs;
use std::path::PathBuf;

/// What both stand-ins have: who runs is in `$HOME/manager/UNIT.pid`.
const COMMON: &str = r#"
state=$HOME/manager; mkdir -p "$state"; echo "$*" >>"$state/asked"
runs() { # the pid in a file, if that runs
    [ -f "$1" ] && read -r pid <"$1" && grep -qs '^State:.[^Z]' "/proc/$pid/status" && echo "$pid"
}
# Out of our own process group, which ends with us: unit, stdout, stderr, words.
launch_as() {
    unit=$1 out=$2 err=$3; shift 3; rm -f "$state/$unit.pid"
    setsid sh -c 'echo $$ >"$0"; exec "$@"' "$state/$unit.pid" env -i HOME="$HOME" TZ=UTC "$@" </dev/null >>"$out" 2>>"$err" &
    while [ ! -s "$state/$unit.pid" ]; do sleep 0.01; done
}
end() { # pid file, seconds from TERM to KILL
    pid=$(runs "$1") || return 0
    kill -TERM "$pid"; tenths=$(($2 * 10))
    while runs "$1" >/dev/null; do
        tenths=$((tenths - 1)); [ $tenths -gt 0 ] || kill -KILL "$pid" 2>/dev/null; sleep 0.1
    done
}
"#;

const LAUNCHCTL: &str = r#"
values() { sed -n "/<key>$1</,/<\/${2:-string}>/s:.*<string>\(.*\)</string>.*:\1:p" "$plist" | sed 's/&lt;/</g; s/&gt;/>/g; s/&amp;/\&/g'; }
name=${2##*/}; plist=$(cat "$state/$name.loaded" 2>/dev/null)
launch() {
    set --
    while IFS= read -r word; do set -- "$@" "$word"; done <<WORDS
$(values ProgramArguments array)
WORDS
    cd "$(values WorkingDirectory)" || exit 1
    launch_as "$name" "$(values StandardOutPath)" "$(values StandardErrorPath)" PATH="$(values PATH)" "$@"
}
case $1 in
print)
    case $2 in gui/*/* | system/*) ;; *) exit 0 ;; esac
    [ -n "$plist" ] || { echo "Could not find service \"$name\" in domain" >&2; exit 113; }
    printf '%s = {\n\tpath = %s\n\tenvironment = {\n\t\tpid = 1\n\t}\n' "$2" "$plist"
    if pid=$(runs "$state/$name.pid"); then printf '\tstate = running\n\tpid = %s\n\tlast exit code = (never exited)\n}\n' "$pid"
    else printf '\tstate = not running\n\tlast exit code = 1\n}\n'; fi ;;
bootstrap) plist=$3; name=${3##*/}; name=${name%.plist}
    [ ! -f "$state/$name.disabled" ] || { echo 'Bootstrap failed: 119: Service is disabled' >&2; exit 119; }
    echo "$plist" >"$state/$name.loaded"; ! grep -q RunAtLoad "$plist" || launch ;;
kickstart) launch ;;
bootout) grace=$(sed -n '/ExitTimeOut/{n;s/[^0-9]//g;p}' "$plist"); end "$state/$name.pid" "${grace:-1}"; rm "$state/$name.loaded" ;;
enable) rm -f "$state/$name.disabled" ;;
disable) touch "$state/$name.disabled" ;;
print-disabled)
    cd "$state" && for one in *.disabled; do printf '\t"%s" => disabled\n' "${one%.disabled}"; done ;;
*) echo "launchctl $*?" >&2; exit 64 ;;
esac
"#;

const SYSTEMCTL: &str = r#"
[ "$1 $2" = "--no-pager --user" ] || { echo "systemctl $*?" >&2; exit 64; }
shift 2; [ "$1" != --quiet ] || shift
for unit; do :; done
file=$HOME/.config/systemd/user/$unit
value() { sed -n "s/^$1=//p" "$file" | sed 's/%%/%/g'; }
case "$1 $2" in
"show --property=Version") echo Version=252 ;;
"show --property=MainPID") echo "MainPID=$(runs "$state/$unit.pid" || echo 0)" ;;
"show "*)
    if runs "$state/$unit.pid" >/dev/null; then printf 'ActiveState=active\nSubState=running\nResult=success\nExecMainStatus=0\n'
    else printf 'ActiveState=failed\nSubState=failed\nResult=exit-code\nExecMainStatus=1\n'; fi ;;
"daemon-reload "*) ;;
"reset-failed "*) ;;
"enable "*) [ -f "$file" ] && touch "$state/$unit.enabled" ;;
"disable "*) rm -f "$state/$unit.enabled" ;;
"start "*)
    runs "$state/$unit.pid" >/dev/null && exit 0
    cd "$(value WorkingDirectory)" || exit 1
    eval "set -- $(value ExecStart | sed 's/^://')"
    out=$(value StandardOutput); err=$(value StandardError)
    launch_as "$unit" "${out#append:}" "${err#append:}" "$(value Environment)" "$@" ;;
"restart "*.timer) [ -f "$state/$unit.enabled" ] && touch "$state/$unit.started" ;;
"stop "*.timer) rm -f "$state/$unit.started" ;;
"stop "*) grace=$(value TimeoutStopSec); end "$state/$unit.pid" "${grace%s}" ;;
*) echo "systemctl $*?" >&2; exit 64 ;;
esac
"#;

/// Puts both on PATH.
pub fn stand_in(sandbox: &Sandbox) {
    sandbox.fake("systemctl", &format!("{COMMON}{SYSTEMCTL}"));
    sandbox.fake("launchctl", &format!("{COMMON}{LAUNCHCTL}"));
    sandbox.fake("loginctl", "echo Linger=no");
}

/// A crontab in a file beside the home.
pub fn crontab_stand_in(sandbox: &Sandbox) {
    sandbox.fake(
        "crontab",
        "[ \"$1\" = -l ] || exec cat >\"$HOME/crontab\"\n[ -f \"$HOME/crontab\" ] || { echo 'no crontab for me' >&2; exit 1; }\ncat \"$HOME/crontab\"",
    );
}

/// One manager: its name, and where the file of the service `daemon` is.
struct Stand {
    manager: &'static str,
    sandbox: Sandbox,
}

impl Stand {
    fn each() -> [Stand; 2] {
        ["systemd", "launchd"].map(|manager| {
            let sandbox = with_agent(&[]);
            stand_in(&sandbox);
            Stand { manager, sandbox }
        })
    }

    fn file(&self) -> PathBuf {
        self.outside(match self.manager {
            "systemd" => ".config/systemd/user/agent-ops-agent-daemon.service",
            _ => "Library/LaunchAgents/org.agent-ops.agent.daemon.plist",
        })
    }

    /// Something beside the home: `HOME` of the programs is the folder around it.
    fn outside(&self, name: &str) -> PathBuf {
        self.sandbox.home.parent().unwrap().join(name)
    }

    fn install(&self, code: i32, more: &[&str]) -> crate::sandbox::Said {
        self.sandbox.expect(code, "ops", &[&["install", "--user", "--manager", self.manager], more].concat())
    }

    /// Who the manager says it runs.
    fn runs(&self) -> Option<u32> {
        let unit = match self.manager {
            "systemd" => "agent-ops-agent-daemon.service",
            _ => "org.agent-ops.agent.daemon",
        };
        let text = fs::read_to_string(self.outside("manager").join(format!("{unit}.pid"))).ok()?;
        Some(text.trim().parse().unwrap()).filter(|&pid| alive(pid))
    }

    fn enabled(&self) -> bool {
        match self.manager {
            "systemd" => self.outside("manager/agent-ops-agent-daemon.service.enabled").exists(),
            _ => {
                self.file().exists() && !self.outside("manager/org.agent-ops.agent.daemon.disabled").exists()
            }
        }
    }
}

#[test]
fn installed_started_stopped_and_taken_away_again() {
    for stand in Stand::each() {
        let sandbox = &stand.sandbox;
        let dry = stand.install(0, &["-n"]);
        assert!(dry.stdout.contains("would write") && dry.stdout.contains("run"), "{}", dry.stdout);
        assert!(!stand.file().exists() && stand.runs().is_none() && !sandbox.path(".ops/service").exists());

        let said = stand.install(0, &[]);
        let pid = agent_pid(sandbox);
        assert_eq!(stand.runs(), Some(pid), "{}", said.stderr);
        assert!(said.stdout.contains(&format!("started (pid {pid})")), "{}", said.stdout);
        assert!(stand.enabled());
        assert!(said.stderr.contains("log out"), "{}", said.stderr);
        assert_eq!(sandbox.read("logs/daemon.pid").trim(), pid.to_string());
        let process = Process::find(pid).unwrap().unwrap();
        assert!(process.environment("AGENT_OPS_SERVICE").is_some(), "it is marked");
        assert_eq!(process.session, pid, "it has a session of its own");

        let text = fs::read_to_string(stand.file()).unwrap();
        assert!(stand.install(0, &[]).stdout.contains("right already; running"));
        assert_eq!(fs::read_to_string(stand.file()).unwrap(), text);
        assert_eq!(agent_pid(sandbox), pid, "it was left alone");
        let status = sandbox.json(0, "dashboard", &[]);
        assert_eq!(status["services"][0]["manager"], stand.manager);
        let detected = sandbox.json(0, "ops", &["detect"]);
        let why = detected["processes"][0]["why"].to_string();
        assert!(why.contains(&format!("{} runs it as", stand.manager)), "{why}");

        sandbox.expect(0, "ops", &["restart"]);
        let second = agent_pid(sandbox);
        assert!(second != pid && stand.runs() == Some(second) && stand.enabled());

        assert_eq!(sandbox.json(0, "ops", &["stop"])["services"][0]["outcome"], "stopped");
        assert!(!alive(second) && stand.runs().is_none() && !stand.enabled());
        assert_eq!(sandbox.json(0, "ops", &["stop"])["services"][0]["outcome"], "not running");
        let again = stand.install(0, &[]);
        assert!(again.stdout.contains("stays stopped"), "{}", again.stdout);
        assert!(!stand.enabled() && stand.runs().is_none(), "an operator's stop stays");

        sandbox.expect(0, "ops", &["start"]);
        let third = agent_pid(sandbox);
        assert!(stand.runs() == Some(third) && stand.enabled());

        let said = sandbox.expect(0, "ops", &["uninstall", "-n"]).stdout;
        let would = format!("it would be restarted (pid {third}), and run on without a manager");
        assert!(said.contains("would remove") && said.contains(&would), "{said}");
        assert!(stand.file().exists() && alive(third));
        let said = sandbox.expect(0, "ops", &["uninstall"]);
        let now = format!(
            "was restarted, and runs on without a manager (pid {}, before {third})",
            agent_pid(sandbox)
        );
        assert!(said.stdout.contains(&now), "{}", said.stdout);
        assert!(!stand.file().exists() && !stand.enabled() && stand.runs().is_none() && !alive(third));
        assert!(alive(agent_pid(sandbox)));
        assert!(sandbox.expect(0, "ops", &["uninstall"]).stdout.contains("nothing was changed"));
        sandbox.expect(0, "ops", &["stop"]);
        let left: Vec<_> = fs::read_dir(stand.file().parent().unwrap()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn one_that_ran_before_goes_on_until_it_is_restarted() {
    for stand in Stand::each() {
        let sandbox = &stand.sandbox;
        sandbox.expect(0, "ops", &["start"]);
        let first = agent_pid(sandbox);
        let said = stand.install(0, &[]);
        assert!(
            said.stdout.contains("goes on running") && said.stdout.contains("ops restart daemon"),
            "{}",
            said.stdout
        );
        assert!(alive(first) && stand.runs().is_none());
        let status = sandbox.run("ops", &["status"]).stdout;
        let (manager, words) = (stand.manager, status.split_whitespace().collect::<Vec<_>>().join(" "));
        let truth = format!("not by {manager} yet: `ops restart daemon` hands it over");
        assert!(words.contains(&truth) && !words.contains(&format!("running by {manager}")), "{status}");
        let said = sandbox.expect(0, "ops", &["uninstall", "-n"]).stdout;
        assert!(said.contains(&format!("it would run on without a manager (pid {first})")), "{said}");
        sandbox.expect(0, "ops", &["uninstall"]);
        assert!(alive(first));
        stand.install(0, &[]);
        sandbox.expect(0, "ops", &["restart"]);
        assert!(!alive(first) && stand.runs() == Some(agent_pid(sandbox)));
        let status = sandbox.run("ops", &["status"]).stdout;
        assert!(
            status.contains(&format!("running by {manager}")) && !status.contains("hands it over"),
            "{status}"
        );
        sandbox.expect(0, "ops", &["stop"]);
        assert!(stand.runs().is_none());
    }
}

#[test]
fn a_dead_one_is_restarted_by_its_manager_when_we_say_so() {
    for stand in Stand::each() {
        let sandbox = &stand.sandbox;
        stand.install(0, &[]);
        kill(agent_pid(sandbox));
        // The stand-ins restart nothing: it is down, as one that crashed too often.
        sandbox.run("alert", &[]);
        wait_until("it runs again", || stand.runs().is_some());
        assert_eq!(stand.runs(), Some(agent_pid(sandbox)));
        let log = sandbox.read("logs/restart.log");
        assert!(log.contains("by its manager"), "{log}");
        sandbox.expect(0, "ops", &["stop"]);
    }
}

/// systemd's stand-in knows too little for that: it is in `tests/real/managers.rs`.
#[test]
fn what_its_operator_stops_with_launchctl_stays_stopped() {
    let [_, stand] = Stand::each();
    let sandbox = &stand.sandbox;
    let target = format!("gui/{}/org.agent-ops.agent.daemon", rustix::process::getuid().as_raw());
    let launchctl = |word: &str| {
        let program = stand.outside("bin/launchctl");
        let mut command = std::process::Command::new(program);
        command.args([word, &target]).env("HOME", sandbox.home.parent().unwrap());
        assert!(command.status().unwrap().success());
    };
    let summary = || {
        let report = sandbox.run("health-check", &["--json", "--only", "process"]);
        assert_eq!(report.code, 2, "{}", report.stdout);
        report.stdout
    };
    stand.install(0, &[]);
    sandbox.write("memory/kept.jsonl", "{\"n\":1}\n");
    sandbox.expect(0, "ops", &["backup"]);
    launchctl("bootout");
    for _ in 0..2 {
        let summary = summary();
        assert!(summary.contains("stopped by its operator with launchctl"), "{summary}");
        sandbox.run("alert", &[]);
        assert!(stand.runs().is_none());
        assert!(stand.install(0, &[]).stdout.contains("stays stopped"));
        // Now not from the next boot on, either.
        launchctl("disable");
    }
    assert!(!stand.enabled(), "left as it was");
    sandbox.expect(0, "ops", &["restore", "latest", "--yes"]);
    assert!(summary().contains("stopped by its operator with launchctl"), "what we do does not undo it");
    sandbox.expect(0, "ops", &["start"]);
    assert!(stand.enabled() && stand.runs() == Some(agent_pid(sandbox)));

    // A crash, of one that is not to be loaded again: it is loaded now.
    launchctl("disable");
    kill(agent_pid(sandbox));
    assert!(summary().contains("is not running"), "{}", summary());
    sandbox.expect(0, "ops", &["start"]);

    // Half a restart of ours is no stop of an operator.
    sandbox.fake("launchctl", &format!("[ $1 != bootstrap ] || exit 5\n{COMMON}{LAUNCHCTL}"));
    sandbox.expect(2, "ops", &["restart"]);
    assert!(stand.runs().is_none() && summary().contains("is not running"), "{}", summary());
    stand_in(sandbox);
    sandbox.run("alert", &[]);
    assert_eq!(stand.runs(), Some(agent_pid(sandbox)));
    sandbox.expect(0, "ops", &["stop"]);
}

#[test]
fn what_the_config_has_no_more_is_taken_away() {
    for stand in Stand::each() {
        let sandbox = &stand.sandbox;
        let with = sandbox.read("ops.toml");
        let more = "[service.second]\ncommand = [\"sleep\", \"600\"]\nready = \"alive\"\n";
        sandbox.write("ops.toml", format!("{with}{more}"));
        stand.install(0, &[]);
        let unit = match stand.manager {
            "systemd" => "agent-ops-agent-second.service",
            _ => "org.agent-ops.agent.second",
        };
        let runs = || -> Option<u32> {
            let text = fs::read_to_string(stand.outside("manager").join(format!("{unit}.pid"))).ok()?;
            Some(text.trim().parse().unwrap()).filter(|&pid| alive(pid))
        };
        let file = fs::read_dir(stand.file().parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.to_string_lossy().contains("second"))
            .unwrap();
        let (first, second) = (stand.runs(), runs());
        assert!(first.is_some() && second.is_some());

        for (config, why) in [
            (format!("{with}{more}enabled = false\n"), "it is not enabled in ops.toml"),
            (with.clone(), "it is not in ops.toml any more"),
        ] {
            sandbox.write("ops.toml", config);
            let status = sandbox.run("ops", &["status"]);
            assert!(
                status.stderr.contains(why) && status.stderr.contains("ops install"),
                "{}",
                status.stderr
            );
            let causes = sandbox.run("ops", &["troubleshoot"]).stdout;
            assert!(causes.contains("second is with") && causes.contains(why), "{causes}");
            let said = stand.install(0, &["-n"]);
            assert!(
                said.stdout.contains("second: would remove") && said.stdout.contains(why),
                "{}",
                said.stdout
            );
            assert!(file.exists() && runs() == second, "a dry run");
        }
        stand.install(0, &["daemon"]);
        assert!(file.exists() && runs() == second, "only the one that is named");
        // Nothing is taken away where not all can be installed.
        sandbox.write("ops.toml", with.replace("[service.daemon]", "[service.other]"));
        let in_the_way = stand.file().to_string_lossy().replace("daemon", "other");
        fs::write(&in_the_way, "theirs").unwrap();
        stand.install(3, &[]);
        assert!(file.exists() && runs() == second && stand.runs() == first);
        fs::remove_file(in_the_way).unwrap();

        sandbox.write("ops.toml", with);
        let said = stand.install(0, &[]);
        assert!(said.stdout.contains("second: removed"), "{}", said.stdout);
        assert!(!file.exists() && runs().is_none() && stand.runs() == first);
        let status = sandbox.run("ops", &["status"]);
        assert!(!status.stderr.contains("second"), "{}", status.stderr);
        assert!(!stand.install(0, &[]).stdout.contains("second"));
        sandbox.expect(0, "ops", &["stop"]);
    }
}

#[test]
fn a_service_that_does_not_start_says_why() {
    for stand in Stand::each() {
        stand.sandbox.write(
            "ops.toml",
            "[service.daemon]\ncommand = [\"sh\", \"-c\", \"echo no such model >&2; exit 1\"]\n\
             ready = \"alive\"\nready_timeout = \"5s\"\n",
        );
        let said = stand.install(2, &[]);
        let manager = format!("{} says that it", stand.manager);
        assert!(said.stderr.contains(&manager) && said.stderr.contains("no such model"), "{}", said.stderr);
        let record: serde_json::Value =
            serde_json::from_str(&stand.sandbox.read(".ops/service/daemon.json")).unwrap();
        assert!(record["identity"]["pid"].is_u64());
    }
}

#[test]
fn what_was_changed_by_hand_is_kept() {
    let [systemd, launchd] = Stand::each();
    systemd.install(0, &[]);
    let unit = fs::read_to_string(systemd.file()).unwrap();
    let edited = unit.replace("Nice=10\n", "Nice=5\nMemoryMax=2G\n").replace("LimitCORE=0\n", "");
    fs::write(systemd.file(), edited).unwrap();
    let said = systemd.install(0, &[]);
    assert!(said.stderr.contains("MemoryMax=2G") && said.stderr.contains("LimitCORE=0"), "{}", said.stderr);
    assert_eq!(fs::read_to_string(systemd.file()).unwrap(), unit);
    let dropin = systemd.file().with_extension("service.d").join("edited.conf");
    assert_eq!(fs::read_to_string(&dropin).unwrap(), "[Service]\nNice=5\nMemoryMax=2G\n");
    systemd.install(0, &[]);
    assert_eq!(fs::read_to_string(&dropin).unwrap(), "[Service]\nNice=5\nMemoryMax=2G\n", "once");

    // A change of the config alone is no change by hand.
    let config = systemd.sandbox.read("ops.toml").replace("\"2s\"", "\"3s\"");
    systemd.sandbox.write("ops.toml", config);
    assert!(systemd.install(0, &[]).stdout.contains("up to date"));
    assert!(fs::read_to_string(systemd.file()).unwrap().contains("TimeoutStopSec=3s"));
    assert_eq!(fs::read_to_string(&dropin).unwrap(), "[Service]\nNice=5\nMemoryMax=2G\n");
    systemd.sandbox.expect(0, "ops", &["stop"]);
    systemd.sandbox.expect(0, "ops", &["uninstall"]);
    assert!(dropin.exists(), "what is the user's stays");

    launchd.install(0, &[]);
    let plist = fs::read_to_string(launchd.file()).unwrap();
    let edited = plist.replace("<integer>60</integer>", "<integer>5</integer>");
    fs::write(launchd.file(), &edited).unwrap();
    let said = launchd.install(3, &[]);
    assert!(said.stderr.contains("was changed since") && said.stderr.contains("hint"), "{}", said.stderr);
    assert_eq!(fs::read_to_string(launchd.file()).unwrap(), edited);
    launchd.sandbox.expect(0, "ops", &["stop"]);
    let said = launchd.sandbox.expect(0, "ops", &["uninstall"]);
    assert!(said.stdout.contains("kept as"), "{}", said.stdout);
    let kept = launchd.sandbox.read(".ops/service/org.agent-ops.agent.daemon.plist");
    assert_eq!(kept, edited);
}

#[test]
fn a_file_of_another_s_is_left_alone() {
    for stand in Stand::each() {
        fs::create_dir_all(stand.file().parent().unwrap()).unwrap();
        fs::write(stand.file(), "[Service]\nExecStart=/mine\n").unwrap();
        let said = stand.install(3, &[]);
        assert!(
            said.stderr.contains("is not of this home") && said.stderr.contains("name"),
            "{}",
            said.stderr
        );
        assert_eq!(fs::read_to_string(stand.file()).unwrap(), "[Service]\nExecStart=/mine\n");
        assert!(stand.runs().is_none());
    }
}

impl Stand {
    /// The jobs that the manager will start by itself.
    fn timers(&self) -> Vec<String> {
        let (prefix, suffix) = match self.manager {
            "systemd" => ("agent-ops-agent--", ".timer.started"),
            _ => ("org.agent-ops.agent--", ".loaded"),
        };
        let Ok(entries) = fs::read_dir(self.outside("manager")) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .filter_map(|entry| {
                let name = entry.unwrap().file_name().into_string().unwrap();
                Some(name.strip_prefix(prefix)?.strip_suffix(suffix)?.to_owned())
            })
            .collect();
        names.sort();
        names
    }

    fn cron_install(&self, code: i32, more: &[&str]) -> crate::sandbox::Said {
        self.sandbox.expect(
            code,
            "ops",
            &[&["cron-install", "--user", "--manager", self.manager], more].concat(),
        )
    }
}

#[test]
fn the_jobs_as_timers() {
    for stand in Stand::each() {
        let sandbox = &stand.sandbox;
        crontab_stand_in(sandbox);
        sandbox.expect(0, "ops", &["cron-install"]);
        assert!(fs::read_to_string(stand.outside("crontab")).unwrap().contains("agent-ops"));
        let printed = stand.cron_install(0, &["--print"]);
        assert!(
            printed.stdout.contains("02:00")
                || printed.stdout.contains("2:0:00")
                || printed.stdout.contains("<key>Hour</key><integer>2</integer>"),
            "{}",
            printed.stdout
        );
        assert!(stand.timers().is_empty() && !stand.file().parent().unwrap().exists());

        let said = stand.cron_install(0, &[]);
        assert!(
            said.stdout.contains("has the jobs of agent now (6)") && said.stdout.contains("next 20"),
            "{}",
            said.stdout
        );
        assert_eq!(stand.timers(), ["alert", "backup", "dashboard", "drill", "report", "rotate-logs"]);
        assert!(!fs::read_to_string(stand.outside("crontab")).unwrap().contains("agent-ops"), "not by both");
        let asked = fs::read_to_string(stand.outside("manager/asked")).unwrap();
        assert!(stand.cron_install(0, &[]).stdout.contains("nothing was changed"));
        let again = fs::read_to_string(stand.outside("manager/asked")).unwrap();
        assert!(!again[asked.len()..].contains("start"), "{}", &again[asked.len()..]);
        let health = sandbox.run("health-check", &["--json", "--only", "schedule"]);
        assert!(
            health.stdout.contains(&format!("6 jobs with {}, all on time", stand.manager)),
            "{}",
            health.stdout
        );

        // One job less, another time.
        let config = sandbox.read("ops.toml");
        sandbox.write(
            "ops.toml",
            format!("{config}[schedule]\ndrill = \"\"\nbackup = \"30 3 * * mon\"\njitter = \"10m\"\n"),
        );
        assert!(stand.cron_install(0, &[]).stdout.contains("(5)"));
        assert_eq!(stand.timers(), ["alert", "backup", "dashboard", "report", "rotate-logs"]);
        let backup = match stand.manager {
            "systemd" => stand.file().with_file_name("agent-ops-agent--backup.timer"),
            _ => stand.file().with_file_name("org.agent-ops.agent--backup.plist"),
        };
        let text = fs::read_to_string(&backup).unwrap();
        assert!(
            text.contains("Mon *-*-* 3:30:00") || text.contains("<key>Weekday</key><integer>1</integer>"),
            "{text}"
        );
        assert!(text.contains("RandomizedDelaySec=600s") || text.contains("<string>sleep "), "{text}");
        fs::write(&backup, "# mine\n").unwrap();
        let said = stand.cron_install(3, &[]);
        assert!(said.stderr.contains("is not what was written"), "{}", said.stderr);
        let health = sandbox.run("health-check", &["--json", "--only", "schedule"]);
        assert!(health.code == 2 && health.stdout.contains("is not as it was written"), "{}", health.stdout);
        fs::write(&backup, text).unwrap();

        assert!(sandbox.expect(0, "ops", &["cron-uninstall", "-n"]).stdout.contains("would no longer"));
        assert_eq!(stand.timers().len(), 5);
        sandbox.expect(0, "ops", &["cron-uninstall"]);
        assert!(stand.timers().is_empty());
        assert_eq!(fs::read_dir(stand.file().parent().unwrap()).unwrap().count(), 0);
        assert!(sandbox.expect(0, "ops", &["cron-uninstall"]).stdout.contains("nothing was changed"));

        // And back to cron.
        stand.cron_install(0, &[]);
        let said = sandbox.expect(0, "ops", &["cron-install"]);
        assert!(said.stderr.contains("timers that ran them until now are gone"), "{}", said.stderr);
        assert!(stand.timers().is_empty());
    }
}

#[test]
fn without_a_manager_it_says_what_else_there_is() {
    let sandbox = with_agent(&[]);
    sandbox.fake("systemctl", "echo 'Failed to connect to bus' >&2; exit 1");
    let said = sandbox.expect(3, "ops", &["install", "--manager", "systemd"]);
    assert!(
        said.stderr.contains("does not run here: systemctl") && said.stderr.contains("ops run"),
        "{}",
        said.stderr
    );
    let said = sandbox.expect(3, "ops", &["install", "--manager", "launchd"]);
    assert!(said.stderr.contains("cannot run launchctl"), "{}", said.stderr);
    assert!(!sandbox.path(".ops/service").exists());
}

#[test]
fn what_only_this_shell_knows_is_told() {
    let [stand, _] = Stand::each();
    let config = stand.sandbox.read("ops.toml");
    stand.sandbox.write(
        "ops.toml",
        format!("{config}[service.daemon.env]\nMODEL = \"${{MODEL}}\"\nWHO = \"${{USER:-me}}\"\n"),
    );
    let output = stand
        .sandbox
        .program("ops")
        .args(["install", "-n", "--user", "--manager", "systemd"])
        .env("MODEL", "large")
        .output()
        .unwrap();
    let said = crate::sandbox::said(output);
    assert!(
        said.code == 0 && said.stderr.contains("not known to systemd: MODEL; write them into"),
        "{}",
        said.stderr
    );
    stand.sandbox.write("env", "MODEL=large\n");
    let config = stand.sandbox.read("ops.toml").replace("[agent]\n", "[agent]\nenv_file = \"env\"\n");
    stand.sandbox.write("ops.toml", config);
    let said = stand.install(0, &["-n"]);
    assert!(!said.stderr.contains("not known"), "{}", said.stderr);
}

#[test]
fn run_exec_becomes_the_service_once() {
    let sandbox = with_agent(&[]);
    let mut child = sandbox.program("ops").args(["run", "--exec", "daemon"]).spawn().unwrap();
    wait_until("it runs", || {
        sandbox.path("logs/daemon_status.json").exists() && agent_pid(&sandbox) == child.id()
    });
    assert_eq!(sandbox.json(0, "ops", &["start"])["services"][0]["outcome"], "already running");
    let second = sandbox.expect(0, "ops", &["run", "--exec", "daemon"]);
    assert!(second.stderr.contains("runs already"), "{}", second.stderr);
    let process = Process::find(child.id()).unwrap().unwrap();
    process.identity.signal(Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    let said = sandbox.expect(3, "ops", &["run", "--exec", "nobody"]);
    assert!(said.stderr.contains("there is no service 'nobody'"), "{}", said.stderr);
}

impl Stand {
    /// One of the programs, on another home.
    fn on(&self, code: i32, home: &std::path::Path, args: &[&str]) -> crate::sandbox::Said {
        let output = self.sandbox.program("ops").args(args).env("OPS_HOME", home).output().unwrap();
        let said = crate::sandbox::said(output);
        assert_eq!(said.code, code, "{args:?}\n{}\n--- stderr\n{}", said.stdout, said.stderr);
        said
    }
}

#[test]
fn a_copy_of_a_home_has_no_hand_on_what_is_the_first_one_s() {
    for stand in Stand::each() {
        stand.install(0, &[]);
        stand.cron_install(0, &[]);
        let (pid, jobs) = (agent_pid(&stand.sandbox), stand.timers());
        let unit = fs::read_to_string(stand.file()).unwrap();
        // Its name goes on where that of the other ends.
        let copy = stand.outside("home-2");
        let copied = std::process::Command::new("cp").arg("-a").args([&stand.sandbox.home, &copy]).status();
        assert!(copied.unwrap().success());
        fs::remove_file(copy.join(".ops/service/daemon.json")).unwrap();
        fs::remove_file(copy.join("logs/daemon.pid")).unwrap();

        let manager = ["--user", "--manager", stand.manager];
        stand.on(0, &copy, &["stop"]);
        let said = stand.on(3, &copy, &[&["install"][..], &manager].concat());
        assert!(said.stderr.contains("is not of this home"), "{}", said.stderr);
        let said = stand.on(3, &copy, &[&["cron-install"][..], &manager].concat());
        assert!(
            said.stderr.contains("is not what was written") && said.stderr.contains("name"),
            "{}",
            said.stderr
        );
        assert!(stand.on(0, &copy, &["uninstall"]).stdout.contains("nothing was changed"));
        crontab_stand_in(&stand.sandbox);
        stand.on(0, &copy, &["cron-uninstall"]);
        assert_eq!((stand.runs(), stand.timers(), stand.enabled()), (Some(pid), jobs.clone(), true));
        assert_eq!(fs::read_to_string(stand.file()).unwrap(), unit);

        // Nor has one that lost its own notes, though the name of its home begins alike.
        stand.sandbox.expect(0, "ops", &["stop"]);
        let longer = unit.replace(stand.sandbox.home.to_str().unwrap(), copy.to_str().unwrap());
        fs::write(stand.file(), &longer).unwrap();
        fs::remove_file(stand.sandbox.path(".ops/service/daemon.installed")).unwrap();
        assert!(stand.install(3, &[]).stderr.contains("is not of this home"));
        assert_eq!(fs::read_to_string(stand.file()).unwrap(), longer);
    }
}

#[test]
fn a_home_that_was_moved_is_installed_anew() {
    for mut stand in Stand::each() {
        stand.install(0, &[]);
        stand.cron_install(0, &[]);
        stand.sandbox.expect(0, "ops", &["stop"]);
        let moved = stand.outside("moved");
        fs::rename(&stand.sandbox.home, &moved).unwrap();
        stand.sandbox.home = moved;
        let said = stand.sandbox.expect(3, "ops", &["start"]);
        assert!(said.stderr.contains("was moved") && said.stderr.contains("ops install"), "{}", said.stderr);
        // Who asked for a start wants it to run.
        let said = stand.install(0, &[]);
        assert!(said.stdout.contains("up to date") && !said.stdout.contains("stays stopped"), "{said:?}");
        stand.sandbox.expect(0, "ops", &["start"]);
        assert_eq!(stand.runs(), Some(agent_pid(&stand.sandbox)));
        assert!(stand.cron_install(0, &[]).stdout.contains("has the jobs of agent now (6)"));
        stand.sandbox.expect(0, "ops", &["stop"]);
        stand.sandbox.expect(0, "ops", &["uninstall"]);
        assert!(!stand.file().exists());
    }
}

#[test]
fn notes_that_name_a_file_of_another_s_are_not_believed() {
    for stand in Stand::each() {
        stand.install(0, &[]);
        stand.cron_install(0, &[]);
        stand.sandbox.expect(0, "ops", &["stop"]);
        // Whoever may write in the home is not to say what its owner, or root, takes away.
        let theirs = stand.outside("theirs");
        fs::write(&theirs, "precious").unwrap();
        for (note, field) in [("service/daemon.installed", "/path"), ("timers.installed", "/files/0/path")] {
            let note = format!(".ops/{note}");
            let mut forged: serde_json::Value = serde_json::from_str(&stand.sandbox.read(&note)).unwrap();
            *forged.pointer_mut(field).unwrap() = theirs.to_str().unwrap().into();
            stand.sandbox.write(&note, forged.to_string());
        }
        crontab_stand_in(&stand.sandbox);
        for words in [&["uninstall"][..], &["cron-uninstall"], &["start"], &["stop"]] {
            let said = stand.sandbox.expect(3, "ops", words);
            assert!(
                said.stderr.contains("is damaged: it names") && said.stderr.contains("theirs"),
                "{words:?} {}",
                said.stderr
            );
        }
        assert_eq!(fs::read_to_string(&theirs).unwrap(), "precious");
        // As the hint says.
        stand.install(0, &[]);
        stand.cron_install(0, &[]);
        stand.sandbox.expect(0, "ops", &["uninstall"]);
        stand.sandbox.expect(0, "ops", &["cron-uninstall"]);
        assert!(!stand.file().exists() && stand.timers().is_empty());
    }
}

#[test]
fn a_manager_that_does_not_answer_keeps_nothing_from_being_ended_by_force() {
    for stand in Stand::each() {
        let sandbox = &stand.sandbox;
        stand.install(0, &[]);
        let pid = agent_pid(sandbox);
        for program in ["systemctl", "launchctl"] {
            sandbox.fake(program, "echo 'Failed to connect to bus' >&2; exit 1");
        }
        let said = sandbox.expect(2, "ops", &["stop"]);
        assert!(
            said.stderr.contains("Failed to connect") && said.stderr.contains("--force"),
            "{}",
            said.stderr
        );
        assert!(alive(pid), "it is the manager's to end");
        let said = sandbox.expect(2, "ops", &["stop", "--force"]);
        assert!(!alive(pid) && said.stderr.contains("may start it again"), "{}", said.stderr);
        assert!(said.stderr.contains("Failed to connect"), "{}", said.stderr);
        // The manager answers again: now it knows, too.
        stand_in(sandbox);
        sandbox.expect(0, "ops", &["stop"]);
        assert!(!stand.enabled() && stand.runs().is_none());
    }
}

#[test]
fn a_line_end_in_the_search_path_is_no_line_of_a_unit() {
    for stand in Stand::each() {
        let mut command = stand.sandbox.program("ops");
        let path = command.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap().to_owned();
        let path = format!("{}:/x\nExecStartPre=/bin/evil:/opt/bin", path.to_str().unwrap());
        command.args(["install", "-n", "--user", "--manager", stand.manager]).env("PATH", path);
        let said = crate::sandbox::said(command.output().unwrap());
        assert!(said.code == 0 && said.stdout.contains(":/opt/bin"), "{}{}", said.stdout, said.stderr);
        assert!(!said.stdout.contains("evil"), "{}", said.stdout);
    }
}

#[test]
fn an_upgrade_and_its_way_back_go_through_the_manager() {
    for stand in Stand::each() {
        let sandbox = &stand.sandbox;
        sandbox.write("memory/kept.jsonl", "{\"n\":1}\n");
        stand.install(0, &[]);
        let first = stand.runs().unwrap();
        let script = |end: &str| format!("echo gone > memory/kept.jsonl; exit {end}");
        let upgrade = |code, end: &str| {
            sandbox.expect(
                code,
                "ops",
                &["upgrade", "--yes", "--settle", "300ms", "--", "sh", "-c", &script(end)],
            )
        };
        upgrade(2, "3");
        let second = stand.runs().unwrap();
        assert!(!alive(first) && second == agent_pid(sandbox) && stand.enabled());
        assert_eq!(sandbox.read("memory/kept.jsonl"), "{\"n\":1}\n");
        upgrade(0, "0");
        assert!(!alive(second) && stand.runs() == Some(agent_pid(sandbox)) && stand.enabled());
        assert_eq!(sandbox.read("memory/kept.jsonl"), "gone\n");
        sandbox.expect(0, "ops", &["stop"]);
    }
}
