//! A year of runs, one every five minutes, in virtual time: what people hear is what the rules say.

use super::deliveries;
use super::fixtures::look;
use super::incident::Incident;
use super::kind::Kind;
use super::look::{Known, Look, looks};
use super::outcome::Outcome;
use super::plan::{Situation, plan};
use super::store::{self, Change};
use super::throttle::within_an_hour;
use crate::base::process::Process;
use crate::base::units::Span;
use crate::base::{Journal, Run, State};
use crate::config::alerts::{Alerts, Hours};
use crate::config::{ChannelName, Config};
use crate::health::{Finding, Report};
use crate::service::{Liveness, Status, Stopped};
use State::{Critical, Ok as Good, Warning};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeMap;

const RUNS: i64 = 365 * 24 * 12;

/// SplitMix64: the same year in every run of the tests.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % sides.unsigned_abs()) as i64
    }
}

fn start() -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// Problems that do not come and go: of each length and severity the rules say how often it is
/// told, and in which order. Nothing more is said in the year, and nothing less.
#[test]
fn a_year_of_problems_is_told_to_the_letter() {
    let mut dice = Dice(1);
    let mut run = Run::begin("alert");
    let alerts = Alerts { max_per_hour: 1000, ..Alerts::default() };
    // For each check: when it is bad, and how bad. More than an hour apart, so that nothing flaps.
    let mut expected: BTreeMap<Told, usize> = BTreeMap::new();
    let episodes: Vec<Vec<(i64, i64, State)>> = (0..6)
        .map(|_| {
            let (mut at, mut episodes) = (20, Vec::new());
            loop {
                let length = if dice.roll(8) == 0 { 1 + dice.roll(2000) } else { 1 + dice.roll(60) };
                let state = if dice.roll(2) == 0 { Warning } else { Critical };
                if at + length + 20 > RUNS {
                    break episodes;
                }
                episodes.push((at, at + length, state));
                *expected.entry(Told::New).or_default() += 1;
                *expected.entry(Told::Recovered).or_default() += 1;
                // 30 minutes after the first word, then after twice as long each time, at most a day.
                let (mut due, mut gap) = (6, 6);
                while due < length {
                    *expected.entry(Told::Reminder).or_default() += 1;
                    gap = (gap * 2).min(288);
                    due += gap;
                }
                at += length + 15 + dice.roll(1500);
            }
        })
        .collect();
    let mut told: BTreeMap<Told, usize> = BTreeMap::new();
    let mut incidents: BTreeMap<String, Incident> = BTreeMap::new();
    let mut next = [0; 6];
    for tick in 0..RUNS {
        run.now = start() + TimeDelta::minutes(5 * tick);
        let mut looks = Vec::new();
        for (check, episodes) in episodes.iter().enumerate() {
            let name = format!("check{check}");
            while episodes.get(next[check]).is_some_and(|(_, end, _)| *end < tick) {
                next[check] += 1;
            }
            let bad = episodes.get(next[check]).filter(|(begin, end, _)| (*begin..*end).contains(&tick));
            let state = bad.map_or(Good, |(_, _, state)| *state);
            if state != Good || incidents.get(&name).is_some_and(|incident| incident.closed.is_none()) {
                looks.push(look(&name, state));
            }
        }
        if looks.is_empty() {
            continue;
        }
        let situation =
            Situation { agent: "a", run: &run, alerts: &alerts, sent: 0, silenced: None, quiet: false };
        for change in plan(&looks, &incidents, situation) {
            if let Some(message) = change.message {
                let kind = match message.kind {
                    Kind::New => Told::New,
                    Kind::Reminder => Told::Reminder,
                    Kind::Recovered => Told::Recovered,
                    other => panic!("{other:?} at {}", run.now),
                };
                *told.entry(kind).or_default() += 1;
            }
            incidents.insert(change.incident.check.clone(), change.incident);
        }
    }
    assert!(expected.values().sum::<usize>() > 1000, "{expected:?}");
    assert_eq!(told, expected);
    assert!(incidents.values().all(|incident| incident.closed.is_some()));
}

/// The kinds that this year has, in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    New,
    Reminder,
    Recovered,
}

fn config(text: &str) -> Config {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ops.toml");
    std::fs::write(&file, text).unwrap();
    crate::config::load(&file, None).unwrap().config
}

