//! Checks that read a value: from a JSON document, a database, a Prometheus endpoint; or ask a
//! program.

use super::rules::{self, Place, Words, judged};
use super::written::HttpUrl;
use crate::base::State;
use crate::base::secret::Secret;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

judged! {
    /// `kind = "json"`
    pub struct Json {
        /// The file, relative to the home.
        #[serde(serialize_with = "crate::base::name::path::serialize")]
        pub file: PathBuf,
        /// Where in it the value is; all of it unless said otherwise.
        #[serde(default)]
        pub value: Place,
        /// The file has a document a line: an array of its last so many lines, the newest first.
        #[serde(default)]
        pub lines: usize,
        /// Judged is how many elements the array or object there has.
        #[serde(default)]
        pub count: bool,
        /// Counted are only the elements whose member is one of these words.
        #[serde(default, rename = "where")]
        pub only: BTreeMap<String, Words>,
        /// The state when the file is not there.
        #[serde(default = "rules::critical")]
        pub missing: State,
    }
}

judged! {
    /// `kind = "sql"`
    pub struct Sql {
        /// The SQLite database, relative to the home.
        #[serde(serialize_with = "crate::base::name::path::serialize")]
        pub database: PathBuf,
        /// One SELECT that gives one value.
        pub query: String,
        /// Judged is how many rows it gives.
        #[serde(default)]
        pub rows: bool,
        /// The state when the database is not there.
        #[serde(default = "rules::critical")]
        pub missing: State,
        /// The state when a table or column of the query is not there.
        #[serde(default = "rules::unknown")]
        pub missing_table: State,
    }
}

judged! {
    /// `kind = "metric"`
    pub struct Metric {
        /// Where the metrics are: an address …
        #[serde(default)]
        pub url: Option<HttpUrl>,
        /// … or a file, relative to the home.
        #[serde(default, serialize_with = "crate::base::name::maybe_path::serialize")]
        pub file: Option<PathBuf>,
        /// Headers to send.
        #[serde(default)]
        pub headers: BTreeMap<String, Secret>,
        /// A PEM file of authorities to trust instead of the public ones.
        #[serde(default, serialize_with = "crate::base::name::maybe_path::serialize")]
        pub ca_file: Option<PathBuf>,
        /// The metric's name.
        pub metric: String,
        /// Labels that a series must have.
        #[serde(default)]
        pub labels: BTreeMap<String, String>,
        /// What becomes of several series.
        #[serde(default)]
        pub aggregate: Option<Aggregate>,
        /// The state when there is no file, or nothing answers.
        #[serde(default = "rules::unknown")]
        pub missing: State,
    }
}

/// What becomes of several series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Aggregate {
    /// All together.
    Sum,
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// The mean.
    Avg,
    /// How many there are.
    Count,
}

/// `kind = "command"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The plugin and its arguments. No shell is asked.
    pub command: Vec<String>,
    /// Environment to set.
    #[serde(default)]
    pub env: BTreeMap<String, Secret>,
}

/// `kind = "systemd_units"`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SystemdUnits {
    /// Units that must be active.
    #[serde(default)]
    pub units: Vec<String>,
    /// Those of the user's own manager.
    #[serde(default)]
    pub user: bool,
    /// Whether any other unit that failed counts too.
    #[serde(default)]
    pub failed: bool,
}
