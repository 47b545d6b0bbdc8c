//! The marked block: rendered, put into the text of a crontab, and taken out again. Every
//! other line stays byte for byte what it was.

use super::Job;
use crate::base::text;
use crate::config::Schedule;
use std::fmt;
use std::path::Path;

/// The block as it is rendered; names in braces are filled in.
const TEMPLATE: &str = include_str!("../../cron/agent-ops.crontab");

/// In the block when the crontab before it had no final newline: it is taken away again with
/// the block.
const ADDED_NEWLINE: &str = "# The line before this block had no newline at its end.\n";

/// The longest command that cron takes: `MAX_COMMAND` of Vixie cron, less its end.
const LONGEST: usize = 998;

/// What a block is made of.
#[derive(Clone, Copy, Debug)]
pub struct Jobs<'a> {
    /// The agent's name.
    pub agent: &'a str,
    /// Its home: a block belongs to one home.
    pub home: &'a Path,
    /// Its config.
    pub config: &'a Path,
    /// The program `ops`: `cargo run` builds it alone, so the others may not be there.
    pub ops: &'a Path,
    /// The folder of its logs.
    pub logs: &'a Path,
    /// The log that takes what the jobs print.
    pub log: &'a Path,
    /// `PATH`, as whoever installs them has it.
    pub path: &'a str,
    /// The name of this host.
    pub host: &'a str,
    /// When the jobs run.
    pub schedule: &'a Schedule,
}

impl Jobs<'_> {
    /// The block, with its markers, each line ended.
    ///
    /// # Errors
    /// When a path cannot stand in a crontab, says which and why.
    pub fn render(&self) -> Result<String, String> {
        let logs = quoted(self.logs)?;
        // The config in the home is found there: a crontab is read by people too.
        let config = match self.config == self.home.join("ops.toml") {
            true => String::new(),
            false => format!(" --config {}", quoted(self.config)?),
        };
        let options = format!("--quiet{config} --home {}", quoted(self.home)?);
        // Without its folder the log could not be opened, and then the job would not even run.
        let folder = format!("[ -d {logs} ] || mkdir {logs}");
        let marker = format!("{} {}", self.agent, text::line_path(self.home)?);
        let (ops, log, path) = (quoted(self.ops)?, quoted(self.log)?, search_path(self.path)?);
        let mut block = String::new();
        for line in TEMPLATE.lines() {
            let common = [
                ("{marker}", &*marker),
                ("{logs}", &*folder),
                ("{path}", &*path),
                ("{ops}", &*ops),
                ("{options}", &*options),
                ("{log}", &*log),
            ];
            if !line.starts_with("{when}") {
                block.push_str(&text::fill(line, &common));
                block.push('\n');
                continue;
            }
            for job in Job::ALL.into_iter().filter(|job| !job.when(self.schedule).is_empty()) {
                let delay = match job.delay(self.schedule, self.host, self.home) {
                    0 => String::new(),
                    seconds => format!("sleep {seconds}; "),
                };
                let words = job.words().join(" ");
                let own = [("{when}", job.when(self.schedule)), ("{delay}", &*delay), ("{job}", &*words)];
                let filled = text::fill(line, &[&common[..], &own[..]].concat());
                if filled.len() > LONGEST {
                    return Err(format!("a line would have {} bytes: cron takes {LONGEST}", filled.len()));
                }
                block.push_str(&filled);
                block.push('\n');
            }
        }
        Ok(block)
    }
}

/// Folders of programs that are there everywhere.
const COMMON: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// How much of a line the folders of programs may take, but for those of [`COMMON`].
const MOST_PATH: usize = 300;

/// `PATH` of the jobs: cron itself has hardly any, and an agent that they restart needs what it had before.
/// Of a long one the end is left out.
fn search_path(path: &str) -> Result<String, String> {
    let (mut kept, mut length) = (Vec::new(), 0);
    for folder in path.split(':').chain(COMMON) {
        if kept.contains(&folder) || (!COMMON.contains(&folder) && length + folder.len() > MOST_PATH) {
            continue;
        }
        length += folder.len() + 1;
        kept.push(folder);
    }
    quoted(Path::new(&kept.join(":")))
}

/// A path as sh takes it for one word. Most crons end a command at `%`, some take `\%` for two
/// characters: so there is none.
fn quoted(path: &Path) -> Result<String, String> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@=".contains(c);
    let quote = |part: &str| match part.chars().all(harmless) {
        true => part.to_owned(),
        false => format!("'{}'", part.replace('\'', r"'\''")),
    };
    let parts: Vec<String> = text::line_path(path)?.split('%').map(quote).collect();
    Ok(parts.join(r#""$(printf '\045')""#))
}

/// The markers in a crontab do not fit together: it must be put right by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub why: &'static str,
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the crontab: {}", self.line, self.why)
    }
}

