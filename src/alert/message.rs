//! What people are told: one message, and its spellings.

use super::incident::Incident;
use super::kind::Kind;
use crate::base::units::{Span, age, local};
use crate::base::{Run, State, text};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The pages of `runbooks/`, by alert type.
const RUNBOOKS: [(&str, &str); 9] = [
    ("alerts_held_back", include_str!("../../runbooks/alerts_held_back.md")),
    ("daemon_critical", include_str!("../../runbooks/daemon_critical.md")),
    ("daemon_degraded", include_str!("../../runbooks/daemon_degraded.md")),
    ("disk_critical", include_str!("../../runbooks/disk_critical.md")),
    ("disk_low", include_str!("../../runbooks/disk_low.md")),
    ("email_errors", include_str!("../../runbooks/email_errors.md")),
    ("memory_corrupt", include_str!("../../runbooks/memory_corrupt.md")),
    ("restart_loop", include_str!("../../runbooks/restart_loop.md")),
    ("upgrade_unfinished", include_str!("../../runbooks/upgrade_unfinished.md")),
];

/// The alert type of a service that recovery has given up on.
pub(super) const RESTART_LOOP: &str = "restart_loop";

/// One message, as it waits in the journal until it is delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Its own name: a duplicate carries the same.
    pub uid: String,
    /// What it says.
    pub kind: Kind,
    /// How bad it is now; Ok for a recovery.
    pub severity: State,
    /// How bad it was at worst: decides where the message goes.
    pub urgency: State,
    /// The alert type.
    pub alert: String,
    /// The check.
    pub check: String,
    /// The check's line.
    pub summary: String,
    /// What was tried, and how it ended.
    pub tried: Option<String>,
    /// What to do next.
    pub remedy: Option<String>,
    /// When the incident began.
    pub since: DateTime<Utc>,
    /// When it was good again, for a recovery.
    pub until: Option<DateTime<Utc>>,
    /// Runs in which it was bad and nothing was said.
    pub held: u32,
    /// It comes and goes.
    pub flapping: bool,
    /// What the hourly cap held back so far, and is told now.
    pub digest: Vec<String>,
    /// The agent.
    pub agent: String,
    /// The host.
    pub host: String,
    /// The run that made it.
    pub run: String,
    /// When it was made.
    pub at: DateTime<Utc>,
    /// The uid of the first message of its incident, if that is another.
    pub thread: Option<String>,
    /// It goes to those who are told when nobody answers, too.
    #[serde(default)]
    pub escalated: bool,
    /// Where the runbooks can be read.
    #[serde(default)]
    pub runbooks: Option<String>,
}

impl Message {
    /// The message that says `kind` of an incident, before [`Incident::tell`].
    pub(super) fn about(incident: &Incident, kind: Kind, uid: String, agent: &str, run: &Run) -> Message {
        let worst = incident.told.as_ref().map_or(incident.severity, |told| told.worst);
        let worse = |a: State, b: State| if a.badness(false) > b.badness(false) { a } else { b };
        let recovered = kind == Kind::Recovered;
        Message {
            uid,
            kind,
            severity: if recovered { State::Ok } else { incident.severity },
            urgency: worse(worst, incident.severity),
            alert: incident.alert.clone(),
            check: incident.check.clone(),
            summary: incident.summary.clone(),
            tried: None,
            remedy: incident.remedy.clone().filter(|_| !recovered),
            since: incident.opened,
            until: incident.good_since.filter(|_| recovered),
            held: incident.held,
            flapping: incident.flapping,
            digest: Vec::new(),
            agent: agent.to_owned(),
            host: run.host.clone(),
            run: run.id.clone(),
            at: run.now,
            thread: incident.thread.clone(),
            escalated: match kind {
                Kind::Escalated => true,
                Kind::Recovered => incident.escalated.is_some(),
                _ => incident.gave_up && incident.escalated.is_none(),
            },
            runbooks: None,
        }
    }

    /// A message that tries the channels.
    pub fn test(agent: &str, run: &Run) -> Message {
        Message {
            uid: format!("{}-test", run.id),
            kind: Kind::Test,
            severity: State::Ok,
            urgency: State::Critical,
            alert: "test".to_owned(),
            check: "test".to_owned(),
            summary: "this is a test: alerts of this agent reach you here".to_owned(),
            tried: None,
            remedy: None,
            since: run.now,
            until: None,
            held: 0,
            flapping: false,
            digest: Vec::new(),
            agent: agent.to_owned(),
            host: run.host.clone(),
            run: run.id.clone(),
            at: run.now,
            thread: None,
            escalated: false,
            runbooks: None,
        }
    }

    /// `Daemon Critical`, `Recovered: Daemon Critical`.
    pub fn title(&self) -> String {
        let name = title(&self.alert);
        match self.kind {
            Kind::New | Kind::Test => name,
            Kind::Worse if self.alert == RESTART_LOOP => name,
            Kind::Worse => format!("Worse: {name}"),
            Kind::Reminder => format!("Still: {name}"),
            Kind::Recovered => format!("Recovered: {name}"),
            Kind::Flapping => format!("Flapping: {name}"),
            Kind::Escalated => format!("Unanswered: {name}"),
        }
    }

