//! Command lines of processes, as people and logs may see them: without secrets, safe, short.
//!
//! Whoever can read `/proc` or `ps` sees a command line as it is; a chat, a mail or a bug report that
//! ours is pasted into should not. Too much is hidden rather than too little.

use super::secret::REDACTED;
use super::text;
use std::ffi::OsString;

/// What the name of an option or a variable holds when its value is a secret.
const NAMES: [&str; 10] = [
    "token",
    "secret",
    "passw",
    "passphrase",
    "passcode",
    "credential",
    "apikey",
    "webhook",
    "authorization",
    "cookie",
];

/// The same, where it is one of several words: `ssh-key`, not `monkey`.
const WORDS: [&str; 6] = ["key", "pass", "pwd", "auth", "bearer", "dsn"];

/// How the keys of well-known services begin.
const BEGINNINGS: [&str; 14] = [
    "sk-",
    "sk_",
    "rk_",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xox",
    "AKIA",
    "AIza",
    "hf_",
    "eyJ",
    "AGE-SECRET-KEY-",
];

/// A command line in one line of at most `limit` characters, its secrets left out.
pub fn shown(arguments: &[OsString], limit: usize) -> String {
    text::one_line(&redacted(arguments, &mut Vec::new()), limit)
}

/// What [`shown`] leaves out of a command line: it may be quoted elsewhere.
pub fn left_out(arguments: &[OsString]) -> Vec<String> {
    let mut hidden = Vec::new();
    redacted(arguments, &mut hidden);
    hidden
}

fn redacted(arguments: &[OsString], hidden: &mut Vec<String>) -> String {
    let mut shown = Vec::with_capacity(arguments.len());
    let mut secret_follows = false;
    for argument in arguments {
        let argument = argument.to_string_lossy();
        // What follows a secret's name is all secret, spaces and all; another option is not.
        if std::mem::take(&mut secret_follows) && !argument.starts_with("--") {
            hidden.push(argument.into_owned());
            shown.push(REDACTED.to_owned());
            continue;
        }
        if let Some((name, value)) = argument.split_once('=')
            && is_name(name)
            && names_secret(name)
        {
            hidden.push(value.to_owned());
            shown.push(format!("{name}={REDACTED}"));
            continue;
        }
        secret_follows = is_option(&argument) && names_secret(&argument);
        shown.push(phrase(&argument, hidden));
    }
    shown.join(" ")
}

/// One argument, which may be a whole script: `sh -c "TOKEN=… run"`, `curl -H "Authorization: …"`.
fn phrase(argument: &str, hidden: &mut Vec<String>) -> String {
    let mut shown = Vec::new();
    // Until the quote that ends it.
    let mut within: Option<char> = None;
    let mut secret_follows = false;
    for piece in argument.split_whitespace() {
        if let Some(quote) = within {
            hidden.push(bare_word(piece));
            within = (!piece.contains(quote)).then_some(quote);
            continue;
        }
        let bare = piece.trim_start_matches(['"', '\'', '(', '{', ',', ';']);
        let scheme = ["bearer", "basic", "token"].contains(&bare.to_ascii_lowercase().as_str());
        if secret_follows && !scheme {
            secret_follows = false;
            within = open_quote(piece);
            hidden.push(bare_word(piece));
            shown.push(REDACTED.to_owned());
            continue;
        }
        match bare.split_once(['=', ':']) {
            Some((name, value)) if is_name(name) && names_secret(name) && !value.starts_with("//") => {
                let sign = if bare.starts_with(&format!("{name}=")) { '=' } else { ':' };
                if value.is_empty() {
                    shown.push(bare.to_owned());
                    secret_follows = sign == ':';
                } else {
                    within = open_quote(value);
                    hidden.push(bare_word(value));
                    shown.push(format!("{name}{sign}{REDACTED}"));
                }
            }
            _ => {
                secret_follows = scheme || (is_option(bare) && names_secret(bare));
                shown.push(word(piece, hidden));
            }
        }
    }
    shown.join(" ")
}

fn bare_word(piece: &str) -> String {
    piece.trim_matches(['"', '\'', ',', ';', ')', '}']).to_owned()
}

/// The quote that a value begins with and does not end with.
fn open_quote(value: &str) -> Option<char> {
    let quote = value.chars().next().filter(|c| ['"', '\''].contains(c))?;
    (!value[1..].contains(quote)).then_some(quote)
}

