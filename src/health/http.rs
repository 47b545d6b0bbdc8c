//! Does something answer a request by HTTP, and rightly? A status alone proves nothing: headers, body
//! and values in it can be asked for too.

use super::fetch::{Failure, Hidden, Request, Response, fetch};
use super::value::{self, Growths, Judged, Seen};
use super::{Answer, Metric, View, certificate, json};
use crate::base::State;
use crate::base::range::{Range, Unit};
use crate::base::units::{Size, Span};
use crate::config::check::{Http, Zone};
use anyhow::Result;
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::time::Instant;
use ureq::http::Uri;

pub(super) fn look(view: &View, name: &str, options: &Http, timeout: Span) -> Result<Answer> {
    let begun = Instant::now();
    let limit = options.crit.0.limit();
    // What is not there by then is critical anyway.
    let in_time = limit.is_finite() && limit > 0.0 && limit <= timeout.as_secs();
    let limit = if in_time { Span(std::time::Duration::from_secs_f64(limit)) } else { timeout };
    let mut hidden = Hidden::default();
    let method = options.method.as_deref().unwrap_or(if options.body.is_some() { "POST" } else { "GET" });
    let request = Request {
        url: &options.url,
        method,
        headers: &options.headers,
        login: options.user.as_deref().zip(options.password.as_ref()),
        body: options.body.as_ref(),
        ca_file: options.ca_file.as_deref(),
        redirects: options.redirects,
        most: options.max_body.0,
        deadline: begun + limit.0,
    };
    let asked = format!("{method} {}", options.url.shown());
    let mut answer = match fetch(&request, &mut hidden) {
        Ok(response) => {
            let mut growths = Growths::recall(view, name);
            let mut answer = judge(&asked, &response, options, &mut growths, view.run.now);
            let cert = !(options.cert_warn.0.is_zero() && options.cert_crit.0.is_zero());
            if cert && options.url.is_tls() {
                let expiry = expiry(options, begun + timeout.0);
                answer = with_certificate(answer, expiry, options, view.run.now);
            }
            growths.remember(answer)
        }
        Err(Failure::NoAnswer(why)) => Answer::new(State::Critical, format!("{asked}: no answer: {why}")),
        Err(Failure::Late) => {
            let state = if in_time { State::Critical } else { State::Unknown };
            Answer::new(state, format!("{asked}: no whole answer within {limit}"))
        }
        Err(Failure::TooLarge) => Answer::unknown(format!(
            "{asked}: the answer is larger than {}; raise max_body if it should be",
            options.max_body
        )),
        Err(Failure::NotAsked(why)) => Answer::unknown(format!("{asked} could not be asked: {why}")),
    };
    answer.summary = hidden.hide(&answer.summary);
    Ok(answer.remedy("look at whether the program behind it runs, and at its log"))
}

/// Collects what is wrong with an answer.
struct Faults(Vec<(State, String)>);

impl Faults {
    fn critical(&mut self, what: String) {
        self.0.push((State::Critical, what));
    }
}

