//! Finds `ops.toml`, reads it over its preset, and resolves every path.

use super::check::{Check, Common, Kind};
use super::expand::{self, Lookup};
use super::resolve::{clean, complete_s3, resolve, tilde, user_home};
use super::validate::validate;
use super::{
    Agent, Alerts, Backup, BuiltinAgent, Config, Dashboard, Logs, Schedule, Service, Upgrade, disabled,
    place, preset::Preset,
};
use crate::base::{Fault, Home};
use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, ValueDeserializer};

/// A config, and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// The agent's home.
    pub home: Home,
}

/// The tables of `ops.toml`. Checks are read one by one: their keys depend on their kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    agent: Agent,
    #[serde(default)]
    service: BTreeMap<String, Service>,
    #[serde(default, rename = "check")]
    _check: IgnoredAny,
    #[serde(default)]
    backup: Backup,
    #[serde(default)]
    logs: Logs,
    #[serde(default)]
    alerts: Alerts,
    #[serde(default)]
    dashboard: Dashboard,
    #[serde(default)]
    schedule: Schedule,
    #[serde(default)]
    upgrade: Upgrade,
    #[serde(default)]
    builtin_agent: BuiltinAgent,
}

/// Where a config is looked for, in order: `--config`, `OPS_CONFIG`, `<home>/ops.toml`,
/// `./ops.toml`, the XDG config folder, `~/.agent-ops/ops.toml`. With a home given
/// (`--home`, `OPS_HOME`) nothing below it is looked at.
///
/// # Errors
/// A [`Fault`] of state Unknown that lists the places, when there is none.
pub fn find(config: Option<&Path>, home: Option<&Path>) -> Result<PathBuf> {
    if let Some(file) = config {
        return Ok(file.to_owned());
    }
    let places: Vec<PathBuf> = match home {
        Some(home) => vec![home.join("ops.toml")],
        None => {
            let user = user_home();
            let xdg = std::env::var_os("XDG_CONFIG_HOME")
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
                .or_else(|| user.as_ref().map(|user| user.join(".config")));
            [
                Some(PathBuf::from("ops.toml")),
                xdg.map(|folder| folder.join("agent-ops/ops.toml")),
                user.map(|user| user.join(".agent-ops/ops.toml")),
            ]
            .into_iter()
            .flatten()
            .collect()
        }
    };
    if let Some(found) = places.iter().find(|place| place.exists()) {
        return Ok(found.clone());
    }
    let looked = places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ");
    Err(Fault::unknown(format!("there is no config: looked for {looked}"))
        .hint("`ops up` makes one and starts the built-in agent; `ops init` only writes it; --config names another")
        .into())
}

/// What cron and managers set themselves, as it is everywhere.
const EVERYWHERE: [&str; 4] = ["HOME", "LOGNAME", "PATH", "USER"];

/// Reads a config over its preset. `home` (from `--home`) replaces the one in the file.
///
/// # Errors
/// A [`Fault`] of state Unknown with file, line and column for whatever is wrong in it.
pub fn load(file: &Path, home: Option<&Path>) -> Result<Loaded> {
    let file = std::path::absolute(file).with_context(|| format!("cannot find {}", file.display()))?;
    let bytes = std::fs::read(&file).map_err(|error| {
        Fault::unknown(format!("cannot read {}: {error}", file.display())).hint("--config names another file")
    })?;
    let source = String::from_utf8(bytes).map_err(|error| {
        Fault::unknown(format!("{}: byte {} is not UTF-8", file.display(), error.utf8_error().valid_up_to()))
    })?;
    parse(&file, &source, home)
}

