//! What a check answers, and all answers of one run.

use crate::base::range::{Range, Unit};
use crate::base::units::{self, Span};
use crate::base::{Run, State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One measured number, with the thresholds it was held against.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Metric {
    /// Its name: lower case, digits and `_`.
    pub label: String,
    /// The number; none if it could not be measured.
    pub value: Option<f64>,
    /// What it counts.
    #[serde(serialize_with = "uom", deserialize_with = "unit")]
    pub unit: Unit,
    /// Warns outside this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn: Option<Range>,
    /// Is critical outside this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crit: Option<Range>,
    /// The least it can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The most it can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

fn uom<S: Serializer>(unit: &Unit, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(unit.uom())
}

fn unit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Unit, D::Error> {
    let text = String::deserialize(deserializer)?;
    Unit::of(&text).ok_or_else(|| de::Error::custom(format!("'{text}' is no unit")))
}

impl Metric {
    /// A number that cannot be negative, without thresholds.
    pub fn new(label: &str, value: f64, unit: Unit) -> Metric {
        Metric {
            label: label.to_owned(),
            value: Some(value),
            unit,
            warn: None,
            crit: None,
            min: Some(0.0),
            max: None,
        }
    }

    /// How old something is.
    pub fn age(age: Span) -> Metric {
        Metric::new("age", age.as_secs().floor(), Unit::Seconds)
    }

    /// With thresholds.
    #[must_use]
    pub fn limits(mut self, warn: Option<Range>, crit: Option<Range>) -> Metric {
        self.warn = warn;
        self.crit = crit;
        self
    }

    /// The state its thresholds give.
    pub fn judge(&self) -> State {
        let beyond =
            |range: &Option<Range>| range.zip(self.value).is_some_and(|(range, value)| range.alerts(value));
        if self.value.is_none() {
            State::Unknown
        } else if beyond(&self.crit) {
            State::Critical
        } else if beyond(&self.warn) {
            State::Warning
        } else {
            State::Ok
        }
    }
}

/// The answer of one check.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The check's name in the config.
    pub check: String,
    /// Its kind.
    pub kind: String,
    /// The service it asked about, if one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// How it is.
    pub state: State,
    /// What this look found, before `for` was asked whether it counts yet.
    pub seen: State,
    /// When it was looked at, if not in this run: `every` said that it was not due.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "units::maybe_rfc3339")]
    pub looked_at: Option<DateTime<Utc>>,
    /// One line, safe to print.
    pub summary: String,
    /// What was measured.
    pub metrics: Vec<Metric>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Whether "could not tell" ranks above a warning here.
    pub critical: bool,
    /// The alert type that this state raises.
    pub alert: String,
}

/// All findings of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The agent's name.
    pub agent: String,
    /// The host.
    pub host: String,
    /// The run's id.
    pub run: String,
    /// When it was made.
    #[serde(serialize_with = "units::as_rfc3339")]
    pub time: DateTime<Utc>,
    /// The worst of all.
    pub state: State,
    /// In order of the checks' names.
    pub findings: Vec<Finding>,
}

impl Report {
    /// A report of this run.
    pub fn new(agent: &str, run: &Run, findings: Vec<Finding>) -> Report {
        let state = worst(&findings).map_or(State::Ok, |finding| finding.state);
        Report {
            agent: agent.to_owned(),
            host: run.host.clone(),
            run: run.id.clone(),
            time: run.now,
            state,
            findings,
        }
    }

    /// The finding that gave the report its state; the first of equals.
    pub fn worst(&self) -> Option<&Finding> {
        worst(&self.findings)
    }

    /// How many findings are in a state.
    pub fn count(&self, state: State) -> usize {
        self.findings.iter().filter(|finding| finding.state == state).count()
    }
}

fn worst(findings: &[Finding]) -> Option<&Finding> {
    // Of equals the one that matters: a dead process explains a stale heartbeat. `max_by_key`
    // would give the last of equals.
    let rank = |finding: &Finding| (finding.state.badness(finding.critical), finding.critical);
    findings.iter().reduce(|worst, finding| if rank(finding) > rank(worst) { finding } else { worst })
}
