//! Our disk check beside `check_disk` of the monitoring plugins.

use crate::peers::{output, peer};
use crate::room::Room;
use std::process::Command;

#[test]
fn the_disk_check_agrees_with_check_disk() {
    let room = Room::small(65_536);
    room.sandbox.write("ops.toml", "[check.disk]\nwarn = \"1MB\"\ncrit = \"1KB\"\n");
    room.sandbox.write("filler", vec![7; 12_345_678]);

    let report = room.run("health-check", &["--only", "disk", "--json"]);
    assert_eq!(report.code, 0, "{report:?}");
    let report: serde_json::Value = serde_json::from_str(&report.stdout).unwrap();
    let metrics = report["findings"][0]["metrics"].as_array().unwrap();
    let free = metrics.iter().find(|metric| metric["label"].as_str().unwrap().ends_with("free")).unwrap();
    let ours = free["value"].as_f64().unwrap();

    let plugin = peer("check_disk", "monitoring-plugins-basic");
    let line = format!("{} -u bytes -w 1% -c 1% -p \"$HOME_FOLDER\"", plugin.display());
    let said = room.shell(&line);
    // DISK OK - free space: /tmp/home 54321B (82% inode=99%);| …
    let (before, _) = said.split_once("B (").unwrap_or_else(|| panic!("{said}"));
    let theirs: f64 =
        before.rsplit(' ').next().unwrap().parse().unwrap_or_else(|error| panic!("{error}: {said}"));
    assert!(theirs > 5e7 && (ours - theirs).abs() <= 0.01 * theirs, "{ours} and {said}");
}

#[test]
fn a_plugin_and_our_program_speak_the_same_language() {
    // One pattern for both: the state after the name, and performance data that a consumer can
    // take apart.
    let room = Room::small(8_192);
    room.sandbox.write("ops.toml", "[check.disk]\nwarn = \"1MB\"\ncrit = \"1KB\"\n");
    let ours = room.expect(0, "health-check", &["--only", "disk"]).stdout;
    let plugin = peer("check_disk", "monitoring-plugins-basic");
    let theirs = output(Command::new(plugin).args(["-w", "1", "-c", "1", "-p", "/"]));
    for said in [ours, theirs] {
        let line = said.lines().next().unwrap();
        let (text, data) = line.split_once('|').unwrap_or_else(|| panic!("no performance data: {line}"));
        assert!(text.split_whitespace().nth(1) == Some("OK"), "{line}");
        for datum in data.split_whitespace() {
            let (label, rest) = datum.split_once('=').unwrap_or_else(|| panic!("no value: {line}"));
            assert!(!label.is_empty(), "{line}");
            let value =
                rest.split(';').next().unwrap().trim_end_matches(|c: char| c.is_alphabetic() || c == '%');
            value.parse::<f64>().unwrap_or_else(|error| panic!("{error}: {datum} in {line}"));
        }
    }
}
