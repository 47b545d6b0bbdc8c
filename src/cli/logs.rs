//! `ops logs`: the last lines of a log, or of all in the order of time, and following them.

use super::Context;
use crate::base::units::{Span, parse_time};
use crate::base::{Fault, State, text};
use crate::config::Loaded;
use crate::logs::{self, Follower, Level, Line, Query, Wanted};
use anyhow::{Context as _, Result};
use chrono::{DateTime, Days, Local, NaiveDate, NaiveTime, TimeDelta, Utc};
use clap::Args as Arguments;
use regex_lite::RegexBuilder;
use serde::Serialize;
use std::time::{Duration, Instant};

/// How many lines are shown unless said: of the end, and of a time that was asked for.
const LINES: usize = 50;
const LINES_SINCE: usize = 10_000;

/// So often it is looked for new files.
const PAUSE: Duration = Duration::from_millis(250);

/// Show the last lines of a log, or of all in the order of time, or follow them
#[derive(Arguments, Clone, Debug)]
pub struct Args {
    /// Which: a service, a log such as `alerts`, a rule of [logs], `daemon` for the agent's own, or `all`; the first
    /// service's, unless said
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// How many lines at most, the last ones; 50, with --since 10000, unless said
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true)]
    pub lines: Option<usize>,
    /// Go on with what comes: across rotations and new days
    #[arg(short, long)]
    pub follow: bool,
    /// Only lines that match this regular expression, whatever their case (`(?-i)` minds it)
    #[arg(long, value_name = "REGEX")]
    pub grep: Option<String>,
    /// Only what was written since: `2h`, `7d`, `09:30`, `yesterday`, `2026-11-20 09:30`; old and
    /// compressed logs are read as well
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only what is so bad or worse, with the lines that belong to it, such as a traceback
    #[arg(long, value_enum, value_name = "LEVEL", ignore_case = true)]
    pub level: Option<Level>,
}

impl Args {
    fn query(&self, now: DateTime<Utc>) -> Result<Query> {
        let since = self.since.as_deref().map(|text| since(text, now)).transpose()?;
        let grep = self.grep.as_deref().map(|pattern| {
            RegexBuilder::new(pattern).case_insensitive(true).build().map_err(|error| {
                let why = text::one_line(&error.to_string(), 200);
                let what = if why.contains("size limit") { "is too large a" } else { "is no" };
                Fault::unknown(format!(
                    "--grep '{}' {what} regular expression: {why}",
                    text::sanitize(pattern)
                ))
                .hint(format!(
                    "for these very characters: --grep '{}'",
                    text::sanitize(&regex_lite::escape(pattern))
                ))
            })
        });
        Ok(Query {
            lines: self.lines.unwrap_or(if since.is_some() { LINES_SINCE } else { LINES }),
            since,
            level: self.level,
            grep: grep.transpose()?,
        })
    }
}

/// Prints the tail of a log, and what comes after it with `--follow`.
pub fn run(context: &Context, args: Args) -> Result<State> {
    if args.follow && context.common.json {
        return Err(Fault::unknown("--follow has no end, so it cannot be one JSON document")
            .hint("leave one of the two out; --since gives what came since a time")
            .into());
    }
    let now = context.run.now;
    let query = args.query(now)?;
    let loaded = context.load()?;
    let (home, config) = (&loaded.home, &loaded.config);
    let first_service = config.service.keys().next();
    let name = args.name.clone().or_else(|| first_service.cloned()).unwrap_or_else(|| "all".to_owned());
    let wanted = choose(context, &loaded, &name, args.follow)?;
    let logs = wanted.logs(home, config);

    // From here on lines are followed; the tail ends where they begin.
    let follower = args.follow.then(|| Follower::new(home, config, &wanted, &query));
    let mut tail = logs::tail(&logs, &query, now, |path| follower.as_ref()?.start_in(path));
    let state = if tail.failed.is_empty() { State::Ok } else { State::Warning };
    for (path, error) in std::mem::take(&mut tail.failed) {
        let what = format!("cannot read {}", text::sanitize(&path.display().to_string()));
        if logs.len() == 1 && tail.lines.is_empty() {
            return Err(error).context(what);
        }
        // One that cannot be read does not hide the others.
        context.note(&format!("{what}: {error}"));
    }
    if context.common.json {
        #[derive(Serialize)]
        struct Body {
            lines: Vec<Line>,
            cut: bool,
        }
        context.print_json(&Body { lines: tail.lines, cut: tail.cut && query.since.is_some() })?;
        return Ok(state);
    }
    if logs.is_empty() {
        let waits = if args.follow { "; waiting for it" } else { "" };
        context.note(&format!("nothing was written to '{}' yet{waits}", text::one_line(&name, 80)));
    }

    let several = logs.len() > 1 || args.follow && !matches!(wanted, Wanted::Name(_));
    let width = several.then(|| logs.keys().map(|name| name.chars().count()).max().unwrap_or(0));
    print(context, &tail.lines, width)?;
    if tail.cut && query.since.is_some() {
        context.note(&format!("only the last {}: -n takes more", text::count(query.lines, "line")));
    }
    let Some(mut follower) = follower else { return Ok(state) };
    let mut looked: Option<Instant> = None;
    loop {
        // Whoever writes much and cuts often is looked at often; to look for new files takes long.
        let news = match looked.is_some_and(|at| at.elapsed() < PAUSE) {
            true => follower.poll_known(Utc::now()),
            false => {
                let news = follower.poll(Utc::now());
                looked = Some(Instant::now());
                news
            }
        };
        for (path, error) in &news.failed {
            context.note(&format!("cannot follow {}: {error}", text::sanitize(&path.display().to_string())));
        }
        for name in &news.cut {
            context.note(&format!(
                "{} was cut or begun anew: what came right before may have gone unread",
                text::sanitize(name)
            ));
        }
        print(context, &news.lines, width)?;
        if context.unread() {
            return Ok(state);
        }
        std::thread::sleep(if news.busy { Duration::from_millis(10) } else { PAUSE });
    }
}

