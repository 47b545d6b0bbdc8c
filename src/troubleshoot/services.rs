//! The processes: does each service run, as itself and alone? If not, what became of it?

use super::cause::{Cause, Found};
use super::view::View;
use super::words;
use crate::base::process::Process;
use crate::base::status_file::{StatusFile, Unreadable};
use crate::base::{Home, Journal, State, text, units};
use crate::config::{Kind, Loaded, Service};
use crate::service::{self, Detected, Liveness, PendingStop, Status, Unconfigured};
use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::params;

/// Up for so long, a service does not count as one that crashes again and again.
const SETTLED: TimeDelta = TimeDelta::minutes(15);

/// How many of its last words are shown.
const WORDS: usize = 3;

struct Facts {
    service: String,
    now: DateTime<Utc>,
    status: Status,
    /// Its pid file, if there is one.
    pid_file: Option<String>,
    /// When we started it last, and whether that was since the machine was booted.
    last: Option<(Option<DateTime<Utc>>, bool)>,
    status_file: Option<Result<StatusFile, Unreadable>>,
    /// Processes that are its own or look like it, and are not the one that runs.
    leftovers: Vec<Detected>,
    look_alikes: Vec<Detected>,
    /// Those that run its program with other options: a job of the agent may look so as well.
    varied: Vec<Detected>,
    /// When it was started again within the last hour, by recovery or by hand.
    restarts: Vec<DateTime<Utc>>,
    most_restarts: usize,
    words: Vec<String>,
    /// Processes killed for want of memory in our group.
    killed: u64,
    /// The config says that nobody watches its process: it is run by another.
    unwatched: bool,
}

pub(super) fn probe(view: &View) -> Result<Found> {
    let mut found = Found::default();
    let Some(loaded) = view.whole() else { return Ok(found) };
    let detected = view.services(loaded).detect()?;
    for note in detected.notes {
        found.notes.push(text::sanitize(&note));
    }
    let unconfigured = view.services(loaded).unconfigured()?;
    found.causes.extend(unconfigured.iter().map(not_configured));
    let journal = view.journal();
    for (loaded, name, service, status) in view.each() {
        let status = match status {
            Ok(status) => status.clone(),
            Err(why) => {
                found.causes.push(Cause::untold(&format!("the process of {name}"), why).of(name));
                continue;
            }
        };
        let of = |kind: service::Kind| {
            let fits = |process: &&Detected| process.service == name && process.kind == kind;
            detected.processes.iter().filter(fits).cloned().collect::<Vec<_>>()
        };
        let (varied, look_alikes) = alike(of(service::Kind::Stranger));
        let me = Process::find(std::process::id()).ok().flatten();
        let last = view.services(loaded).last_start(name);
        found.causes.extend(view.services(loaded).pending_stop(name).map(|pending| told_to_stop(&pending)));
        let facts = Facts {
            service: name.to_owned(),
            now: view.run.now,
            pid_file: service
                .pid_file
                .as_deref()
                .filter(|path| path.exists())
                .map(|path| loaded.home.show(path)),
            last: last.map(|(identity, at)| (at, identity.is_of_this_boot())),
            status_file: service.status_file.as_deref().map(StatusFile::read),
            leftovers: of(service::Kind::Leftover),
            look_alikes,
            varied,
            restarts: journal
                .as_ref()
                .map(|journal| restarts(journal, name, view.run.now))
                .unwrap_or_default(),
            most_restarts: loaded.config.alerts.max_restarts_per_hour,
            words: last_words(&loaded.home, name, service),
            killed: me.and_then(|me| me.killed_for_memory()).unwrap_or_default(),
            unwatched: is_unwatched(loaded, name),
            status,
        };
        let judged = judge(&facts);
        found.causes.extend(judged.causes);
        found.notes.extend(judged.notes);
    }
    Ok(found)
}

/// Of strangers those with the command line of a service: first where only its options are others.
fn alike(strangers: Vec<Detected>) -> (Vec<Detected>, Vec<Detected>) {
    let like = |process: &Detected| process.why.iter().any(|why| why.contains("command line is that of"));
    let options = |process: &Detected| process.why.iter().any(|why| why.ends_with("but for its options"));
    strangers.into_iter().filter(like).partition(options)
}

fn told_to_stop(pending: &PendingStop) -> Cause {
    let name = &pending.service;
    Cause::new("stop_pending", State::Warning, 15, pending.describe())
        .of(name)
        .seen(format!("ps -o pid,stat,wchan,args -p {}", pending.pid))
        .run(format!("ops restart {name} --force"))
        .advise("it may be finishing its work: wait if it can be; --force kills it")
}

