//! How results are spelled wherever they go: documents for machines, colours for terminals.

use super::{State, text};
use anyhow::Result;
use serde::Serialize;

/// A document for machines: `"schema": 1` and then the body.
#[derive(Serialize)]
struct Document<'a, T> {
    schema: u32,
    #[serde(flatten)]
    body: &'a T,
}

/// A document as it is printed or written: `"schema": 1` first.
pub fn document<T: Serialize>(body: &T) -> Result<String> {
    Ok(text::harmless_json(serde_json::to_string_pretty(&Document { schema: 1, body })?))
}

/// Colours a word by state; plain text where there are no colours.
pub fn paint(colored: bool, state: State, text: &str) -> String {
    let code = match state {
        State::Ok => 32,
        State::Warning => 33,
        State::Critical => 31,
        State::Unknown => 35,
    };
    if colored { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