/// Prints lines; with the names of their logs before them, `width` wide, if several are shown.
fn print(context: &Context, lines: &[Line], width: Option<usize>) -> Result<()> {
    let shown = |line: &Line| match width {
        Some(width) => format!("{:width$} | {}", line.log, line.text),
        None => line.text.clone(),
    };
    let shown: Vec<String> = lines.iter().map(shown).collect();
    if shown.is_empty() { Ok(()) } else { context.print(&shown.join("\n")) }
}

/// The logs that a name means. One that nobody knows may be waited for, unless it looks like a slip.
fn choose(context: &Context, loaded: &Loaded, name: &str, follow: bool) -> Result<Wanted> {
    if let Some(wanted) = Wanted::of(name, &loaded.home, &loaded.config) {
        return Ok(wanted);
    }
    let known = Wanted::known(&loaded.home, &loaded.config);
    let near = text::nearest(name, known.iter().map(String::as_str));
    let there = match known.is_empty() {
        true => "there are no logs yet".to_owned(),
        false => format!("there are: all, {}", known.join(", ")),
    };
    if follow && near.is_none() {
        context.note(&there);
        return Ok(Wanted::Name(name.to_owned()));
    }
    let hint = near.map_or_else(|| there.clone(), |near| format!("did you mean '{near}'? {there}"));
    Err(Fault::unknown(format!("there is no log '{}'", text::one_line(name, 80))).hint(hint).into())
}

/// The moment that people mean by `--since`.
fn since(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, Fault> {
    let wrong = |why: &str| {
        Fault::unknown(format!("--since '{}' is {why}", text::one_line(text, 80)))
            .hint("write it like 30m, 2h, 7d, 09:30, today, yesterday, 2026-11-20 or '2026-11-20 09:30'")
    };
    match moment(text, now) {
        Some(at) if at > now => Err(wrong("yet to come")),
        Some(at) => Ok(at),
        None => Err(wrong("no time")),
    }
}

fn moment(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let text = text.trim();
    let today = now.with_timezone(&Local).date_naive();
    let yesterday = today.checked_sub_days(Days::new(1))?;
    // Where a clock change skips the moment, the first one after it.
    let local = |day: NaiveDate, time: NaiveTime| {
        let hours = |hours| (day.and_time(time) + TimeDelta::hours(hours)).and_local_timezone(Local);
        (0..4).find_map(|later| hours(later).earliest()).map(|at| at.to_utc())
    };
    if let Ok(span) = Span::parse(text) {
        return now.checked_sub_signed(span.delta());
    }
    let day = match text {
        "today" => Some(today),
        "yesterday" => Some(yesterday),
        text => NaiveDate::parse_from_str(text, "%Y-%m-%d").ok(),
    };
    if let Some(day) = day {
        return local(day, NaiveTime::MIN);
    }
    let time = ["%H:%M", "%H:%M:%S"].iter().find_map(|form| NaiveTime::parse_from_str(text, form).ok());
    if let Some(time) = time {
        return local(today, time).filter(|at| *at <= now).or_else(|| local(yesterday, time));
    }
    parse_time(text).or_else(|| parse_time(&format!("{text}:00")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_read_as_people_say_it() {
        let at = |text: &str| parse_time(text).unwrap();
        let now = at("2026-11-20 12:00:00");
        for (text, expected) in [
            ("2h", "2026-11-20 10:00:00"),
            ("09:30", "2026-11-20 09:30:00"),
            ("23:30:01", "2026-11-19 23:30:01"),
            ("today", "2026-11-20 00:00:00"),
            ("yesterday", "2026-11-19 00:00:00"),
            ("2026-11-18", "2026-11-18 00:00:00"),
            ("2026-11-18 09:30", "2026-11-18 09:30:00"),
            ("2026-11-18T09:30:05", "2026-11-18 09:30:05"),
        ] {
            assert_eq!(since(text, now).unwrap(), at(expected), "{text}");
        }
        assert_eq!(since("2026-11-18T09:30:00Z", now).unwrap(), at("2026-11-18T09:30:00Z"));
        for wrong in ["soon", "5", "25:00", "2026-13-01", "2027-01-01", "", "99999999999999y"] {
            assert!(since(wrong, now).is_err(), "{wrong}");
        }
    }
}
