//! `restore`, `ops restore`: bring a backup back, or leave everything as it was.

use super::dump;
use super::watched::watched;
use super::{Context, remote};
use crate::backup::manifest::{Dump, Name};
use crate::backup::reader::Shape;
use crate::backup::{Entry, Flaw, NotJudged, Origin};
use crate::base::units::{self, Size, Span};
use crate::base::{Fault, Journal, State, events, text, watchdog};
use crate::config::Loaded;
use crate::restore::{self, Aside, Listing, Prepared, Restored, Selection, Verified};
use crate::schedule::Job;
use anyhow::Result;
use clap::Args as ClapArgs;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

/// No restore takes longer: then people hear again of what is wrong.
const LONGEST: Span = Span::minutes(4 * 60);

/// What to restore, and where.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    /// The archive: latest, a name, a path, or a time such as "yesterday" or "2026-11-19 02:00";
    /// remote:latest or remote:NAME, from the bucket; or pre-restore:latest, to undo the last
    /// restore
    #[arg(value_name = "ARCHIVE")]
    pub archive: Option<String>,
    /// Restore only this file or folder; may be given again
    #[arg(long, value_name = "PATH")]
    pub only: Vec<PathBuf>,
    /// Unpack into this folder; the agent is left alone
    #[arg(long, value_name = "DIR", conflicts_with_all = ["list", "drill"])]
    pub to: Option<PathBuf>,
    /// Show what is in the archive
    #[arg(long, conflicts_with = "drill")]
    pub list: bool,
    /// Write what the command of [backup.dump.NAME] gave to standard output
    #[arg(long, value_name = "NAME", conflicts_with_all = ["only", "to", "list", "drill", "aside"])]
    pub dump: Option<String>,
    /// Give that dump to the `restore` command of [backup.dump.NAME] instead
    #[arg(long, requires = "dump")]
    pub load: bool,
    /// Restore work that waited too (queues in [backup]): it will be done again
    #[arg(long)]
    pub queues: bool,
    /// Restore on trial into a scratch folder, check everything, note the result
    #[arg(long)]
    pub drill: bool,
    /// List what earlier restores replaced and set aside: pre-restore:TIME puts it back
    #[arg(long, conflicts_with_all = ["archive", "only", "to", "list", "drill"])]
    pub aside: bool,
    /// Restore damaged databases too, as they are
    #[arg(long, conflicts_with_all = ["list", "drill", "aside"])]
    pub damaged: bool,
    /// Kill services that do not stop in time
    #[arg(long)]
    pub force: bool,
    /// Verify, and say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Take a copy from the bucket although its signature does not prove where it comes from, or it
    /// is plain and encrypt_to is set
    #[arg(long)]
    pub trust: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// Restores, and says where the replaced files are.
pub fn run(context: &Context, args: Args) -> Result<State> {
    let loaded = context.load()?;
    if !args.drill || args.dry_run {
        return restore_from(context, &loaded, args);
    }
    watched(context, &loaded, Job::Drill, || restore_from(context, &loaded, args))
}

