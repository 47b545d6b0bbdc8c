//! `backup prune`: what the rule lets go, here or with `--remote` in the bucket.

use super::Context;
use crate::backup::remote::{self, Remote};
use crate::backup::{self, Archive, Pruning, Settled, Verdict};
use crate::base::units::{Size, Span};
use crate::base::{Journal, State, events, text};
use crate::config::Loaded;
use anyhow::Result;
use serde::Serialize;

/// What was said on the command line.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// Only say it.
    pub(super) dry_run: bool,
    /// Do not ask.
    pub(super) yes: bool,
}

/// What an answer in JSON has, here and there.
#[derive(Serialize)]
struct Outcome<T> {
    dry_run: bool,
    deleted: Vec<String>,
    #[serde(flatten)]
    judged: T,
    #[serde(flatten)]
    settles_at: Option<SettlesAt>,
}

#[derive(Serialize)]
struct SettlesAt {
    settles_at: Option<Settled>,
}

/// `backup prune`.
pub(super) fn here(context: &Context, loaded: &Loaded, journal: Option<&Journal>, how: How) -> Result<State> {
    let judged: Pruning = backup::judge(loaded, journal, &context.run)?;
    let archives = backup::list(loaded, journal)?;
    let settles_at = settles_at(context, loaded, &archives);
    let mut notes = Vec::new();
    let others = archives.iter().filter(|archive| !archive.ours).count();
    if others > 0 {
        notes.push(format!("{} not of this agent: never touched", text::count(others, "archive")));
    }
    if let Some(settled) = settles_at {
        let every = Span::seconds(settled.every_seconds.unsigned_abs());
        notes.push(format!(
            "with one every {every}, the rule settles at about {}, {} at the size of the newest",
            text::count(settled.archives, "archive"),
            Size(settled.bytes)
        ));
    }
    let rule = Rule {
        verdicts: &judged.verdicts,
        drastic: judged.drastic,
        place: String::new(),
        freed: Some(judged.freed),
    };
    let prune = || backup::prune(loaded, &context.run, journal);
    let Some(deleted) = rule.carry_out(context, loaded, how, prune)? else { return Ok(State::Unknown) };
    let lines = rule.lines(how, &deleted, notes);
    let settles_at = Some(SettlesAt { settles_at });
    say(context, &lines, &Outcome { dry_run: how.dry_run, deleted, judged, settles_at })
}

/// `backup prune --remote`.
pub(super) fn there(
    context: &Context,
    loaded: &Loaded,
    journal: Option<&Journal>,
    how: How,
) -> Result<State> {
    let judged: Remote = remote::list(loaded, &context.run, journal)?;
    let rule = Rule {
        verdicts: &judged.verdicts,
        drastic: judged.drastic,
        place: format!(" in {}", judged.remote),
        freed: None,
    };
    let prune = || remote::prune(loaded, &context.run, journal);
    let Some(deleted) = rule.carry_out(context, loaded, how, prune)? else { return Ok(State::Unknown) };
    let lines = rule.lines(how, &deleted, Vec::new());
    say(context, &lines, &Outcome { dry_run: how.dry_run, deleted, judged, settles_at: None })
}

fn say<T: Serialize>(context: &Context, lines: &[String], outcome: &Outcome<T>) -> Result<State> {
    if context.common.json {
        context.print_json(outcome)?;
    } else {
        context.print(&lines.join("\n"))?;
    }
    Ok(State::Ok)
}

/// What the rule says of the archives at one place.
struct Rule<'a> {
    verdicts: &'a [Verdict],
    drastic: bool,
    /// Nothing, or ` in s3://…`.
    place: String,
    /// Bytes that come free, where it is known.
    freed: Option<u64>,
}

impl Rule<'_> {
    fn going(&self) -> usize {
        self.verdicts.iter().filter(|verdict| !verdict.keep).count()
    }

    /// Asks where much would go, prunes, and logs it. Gives what was deleted; none: a person said
    /// no.
    fn carry_out(
        &self,
        context: &Context,
        loaded: &Loaded,
        how: How,
        prune: impl FnOnce() -> Result<Vec<String>>,
    ) -> Result<Option<Vec<String>>> {
        if how.dry_run {
            return Ok(Some(Vec::new()));
        }
        if self.drastic {
            let size = self.freed.map_or(String::new(), |freed| format!(" ({})", Size(freed)));
            let question = format!(
                "This deletes {} of {} archives{size}{}. Go ahead?",
                self.going(),
                self.verdicts.len(),
                self.place
            );
            if !context.confirm(&question, how.yes)? {
                context.note("nothing was deleted");
                return Ok(None);
            }
        }
        let deleted = prune()?;
        if !deleted.is_empty() {
            let number = text::count(deleted.len(), "archive");
            let line = format!("{number} deleted{}: {}", self.place, deleted.join(", "));
            events::append(&loaded.home, "backup", &context.run, "OK", "Backups pruned", &line)?;
        }
        Ok(Some(deleted))
    }

    /// Every verdict with its reasons, the notes, and what came of it.
    fn lines(&self, how: How, deleted: &[String], notes: Vec<String>) -> Vec<String> {
        let word = |keep: bool| if keep { "stays" } else { "goes " };
        let line = |verdict: &Verdict| {
            format!("{}  {}  {}", word(verdict.keep), verdict.name, verdict.reasons.join(", "))
        };
        let mut lines: Vec<String> = self.verdicts.iter().map(line).chain(notes).collect();
        let size = |word: &str| self.freed.map_or(String::new(), |freed| format!(", {}{word}", Size(freed)));
        lines.push(match how.dry_run {
            true => format!(
                "{} would go{}; nothing was deleted (dry run)",
                text::count(self.going(), "archive"),
                size("")
            ),
            false => {
                format!("{} deleted{}{}", text::count(deleted.len(), "archive"), self.place, size(" freed"))
            }
        });
        lines
    }
}

/// Where the rule settles, at the pace and the size of this agent's archives.
fn settles_at(context: &Context, loaded: &Loaded, archives: &[Archive]) -> Option<Settled> {
    let ours = || archives.iter().filter(|archive| archive.ours);
    let newest = ours().filter(|archive| archive.verified).max_by_key(|archive| archive.sequence);
    let bytes = newest.map_or(0, |newest| newest.bytes);
    let candidates: Vec<_> = ours().map(Archive::candidate).collect();
    backup::settled(&candidates, &loaded.config.backup.keep, bytes, context.run.now)
}
