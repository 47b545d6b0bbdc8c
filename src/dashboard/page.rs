//! The snapshot as a page: one file, nothing from outside, readable without scripts, colours
//! or a mouse.

use super::signs::{class, icon, no_sign, sign, signed};
use super::strips::strips;
use super::{Service, Snapshot};
use crate::base::State;
use crate::base::text::count;
use crate::base::units::{Size, Span, age, local};
use crate::health::Finding;
use base64::Engine;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};
use std::time::Duration;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A page older than this (seconds) marks itself as stale: three runs of cron were missed.
const STALE: u64 = 180;

pub(super) fn render(snapshot: &Snapshot) -> String {
    let state = snapshot.state;
    let made = snapshot.time.timestamp_millis();
    let page = html! {
        (DOCTYPE)
        html lang="en" data-made=(made) data-stale=(STALE) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy"
                    content=(format!("default-src 'none'; style-src 'unsafe-inline'; script-src '{}'; img-src data:", hash(SCRIPT)));
                @if snapshot.refresh > 0 { meta http-equiv="refresh" content=(snapshot.refresh); }
                title { (state.word()) " · " (snapshot.agent) }
                link rel="icon" href=(icon(state));
                style { (PreEscaped(STYLE)) }
            }
            body {
                div.page {
                    (header(snapshot))
                    main {
                        @if !snapshot.incidents.is_empty() { (incidents(snapshot)) }
                        (services(snapshot))
                        (objectives(snapshot))
                        (storage(snapshot))
                        (backups(snapshot))
                        (checks(snapshot))
                        (card("history", "History", &strips(&snapshot.history)))
                        (alerts(snapshot))
                    }
                    footer { "agent-ops " (snapshot.version) " · run " (snapshot.run) " · " (snapshot.home) }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// The one script that may run here, as a policy names it (CSP level 2): whatever else gets into the page is text.
fn hash(script: &str) -> String {
    format!("sha256-{}", base64::engine::general_purpose::STANDARD.encode(Sha256::digest(script)))
}

fn header(snapshot: &Snapshot) -> Markup {
    let state = snapshot.state;
    let worst = snapshot.health.worst();
    html! {
        header class=(class(state)) {
            (sign(state))
            div {
                h1 { (snapshot.agent) " is " b { (state.word()) } }
                p {
                    @match worst {
                        Some(finding) if finding.state != State::Ok => { (finding.check) ": " (finding.summary) }
                        Some(_) => "All is well.",
                        None => "There are no checks.",
                    }
                }
            }
        }
        div.when {
            span {
                "Made " time datetime=(snapshot.time.to_rfc3339()) { (local(snapshot.time)) }
                span #ago {} " on " (snapshot.host)
            }
            span { (tally(snapshot)) }
        }
        p #stale role="alert" {
            "STALE: this page was made " span #stale-age {} " ago, and nothing has renewed it since. "
            "What it says may no longer be true."
        }
        noscript {
            p.when { "Without scripts this page cannot tell its own age: compare the time above with your clock." }
        }
    }
}

fn tally(snapshot: &Snapshot) -> String {
    let number = |state| snapshot.health.count(state);
    let mut parts = vec![format!("{} ok", number(State::Ok))];
    for (state, word) in
        [(State::Warning, "warning"), (State::Critical, "critical"), (State::Unknown, "unknown")]
    {
        if number(state) > 0 {
            parts.push(format!("{} {word}", number(state)));
        }
    }
    format!("{}: {}", count(snapshot.health.findings.len(), "check"), parts.join(", "))
}

/// A card: a heading and what is below it.
fn card(id: &str, title: &str, inner: &Markup) -> Markup {
    html! {
        section class=(id) aria-labelledby=(id) {
            h2 id=(id) { (title) }
            (inner)
        }
    }
}

fn services(snapshot: &Snapshot) -> Markup {
    let title = if snapshot.services.len() == 1 { "Service" } else { "Services" };
    card(
        "services",
        title,
        &html! {
            @if snapshot.services.is_empty() { p.soft { "No service is configured." } }
            ul {
                @for service in &snapshot.services {
                    li class=(class(service.state)) {
                        (sign(service.state))
                        div {
                            span.name { (service.name) } " " span.word { (service.condition) }
                            @if let Some(manager) = service.manager { " by " (manager) }
                            @if !service.detail.is_empty() { div { (service.detail) } }
                            (numbers(service))
                        }
                    }
                }
            }
        },
    )
}

fn numbers(service: &Service) -> Markup {
    html! {
        @if service.process.is_some() || service.heartbeat.is_some() {
            dl.numbers {
                @if let Some(process) = &service.process {
                    (number("up for", &Span::seconds(process.uptime).to_string()))
                    (number("pid", &process.pid.to_string()))
                    (number("memory", &Size(process.rss).to_string()))
                    (number("processor", &format!("{} %", process.cpu_percent)))
                }
                @if let Some(beat) = &service.heartbeat {
                    (number("last sign of life", &match beat.age {
                        Some(age) if age >= 0 => format!("{} ago", Span::seconds(age.unsigned_abs())),
                        Some(_) => "in the future".to_owned(),
                        None => "never".to_owned(),
                    }))
                    @if beat.status != service.condition { (number("says", &beat.status)) }
                }
            }
        }
    }
}

fn number(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn checks(snapshot: &Snapshot) -> Markup {
    // The worst first: one glance is enough.
    let mut findings: Vec<&Finding> = snapshot.health.findings.iter().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.state.badness(finding.critical)));
    card(
        "checks",
        "Checks",
        &html! {
            @if findings.is_empty() { p.soft { "No check is configured." } }
            ul {
                @for finding in findings {
                    li class=(class(finding.state)) {
                        (sign(finding.state))
                        div {
                            span.name { (finding.check) } " "
                            @if finding.state != State::Ok { span.word { (finding.state.word()) } " " }
                            span { (finding.summary) }
                            @if let Some(remedy) = &finding.remedy { div.fix { "→ " (remedy) } }
                        }
                    }
                }
            }
        },
    )
}

fn objectives(snapshot: &Snapshot) -> Markup {
    card(
        "objectives",
        "Objectives",
        &html! {
            ul {
                @for objective in &snapshot.objectives {
                    @let state = match objective.met {
                        Some(true) => Some(State::Ok),
                        Some(false) => Some(State::Warning),
                        None => None,
                    };
                    li class=[state.map(class)] {
                        @match state {
                            Some(State::Ok) => (signed(State::Ok, "met")),
                            Some(state) => (signed(state, "missed")),
                            None => (no_sign()),
                        }
                        div { span.name { (objective.name) } " " span.soft { (objective.target) } }
                        div.side { (objective.text) }
                    }
                }
            }
        },
    )
}

fn incidents(snapshot: &Snapshot) -> Markup {
    card(
        "incidents",
        "Open incidents",
        &html! {
            ul {
                @for incident in &snapshot.incidents {
                    li class=(class(incident.severity)) {
                        (sign(incident.severity))
                        div {
                            span.name { (incident.kind) } " " (incident.summary)
                            div.fix { "since " (local(incident.since)) ", for " (age(snapshot.time, incident.since)) }
                        }
                    }
                }
            }
        },
    )
}

fn storage(snapshot: &Snapshot) -> Markup {
    let bytes: u64 = snapshot.databases.iter().map(|file| file.bytes).sum();
    card(
        "storage",
        "Storage",
        &html! {
            @if let Some(disk) = &snapshot.disk {
                @let tone = if disk.used_percent < 80.0 { State::Ok } else { State::Warning };
                div class=(class(tone)) {
                    span.name { (Size(disk.free)) " free" } span.soft { " of " (Size(disk.total)) }
                    div.meter role="img" aria-label=(format!("{} % of the disk is used", disk.used_percent)) {
                        i style=(format!("width:{:.1}%", disk.used_percent.clamp(0.0, 100.0))) {}
                    }
                }
            } @else {
                p.soft { "The disk could not be looked at." }
            }
            dl.numbers {
                div {
                    dt { "databases" }
                    dd { (snapshot.databases.len()) " " small { (Size(bytes)) } }
                }
                div {
                    dt { "log files" }
                    dd { (snapshot.logs.files) " " small { (Size(snapshot.logs.bytes)) } }
                }
                @if let Some(errors) = snapshot.logs.errors {
                    div { dt { "recent errors" } dd { (errors) } }
                }
            }
        },
    )
}

fn backups(snapshot: &Snapshot) -> Markup {
    let backups = &snapshot.backups;
    card(
        "backups",
        "Backups",
        &html! {
            @match &backups.newest {
                Some(newest) => {
                    @let tone = if newest.verified { State::Ok } else { State::Warning };
                    div class=(class(tone)) {
                        span.name { (Span(Duration::from_secs(newest.age))) " old" }
                        span.soft { @if newest.verified { ", verified" } @else { ", not verified" } }
                        div.soft { (newest.name) }
                    }
                    @for flaw in &backups.flaws {
                        div class=(class(State::Warning)) { (flaw) }
                    }
                    dl.numbers {
                        (number("archives", &backups.count.to_string()))
                        (number("newest", &Size(newest.bytes).to_string()))
                        (number("together", &Size(backups.bytes).to_string()))
                    }
                }
                None => p.soft { "There is none yet." },
            }
        },
    )
}

fn alerts(snapshot: &Snapshot) -> Markup {
    card(
        "alerts",
        "Recent alerts",
        &html! {
            @if snapshot.alerts.is_empty() { p.soft { "There were none." } }
            ul {
                @for event in &snapshot.alerts {
                    @let state = match event.level.as_str() {
                        "CRITICAL" | "ERROR" => Some(State::Critical),
                        "WARNING" => Some(State::Warning),
                        "OK" => Some(State::Ok),
                        _ => None,
                    };
                    li class=[state.map(class)] {
                        @match state { Some(state) => (sign(state)), None => (no_sign()) }
                        div { (event.text) }
                        time.side { (event.time) }
                    }
                }
            }
        },
    )
}