fn restore_from(context: &Context, loaded: &Loaded, args: Args) -> Result<State> {
    crate::backup::need_home(&loaded.config)?;
    let which = args.archive.as_deref();
    let elsewhere = |which: &str| which.starts_with("remote:") || which.starts_with("pre-restore:");
    if args.list && !which.is_some_and(elsewhere) {
        return list(context, loaded, which, &args.only);
    }
    let journal = context.journal(loaded);
    let begun = Instant::now();
    if !args.dry_run && !args.aside && !args.list {
        finish_earlier(context, loaded, journal.as_ref())?;
    }
    if args.aside {
        return list_asides(context, loaded);
    }
    if let Some(aside) = restore::find_aside(loaded, which.unwrap_or_default())? {
        return put_back(context, loaded, journal.as_ref(), aside, &args);
    }
    let archive = match remote::fetch(context, loaded, journal.as_ref(), which, args.trust) {
        Ok(fetched) => fetched.or_else(|| args.archive.clone()),
        Err(error) => return log_failure(context, loaded, error),
    };
    if args.list {
        return list(context, loaded, archive.as_deref(), &args.only);
    }
    if let Some(name) = &args.dump {
        return dump::run(context, loaded, journal.as_ref(), archive.as_deref(), name, &args);
    }
    let asked = Selection { which: archive.as_deref(), only: &args.only, damaged: args.damaged };
    let prepared = restore::prepare(loaded, &context.run, journal.as_ref(), &asked);
    let mut prepared = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            if let (true, Some(journal)) = (args.drill, &journal) {
                restore::note_drill(journal, &context.run, archive.as_deref(), &error)?;
            }
            return log_failure(context, loaded, error);
        }
    };
    match (&args.to, args.drill) {
        (Some(_), _) => prepared.into_folder(),
        (None, false) => prepared.into_home(args.queues)?,
        (None, true) => {}
    }
    say_reasons(context, &prepared.notes);
    if args.to.is_none() && !args.drill {
        say_notes(context, &prepared.remarks());
    }
    prepared.unjudged().for_each(|database| context.note(&format!("note: {database}")));
    let said = prepared.notes.len();
    let question = question(loaded, &prepared, &args);
    if args.dry_run {
        return dry_run(context, &prepared, &question);
    }
    watchdog::phase(if args.drill { "a test restore" } else { "the restore" });
    let restored = if args.drill {
        prepared.drill()
    } else if let Some(folder) = &args.to {
        prepared.carry_out_to(folder)
    } else if context.confirm(&question, args.yes)? {
        let _maintenance = context.maintenance(loaded, LONGEST);
        prepared.carry_out(args.force)
    } else {
        context.note("nothing was changed");
        return Ok(State::Unknown);
    };
    match restored {
        Ok(restored) => {
            say_reasons(context, restored.notes.get(said..).unwrap_or_default());
            tell(context, loaded, &restored, &args, begun)
        }
        Err(error) => log_failure(context, loaded, error),
    }
}

/// Puts back what an earlier restore replaced, through the same exchange.
fn put_back(
    context: &Context,
    loaded: &Loaded,
    journal: Option<&Journal>,
    aside: Aside,
    args: &Args,
) -> Result<State> {
    let begun = Instant::now();
    if args.list || args.drill || args.to.is_some() {
        return Err(Fault::unknown(format!("{} can only be put back", aside.name))
            .hint(format!("what is in it lies open in {}", aside.path.display()))
            .into());
    }
    let whole = if args.only.is_empty() { "" } else { "what is named of " };
    let question = format!(
        "Put back {whole}{} ({}) that a restore replaced at {}? What is there now is set aside.",
        text::count(aside.files, "file"),
        Size(aside.bytes),
        units::local(aside.time)
    );
    if args.dry_run {
        if context.common.json {
            context.print_json(&aside)?;
        } else {
            context.print(&format!("{question} Nothing was done (dry run)."))?;
        }
        return Ok(State::Ok);
    }
    if !context.confirm(&question, args.yes)? {
        context.note("nothing was changed");
        return Ok(State::Unknown);
    }
    let _maintenance = context.maintenance(loaded, LONGEST);
    match restore::put_back(loaded, &context.run, journal, aside, &args.only, args.force) {
        Ok(restored) => tell(context, loaded, &restored, args, begun),
        Err(error) => log_failure(context, loaded, error),
    }
}

fn list_asides(context: &Context, loaded: &Loaded) -> Result<State> {
    #[derive(Serialize)]
    struct Listing {
        asides: Vec<Aside>,
    }
    let asides = restore::asides(loaded)?;
    if context.common.json {
        context.print_json(&Listing { asides })?;
        return Ok(State::Ok);
    }
    if asides.is_empty() {
        context.print("no restore has set anything aside")?;
        return Ok(State::Ok);
    }
    let widest = asides.iter().map(|aside| aside.name.len()).max().unwrap_or(0);
    let mut lines = vec![format!(
        "{:widest$}  {:>8}  {:>10}  {:>6}  {:19}  replaced by",
        "set aside", "age", "size", "files", "kept until"
    )];
    for aside in &asides {
        let until = aside.until.map_or("the next restore".to_owned(), units::local);
        let archive = aside.archive.as_deref().map_or("?".to_owned(), |archive| loaded.home.show(archive));
        lines.push(format!(
            "{:widest$}  {:>8}  {:>10}  {:>6}  {until:19}  {}",
            aside.name,
            units::age(context.run.now, aside.time),
            Size(aside.bytes),
            aside.files,
            text::one_line(&archive, 200)
        ));
    }
    context.print(&lines.join("\n"))?;
    Ok(State::Ok)
}