fn not_configured(one: &Unconfigured) -> Cause {
    let (name, manager) = (&one.service, one.definition.manager());
    let text = format!("{name} is with {manager} still, which starts it at every boot, but {}", one.why());
    Cause::new("not_configured", State::Warning, 58, text)
        .of(name)
        .seen(one.definition.path.display().to_string())
        .run("ops install")
        .advise("that takes it away, and ends it; write it into ops.toml again if it is to run")
}

fn last_words(home: &Home, name: &str, service: &Service) -> Vec<String> {
    let words = words::of_service(home, name, WORDS);
    if !words.is_empty() || service.command.is_empty() {
        return words;
    }
    words::last(home, &home.log("restart"), WORDS)
}

/// All that ask about its process are switched off.
fn is_unwatched(loaded: &Loaded, name: &str) -> bool {
    let mut asking = loaded
        .config
        .check
        .values()
        .filter(|check| matches!(&check.kind, Kind::Process(options) if options.service == name))
        .peekable();
    asking.peek().is_some() && asking.all(|check| !check.common.enabled)
}

fn restarts(journal: &Journal, service: &str, now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let since = (now - TimeDelta::hours(1)).timestamp_millis();
    let read = || -> rusqlite::Result<Vec<i64>> {
        let query = "SELECT at FROM restarts WHERE service = ?1 AND at > ?2 AND at <= ?3 ORDER BY at";
        let mut statement = journal.connection().prepare(query)?;
        statement.query_map(params![service, since, now.timestamp_millis()], |row| row.get(0))?.collect()
    };
    read().unwrap_or_default().into_iter().filter_map(DateTime::from_timestamp_millis).collect()
}

fn judge(facts: &Facts) -> Found {
    let mut found = Found::default();
    match (&facts.status.liveness, facts.status.stopped_by_operator) {
        (Liveness::Running(process), _) => running(facts, process, &mut found),
        (_, Some(stopped)) => {
            let (name, told) = (&facts.service, stopped.told(facts.now));
            found.notes.push(format!("{name} was stopped {told}, and stays so until `ops start {name}`"));
        }
        (Liveness::Stranger { pid, command, resembles }, None) => {
            found.causes.push(told(facts, stranger(facts, *pid, command, *resembles)));
        }
        (Liveness::Dead(_), None) if facts.unwatched && facts.last.is_none() => {
            let name = &facts.service;
            found.notes.push(format!(
                "{name} is not run by ops, and its process check is off: nothing is said of it"
            ));
        }
        (Liveness::Dead(why), None) => found.causes.push(told(facts, dead(facts, why))),
    }
    restart_loop(facts, &mut found);
    if !facts.leftovers.is_empty() {
        let name = &facts.service;
        let number = match facts.leftovers.len() {
            1 => "1 process".to_owned(),
            more => format!("{more} processes"),
        };
        found.causes.push(
            Cause::new(
                "leftovers",
                State::Warning,
                60,
                format!("{number} of an earlier run of {name} still there"),
            )
            .of(name)
            .seen_all(facts.leftovers.iter().take(5).map(shown))
            .run(format!("ops stop {name} --force"))
            .run(format!("ops start {name}"))
            .advise("they hold ports, locks and databases of the one that is to run"),
        );
    }
    found
}

