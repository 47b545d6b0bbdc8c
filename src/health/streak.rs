//! `for = "3 of 5"`: a state counts when so many of the last looks were at least that bad. The looks
//! before this one are in the journal, so nothing has to stay resident.

use crate::base::{Journal, State};
use crate::config::Check;
use crate::config::check::Streak;
use rusqlite::params;
use std::collections::BTreeMap;

/// What the last looks found, newest first, of the checks that ask.
pub(super) type Looks = BTreeMap<String, Vec<State>>;

/// Reads as many looks as each check asks for, less the one to come.
pub(super) fn load(journal: &Journal, checks: &[(&String, &Check)]) -> Looks {
    let asking = checks.iter().filter(|(_, check)| check.common.streak.of > 1);
    let read = |name: &str, most: u32| -> rusqlite::Result<Vec<State>> {
        // A run of fewer checks than all is not noted, so this goes back few rows more than it takes.
        let mut statement = journal.connection().prepare(
            "SELECT seen FROM runs JOIN samples ON samples.run = runs.id AND check_name = ?1
             WHERE seen IS NOT NULL ORDER BY runs.id DESC LIMIT ?2",
        )?;
        let rows = statement.query_map(params![name, most], |row| Ok(State::from_code(row.get(0)?)))?;
        rows.collect()
    };
    asking
        .map(|(name, check)| ((*name).clone(), read(name, check.common.streak.of - 1).unwrap_or_default()))
        .collect()
}

/// The state that counts, of this look and those before it.
pub(super) fn judge(streak: Streak, seen: State, before: &[State], matters: bool) -> State {
    let mut looks: Vec<State> = std::iter::once(seen).chain(before.iter().copied()).collect();
    looks.truncate(streak.of as usize);
    looks.sort_by_key(|state| std::cmp::Reverse(state.badness(matters)));
    looks.get(streak.bad as usize - 1).copied().unwrap_or(State::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Critical as C, Ok as O, Unknown as U, Warning as W};
    use proptest::prelude::*;

    #[test]
    fn so_many_of_so_many() {
        for (streak, looks, expected) in [
            ("1", vec![C], C),
            ("3 of 5", vec![C], O),
            ("3 of 5", vec![C, C], O),
            ("3 of 5", vec![C, C, C], C),
            ("3 of 5", vec![C, O, C, O, C], C),
            ("3 of 5", vec![O, C, C, O, C], C),
            ("3 of 5", vec![O, C, C, O, O, C], O),
            // Two were critical, and one more at least a warning.
            ("3 of 5", vec![W, C, C], W),
            ("2", vec![U, W], U),
            ("2", vec![O, C, C], O),
            ("2", vec![C, O, C, C], O),
        ] {
            let streak = Streak::parse(streak).unwrap();
            assert_eq!(judge(streak, looks[0], &looks[1..], false), expected, "{streak:?} {looks:?}");
        }
    }

    proptest! {
        /// Nothing counts that was not seen so often, and nothing that was is kept quiet.
        #[test]
        fn what_counts_was_seen_often_enough(
            looks in prop::collection::vec(prop::sample::select(State::ALL.to_vec()), 1..12),
            a in 1u32..8, b in 1u32..8, matters: bool,
        ) {
            let streak = Streak { bad: a.min(b), of: a.max(b) };
            let counts = judge(streak, looks[0], &looks[1..], matters);
            let window = &looks[..looks.len().min(streak.of as usize)];
            let at_least = |state: State| {
                window.iter().filter(|look| look.badness(matters) >= state.badness(matters)).count() as u32
            };
            prop_assert!(counts == State::Ok || at_least(counts) >= streak.bad);
            for worse in State::ALL.into_iter().filter(|s| s.badness(matters) > counts.badness(matters)) {
                prop_assert!(at_least(worse) < streak.bad);
            }
        }
    }
}
