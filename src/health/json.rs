//! Is a value in a JSON file as it should be? Also of a file with a document a line.

use super::value::{self, Growths, Seen};
use super::{Answer, View};
use crate::base::lines;
use crate::base::units::Size;
use crate::config::check::{Json, Words, Zone};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

/// A document larger than this is not read.
const MOST_BYTES: u64 = 4 << 20;

pub(super) fn look(view: &View, name: &str, options: &Json) -> Result<Answer> {
    let shown = view.loaded.home.show(&options.file);
    let document = match read(&options.file, options.lines) {
        Ok(Some(document)) => document,
        Ok(None) => return Ok(Answer::new(options.missing, format!("{shown} is missing"))),
        Err(error) => return Err(error.context(format!("{shown} cannot be read"))),
    };
    let place = options.value.shown();
    let found = document.pointer(&options.value.pointer());
    let value = match options.count {
        true => found.and_then(|value| count(value, &options.only)),
        false => found.cloned(),
    };
    let rules = options.rules();
    let called = match (options.count, place.is_empty()) {
        _ if rules.label.is_some() => format!("{} in {shown}", rules.label.as_deref().unwrap_or_default()),
        (true, true) => format!("the count in {shown}"),
        (true, false) => format!("the count of {place} in {shown}"),
        (false, true) => shown.clone(),
        (false, false) => format!("{place} in {shown}"),
    };
    let mut growths = Growths::recall(view, name);
    let key = format!("{shown} {place} {} {:?}", options.count, options.only);
    let seen = Seen { name: &called, key, value, zone: Zone::Local };
    let answer = value::judge(seen, &rules, &mut growths, view.run.now).into_answer();
    Ok(growths.remember(answer).remedy("look at the file, and at the program that writes it"))
}

/// The document in a file; none if there is no file. One that is empty or torn is read again, for
/// 150 ms: not every program writes it atomically.
fn read(path: &Path, last: usize) -> Result<Option<Value>> {
    let mut tries = 0;
    loop {
        let read = if last > 0 { newest_lines(path, last) } else { whole(path) };
        match read {
            Err(error)
                if error
                    .downcast_ref::<std::io::Error>()
                    .is_some_and(|io| io.kind() == ErrorKind::NotFound) =>
            {
                return Ok(None);
            }
            Err(error) if tries < 3 && error.downcast_ref::<serde_json::Error>().is_some() => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            read => return read.map(Some),
        }
    }
}

fn whole(path: &Path) -> Result<Value> {
    let file = lines::open(path)?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        bail!("it is larger than {}", Size(MOST_BYTES));
    }
    parse(&String::from_utf8_lossy(&bytes))
}

fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text.trim_start_matches('\u{feff}').trim_matches('\0')).context("it is not JSON")
}

/// An array of the last lines, the newest first.
fn newest_lines(path: &Path, last: usize) -> Result<Value> {
    // One more: the last may be torn.
    let mut lines = lines::last_lines(path, last.saturating_add(1), MOST_BYTES)?;
    if lines.last().is_some_and(|line| parse(line).is_err()) {
        lines.pop();
    }
    let newest = lines.iter().rev().filter(|line| !line.trim().is_empty()).take(last);
    newest.map(|line| parse(line)).collect::<Result<Vec<_>>>().map(Value::Array)
}

/// How many elements an array or object has whose members are as asked; none of another value.
pub(super) fn count(value: &Value, only: &BTreeMap<String, Words>) -> Option<Value> {
    let wanted = |element: &&Value| {
        only.iter().all(|(key, words)| {
            let member = if key.starts_with('/') { element.pointer(key) } else { element.get(key) };
            words.0.contains(&value::scalar(member.unwrap_or(&Value::Null)))
        })
    };
    let count = match value {
        Value::Array(elements) => elements.iter().filter(wanted).count(),
        Value::Object(members) => members.values().filter(wanted).count(),
        _ => return None,
    };
    Some(Value::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn elements_are_counted_by_their_members() {
        let queue = json!([{"approved": null, "a": {"b": 1}}, {"approved": true}, {"x": 1}, 7]);
        let only = |keys: &str| {
            toml::from_str::<Json>(&format!("file = \"f\"\ncount = true\nwhere = {keys}")).unwrap().only
        };
        for (keys, expected) in [
            ("{}", 4),
            ("{ approved = \"null\" }", 3),
            ("{ approved = [true, false] }", 1),
            ("{ \"/a/b\" = 1 }", 1),
        ] {
            assert_eq!(count(&queue, &only(keys)), Some(json!(expected)), "{keys}");
        }
        assert_eq!(count(&json!("text"), &only("{}")), None);
    }

    #[test]
    fn a_torn_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        // On a busy machine it may be mended too late: not every time.
        let mended_in_time = || {
            std::fs::write(&path, "{\"a\":").unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(30));
                    std::fs::write(&path, "{\"a\":1}").unwrap();
                });
                read(&path, 0).is_ok()
            })
        };
        assert!((0..100).any(|_| mended_in_time()));
        std::fs::write(&path, "{\"a\":").unwrap();
        assert!(read(&path, 0).unwrap_err().to_string().contains("not JSON"));
    }

    #[test]
    fn a_torn_last_line_is_not_there_yet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, "{\"n\":1}\n{\"n\":2}\n\n{\"n\":3}\n{\"n\":").unwrap();
        assert_eq!(read(&path, 2).unwrap(), Some(json!([{"n": 3}])));
        assert_eq!(read(&path, 9).unwrap(), Some(json!([{"n": 3}, {"n": 2}, {"n": 1}])));
        std::fs::write(&path, "{\"n\":1}\nbroken\n{\"n\":3}\n").unwrap();
        assert!(read(&path, 2).is_err());
        assert_eq!(read(&path, 1).unwrap(), Some(json!([{"n": 3}])));
        std::fs::write(&path, "").unwrap();
        assert_eq!(read(&path, 1).unwrap(), Some(json!([])));
    }
}
