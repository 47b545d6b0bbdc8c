//! The life of incidents in virtual time: what people hear, and when.

use super::*;
use crate::alert::fixtures::look;
use crate::alert::incident::TRAIL;
use crate::alert::plan::{Situation, plan};
use crate::alert::store::Change;
use crate::base::Run;
use crate::config::alerts::Alerts;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Looks at checks as time goes by, and keeps what a journal would.
struct World {
    now: DateTime<Utc>,
    incidents: BTreeMap<String, Incident>,
    sent: Vec<(DateTime<Utc>, Kind, String)>,
    alerts: Alerts,
    silenced: bool,
    quiet: bool,
}

impl World {
    fn new() -> World {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let alerts = Alerts { max_per_hour: 1000, ..Alerts::default() };
        World { now, incidents: BTreeMap::new(), sent: Vec::new(), alerts, silenced: false, quiet: false }
    }

    fn run(&mut self, looks: &[Look]) -> Vec<Change> {
        let mut run = Run::begin("alert");
        run.now = self.now;
        let times: Vec<_> = self.sent.iter().map(|(at, ..)| *at).collect();
        let changes = plan(
            looks,
            &self.incidents,
            Situation {
                agent: "agent",
                run: &run,
                alerts: &self.alerts,
                sent: crate::alert::throttle::within_an_hour(self.now, &times),
                silenced: self.silenced.then_some("alerts are silenced"),
                quiet: self.quiet,
            },
        );
        for change in &changes {
            // As the journal does: through text and back.
            let text = serde_json::to_string(&change.incident).unwrap();
            let incident: Incident = serde_json::from_str(&text).unwrap();
            assert_eq!(incident, change.incident);
            self.incidents.insert(incident.check.clone(), incident);
            if let Some(message) = &change.message {
                self.sent.push((self.now, message.kind, message.check.clone()));
            }
        }
        changes
    }

    /// One run, `minutes` after the last: what was said.
    fn after(&mut self, minutes: i64, looks: &[Look]) -> Vec<Kind> {
        self.now += TimeDelta::minutes(minutes);
        self.run(looks).iter().filter_map(|change| Some(change.message.as_ref()?.kind)).collect()
    }

    fn is_open(&self, check: &str) -> bool {
        self.incidents.get(check).is_some_and(|incident| incident.closed.is_none())
    }
}

use State::{Critical, Ok as Good, Unknown, Warning};

#[test]
fn new_worse_better_recovered() {
    let mut world = World::new();
    let mut see = |minutes, state| world.after(minutes, &[look("disk", state)]);
    assert_eq!(see(0, Good), []);
    assert_eq!(see(5, Warning), [Kind::New]);
    assert_eq!(see(5, Warning), []);
    assert_eq!(see(5, Critical), [Kind::Worse]);
    assert_eq!(see(5, Warning), [], "better is no news of its own");
    assert_eq!(see(5, Warning), []);
    assert_eq!(see(90, Good), [Kind::Recovered]);
    assert_eq!(see(5, Good), []);
}

#[test]
fn worse_than_what_was_said_last_is_news() {
    let mut world = World::new();
    let mut see = |minutes, state| world.after(minutes, &[look("disk", state)]);
    assert_eq!(see(0, Critical), [Kind::New]);
    assert_eq!(see(5, Warning), []);
    assert_eq!(see(5, Critical), [], "people still think so");
    assert_eq!(see(60, Warning), [Kind::Reminder]);
    assert_eq!(see(5, Critical), [Kind::Worse], "people think it is a warning");
}

#[test]
fn reminders_grow_apart_up_to_a_day_and_say_how_much_was_held() {
    let mut world = World::new();
    world.run(&[look("disk", Warning)]);
    let mut last = world.now;
    let mut gaps = Vec::new();
    for _ in 0..(5 * 24 * 12) {
        if world.after(5, &[look("disk", Warning)]) == [Kind::Reminder] {
            gaps.push((world.now - last).num_minutes());
            last = world.now;
        }
    }
    assert_eq!(gaps, [30, 60, 120, 240, 480, 960, 1440, 1440, 1440]);
}

#[test]
fn a_held_run_is_counted_in_the_reminder() {
    let mut world = World::new();
    world.run(&[look("disk", Warning)]);
    for _ in 0..5 {
        assert_eq!(world.after(5, &[look("disk", Warning)]), []);
    }
    world.now += TimeDelta::minutes(5);
    let changes = world.run(&[look("disk", Warning)]);
    let message = changes[0].message.as_ref().unwrap();
    assert_eq!((message.kind, message.held), (Kind::Reminder, 5));
    assert!(message.line().contains("for 30m"), "{}", message.line());
}

