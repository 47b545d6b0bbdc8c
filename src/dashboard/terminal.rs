//! The snapshot on a terminal.

use super::{Service, Snapshot, Strip};
use crate::base::State;
use crate::base::render::paint;
use crate::base::text::count;
use crate::base::units::{Size, Span, age, local};
use crate::health::table::mark;
use std::time::Duration;

/// Lines of at most `width` columns; states are words and marks, colours only come on top.
pub(super) fn render(snapshot: &Snapshot, width: usize, colored: bool) -> String {
    let mut view = View { width: width.max(40), colored, text: String::new() };
    view.head(snapshot);
    view.title("Services");
    for service in &snapshot.services {
        view.row(Some(service.state), &service.name, &service_line(service));
        if let Some(beat) = &service.heartbeat {
            let when = match beat.age {
                Some(age) if age >= 0 => format!("{} ago", Span::seconds(age.unsigned_abs())),
                Some(_) => "in the future".to_owned(),
                None => "never".to_owned(),
            };
            view.row(None, "", &format!("last sign of life {when}, says {}", beat.status));
        }
    }
    view.title("Checks");
    for finding in &snapshot.health.findings {
        view.row(Some(finding.state), &finding.check, &finding.summary);
        if let Some(remedy) = &finding.remedy {
            view.row(None, "", &format!("-> {remedy}"));
        }
    }
    view.storage(snapshot);
    if !snapshot.incidents.is_empty() {
        view.title("Open incidents");
        for incident in &snapshot.incidents {
            let since = age(snapshot.time, incident.since);
            view.row(Some(incident.severity), &incident.kind, &format!("for {since}: {}", incident.summary));
        }
    }
    view.title("Objectives");
    for objective in &snapshot.objectives {
        let state = match objective.met {
            Some(true) => Some(State::Ok),
            Some(false) => Some(State::Warning),
            None => None,
        };
        view.row(state, objective.name, &format!("{:<20} {}", objective.text, objective.target));
    }
    if !snapshot.history.strips.is_empty() {
        view.title("History");
        snapshot.history.strips.iter().for_each(|strip| view.strip(strip));
    }
    view.title("Alerts");
    if snapshot.alerts.is_empty() {
        view.row(None, "none", "");
    }
    for event in snapshot.alerts.iter().take(5) {
        view.line(&format!("  {} {} {}", event.time, event.level, event.text));
    }
    view.text
}

fn service_line(service: &Service) -> String {
    match &service.process {
        Some(process) => {
            let extra =
                if service.detail.is_empty() { String::new() } else { format!("; {}", service.detail) };
            let by = service.manager.map_or(String::new(), |manager| format!(" by {manager}"));
            format!(
                "{}{by}, pid {}, up {}, {}, cpu {} %{extra}",
                service.condition,
                process.pid,
                Span::seconds(process.uptime),
                Size(process.rss),
                process.cpu_percent
            )
        }
        None => format!("{}: {}", service.condition, service.detail),
    }
}

struct View {
    width: usize,
    colored: bool,
    text: String,
}

impl View {
    /// One line, cut at the edge.
    fn line(&mut self, line: &str) {
        let cut: String = line.chars().take(self.width).collect();
        self.text.push_str(cut.trim_end());
        self.text.push('\n');
    }

    fn head(&mut self, snapshot: &Snapshot) {
        let word = format!("{} {}", mark(snapshot.state), snapshot.state);
        let rest = format!("  {} on {}  {}", snapshot.agent, snapshot.host, local(snapshot.time));
        let rest: String = rest.chars().take(self.width.saturating_sub(word.len())).collect();
        self.text.push_str(&format!("{}{rest}\n", paint(self.colored, snapshot.state, &word)));
        self.line(&snapshot.home);
    }

    fn title(&mut self, title: &str) {
        let line = format!("{title} {}", "-".repeat(self.width.min(80).saturating_sub(title.len() + 1)));
        let line = if self.colored { format!("\x1b[2m{line}\x1b[0m") } else { line };
        self.text.push_str(&format!("\n{line}\n"));
    }

    /// A mark, a name, and what is to be said: continued below where it is longer than a line.
    fn row(&mut self, state: Option<State>, name: &str, what: &str) {
        const NAME: usize = 14;
        let room = self.width.saturating_sub(NAME + 4).max(20);
        let name: String = name.chars().take(NAME).collect();
        let mut pieces = wrap(what, room).into_iter();
        let sign = state.map_or(" ".to_owned(), |state| paint(self.colored, state, &mark(state).to_string()));
        let first = pieces.next().unwrap_or_default();
        self.text.push_str(format!("{sign} {name:<NAME$}  {first}").trim_end());
        self.text.push('\n');
        for piece in pieces {
            self.line(&format!("  {:<NAME$}  {piece}", ""));
        }
    }

    fn storage(&mut self, snapshot: &Snapshot) {
        self.title("Storage");
        let disk = snapshot.disk.as_ref().map_or("could not be looked at".to_owned(), |disk| {
            format!("{} free of {} ({} % used)", Size(disk.free), Size(disk.total), disk.used_percent)
        });
        self.row(None, "disk", &disk);
        let bytes = snapshot.databases.iter().map(|file| file.bytes).sum();
        self.row(None, "databases", &format!("{}, {}", count(snapshot.databases.len(), "file"), Size(bytes)));
        let errors = snapshot.logs.errors.map_or(String::new(), |number| {
            format!(", {} lately", count(usize::try_from(number).unwrap_or(usize::MAX), "error line"))
        });
        let logs = &snapshot.logs;
        self.row(None, "logs", &format!("{}, {}{errors}", count(logs.files, "file"), Size(logs.bytes)));
        let newest = snapshot.backups.newest.as_ref().map_or("none yet".to_owned(), |newest| {
            let verified = if newest.verified { "verified" } else { "not verified" };
            let age = Span(Duration::from_secs(newest.age));
            format!(
                "{}, {}; the newest {age} old, {}, {verified}",
                count(snapshot.backups.count, "archive"),
                Size(snapshot.backups.bytes),
                Size(newest.bytes)
            )
        });
        self.row(None, "backups", &newest);
    }

    /// A character a piece: `.` nobody looked, `=` ok.
    fn strip(&mut self, strip: &Strip) {
        let share = strip.runs.percent().map_or("no runs".to_owned(), |percent| format!("{percent:.1} % ok"));
        let mut line = format!("  {:<5} ", strip.name);
        for bucket in &strip.buckets {
            line.push_str(&match bucket.worst {
                None => ".".to_owned(),
                Some(State::Ok) => paint(self.colored, State::Ok, "="),
                Some(state) => paint(self.colored, state, &mark(state).to_string()),
            });
        }
        self.text.push_str(&format!("{line} {share}\n"));
    }
}

/// Cuts a text into lines of at most `width` characters, at blanks where there are any.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        while let Some(line) = lines.last_mut() {
            let used = line.chars().count();
            let gap = usize::from(used > 0);
            if used + gap + word.len() <= width {
                line.extend(std::iter::repeat_n(' ', gap).chain(word.iter().copied()));
                break;
            }
            if used == 0 {
                line.extend(word.drain(..width));
            }
            lines.push(String::new());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn wrapped_text_fits_and_is_all_there(text in "[a-z]{0,9}( [a-zé]{1,50}){0,9}", width in 5usize..60) {
            let lines = wrap(&text, width);
            prop_assert!(lines.iter().all(|line| line.chars().count() <= width));
            let letters = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }
    }
}