/// A crontab with the block of a home in it: in place of the old one, or at the end.
pub fn install(crontab: &[u8], home: &Path, block: &str) -> Result<Vec<u8>, Torn> {
    let pieces = pieces(crontab, home)?;
    let mut new = Vec::with_capacity(crontab.len() + block.len());
    let mut placed = false;
    for piece in &pieces {
        match piece {
            Piece::Foreign(line) => new.extend_from_slice(line),
            // A second one, of a hand that copied it, goes.
            Piece::Block(_) if placed => {}
            Piece::Block(old) => {
                placed = true;
                push_block(&mut new, block, added_newline(old));
            }
        }
    }
    if !placed {
        let lacks_newline = new.last().is_some_and(|&byte| byte != b'\n');
        if lacks_newline {
            new.push(b'\n');
        }
        push_block(&mut new, block, lacks_newline);
    }
    Ok(new)
}

/// A crontab without the block of a home.
pub fn uninstall(crontab: &[u8], home: &Path) -> Result<Vec<u8>, Torn> {
    let pieces = pieces(crontab, home)?;
    let mut new = Vec::with_capacity(crontab.len());
    for (index, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Foreign(line) => new.extend_from_slice(line),
            // Lines that came after the block still need the newline before it.
            Piece::Block(old) if added_newline(old) && index + 1 == pieces.len() => {
                if new.last() == Some(&b'\n') {
                    new.pop();
                }
            }
            Piece::Block(_) => {}
        }
    }
    Ok(new)
}

fn push_block(new: &mut Vec<u8>, block: &str, lacks_newline: bool) {
    let mut lines = block.split_inclusive('\n');
    new.extend_from_slice(lines.next().unwrap_or_default().as_bytes());
    if lacks_newline {
        new.extend_from_slice(ADDED_NEWLINE.as_bytes());
    }
    lines.for_each(|line| new.extend_from_slice(line.as_bytes()));
}

fn added_newline(block: &[u8]) -> bool {
    block.split_inclusive(|&byte| byte == b'\n').any(|line| line == ADDED_NEWLINE.as_bytes())
}