#[test]
fn what_cannot_be_told_is_told_at_the_second_time() {
    let mut world = World::new();
    assert_eq!(world.after(0, &[look("tcp", Unknown)]), []);
    assert_eq!(world.after(5, &[look("tcp", Good)]), [], "once is nothing, and its end neither");
    assert!(!world.is_open("tcp"));
    assert_eq!(world.after(5, &[look("tcp", Unknown)]), []);
    assert_eq!(world.after(5, &[look("tcp", Unknown)]), [Kind::New]);
    assert_eq!(world.incidents["tcp"].severity, Warning);
    assert_eq!(world.after(5, &[look("tcp", Good)]), [Kind::Recovered]);
    // Not being able to tell is not better than critical.
    assert_eq!(world.after(90, &[look("disk", Critical)]), [Kind::New]);
    assert_eq!(world.after(5, &[look("disk", Unknown)]), []);
    assert_eq!(world.incidents["disk"].severity, Critical);
}

#[test]
fn after_our_restart_one_good_look_is_no_proof() {
    let mut world = World::new();
    assert_eq!(world.after(0, &[look("process", Critical)]), [Kind::New]);
    world.incidents.get_mut("process").unwrap().provisional = true;
    assert_eq!(world.after(5, &[look("process", Good)]), []);
    assert_eq!(world.after(5, &[look("process", Good)]), [Kind::Recovered]);
    assert_eq!(world.after(5, &[look("process", Good)]), []);

    // Alive is not well: without a sign of life it is not believed either.
    assert_eq!(world.after(90, &[look("process", Critical)]), [Kind::New]);
    world.incidents.get_mut("process").unwrap().provisional = true;
    let unproven = Look { unproven: true, ..look("process", Good) };
    assert_eq!(world.after(5, std::slice::from_ref(&unproven)), []);
    assert_eq!(world.after(5, &[unproven]), []);
    assert_eq!(world.after(5, &[look("process", Good)]), [Kind::Recovered]);

    // The second crash is not silent.
    assert_eq!(world.after(90, &[look("process", Critical)]), [Kind::New]);
    world.incidents.get_mut("process").unwrap().provisional = true;
    assert_eq!(world.after(5, &[look("process", Good)]), []);
    assert_eq!(world.after(5, &[look("process", Critical)]), [Kind::Worse]);
    assert_eq!(world.after(5, &[look("process", Critical)]), []);
}

#[test]
fn flapping_is_said_once_and_is_over_after_a_steady_hour() {
    let mut world = World::new();
    let mut said = Vec::new();
    for round in 0..40 {
        let state = if round % 2 == 0 { Critical } else { Good };
        said.extend(world.after(5, &[look("tcp", state)]));
    }
    assert_eq!(said, [Kind::New, Kind::Recovered, Kind::New, Kind::Flapping]);
    let mut minutes = 0;
    let end = loop {
        minutes += 5;
        let said = world.after(5, &[look("tcp", Good)]);
        if !said.is_empty() {
            break said;
        }
        assert!(minutes < 120);
    };
    assert_eq!(end, [Kind::Recovered]);
    assert_eq!(minutes, 60);
}

#[test]
fn giving_up_is_said_once() {
    let mut world = World::new();
    world.after(0, &[look("process", Critical)]);
    let gave_up = Look { gave_up: true, alert: "restart_loop".to_owned(), ..look("process", Critical) };
    world.now += TimeDelta::minutes(5);
    world.alerts.max_per_hour = 0;
    let changes = world.run(std::slice::from_ref(&gave_up));
    let message = changes[0].message.as_ref().unwrap();
    assert_eq!((message.title().as_str(), message.severity), ("Restart Loop", Critical));
    assert_eq!(world.after(5, &[gave_up]), []);
}

#[test]
fn an_operator_s_stop_closes_without_a_word() {
    let mut world = World::new();
    let stopped = |state| Look { excuse: Some(Excuse::Stopped), ..look("process", state) };
    assert_eq!(world.after(0, &[stopped(Critical)]), []);
    assert!(!world.is_open("process"));
    assert_eq!(world.after(5, &[look("process", Critical)]), [Kind::New]);
    assert_eq!(world.after(5, &[stopped(Critical)]), []);
    assert!(!world.is_open("process"));
    assert_eq!(world.after(5, &[look("process", Good)]), []);
}

