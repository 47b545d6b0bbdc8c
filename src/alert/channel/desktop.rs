//! A notification on this machine's screen.

use crate::alert::message::Message;
use crate::alert::outcome::Outcome;

/// Shows a message. A notification daemon that hangs hangs this: the caller bounds it.
#[cfg(feature = "desktop")]
pub(super) fn send(message: &Message) -> Outcome {
    if let Some(why) = absent() {
        return Outcome::Unavailable(why);
    }
    show(message)
}

/// Shows nothing: built without it.
#[cfg(not(feature = "desktop"))]
pub(super) fn send(_: &Message) -> Outcome {
    Outcome::Unavailable("this program was built without desktop notifications".to_owned())
}

/// Why there is no screen to show anything on, if so: under cron there is none, and asking for
/// one would start a daemon that nobody looks at.
#[cfg(all(feature = "desktop", not(target_os = "macos")))]
fn absent() -> Option<String> {
    let named = std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some_and(|address| !address.is_empty());
    let bus = format!("/run/user/{}/bus", rustix::process::getuid().as_raw());
    let missing = !named && !std::path::Path::new(&bus).exists();
    missing.then(|| "there is no desktop session".to_owned())
}

#[cfg(all(feature = "desktop", target_os = "macos"))]
fn absent() -> Option<String> {
    None
}

#[cfg(all(feature = "desktop", not(target_os = "macos")))]
fn show(message: &Message) -> Outcome {
    use crate::base::State;
    use notify_rust::{Notification, Urgency};
    let urgency = match message.severity {
        State::Critical => Urgency::Critical,
        State::Ok => Urgency::Low,
        State::Warning | State::Unknown => Urgency::Normal,
    };
    let shown = Notification::new()
        .appname("agent-ops")
        .summary(&title(message))
        .body(&escape(&message.line()))
        .urgency(urgency)
        .show();
    match shown {
        Ok(_) => Outcome::Delivered(None),
        Err(error) => Outcome::Failed(crate::base::text::one_line(&error.to_string(), 300)),
    }
}

/// The notification centre, and where that refuses, `osascript`.
#[cfg(all(feature = "desktop", target_os = "macos"))]
fn show(message: &Message) -> Outcome {
    // Without an application of its own the library asks for one, and that question can hang.
    // Setting it twice in one run is refused, and that is no harm.
    let _ = notify_rust::set_application("com.apple.Terminal");
    let shown = notify_rust::Notification::new().summary(&title(message)).body(&message.line()).show();
    match shown {
        Ok(_) => Outcome::Delivered(None),
        Err(first) => match osascript(message) {
            Ok(()) => Outcome::Delivered(None),
            Err(second) => Outcome::Failed(crate::base::text::one_line(&format!("{first}; {second:#}"), 300)),
        },
    }
}

/// The texts are arguments of the script, never part of it.
#[cfg(all(feature = "desktop", target_os = "macos"))]
fn osascript(message: &Message) -> anyhow::Result<()> {
    let mut command = std::process::Command::new("osascript");
    command
        .args(["-e", "on run argv"])
        .args(["-e", "display notification (item 2 of argv) with title (item 1 of argv)"])
        .args(["-e", "end run"])
        // The title begins with '[': it cannot be read as an option.
        .args([title(message), message.line()]);
    let output = crate::base::process::run(command, None, std::time::Duration::from_secs(2))?;
    anyhow::ensure!(output.status.success(), "osascript failed ({})", output.status);
    Ok(())
}

#[cfg(feature = "desktop")]
fn title(message: &Message) -> String {
    crate::base::text::one_line(&format!("[{}] {}", message.agent, message.title()), 120)
}

/// A notification daemon may read markup in the body.
#[cfg(all(feature = "desktop", not(target_os = "macos")))]
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(all(test, feature = "desktop", not(target_os = "macos")))]
mod tests {
    #[test]
    fn markup_is_text() {
        assert_eq!(super::escape("<b>a & b</b>"), "&lt;b&gt;a &amp; b&lt;/b&gt;");
    }
}
