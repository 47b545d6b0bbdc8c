#!/usr/bin/env python3
"""Times whole processes of agent-ops beside the monitoring plugins, turn by turn.

Makes a home with a live agent, measures every command once a round, and prints a Markdown
table. Wants `cargo build --release`, a C compiler and the package monitoring-plugins-basic.
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
PLUGINS = ["check_disk", "check_procs", "check_tcp"]

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
        paths = [pathlib.Path(folder, name) for folder in PLUGIN_FOLDERS]
        found[name] = next((str(path) for path in paths if path.is_file()), shutil.which(name))
        if not found[name]:
            give_up(f"there is no {name}: install the package monitoring-plugins-basic")
    return found


def programs():
    folder = ROOT / "target" / "release"
    missing = [name for name in PROGRAMS if not (folder / name).is_file()]
    if missing:
        give_up(f"there is no {folder / missing[0]}: run `cargo build --release` first")
    return {name: str(folder / name) for name in PROGRAMS}


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
    plugin_sum = lambda names: [sum(middle[name][i] for name in names) for i in (0, 1)] if all(n in middle for n in names) else None
    two, three = plugin_sum(PLUGINS[1:]), plugin_sum(PLUGINS)
    nothing = middle.get("C program that does nothing")

    print("| command | wall ms | CPU ms | peak MB | beside two plugins: wall, CPU | beside the C program |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in samples:
        wall, cpu = middle[name]
        beside = f"{wall / two[0]:.2f}, {cpu / two[1]:.2f}" if two and name in ours else ""
        over = f"{wall - nothing[0]:+.2f} ms" if nothing and name.endswith("--version`") else ""
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {peaks[name]:.1f} | {beside} | {over} |")
    if two:
        print(f"| **check_procs + check_tcp** | **{two[0]:.2f}** | **{two[1]:.2f}** | | | |")
    if three:
        print(f"| check_disk + check_procs + check_tcp | {three[0]:.2f} | {three[1]:.2f} | | | |")


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
            "`health-check`, 7 checks, databases unchanged": (bench["health-check"], [], None),
            "`health-check`, 7 checks, both databases scanned": (bench["health-check"], [], touch),
            "`dashboard web`": (bench["dashboard"], ["web"], None),
            "check_disk": (peers["check_disk"], ["-w", "10%", "-c", "5%", "-p", str(agent)], None),
            "check_procs": (peers["check_procs"], ["-c", "1:", "-C", "ops"], None),
            "check_tcp": (peers["check_tcp"], ["-H", "127.0.0.1", "-p", str(port)], None),
        }
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
