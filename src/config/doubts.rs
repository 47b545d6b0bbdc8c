//! What a config says that can be done, and is hardly meant: no reason to watch nothing.

use super::{Config, when};
use crate::base::units::Size;

const NO_LINES: &str = "nothing is left of a log that is cut; to keep some of it, at least 1";
const NO_SIZE: &str = "every log is too large, and cut each time; to leave logs alone, name them in exclude";
const NO_ROOM: &str = "no closed log stays; to keep few, set keep in a rule";

/// The least that all logs together may take.
const LEAST: Size = Size(1000);

impl Config {
    /// All of it, a line each, that begins with the key.
    pub fn doubts(&self) -> Vec<String> {
        let logs = &self.logs;
        let mut doubts = self.jobs_that_never_run();
        doubts.extend(of_sizes("logs", Some(logs.keep_lines), Some(logs.max_size)));
        if logs.max_total < LEAST {
            doubts.push(format!("logs.max_total is less than 1KB: {NO_ROOM}"));
        }
        for (name, rule) in &logs.rule {
            doubts.extend(of_sizes(&format!("logs.rule.{name}"), rule.keep_lines, rule.max_size));
        }
        doubts
    }

    /// The jobs whose time never comes, and is not empty, likewise.
    pub fn jobs_that_never_run(&self) -> Vec<String> {
        let never = |(_, time): &(&str, &str)| !time.is_empty() && when::parse(time) == Ok(None);
        let told = |(key, time)| {
            format!(
                "schedule.{key} = \"{time}\": there is no such day in any year, so it never runs; \"\" says so"
            )
        };
        self.schedule.times().into_iter().filter(never).map(told).collect()
    }
}

fn of_sizes(table: &str, keep_lines: Option<usize>, max_size: Option<Size>) -> Vec<String> {
    let lines = (keep_lines == Some(0)).then(|| format!("{table}.keep_lines = 0: {NO_LINES}"));
    let size = (max_size == Some(Size(0))).then(|| format!("{table}.max_size is 0: {NO_SIZE}"));
    lines.into_iter().chain(size).collect()
}
