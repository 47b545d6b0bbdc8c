#!/usr/bin/env python3
"""Memory and processor time of `ops run` beside supervisord and pm2, each with one `sleep` to look after.

Prints a Markdown table. Wants `cargo build --release --bins`, Linux, and node with npm; supervisord and
pm2 are installed into a temporary folder by their own package managers, and go with it.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIELDS = ["Rss", "Pss", "Private_Clean", "Private_Dirty", "Anonymous"]


def memory(pid):
    """KiB by field, of the process alone: `sleep` is not counted."""
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}
    return {field: found[field] for field in FIELDS}


def cpu(pid):
    """Seconds of processor time so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(what, holds, seconds=60):
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            sys.exit(f"waited in vain until {what}")
        time.sleep(0.1)


def children(pid):
    text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def sleeps(pid):
    def word(child):
        return pathlib.Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0]

    try:
        return any(word(child).endswith(b"sleep") for child in children(pid))
    except FileNotFoundError:
        return False


def ops(folder, words):
    home = folder / ("home-schedule" if words else "home")
    home.mkdir()
    # No job is due meanwhile.
    (home / "ops.toml").write_text(
        '[agent]\npreset = "none"\n[service.one]\ncommand = ["sleep", "100000"]\n'
        '[schedule]\nalert = "0 0 1 1 *"\nrotate_logs = "0 0 1 1 *"\nbackup = "0 0 1 1 *"\n'
        'drill = "0 0 1 1 *"\ndashboard = "0 0 1 1 *"\n'
    )
    program = ROOT / "target/release/ops"
    child = subprocess.Popen([program, "run", "--quiet", "--home", home, *words])
    name = " ".join(["ops run", *words])
    return f"`{name}`", child.pid, lambda: (child.send_signal(signal.SIGTERM), child.wait())


def supervisord(folder):
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv/bin/python"
    # Old releases of supervisor want pkg_resources.
    subprocess.run([python, "-m", "pip", "install", "-q", "supervisor", "setuptools<81"], check=True)
    config = folder / "supervisord.conf"
    config.write_text(
        f"[supervisord]\nnodaemon=true\nlogfile={folder}/supervisord.log\npidfile={folder}/supervisord.pid\n"
        f"childlogdir={folder}\n[program:one]\ncommand=sleep 100000\n"
    )
    child = subprocess.Popen(
        [folder / "venv/bin/supervisord", "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    version = subprocess.check_output([folder / "venv/bin/supervisord", "--version"], text=True).strip()
    return f"supervisord {version}", child.pid, lambda: (child.send_signal(signal.SIGTERM), child.wait())


def pm2(folder):
    subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder / "npm", "pm2"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    program = folder / "npm/node_modules/.bin/pm2"
    environment = {**os.environ, "PM2_HOME": str(folder / "pm2")}

    def run(*words):
        subprocess.run([program, *words], check=True, env=environment, stdout=subprocess.DEVNULL)

    run("start", shutil.which("sleep"), "--name", "one", "--interpreter", "none", "--", "100000")
    pid = int((folder / "pm2/pm2.pid").read_text())
    version = json.loads((folder / "npm/node_modules/pm2/package.json").read_text())["version"]
    return f"pm2 {version}", pid, lambda: run("kill")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=30, help="how long each is watched (default 30)")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="agent-ops-bench-") as name:
        folder = pathlib.Path(name)
        begun = []
        try:
            begun.append(ops(folder, []))
            begun.append(ops(folder, ["--schedule"]))
            begun.append(supervisord(folder))
            begun.append(pm2(folder))
            for what, pid, _ in begun:
                wait_for(f"{what} has its sleep", lambda pid=pid: sleeps(pid))
            time.sleep(5)
            before = [cpu(pid) for _, pid, _ in begun]
            time.sleep(seconds)
            rows = [memory(pid) for _, pid, _ in begun]
            used = [(cpu(pid) - start) / seconds * 1000 for (_, pid, _), start in zip(begun, before)]
        finally:
            for _, _, end in begun:
                end()
    base = next(row for (what, _, _), row in zip(begun, rows) if what.startswith("supervisord"))
    print("| | RSS MB | of supervisord | PSS MB | private MB | anonymous MB | CPU ms/s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for (what, _, _), row, time_used in zip(begun, rows, used):
        private = row["Private_Clean"] + row["Private_Dirty"]
        figures = [row["Pss"], private, row["Anonymous"]]
        cells = " | ".join(f"{figure / 1024:.2f}" for figure in figures)
        share = row["Rss"] / base["Rss"]
        print(f"| {what} | {row['Rss'] / 1024:.2f} | {share:.3f} | {cells} | {time_used:.2f} |")


if __name__ == "__main__":
    main()
