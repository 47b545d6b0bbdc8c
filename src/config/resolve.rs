//! From what the file says to what is meant: paths under the home, secrets from the environment.

use super::expand::Lookup;
use super::{Config, S3, includes};
use crate::base::Home;
use crate::base::secret::Secret;
use glob::Pattern;
use std::path::{Path, PathBuf};

/// Fills in what `[backup.s3]` takes from the agent's name and the environment. A key in the file
/// goes without a token of the environment, which belongs to another key.
pub(super) fn complete_s3(s3: &mut S3, agent: &str, lookup: &Lookup<'_>) {
    s3.prefix.get_or_insert_with(|| format!("{agent}/"));
    if s3.access_key.is_none() {
        let secret = |name| lookup(name).filter(|value| !value.is_empty()).map(Secret::new);
        s3.access_key = secret("AWS_ACCESS_KEY_ID");
        s3.secret_key = secret("AWS_SECRET_ACCESS_KEY");
        s3.session_token = s3.session_token.take().or_else(|| secret("AWS_SESSION_TOKEN"));
    }
}

/// Streams that rotation archives are state: they are in the backup, with what left them.
pub(super) fn add_streams(config: &mut Config) {
    let streams = config.logs.rule.values().filter(|rule| rule.archive).flat_map(|rule| &rule.paths);
    let mut more: Vec<String> = streams.filter(|path| Path::new(path).is_relative()).cloned().collect();
    if config.logs.rule.values().any(|rule| rule.archive) {
        more.push("archive/**".to_owned());
    }
    let backup = &mut config.backup;
    backup.streams.clone_from(&more);
    let covers = |known: &String, path: &str| Pattern::new(known).is_ok_and(|known| known.matches(path));
    more.retain(|path| !backup.include.iter().any(|known| covers(known, path)));
    // Before the first line is written there is none.
    backup.optional.extend(more.iter().cloned());
    backup.include.extend(more);
}

/// Makes every path absolute, under the home.
pub(super) fn resolve(config: &mut Config, home: &Home) {
    let fix = |path: &mut PathBuf| *path = clean(&home.path(tilde(path)));
    config.agent.home = home.root().to_owned();
    config.agent.env_file.iter_mut().for_each(fix);
    fix(&mut config.backup.dir);
    let backup = &mut config.backup;
    for globs in [&mut backup.include, &mut backup.optional, &mut backup.exclude, &mut backup.queues] {
        globs.iter_mut().for_each(|glob| *glob = includes::resolve(glob, home.root()));
    }
    config.logs.dir.iter_mut().for_each(fix);
    config.backup.identity.iter_mut().for_each(fix);
    // A bare name is looked for on PATH.
    if config.backup.age_program.components().count() > 1 {
        fix(&mut config.backup.age_program);
    }
    for recipient in &mut config.backup.encrypt_to {
        if let Some(path) = recipient.strip_prefix("file:") {
            *recipient = format!("file:{}", clean(&home.path(tilde(Path::new(path)))).display());
        }
    }
    if let Some(s3) = &mut config.backup.s3 {
        s3.ca_file.iter_mut().for_each(fix);
        s3.secrets().into_iter().for_each(|secret| secret.anchor(home));
    }
    for service in config.service.values_mut() {
        fix(&mut service.cwd);
        service.pid_file.iter_mut().for_each(fix);
        service.status_file.iter_mut().for_each(fix);
        if service.ready.is_empty() {
            service.ready = if service.status_file.is_some() { "status" } else { "alive" }.to_owned();
        }
    }
    for check in config.check.values_mut() {
        check.kind.paths().into_iter().for_each(fix);
        check.kind.secrets().into_iter().for_each(|secret| secret.anchor(home));
    }
    config.alerts.resolve(home, fix);
}

pub(super) fn user_home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// `~` and `~/…` are the user's home folder.
pub(super) fn tilde(path: &Path) -> PathBuf {
    let of_user = |rest| Some(user_home()?.join(rest));
    path.strip_prefix("~").ok().and_then(of_user).unwrap_or_else(|| path.to_owned())
}

/// Without `.` and trailing slashes; `..` stays, it may cross a symlink.
pub(super) fn clean(path: &Path) -> PathBuf {
    path.components().collect()
}