fn parse(file: &Path, source: &str, home: Option<&Path>) -> Result<Loaded> {
    let wrong = |span: Option<Range<usize>>, message: &str| place::fault(file, source, span, message);
    let mut root = DeTable::parse(source).map_err(|error| wrong(error.span(), error.message()))?;

    // The home and the environment file come first: the rest may use what is in them.
    let environment = |name: &str| std::env::var(name).ok();
    if let Some(agent) = root.get_mut().get_mut("agent")
        && let DeValue::Table(agent) = agent.get_mut()
    {
        expand::table(agent, &environment).map_err(|(span, message)| wrong(Some(span), &message))?;
    }
    let written = |key: &str| {
        root.get_ref()
            .get("agent")
            .and_then(|agent| agent.get_ref().get(key)?.get_ref().as_str())
            .map(str::to_owned)
    };
    let folder = file.parent().unwrap_or(Path::new("/"));
    let home = match home {
        Some(home) => std::path::absolute(home).with_context(|| format!("cannot find {}", home.display()))?,
        None => folder.join(tilde(Path::new(&written("home").unwrap_or_default()))),
    };
    let home = Home::new(clean(&home));
    let variables = match written("env_file") {
        Some(path) => read_env_file(&home.path(tilde(Path::new(&path))))?,
        None => BTreeMap::new(),
    };
    let borrowed = RefCell::new(BTreeSet::new());
    let lookup = |name: &str| match environment(name) {
        Some(value) => {
            if variables.get(name) != Some(&value) && !EVERYWHERE.contains(&name) {
                borrowed.borrow_mut().insert(name.to_owned());
            }
            Some(value)
        }
        None => variables.get(name).cloned(),
    };
    expand::table(root.get_mut(), &lookup as &Lookup<'_>)
        .map_err(|(span, message)| wrong(Some(span), &message))?;

    // Of the file only: what stands in a preset has no place in it.
    let places = table_places(root.get_ref());
    let base = choose_preset(&root, folder, &wrong)?;
    if let Some(base) = &base {
        if base.file.is_some() {
            stands_alone(base, &lookup)?;
        }
        merge(root.get_mut(), base.tables(&lookup)?);
        // Whoever wants copies wants to know when they stop.
        let has_bucket =
            root.get_ref().get("backup").is_some_and(|backup| backup.get_ref().get("s3").is_some());
        if has_bucket && let Ok(check) = DeTable::parse("[check.copy]\nkind = \"copy_age\"\n") {
            merge(root.get_mut(), check.into_inner());
        }
    }

    let check = read_checks(root.get_mut(), &wrong)?;
    let read =
        File::deserialize(Deserializer::from(root)).map_err(|error| wrong(error.span(), error.message()))?;
    let mut config = Config {
        file: file.to_owned(),
        agent: read.agent,
        service: read.service,
        disabled: Vec::new(),
        from_environment: BTreeSet::new(),
        check,
        backup: read.backup,
        logs: read.logs,
        alerts: read.alerts,
        dashboard: read.dashboard,
        schedule: read.schedule,
        upgrade: read.upgrade,
        builtin_agent: read.builtin_agent,
    };
    config.agent.preset = base.as_ref().map_or("none", |preset| &preset.name).to_owned();
    validate(&config).map_err(|(table, message)| wrong(places.get(&table).cloned(), &message))?;
    disabled::drop_disabled(&mut config);
    resolve(&mut config, &home);
    if let Some(s3) = &mut config.backup.s3 {
        complete_s3(s3, &config.agent.name, &lookup);
    }
    config.from_environment = borrowed.take();
    Ok(Loaded { config, home })
}

/// One of our own programs: the file beside the one that runs.
pub fn program(name: &str) -> PathBuf {
    let me = std::env::current_exe().unwrap_or_default();
    me.parent().unwrap_or(Path::new("")).join(name)
}

/// Reads the variables of an environment file.
pub fn read_env_file(path: &Path) -> Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Fault::unknown(format!("cannot read the env_file {}: {error}", path.display())))?;
    expand::env_file(&text)
        .map_err(|(line, message)| Fault::unknown(format!("{}:{line}: {message}", path.display())).into())
}

type WrongAt<'a> = dyn Fn(Option<Range<usize>>, &str) -> Fault + 'a;

