use super::*;
use crate::config::check::Kind;
use crate::config::preset::Preset;

fn read(source: &str) -> Result<Loaded> {
    parse(Path::new("/srv/bot/ops.toml"), source, None)
}

fn error(source: &str) -> (String, String) {
    let error = read(source).unwrap_err();
    let hint = Fault::of(&error).1.unwrap_or_default().to_owned();
    assert_eq!(Fault::of(&error).0, crate::base::State::Unknown);
    (error.to_string(), hint)
}

#[test]
fn an_empty_file_is_the_built_in_agent_beside_it() {
    let loaded = read("").unwrap();
    assert_eq!(loaded.home.root(), Path::new("/srv/bot"));
    assert_eq!(loaded.config.agent.preset, "builtin");
    let daemon = &loaded.config.service["daemon"];
    assert_eq!(daemon.status_file.as_deref(), Some(Path::new("/srv/bot/logs/daemon_status.json")));
    assert_eq!(daemon.ready, "status");
    assert!(loaded.config.check.len() >= 7);
    assert_eq!(loaded.config.backup.include, ["memory/**", "config/**", "ops.toml"]);
}

#[test]
fn every_preset_stands_alone() {
    for preset in Preset::all() {
        read(&format!("[agent]\npreset = \"{}\"\n", preset.name)).unwrap();
    }
}

#[test]
fn a_file_adds_to_its_preset_key_by_key() {
    let loaded = read("[check.disk]\nwarn = \"50GB\"\n[check.log_size]\nenabled = false\n").unwrap();
    let Kind::Disk(disk) = &loaded.config.check["disk"].kind else { panic!("disk is a disk check") };
    assert_eq!(disk.warn.0.limit(), 50e9);
    assert_eq!(disk.crit.0.limit(), 2e9);
    assert!(!loaded.config.check["log_size"].common.enabled);
}

#[test]
fn a_config_with_services_has_no_preset() {
    let loaded =
        read("[service.bot]\ncommand = [\"./bot\"]\n[service.web]\ncommand = [\"./web\"]\n").unwrap();
    assert_eq!(loaded.config.service.len(), 2);
    assert!(loaded.config.check.is_empty());
}

#[test]
fn errors_point_at_the_place() {
    let (message, hint) = error("[alerts]\ncoldown = \"30m\"\n");
    assert_eq!(message, "/srv/bot/ops.toml:2:1: unknown key 'coldown'");
    assert_eq!(hint, "did you mean 'cooldown'?");

    let (message, _) = error("[alerts]\ncooldown = 30\n");
    assert!(message.starts_with("/srv/bot/ops.toml:2:12: "), "{message}");

    let (message, _) = error("[alerts]\n  cooldown = \"soon\"\n");
    assert!(message.starts_with("/srv/bot/ops.toml:2:14: ") && message.contains("like 30s"), "{message}");

    let (message, _) = error("[check.disk]\n\nwarm = \"5GB\"\n");
    assert_eq!(message, "/srv/bot/ops.toml:3:1: unknown key 'warm'");

    let (message, hint) = error("[check.x]\nkind = \"heartbeet\"\n");
    assert_eq!(message, "/srv/bot/ops.toml:2:8: unknown value 'heartbeet'");
    assert_eq!(hint, "did you mean 'heartbeat'?");

    let (message, _) = error("[check.x]\nwarn = 1\n");
    assert!(message.starts_with("/srv/bot/ops.toml:1:8: the check 'x' has no kind"), "{message}");

    let (message, _) = error("[backup]\ndir = \"${NO_SUCH_VARIABLE_HERE}\"\n");
    assert!(
        message.starts_with("/srv/bot/ops.toml:2:7: ") && message.contains("NO_SUCH_VARIABLE_HERE"),
        "{message}"
    );

    let (message, _) = error("[service.a]\ncommand = []\n");
    assert!(message.starts_with("/srv/bot/ops.toml:1:10: "), "{message}");

    let (message, _) = error("[service.\"../x\"]\ncommand = [\"x\"]\n");
    assert!(message.contains("may only hold"), "{message}");

    let (message, _) = error("[check.\"a b\"]\nkind = \"disk\"\n");
    assert!(message.starts_with("/srv/bot/ops.toml:1:8: the name 'a b'"), "{message}");

    let (message, hint) = error("[agnet]\n");
    assert_eq!(message, "/srv/bot/ops.toml:1:2: unknown key 'agnet'");
    assert_eq!(hint, "did you mean 'agent'?");

    let (message, _) = error("[agent\n");
    assert!(message.starts_with("/srv/bot/ops.toml:1:"), "{message}");

    let (message, _) = error("[check.h]\nkind = \"heartbeat\"\nservice = \"deamon\"\n");
    assert!(message.contains("did you mean 'daemon'?"), "{message}");
}

