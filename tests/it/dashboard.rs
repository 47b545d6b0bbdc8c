//! `dashboard`: whole in every view, however much is missing.

use crate::sandbox::{Sandbox, wait_until};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", "[agent]\nname = \"tess\"\npreset = \"builtin\"\n");
    sandbox
}

/// The page as it was written, after looking that it is whole: every element closed.
#[track_caller]
fn page(sandbox: &Sandbox) -> String {
    sandbox.expect(0, "dashboard", &["web"]);
    let page = sandbox.read("logs/dashboard.html");
    whole(&page);
    let status: serde_json::Value = serde_json::from_str(&sandbox.read("logs/ops_status.json")).unwrap();
    assert_eq!((&status["schema"], &status["agent"]), (&1.into(), &"tess".into()));
    page
}

#[track_caller]
fn whole(page: &str) {
    assert!(page.starts_with("<!DOCTYPE html><html lang=\"en\"") && page.ends_with("</html>"));
    let mut open = Vec::new();
    let mut rest = page.trim_start_matches("<!DOCTYPE html>");
    while let Some((_, after)) = rest.split_once('<') {
        let (tag, after) = after.split_once('>').unwrap();
        let name = tag.split([' ', '/']).find(|part| !part.is_empty()).unwrap();
        rest = after;
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "near {after:.60}");
        } else if !["meta", "link"].contains(&name) {
            open.push(name);
            if ["style", "script"].contains(&name) {
                rest = &after[after.find(&format!("</{name}>")).unwrap()..];
            }
        }
    }
    assert!(open.is_empty(), "{open:?}");
    for outside in ["http://", "https://", "//cdn", "src="] {
        let ours = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!ours.contains(outside), "{outside}");
    }
}

/// Guards against the predecessor: its page ended after the header exactly when the daemon was
/// down, and when there had been no alerts.
#[test]
fn the_page_is_whole_when_nothing_is_there() {
    let sandbox = sandbox();
    let first = page(&sandbox);
    assert!(first.contains("tess is <b>CRITICAL</b>"));
    assert!(first.contains("it was never started") && first.contains("There is none yet."));
    // A journal that is no database, a backup folder that is a file, logs that are folders.
    sandbox.write(".ops/ops.db", "this is not a database, but it is long enough to look like one");
    sandbox.write("backups", "not a folder");
    fs::create_dir_all(sandbox.path("logs/alerts.log")).unwrap();
    sandbox.write("logs/daemon_status.json", "{\"status\": \"runn");
    sandbox.write("logs/daemon.pid", "999999999999");
    page(&sandbox);
    // Where no journal can be.
    fs::remove_dir_all(sandbox.path(".ops")).unwrap();
    sandbox.write(".ops", "a file");
    let without = page(&sandbox);
    assert!(without.contains("There is no journal to read it from."));
    for view in ["terminal", "json", "prom", "watch"] {
        sandbox.expect(0, "dashboard", &[view]);
    }
}