/// A part of a crontab.
enum Piece<'a> {
    /// One line that is not ours, with its end.
    Foreign(&'a [u8]),
    /// A block of this home, from marker to marker.
    Block(&'a [u8]),
}

/// A marker line.
#[derive(PartialEq)]
enum Marker {
    Opens,
    Closes,
}

/// The marker that a line is, and whether it is one of this home. Between the name, which has
/// no blanks, and the last arrows stands the home.
fn marker(line: &[u8], home: &Path) -> Option<(Marker, bool)> {
    use std::os::unix::ffi::OsStrExt;
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let between = |start: &[u8], end: &[u8]| line.strip_prefix(start)?.strip_suffix(end);
    let (marker, inside) = match between(b"# >>> agent-ops ", b" >>>") {
        Some(inside) => (Marker::Opens, inside),
        None => (Marker::Closes, between(b"# <<< agent-ops ", b" <<<")?),
    };
    let blank = inside.iter().position(|&byte| byte == b' ')?;
    Some((marker, &inside[blank + 1..] == home.as_os_str().as_bytes()))
}

fn pieces<'a>(crontab: &'a [u8], home: &Path) -> Result<Vec<Piece<'a>>, Torn> {
    let mut pieces = Vec::new();
    // Where our open block began: its line and its offset.
    let mut open: Option<(usize, usize)> = None;
    let mut offset = 0;
    for (index, line) in crontab.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let number = index + 1;
        let end = offset + line.len();
        match (marker(line, home), open) {
            (Some((Marker::Opens, true)), None) => open = Some((number, offset)),
            (Some((Marker::Closes, true)), Some((_, start))) => {
                pieces.push(Piece::Block(&crontab[start..end]));
                open = None;
            }
            (Some((Marker::Closes, true)), None) => {
                return Err(Torn { line: number, why: "the end of our block, without its beginning" });
            }
            (Some(_), Some((begun, _))) => {
                return Err(Torn {
                    line: begun,
                    why: "our block begins and does not end before another marker",
                });
            }
            (None, Some(_)) => {}
            (_, None) => pieces.push(Piece::Foreign(line)),
        }
        offset = end;
    }
    match open {
        Some((begun, _)) => Err(Torn { line: begun, why: "our block begins and never ends" }),
        None => Ok(pieces),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(home: &str) -> Result<String, String> {
        let home = Path::new(home);
        let (logs, log) = (home.join("logs"), home.join("logs/cron.log"));
        let config = home.join("ops.toml");
        let schedule = Schedule { rotate_logs: String::new(), ..Schedule::default() };
        Jobs {
            agent: "agent",
            home,
            config: &config,
            ops: Path::new("/opt/agent ops/ops"),
            logs: &logs,
            log: &log,
            path: "/opt/my tools:/usr/bin:/opt/my tools:/bin",
            host: "here",
            schedule: &schedule,
        }
        .render()
    }

    #[test]
    fn a_block_is_quoted_and_complete() {
        let text = block("/home/o'brien {ops}").unwrap();
        assert!(text.starts_with("# >>> agent-ops agent /home/o'brien {ops} >>>\n"), "{text}");
        assert!(text.ends_with("# <<< agent-ops agent /home/o'brien {ops} <<<\n"));
        assert!(text.contains(r"*/5 * * * * [ -d '/home/o'\''brien {ops}/logs' ] || mkdir"), "{text}");
        let path = "PATH='/opt/my tools:/usr/bin:/bin:/usr/local/bin'";
        assert!(
            text.contains(&format!("; {path} '/opt/agent ops/ops' backup --quiet --home '/home/o")),
            "{text}"
        );
        assert!(!text.contains("rotate-logs"), "an empty time means not at all");
        assert_eq!(text.lines().count(), 8);
    }

    #[test]
    fn paths_that_cron_would_cut_are_written_otherwise_or_refused() {
        let text = block("/home/100% me").unwrap();
        assert!(text.contains(r#"--home /home/100"$(printf '\045')"' me' >>"#), "{text}");
        assert!(text.lines().all(|line| line.starts_with('#') || !line.contains('%')), "{text}");
        for (home, word) in [("/home/a\nb", "control"), ("home", "absolute")] {
            assert!(block(home).unwrap_err().contains(word));
        }
        let long: Vec<String> = (0..99).map(|number| format!("/opt/tool{number}/bin")).collect();
        let short = search_path(&long.join(":")).unwrap();
        assert!(
            short.starts_with("/opt/tool0/bin:/opt/tool1/bin:")
                && short.ends_with(":/usr/local/bin:/usr/bin:/bin")
        );
        assert!(short.len() < MOST_PATH + 40, "{short}");
        assert!(block(&format!("/home/{}", "x".repeat(300))).unwrap_err().contains("cron takes 998"));
    }

    #[test]
    fn torn_markers_are_refused_with_their_line() {
        let home = Path::new("/h");
        let (open, close) = ("# >>> agent-ops a /h >>>\n", "# <<< agent-ops a /h <<<\n");
        let other = "# >>> agent-ops b /other >>>\n";
        for (text, line) in [
            (format!("x\n{open}y\n"), 2),
            (format!("x\n{close}"), 2),
            (format!("{open}{open}{close}"), 1),
            (format!("{open}{other}{close}"), 1),
            (format!("{open}{close}{close}"), 3),
        ] {
            assert_eq!(install(text.as_bytes(), home, "b\n").unwrap_err().line, line, "{text}");
            assert_eq!(uninstall(text.as_bytes(), home).unwrap_err().line, line, "{text}");
        }
        let twice = format!("x\n{open}1\n{close}y\n{open}2\n{close}");
        assert_eq!(install(twice.as_bytes(), home, "b\n").unwrap(), b"x\nb\ny\n");
        // Another agent's block is foreign, even a torn one.
        assert!(install(other.as_bytes(), home, "b\n").unwrap().starts_with(other.as_bytes()));
        // An editor turned the line ends.
        let crlf = format!("x\r\n{open}1\n{close}").replace('\n', "\r\n");
        assert_eq!(uninstall(crlf.as_bytes(), home).unwrap(), b"x\r\r\n");
    }

    proptest! {
        #[test]
        fn foreign_lines_stay_byte_for_byte(
            before in "(([a-z*%# ]{0,6}|\u{e9}|# >>> agent-ops x /other >>>)(\n|\r\n)){0,5}[a-z ]{0,3}\r?",
            after in "([a-z*%# ]{0,6}\n){0,3}",
        ) {
            let home = Path::new("/home/me");
            let block = block("/home/me").unwrap();
            let once = install(before.as_bytes(), home, &block).unwrap();
            prop_assert_eq!(&install(&once, home, &block).unwrap(), &once);
            prop_assert!(once.starts_with(before.as_bytes()));
            prop_assert!(once.ends_with(b"\n"));
            prop_assert_eq!(&uninstall(&once, home).unwrap(), before.as_bytes());
            // Lines that someone added later stay too, and stay lines of their own.
            let mut more = once.clone();
            more.extend_from_slice(after.as_bytes());
            let left = String::from_utf8(uninstall(&more, home).unwrap()).unwrap();
            let newline = if after.is_empty() || before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
            prop_assert_eq!(left, format!("{before}{newline}{after}"));
            // Another home's block beside ours is none of our business.
            let block_2 = block.replace("/home/me", "/home/you");
            let two = install(&once, Path::new("/home/you"), &block_2).unwrap();
            prop_assert_eq!(&uninstall(&two, Path::new("/home/you")).unwrap(), &once);
        }

        #[test]
        fn any_bytes_are_taken_or_refused(text in any::<Vec<u8>>()) {
            let home = Path::new("/h");
            if let Ok(once) = install(&text, home, "# >>> agent-ops a /h >>>\n# <<< agent-ops a /h <<<\n") {
                prop_assert_eq!(uninstall(&once, home).unwrap(), text);
            }
        }
    }
}