/// Finishes or undoes a restore that was cut short, and says so.
pub(super) fn finish_earlier(context: &Context, loaded: &Loaded, journal: Option<&Journal>) -> Result<()> {
    let _hold = watchdog::hold();
    watchdog::phase("undoing a restore that was cut short");
    if let Some(said) = restore::recover(loaded, &context.run, journal)? {
        context.note(&said);
        events::append(&loaded.home, "backup", &context.run, "WARNING", "Restore recovered", &said)?;
    }
    Ok(())
}

fn question(loaded: &Loaded, prepared: &Prepared<'_>, args: &Args) -> String {
    let made = match &prepared.contents.manifest {
        Some(manifest) => format!(" of {}", units::local(manifest.time)),
        None => String::new(),
    };
    let mut question = format!(
        "Restore {} ({}) from {}{made}?",
        text::count(prepared.count(), "file"),
        Size(prepared.bytes()),
        loaded.home.show(&prepared.archive)
    );
    if args.to.is_none() {
        question.push_str(&format!(" {} replaced, the old ones are set aside.", are(prepared.replaced)));
        if !prepared.running.is_empty() {
            question.push_str(&format!(" Stopped meanwhile: {}.", prepared.running.join(", ")));
        }
    }
    text::one_line(&question, 1000)
}

fn are(number: usize) -> String {
    format!("{} {}", text::count(number, "file"), if number == 1 { "is" } else { "are" })
}

fn dry_run(context: &Context, prepared: &Prepared<'_>, question: &str) -> Result<State> {
    #[derive(Serialize)]
    struct Would<'a> {
        dry_run: bool,
        #[serde(serialize_with = "crate::base::name::path::serialize")]
        archive: &'a PathBuf,
        files: usize,
        bytes: u64,
        replaced: usize,
        stopped: &'a [String],
        unjudged: Vec<&'a NotJudged>,
        notes: &'a [String],
        remarks: Vec<String>,
    }
    prepared.verify()?;
    if context.common.json {
        context.print_json(&Would {
            dry_run: true,
            archive: &prepared.archive,
            files: prepared.count(),
            bytes: prepared.bytes(),
            replaced: prepared.replaced,
            stopped: &prepared.running,
            unjudged: prepared.unjudged().collect(),
            notes: &prepared.notes,
            remarks: prepared.remarks(),
        })?;
    } else {
        context.print(&format!("{question} Nothing was done (dry run); the archive is whole."))?;
    }
    Ok(if prepared.flawed { State::Warning } else { State::Ok })
}

fn say_notes(context: &Context, notes: &[String]) {
    for note in notes {
        context.note(&format!("note: {}", text::one_line(note, 500)));
    }
}

/// What makes the exit code 1.
fn say_reasons(context: &Context, notes: &[String]) {
    for note in notes {
        context.warn(&format!("note: {}", text::one_line(note, 500)));
    }
}