#[test]
fn what_follows_from_another_does_not_open_and_not_remind() {
    let mut world = World::new();
    let follows =
        |state| Look { excuse: Some(Excuse::Follows("process".to_owned())), ..look("heartbeat", state) };
    assert_eq!(world.after(0, &[follows(Critical)]), []);
    assert!(!world.is_open("heartbeat"));
    assert_eq!(world.after(5, &[look("heartbeat", Warning)]), [Kind::New]);
    assert_eq!(world.after(95, &[follows(Critical)]), []);
    assert_eq!(world.after(5, &[look("heartbeat", Good)]), [Kind::Recovered]);
}

#[test]
fn acknowledged_means_no_reminders_but_worse_is_worse() {
    let mut world = World::new();
    world.after(0, &[look("disk", Warning)]);
    world.incidents.get_mut("disk").unwrap().acknowledged = Some(world.now);
    assert_eq!(world.after(600, &[look("disk", Warning)]), []);
    assert_eq!(world.after(5, &[look("disk", Critical)]), [Kind::Worse]);
    assert_eq!(world.after(600, &[look("disk", Critical)]), []);
    assert_eq!(world.after(5, &[look("disk", Good)]), [Kind::Recovered]);
    assert_eq!(world.after(90, &[look("disk", Warning)]), [Kind::New], "it was for that problem only");
}

#[test]
fn a_silence_puts_off_and_loses_nothing() {
    let mut world = World::new();
    world.after(0, &[look("disk", Critical)]);
    world.silenced = true;
    assert_eq!(world.after(5, &[look("disk", Good), look("tcp", Critical)]), []);
    assert_eq!(world.after(5, &[look("disk", Good), look("tcp", Critical)]), []);
    world.silenced = false;
    let mut said = world.after(5, &[look("disk", Good), look("tcp", Critical)]);
    said.sort_by_key(|kind| *kind != Kind::New);
    assert_eq!(said, [Kind::New, Kind::Recovered]);
    assert!(!world.is_open("disk") && world.is_open("tcp"));
}

#[test]
fn the_cap_holds_warnings_back_and_the_next_message_sums_them_up() {
    let mut world = World::new();
    world.alerts.max_per_hour = 2;
    let names = ["a", "b", "c", "d"];
    let warn = || names.map(|name| look(name, Warning)).to_vec();
    let changes = world.run(&warn());
    let messages: Vec<_> = changes.iter().filter_map(|change| change.message.as_ref()).collect();
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[1].digest.len(), 2, "those two are told with the second");

    // The hour is full: nothing goes out, until something that must.
    world.now += TimeDelta::minutes(5);
    let mut more = warn();
    more.push(look("e", Warning));
    assert_eq!(world.after(5, &more), []);
    more.push(look("f", Critical));
    world.now += TimeDelta::minutes(5);
    let changes = world.run(&more);
    let message = changes.iter().find_map(|change| change.message.as_ref()).unwrap();
    assert_eq!(message.check, "f");
    assert_eq!(message.digest, ["Disk Low: as it is"]);
    // And what was told in a sum has a recovery notice like all else.
    more[4] = look("e", Good);
    assert_eq!(world.after(5, &more), [Kind::Recovered]);
}

#[test]
fn in_quiet_hours_warnings_wait_and_become_one_message() {
    let mut world = World::new();
    assert_eq!(world.after(0, &[look("told", Warning)]), [Kind::New]);
    world.quiet = true;
    let all = |states: [State; 6]| -> Vec<Look> {
        ["told", "a", "b", "c", "d", "e"].iter().zip(states).map(|(name, state)| look(name, state)).collect()
    };
    assert_eq!(world.after(5, &all([Warning, Warning, Warning, Warning, Warning, Good])), []);
    let critical = all([Warning, Warning, Warning, Warning, Warning, Critical]);
    assert_eq!(world.after(5, &critical), [Kind::New], "what is critical wakes people");
    assert_eq!(world.after(5, &all([Warning, Warning, Warning, Warning, Warning, Good])), [Kind::Recovered]);
    // One of them is over before anybody heard of it; another gets worse.
    assert_eq!(world.after(5, &all([Warning, Good, Critical, Warning, Warning, Good])), [Kind::New]);
    assert!(!world.is_open("a"));
    let morning = all([Good, Good, Critical, Warning, Warning, Good]);
    assert_eq!(world.after(5, &morning), [], "nor are people woken to hear that a warning is over");
    assert!(world.is_open("told"));
    world.quiet = false;
    world.now += TimeDelta::minutes(5);
    let changes = world.run(&morning);
    let messages: Vec<_> = changes.iter().filter_map(|change| change.message.as_ref()).collect();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!((messages[0].kind, messages[0].digest.len()), (Kind::Recovered, 2), "c and d are in it");
    assert_eq!(world.after(5, &morning), []);
    assert!(!world.is_open("told"));
    // And each has its own end.
    assert_eq!(world.after(5, &all([Good; 6])), [Kind::Recovered; 3]);
}