fn running(facts: &Facts, process: &Process, found: &mut Found) {
    let (name, pid) = (&facts.service, process.identity.pid);
    if let Some((other, command)) = &facts.status.pid_file_names {
        let text = format!("{name} runs as {pid}, but its pid file names process {other}");
        let file = facts.pid_file.clone().unwrap_or_default();
        found.causes.push(
            Cause::new("stale_pid_file", State::Warning, 50, text)
                .of(name)
                .seen(format!("{file}: {other} is '{command}'"))
                .run(format!("ops restart {name}"))
                .advise("whoever trusts that file stops or asks the wrong process; a second instance may have written it"),
        );
    }
    if !facts.look_alikes.is_empty() {
        let text = format!("there is a second instance of {name}, besides {pid}, which ops started");
        let pids: Vec<_> =
            facts.look_alikes.iter().filter_map(|process| process.pid).map(|pid| pid.to_string()).collect();
        found.causes.push(
            Cause::new("second_instance", State::Warning, 40, text)
                .of(name)
                .seen_all(facts.look_alikes.iter().take(5).map(shown))
                .run(format!("kill {}", pids.join(" ")))
                .advise("look at each first: two on one database, token or port disturb each other; who starts it, another manager or a script?"),
        );
    }
    found.notes.extend(facts.varied.iter().take(5).map(|other| {
        format!(
            "besides {pid}, {}: a job of {name}, or a second instance? look at it before you end it",
            shown(other)
        )
    }));
    match &facts.status_file {
        Some(Err(Unreadable::Broken(why))) => found.causes.push(
            Cause::new("status_file_torn", State::Warning, 70, format!("the status file of {name} cannot be read: {why}"))
                .of(name)
                .advise("its heartbeat cannot be judged: does it write the file in place, was the disk full, or is it another's?"),
        ),
        Some(Ok(file)) if file.pid.is_some_and(|said| said != pid) && !is_new(file, process) => {
            let said = file.pid.unwrap_or_default();
            found.causes.push(
                Cause::new("status_file_of_another", State::Warning, 55, format!("the status file of {name} was written by process {said}, not by {pid}"))
                    .of(name)
                    .run(format!("ops restart {name}"))
                    .advise("either it has written none since its start, or a second instance writes it"),
            );
        }
        _ => {}
    }
}

/// Whether it was written since this process began: the pid in it may be that of a child.
fn is_new(file: &StatusFile, process: &Process) -> bool {
    file.sign_of_life().is_some_and(|at| at >= process.started)
}

fn stranger(facts: &Facts, pid: u32, command: &str, resembles: bool) -> Cause {
    let name = &facts.service;
    let file = facts.pid_file.clone().unwrap_or_else(|| "its pid file".to_owned());
    if resembles {
        let text = format!(
            "{name} may run as process {pid}, started in another way: ops does not take it for its own"
        );
        return Cause::new("second_instance", State::Critical, 30, text)
            .seen(format!(
                "{file} names {pid}, which is '{command}': the same arguments under another program"
            ))
            .run(format!("kill {pid}"))
            .run(format!("ops start {name}"))
            .advise("look at it first; if it is what should run, set command as it was started");
    }
    Cause::new(
        "stale_pid_file",
        State::Critical,
        30,
        format!("{name} does not run: its pid file is stale, process {pid} is another program now"),
    )
    .seen(format!("{file} names {pid}, which is '{command}'"))
    .run(format!("ops start {name}"))
    .advise("it takes the stale file away and signals nobody; a start script that trusts the file refuses, or kills a stranger")
}

fn dead(facts: &Facts, why: &str) -> Cause {
    let name = &facts.service;
    let start = |cause: Cause| cause.run(format!("ops start {name}"));
    if let Some(other) = facts.look_alikes.first() {
        let text = format!(
            "{name} seems to run, but was not started by ops: it cannot be stopped or restarted by it"
        );
        return Cause::new("runs_elsewhere", State::Warning, 45, text)
            .seen(shown(other))
            .advise("another manager, a script, a terminal? let one of them have it; then `ops start`, or switch off its process check");
    }
    if let Some(other) = facts.varied.first() {
        let text =
            format!("{name} does not run, {why}; or it does, with other options: ops did not start that");
        let cause = Cause::new("runs_elsewhere", State::Critical, 32, text).seen(shown(other));
        let look = other.pid.map(|pid| format!("ps -f -p {pid}"));
        return start(look.into_iter().fold(cause, Cause::run))
            .advise("look at it first: `ops start` refuses beside it; a job of the agent is over soon, then start it; another instance is for its manager, or you, to end");
    }
    if let Some(file) = &facts.pid_file {
        let text = format!("{name} does not run: its pid file is stale, {why}");
        return start(Cause::new("stale_pid_file", State::Critical, 30, text)).seen(format!(
            "{file} is left of a run that did not end by itself: killed, crashed, or the machine went off"
        ));
    }
    match facts.last {
        Some((at, false)) => {
            let at = at.map_or(String::new(), |at| format!(", on {}", units::local(at)));
            let text = format!("{name} was not started since the machine was booted");
            start(Cause::new("not_started_after_boot", State::Critical, 35, text))
                .seen(format!("its last start was before that{at}"))
                .run("ops cron-install")
                .advise("with its jobs in cron, alert starts a service that is not there, within minutes of a boot")
        }
        Some((_, true)) => {
            let text = format!("{name} does not run: it ended by itself, {why}");
            start(Cause::new("crashed", State::Critical, 35, text))
                .run(format!("ops logs {name}_stderr -n 50"))
        }
        None => {
            let text = format!("{name} does not run: {why}");
            start(Cause::new("not_started", State::Critical, 40, text))
        }
    }
}

