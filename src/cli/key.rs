//! `backup key`: the key that copies in the bucket are signed with, for the day when this host is gone.

use super::Context;
use crate::backup::remote::Keys;
use crate::base::beneath::{self, Options};
use crate::base::{Fault, State, text};
use crate::config::Loaded;
use anyhow::{Context as _, Result};
use clap::Subcommand;
use serde::Serialize;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// A file of keys is far shorter.
const MOST: u64 = 16 << 10;

/// What can be done with the key.
#[derive(Subcommand, Clone, Debug)]
pub enum Verb {
    /// Write the key to a new file, 0600, or to stdout: keep it where nobody else reads it
    Export {
        /// The file
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Sign with the key in this file from now on; the present one stays valid
    Import {
        /// The file; - reads stdin
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Serialize)]
struct Document {
    /// The names of the keys; the first signs.
    keys: Vec<String>,
}

/// Shows, exports or imports the key.
pub(super) fn run(context: &Context, loaded: &Loaded, verb: Option<Verb>) -> Result<State> {
    let line = match verb {
        None => describe(&Keys::read(&loaded.home)?),
        Some(Verb::Export { file: None }) => {
            context.print(Keys::made(loaded, &context.run)?.text().trim_end())?;
            return Ok(State::Ok);
        }
        Some(Verb::Export { file: Some(file) }) => {
            write(&file, Keys::made(loaded, &context.run)?.text().as_bytes())?;
            format!(
                "the signing key is in {}: keep it where no bucket and nobody else has it",
                file.display()
            )
        }
        Some(Verb::Import { file }) => {
            let keys = Keys::parse(&read(&file)?)
                .with_context(|| format!("nothing was imported from {}", file.display()))?;
            match keys.import(loaded, &context.run)? {
                0 => "that key was here already; it signs from now on".to_owned(),
                new => format!("{} imported; the first signs from now on", text::count(new, "key")),
            }
        }
    };
    if context.common.json {
        context.print_json(&Document { keys: Keys::read(&loaded.home)?.ids() })?;
    } else {
        context.print(&line)?;
    }
    Ok(State::Ok)
}

fn describe(keys: &Keys) -> String {
    match keys.ids().split_first() {
        None => "there is no signing key yet: the first copy to a bucket makes it".to_owned(),
        Some((first, [])) => format!("copies are signed with the key {first}"),
        Some((first, others)) => {
            format!("copies are signed with the key {first}; {} accepted, too", others.join(", "))
        }
    }
}

/// Writes a new file; one that is there and holds the same is as good.
fn write(file: &Path, content: &[u8]) -> Result<()> {
    let writing = || format!("cannot write {}", file.display());
    let folder = file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let name = file.file_name().with_context(writing)?;
    let folder = beneath::Dir::open(folder).with_context(writing)?;
    match folder.open_with(name, &Options::new().write().create_new(0o600)) {
        Ok(mut new) => {
            new.write_all(content).and_then(|()| new.sync_all()).with_context(writing)?;
            folder.sync().with_context(writing)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            if folder.read_small(name, MOST).is_ok_and(|there| there == content) {
                return Ok(());
            }
            Err(Fault::unknown(format!("{} is there already, and is not replaced", file.display()))
                .hint("name another file")
                .into())
        }
        Err(error) => Err(error).with_context(writing),
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let reading = || format!("cannot read {}", file.display());
    if file != Path::new("-") {
        return beneath::read_small_file(file, MOST).with_context(reading);
    }
    let mut text = Vec::new();
    std::io::stdin().take(MOST).read_to_end(&mut text).with_context(reading)?;
    Ok(text)
}
