#!/usr/bin/env python3
"""Rotation beside logrotate with gzip and with pigz, and the cut of a large active log.

Needs the built release program (`cargo build --release --bin rotate-logs`), logrotate, pigz and
python3. Makes 1,000 logs of 1 GB together (--scale makes it less) with lines as agents write them, anew
for each program and round from a copy; then a log of 1 GB and one of 10 MB that a writer holds open.
Prints tables: medians of some rounds.
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(os.environ.get("PROGRAM", ROOT / "target/release/rotate-logs"))
WORDS = (
    "heartbeat mail memory model request answer token retry timeout connection queue worker plan "
    "consolidated looked found nothing again because session tool call failed finished started"
).split()
# What the five agents of the presets write: a message, and how often it comes.
MESSAGES = (
    ("heartbeat {n} done in {ms} ms, next in 300 s", 20),
    ("model answered: {model}, {k} tokens in, {n} tokens out, {ms} ms", 16),
    ("tool call {tool} id={id} session={session}", 14),
    ("tool {tool} finished with {n} bytes in {ms} ms", 14),
    ("consolidated {n} episodes into {few} memories", 4),
    ("checkpoint of memory/agent.db: {k} pages in {ms} ms", 4),
    ("queue: {few} waiting, {few} at work, {n} done since start", 8),
    ("GET /api/status 200 {k} bytes {ms} ms 127.0.0.1:{port}", 10),
    ("message from {person}: {words}", 6),
    ("sent to {person} by {channel}, {n} characters: {words}", 6),
    ("job {id} of run {run} began", 5),
    ("job {id} of run {run} ended: ok, {ms} ms", 5),
    ("Warning: the provider answered 429, attempt {few} of 5, again in {few} s", 3),
    ("ERROR in cycle {n}: connection to 127.0.0.1:{port} refused (os error 111)", 2),
    ("read {path} ({k} bytes), changed {few} lines", 6),
)
TOOLS = "shell.run files.read files.write web.fetch memory.search memory.store mail.send calendar.list".split()
MODULES = "sandbox scheduler memory agent api gateway provider channel".split()
MB = 1_000_000


def message(rng, text):
    return text.format(
        n=rng.randrange(2000), k=rng.randrange(200_000), few=rng.randrange(1, 9), ms=f"{rng.expovariate(1 / 400):.1f}",
        port=rng.randrange(32_768, 61_000), id=f"{rng.getrandbits(48):012x}", run=f"{rng.getrandbits(128):032x}",
        session=f"{rng.randrange(40):04x}", model=rng.choice(("opus-4", "sonnet-4", "local-8b")),
        tool=rng.choice(TOOLS), person=rng.choice(("ada", "grace", "linus", "operator")),
        channel=rng.choice(("mail", "telegram", "web")), path=f"work/{rng.choice(WORDS)}/{rng.choice(WORDS)}_{rng.randrange(60)}.md",
        words=" ".join(rng.choices(WORDS, k=rng.randint(4, 18))),
    )


def agents(size, rng):
    """A log as one of the five agents writes it: its stamp, and messages that come again with other values."""
    style, second = rng.randrange(5), rng.randrange(1 << 20)
    texts, weights = zip(*MESSAGES)
    parts, length = [], 0
    while length < size:
        second += rng.expovariate(1 / 4)
        at = time.gmtime(1_763_000_000 + second)
        clock, micros = time.strftime("%Y-%m-%dT%H:%M:%S", at), int(second % 1 * 1_000_000)
        text, level = message(rng, rng.choices(texts, weights)[0]), rng.choices(("INFO", "DEBUG", "WARN"), (80, 15, 5))[0]
        line = (
            f'{{"timestamp":"{clock}.{micros // 1000:03}Z","level":"{level.lower()}","module":"{rng.choice(MODULES)}","message":"{text}"}}',
            f"{clock.replace('T', ' ')},{micros // 1000:03} [{level}] {text}",
            f"[{clock.replace('T', ' ')}] [DAEMON] {text}",
            f"{time.strftime('%Y/%m/%d %H:%M:%S', at)} {level} {text}",
            f"[{clock}.{micros:06}+00:00] {text}",
        )[style] + "\n"
        parts.append(line)
        length += len(line)
    return "".join(parts)[:int(size) - 1] + "\n"


def words(size, rng):
    """Words at random, which no log has: chains of matches without end, and no message comes again."""
    parts, length, second = [], 0, rng.randrange(1 << 20)
    while length < size:
        second += rng.randrange(1, 9)
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(1_763_000_000 + second))
        level = rng.choices(("INFO", "DEBUG", "WARN", "ERROR"), (70, 20, 7, 3))[0]
        text = " ".join(rng.choices(WORDS, k=rng.randint(4, 18)))
        parts.append(f"[{clock}] [{level}] {rng.choice(WORDS)}: {text} id={rng.getrandbits(48):012x} took {rng.random() * 900:.1f} ms\n")
        length += len(parts[-1])
    return "".join(parts)[:int(size) - 1] + "\n"


TEXTS = {"agents": agents, "words": words}


def measure(command, **more):
    """Seconds of wall clock and of processor."""
    os.sync()
    begun = time.monotonic()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, **more)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (command, process.returncode)
    return wall, usage.ru_utime + usage.ru_stime


def fill(folder, source):
    """The logs, three days old, in the page cache as after a day of writing."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    for log in folder.iterdir():
        os.utime(log, (time.time() - 3 * 86400,) * 2)


