#!/usr/bin/env python3
"""Times whole processes of agent-ops beside the monitoring plugins, turn by turn.

Makes a home with a live agent, measures every command once a round, and prints a Markdown
table. Wants `cargo build --release --bins --examples`, a C compiler and the packages
monitoring-plugins-basic and monitoring-plugins-standard.
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAMS = ["health-check", "alert", "backup", "restore", "rotate-logs", "dashboard", "ops"]
PLUGIN_FOLDERS = ["/usr/lib/nagios/plugins", "/usr/lib/monitoring-plugins", "/usr/libexec/monitoring-plugins"]
# A plugin for each of our seven checks; none looks into a database, so the one that does nothing
# stands for it.
PLUGINS = {
    "check_disk": lambda home, port: ["-w", "10%", "-c", "5%", "-p", home],
    "check_procs": lambda home, port: ["-c", "1:", "-C", "ops"],
    "check_tcp": lambda home, port: ["-H", "127.0.0.1", "-p", str(port)],
    "check_file_age": lambda home, port: ["-w", "7200", "-c", "14400", "-f", f"{home}/logs/daemon_status.json"],
    "check_file_age ": lambda home, port: ["-w", "999999999", "-c", "999999999", "-W", "0", "-C", "0", "-f", f"{home}/logs/worker_0.log"],
    "check_log": lambda home, port: ["-F", f"{home}/logs/worker_0.log", "-O", f"{home}/../seen", "-q", "ERROR"],
    "check_dummy": lambda home, port: ["0"],
}
TWO = ["check_procs", "check_tcp"]
RUST_NOTHING, BARE_SCAN = "Rust program that does nothing", "bare `quick_check` of both databases"
UNCHANGED = "`health-check`, 7 checks, databases unchanged"
SCANNED = "`health-check`, 7 checks, both databases scanned"
ALERT = "`alert`, nothing wrong"
MANY = {20: "`health-check`, 20 checks", 200: "`health-check`, 200 checks"}

NOTHING = "int main(void) { return 0; }\n"

# The one who measures is small: what a process had in memory before exec counts as its peak.
RUNNER = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
extern char **environ;
static long us(struct timeval t) { return t.tv_sec * 1000000L + t.tv_usec; }
int main(int argc, char **argv) {
    struct timespec a, b;
    struct rusage used;
    posix_spawn_file_actions_t files;
    pid_t pid;
    int status;
    (void)argc;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    clock_gettime(CLOCK_MONOTONIC, &a);
    if (posix_spawn(&pid, argv[1], &files, NULL, argv + 1, environ)) return 1;
    wait4(pid, &status, 0, &used);
    clock_gettime(CLOCK_MONOTONIC, &b);
    long wall = (b.tv_sec - a.tv_sec) * 1000000L + (b.tv_nsec - a.tv_nsec) / 1000;
    long peak = used.ru_maxrss; /* KiB, but bytes on macOS */
#ifdef __APPLE__
    peak /= 1024;
#endif
    printf("%ld %ld %ld %d\n", wall, us(used.ru_utime) + us(used.ru_stime), peak,
           WIFEXITED(status) ? WEXITSTATUS(status) : 255);
    return 0;
}
"""

CONFIG = """\
[agent]
name = "bench"
preset = "builtin"

# Exactly seven checks: process, heartbeat, memory, disk, log_size, log_errors, port.
[check.memory]
paths = ["memory/recall.db", "memory/knowledge.db"]

[check.disk]
warn = "1MB"
crit = "1KB"

[check.log_errors]
paths = ["logs/worker_*.log"]

[check.drill]
enabled = false

[check.backup]
enabled = false

[check.schedule]
enabled = false

[check.restarts]
enabled = false

[check.port]
kind = "tcp"
address = "127.0.0.1:{port}"

[alerts.desktop]
enabled = false
"""


def give_up(why):
    sys.exit(f"compare.py: {why}")


def plugins():
    """The paths of the plugins, or the end."""
    found = {}
    for name in PLUGINS:
        paths = [pathlib.Path(folder, name.strip()) for folder in PLUGIN_FOLDERS]
        found[name] = next((str(path) for path in paths if path.is_file()), shutil.which(name.strip()))
        if not found[name]:
            give_up(f"there is no {name}: install monitoring-plugins-basic and monitoring-plugins-standard")
    return found


def programs():
    folder = ROOT / "target" / "release"
    missing = [name for name in PROGRAMS if not (folder / name).is_file()]
    if missing:
        give_up(f"there is no {folder / missing[0]}: run `cargo build --release` first")
    found = {name: str(folder / name) for name in PROGRAMS}
    for example in ["nothing", "quick_check"]:
        path = folder / "examples" / example
        if not path.is_file():
            give_up(f"there is no {path}: run `cargo build --release --examples` first")
        found[f"example {example}"] = str(path)
    return found