    /// What it says in one line.
    pub fn line(&self) -> String {
        let mut line = match self.kind {
            Kind::New | Kind::Worse | Kind::Test => self.summary.clone(),
            Kind::Reminder | Kind::Escalated => {
                format!("{}; for {} now", self.summary, age(self.at, self.since))
            }
            Kind::Recovered => {
                let lasted = age(self.until.unwrap_or(self.at), self.since);
                format!("well again after {lasted}; it was: {}", self.summary)
            }
            Kind::Flapping => format!("{}; it comes and goes: quiet until steady for an hour", self.summary),
        };
        if let Some(tried) = &self.tried {
            line.push_str("; ");
            line.push_str(tried);
        }
        text::one_line(&line, 1000)
    }

    /// Who speaks, how bad it is and what it is about: `[mama] CRITICAL Daemon Critical`.
    pub fn headline(&self) -> String {
        text::one_line(&format!("[{}] {} {}", self.agent, self.level(), self.title()), 200)
    }

    /// The whole of it, for a mail.
    pub fn body(&self) -> String {
        format!("{}\n\n{}", self.title(), self.details())
    }

    /// All but the title.
    pub fn details(&self) -> String {
        let mut details = format!("{}\n\n", self.line());
        for (name, value) in self.rows() {
            details.push_str(&format!("{:<10} {value}\n", format!("{name}:")));
        }
        details
    }

    /// The facts, a name and a value each.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = Vec::new();
        let mut row = |name, value: &str| rows.push((name, text::one_line(value, 1000)));
        row("agent", &format!("{} on {}", self.agent, self.host));
        row("check", &self.check);
        if self.kind != Kind::Test {
            row("since", &format!("{} ({})", local(self.since), self.lasted()));
        }
        if let Some(until) = self.until {
            row("well since", &local(until));
        }
        if self.held > 0 {
            row("held back", &format!("{} in between", text::count(self.held as usize, "run")));
        }
        if let Some(tried) = &self.tried {
            row("tried", tried);
        }
        if let Some(remedy) = &self.remedy {
            row("do next", remedy);
        }
        match self.runbook() {
            Some(page) if self.runbooks.is_some() => row("runbook", &page),
            Some(page) => row("runbook", &format!("{page} (or: ops alert why {})", self.alert)),
            None => {}
        }
        for other in &self.digest {
            row("also", other);
        }
        row("run", &format!("{} at {}", self.run, local(self.at)));
        rows
    }

    /// The page that helps: an address, or a path in the project.
    pub fn runbook(&self) -> Option<String> {
        page(&self.alert, self.runbooks.as_deref())
    }

    /// The word in `alerts.log`.
    pub fn level(&self) -> &'static str {
        if self.kind == Kind::Test { "INFO" } else { self.severity.word() }
    }

    fn lasted(&self) -> Span {
        age(self.until.unwrap_or(self.at), self.since)
    }
}

/// Where the page for an alert type is: under the address that is configured, else in the project.
pub(super) fn page(alert: &str, runbooks: Option<&str>) -> Option<String> {
    let base = runbooks.unwrap_or("runbooks").trim_end_matches('/');
    // With an address of their own, operators may have pages for their own types.
    (runbooks.is_some() || runbook(alert).is_some()).then(|| format!("{base}/{alert}.md"))
}

/// The text of the page for an alert type, if there is one.
pub fn runbook(alert: &str) -> Option<&'static str> {
    RUNBOOKS.iter().find(|(name, _)| *name == alert).map(|(_, page)| *page)
}

/// `daemon_critical` → `Daemon Critical`.
pub(super) fn title(alert: &str) -> String {
    alert
        .split('_')
        .filter(|word| !word.is_empty())
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_everything_a_woken_person_needs() {
        let run = Run::begin("alert");
        let mut message = Message::test("mama", &run);
        message.kind = Kind::New;
        message.severity = State::Critical;
        message.alert = "daemon_critical".to_owned();
        message.summary = "process 12 is gone\x1b[31m".to_owned();
        message.tried = Some("restarted as pid 13".to_owned());
        message.remedy = Some("ops logs daemon".to_owned());
        message.digest = vec!["Disk Low: 4 GB free".to_owned()];
        assert_eq!(message.title(), "Daemon Critical");
        let body = message.body();
        for part in [
            "process 12 is gone\\u{1b}[31m",
            "restarted as pid 13",
            "ops logs daemon",
            "runbooks/daemon_critical.md",
            "mama on ",
            &run.id,
            "also:      Disk Low",
        ] {
            assert!(body.contains(part), "{part} is missing in\n{body}");
        }
        assert!(!body.contains('\x1b'));
    }

    #[test]
    fn every_runbook_says_what_it_means_and_what_to_do() {
        for (name, page) in RUNBOOKS {
            assert!(page.starts_with(&format!("# {}", title(name))), "{name}");
            for part in ["## What it means", "## What to look at", "## What to do", "ops "] {
                assert!(page.contains(part), "{name} lacks {part}");
            }
        }
        assert_eq!(title("my_own_thing"), "My Own Thing");
        assert!(runbook("my_own_thing").is_none());
    }
}