def packed(folder):
    names = [log for log in folder.iterdir() if log.suffix == ".gz"]
    return len(names), sum(log.stat().st_size for log in names)


def compress(work, source, rounds, count):
    home, logs = work / "home", work / "home/logs"
    home.mkdir()
    (home / "ops.toml").write_text('[agent]\nname = "bench"\npreset = "none"\n[logs]\ndelete_after = "3650d"\n')
    rotating = f"{logs}/*.log {{\n rotate 5\n compress\n missingok\n nocreate\n %s}}\n"
    peers = {"logrotate, gzip": "", "logrotate, pigz": " compresscmd /usr/bin/pigz\n uncompresscmd /usr/bin/unpigz\n"}
    variants = {"rotate-logs": [PROGRAM, "-q", "--home", home]}
    for name, more in peers.items():
        file = work / f"{name.split()[1]}.conf"
        file.write_text(rotating % more)
        file.chmod(0o644)
        variants[name] = ["logrotate", "-f", "-s", work / "state", file]
    found = {name: [] for name in variants}
    for _ in range(rounds):
        for name, command in variants.items():
            fill(logs, source)
            wall, cpu = measure(command)
            number, size = packed(logs)
            assert number == count, (name, number)
            found[name].append((wall, cpu, size))
    middle = {name: [statistics.median(column) for column in zip(*runs)] for name, runs in found.items()}
    base = middle["logrotate, gzip"]
    print("| | wall s | processor s | bytes MB | wall, beside logrotate with gzip | processor | size |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, (wall, cpu, size) in middle.items():
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {size / MB:.2f} | {wall / base[0]:.3f} | {cpu / base[1]:.3f} | {size / base[2]:.3f} |")
    ours = middle["rotate-logs"]
    print(f"\nat least 3 times as fast: {base[0] / ours[0]:.2f} times; not larger: {ours[2] / base[2]:.3f}")
    # An idle run looks at what it left.
    fill(logs, source)
    measure(variants["rotate-logs"])
    idle = [measure(variants["rotate-logs"]) for _ in range(9)]
    print(f"nothing to do, {count} compressed logs: {statistics.median(i[0] for i in idle) * 1000:.1f} ms, "
          f"{statistics.median(i[1] for i in idle) * 1000:.1f} ms of processor\n")
    shutil.rmtree(home)


def grow(log, text, size, cached):
    """A log of a size; in the page cache, or not any more, as most of one that grew for weeks."""
    with open(log, "w") as file:
        for _ in range(max(1, size // MB)):
            file.write(text)
        file.flush()
        os.fsync(file.fileno())
        if not cached:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cut(work, scale, rounds):
    home = work / "home"
    (home / "logs").mkdir(parents=True)
    (home / "ops.toml").write_text(
        '[agent]\nname = "bench"\npreset = "none"\n[logs]\nmax_size = "1MB"\nkeep_lines = 1000\n'
    )
    text = agents(1 * MB, random.Random(2))
    print("| active log | in the page cache | wall ms | processor ms | emptied by `truncate`: wall ms | processor ms |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    log = home / "logs/active.log"
    for size in (10 * MB, int(1000 * MB * scale)):
        for cached in (False, True):
            runs, peers = [], []
            for _ in range(rounds):
                grow(log, text, size, cached)
                with open(log, "a") as writer:
                    runs.append(measure([PROGRAM, "-q", "--home", home], stderr=subprocess.DEVNULL))
                    writer.write("after\n")
                with open(log) as file:
                    kept = file.readlines()
                assert 1001 <= len(kept) < 1200 and kept[-1] == "after\n", len(kept)
                log.unlink()
                # What it takes the kernel to free as much.
                grow(log, text, size, cached)
                peers.append(measure(["truncate", "-s", "0", log]))
                log.unlink()
            columns = [*zip(*runs), *zip(*peers)]
            figures = " | ".join(f"{statistics.median(column) * 1000:.1f}" for column in columns)
            print(f"| {size / MB:.0f} MB | {'all of it' if cached else 'none of it'} | {figures} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("compress", "cut"))
    parser.add_argument("--text", choices=TEXTS, default="agents", help="what is in the logs (default: agents)")
    parser.add_argument("--dir", help="where to work (default: a temporary folder)")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="agent-ops-logs-", dir=options.dir))
    try:
        if options.only != "cut":
            source, rng, count = work / "source", random.Random(1), 1000
            source.mkdir()
            for number in range(count):
                (source / f"agent{number:03}_20251101.log").write_text(TEXTS[options.text](MB * options.scale, rng))
            compress(work, source, options.rounds, count)
            shutil.rmtree(source)
        if options.only != "compress":
            cut(work, options.scale, options.rounds)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
