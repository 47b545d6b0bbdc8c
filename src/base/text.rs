//! Text that came from elsewhere: made safe to print, short enough to read, near to a known word.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Whether a character can change how what is around it is shown or read: control characters, C1 and U+2028
/// among them, bidirectional overrides, and what nobody sees (zero width, tags, fillers).
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Makes untrusted text safe for a terminal and a log line: what could change how it is shown becomes a
/// visible escape, a tab becomes a space.
pub fn sanitize(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => safe.push(' '),
            c if c.is_control() => safe.extend(c.escape_default()),
            c if is_harmful(c) => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    safe
}

/// A file name or path, safe to print: what is no UTF-8 becomes `\xff`, the rest as in [`sanitize`].
pub fn name(name: &OsStr) -> String {
    let mut safe = String::new();
    for chunk in name.as_bytes().utf8_chunks() {
        safe.push_str(&sanitize(chunk.valid()));
        safe.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    safe
}

/// [`sanitize`] of a whole text, whose lines and columns stay: the last thing done to whatever is printed,
/// written to a page or sent. Of a text that is `colored` our own colours stay too.
pub fn harmless(text: &str, colored: bool) -> Cow<'_, str> {
    let stays = |c: char| !is_harmful(c) || c == '\n' || c == '\t';
    if text.chars().all(stays) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let color = colored.then(|| COLORS.iter().find(|color| rest.starts_with(**color))).flatten();
        let length = color.map_or(c.len_utf8(), |color| color.len());
        let (part, after) = rest.split_at(length);
        if color.is_some() || stays(c) {
            safe.push_str(part)
        } else {
            safe.push_str(&sanitize(part))
        }
        rest = after;
    }
    Cow::Owned(safe)
}

/// What we colour with (`render::paint` and the views).
const COLORS: [&str; 6] = ["\x1b[0m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[35m"];

/// JSON in which the same characters, which can only be in strings, are escaped as JSON does it.
pub fn harmless_json(json: String) -> String {
    if !json.chars().any(|c| is_harmful(c) && c != '\n') {
        return json;
    }
    let mut safe = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_harmful(c) && c != '\n' {
            let mut units = [0; 2];
            safe.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            safe.push(c);
        }
    }
    safe
}

/// One line of at most `limit` characters, safe to print; `…` marks what was cut.
pub fn one_line(text: &str, limit: usize) -> String {
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let safe = sanitize(&joined);
    if safe.chars().count() <= limit {
        return safe;
    }
    let mut cut: String = safe.chars().take(limit.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Cuts a text into lines of at most `width` characters, at blanks where there are any.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        while let Some(line) = lines.last_mut() {
            let used = line.chars().count();
            let gap = usize::from(used > 0);
            if used + gap + word.len() <= width {
                line.extend(std::iter::repeat_n(' ', gap).chain(word.iter().copied()));
                break;
            }
            if used == 0 {
                line.extend(word.drain(..width));
            }
            lines.push(String::new());
        }
    }
    lines
}

/// The known word nearest to a mistyped one, if any is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(word.len()) / 3 + 1)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `1 file`, `2 files`.
pub fn count(number: usize, singular: &str) -> String {
    if number == 1 { format!("1 {singular}") } else { format!("{number} {singular}s") }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])));
    }
    text
}

/// Fills in each place, such as `{name}`, once, from left to right: what was filled in is not looked at
/// again.
pub fn fill(mut line: &str, parts: &[(&str, &str)]) -> String {
    let mut filled = String::new();
    while let Some(start) = line.find('{') {
        let (before, rest) = line.split_at(start);
        filled.push_str(before);
        match parts.iter().find_map(|(place, value)| Some((value, rest.strip_prefix(place)?))) {
            Some((value, rest)) => {
                filled.push_str(value);
                line = rest;
            }
            None => {
                filled.push('{');
                line = &rest[1..];
            }
        }
    }
    filled + line
}

/// A template with its places filled in; a line that is left empty is left out.
pub fn filled(template: &str, parts: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for line in template.lines() {
        let filled = fill(line, parts);
        if filled.is_empty() != line.is_empty() {
            continue;
        }
        text.push_str(&filled);
        text.push('\n');
    }
    text
}

/// A path that can stand in a file of lines.
///
/// # Errors
/// Why it cannot.
pub fn line_path(path: &Path) -> Result<&str, String> {
    let refused = |why: &str| format!("the path {} {why}", path.display());
    let text = path.to_str().ok_or_else(|| refused("is not UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(refused("holds a control character"));
    }
    if !path.is_absolute() {
        return Err(refused("is not absolute"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escape_codes_cannot_reach_a_terminal() {
        assert_eq!(sanitize("a\x1b[2Jb\rc\u{202e}d"), "a\\u{1b}[2Jb\\rc\\u{202e}d");
        assert_eq!(sanitize("a\u{2028}b\u{2029}c\u{61c}"), "a\\u{2028}b\\u{2029}c\\u{61c}");
        assert_eq!(name(OsStr::from_bytes(b"a\xff\n\xe2\x82b\xc3\xbc")), "a\\xff\\n\\xe2\\x82b\u{fc}");
        assert_eq!(one_line("two\nlines  here", 40), "two lines here");
        assert_eq!(one_line("abcdef", 4), "abc…");
    }

    #[test]
    fn what_nobody_sees_is_shown() {
        let hidden = "a\u{9b}31m\u{200b}\u{200d}\u{2060}\u{feff}\u{e0041}\u{7f}\u{3164}b";
        let shown = "a\\u{9b}31m\\u{200b}\\u{200d}\\u{2060}\\u{feff}\\u{e0041}\\u{7f}\\u{3164}b";
        assert_eq!(sanitize(hidden), shown);
        assert_eq!(harmless(&format!("{hidden}\n\tc"), false), format!("{shown}\n\tc"));
        assert_eq!(harmless("plain é 漢 🙂\n", false), "plain é 漢 🙂\n");
        let painted = "\x1b[31mred\x1b[0m \x1b[2J";
        assert_eq!(harmless(painted, true), "\x1b[31mred\x1b[0m \\u{1b}[2J");
        assert_eq!(harmless(painted, false), "\\u{1b}[31mred\\u{1b}[0m \\u{1b}[2J");
        let json = harmless_json(serde_json::json!({ "a": hidden }).to_string());
        assert!(
            json.is_ascii() && json.contains("\\u009b31m\\u200b") && json.contains("\\udb40\\udc41"),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["a"], hidden);
    }

    #[test]
    fn nearest_finds_slips_not_strangers() {
        assert_eq!(nearest("coldown", ["cooldown", "max_per_hour"]), Some("cooldown"));
        assert_eq!(nearest("zebra", ["cooldown", "max_per_hour"]), None);
    }

    proptest! {
        #[test]
        fn sanitized_text_has_no_control_characters(text in any::<String>()) {
            prop_assert!(!sanitize(&text).chars().any(char::is_control));
            prop_assert!(one_line(&text, 30).chars().count() <= 30);
        }

        #[test]
        fn wrapped_text_fits_and_is_all_there(text in "[a-z]{0,9}( [a-zé]{1,50}){0,9}", width in 5usize..60) {
            let lines = wrap(&text, width);
            prop_assert!(lines.iter().all(|line| line.chars().count() <= width));
            let letters = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }
    }
}
