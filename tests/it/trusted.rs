//! What decides what we run: who may have written it.

use crate::sandbox::{Sandbox, said};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Every program refuses what others could have written, and says where and what to do.
#[test]
fn what_others_could_have_written_is_not_obeyed() {
    let sandbox = Sandbox::new();
    let config = "[agent]\nenv_file = \"env\"\npreset = \"own.toml\"\n[check.w]\nkind = \"command\"\ncommand = [\"touch\", \"obeyed\"]\n";
    sandbox.write("ops.toml", config);
    sandbox.write("env", "A=1\n");
    sandbox.write("own.toml", "[dashboard]\nrefresh = \"0s\"\n");
    assert!(sandbox.run("health-check", &[]).code < 3);
    fs::remove_file(sandbox.path("obeyed")).unwrap();
    for name in ["ops.toml", "env", "own.toml", ""] {
        let path = sandbox.path(name);
        let before = path.metadata().unwrap().permissions();
        mode(&path, if name.is_empty() { 0o777 } else { 0o666 });
        for program in ["health-check", "alert", "backup", "rotate-logs", "dashboard"] {
            let said = sandbox.expect(3, program, &[]);
            let all = format!("{}{}", said.stdout, said.stderr);
            assert!(all.contains("others could change it") && all.contains("chmod go-w"), "{name}: {all}");
        }
        let hint = sandbox.json(3, "ops", &["status"])["hint"].as_str().unwrap().to_owned();
        assert!(hint.contains(path.display().to_string().trim_end_matches('/')), "{name}: {hint}");
        fs::set_permissions(&path, before).unwrap();
    }
    assert!(!sandbox.path("obeyed").exists());
    assert!(sandbox.run("health-check", &[]).code < 3);
}

/// `./ops.toml` of a folder that others may write in may be anybody's.
#[test]
fn the_current_folder_is_looked_at_only_where_nobody_else_writes() {
    let sandbox = Sandbox::new();
    let here = sandbox.outside("shared");
    let run = || {
        let mut command = sandbox.program("ops");
        said(command.env_remove("OPS_HOME").current_dir(&here).args(["config", "check"]).output().unwrap())
    };
    fs::write(here.join("ops.toml"), "[agent]\nname = \"planted\"\n").unwrap();
    mode(&here, 0o755);
    assert!(run().stdout.contains("agent planted"), "{:?}", run());
    for open in [0o777, 0o757] {
        mode(&here, open);
        let said = run();
        assert_eq!(said.code, 3, "{said:?}");
        assert!(
            said.stderr.contains("there is no config") && said.stderr.contains("chmod go-w")
                || said.stderr.contains("others could change it"),
            "{said:?}"
        );
    }
    // Nor through a link in such a folder to a config that is all right.
    let elsewhere = sandbox.outside("elsewhere").join("ops.toml");
    fs::rename(here.join("ops.toml"), &elsewhere).unwrap();
    symlink(&elsewhere, here.join("ops.toml")).unwrap();
    mode(&here, 0o777);
    assert_eq!(run().code, 3);
    // That of the home is used instead.
    sandbox.write("../.agent-ops/ops.toml", "[agent]\nname = \"mine\"\n");
    assert!(run().stdout.contains("agent mine"), "{:?}", run());
}