const SETTINGS: &str = "
[agent]
preset = \"none\"
[service.daemon]
command = [\"x\"]
[check.process]
kind = \"process\"
service = \"daemon\"
[check.port]
kind = \"tcp\"
address = \"localhost:1\"
after = [\"process\"]
[check.disk]
kind = \"disk\"
[check.logs]
kind = \"log_size\"
[check.flap]
kind = \"log_size\"
[alerts]
quiet_hours = \"22:00-07:00\"
escalate = [\"gotify\"]
";

/// What happens to one check.
#[derive(Default)]
struct Fate {
    state: Option<State>,
    left: i64,
    flaps: bool,
}

impl Fate {
    fn next(&mut self, dice: &mut Dice, often: i64, flaps: bool) -> State {
        if self.left == 0 {
            self.state = None;
            if dice.roll(often) != 0 {
                return Good;
            }
            self.state = Some(if dice.roll(3) == 0 { Critical } else { Warning });
            self.left = 1 + if dice.roll(10) == 0 { dice.roll(700) } else { dice.roll(24) };
            self.flaps = flaps && dice.roll(2) == 0;
        }
        self.left -= 1;
        match self.state {
            Some(_) if self.flaps && self.left % 2 == 0 => Good,
            Some(state) => state,
            None => Good,
        }
    }
}

/// Local time in Berlin, in minutes of the day: an hour ahead, and two in summer.
fn berlin(at: DateTime<Utc>) -> chrono::NaiveTime {
    let change = |text: &str| -> DateTime<Utc> { text.parse().unwrap() };
    let summer = at >= change("2026-03-29T01:00:00Z") && at < change("2026-10-25T01:00:00Z");
    (at + TimeDelta::hours(if summer { 2 } else { 1 })).time()
}

/// The agent, its journal, and two channels that are not always there.
struct World {
    dice: Dice,
    config: Config,
    journal: Journal,
    run: Run,
    incidents: BTreeMap<String, Incident>,
    attempts: Vec<DateTime<Utc>>,
    sent: Vec<DateTime<Utc>>,
    /// The service: alive, or dead.
    alive: bool,
    stopped: i64,
    fates: BTreeMap<&'static str, Fate>,
    /// For so many more runs a channel is away.
    outage: [i64; 2],
    waiting: bool,
    messages: usize,
}

impl World {
    fn new(seed: u64) -> World {
        World {
            dice: Dice(seed),
            config: config(SETTINGS),
            journal: Journal::in_memory().unwrap(),
            run: Run::begin("alert"),
            incidents: BTreeMap::new(),
            attempts: Vec::new(),
            sent: Vec::new(),
            alive: true,
            stopped: 0,
            fates: BTreeMap::new(),
            outage: [0; 2],
            waiting: false,
            messages: 0,
        }
    }

    fn finding(&self, check: &str, kind: &str, state: State) -> Finding {
        Finding {
            check: check.to_owned(),
            kind: kind.to_owned(),
            service: (kind == "process").then(|| "daemon".to_owned()),
            state,
            seen: state,
            looked_at: None,
            summary: "as it is".to_owned(),
            metrics: Vec::new(),
            remedy: None,
            critical: false,
            alert: check.to_owned(),
        }
    }

    fn known(&self) -> BTreeMap<String, Known> {
        let process = Process::example(self.run.now);
        let status = Status {
            service: "daemon".to_owned(),
            liveness: if self.alive { Liveness::Running(process) } else { Liveness::Dead("gone".to_owned()) },
            pid_file_names: None,
            stopped_by_operator: (self.stopped > 0).then(Stopped::default),
        };
        let known = Known {
            status,
            attempts: self.attempts.clone(),
            waits_for: None,
            supervised: false,
            proven: true,
            hung: None,
        };
        [("daemon".to_owned(), known)].into()
    }

    /// What there is to see in this run; in peace nothing new happens.
    fn findings(&mut self, peace: bool) -> Vec<Finding> {
        if self.stopped > 0 {
            self.stopped -= 1;
            // Its operator starts it again.
            self.alive = self.stopped == 0;
        } else if !peace && self.alive && self.dice.roll(2000) == 0 {
            self.alive = false;
            self.stopped = if self.dice.roll(5) == 0 { 1 + self.dice.roll(100) } else { 0 };
        } else if !self.alive && (peace || self.dice.roll(80) == 0) {
            self.alive = true;
        }
        let process = if self.alive { Good } else { Critical };
        let mut findings = vec![self.finding("process", "process", process)];
        for (check, kind, often, flaps) in
            [("disk", "disk", 600, false), ("flap", "log_size", 900, true), ("logs", "log_size", 400, false)]
        {
            let fate = self.fates.entry(check).or_default();
            if peace {
                *fate = Fate::default();
            }
            let state = if peace { Good } else { fate.next(&mut self.dice, often, flaps) };
            findings.push(self.finding(check, kind, state));
        }
        findings.push(self.finding("port", "tcp", process));
        findings
    }

    /// One run at a time on a clock that may be wrong. Checks the laws that hold for each.
    fn step(&mut self, clock: DateTime<Utc>, number: i64, peace: bool) {
        self.run.now = clock;
        self.run.id = format!("r{number}");
        let findings = self.findings(peace);
        let idle = self.incidents.values().all(|incident| incident.closed.is_some());
        if idle && self.alive && number % 12 != 0 && findings.iter().all(|finding| finding.state == Good) {
            // Nothing can come of it, and one look in twelve shows that: it only takes its time.
            return self.deliver(&mut [], peace);
        }
        let report = Report::new("agent", &self.run, findings);
        let known = self.known();
        self.incidents
            .retain(|_, incident| incident.closed.is_none_or(|closed| closed > clock - TimeDelta::days(1)));
        let (looks, restarts) = looks(&report, &self.config, &known, &self.incidents, clock);
        let alerts = &self.config.alerts;
        let quiet = alerts.quiet_hours.is_some_and(|hours: Hours| hours.contain(berlin(clock)));
        let sent = within_an_hour(clock, &self.sent);
        let situation = Situation { agent: "a", run: &self.run, alerts, sent, silenced: None, quiet };
        let mut changes = plan(&looks, &self.incidents, situation);
        self.laws(&looks, &changes, quiet, sent);
        for restart in &restarts {
            assert!(self.stopped == 0, "never what its operator stopped");
            self.attempts.push(clock);
            assert!(within_an_hour(clock, &self.attempts) <= alerts.max_restarts_per_hour);
            // Most restarts help.
            self.alive = self.dice.roll(4) != 0;
            let change = changes.iter_mut().find(|change| change.incident.check == restart.check).unwrap();
            change.incident.provisional = self.alive;
        }
        self.attempts.retain(|at| *at > clock - TimeDelta::days(1));
        self.sent.extend(changes.iter().filter(|change| change.message.is_some()).map(|_| clock));
        self.sent.retain(|at| *at > clock - TimeDelta::hours(2));
        self.messages += changes.iter().filter(|change| change.message.is_some()).count();
        self.deliver(&mut changes, peace);
        for change in changes {
            self.incidents.insert(change.incident.check.clone(), change.incident);
        }
    }

    fn laws(&self, looks: &[Look], changes: &[Change], quiet: bool, sent: usize) {
        let messages: Vec<_> = changes.iter().filter_map(|change| change.message.as_ref()).collect();
        let now = self.run.now;
        for message in &messages {
            assert!(!quiet || message.urgency == Critical, "{now}: a warning in the night: {message:?}");
            assert_ne!(message.check, "port", "{now}: it follows from the process");
        }
        let plain =
            |message: &&&super::Message| message.severity != Critical && message.kind != Kind::Recovered;
        let plain = messages.iter().filter(plain).count();
        assert!(
            plain <= self.config.alerts.max_per_hour.saturating_sub(sent),
            "{now}: {plain} beyond the cap"
        );
        for look in looks.iter().filter(|look| look.state == Critical && look.excuse.is_none()) {
            let incident =
                &changes.iter().find(|change| change.incident.check == look.check).unwrap().incident;
            let told = incident.told.as_ref().is_some_and(|told| told.worst == Critical);
            assert!(told, "{now}: a CRITICAL of {} that nobody was told", look.check);
        }
    }

    /// The real outbox, and channels that are away at times.
    fn deliver(&mut self, changes: &mut [Change], peace: bool) {
        for outage in &mut self.outage {
            if *outage > 0 {
                *outage = if peace { 0 } else { *outage - 1 };
            } else if !peace && self.dice.roll(3000) == 0 {
                // Not longer than a message is tried.
                *outage = 1 + self.dice.roll(250);
            }
        }
        if changes.is_empty() && !self.waiting {
            return;
        }
        let outbox = store::store(&self.journal, &self.run, changes, false, Span::days(2)).unwrap();
        assert!(outbox.given_up.is_empty(), "{:?}", outbox.given_up);
        self.waiting = false;
        for waiting in outbox.waiting {
            let id = waiting.id.unwrap();
            let mut settled = true;
            for (channel, outage) in [ChannelName::Email, ChannelName::Webhook].into_iter().zip(self.outage) {
                let word = channel.word();
                if waiting.done.contains_key(word) {
                    continue;
                }
                let outcome = match outage {
                    0 => Outcome::Delivered(None),
                    _ => Outcome::Failed("it is away".to_owned()),
                };
                settled &= outage == 0;
                deliveries::record(&self.journal, &self.run, id, word, &outcome).unwrap();
            }
            if settled {
                deliveries::settle(&self.journal, id).unwrap();
            }
            self.waiting |= !settled;
        }
    }

    fn count(&self, sql: &str) -> i64 {
        self.journal.connection().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// At the end of all.
    fn reckon(&self) {
        let open: Vec<_> = self.incidents.values().filter(|incident| incident.closed.is_none()).collect();
        assert!(open.is_empty(), "{open:?}");
        assert_eq!(self.count("SELECT count(*) FROM incidents WHERE closed_at IS NULL"), 0);
        assert_eq!(self.count("SELECT count(*) FROM messages WHERE settled = 0"), 0);
        // Every incident of which anything critical was said, was delivered to somebody; and so was
        // every recovery, to everybody.
        let unheard = "SELECT count(*) FROM incidents i WHERE EXISTS(
               SELECT 1 FROM messages m WHERE m.incident = i.id AND m.severity = 2)
             AND NOT EXISTS(SELECT 1 FROM messages m JOIN deliveries d ON d.message = m.id
               WHERE m.incident = i.id AND d.outcome = 'delivered')";
        assert_eq!(self.count(unheard), 0);
        let recoveries = "SELECT count(*) FROM messages m WHERE m.kind = 'recovered' AND (
               SELECT count(*) FROM deliveries d WHERE d.message = m.id AND d.outcome = 'delivered') <> 2";
        assert_eq!(self.count(recoveries), 0);
        // An end for each beginning that was told by itself, and none without one.
        let twice = "SELECT count(*) FROM (SELECT incident FROM messages WHERE kind = 'recovered'
             GROUP BY incident HAVING count(*) > 1)";
        assert_eq!(self.count(twice), 0);
        // Its operator's stop is an end without a word, and only of the process.
        let endless = "SELECT count(*) FROM incidents i WHERE check_name <> 'process' AND EXISTS(
               SELECT 1 FROM messages m WHERE m.incident = i.id AND m.kind = 'new')
             AND NOT EXISTS(SELECT 1 FROM messages m WHERE m.incident = i.id AND m.kind = 'recovered')";
        let summed = "SELECT count(*) FROM messages WHERE content LIKE '%(over)%'";
        assert!(self.count(endless) <= self.count(summed), "ends that were told nowhere");
    }
}