#[test]
fn a_bucket_needs_little_and_is_checked() {
    let s3 = |more: &str| {
        read(&format!(
            "[agent]\nname = \"bot\"\n[backup.s3]\nendpoint = \"https://s3.example\"\nbucket = \"b\"\n{more}"
        ))
    };
    let keys = "access_key = \"AKIA\"\nsecret_key = \"file:.s3\"\n";
    let loaded = s3(keys).unwrap();
    let found = loaded.config.backup.s3.clone().unwrap();
    assert_eq!((found.prefix.as_deref(), found.region.as_str()), (Some("bot/"), "us-east-1"));
    assert!(found.path_style && found.keep.is_none());
    // The check of it comes along, and can be set or turned off like one of the preset.
    assert!(matches!(&loaded.config.check["copy"].kind, Kind::CopyAge(_)));
    let off = s3("[check.copy]\nenabled = false\nwarn = \"2d\"\n").unwrap();
    assert!(!off.config.check["copy"].common.enabled);
    assert!(!read("").unwrap().config.check.contains_key("copy"));
    assert!(error("[check.c]\nkind = \"copy_age\"\n").0.contains("there is no [backup.s3]"));
    let shown = toml::to_string(&loaded.config).unwrap();
    assert!(shown.contains("file:/srv/bot/.s3") && !shown.contains("AKIA"), "{shown}");
    for wrong in [
        "access_key = \"AKIA\"",
        "prefix = \"a/../b/\"",
        "prefix = \"/a\"",
        "keys = 1",
        "endpoint = \"ftp://x\"",
    ] {
        let error = s3(wrong).unwrap_err().to_string();
        assert!(error.contains("ops.toml"), "{wrong}: {error}");
    }
}

#[test]
fn keys_of_encryption_are_paths_and_public_keys() {
    let backup = |more: &str| read(&format!("[backup]\n{more}\n"));
    let found = backup("encrypt_to = \"age1xyz\"\nidentity = \"~/key\"").unwrap().config.backup;
    assert_eq!(found.encrypt_to, ["age1xyz"]);
    assert!(found.identity.unwrap().is_absolute());
    let found = backup("encrypt_to = [\"file:keys/all\", \"ssh-ed25519 AAAA me\"]").unwrap();
    assert_eq!(found.config.backup.encrypt_to, ["file:/srv/bot/keys/all", "ssh-ed25519 AAAA me"]);
    assert_eq!(found.config.backup.age_program, Path::new("age"));
    let relative = backup("age_program = \"tools/rage\"").unwrap().config.backup.age_program;
    assert_eq!(relative, Path::new("/srv/bot/tools/rage"));
    for wrong in [
        "encrypt_to = [\"AGE-SECRET-KEY-1QQQ\"]",
        "encrypt_to = \"age-secret-key-1QQQ\"",
        "encrypt_to = { key = \"AGE-SECRET-KEY-1QQQ\" }",
        "encrypt_to = [[\"AGE-SECRET-KEY-1QQQ\"]]",
        "encrypt_to = [\"--identity=QQQ\"]",
        "identity = \"AGE-SECRET-KEY-1QQQ\"",
    ] {
        let (message, hint) = error(&format!("[backup]\n{wrong}\n"));
        assert!(!message.contains("QQQ") && !hint.contains("QQQ"), "{message} {hint}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let loaded = read("[alerts.webhook]\nurl = \"https://hooks.example/T0P53CR3T\"\n").unwrap();
    let shown = toml::to_string(&loaded.config).unwrap();
    assert!(!shown.contains("T0P53CR3T"), "{shown}");
    assert!(!format!("{:?}", loaded.config).contains("T0P53CR3T"));
}

#[test]
fn nothing_secret_goes_to_another_machine_in_clear() {
    let s3 = |endpoint: &str, more: &str| {
        read(&format!("[backup.s3]\nbucket = \"b\"\nendpoint = \"{endpoint}\"\n{more}")).is_ok()
    };
    for here in ["http://localhost:9000", "http://127.0.0.2", "http://[::1]:9000/x", "https://s3.example"] {
        assert!(s3(here, ""), "{here}");
    }
    for away in [
        "http://s3.example",
        "http://127.0.0.1.example/",
        "http://localhost@s3.example:80",
        "http://[fd00::1]/",
    ] {
        assert!(!s3(away, ""), "{away}");
        assert!(s3(away, "allow_plaintext = true"), "{away}");
    }
    let mail = |host: &str, more: &str| {
        read(&format!("[alerts.email]\nhost = \"{host}\"\nfrom = \"a@b.c\"\nto = []\n{more}")).is_ok()
    };
    let login = "tls = \"none\"\nuser = \"me\"\npassword = \"s\"\n";
    assert!(mail("localhost", login) && mail("::1", login) && mail("relay", "tls = \"none\""));
    assert!(!mail("relay", login) && !mail("10.0.0.1", login));
    assert!(mail("relay", &format!("{login}allow_plaintext = true\n")));
}

#[test]
fn what_a_service_is_told_is_not_shown() {
    let loaded = read("[service.bot]\ncommand = [\"x\"]\nenv = { API_TOKEN = \"sk-123\" }\n").unwrap();
    let shown = toml::to_string(&loaded.config).unwrap();
    assert!(shown.contains("API_TOKEN") && !shown.contains("sk-123"), "{shown}");
}