fn choose_preset(root: &Spanned<DeTable<'_>>, folder: &Path, wrong: &WrongAt<'_>) -> Result<Option<Preset>> {
    let table = root.get_ref();
    let named = table.get("agent").and_then(|agent| agent.get_ref().get("preset"));
    match named.map(|value| (value.span(), value.get_ref().as_str())) {
        None if table.contains_key("service") => Ok(None),
        None => Preset::find("builtin", folder),
        Some((_, Some("none"))) => Ok(None),
        Some((span, Some(name))) => match Preset::find(name, folder) {
            Ok(None) => {
                let known: Vec<_> = Preset::all().map(|preset| preset.name).collect();
                let known = known.join(", ");
                Err(wrong(Some(span), &format!("there is no preset '{name}'"))
                    .hint(format!("presets: {known}, none, or a path to one that ends in .toml"))
                    .into())
            }
            found => found.map_err(|error| wrong(Some(span), &format!("{error:#}")).into()),
        },
        // A value of the wrong type is reported when the table is read.
        Some((_, None)) => Ok(None),
    }
}

/// Reads a preset of the user's own by itself: in the merged tables an error of it would point into
/// another file.
fn stands_alone(preset: &Preset, lookup: &Lookup<'_>) -> Result<()> {
    let mut root = Spanned::new(0..0, preset.tables(lookup)?);
    let wrong = |span: Option<Range<usize>>, message: &str| preset.wrong(span, message);
    if let Some((key, _)) = root.get_ref().get_key_value("agent") {
        return Err(wrong(Some(key.span()), "[agent] is for ops.toml: a preset has none").into());
    }
    read_checks(root.get_mut(), &wrong)?;
    File::deserialize(Deserializer::from(root)).map_err(|error| wrong(error.span(), error.message()))?;
    Ok(())
}

/// Adds to a table what only the preset has, key by key.
fn merge<'i>(into: &mut DeTable<'i>, from: DeTable<'i>) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (None, value) => {
                into.insert(key, value);
            }
            (Some(mine), value) => {
                if let (DeValue::Table(mine), DeValue::Table(theirs)) = (mine.get_mut(), value.into_inner()) {
                    merge(mine, theirs);
                }
            }
        }
    }
}

/// Where each `[table]` and `[table.NAME]` stands, for errors about what it means.
fn table_places(root: &DeTable<'_>) -> HashMap<String, Range<usize>> {
    let mut places = HashMap::new();
    for (name, value) in root {
        places.insert(name.get_ref().to_string(), name.span());
        if let DeValue::Table(inner) = value.get_ref() {
            for (key, _) in inner {
                places.insert(format!("{}.{}", name.get_ref(), key.get_ref()), key.span());
            }
        }
    }
    places
}