/// What belongs to every service that is not there.
fn told(facts: &Facts, cause: Cause) -> Cause {
    let mut cause = cause.of(&facts.service).last_words(&facts.words);
    if let Some(Ok(file)) = &facts.status_file
        && file.status == "running"
    {
        let at = file.sign_of_life().map_or(String::new(), |at| format!(" as of {}", units::local(at)));
        cause = cause.seen(format!("its status file still says running{at}: it had no time to say goodbye"));
    }
    if facts.killed > 0 {
        let times = text::count(facts.killed as usize, "time");
        cause = cause.seen(format!(
            "the kernel killed for want of memory {times} in this group of processes: dmesg | grep -i oom"
        ));
    }
    if facts.unwatched {
        cause.state = State::Warning;
        cause = cause.seen("its process check is switched off: another may run it");
    }
    cause
}

fn restart_loop(facts: &Facts, found: &mut Found) {
    let (name, number) = (&facts.service, facts.restarts.len());
    if number < 2 {
        return;
    }
    let over = number >= facts.most_restarts.max(1);
    let runs = matches!(facts.status.liveness, Liveness::Running(_));
    // One that has been up for a while may have got over it.
    let settled = runs && facts.restarts.last().is_none_or(|last| facts.now - *last > SETTLED);
    let state = if over && !settled { State::Critical } else { State::Warning };
    let mut cause = Cause::new(
        "restart_loop",
        state,
        25,
        format!("{name} crashes again and again: {number} restarts within an hour"),
    )
    .of(name)
    .last_words(&facts.words);
    if let Some(last) = facts.restarts.last() {
        cause = cause.seen(format!("the last one at {}", units::local(*last)));
    }
    let cause = cause.run(format!("ops logs {name}_stderr -n 50")).run("ops alert why restart_loop");
    found.causes.push(match over {
        true => cause.advise(
            "alert starts it no more until an hour has passed: put its error right, then `ops start`",
        ),
        false => cause,
    });
}

