//! A part of a YAML file, by its indentation: enough to find a setting in an agent's own config, and not one
//! of the same name elsewhere.

/// What stands under keys, one in the other (`channels.api`): its own keys begin their lines. What is in
/// braces has a line for each. None: there are no such keys.
pub(super) fn under(text: &str, keys: &str) -> Option<String> {
    keys.split('.').try_fold(text.to_owned(), |text, key| part(&text, key))
}

fn part(text: &str, key: &str) -> Option<String> {
    let lines: Vec<(usize, &str)> = text.lines().filter_map(line).collect();
    let first = lines.first()?.0;
    let at = lines.iter().position(|(indent, line)| *indent == first && value(line, key).is_some())?;
    let (_, rest) = lines.split_at(at);
    let said = value(rest[0].1, key)?;
    if let Some(opened) = said.strip_prefix('{') {
        let more = rest[1..].iter().map(|(_, line)| *line);
        return entries(&std::iter::once(opened).chain(more).collect::<Vec<_>>().join(" "));
    }
    let inner: Vec<_> = rest[1..].iter().take_while(|(indent, _)| *indent > first).collect();
    let outdent = inner.first().map_or(0, |(indent, _)| *indent);
    let line =
        |(indent, line): &&(usize, &str)| format!("{}{line}\n", " ".repeat(indent.saturating_sub(outdent)));
    Some(inner.iter().map(line).collect())
}

/// A line that says something: how far it is indented, and what it says.
fn line(line: &str) -> Option<(usize, &str)> {
    let said = line.trim_start_matches(' ');
    let indent = line.len() - said.len();
    let (mut blank, mut single, mut double) = (true, false, false);
    let begins = |c: char| {
        // What is quoted may have a `#` in it.
        let found = c == '#' && blank && !single && !double;
        (blank, single, double) = ([' ', '\t'].contains(&c), single ^ (c == '\''), double ^ (c == '"'));
        found
    };
    let end = said.find(begins).unwrap_or(said.len());
    let said = said[..end].trim_end();
    (!said.is_empty() && !["---", "..."].contains(&said) && !said.starts_with('%')).then_some((indent, said))
}

/// What a line says of a key.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let bare = line.strip_prefix(key);
    let quoted = |quote: char| line.strip_prefix(quote)?.strip_prefix(key)?.strip_prefix(quote);
    let value = bare.or_else(|| quoted('"')).or_else(|| quoted('\''))?.trim_start().strip_prefix(':')?;
    (value.is_empty() || value.starts_with([' ', '\t', '{'])).then(|| value.trim())
}

/// What stands before the brace that closes, a line for each entry. None: it is not closed.
fn entries(text: &str) -> Option<String> {
    let (mut found, mut depth, mut quote) = (String::new(), 0, None);
    for c in text.chars() {
        match (quote, c) {
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '{' | '[') => depth += 1,
            (None, '}') if depth == 0 => return Some(found),
            (None, '}' | ']') => depth -= 1,
            (None, ',') if depth == 0 => {
                found.push('\n');
                continue;
            }
            (None, ' ') if found.is_empty() || found.ends_with('\n') => continue,
            (None, _) => {}
        }
        found.push(c);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_is_under_the_keys() {
        for (text, expected) in [
            (
                "channels:\n  api:\n    port: 1\n    web:\n      port: 2\n  other: 3\n",
                "port: 1\nweb:\n  port: 2\n",
            ),
            ("channels:\n  whatsapp:\n    api:\n      port: 1\n  api:\n    port: 2\n", "port: 2\n"),
            ("api:\n  port: 1\nchannels:\n  api: # x\n\n# y\n        port: '2' # z\r\n", "port: '2'\n"),
            ("log: |\n  channels:\n    api:\n      port: 1\nchannels:\n  api:\n    port: 2\n", "port: 2\n"),
            (
                "---\nchannels: { a: { api: 1 }, api: { port: 2, \"x\": [1, 2] } }\n",
                "port: 2\n\"x\": [1, 2] ",
            ),
            (
                "\"channels\":\n  'api': {\n    # x\n    on: true,\n    port: 2\n  }\nx: 1\n",
                "on: true\nport: 2 ",
            ),
            ("channels:\n  api:\nother:\n  port: 1\n", ""),
        ] {
            assert_eq!(under(text, "channels.api").as_deref(), Some(expected), "{text}");
        }
        for none in
            ["", "api:\n  port: 1\n", "channels:\n  apis:\n    port: 1\n", "channels:\n  api: {port: 1\n"]
        {
            assert_eq!(under(none, "channels.api"), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a:{}\\[\\],'\"# \né-]{0,40}") {
            let _ = under(&text, "a.a");
        }
    }
}
