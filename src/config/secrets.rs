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
            [backup.s3]\nendpoint = \"http://h\"\nbucket = \"b\"\naccess_key = \"s\"\nsecret_key = \"s\"\n";
        std::fs::write(&file, text).unwrap();
        let config = crate::config::load(&file, None).unwrap().config;
        let shown = toml::to_string(&config).unwrap();
        let hidden = shown.matches(crate::base::secret::REDACTED).count();
        assert_eq!((config.secrets().len(), hidden), (16, 16), "{shown}");
        assert!(config.secrets().iter().all(|secret| secret.reveal().unwrap() == "s"));
    }
}