/// The answer, from plain values.
fn judge(
    asked: &str,
    response: &Response,
    options: &Http,
    growths: &mut Growths,
    now: DateTime<Utc>,
) -> Answer {
    let mut faults = Faults(Vec::new());
    if !options.status.contains(response.status) {
        let redirected = (300..400).contains(&response.status);
        let hint = if redirected { " (redirects are not followed so far)" } else { "" };
        faults.critical(format!("expected {}{hint}", options.status));
    }
    for (header, pattern) in &options.expect_headers {
        // Text in any case: a header may have any bytes.
        let mut values =
            response.headers.get_all(header).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        if !values.any(|value| pattern.0.is_match(&value)) {
            faults.critical(format!("its header {header} does not match '{}'", pattern.0.as_str()));
        }
    }
    let size = response.body.len() as u64;
    if size < options.min_body.0 {
        faults.critical(format!("the body has less than {}", options.min_body));
    }
    let body = String::from_utf8_lossy(&response.body);
    // What the body says is not quoted: nobody knows what is in it.
    if let Some(pattern) = options.expect.as_ref().filter(|pattern| !pattern.0.is_match(&body)) {
        faults.critical(format!("the body does not match '{}'", pattern.0.as_str()));
    }
    if let Some(pattern) = options.refuse.as_ref().filter(|pattern| pattern.0.is_match(&body)) {
        faults.critical(format!("the body matches '{}'", pattern.0.as_str()));
    }
    let took = response.took.as_secs_f64();
    let time = Metric::new("time", (took * 1e6).round() / 1e6, Unit::Seconds)
        .limits(Some(options.warn.0), Some(options.crit.0));
    if time.judge() != State::Ok {
        faults.0.push((time.judge(), "that is slow".to_owned()));
    }
    let judged = members(&body, options, growths, now);
    let (good, bad): (Vec<Judged>, Vec<Judged>) =
        judged.into_iter().partition(|judged| judged.state == State::Ok);
    let metrics: Vec<Metric> = good.iter().chain(&bad).filter_map(|judged| judged.metric.clone()).collect();
    faults.0.extend(bad.into_iter().map(|judged| (judged.state, judged.summary)));
    faults.0.sort_by_key(|(state, _)| std::cmp::Reverse(state.badness(false)));

    let state = faults.0.iter().fold(State::Ok, |worst, (state, _)| worst.worse(*state));
    let mut summary = format!("{asked}: {} in {:.1} ms, {}", response.status, took * 1e3, Size(size));
    let told =
        faults.0.into_iter().map(|(_, what)| what).chain(good.into_iter().map(|judged| judged.summary));
    told.for_each(|what| summary.push_str(&format!("; {what}")));
    let answer =
        Answer::new(state, summary).metric(time).metric(Metric::new("size", size as f64, Unit::Bytes));
    metrics.into_iter().fold(answer, Answer::metric)
}

/// What the values in a JSON answer are.
fn members(body: &str, options: &Http, growths: &mut Growths, now: DateTime<Utc>) -> Vec<Judged> {
    if options.json.is_empty() {
        return Vec::new();
    }
    let document: Value = match serde_json::from_str(body.trim_start_matches('\u{feff}')) {
        Ok(document) => document,
        Err(error) => {
            let summary = format!("the body is not JSON: {error}");
            return vec![Judged { state: State::Critical, summary, metric: None }];
        }
    };
    let judge = |member: &crate::config::check::Member| {
        let place = member.value.shown();
        let mut rules = member.rules();
        // Several values need several names.
        rules.label.get_or_insert_with(|| place.to_owned());
        let value = document.pointer(&member.value.pointer()).cloned();
        let value = if member.count {
            value.and_then(|value| json::count(&value, &Default::default()))
        } else {
            value
        };
        let key = format!("{} {place} {}", options.url.shown(), member.count);
        value::judge(Seen { name: place, key, value, zone: Zone::Local }, &rules, growths, now)
    };
    options.json.iter().map(judge).collect()
}

fn expiry(options: &Http, deadline: Instant) -> Result<DateTime<Utc>> {
    let uri: Uri = options.url.reveal().parse()?;
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    certificate::expiry(host, uri.port_u16().unwrap_or(443), deadline)
}