/// A word that may be a secret itself, or a URL with one in it.
fn word(piece: &str, hidden: &mut Vec<String>) -> String {
    if let Some((scheme, rest)) = piece.split_once("://") {
        let (address, query) =
            rest.split_once('?').map_or((rest, ""), |(address, _)| (address, "?[redacted]"));
        let (host, path) = address.split_at(address.find('/').unwrap_or(address.len()));
        let host = host.rsplit_once('@').map_or(host.to_owned(), |(user, host)| {
            hidden.extend(user.split(':').skip(1).map(str::to_owned));
            format!("{REDACTED}@{host}")
        });
        hidden.extend(path.split('/').filter(|part| is_secret(part)).map(str::to_owned));
        let path: Vec<_> =
            path.split('/').map(|part| if is_secret(part) { REDACTED } else { part }).collect();
        return format!("{scheme}://{host}{}{query}", path.join("/"));
    }
    let value = piece.rsplit(['=', '"', '\'']).find(|part| !part.is_empty()).unwrap_or_default();
    if !is_secret(value) {
        return piece.to_owned();
    }
    hidden.push(value.to_owned());
    piece.replace(value, REDACTED)
}

/// Whether a word looks like a key: by its beginning, or as Telegram writes its tokens,
/// `123456:ABC-DEF…`.
fn is_secret(word: &str) -> bool {
    let key = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let long = word.len() >= 16 && !word.contains('/');
    let telegram = word.trim_start_matches("bot").split_once(':').is_some_and(|(id, rest)| {
        id.len() >= 6 && id.chars().all(|c| c.is_ascii_digit()) && rest.len() >= 30 && rest.chars().all(key)
    });
    telegram || (long && BEGINNINGS.iter().any(|beginning| word.starts_with(beginning)))
}

fn is_option(word: &str) -> bool {
    word.starts_with('-') && !word.contains(['=', ':', '/', ' '])
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// Whether what has this name is a secret: `API_TOKEN`, `ssh-key`, `password`.
pub fn names_secret(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    NAMES.iter().any(|part| lower.contains(part))
        || lower.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| WORDS.contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(words: &[&str]) -> String {
        redacted(&words.iter().map(OsString::from).collect::<Vec<_>>(), &mut Vec::new())
    }

    #[test]
    fn secrets_are_left_out_however_they_are_written() {
        for words in [
            &["bot", "--token", "hunter2"][..],
            &["bot", "--token=hunter2"],
            &["bot", "-token", "hunter2 with spaces hunter2"],
            &["bot", "--api-key", "hunter2", "--fast"],
            &["bot", "--apiKey=hunter2"],
            &["env", "SMTP_PASSWORD=hunter2 hunter2", "bot"],
            &["sh", "-c", "export API_TOKEN='hunter2 and hunter2'; run"],
            &["sh", "-c", "curl -H 'Authorization: Bearer hunter2' x"],
            &["curl", "-H", "Authorization: Bearer hunter2"],
            &["curl", "-H", "X-Api-Key: hunter2"],
            &["curl", "-H", "Authorization:hunter2"],
            &["sh", "-c", "bot --secret hunter2 --fast"],
            &["psql", "postgres://me:hunter2@db/x"],
            &["curl", "https://x/y?sig=hunter2"],
            &["bot", "sk-hunter2hunter2hunter2"],
            &["bot", "--use=ghp_hunter2hunter2hunter2"],
            &["curl", "https://api.telegram.org/bot123456789:AAhunter2hunter2hunter2hunter2hunter2/send"],
        ] {
            let shown = line(words);
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains(REDACTED) && shown.starts_with(words[0]), "{shown}");
            if !shown.contains("?[redacted]") {
                let words: Vec<OsString> = words.iter().map(OsString::from).collect();
                assert!(left_out(&words).iter().any(|value| value.contains("hunter2")), "{shown}");
            }
        }
    }

    #[test]
    fn the_rest_stays_as_it_is() {
        for words in [
            &["python3", "src/core/daemon.py", "--home", "/srv/a b"][..],
            &["serve", "--host", "127.0.0.1:8080", "--workers=4"],
            &["curl", "http://localhost:8080/health"],
            &["sleep", "600"],
            &["monkey", "--turkey", "x"],
        ] {
            assert_eq!(line(words), words.join(" "));
        }
        assert_eq!(line(&["bot", "--token", "x", "--fast"]), "bot --token [redacted] --fast");
    }

    proptest! {
        #[test]
        fn any_arguments_are_one_safe_line(words in prop::collection::vec(any::<String>(), 0..6)) {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            let shown = shown(&words, 80);
            prop_assert!(shown.chars().count() <= 80 && !shown.chars().any(char::is_control));
        }
    }
}
