//! Tests against real peers; `.ci/run` installs them.