/// Adds how long the certificate still holds.
fn with_certificate(
    mut answer: Answer,
    expiry: Result<DateTime<Utc>>,
    options: &Http,
    now: DateTime<Utc>,
) -> Answer {
    let (state, told) = match expiry {
        Err(error) => (State::Unknown, format!("its certificate cannot be read: {error:#}")),
        Ok(expiry) => {
            let left = (expiry - now).num_seconds() as f64;
            let mut metric = Metric::new("certificate", left, Unit::Seconds).limits(
                Some(Range::below(options.cert_warn.as_secs())),
                Some(Range::below(options.cert_crit.as_secs())),
            );
            metric.min = None;
            let state = metric.judge();
            answer.metrics.push(metric);
            let span = Span((expiry - now).to_std().unwrap_or_default());
            (state, format!("its certificate expires in {span}"))
        }
    };
    if state != State::Ok {
        answer.state = answer.state.worse(state);
        answer.summary.push_str(&format!("; {told}"));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::units::parse_time;
    use std::time::Duration;

    fn options(keys: &str) -> Http {
        toml::from_str(&format!("url = \"http://h/x\"\n{keys}")).unwrap()
    }

    fn told(keys: &str, status: u16, body: &str) -> (State, String) {
        let mut headers = ureq::http::HeaderMap::new();
        headers.insert("content-type", "application/json".parse().unwrap());
        let took = Duration::from_millis(1500);
        let response = Response { status, headers, body: body.as_bytes().to_vec(), took };
        let now = parse_time("2026-11-20T12:00:00Z").unwrap();
        let answer = judge("GET x", &response, &options(keys), &mut Growths::default(), now);
        (answer.state, answer.summary)
    }

    #[test]
    fn the_table_of_truth() {
        let queue = "json = [{ value = \"queue\", warn = 5, crit = 10 }]";
        for (keys, status, body, state, part) in [
            ("", 200, "ok", State::Ok, "GET x: 200 in 1500.0 ms, 2 B"),
            ("", 500, "ok", State::Critical, "; expected 2xx"),
            ("", 302, "", State::Critical, "expected 2xx (redirects are not followed so far)"),
            ("status = 401", 401, "", State::Ok, "401"),
            ("status = [\"200-204\", 401]", 200, "", State::Ok, "200"),
            ("warn = \"1s\"", 200, "", State::Warning, "that is slow"),
            ("warn = \"500ms\"\ncrit = \"1s\"", 200, "", State::Critical, "that is slow"),
            ("min_body = 1", 200, "", State::Critical, "less than 1 B"),
            ("expect = \"^ready$\"", 200, "ready", State::Ok, "200"),
            ("expect = \"^ready$\"", 200, "not ready", State::Critical, "does not match '^ready$'"),
            ("refuse = '\"error\"'", 200, "{\"error\":\"s3cr3t\"}", State::Critical, "the body matches"),
            ("expect_headers = { Content-Type = \"json\" }", 200, "", State::Ok, "200"),
            (
                "expect_headers = { Content-Type = \"html\" }",
                200,
                "",
                State::Critical,
                "its header Content-Type",
            ),
            ("expect_headers = { etag = \".\" }", 200, "", State::Critical, "its header etag"),
            (queue, 200, "{\"queue\": 3}", State::Ok, "; queue is 3"),
            (queue, 200, "{\"queue\": 7}", State::Warning, "; queue is 7 (limit 5)"),
            (queue, 200, "{\"queue\": 70}", State::Critical, "; queue is 70 (limit 10)"),
            (queue, 200, "{}", State::Unknown, "; there is no queue"),
            (queue, 200, "<html>", State::Critical, "the body is not JSON"),
            ("json = [{ value = \"error\", equals = \"null\" }]", 200, "{}", State::Ok, "'null'"),
            (
                "json = [{ value = \"\", count = true, crit = 1 }]",
                200,
                "[1,2]",
                State::Critical,
                "2 (limit 1)",
            ),
        ] {
            let (got, summary) = told(keys, status, body);
            assert!(got == state && summary.contains(part), "{keys} {status} {body}: {got} {summary}");
            assert!(!summary.contains("s3cr3t"), "{summary}");
        }
    }

    #[test]
    fn a_certificate_that_soon_expires() {
        let now = parse_time("2026-11-20T12:00:00Z").unwrap();
        for (days, state) in
            [(30, State::Ok), (20, State::Warning), (6, State::Critical), (-1, State::Critical)]
        {
            let expiry = Ok(now + chrono::TimeDelta::days(days));
            let answer = with_certificate(Answer::new(State::Ok, "fine"), expiry, &options(""), now);
            assert_eq!(answer.state, state, "{days}: {}", answer.summary);
            assert_eq!(answer.metrics[0].value, Some(days as f64 * 86_400.0));
        }
        let failed =
            with_certificate(Answer::new(State::Ok, "fine"), Err(anyhow::anyhow!("x")), &options(""), now);
        assert_eq!(failed.state, State::Unknown);
    }
}
