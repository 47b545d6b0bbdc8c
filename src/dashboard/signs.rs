//! The signs of states on the page: told apart by their shapes too.

use crate::base::State;
use maud::{Markup, html};

/// The class of what has a state.
pub(super) fn class(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Warning => "warning",
        State::Critical => "critical",
        State::Unknown => "unknown",
    }
}

/// The sign of a state: shape, colour, and the word for those who hear the page.
pub(super) fn sign(state: State) -> Markup {
    signed(state, state.word())
}

/// The sign of a state, with another word for it.
pub(super) fn signed(state: State, word: &str) -> Markup {
    let (shape, mark) = shapes(state);
    html! {
        svg class=(class(state)) viewBox="0 0 20 20" role="img" aria-label=(word) {
            path.sign d=(shape) {}
            path.sign-mark d=(mark) {}
        }
    }
}

/// The sign of what is not known.
pub(super) fn no_sign() -> Markup {
    html! {
        svg viewBox="0 0 20 20" role="img" aria-label="not known" {
            circle.bar-none cx="10" cy="10" r="4" {}
        }
    }
}

/// Outline and mark: a disc with a tick, a triangle with a bar, a square on its tip with a
/// cross, a square with a question mark.
fn shapes(state: State) -> (&'static str, &'static str) {
    match state {
        State::Ok => ("M10 1a9 9 0 1 1 0 18a9 9 0 0 1 0-18z", "M6 10.4l2.8 2.8L14 7.6"),
        State::Warning => (
            "M8.5 2.2a1.7 1.7 0 0 1 3 0l7.6 13.5a1.7 1.7 0 0 1-1.5 2.5H2.4a1.7 1.7 0 0 1-1.5-2.5z",
            "M10 7.2v4.4M10 14.8v.1",
        ),
        State::Critical => ("M10 0l10 10l-10 10L0 10z", "M7.2 7.2l5.6 5.6M12.8 7.2l-5.6 5.6"),
        State::Unknown => (
            "M4 1h12a3 3 0 0 1 3 3v12a3 3 0 0 1-3 3H4a3 3 0 0 1-3-3V4a3 3 0 0 1 3-3z",
            "M7.4 7.4a2.7 2.7 0 1 1 4 2.4c-.9.5-1.4 1-1.4 2M10 14.8v.1",
        ),
    }
}

/// The icon of the tab, within the page itself.
pub(super) fn icon(state: State) -> String {
    let (shape, mark) = shapes(state);
    let color = match state {
        State::Ok => "1f7a4d",
        State::Warning => "c77700",
        State::Critical => "b3261e",
        State::Unknown => "6b4c9a",
    };
    format!(
        "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 20 20'%3E%3Cpath fill='%23{color}' \
         d='{shape}'/%3E%3Cpath fill='none' stroke='white' stroke-width='2.2' stroke-linecap='round' d='{mark}'/%3E%3C/svg%3E"
    )
}
