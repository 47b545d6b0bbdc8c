//! Our shell scripts, read by ShellCheck.

use crate::peers::{output, peer};
use std::path::Path;
use std::process::Command;

#[test]
fn the_scripts_of_ci_are_clean() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci");
    let mut check = Command::new(peer("shellcheck", "shellcheck"));
    output(check.args([folder.join("run"), folder.join("check-macos")]));
}