#[test]
fn a_digest_without_room_waits_and_stays_one() {
    let mut world = World::new();
    world.alerts.max_per_hour = 0;
    world.quiet = true;
    let night = ["a", "b", "c"].map(|name| look(name, Warning));
    world.after(5, &night);
    world.quiet = false;
    assert_eq!(world.after(5, &night), []);
    world.alerts.max_per_hour = 5;
    world.now += TimeDelta::minutes(5);
    let changes = world.run(&night);
    let digests: Vec<_> =
        changes.iter().filter_map(|change| Some(change.message.as_ref()?.digest.len())).collect();
    assert_eq!(digests, [2]);
}

#[test]
fn what_nobody_answers_is_escalated_once() {
    use crate::config::ChannelName;
    let mut world = World::new();
    world.alerts.escalate = vec![ChannelName::Telegram];
    assert_eq!(world.after(0, &[look("disk", Critical)]), [Kind::New]);
    assert_eq!(world.after(29, &[look("disk", Critical)]), []);
    world.alerts.max_per_hour = 0;
    world.now += TimeDelta::minutes(1);
    let changes = world.run(&[look("disk", Critical)]);
    let message = changes[0].message.as_ref().unwrap();
    assert_eq!((message.kind, message.escalated), (Kind::Escalated, true));
    assert_eq!(message.title(), "Unanswered: Disk Critical");
    world.alerts.max_per_hour = 5;
    assert_eq!(world.after(5, &[look("disk", Critical)]), [Kind::Reminder], "its own time is as it was");
    for _ in 0..100 {
        assert!(!world.after(5, &[look("disk", Critical)]).contains(&Kind::Escalated));
    }
    world.now += TimeDelta::minutes(5);
    let changes = world.run(&[look("disk", Good)]);
    let message = changes[0].message.as_ref().unwrap();
    assert!(message.kind == Kind::Recovered && message.escalated, "they hear of the end too");

    // Not what somebody is at, and not a warning.
    world.after(300, &[look("disk", Critical)]);
    world.incidents.get_mut("disk").unwrap().acknowledged = Some(world.now);
    assert_eq!(world.after(40, &[look("disk", Critical)]), []);
    world.after(5, &[look("disk", Good)]);
    world.after(300, &[look("disk", Warning)]);
    assert_eq!(world.after(40, &[look("disk", Warning)]), [Kind::Reminder]);
}

#[test]
fn giving_up_goes_to_the_next_contacts_in_one_message() {
    use crate::config::ChannelName;
    let mut world = World::new();
    world.alerts.escalate = vec![ChannelName::Telegram];
    world.after(0, &[look("process", Critical)]);
    world.now += TimeDelta::minutes(5);
    let gave_up = Look { gave_up: true, alert: "restart_loop".to_owned(), ..look("process", Critical) };
    let changes = world.run(std::slice::from_ref(&gave_up));
    let message = changes[0].message.as_ref().unwrap();
    assert!(message.kind == Kind::Worse && message.escalated);
    for _ in 0..20 {
        assert!(!world.after(5, std::slice::from_ref(&gave_up)).contains(&Kind::Escalated));
    }
}

#[test]
fn a_type_has_its_own_cooldown() {
    let mut world = World::new();
    let own = crate::config::alerts::AlertType { cooldown: Some(Span::minutes(360)), channels: None };
    world.alerts.types.insert("disk_low".to_owned(), own);
    world.after(0, &[look("disk", Warning)]);
    assert_eq!(world.after(359, &[look("disk", Warning)]), []);
    assert_eq!(world.after(1, &[look("disk", Warning)]), [Kind::Reminder]);
}

#[test]
fn a_clock_that_jumps_silences_nothing() {
    let mut world = World::new();
    world.after(0, &[look("disk", Warning)]);
    world.now -= TimeDelta::days(400);
    assert_eq!(world.after(0, &[look("disk", Warning)]), [Kind::Reminder]);
    assert_eq!(world.after(5, &[look("disk", Warning)]), []);
    assert_eq!(world.after(5, &[look("disk", Good)]), [Kind::Recovered]);
}

