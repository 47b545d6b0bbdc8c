//! Errors that point at the line: turns a byte span of a file into line and column, and the
//! parser's words into ours, with the nearest known key.

use crate::base::{Fault, text};
use std::ops::Range;
use std::path::Path;

/// `ops.toml:12:5: message`, with a hint where one can be given.
pub(super) fn fault(file: &Path, source: &str, span: Option<Range<usize>>, message: &str) -> Fault {
    let place = match span {
        Some(span) => {
            let (line, column) = position(source, span.start);
            format!("{}:{line}:{column}", file.display())
        }
        None => file.display().to_string(),
    };
    let (message, hint) = explain(message);
    let fault = Fault::unknown(format!("{place}: {message}"));
    match hint {
        Some(hint) => fault.hint(hint),
        None => fault,
    }
}

/// Line and column, counted from 1, in characters.
fn position(source: &str, offset: usize) -> (usize, usize) {
    let before = source.get(..offset.min(source.len())).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// Serde says: unknown field `coldown`, expected one of `cooldown`, `max_per_hour`.
fn explain(message: &str) -> (String, Option<String>) {
    let message = message.trim().replace('\n', " ");
    let what = [("unknown field `", "key"), ("unknown variant `", "value")];
    for (prefix, noun) in what {
        let Some(rest) = message.strip_prefix(prefix) else { continue };
        let mut quoted = rest.split('`');
        let Some(word) = quoted.next() else { continue };
        // Between backticks every second piece is a name.
        let known: Vec<&str> = quoted.skip(1).step_by(2).collect();
        let hint = match text::nearest(word, known.iter().copied()) {
            Some(near) => format!("did you mean '{near}'?"),
            None if known.is_empty() => "this table has no keys".to_owned(),
            None => format!("known here: {}", known.join(", ")),
        };
        return (format!("unknown {noun} '{word}'"), Some(hint));
    }
    (message, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_what_an_editor_shows() {
        let source = "a = 1\nbü = 2\n";
        assert_eq!(position(source, 0), (1, 1));
        assert_eq!(position(source, 6), (2, 1));
        assert_eq!(position(source, 10), (2, 4));
        assert_eq!(position(source, 999), (3, 1));
    }

    #[test]
    fn slips_get_a_suggestion() {
        let (message, hint) = explain("unknown field `coldown`, expected one of `cooldown`, `max_per_hour`");
        assert_eq!(message, "unknown key 'coldown'");
        assert_eq!(hint.as_deref(), Some("did you mean 'cooldown'?"));
        let (_, hint) = explain("unknown field `x`, expected `service`");
        assert_eq!(hint.as_deref(), Some("known here: service"));
    }
}
