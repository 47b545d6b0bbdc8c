//! An upgrade that was cut short or takes for ever: what is not started for its sake, and when it is over. Pure.

use super::incident::Incident;
use super::look::{Excuse, Known, Look, dead, stopped};
use crate::base::State;
use crate::health::{Report, UPGRADE};
use std::collections::BTreeMap;

/// Says of an unfinished upgrade what is down and not started for its sake. It is worth a word when that
/// happens after people were told.
pub(super) fn withhold(look: &mut Look, services: &BTreeMap<String, Known>) {
    let down = services.iter().filter(|(_, known)| {
        known.waits_for == Some(UPGRADE) && !stopped(&known.status) && dead(&known.status).is_some()
    });
    let down: Vec<&str> = down.map(|(name, _)| name.as_str()).collect();
    if !down.is_empty() {
        look.gave_up = true;
        let is = if down.len() == 1 { "is" } else { "are" };
        look.summary = format!("{}; {} {is} down, and not started by itself", look.summary, down.join(", "));
    }
}

/// An upgrade that people were told of and that is settled is good news; while somebody is at it again it is
/// neither.
pub(super) fn settled(
    report: &Report,
    services: &BTreeMap<String, Known>,
    incidents: &BTreeMap<String, Incident>,
) -> Option<Look> {
    let told = incidents.get(UPGRADE).filter(|incident| incident.closed.is_none())?;
    if report.findings.iter().any(|finding| finding.check == UPGRADE) {
        return None;
    }
    let under_way = services.values().any(|known| known.waits_for == Some(UPGRADE));
    Some(Look {
        check: UPGRADE.to_owned(),
        alert: told.alert.clone(),
        state: if under_way { told.severity } else { State::Ok },
        summary: told.summary.clone(),
        remedy: None,
        excuse: under_way.then(|| Excuse::Follows("an upgrade that is under way".to_owned())),
        gave_up: false,
        unproven: false,
    })
}
