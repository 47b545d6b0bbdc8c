//! All secrets that a config knows.

use super::Config;
use crate::base::secret::Secret;

impl Config {
    /// Every secret in it, of channels, checks and the bucket.
    pub fn secrets(&self) -> Vec<Secret> {
        let mut copy = self.clone();
        let checks = copy.check.values_mut().flat_map(|check| check.kind.secrets());
        let bucket = copy.backup.s3.iter_mut().flat_map(|s3| s3.secrets());
        checks.chain(bucket).chain(copy.alerts.secrets()).map(|secret| secret.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    /// Every key that takes a secret, each as `V`.
    const ALL: &str = "[check.a]\nkind = \"tcp\"\naddress = \"localhost:1\"\nsend = \"V\"\n\
        [check.b]\nkind = \"http\"\nurl = \"http://localhost\"\nheaders = { A = \"V\" }\nuser = \"u\"\npassword = \"V\"\nbody = \"V\"\nmethod = \"POST\"\n\
        [check.c]\nkind = \"command\"\ncommand = [\"x\"]\nenv = { A = \"V\" }\n\
        [check.d]\nkind = \"metric\"\nurl = \"http://localhost\"\nheaders = { A = \"V\" }\nmetric = \"m\"\nwarn = \"1\"\n\
        [alerts.email]\nhost = \"h\"\nfrom = \"a@b.c\"\nto = []\npassword = \"V\"\n\
        [alerts.webhook]\nurl = \"V\"\nsecret = \"V\"\nheaders = { A = \"V\" }\n\
        [alerts.telegram]\ntoken = \"V\"\nchat = \"1\"\n[alerts.ntfy]\nurl = \"V\"\ntoken = \"V\"\n\
        [alerts.gotify]\nurl = \"http://localhost\"\ntoken = \"V\"\n[alerts.alertmanager]\nurl = \"V\"\nheaders = { A = \"V\" }\n\
        [alerts.deadman]\nalert = \"V\"\nbackup = \"V\"\nrotate_logs = \"V\"\ndrill = \"V\"\n\
        [backup.s3]\nendpoint = \"http://localhost\"\nbucket = \"b\"\naccess_key = \"V\"\nsecret_key = \"V\"\nsession_token = \"V\"\n";

    #[test]
    fn a_variable_brings_values_and_neither_files_nor_commands() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ops.toml");
        let witness = dir.path().join("witness");
        std::fs::write(dir.path().join("s"), "from the file\n").unwrap();
        let load = |value: &str, env: &str| {
            std::fs::write(dir.path().join("env"), env).unwrap();
            let text =
                format!("[agent]\nenv_file = \"env\"\n{}", ALL.replace("\"V\"", &format!("\"{value}\"")));
            std::fs::write(&file, text).unwrap();
            crate::config::load(&file, None).map(|loaded| loaded.config.secrets())
        };
        let count = ALL.matches("\"V\"").count();
        for env in [
            format!("X=command:touch {}; echo v", witness.display()),
            "X=file:/etc/passwd".to_owned(),
            "X=file:s".to_owned(),
        ] {
            let secrets = load("${X}", &env).unwrap();
            assert_eq!(secrets.len(), count);
            assert!(secrets.iter().all(|secret| secret.reveal().unwrap() == env["X=".len()..]), "{env}");
        }
        for (value, env) in [("${A}${B}", "A=file\nB=:s"), ("${N:-file:s}", ""), ("f${A}", "A=ile:s")] {
            let secrets = load(value, env).unwrap();
            assert!(secrets.iter().all(|secret| secret.reveal().unwrap() == "file:s"), "{value}");
        }
        assert!(!witness.exists());
        // What the file itself says holds; in a command a variable is a word and no more.
        let said = load("file:${X}", "X=s").unwrap();
        assert!(said.iter().all(|secret| secret.reveal().unwrap() == "from the file"));
        let said = load("command:echo ${X}", "X=word").unwrap();
        assert!(said.iter().all(|secret| secret.reveal().unwrap() == "word"));
        for bad in ["a;touch b", "$(id)", "`id`", "a b", "-n", "a'b", "a>b", "a\\b"] {
            let error = load("command:echo ${X}", &format!("X={bad}")).unwrap_err();
            assert!(error.to_string().contains("the variable X has characters"), "{bad}: {error}");
        }
        std::fs::write(dir.path().join("env"), "X=file:/etc/shadow\n").unwrap();
        std::fs::write(&file, "[agent]\nenv_file = \"env\"\n[backup]\nencrypt_to = [\"${X}\"]\n").unwrap();
        let error = crate::config::load(&file, None).unwrap_err();
        assert!(error.to_string().contains("not by a variable"), "{error}");
    }

    #[test]
    fn every_secret_that_is_not_shown_is_among_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ops.toml");
        let text = "[check.a]\nkind = \"tcp\"\naddress = \"localhost:1\"\nsend = \"s\"\n\
            [check.b]\nkind = \"http\"\nurl = \"http://localhost\"\nheaders = { A = \"s\" }\nuser = \"u\"\npassword = \"s\"\n\
            [check.c]\nkind = \"command\"\ncommand = [\"x\"]\nenv = { A = \"s\" }\n\
            [alerts.email]\nhost = \"h\"\nfrom = \"a@b.c\"\nto = []\npassword = \"s\"\n\
            [alerts.webhook]\nurl = \"s\"\nsecret = \"s\"\nheaders = { A = \"s\" }\n\
            [alerts.telegram]\ntoken = \"s\"\nchat = \"1\"\n[alerts.ntfy]\nurl = \"s\"\ntoken = \"s\"\n\
            [alerts.gotify]\nurl = \"http://h\"\ntoken = \"s\"\n[alerts.alertmanager]\nurl = \"s\"\n\
            [alerts.deadman]\nalert = \"s\"\n\
            [backup.s3]\nendpoint = \"https://h\"\nbucket = \"b\"\naccess_key = \"s\"\nsecret_key = \"s\"\n";
        std::fs::write(&file, text).unwrap();
        let config = crate::config::load(&file, None).unwrap().config;
        let shown = toml::to_string(&config).unwrap();
        let hidden = shown.matches(crate::base::secret::REDACTED).count();
        assert_eq!((config.secrets().len(), hidden), (16, 16), "{shown}");
        assert!(config.secrets().iter().all(|secret| secret.reveal().unwrap() == "s"));
    }
}
