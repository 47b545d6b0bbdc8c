//! The snapshot on a terminal that has few rows: what is not well first, then as much of the rest as fits.

use super::terminal::{View, service_line};
use super::{Service, Snapshot};
use crate::base::State;
use crate::base::text::count;

/// At most `rows` lines of at most `width` columns, as long as services are not too many.
pub(super) fn render(snapshot: &Snapshot, width: usize, rows: usize, colored: bool) -> String {
    let part = |write: &dyn Fn(&mut View)| {
        let mut view = View::of(snapshot, width, colored);
        write(&mut view);
        view.text
    };
    let mut text = part(&|view| {
        view.head(snapshot);
        view.heading("Services");
        snapshot.services.iter().for_each(|service| one_service(view, service));
        view.heading("Checks");
    });
    let findings = &snapshot.health.findings;
    let good: Vec<&str> =
        findings.iter().filter(|one| one.state == State::Ok).map(|one| one.check.as_str()).collect();
    let good = match good.as_slice() {
        [] => String::new(),
        names => part(&|view| {
            view.row(Some(State::Ok), &format!("{} ok", names.len()), &names.join(", "));
        }),
    };
    let mut bad: Vec<_> = findings.iter().filter(|one| one.state != State::Ok).collect();
    bad.sort_by_key(|one| std::cmp::Reverse(one.state.badness(one.critical)));
    for (index, finding) in bad.iter().enumerate() {
        let more = bad.len() - index;
        let block = part(&|view| view.finding(finding));
        // A line for those that do not fit is kept, but for the last.
        let spare = usize::from(more > 1);
        if lines(&text) + lines(&block) + lines(&good) + spare > rows {
            text.push_str(&part(&|view| view.row(None, "", &format!("and {more} more that are not well"))));
            break;
        }
        text.push_str(&block);
    }
    text.push_str(&good);
    let rest: [&dyn Fn(&mut View); 4] = [
        &|view| storage(view, snapshot),
        &|view| objectives(view, snapshot),
        &|view| history(view, snapshot),
        &|view| alerts(view, snapshot),
    ];
    for write in rest {
        let section = part(write);
        if lines(&text) + lines(&section) <= rows {
            text.push_str(&section);
        }
    }
    text
}

fn lines(text: &str) -> usize {
    text.lines().count()
}

fn one_service(view: &mut View, service: &Service) {
    view.row(Some(service.state), &service.name, &service_line(service));
}

fn storage(view: &mut View, snapshot: &Snapshot) {
    view.heading("Storage");
    view.disk(snapshot);
    view.backups(snapshot);
}

fn objectives(view: &mut View, snapshot: &Snapshot) {
    let all = &snapshot.objectives;
    let missed: Vec<_> = all.iter().filter(|one| one.met == Some(false)).collect();
    view.heading("Objectives");
    for one in &missed {
        view.row(Some(State::Warning), one.name, &format!("{:<20} {}", one.text, one.target));
    }
    let met = all.iter().filter(|one| one.met == Some(true)).count();
    view.row(None, "met", &format!("{met} of {}", count(all.len(), "objective")));
}

fn history(view: &mut View, snapshot: &Snapshot) {
    if let Some(strip) = snapshot.history.strips.first() {
        view.strip(strip);
    }
}

fn alerts(view: &mut View, snapshot: &Snapshot) {
    if !snapshot.alerts.is_empty() {
        view.heading("Alerts");
        view.events(snapshot, 2);
    }
}