#[test]
fn a_check_that_is_gone_takes_its_incident_along() {
    let mut world = World::new();
    world.after(0, &[look("disk", Warning)]);
    assert_eq!(world.after(5, &[]), []);
    assert!(!world.is_open("disk"));
}

#[test]
fn the_trail_is_bounded_and_counts_repetitions() {
    let mut world = World::new();
    for round in 0..2000 {
        let state = if round % 50 == 49 { Good } else { Critical };
        world.after(5, &[look("disk", state)]);
    }
    assert!(world.incidents["disk"].trail.len() <= TRAIL);
    assert!(world.incidents["disk"].trail.iter().any(|decision| decision.times > 10));
}

fn state() -> impl Strategy<Value = State> {
    prop_oneof![4 => Just(Good), 2 => Just(Warning), 2 => Just(Critical), 1 => Just(Unknown)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever a check does: a recovery answers a beginning, and each beginning that was told
    /// has one; nothing critical is silent at first; no two messages without news within the
    /// cooldown; the end is always told.
    #[test]
    fn laws_of_an_incident(steps in prop::collection::vec((1i64..40, state()), 1..200)) {
        let mut world = World::new();
        let mut open = false;
        let mut last: Option<DateTime<Utc>> = None;
        let mut worst_told = Good;
        for (minutes, state) in steps {
            let said = world.after(minutes, &[look("check", state)]);
            prop_assert!(said.len() <= 1);
            if state == Critical && (!open || worst_told != Critical) {
                prop_assert_eq!(said.len(), 1, "a first CRITICAL is told at once");
            }
            match said.first() {
                Some(Kind::New) => { prop_assert!(!open); open = true; worst_told = Good; }
                Some(Kind::Recovered) => { prop_assert!(open && state == Good); open = false; worst_told = Good; }
                Some(Kind::Reminder) => {
                    prop_assert!(open);
                    prop_assert!(last.is_some_and(|at| world.now - at >= TimeDelta::minutes(30)));
                }
                Some(_) => open = true,
                None => {}
            }
            if let Some(kind) = said.first() {
                last = Some(world.now);
                let severity = world.incidents["check"].severity;
                if *kind != Kind::Recovered && severity == Critical { worst_told = Critical; }
            }
        }
        // Left alone, all ends within an hour and a bit.
        for _ in 0..20 {
            if world.after(5, &[look("check", Good)]) == [Kind::Recovered] { open = false; }
        }
        prop_assert!(!open && !world.is_open("check"));
    }

    /// Many checks at once, a cap and silences: what is reserved is never held by the cap, and
    /// everything that was told ends with a recovery.
    #[test]
    fn laws_of_many(
        rounds in prop::collection::vec((prop::collection::vec(state(), 6), any::<bool>()), 1..120),
        cap in 0usize..6,
    ) {
        let mut world = World::new();
        world.alerts.max_per_hour = cap;
        for (states, silenced) in rounds {
            world.silenced = silenced;
            world.now += TimeDelta::minutes(5);
            let hour = |world: &World| world.sent.iter()
                .filter(|(at, ..)| world.now - *at < TimeDelta::hours(1)).count();
            let before = hour(&world);
            let looks: Vec<_> = states.iter().enumerate()
                .map(|(index, state)| look(&format!("check{index}"), *state)).collect();
            let changes = world.run(&looks);
            let messages: Vec<_> = changes.iter().filter_map(|change| change.message.as_ref()).collect();
            prop_assert!(!silenced || messages.is_empty());
            let plain = messages.iter()
                .filter(|message| message.kind != Kind::Recovered && message.severity != Critical).count();
            prop_assert!(plain <= cap.saturating_sub(before));
            for change in &changes {
                let incident = &change.incident;
                if !silenced && incident.severity == Critical && incident.seen == world.now {
                    prop_assert!(incident.told.as_ref().is_some_and(|told| told.worst == Critical));
                }
            }
        }
        world.silenced = false;
        for _ in 0..30 {
            let looks: Vec<_> = (0..6).map(|index| look(&format!("check{index}"), Good)).collect();
            world.after(5, &looks);
        }
        prop_assert!(world.incidents.values().all(|incident| incident.closed.is_some()));
        for index in 0..6 {
            let check = format!("check{index}");
            let last = world.sent.iter().rfind(|(_, _, name)| *name == check);
            prop_assert!(last.is_none_or(|(_, kind, _)| *kind == Kind::Recovered), "{:?}", last);
        }
    }
}