def compile_c(folder, name, source):
    compiler = shutil.which("cc") or give_up("there is no C compiler: install the package gcc")
    path = folder / name
    (folder / f"{name}.c").write_text(source)
    done = subprocess.run([compiler, "-O2", "-o", path, folder / f"{name}.c"], capture_output=True, text=True)
    if done.returncode:
        give_up(f"cannot compile {name}.c: {done.stderr.strip()}")
    return str(path)


def database(path):
    """A database of about 2.5 MB, with an index."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes(id INTEGER PRIMARY KEY, at TEXT, text TEXT)")
    rows = ((f"2026-01-01T00:00:{i % 60:02}", f"note {i} " + "of something worth keeping " * 6) for i in range(10_500))
    connection.executemany("INSERT INTO notes(at, text) VALUES(?, ?)", rows)
    connection.execute("CREATE INDEX notes_at ON notes(at)")
    connection.commit()
    connection.close()


def home(folder, port):
    for sub in ["memory", "logs"]:
        (folder / sub).mkdir(parents=True)
    (folder / "ops.toml").write_text(CONFIG.format(port=port))
    databases = [folder / "memory" / name for name in ["recall.db", "knowledge.db"]]
    for path in databases:
        database(path)
    line = "2026-01-01 00:00:00 INFO worker did a piece of work and all was well\n"
    for number in range(5):
        (folder / "logs" / f"worker_{number}.log").write_text(line * (2_000_000 // len(line)))
    return databases


def many(folder, number, port):
    """A home of so many checks, of five kinds in turn."""
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "worker.log").write_text("all was well\n" * 10_000)
    kinds = [
        'kind = "file_age"\npaths = ["logs/worker.log"]\nwarn = "900d"\ncrit = "999d"',
        'kind = "disk"\nwarn = "1B"\ncrit = "1B"',
        f'kind = "tcp"\naddress = "127.0.0.1:{port}"',
        'kind = "log_errors"\npaths = ["logs/worker.log"]',
        'kind = "permissions"\npaths = ["logs/*.log"]\nmode = "0777"',
    ]
    checks = [f"[check.c{i:03}]\n{kinds[i % len(kinds)]}\n" for i in range(number)]
    (folder / "ops.toml").write_text('[service.bot]\ncommand = ["bot"]\n' + "".join(checks))


def listen():
    """A port that accepts and closes."""
    server = socket.create_server(("127.0.0.1", 0), backlog=128)

    def serve():
        while True:
            server.accept()[0].close()

    threading.Thread(target=serve, daemon=True).start()
    return server.getsockname()[1]


def scanned(bench, expected):
    """Makes sure that the variants are what they say: so many databases are scanned."""
    said = subprocess.run([bench["health-check"], "--json"], env=bench["env"], capture_output=True, text=True)
    report = json.loads(said.stdout)
    if len(report["findings"]) != 7 or said.returncode != 0:
        give_up(f"the home is not right: {said.returncode}, {said.stdout}{said.stderr}")
    memory = next(finding for finding in report["findings"] if finding["check"] == "memory")
    got = next(metric["value"] for metric in memory["metrics"] if metric["label"].endswith("scanned"))
    if got != expected:
        give_up(f"{got} databases were scanned, not {expected}")


def measure(bench, command):
    done = subprocess.run([bench["runner"], *command], env=bench["env"], capture_output=True, text=True)
    if done.returncode:
        give_up(f"cannot run {command[0]}")
    wall, cpu, peak, code = map(int, done.stdout.split())
    return wall / 1000, cpu / 1000, peak / 1024, code


def table(samples, ours):
    middle = {name: [statistics.median(run[i] for run in runs) for i in (0, 1)] for name, runs in samples.items()}
    peaks = {name: max(run[2] for run in runs) for name, runs in samples.items()}
    both = lambda names: [sum(middle[name][i] for name in names) for i in (0, 1)] if all(n in middle for n in names) else None
    two, seven = both(TWO), both(PLUGINS)
    nothing = middle.get("C program that does nothing")

    print("| command | wall ms | CPU ms | peak MB | beside two plugins: wall, CPU | beside the C program |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in samples:
        wall, cpu = middle[name]
        beside = f"{wall / two[0]:.2f}, {cpu / two[1]:.2f}" if two and name in ours else ""
        over = f"{wall - nothing[0]:+.2f} ms" if nothing and name.endswith("--version`") else ""
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {peaks[name]:.1f} | {beside} | {over} |")
    if two:
        print(f"| **{' + '.join(TWO)}** | **{two[0]:.2f}** | **{two[1]:.2f}** | | | |")
    if seven:
        print(f"| **all seven plugins** | **{seven[0]:.2f}** | **{seven[1]:.2f}** | | | |")
    targets(middle, peaks, seven)


def targets(middle, peaks, seven):
    """The ratios that are to be kept, by processor time."""
    cpu = lambda name: middle[name][1]
    rows = []

    def row(what, names, ratio, most):
        if all(name in middle for name in names):
            got = ratio()
            rows.append(f"| {what} | {got:.3f} | {most:.3f} | {'met' if got <= most else f'missed by {got - most:.3f}'} |")

    if seven:
        row("health-check, unchanged, of seven plugins", [UNCHANGED], lambda: cpu(UNCHANGED) / seven[1], 1 / 15)
    row("health-check, unchanged, of a Rust no-op", [UNCHANGED, RUST_NOTHING], lambda: cpu(UNCHANGED) / cpu(RUST_NOTHING), 4)
    row("health-check, unchanged, peak in MB", [UNCHANGED], lambda: peaks[UNCHANGED], 4)
    row("health-check, scanned, of a bare quick_check", [SCANNED, BARE_SCAN], lambda: cpu(SCANNED) / cpu(BARE_SCAN), 1.1)
    row("alert, nothing wrong, of a Rust no-op", [ALERT, RUST_NOTHING], lambda: cpu(ALERT) / cpu(RUST_NOTHING), 6)
    row("200 checks, of 20", list(MANY.values()), lambda: cpu(MANY[200]) / cpu(MANY[20]), 10)
    if rows:
        print("\n| processor time | ratio | at most | |\n| --- | ---: | ---: | --- |")
        print("\n".join(rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=40, metavar="N", help="rounds (default 40)")
    parser.add_argument("--only", default="", metavar="NAME", help="only the rows whose name holds this")
    args = parser.parse_args()
    if args.runs < 1:
        parser.error("--runs: at least 1")
    peers, bench = plugins(), programs()

    with tempfile.TemporaryDirectory(prefix="agent-ops-bench-") as name:
        folder = pathlib.Path(name)
        nothing = compile_c(folder, "nothing", NOTHING)
        bench["runner"] = compile_c(folder, "runner", RUNNER)
        agent, port = folder / "home", listen()
        databases = home(agent, port)
        bench["env"] = {"PATH": "/usr/bin:/bin", "HOME": name, "TZ": "UTC", "OPS_HOME": str(agent)}

        def touch():
            for path in databases:
                os.utime(path)

        rows = {
            "C program that does nothing": (nothing, [], None),
            RUST_NOTHING: (bench["example nothing"], [], None),
            UNCHANGED: (bench["health-check"], [], None),
            SCANNED: (bench["health-check"], [], touch),
            BARE_SCAN: (bench["example quick_check"], [str(path) for path in databases], None),
            ALERT: (bench["alert"], [], None),
            "`dashboard web`": (bench["dashboard"], ["web"], None),
        }
        for number, row in MANY.items():
            many(folder / str(number), number, port)
            rows[row] = (bench["health-check"], ["--home", str(folder / str(number))], None)
        rows |= {name: (peers[name], options(str(agent), port), None) for name, options in PLUGINS.items()}
        ours = [name for name in rows if name.startswith("`")]
        rows |= {f"`{name} --version`": (bench[name], ["--version"], None) for name in PROGRAMS}
        rows = {name: row for name, row in rows.items() if args.only in name}
        if not rows:
            give_up(f"no row has '{args.only}' in its name")

        up = subprocess.run([bench["ops"], "up"], env=bench["env"], capture_output=True, text=True)
        try:
            if up.returncode:
                give_up(f"the agent does not come up: {up.stdout}{up.stderr}")
            scanned(bench, 0)
            touch()
            scanned(bench, 2)
            samples = {name: [] for name in rows}
            # The first round warms the caches and does not count.
            for turn in range(args.runs + 1):
                for name, (program, options, before) in rows.items():
                    if before:
                        before()
                    sample = measure(bench, [program, *options])
                    # How full the disk is says nothing about how fast check_disk is.
                    if sample[3] != 0 and not (name == "check_disk" and sample[3] < 3):
                        give_up(f"{name} ended with {sample[3]}")
                    if turn > 0:
                        samples[name].append(sample)
        finally:
            subprocess.run([bench["ops"], "stop", "--force"], env=bench["env"], capture_output=True)
        print(f"Median of {args.runs} rounds, peak the largest.\n")
        table(samples, ours)


if __name__ == "__main__":
    main()