fn shown(process: &Detected) -> String {
    let pid = process.pid.map_or("?".to_owned(), |pid| pid.to_string());
    format!("{pid} '{}': {}", process.command, process.why.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::process::Identity;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn process(pid: u32) -> Process {
        let example = Process::example(now() - TimeDelta::minutes(10));
        Process { identity: Identity { pid, ..example.identity }, session: pid, ..example }
    }

    fn facts(liveness: Liveness) -> Facts {
        Facts {
            service: "bot".to_owned(),
            now: now(),
            status: Status {
                service: "bot".to_owned(),
                liveness,
                pid_file_names: None,
                stopped_by_operator: None,
            },
            pid_file: None,
            last: Some((Some(now()), true)),
            status_file: None,
            leftovers: Vec::new(),
            look_alikes: Vec::new(),
            varied: Vec::new(),
            restarts: Vec::new(),
            most_restarts: 3,
            words: vec!["logs/bot_stderr.log: KeyError".to_owned()],
            killed: 0,
            unwatched: false,
        }
    }

    fn detected(kind: service::Kind) -> Detected {
        Detected {
            pid: Some(77),
            kind,
            service: "bot".to_owned(),
            why: vec!["its command line is that of bot".to_owned()],
            command: "bot".to_owned(),
            started: None,
        }
    }

    fn ids(facts: &Facts) -> Vec<(&'static str, State)> {
        judge(facts).causes.iter().map(|cause| (cause.id, cause.state)).collect()
    }

    #[test]
    fn what_became_of_a_service_that_is_not_there() {
        let gone = || facts(Liveness::Dead("process 7 is gone".to_owned()));
        let file = || Some("bot.pid".to_owned());
        let stranger = |resembles| facts(Liveness::Stranger { pid: 7, command: "vim".to_owned(), resembles });
        for (facts, expected) in [
            (gone(), ("crashed", State::Critical)),
            (Facts { pid_file: file(), ..gone() }, ("stale_pid_file", State::Critical)),
            (Facts { last: Some((None, false)), ..gone() }, ("not_started_after_boot", State::Critical)),
            (Facts { last: None, ..gone() }, ("not_started", State::Critical)),
            (Facts { unwatched: true, ..gone() }, ("crashed", State::Warning)),
            (
                Facts { look_alikes: vec![detected(service::Kind::Stranger)], ..gone() },
                ("runs_elsewhere", State::Warning),
            ),
            (stranger(false), ("stale_pid_file", State::Critical)),
            (stranger(true), ("second_instance", State::Critical)),
        ] {
            assert_eq!(ids(&facts), [expected]);
            let cause = &judge(&facts).causes[0];
            assert!(cause.evidence.iter().any(|line| line.contains("KeyError")), "{cause:?}");
        }
        let elsewhere = Facts { unwatched: true, last: None, ..gone() };
        assert!(ids(&elsewhere).is_empty() && judge(&elsewhere).notes.len() == 1);
        let status_file = StatusFile { status: "running".to_owned(), ..StatusFile::default() };
        let killed = Facts { killed: 2, status_file: Some(Ok(status_file)), ..gone() };
        let evidence = judge(&killed).causes[0].evidence.join("\n");
        assert!(evidence.contains("2 times") && evidence.contains("still says running"), "{evidence}");
    }

    #[test]
    fn one_with_other_options_is_looked_at_before_it_is_ended() {
        let job = Detected {
            why: vec!["its command line is that of bot, but for its options".to_owned()],
            ..detected(service::Kind::Stranger)
        };
        let (varied, look_alikes) = alike(vec![detected(service::Kind::Stranger), job]);
        assert_eq!((varied.len(), look_alikes.len()), (1, 1));
        let runs = Facts { varied: varied.clone(), ..facts(Liveness::Running(process(42))) };
        let found = judge(&runs);
        assert!(found.causes.is_empty() && found.notes[0].contains("77 'bot'"), "{found:?}");
        let gone = Facts { varied, ..facts(Liveness::Dead("process 7 is gone".to_owned())) };
        let found = judge(&gone);
        assert_eq!(ids(&gone), [("runs_elsewhere", State::Critical)]);
        assert_eq!(found.causes[0].remedy, ["ps -f -p 77", "ops start bot"]);
    }

    #[test]
    fn a_stop_by_its_operator_is_no_fault() {
        let mut stopped = facts(Liveness::Dead("process 7 is gone".to_owned()));
        let at = Some(now() - TimeDelta::hours(2));
        stopped.status.stopped_by_operator = Some(service::Stopped { at, with: None });
        let found = judge(&stopped);
        assert!(
            found.causes.is_empty() && found.notes[0].contains("stopped by its operator 2h ago"),
            "{found:?}"
        );
    }

    #[test]
    fn what_may_be_wrong_although_it_runs() {
        let runs = || facts(Liveness::Running(process(42)));
        assert!(ids(&runs()).is_empty());
        let mut named = runs();
        named.status.pid_file_names = Some((7, "vim".to_owned()));
        let file = |pid, seconds| {
            let at = Some(now() - TimeDelta::seconds(seconds));
            Some(Ok(StatusFile {
                status: "running".to_owned(),
                pid: Some(pid),
                timestamp: at,
                ..StatusFile::default()
            }))
        };
        let minutes =
            |minutes: &[i64]| minutes.iter().map(|&minutes| now() - TimeDelta::minutes(minutes)).collect();
        for (facts, expected) in [
            (named, &[("stale_pid_file", State::Warning)][..]),
            (
                Facts { look_alikes: vec![detected(service::Kind::Stranger)], ..runs() },
                &[("second_instance", State::Warning)],
            ),
            (
                Facts { leftovers: vec![detected(service::Kind::Leftover)], ..runs() },
                &[("leftovers", State::Warning)],
            ),
            (
                Facts { status_file: Some(Err(Unreadable::Broken("x".to_owned()))), ..runs() },
                &[("status_file_torn", State::Warning)],
            ),
            (Facts { status_file: file(7, 3600), ..runs() }, &[("status_file_of_another", State::Warning)]),
            (Facts { status_file: file(7, 5), ..runs() }, &[]),
            (Facts { status_file: file(42, 3600), ..runs() }, &[]),
            (Facts { restarts: minutes(&[30]), ..runs() }, &[]),
            (Facts { restarts: minutes(&[30, 20]), ..runs() }, &[("restart_loop", State::Warning)]),
            (Facts { restarts: minutes(&[50, 45, 40]), ..runs() }, &[("restart_loop", State::Warning)]),
            (Facts { restarts: minutes(&[30, 20, 10]), ..runs() }, &[("restart_loop", State::Critical)]),
        ] {
            assert_eq!(ids(&facts), expected);
        }
    }
}
