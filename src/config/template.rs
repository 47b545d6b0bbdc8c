//! The `ops.toml` that `ops init` and `ops up` write: short, commented, complete by itself.

/// The text of a new `ops.toml` for an agent of this name, with what its preset suggests to change. `home` is
/// told where it is not the file's folder.
///
/// Everything in it that is commented out shows the default.
pub fn starter(name: &str, preset: &str, home: Option<&str>, suggested: &str) -> String {
    let quoted = |path: &str| toml::Value::String(path.replace("${", "$${")).to_string();
    let preset_line = format!("preset = {}", quoted(preset));
    let home_line = match home {
        Some(home) => format!("home = {}", quoted(home)),
        None => "# home = \".\"               # this file's folder".to_owned(),
    };
    format!(
        r##"# agent-ops: how the agent "{name}" is kept alive, backed up, quiet and visible.
# Every key has a default. What is commented out shows it, or what to write instead. `ops config show`
# prints what is in force, `ops config check` tells what is wrong and where.

[agent]
name = "{name}"
{preset_line:<26} # services and checks that this file adds to
{home_line}
# env_file = ".env"        # NAME=value lines for ${{NAME}} here and for the services

{suggested}

# [check.disk]
# kind = "disk"
# warn = "5GB"             # less than this is free
# crit = "2GB"

# [backup]
# dir = "backups"
# keep = {{ all = "7d", weekly = "30d", monthly = "365d" }}
# encrypt_to = []          # age1…: archives that only the holders of these keys can read

# [logs]
# compress_after = "1d"
# delete_after = "30d"
# max_size = "100MB"       # a log in use is cut to its last keep_lines above this
# keep_lines = 1000
# discipline = "rename"    # its writers open it anew: it is renamed instead

# [alerts]
# cooldown = "30m"         # the least time between two messages about one thing
# max_per_hour = 5
# recover = true           # restart a service that died

# [alerts.email]
# host = "smtp.example.org"
# user = "me@example.org"
# password = "${{SMTP_PASSWORD}}"
# from = "agent@example.org"
# to = ["me@example.org"]

# [alerts.webhook]
# url = "${{ALERT_WEBHOOK_URL}}"
# format = "slack"         # or "discord", "teams", "generic"

# [alerts.telegram]        # also: ntfy, gotify, alertmanager, command
# token = "file:telegram-token"
# chat = "123456789"

# [alerts.deadman]         # somebody else raises the alarm when this stops coming
# alert = "${{DEADMAN_URL}}"

# [schedule]               # for `ops cron-install`
# alert = "*/5 * * * *"
# backup = "0 2 * * *"
# drill = "0 4 * * 0"      # the newest backup, restored on trial
"##,
        suggested = suggested.trim()
    )
}

#[cfg(test)]
mod tests {
    use crate::config::preset::Preset;

    /// The commented lines must stay true: uncommented, they must load, and set what is the default.
    #[test]
    fn every_suggestion_is_valid() {
        for preset in Preset::all() {
            let text = super::starter("agent", &preset.name, None, &preset.about().unwrap().starter);
            let lines = text.lines().map(|line| {
                let bare = line.strip_prefix("# ").unwrap_or(line);
                let setting = bare.starts_with('[')
                    || bare.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
                let wanted = setting && !bare.starts_with("env_file");
                if wanted { bare.replace("${", "$${") } else { String::new() }
            });
            let text: String = lines.map(|line| line + "\n").collect();
            assert!(text.contains("[alerts.email]"), "{text}");
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("ops.toml"), &text).unwrap();
            let loaded = crate::config::load(&dir.path().join("ops.toml"), None)
                .unwrap_or_else(|error| panic!("{}: {error:#}\n{text}", preset.name));
            assert!(!loaded.config.service.is_empty());
            // Short enough to be read.
            assert!(text.lines().count() < 100, "{}", preset.name);
        }
    }
}
