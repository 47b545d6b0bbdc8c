//! What its owner changed in a unit that we wrote: it goes on in a drop-in, which systemd reads after
//! the unit.

/// The settings of `found` that are not in `written`, in their sections; empty: there are none. With
/// them, the settings that were taken out: nothing can be said for those in a drop-in.
pub(super) fn edits(written: &str, found: &str) -> (String, Vec<String>) {
    let (old, new) = (settings(written), settings(found));
    let mut text = String::new();
    let mut section = "";
    for setting in &new {
        if old.contains(setting) {
            continue;
        }
        if section != setting.0 {
            section = setting.0;
            text.push_str(&format!("{section}\n"));
        }
        // A command replaces the one before it only where the list of them is emptied first.
        if let Some((key @ ("ExecStart" | "ExecStop"), _)) = setting.1.split_once('=') {
            text.push_str(&format!("{key}=\n"));
        }
        text.push_str(&format!("{}\n", setting.1));
    }
    let key = |setting: &str| setting.split('=').next().unwrap_or_default().trim().to_owned();
    let gone = old
        .iter()
        .filter(|(section, line)| !new.iter().any(|(other, new)| other == section && key(new) == key(line)))
        .map(|(_, line)| line.clone());
    (text, gone.collect())
}

/// Each setting with its section; lines that are continued are one.
fn settings(text: &str) -> Vec<(&str, String)> {
    let mut section = "";
    let mut found: Vec<(&str, String)> = Vec::new();
    let mut continued = false;
    for line in text.lines() {
        let trimmed = line.trim();
        match found.last_mut() {
            Some((_, last)) if continued => last.push_str(&format!("\n{line}")),
            _ if trimmed.is_empty() || trimmed.starts_with(['#', ';']) => continue,
            _ if trimmed.starts_with('[') => section = trimmed,
            _ => found.push((section, trimmed.to_owned())),
        }
        continued = trimmed.ends_with('\\') && !trimmed.starts_with('[');
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = "# ours\n[Unit]\nDescription=a\n[Service]\nExecStart=:/ops\nNice=10\nLimitCORE=0\n";

    #[test]
    fn what_was_changed_or_added_goes_on() {
        assert_eq!(edits(WRITTEN, WRITTEN), (String::new(), Vec::new()));
        assert_eq!(edits(WRITTEN, &format!("# theirs\n\n{WRITTEN}")), (String::new(), Vec::new()));
        let edited = WRITTEN.replace("Nice=10", "Nice=5\nMemoryMax=2G").replace("=a\n", "=a\nAfter=b\n");
        assert_eq!(edits(WRITTEN, &edited).0, "[Unit]\nAfter=b\n[Service]\nNice=5\nMemoryMax=2G\n");
        let edited = WRITTEN.replace("ExecStart=:/ops", "ExecStart=/mine \\\n  --all");
        assert_eq!(edits(WRITTEN, &edited).0, "[Service]\nExecStart=\nExecStart=/mine \\\n  --all\n");
    }

    #[test]
    fn what_was_taken_out_is_told() {
        let edited = WRITTEN.replace("LimitCORE=0\n", "");
        assert_eq!(edits(WRITTEN, &edited), (String::new(), vec!["LimitCORE=0".to_owned()]));
    }
}
