//! The snapshot on a terminal.

use super::{Service, Snapshot, Strip};
use crate::base::State;
use crate::base::render::paint;
use crate::base::text::{self, count};
use crate::base::units::{Size, Span, age, local};
use crate::health::Finding;
use crate::health::table::mark;
use std::time::Duration;

/// The column of names is no narrower, and no wider.
const LEAST_NAME: usize = 14;
const MOST_NAME: usize = 22;

/// Lines of at most `width` columns; states are words and marks, colours only come on top.
pub(super) fn render(snapshot: &Snapshot, width: usize, colored: bool) -> String {
    let mut view = View::of(snapshot, width, colored);
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
    snapshot.health.findings.iter().for_each(|finding| view.finding(finding));
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
    view.events(snapshot, 5);
    view.text
}

pub(super) fn service_line(service: &Service) -> String {
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

/// What is written, and how.
pub(super) struct View {
    width: usize,
    colored: bool,
    /// The width of the column of names.
    name: usize,
    pub(super) text: String,
}

impl View {
    pub(super) fn of(snapshot: &Snapshot, width: usize, colored: bool) -> View {
        let services = snapshot.services.iter().map(|service| service.name.as_str());
        let checks = snapshot.health.findings.iter().map(|finding| finding.check.as_str());
        let kinds = snapshot.incidents.iter().map(|incident| incident.kind.as_str());
        let longest = services.chain(checks).chain(kinds).map(|name| name.chars().count()).max();
        let name = longest.unwrap_or(0).clamp(LEAST_NAME, MOST_NAME);
        View { width: width.max(40), colored, name, text: String::new() }
    }

    /// One line, cut at the edge.
    fn line(&mut self, line: &str) {
        let cut: String = line.chars().take(self.width).collect();
        self.text.push_str(cut.trim_end());
        self.text.push('\n');
    }

    pub(super) fn head(&mut self, snapshot: &Snapshot) {
        let word = format!("{} {}", mark(snapshot.state), snapshot.state);
        let rest = format!("  {} on {}  {}", snapshot.agent, snapshot.host, local(snapshot.time));
        let rest: String = rest.chars().take(self.width.saturating_sub(word.len())).collect();
        self.text.push_str(&format!("{}{rest}\n", paint(self.colored, snapshot.state, &word)));
        self.line(&snapshot.home);
    }

    fn title(&mut self, title: &str) {
        self.text.push('\n');
        self.heading(title);
    }

    pub(super) fn heading(&mut self, title: &str) {
        let line = format!("{title} {}", "-".repeat(self.width.min(80).saturating_sub(title.len() + 1)));
        let line = if self.colored { format!("\x1b[2m{line}\x1b[0m") } else { line };
        self.text.push_str(&format!("{line}\n"));
    }

    /// A mark, a name, and what is to be said: continued below where it is longer than a line.
    pub(super) fn row(&mut self, state: Option<State>, name: &str, what: &str) {
        let column = self.name;
        let room = self.width.saturating_sub(column + 4).max(20);
        let name = text::one_line(name, column);
        let mut pieces = text::wrap(what, room).into_iter();
        let sign = state.map_or(" ".to_owned(), |state| paint(self.colored, state, &mark(state).to_string()));
        let first = pieces.next().unwrap_or_default();
        self.text.push_str(format!("{sign} {name:<column$}  {first}").trim_end());
        self.text.push('\n');
        for piece in pieces {
            self.line(&format!("  {:<column$}  {piece}", ""));
        }
    }

    /// How a check is, and what to do about it.
    pub(super) fn finding(&mut self, finding: &Finding) {
        self.row(Some(finding.state), &finding.check, &finding.summary);
        if let Some(remedy) = &finding.remedy {
            self.row(None, "", &format!("-> {remedy}"));
        }
    }

    /// The last messages, so many at most.
    pub(super) fn events(&mut self, snapshot: &Snapshot, most: usize) {
        for event in snapshot.alerts.iter().take(most) {
            self.line(&format!("  {} {} {}", event.time, event.level, event.text));
        }
    }

    pub(super) fn disk(&mut self, snapshot: &Snapshot) {
        let disk = snapshot.disk.as_ref().map_or("could not be looked at".to_owned(), |disk| {
            format!("{} free of {} ({} % used)", Size(disk.free), Size(disk.total), disk.used_percent)
        });
        self.row(None, "disk", &disk);
    }

    fn storage(&mut self, snapshot: &Snapshot) {
        self.title("Storage");
        self.disk(snapshot);
        let bytes = snapshot.databases.iter().map(|file| file.bytes).sum();
        self.row(None, "databases", &format!("{}, {}", count(snapshot.databases.len(), "file"), Size(bytes)));
        let errors = snapshot.logs.errors.map_or(String::new(), |number| {
            format!(", {} lately", count(usize::try_from(number).unwrap_or(usize::MAX), "error line"))
        });
        let logs = &snapshot.logs;
        self.row(None, "logs", &format!("{}, {}{errors}", count(logs.files, "file"), Size(logs.bytes)));
        self.backups(snapshot);
    }

    pub(super) fn backups(&mut self, snapshot: &Snapshot) {
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
        snapshot.backups.flaws.iter().for_each(|flaw| self.row(None, "", flaw));
    }

    /// A character a piece: `.` nobody looked, `=` ok.
    pub(super) fn strip(&mut self, strip: &Strip) {
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