#[test]
fn the_page_tells_its_age_and_refreshes() {
    let sandbox = sandbox();
    sandbox.write(
        "ops.toml",
        "[agent]\nname = \"tess\"\npreset = \"builtin\"\n[dashboard]\nrefresh = \"25s\"\n",
    );
    let page = page(&sandbox);
    assert!(page.contains("<meta http-equiv=\"refresh\" content=\"25\">"));
    for part in [
        "STALE: this page",
        "data-stale=\"180\"",
        "<noscript>",
        "prefers-color-scheme: dark",
        "viewport",
        "Made ",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn hostile_text_is_only_text() {
    let sandbox = sandbox();
    let bad = "\x1b[2J<script>alert(1)</script>\"'&\u{202e}";
    let mut alerts = format!("[2026-11-20 09:30:01] [CRITICAL] {bad}\n{bad}\n").into_bytes();
    alerts.extend(b"\0\0\xff\n");
    sandbox.write("logs/alerts.log", alerts);
    sandbox
        .write("logs/daemon_status.json", serde_json::json!({"status": bad, "timestamp": bad}).to_string());
    sandbox.write("logs/daemon_20261120.log", format!("ERROR {bad}\n").repeat(200));
    let page = page(&sandbox);
    assert!(!page.contains("<script>alert") && page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(!page.contains('\x1b') && !page.contains('\u{202e}'));
    let said = sandbox.expect(0, "dashboard", &["--color", "never"]);
    assert!(!said.stdout.contains('\x1b') && !said.stdout.contains('\u{202e}'));
}

/// Three services, a check of a long name, and much that is not well, on the screen that everybody has.
#[test]
fn a_screen_of_24_rows_shows_the_services_and_what_is_not_well() {
    let sandbox = Sandbox::new();
    let services = ["serve", "autonomic", "bot"].map(|name| {
        format!(
            "[service.{name}]\ncommand = [\"sleep\", \"1000\"]\n[check.{name}_heartbeat]\nkind = \"process\"\nservice = \"{name}\"\n"
        )
    });
    let ports = (1..30).map(|n| format!("[check.port{n}]\nkind = \"tcp\"\naddress = \"localhost:1\"\n"));
    let config = services.into_iter().chain(ports).collect::<String>();
    sandbox.write("ops.toml", format!("{config}[check.disk]\nkind = \"disk\"\nwarn = \"1\"\ncrit = \"0\"\n"));
    let loaded = agent_ops::config::load(&sandbox.path("ops.toml"), None).unwrap();
    let run = agent_ops::base::Run::begin("test");
    let snapshot = agent_ops::dashboard::gather(&loaded, &run, None);
    for rows in [22, 40, 200] {
        let text = agent_ops::dashboard::brief(&snapshot, 80, rows, false);
        assert!(text.lines().count() <= rows, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for name in ["serve", "autonomic", "bot"] {
            assert!(text.lines().any(|line| line.starts_with(&format!("X {name} "))), "{text}");
        }
        assert!(text.contains("X autonomic_heartbeat  ") && text.contains("+ 1 ok"), "{text}");
        assert_eq!(text.contains("more that are not well"), rows < 200, "{text}");
    }
    let table = agent_ops::health::table::render(&snapshot.health, false, Some(60));
    assert!(table.lines().all(|line| line.chars().count() <= 60) && table.contains("port29"), "{table}");
    let table = agent_ops::health::table::brief(&snapshot.health, false, Some(60));
    assert!(table.lines().last().is_some_and(|line| line.starts_with("+ OK        1 ")), "{table}");
}

#[test]
fn the_terminal_fits_80_columns_and_needs_no_colours() {
    let sandbox = sandbox();
    sandbox.write("logs/alerts.log", format!("[2026-11-20 09:30:01] [CRITICAL] {}\n", "long ".repeat(100)));
    let plain = sandbox.expect(0, "dashboard", &[]).stdout;
    assert!(plain.starts_with("X CRITICAL  tess on "), "{plain}");
    for line in plain.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert_eq!(plain.matches("Services ---").count(), 1);
    let colored = sandbox.expect(0, "dashboard", &["--color", "always"]).stdout;
    assert!(colored.contains("\x1b[31m"));
    let once = sandbox.expect(0, "dashboard", &["watch"]).stdout;
    assert!(
        !once.contains("\x1b[?1049h") && once.contains("Services ---"),
        "without a terminal it prints once"
    );
}

/// What `promtool check metrics` asks for, as far as it can be told from the text.
#[test]
fn the_prometheus_text_keeps_the_rules() {
    let sandbox = sandbox();
    sandbox.write("memory/agent.db", "x");
    sandbox.write("backups/20261120_020000.tar.gz", "x");
    let text = sandbox.expect(0, "dashboard", &["prom"]).stdout;
    let mut help = BTreeSet::new();
    let mut types = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(help.insert(rest.split_once(' ').unwrap().0), "HELP once a family: {line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(types.insert(name, kind).is_none(), "TYPE once a family: {line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap();
            assert!(name.starts_with("agent_ops_") && labels.starts_with("agent=\"tess\""), "{line}");
            assert!(help.contains(name) && types.contains_key(name), "{line}");
            assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
            assert!(seen.insert(series), "a series once: {line}");
        }
    }
    for name in [
        "agent_ops_state",
        "agent_ops_service_up",
        "agent_ops_backup_timestamp_seconds",
        "agent_ops_disk_free_bytes",
    ] {
        assert!(types.contains_key(name), "{name}");
    }
    sandbox.expect(3, "dashboard", &["prom", "--json"]);
}

#[test]
fn a_live_agent_is_shown_and_json_says_the_same() {
    let sandbox = sandbox();
    sandbox.expect(0, "ops", &["start"]);
    let mut beat = serde_json::Value::Null;
    wait_until("the agent has a heartbeat", || {
        let json = sandbox.json(0, "dashboard", &["json"]);
        beat = json["services"][0].clone();
        beat["heartbeat"]["age"].is_number()
    });
    assert_eq!((&beat["condition"], &beat["state"]), (&"running".into(), &"ok".into()));
    let pid = beat["process"]["pid"].as_u64().unwrap();
    let page = page(&sandbox);
    assert!(page.contains(&format!("<dd>{pid}</dd>")) && page.contains("running"));
    sandbox.expect(0, "health-check", &["--help"]);
    sandbox.run("ops", &["health"]);
    let json = sandbox.json(0, "dashboard", &["json"]);
    assert_eq!(
        json["history"]["strips"][0]["runs"]["all"], 1,
        "a dashboard records nothing, a health check does"
    );
    sandbox.expect(0, "ops", &["stop"]);
    let json = sandbox.json(0, "dashboard", &["json"]);
    assert_eq!(json["services"][0]["condition"], "stopped");
}

#[test]
fn a_reader_never_sees_half_a_page() {
    let sandbox = sandbox();
    page(&sandbox);
    let mut runs: Vec<_> =
        (0..6).map(|_| sandbox.program("dashboard").args(["web", "--quiet"]).spawn().unwrap()).collect();
    while runs.iter_mut().any(|run| run.try_wait().unwrap().is_none()) {
        whole(&sandbox.read("logs/dashboard.html"));
        serde_json::from_str::<serde_json::Value>(&sandbox.read("logs/ops_status.json")).unwrap();
    }
    for mut run in runs {
        assert!(run.wait().unwrap().success());
    }
    let left = fs::read_dir(sandbox.path("logs")).unwrap().flatten();
    assert!(left.filter(|entry| entry.file_name().to_string_lossy().starts_with(".part-")).count() == 0);
}
