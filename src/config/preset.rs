//! The presets: what is known of an agent, as plain data. Those in `presets/` are compiled in; a path
//! that ends in `.toml` names one of the user's own.

use super::check::Pattern;
use super::expand::{self, Lookup};
use super::indented;
use super::load::read_trusted;
use super::place;
use crate::base::{Fault, lines};
use anyhow::Result;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;
use std::num::NonZeroU16;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, Deserializer};

/// So much of an agent's own config is looked at.
const MOST_BYTES: u64 = 1 << 20;

/// One preset.
#[derive(Clone, Debug)]
pub struct Preset {
    /// As written in `preset = "…"`.
    pub name: String,
    /// Its TOML.
    pub source: Cow<'static, str>,
    /// The file it was read from, if it is not compiled in.
    pub file: Option<PathBuf>,
}

/// `[preset]`: what a preset says of itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct About {
    /// One line about it.
    pub about: String,
    /// What lies in the home of such an agent: it is one where all files of any of these lists are.
    pub recognise: Vec<Vec<String>>,
    /// Where next to nothing lies there yet: the usual name of its home, and a file in it.
    pub named: Vec<Named>,
    /// What a person may want to change: lines for a new `ops.toml`, commented out.
    pub starter: String,
    /// What the agent's own config decides.
    pub unless: Vec<Unless>,
    /// What the agent's own config has of the variables of this preset.
    pub ask: Vec<Ask>,
}

/// `[[preset.named]]`: a folder that is an agent's home by its name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// The name of the folder.
    pub folder: String,
    /// What must be in it.
    pub file: String,
}

/// `[[preset.ask]]`: a variable of the preset that the agent's own config decides, where neither the
/// environment nor `env_file` does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The variable.
    pub variable: String,
    /// The agent's config, relative to its home. Where it is not there, nothing is known.
    pub file: PathBuf,
    /// See [`Unless::under`].
    #[serde(default)]
    pub under: Option<String>,
    /// Its value is the first group in this that takes part.
    pub matches: Pattern,
    /// It is a port: what is none, from 1 to 65535, is not taken.
    #[serde(default)]
    pub port: bool,
}

/// `[[preset.unless]]`: lines for a new `ops.toml` of an agent whose own config does not say something.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unless {
    /// The agent's config, relative to its home. Where it is not there, nothing is known.
    pub file: PathBuf,
    /// Of a file that is YAML only what stands under these keys, such as `channels.api`; the keys in it begin
    /// their lines then.
    #[serde(default)]
    pub under: Option<String>,
    /// What it would have to match.
    pub matches: Pattern,
    /// The lines.
    pub write: String,
}

impl About {
    /// The lines for a new `ops.toml` in this home.
    pub fn suggested(&self, home: &Path) -> String {
        let mut suggested = self.starter.trim().to_owned();
        for unless in &self.unless {
            if read(home, &unless.file, unless.under.as_deref())
                .is_some_and(|text| !unless.matches.0.is_match(&text))
            {
                suggested.push_str("\n\n");
                suggested.push_str(unless.write.trim());
            }
        }
        suggested
    }
}

/// A config of the agent's own, or what it has under these keys; none: it is not there, or cannot be read.
fn read(home: &Path, file: &Path, under: Option<&str>) -> Option<String> {
    let mut text = String::new();
    lines::open(home.join(file)).ok()?.take(MOST_BYTES).read_to_string(&mut text).ok()?;
    Some(match under {
        Some(keys) => indented::under(&text, keys).unwrap_or_default(),
        None => text,
    })
}

/// Those that are compiled in: names and sources.
const COMPILED_IN: [(&str, &str); 6] = [
    ("builtin", include_str!("../../presets/builtin.toml")),
    ("dharmic", include_str!("../../presets/dharmic.toml")),
    ("mama", include_str!("../../presets/mama.toml")),
    ("machina", include_str!("../../presets/machina.toml")),
    ("gomikrobot", include_str!("../../presets/gomikrobot.toml")),
    ("macha", include_str!("../../presets/macha.toml")),
];

impl Preset {
    /// All that are compiled in.
    pub fn all() -> impl Iterator<Item = Preset> {
        COMPILED_IN.into_iter().map(|(name, source)| Preset {
            name: name.to_owned(),
            source: Cow::Borrowed(source),
            file: None,
        })
    }

    /// The preset of a name, or the one in a file. A relative path is one in this folder.
    ///
    /// # Errors
    /// A [`Fault`] of state Unknown when there is a path, and the file cannot be read.
    pub fn find(name: &str, folder: &Path) -> Result<Option<Preset>> {
        if let Some(preset) = Preset::all().find(|preset| preset.name == name) {
            return Ok(Some(preset));
        }
        if !name.ends_with(".toml") {
            return Ok(None);
        }
        let path = folder.join(super::resolve::tilde(Path::new(name)));
        let hint = "`ops init --list` shows those that come along; of your own, the path";
        let source = read_trusted("preset", &path, hint)?;
        Ok(Some(Preset { name: name.to_owned(), source: Cow::Owned(source), file: Some(path) }))
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// When it is no TOML, or its `[preset]` has other keys.
    pub fn about(&self) -> Result<About> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(default)]
            preset: About,
        }
        let wrong = |error: toml::de::Error| self.wrong(error.span(), error.message());
        Ok(Deserializer::parse(&self.source).and_then(Head::deserialize).map_err(wrong)?.preset)
    }

    /// The variables that the agent's own config in this home decides.
    pub(super) fn asked(&self, home: &Path) -> Result<BTreeMap<String, String>> {
        let value = |ask: &Ask| {
            let text = read(home, &ask.file, ask.under.as_deref())?;
            let value = ask.matches.0.captures(&text)?.iter().skip(1).flatten().next()?;
            let usable = !ask.port || value.as_str().parse::<NonZeroU16>().is_ok();
            usable.then(|| (ask.variable.clone(), value.as_str().to_owned()))
        };
        Ok(self.about()?.ask.iter().filter_map(value).collect())
    }

    /// The tables that it adds to a config, with the variables in them filled in.
    pub(super) fn tables(&self, lookup: &Lookup<'_>) -> Result<DeTable<'_>> {
        let mut tables = DeTable::parse(&self.source)
            .map_err(|error| self.wrong(error.span(), error.message()))?
            .into_inner();
        tables.remove("preset");
        expand::table(&mut tables, lookup).map_err(|(span, message)| self.wrong(Some(span), &message))?;
        Ok(tables)
    }

    /// What is wrong in it, and where.
    pub(super) fn wrong(&self, span: Option<Range<usize>>, message: &str) -> Fault {
        let builtin = || PathBuf::from(format!("presets/{}.toml", self.name));
        place::fault(&self.file.clone().unwrap_or_else(builtin), &self.source, span, message)
    }
}
