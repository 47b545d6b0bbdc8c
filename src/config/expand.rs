//! `${VAR}` and `${VAR:-default}` in the strings of a config; `$${` stands for `${`.

use crate::base::secret::names_source;
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Looks a variable up.
pub(super) type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// What went wrong, and where in the file.
pub(super) type Wrong = (std::ops::Range<usize>, String);

/// Expands every string of a table, in place.
pub(super) fn table(table: &mut DeTable<'_>, lookup: &Lookup<'_>) -> Result<(), Wrong> {
    for (_, value) in table.iter_mut() {
        expand_value(value, lookup)?;
    }
    Ok(())
}

/// Expands every string in a value, in place.
pub(super) fn expand_value(value: &mut Spanned<DeValue<'_>>, lookup: &Lookup<'_>) -> Result<(), Wrong> {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) if text.contains("${") => {
            let plain = |name: &str| lookup(name).map(|value| plain(name, value)).transpose();
            let expanded = match text.starts_with("command:") {
                true => expand_with(text, &plain),
                false => expand(text, lookup),
            }
            .map_err(|message| (span.clone(), message))?;
            // Where a secret is, only the config itself says: the mark of what a variable brought is an empty span.
            let span =
                if names_source(&expanded) && !names_source(text) { span.start..span.start } else { span };
            *value = Spanned::new(span, DeValue::String(expanded.into()));
            Ok(())
        }
        DeValue::Array(items) => items.iter_mut().try_for_each(|item| expand_value(item, lookup)),
        DeValue::Table(inner) => table(inner, lookup),
        _ => Ok(()),
    }
}

/// A value that goes into the command of a secret, where the shell would act on more than letters: whoever writes
/// the environment file writes no commands.
fn plain(name: &str, value: String) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,".contains(c);
    if value.starts_with('-') || !value.chars().all(is_plain) {
        return Err(format!(
            "the variable {name} has characters that a shell would act on: `command:` takes none of that"
        ));
    }
    Ok(value)
}

/// Expands one text.
pub(super) fn expand(text: &str, lookup: &Lookup<'_>) -> Result<String, String> {
    expand_with(text, &|name| Ok(lookup(name)))
}

fn expand_with(
    text: &str,
    lookup: &dyn Fn(&str) -> Result<Option<String>, String>,
) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let body = &rest[at + 2..];
        let end = body.find('}').ok_or_else(|| format!("'{text}' has a ${{ without its }}"))?;
        let (name, default) = match body[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&body[..end], None),
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!("'${{{}}}' does not name a variable", &body[..end]));
        }
        match (lookup(name)?.filter(|value| !value.is_empty()), default) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(default)) => out.push_str(default),
            (None, None) => {
                return Err(format!(
                    "the variable {name} is not set; set it, put it in [agent] env_file, or write ${{{name}:-default}}"
                ));
            }
        }
        rest = &body[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Reads the lines of an environment file: `NAME=value`, `export NAME="value"`, `# comment`.
pub(super) fn env_file(text: &str) -> Result<BTreeMap<String, String>, (usize, String)> {
    let mut variables = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or((index + 1, "a line without '='".to_owned()))?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() {
            return Err((index + 1, "a line without a name".to_owned()));
        }
        if line.contains('\0') {
            return Err((index + 1, "a NUL byte, which no variable can hold".to_owned()));
        }
        let quoted = ['"', '\'']
            .iter()
            .find_map(|&quote| value.strip_prefix(quote).and_then(|inner| inner.strip_suffix(quote)));
        let value = match quoted {
            Some(inner) => inner,
            None => value.split(" #").next().unwrap_or_default().trim_end(),
        };
        variables.insert(name.to_owned(), value.to_owned());
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with(text: &str) -> Result<String, String> {
        expand(text, &|name| (name == "TOKEN").then(|| "abc".to_owned()))
    }

    #[test]
    fn variables_defaults_and_escapes() {
        assert_eq!(with("x ${TOKEN} y").unwrap(), "x abc y");
        assert_eq!(with("${NONE:-fallback}${TOKEN:-no}").unwrap(), "fallbackabc");
        assert_eq!(with("$${TOKEN} costs $5").unwrap(), "${TOKEN} costs $5");
        assert!(with("${NONE}").unwrap_err().contains("NONE is not set"));
        assert!(with("${TOKEN").is_err());
        assert!(with("${no name}").is_err());
    }

    #[test]
    fn env_files_as_shells_write_them() {
        let text = "# a\n\nexport A=\"1 2\"\nB='x#y'\nC= z # note\n";
        let read = env_file(text).unwrap();
        assert_eq!(read["A"], "1 2");
        assert_eq!(read["B"], "x#y");
        assert_eq!(read["C"], "z");
        assert_eq!(env_file("A=1\noops").unwrap_err().0, 2);
        // No process could be started with these.
        assert_eq!(env_file("\n=1\nA=2").unwrap_err().0, 2);
        assert_eq!(env_file("A=\0").unwrap_err().0, 1);
    }

    proptest! {
        #[test]
        fn no_text_panics_and_text_without_dollars_stays(text in "[${}:A-Z a-]{0,30}", plain in "[^$]{0,30}") {
            let _ = with(&text);
            prop_assert_eq!(with(&plain).unwrap(), plain);
        }
    }
}
