//! The history on the page: a strip of bars for each time span.

use super::{History, Strip};
use crate::base::State;
use crate::base::units::local;
use maud::{Markup, html};

/// All strips, and what their bars mean.
pub(super) fn strips(history: &History) -> Markup {
    html! {
            @if history.strips.is_empty() {
                p.soft { "There is no journal to read it from." }
            } @else {
                @for strip in &history.strips { (row(strip)) }
                div.legend aria-hidden="true" {
                    @for (state, word) in [
                        (Some(State::Ok), "ok"), (Some(State::Warning), "warning"), (Some(State::Critical), "critical"),
                        (Some(State::Unknown), "unknown"), (None, "nobody looked"),
                    ] {
                        span { svg viewBox="0 0 4 34" preserveAspectRatio="none" { (bar(0.0, 4.0, state, "")) } (word) }
                    }
                }
            }
    }
}

fn row(strip: &Strip) -> Markup {
    const STEP: f64 = 10.0;
    let share = strip.runs.percent();
    let bad =
        strip.buckets.iter().filter(|bucket| bucket.worst.is_some_and(|worst| worst != State::Ok)).count();
    let said = match share {
        Some(percent) => {
            format!(
                "The last {}: {percent:.1} % of {} runs ok, trouble in {bad} of {} pieces",
                strip.name,
                strip.runs.all,
                strip.buckets.len()
            )
        }
        None => format!("The last {}: nobody looked", strip.name),
    };
    let width = STEP * strip.buckets.len() as f64;
    html! {
        div.strip {
            span.name { (strip.name) }
            svg viewBox=(format!("0 0 {width} 34")) preserveAspectRatio="none" role="img" aria-label=(said) {
                @for (index, bucket) in strip.buckets.iter().enumerate() {
                    @let word = bucket.worst.map_or("nobody looked", State::word);
                    @let title = format!("{} {word}{}", local(bucket.start), match bucket.runs.all {
                        0 => String::new(),
                        all => format!(", {} of {all} runs ok", bucket.runs.ok),
                    });
                    (bar(STEP * index as f64 + 1.0, STEP - 2.0, bucket.worst, &title))
                }
            }
            span.side {
                @match share { Some(percent) => (format!("{percent:.1} % ok")), None => "no runs" }
            }
        }
    }
}

/// A bar of a strip: the better, the lower; so trouble stands out without colours too.
fn bar(x: f64, width: f64, state: Option<State>, title: &str) -> Markup {
    let (name, height) = match state {
        Some(State::Ok) => ("ok", 16),
        Some(State::Warning) => ("warning", 25),
        Some(State::Critical) => ("critical", 34),
        Some(State::Unknown) => ("unknown", 21),
        None => ("none", 3),
    };
    html! {
        rect class={"bar-" (name)} x=(x) y=(34 - height) width=(width) height=(height) rx="1.5" {
            @if !title.is_empty() { title { (title) } }
        }
    }
}
