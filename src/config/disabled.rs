//! What goes with a service that is not enabled.

use super::Config;

/// Takes away the services that are not enabled, the checks that ask about them, and the checks that come
/// `after` those: to whoever reads the config, they are not there.
pub(super) fn drop_disabled(config: &mut Config) {
    let services = config.service.extract_if(.., |_, service| !service.enabled);
    config.disabled = services.map(|(name, _)| name).collect();
    let mut gone: Vec<String> = Vec::new();
    loop {
        let before = gone.len();
        let asks = |name: &str| config.disabled.iter().any(|disabled| disabled == name);
        let follows = |after: &[String]| after.iter().any(|parent| gone.contains(parent));
        let taken: Vec<String> = config
            .check
            .extract_if(.., |_, check| check.kind.service().is_some_and(asks) || follows(&check.common.after))
            .map(|(name, _)| name)
            .collect();
        gone.extend(taken);
        if gone.len() == before {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_asks_about_it_goes_too_and_what_follows_from_that() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ops.toml");
        let text = "[service.a]\ncommand = [\"a\"]\n[service.b]\ncommand = [\"b\"]\nenabled = false\n\
                    [check.a]\nkind = \"process\"\nservice = \"a\"\n[check.b]\nkind = \"process\"\nservice = \"b\"\n\
                    [check.b_log]\nkind = \"log_errors\"\npaths = []\nafter = [\"b_port\"]\n\
                    [check.b_port]\nkind = \"tcp\"\naddress = \"localhost:1\"\nafter = [\"b\"]\n";
        std::fs::write(&file, text).unwrap();
        let config = crate::config::load(&file, None).unwrap().config;
        assert_eq!(config.service.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(config.check.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(config.disabled, ["b"]);
    }
}