fn read_checks(root: &mut DeTable<'_>, wrong: &WrongAt<'_>) -> Result<BTreeMap<String, Check>> {
    let mut checks = BTreeMap::new();
    let Some(DeValue::Table(tables)) = root.get_mut("check").map(Spanned::get_mut) else { return Ok(checks) };
    for (name, value) in std::mem::take(tables) {
        let span = value.span();
        let DeValue::Table(mut table) = value.into_inner() else {
            return Err(wrong(Some(span), &format!("check.{} is not a table", name.get_ref())).into());
        };
        let Some(kind) = table.remove("kind") else {
            return Err(wrong(Some(name.span()), &format!("the check '{}' has no kind", name.get_ref()))
                .hint(format!("kinds: {}", super::check::KINDS.join(", ")))
                .into());
        };
        let kind_span = kind.span();
        let Some(kind) = kind.get_ref().as_str().map(str::to_owned) else {
            return Err(wrong(Some(kind_span), "kind is not a string").into());
        };
        let mut common = DeTable::new();
        for key in Common::KEYS {
            if let Some((key, value)) = table.remove_entry(key) {
                common.insert(key, value);
            }
        }
        let place = |error: toml::de::Error| wrong(error.span().or(Some(kind_span.clone())), error.message());
        let common =
            Common::deserialize(Deserializer::from(Spanned::new(span.clone(), common))).map_err(place)?;
        let rest = ValueDeserializer::from(Spanned::new(span, DeValue::Table(table)));
        let kind = Kind::read(&kind, rest).map_err(place)?;
        checks.insert(name.get_ref().to_string(), Check { kind, common });
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: &str) -> Result<Loaded> {
        parse(Path::new("/srv/bot/ops.toml"), source, None)
    }

    fn error(source: &str) -> (String, String) {
        let error = read(source).unwrap_err();
        let hint = Fault::of(&error).1.unwrap_or_default().to_owned();
        assert_eq!(Fault::of(&error).0, crate::base::State::Unknown);
        (error.to_string(), hint)
    }

    #[test]
    fn an_empty_file_is_the_built_in_agent_beside_it() {
        let loaded = read("").unwrap();
        assert_eq!(loaded.home.root(), Path::new("/srv/bot"));
        assert_eq!(loaded.config.agent.preset, "builtin");
        let daemon = &loaded.config.service["daemon"];
        assert_eq!(daemon.status_file.as_deref(), Some(Path::new("/srv/bot/logs/daemon_status.json")));
        assert_eq!(daemon.ready, "status");
        assert!(loaded.config.check.len() >= 7);
        assert_eq!(loaded.config.backup.include, ["memory/**", "config/**"]);
    }

    #[test]
    fn every_preset_stands_alone() {
        for preset in Preset::all() {
            read(&format!("[agent]\npreset = \"{}\"\n", preset.name)).unwrap();
        }
    }

    #[test]
    fn a_file_adds_to_its_preset_key_by_key() {
        let loaded = read("[check.disk]\nwarn = \"50GB\"\n[check.log_size]\nenabled = false\n").unwrap();
        let Kind::Disk(disk) = &loaded.config.check["disk"].kind else { panic!("disk is a disk check") };
        assert_eq!(disk.warn.0.limit(), 50e9);
        assert_eq!(disk.crit.0.limit(), 2e9);
        assert!(!loaded.config.check["log_size"].common.enabled);
    }

    #[test]
    fn a_config_with_services_has_no_preset() {
        let loaded =
            read("[service.bot]\ncommand = [\"./bot\"]\n[service.web]\ncommand = [\"./web\"]\n").unwrap();
        assert_eq!(loaded.config.service.len(), 2);
        assert!(loaded.config.check.is_empty());
    }

    #[test]
    fn errors_point_at_the_place() {
        let (message, hint) = error("[alerts]\ncoldown = \"30m\"\n");
        assert_eq!(message, "/srv/bot/ops.toml:2:1: unknown key 'coldown'");
        assert_eq!(hint, "did you mean 'cooldown'?");

        let (message, _) = error("[alerts]\ncooldown = 30\n");
        assert!(message.starts_with("/srv/bot/ops.toml:2:12: "), "{message}");

        let (message, _) = error("[alerts]\n  cooldown = \"soon\"\n");
        assert!(message.starts_with("/srv/bot/ops.toml:2:14: ") && message.contains("like 30s"), "{message}");

        let (message, _) = error("[check.disk]\n\nwarm = \"5GB\"\n");
        assert_eq!(message, "/srv/bot/ops.toml:3:1: unknown key 'warm'");

        let (message, hint) = error("[check.x]\nkind = \"heartbeet\"\n");
        assert_eq!(message, "/srv/bot/ops.toml:2:8: unknown value 'heartbeet'");
        assert_eq!(hint, "did you mean 'heartbeat'?");

        let (message, _) = error("[check.x]\nwarn = 1\n");
        assert!(message.starts_with("/srv/bot/ops.toml:1:8: the check 'x' has no kind"), "{message}");

        let (message, _) = error("[backup]\ndir = \"${NO_SUCH_VARIABLE_HERE}\"\n");
        assert!(
            message.starts_with("/srv/bot/ops.toml:2:7: ") && message.contains("NO_SUCH_VARIABLE_HERE"),
            "{message}"
        );

        let (message, _) = error("[service.a]\ncommand = []\n");
        assert!(message.starts_with("/srv/bot/ops.toml:1:10: "), "{message}");

        let (message, _) = error("[service.\"../x\"]\ncommand = [\"x\"]\n");
        assert!(message.contains("may only hold"), "{message}");

        let (message, _) = error("[check.\"a b\"]\nkind = \"disk\"\n");
        assert!(message.starts_with("/srv/bot/ops.toml:1:8: the name 'a b'"), "{message}");

        let (message, hint) = error("[agnet]\n");
        assert_eq!(message, "/srv/bot/ops.toml:1:2: unknown key 'agnet'");
        assert_eq!(hint, "did you mean 'agent'?");

        let (message, _) = error("[agent\n");
        assert!(message.starts_with("/srv/bot/ops.toml:1:"), "{message}");

        let (message, _) = error("[check.h]\nkind = \"heartbeat\"\nservice = \"deamon\"\n");
        assert!(message.contains("did you mean 'daemon'?"), "{message}");
    }

    #[test]
    fn a_bucket_needs_little_and_is_checked() {
        let s3 = |more: &str| {
            read(&format!(
                "[agent]\nname = \"bot\"\n[backup.s3]\nendpoint = \"https://s3.example\"\nbucket = \"b\"\n{more}"
            ))
        };
        let keys = "access_key = \"AKIA\"\nsecret_key = \"file:.s3\"\n";
        let loaded = s3(keys).unwrap();
        let found = loaded.config.backup.s3.clone().unwrap();
        assert_eq!((found.prefix.as_deref(), found.region.as_str()), (Some("bot/"), "us-east-1"));
        assert!(found.path_style && found.keep.is_none());
        // The check of it comes along, and can be set or turned off like one of the preset.
        assert!(matches!(&loaded.config.check["copy"].kind, Kind::CopyAge(_)));
        let off = s3("[check.copy]\nenabled = false\nwarn = \"2d\"\n").unwrap();
        assert!(!off.config.check["copy"].common.enabled);
        assert!(!read("").unwrap().config.check.contains_key("copy"));
        assert!(error("[check.c]\nkind = \"copy_age\"\n").0.contains("there is no [backup.s3]"));
        let shown = toml::to_string(&loaded.config).unwrap();
        assert!(shown.contains("file:/srv/bot/.s3") && !shown.contains("AKIA"), "{shown}");
        for wrong in [
            "access_key = \"AKIA\"",
            "prefix = \"a/../b/\"",
            "prefix = \"/a\"",
            "keys = 1",
            "endpoint = \"ftp://x\"",
        ] {
            let error = s3(wrong).unwrap_err().to_string();
            assert!(error.contains("ops.toml"), "{wrong}: {error}");
        }
    }

    #[test]
    fn keys_of_encryption_are_paths_and_public_keys() {
        let backup = |more: &str| read(&format!("[backup]\n{more}\n"));
        let found = backup("encrypt_to = \"age1xyz\"\nidentity = \"~/key\"").unwrap().config.backup;
        assert_eq!(found.encrypt_to, ["age1xyz"]);
        assert!(found.identity.unwrap().is_absolute());
        let found = backup("encrypt_to = [\"file:keys/all\", \"ssh-ed25519 AAAA me\"]").unwrap();
        assert_eq!(found.config.backup.encrypt_to, ["file:/srv/bot/keys/all", "ssh-ed25519 AAAA me"]);
        assert_eq!(found.config.backup.age_program, Path::new("age"));
        let relative = backup("age_program = \"tools/rage\"").unwrap().config.backup.age_program;
        assert_eq!(relative, Path::new("/srv/bot/tools/rage"));
        for wrong in [
            "encrypt_to = [\"AGE-SECRET-KEY-1QQQ\"]",
            "encrypt_to = \"age-secret-key-1QQQ\"",
            "encrypt_to = { key = \"AGE-SECRET-KEY-1QQQ\" }",
            "encrypt_to = [[\"AGE-SECRET-KEY-1QQQ\"]]",
            "encrypt_to = [\"--identity=QQQ\"]",
            "identity = \"AGE-SECRET-KEY-1QQQ\"",
        ] {
            let (message, hint) = error(&format!("[backup]\n{wrong}\n"));
            assert!(!message.contains("QQQ") && !hint.contains("QQQ"), "{message} {hint}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let loaded = read("[alerts.webhook]\nurl = \"https://hooks.example/T0P53CR3T\"\n").unwrap();
        let shown = toml::to_string(&loaded.config).unwrap();
        assert!(!shown.contains("T0P53CR3T"), "{shown}");
        assert!(!format!("{:?}", loaded.config).contains("T0P53CR3T"));
    }
}
