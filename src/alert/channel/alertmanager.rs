//! What is open, told to an Alertmanager: state, not messages.
//!
//! <https://prometheus.io/docs/alerting/latest/clients/>: firing alerts are sent again in every run,
//! with an end that lies ahead; those that ended are sent with their end for a while.

use crate::alert::http::Post;
use crate::alert::incident::Incident;
use crate::alert::message::{page, title};
use crate::alert::outcome::Outcome;
use crate::base::State;
use crate::base::text::one_line;
use crate::config::channels::Alertmanager;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(5);

/// One alert, as the API wants it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Alert {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<&'static str, String>,
    starts_at: String,
    ends_at: String,
}

/// Who and where, the same for every alert of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender<'a> {
    /// The settings.
    pub(crate) settings: &'a Alertmanager,
    /// The agent.
    pub(crate) agent: &'a str,
    /// The host.
    pub(crate) host: &'a str,
    /// Where runbooks can be read.
    pub(crate) runbooks: Option<&'a str>,
    /// Now.
    pub(crate) now: DateTime<Utc>,
    /// While people are to be left alone, nothing begins there; what it knows stays alive.
    pub(crate) silent_since: Option<DateTime<Utc>>,
}

impl Sender<'_> {
    /// The alerts of incidents: what is open, and what ended lately or goes by other labels now.
    pub(crate) fn alerts<'i>(&self, incidents: impl Iterator<Item = &'i Incident>) -> Vec<Alert> {
        let lately =
            |at: DateTime<Utc>| at <= self.now && at > self.now - self.settings.resolve_after.delta();
        let mut alerts: Vec<Alert> = Vec::new();
        for incident in incidents.filter(|incident| !incident.suspected) {
            if self.silent_since.is_some_and(|since| incident.opened >= since) {
                continue;
            }
            let now = (incident.alert.as_str(), incident.severity);
            match incident.ended() {
                None => {
                    let ends = self.now + self.settings.resolve_after.delta();
                    alerts.push(self.alert(incident, now.0, now.1, ends));
                }
                Some(closed) if lately(closed) => alerts.push(self.alert(incident, now.0, now.1, closed)),
                Some(_) => {}
            }
            for former in incident.former.iter().filter(|former| lately(former.until)) {
                if (former.alert.as_str(), former.severity) != now {
                    alerts.push(self.alert(incident, &former.alert, former.severity, former.until));
                }
            }
        }
        alerts
    }

    fn alert(&self, incident: &Incident, alert: &str, severity: State, ends: DateTime<Utc>) -> Alert {
        let mut labels = self.settings.labels.clone();
        for (name, value) in [
            ("alertname", alert),
            ("severity", if severity == State::Critical { "critical" } else { "warning" }),
            ("agent", self.agent),
            ("host", self.host),
            ("check", &incident.check),
        ] {
            labels.insert(name.to_owned(), value.to_owned());
        }
        let mut annotations = BTreeMap::from([
            ("summary", format!("{}: {}", title(alert), one_line(&incident.summary, 300))),
            ("description", description(incident)),
        ]);
        if let Some(page) = page(alert, self.runbooks) {
            annotations.insert("runbook_url", page);
        }
        Alert { labels, annotations, starts_at: utc(incident.opened), ends_at: utc(ends) }
    }
}

fn description(incident: &Incident) -> String {
    let mut text = one_line(&incident.summary, 1000);
    if let Some(remedy) = &incident.remedy {
        text.push_str(&format!("\nDo next: {}", one_line(remedy, 500)));
    }
    text
}

fn utc(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Posts alerts beside everything else; the outcome comes in its time.
pub(crate) fn begin(settings: &Alertmanager, alerts: Vec<Alert>) -> Posting {
    let (send, receive) = mpsc::channel();
    let deadline = Instant::now() + LIMIT;
    let settings = settings.clone();
    std::thread::spawn(move || {
        let _ = send.send(post(&settings, &alerts, deadline));
    });
    Posting { receive, deadline, outcome: OnceCell::new() }
}

/// A post that is under way.
pub(crate) struct Posting {
    receive: mpsc::Receiver<Outcome>,
    deadline: Instant,
    outcome: OnceCell<Outcome>,
}

impl Posting {
    /// Waits for it, but not beyond its time.
    pub(crate) fn outcome(&self) -> &Outcome {
        self.outcome.get_or_init(|| self.wait())
    }

    fn wait(&self) -> Outcome {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.receive.recv_timeout(left).unwrap_or_else(|_| {
            Outcome::Failed(format!("not done within {}", crate::base::units::Span(LIMIT)))
        })
    }
}

fn post(settings: &Alertmanager, alerts: &[Alert], deadline: Instant) -> Outcome {
    let post = Post::to(&settings.url).map(|post| post.below("/api/v2/alerts"));
    let post = settings
        .headers
        .iter()
        .fold(post, |post, (name, value)| post.and_then(|post| post.secret_header(name, "", value)));
    post.map_or_else(|outcome| outcome, |post| post.json(&alerts, deadline).outcome())
}
