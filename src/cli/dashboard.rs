//! `ops dashboard`, and the program `dashboard`: how everything is.

use super::Context;
use super::watched::tell_overrun;
use crate::base::text::harmless;
use crate::base::units::Span;
use crate::base::watchdog::Watchdog;
use crate::base::{Fault, Journal, Run, State};
use crate::config::Loaded;
use crate::dashboard::{self, Snapshot};
use crate::schedule::Job;
use crate::service::Services;
use anyhow::{Context as _, Result};
use clap::{Args as Arguments, ValueEnum};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Show how everything is
#[derive(Arguments, Clone, Debug)]
pub struct Args {
    /// Which view
    #[arg(value_enum, default_value = "terminal", value_name = "VIEW")]
    pub view: View,
    /// How often `watch` looks again
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = Span::parse)]
    pub interval: Span,
}

/// The views.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum View {
    /// Once, on the terminal
    Terminal,
    /// On the terminal, again and again, until Ctrl-C
    Watch,
    /// Write logs/dashboard.html and logs/ops_status.json
    Web,
    /// Print one JSON document
    Json,
    /// Print the text format of Prometheus
    Prom,
}

/// Shows a view. The exit code tells whether it could be shown, not how the agent is.
pub fn run(context: &Context, args: Args) -> Result<State> {
    let loaded = context.load()?;
    let journal = context.journal(&loaded);
    if args.view == View::Watch && io::stdout().is_terminal() && !context.common.json {
        return watch(context, &loaded, journal.as_ref(), args.interval.0);
    }
    let limit = Job::Dashboard.limit(&loaded.config.schedule);
    let _watchdog = Watchdog::begin(&context.run, limit, Some((&loaded.home, Job::Dashboard.key())));
    tell_overrun(context, &loaded, Job::Dashboard.key());
    let mut snapshot = dashboard::gather(&loaded, &context.run, journal.as_ref());
    context.tell(&mut snapshot.health);
    match args.view {
        View::Web => {
            web(context, &loaded, &snapshot)?;
            if let Some(journal) = &journal {
                // Not noted, it looks late: that is a question, not a harm.
                let _ = journal.ran(&context.run, Job::Dashboard.key(), State::Ok);
            }
        }
        View::Prom if context.common.json => {
            return Err(Fault::unknown("the Prometheus text is no JSON: choose one of them").into());
        }
        View::Prom => context.print(&dashboard::prometheus(&snapshot))?,
        View::Json => context.print_json(&snapshot)?,
        View::Terminal | View::Watch if context.common.json => context.print_json(&snapshot)?,
        View::Terminal | View::Watch => {
            context.print(&dashboard::terminal(&snapshot, columns(context), context.colored()))?;
        }
    }
    Ok(State::Ok)
}

/// `ops status`: the terminal view; the exit code tells how the agent is.
pub(super) fn status(context: &Context) -> Result<State> {
    let loaded = context.load()?;
    let journal = context.journal(&loaded);
    let mut snapshot = dashboard::gather(&loaded, &context.run, journal.as_ref());
    context.tell(&mut snapshot.health);
    if context.common.json {
        context.print_json(&snapshot)?;
    } else {
        // The line for what comes next on the screen, and the one below.
        let rows = context.screen().map(|(rows, _)| rows.saturating_sub(2));
        let (text, short) = fitting(&snapshot, columns(context), rows, context.colored());
        context.print(&text)?;
        if short {
            context.note("`ops dashboard` shows all of it");
        }
    }
    let mut state = snapshot.state;
    let services = Services { home: &loaded.home, config: &loaded.config, run: &context.run };
    for one in services.unconfigured()? {
        let (name, manager) = (&one.service, one.definition.manager());
        context.note(&format!("{name} is with {manager} still, but {}: `ops install` mends that", one.why()));
        state = state.worse(State::Warning);
    }
    Ok(state)
}

fn web(context: &Context, loaded: &Loaded, snapshot: &Snapshot) -> Result<()> {
    #[derive(Serialize)]
    struct Written<'a> {
        state: State,
        #[serde(serialize_with = "crate::base::name::path::serialize")]
        page: &'a std::path::Path,
        #[serde(serialize_with = "crate::base::name::path::serialize")]
        status: &'a std::path::Path,
    }
    let page = dashboard::write_page(loaded, snapshot)?;
    if context.common.json {
        let status = loaded.home.status_json();
        return context.print_json(&Written { state: snapshot.state, page: &page, status: &status });
    }
    // Cron asks every minute: with --quiet there is nothing to say.
    if !context.common.quiet {
        context.print(&page.display().to_string())?;
    }
    Ok(())
}

/// What a pipe gets is 80 wide.
fn columns(context: &Context) -> usize {
    context.screen().map_or(80, |(_, columns)| columns)
}

/// All of it, or what fits; and whether it is less.
fn fitting(snapshot: &Snapshot, columns: usize, rows: Option<usize>, colored: bool) -> (String, bool) {
    let whole = dashboard::terminal(snapshot, columns, colored);
    match rows {
        Some(rows) if whole.lines().count() > rows => {
            (dashboard::brief(snapshot, columns, rows, colored), true)
        }
        _ => (whole, false),
    }
}

/// The other screen of the terminal; dropped, the first one is back as it was.
struct Screen;

impl Screen {
    fn open() -> io::Result<Screen> {
        write!(io::stdout(), "\x1b[?1049h\x1b[?25l")?;
        Ok(Screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut out = io::stdout();
        let _ = write!(out, "\x1b[?25h\x1b[?1049l").and_then(|()| out.flush());
    }
}

fn watch(context: &Context, loaded: &Loaded, journal: Option<&Journal>, interval: Duration) -> Result<State> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("cannot wait for signals")?;
    }
    let _screen = Screen::open()?;
    while !stop.load(Ordering::Relaxed) {
        let run = Run { now: chrono::Utc::now(), ..context.run.clone() };
        let snapshot = dashboard::gather(loaded, &run, journal);
        draw(context, &snapshot)?;
        let next = Instant::now() + interval.max(Duration::from_millis(100));
        while Instant::now() < next && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(State::Ok)
}

/// Draws over what was there, in one write: nothing flickers.
fn draw(context: &Context, snapshot: &Snapshot) -> io::Result<()> {
    let (rows, columns) = context.screen().unwrap_or((24, 80));
    let (text, _) = fitting(snapshot, columns, Some(rows), context.colored());
    let mut frame = String::from("\x1b[H");
    for (index, line) in text.lines().take(rows.max(1)).enumerate() {
        frame.push_str(if index > 0 { "\r\n" } else { "" });
        frame.push_str(&harmless(line, context.colored()));
        frame.push_str("\x1b[K");
    }
    frame.push_str("\x1b[J");
    let mut out = io::stdout().lock();
    out.write_all(frame.as_bytes())?;
    out.flush()
}