/// `--list`: reads, and writes nothing, so that it works where nothing can be written.
fn list(context: &Context, loaded: &Loaded, which: Option<&str>, only: &[PathBuf]) -> Result<State> {
    #[derive(Serialize)]
    struct Document<'a> {
        #[serde(serialize_with = "crate::base::name::path::serialize")]
        archive: &'a PathBuf,
        origin: Origin,
        flaws: &'a [Flaw],
        unjudged: &'a [NotJudged],
        files: Vec<Line<'a>>,
        dumps: Vec<&'a Dump>,
    }
    #[derive(Serialize)]
    struct Line<'a> {
        path: Name,
        kind: &'static str,
        size: u64,
        mode: String,
        mtime: String,
        sha256: &'a str,
        database: bool,
    }
    let journal = Journal::open_to_read(&loaded.home);
    let listing = restore::look(loaded, &context.run, journal.as_ref(), which, only)?;
    say_notes(context, &listing.notes);
    listing.unjudged.iter().for_each(|database| context.note(&format!("note: {database}")));
    let kind = |entry: &Entry| match entry.shape {
        _ if listing.raw.contains(&entry.member) => "damaged",
        Shape::File if entry.database => "database",
        Shape::File => "file",
        Shape::Folder => "folder",
        Shape::Link(_) => "link",
    };
    if context.common.json {
        let files = listing.entries.iter().map(|entry| Line {
            path: Name(entry.path.clone()),
            kind: kind(entry),
            size: entry.size,
            mode: format!("{:04o}", entry.mode),
            mtime: units::rfc3339(entry.mtime),
            sha256: &entry.sha256,
            database: entry.database,
        });
        let files = files.collect();
        let Listing { archive, origin, flaws, unjudged, .. } = &listing;
        let dumps = listing.manifest.iter().flat_map(|manifest| &manifest.dumps).collect();
        context.print_json(&Document { archive, origin: *origin, flaws, unjudged, files, dumps })?;
        return Ok(State::Ok);
    }
    let dumps = listing.manifest.iter().flat_map(|manifest| &manifest.dumps);
    let mut lines = vec![format!("{:>10}  {:19}  {:8}  path", "size", "written", "kind")];
    for dump in dumps {
        let (size, written) = (Size(dump.file.size()), units::local(dump.file.mtime));
        lines.push(format!("{size:>10}  {written}  {:8}  {}", "dump", text::sanitize(&dump.name)));
    }
    for entry in &listing.entries {
        lines.push(format!(
            "{:>10}  {}  {:8}  {}",
            Size(entry.size),
            units::local(entry.mtime),
            kind(entry),
            text::sanitize(&entry.path.display().to_string())
        ));
    }
    context.print(&lines.join("\n"))?;
    Ok(State::Ok)
}

fn tell(
    context: &Context,
    loaded: &Loaded,
    restored: &Restored,
    args: &Args,
    begun: Instant,
) -> Result<State> {
    let archive = loaded.home.show(&restored.archive);
    let what = format!("{} ({})", text::count(restored.files, "file"), Size(restored.bytes));
    let time = format!("in {:.1}s", begun.elapsed().as_secs_f64());
    let verified = match restored.verified {
        Verified::Archive => ", all of the archive verified",
        Verified::Restored => ", these verified (nothing else of the archive was read)",
        Verified::Nothing => "",
    };
    let line = if args.drill {
        format!(
            "{what} of {archive} restored on trial {time}, every hash and database checked{}: it can be restored",
            match restored.unjudged.len() {
                0 => String::new(),
                number => format!(", {} could not be judged", text::count(number, "database")),
            }
        )
    } else if let Some(folder) = &args.to {
        format!("{what} of {archive} restored {time} into {}{verified}", folder.display())
    } else {
        let mut line = format!("{what} of {archive} restored {time}{verified}");
        if let Some(aside) = &restored.aside {
            line.push_str(&format!("; what was replaced is in {}", loaded.home.show(aside)));
        }
        if !restored.restarted.is_empty() {
            line.push_str(&format!("; runs again: {}", restored.restarted.join(", ")));
        }
        line
    };
    let title = if args.drill { "Restore drill" } else { "Restored" };
    events::append(&loaded.home, "backup", &context.run, restored.state.word(), title, &line)?;
    if context.common.json {
        context.print_json(restored)?;
    } else {
        context.print(&text::one_line(&line, 2000))?;
    }
    Ok(restored.state)
}

/// Leaves a line in the log before the error goes its way.
fn log_failure(context: &Context, loaded: &Loaded, error: anyhow::Error) -> Result<State> {
    // Best effort: the error itself matters more.
    let _ = events::append(
        &loaded.home,
        "backup",
        &context.run,
        "CRITICAL",
        "Restore failed",
        &format!("{error:#}"),
    );
    Err(error)
}
