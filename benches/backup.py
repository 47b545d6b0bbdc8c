#!/usr/bin/env python3
"""Backup and restore against `tar czf` and `tar xzf` of the same home, in one run.

Needs the built release programs (`cargo build --release`) and python3. Makes a home of 1 GiB
(500 MB of a WAL database with text and embeddings, smaller ones, 300 MB of JSONL, 5,000 small
files; --scale makes it smaller) and prints a table: medians of some rounds, syncs included. With
--image xfs or --image btrfs it works on such a file system in an image of its own (as root, with
xfsprogs or btrfs-progs).
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORDS = (
    "the agent memory heartbeat looked at again because nothing was found in yesterday's notes about "
    "a plan for today while reading mail from somebody who asked whether backups could be trusted and "
    "then answered itself with a list of steps to try before giving up on that idea for good"
).split()
MB = 1_000_000


def text(rng, words):
    return " ".join(rng.choices(WORDS, k=words)) + f" {rng.getrandbits(40):x}"


def database(path, size, rng, embeddings=True):
    """Episodes with a text of some 120 words and an embedding of 384 floats of 32 bits."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode=wal")
    db.execute("PRAGMA synchronous=off")
    db.execute("CREATE TABLE episodes(id INTEGER PRIMARY KEY, at TEXT, kind TEXT, body TEXT, embedding BLOB)")
    db.execute("CREATE INDEX by_kind ON episodes(kind, at)")
    row = 0
    while os.path.getsize(path) < size:
        rows = []
        for _ in range(500):
            row += 1
            # Exponents of a normal distribution, as embeddings have them; the rest is noise.
            embedding = b"".join(
                bytes((rng.getrandbits(8), rng.getrandbits(8), rng.getrandbits(8), rng.choice((60, 61, 188, 189))))
                for _ in range(96)
            ) + rng.randbytes(1152) if embeddings else b""
            rows.append((row, f"2026-11-{row % 28 + 1:02}T09:{row % 60:02}:00Z", rng.choice(WORDS), text(rng, 120), embedding))
        db.executemany("INSERT INTO episodes VALUES(?,?,?,?,?)", rows)
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return db


def lines(path, size, rng, start=0):
    with open(path, "a") as file:
        number = start
        while file.tell() < size:
            number += 1
            entry = {"n": number, "at": 1763600000 + number, "role": rng.choice(("user", "agent")), "text": text(rng, 60)}
            file.write(json.dumps(entry) + "\n")


def make_home(home, scale):
    rng = random.Random(1)
    memory = home / "memory"
    for folder in (memory, home / "notes", home / "config"):
        folder.mkdir(parents=True)
    kept = [database(memory / "agent.db", 500 * MB * scale, rng)]
    for name, size in (("vectors.db", 60), ("mail.db", 30), ("state.db", 5), ("queue.db", 1)):
        kept.append(database(memory / name, size * MB * scale, rng, name == "vectors.db"))
    for name, size in (("journal.jsonl", 200), ("thoughts.jsonl", 70), ("mail.jsonl", 30)):
        lines(memory / name, size * MB * scale, rng)
    for number in range(int(5000 * scale)):
        folder = home / "notes" / f"{number % 50:02}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.md").write_text(text(rng, rng.randint(20, 8000)))
    (home / "config" / "identity_core.json").write_text(json.dumps({"name": "bench", "values": WORDS}))
    (home / "ops.toml").write_text(
        '[agent]\nname = "bench"\npreset = "none"\n[backup]\n'
        'include = ["memory/**", "notes/**", "config/**"]\nkeep = { all = "365d" }\n'
    )
    return kept


