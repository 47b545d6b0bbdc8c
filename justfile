# The common chores. `just` alone lists them.

default:
    @just --list

# The quick checks, before a commit
check:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    cargo test

# Everything, as it is done before a change lands
ci:
    .ci/run

# Type-check for macOS
macos:
    .ci/check-macos

# The tests against real peers (installs them first with `just peers`)
real *ARGS:
    cargo test --test real -- --test-threads 1 {{ARGS}}

# Install the real peers on Debian or Ubuntu
peers:
    sudo apt-get install -y --no-install-recommends $(grep -v '^#' tests/real/packages)

# Compare with the monitoring plugins, table on stdout
bench:
    cargo build --release
    benches/compare.py

# Fuzz one target for ten minutes (needs nightly and cargo-fuzz): reader, manifest, state, env_file, status_file, s3_list
fuzz TARGET="reader" SECONDS="600":
    cargo +nightly fuzz run {{TARGET}} -- -max_total_time={{SECONDS}} -rss_limit_mb=1024 -max_len=65536
