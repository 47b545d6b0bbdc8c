//! The page in a real browser.

use crate::peers::{peer, sqlite};
use crate::sandbox::Sandbox;
use std::process::{Command, Stdio};

const QUIET: &str = "[agent]\nname = \"lighthouse\"\n[check.disk]\nwarn = \"1MB\"\ncrit = \"1KB\"\n[alerts.desktop]\nenabled = false\n";

/// The document as the browser has it after its scripts ran; anything the browser has to say
/// about the page fails the test.
fn look(sandbox: &Sandbox) -> String {
    let page = sandbox.path("logs/dashboard.html");
    let output = Command::new(peer("chromium", "chromium"))
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--enable-logging=stderr", "--virtual-time-budget=3000"])
        .arg(format!("--user-data-dir={}", sandbox.outside("browser").display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", page.display()))
        .env("HOME", sandbox.outside("browser-home"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    for word in ["CONSOLE", "ERR_", "Refused", "Uncaught"] {
        assert!(!complaints.contains(word), "{complaints}");
    }
    String::from_utf8(output.stdout).unwrap()
}

/// The opening tag of the document: its class says whether it is stale.
fn opening(dom: &str) -> &str {
    let start = dom.find("<html").unwrap();
    &dom[start..start + dom[start..].find('>').unwrap()]
}

#[test]
fn a_browser_shows_how_the_agent_is() {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", QUIET);
    sandbox.expect(0, "ops", &["up"]);
    sandbox.expect(0, "dashboard", &["web"]);
    let dom = look(&sandbox);
    assert!(dom.contains("<title>OK · lighthouse</title>"), "{dom}");
    assert!(dom.contains("lighthouse is <b>OK</b>"), "{dom}");
    assert!(dom.contains(" ago)</span>"), "its script ran: {dom}");
    assert!(!opening(&dom).contains("class=\"stale\""), "{}", opening(&dom));
    // Nothing is loaded from anywhere.
    for from in ["src=", "href=\"http", "url(http", "@import"] {
        assert!(!dom.contains(from), "{from} in {dom}");
    }
    assert_eq!(sqlite(&sandbox.path("memory/agent.db"), "PRAGMA integrity_check"), "ok");

    sandbox.expect(0, "ops", &["stop"]);
    sandbox.expect(0, "dashboard", &["web"]);
    let dom = look(&sandbox);
    assert!(dom.contains("<title>CRITICAL · lighthouse</title>"), "{dom}");
}

#[test]
fn a_browser_marks_an_old_page_as_stale() {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", QUIET);
    let mut old = sandbox.program("dashboard");
    assert!(old.args(["web", "--quiet"]).env("OPS_NOW", "2026-01-02T03:04:05Z").status().unwrap().success());
    let dom = look(&sandbox);
    assert!(opening(&dom).contains("class=\"stale\""), "{}", opening(&dom));
    assert!(dom.contains("<title>STALE · CRITICAL · lighthouse</title>"), "{dom}");
    assert!(
        dom.contains("<span id=\"stale-age\">") && !dom.contains("<span id=\"stale-age\"></span>"),
        "{dom}"
    );
}

#[test]
fn text_of_others_is_text_in_a_browser_too() {
    let sandbox = Sandbox::new();
    sandbox.write("ops.toml", QUIET);
    let hostile = "[2026-11-20 09:30:01] [CRITICAL] <img src=x onerror=document.title='owned'> - </script><script>document.title='owned'</script>\n";
    sandbox.write("logs/alerts.log", hostile);
    sandbox.expect(0, "dashboard", &["web"]);
    let dom = look(&sandbox);
    assert!(dom.contains("onerror"), "the line is shown: {dom}");
    assert!(!dom.contains("<img") && dom.contains("CRITICAL · lighthouse</title>"), "{dom}");
}