def change(home, scale):
    """Changes about 1 %: rows updated here and there, rows and lines added, some notes rewritten."""
    rng = random.Random()
    db = sqlite3.connect(home / "memory" / "agent.db")
    most = db.execute("SELECT max(id) FROM episodes").fetchone()[0]
    # The agent goes over what it lately thought of, and over a few old things.
    first = rng.randrange(1, most - most // 250)
    db.execute("UPDATE episodes SET body = body || ' again' WHERE id BETWEEN ? AND ?", (first, first + most // 250))
    for _ in range(20):
        db.execute("UPDATE episodes SET kind = 'old' WHERE id = ?", (rng.randrange(1, most),))
    for row in range(most // 250):
        db.execute("INSERT INTO episodes VALUES(NULL,'2026-11-20','new',?,?)", (text(rng, 120), rng.randbytes(1536)))
    db.commit()
    db.close()
    path = home / "memory" / "journal.jsonl"
    lines(path, path.stat().st_size + 3 * MB * scale, rng)
    for number in range(0, int(5000 * scale), 100):
        (home / "notes" / f"{number % 50:02}" / f"{number}.md").write_text(text(rng, 2000))


def run(command, **more):
    """Seconds of wall clock, of processor, and the peak of memory in MB."""
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **more)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (command, process.returncode)
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


@contextlib.contextmanager
def image(kind, folder, megabytes):
    """A file system of a kind, in an image in a folder."""
    file, mount = folder / "image", folder / "mount"
    mount.mkdir()
    with open(file, "wb") as made:
        made.truncate(megabytes * 1024 * 1024)
    subprocess.run([f"mkfs.{kind}", "-q", file], check=True)
    subprocess.run(["mount", "-o", "loop", file, mount], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", mount], check=True)


def used(folder):
    """Bytes in use on the file system of a folder."""
    os.sync()
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def settle():
    os.sync()
    time.sleep(0.2)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--scale", type=float, default=1.0)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--programs", type=Path, default=ROOT / "target" / "release")
    arguments.add_argument("--dir", type=Path, help="where to work (default: the temporary folder)")
    arguments.add_argument("--image", choices=("xfs", "btrfs"), help="work on such a file system, in an image")
    options = arguments.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agent-ops-bench-", dir=options.dir)))
        if options.image:
            folder = stack.enter_context(image(options.image, folder, 600 + int(8000 * options.scale)))
        measure(folder, options)


def measure(folder, options):
    home = folder / "home"
    kept = make_home(home, options.scale)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "OPS_HOME": str(home), "TZ": "UTC"}
    program = lambda name, *args: [str(options.programs / name), *args]

    def ours(*args):
        # Files that were written within the last minute are read in any case: for the programs it
        # is some minutes later already.
        later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 300))
        return run(program(*args), env=environment | {"OPS_NOW": later})

    content = sum(path.stat().st_size for path in home.rglob("*") if path.is_file())
    print(f"home: {content / MB:.0f} MB, {sum(path.is_file() for path in home.rglob('*'))} files; load {os.getloadavg()[0]:.1f}", flush=True)
    rows = {}
    add = lambda name, sample: rows.setdefault(name, []).append(sample)
    size = {}
    for number in range(options.rounds):
        for leftover in ("backups", ".ops", "logs"):
            shutil.rmtree(home / leftover, ignore_errors=True)
        tar = folder / "tar.tar.gz"
        tar.unlink(missing_ok=True)
        settle()
        shell = f"tar czf {tar} -C {home} memory notes config && sync {tar}"
        add("tar czf", run(["sh", "-c", shell]))
        size["tar czf"] = tar.stat().st_size
        settle()
        add("first", ours("backup"))
        latest = lambda: (home / "backups" / "latest").resolve()
        size["first"] = latest().stat().st_size
        settle()
        before = used(folder)
        add("unchanged", ours("backup"))
        size["unchanged, new"] = used(folder) - before
        settle()
        add("verify", ours("backup", "verify"))
        settle()
        out = folder / "out"
        out.mkdir()
        add("tar xzf", run(["sh", "-c", f"tar xzf {tar} -C {out} && sync -f {out}"]))
        shutil.rmtree(out)
        settle()
        add("restore", ours("restore", "--to", str(out)))
        shutil.rmtree(out)
        settle()
        add("one", ours("restore", "--only", "config/identity_core.json", "--to", str(out)))
        shutil.rmtree(out)
        change(home, options.scale)
        settle()
        before = used(folder)
        add("changed", ours("backup"))
        size["changed, new"] = used(folder) - before
        size["changed"] = latest().stat().st_size
        print(f"round {number + 1}: load {os.getloadavg()[0]:.1f}", flush=True)
    for db in kept:
        db.close()
    table(rows, size, options.image)


def table(rows, size, shared):
    median = lambda name, what=0: statistics.median(sample[what] for sample in rows[name])
    wanted = [
        ("first", "first backup, verified", "tar czf", 0.25),
        ("unchanged", "unchanged second run, verified", "tar czf", 0.03 if shared else 0.08),
        ("changed", "1 % changed, verified", "tar czf", 0.03 if shared else 0.10),
        ("verify", "verify, every hash and every database", "tar czf", 0.05),
        ("restore", "restore, verified, synced", "tar xzf", 0.50),
    ]
    for name in ("tar czf", "tar xzf"):
        print(f"\n`{name}`: {median(name):.2f} s, {median(name, 1):.2f} of processor")
    print(f"\n| | s | processor s | peak MB | against | ratio | of processor | at most | |")
    print("| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | --- |")
    for name, label, base, most in wanted:
        ratio = median(name) / median(base)
        said = "met" if ratio <= most else f"missed by {ratio - most:.3f}"
        print(f"| {label} | {median(name):.2f} | {median(name, 1):.2f} | {median(name, 2):.0f} | `{base}` | {ratio:.3f} | {median(name, 1) / median(base, 1):.3f} | {most:.2f} | {said} |")
    ratio = size["first"] / size["tar czf"]
    print(f"| size of the first | | | | `tar czf` | {ratio:.4f} | | 1.005 | {'met' if ratio <= 1.005 else 'missed'} |")
    for name in ("unchanged", "changed") if shared else ():
        share = size[f"{name}, new"] / size["changed"]
        print(f"| {name}: new space on {shared} | | | | the archive | {share:.4f} | | 0.03 | {'met' if share < 0.03 else 'missed'} |")
    one = median("one") * 1000
    print(f"| one small file out of it | {one / 1000:.3f} | {median('one', 1):.2f} | {median('one', 2):.0f} | | {one:.0f} ms | | 20 ms | {'met' if one <= 20 else 'missed'} |")
    peak = max(sample[2] for name in rows if not name.startswith("tar") for sample in rows[name])
    print(f"| peak memory of all | | | {peak:.0f} | | | | 64 MB | {'met' if peak <= 64 else 'missed'} |")


if __name__ == "__main__":
    main()