fn live(seed: u64, runs: i64) -> World {
    let mut world = World::new(seed);
    let mut offset = TimeDelta::zero();
    for number in 0..runs {
        // The clock is wrong by hours at times, and by a month once; and then it is set right.
        if world.outage == [0; 2] && world.dice.roll(4000) == 0 {
            let wrong =
                [TimeDelta::hours(3), TimeDelta::hours(-3), TimeDelta::days(30), TimeDelta::days(-30)];
            offset = if offset.is_zero() { wrong[world.dice.roll(4) as usize] } else { TimeDelta::zero() };
        }
        world.step(start() + TimeDelta::minutes(5 * number) + offset, number, false);
    }
    // Three days of peace.
    for number in runs..runs + 3 * 288 {
        world.step(start() + TimeDelta::minutes(5 * number), number, true);
    }
    world.reckon();
    world
}

#[test]
fn a_year_of_crashes_flaps_outages_and_wrong_clocks_loses_nothing() {
    let world = live(2026, RUNS);
    // That something happened at all.
    let kinds = |kind: &str| world.count(&format!("SELECT count(*) FROM messages WHERE kind = '{kind}'"));
    for kind in ["new", "worse", "reminder", "recovered", "flapping", "escalated"] {
        assert!(kinds(kind) >= 3, "{kind}: {}", kinds(kind));
    }
    assert!(world.count("SELECT count(*) FROM deliveries WHERE attempts > 1") > 10);
    assert!(world.count("SELECT count(*) FROM messages WHERE type = 'restart_loop'") > 0);
    assert!(world.messages > 300, "{}", world.messages);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(4))]

    /// Three weeks of any other year.
    #[test]
    fn no_weeks_lose_anything(seed in proptest::prelude::any::<u64>()) {
        live(seed, 21 * 288);
    }
}
