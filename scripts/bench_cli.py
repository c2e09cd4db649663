#!/usr/bin/env python3
"""User CPU of the verbs that only read, against `python -c pass`, all in one run: `scripts/bench_cli.py [--json] [--runs N]`.

Each command is run in turn, round after round, so that a slow moment of the machine hits all of them. Exit code 1 if a verb's
median is over the limit (150 ms of user CPU).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

LIMIT = 0.150
LAUNCHER = [sys.executable, "-m", "launcher"]
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "launcher --version": [*LAUNCHER, "--version"],
    "launcher ps --json": [*LAUNCHER, "ps", "--json"],
    "launcher plan --json": [*LAUNCHER, "plan", "--json"],
    "launcher plan openhands-lm-32b --on 2xA100-80GB --json": [
        *(*LAUNCHER, "plan", "openhands-lm-32b", "--on", "2xA100-80GB", "--json"),
    ],
    "launcher gpus --json": [*LAUNCHER, "gpus", "--json"],
    "launcher models --json": [*LAUNCHER, "models", "--json"],
    "launcher engines --json": [*LAUNCHER, "engines", "--json"],
    "launcher wires --json": [*LAUNCHER, "wires", "--json"],
    "launcher explain FILE --json": [*LAUNCHER, "explain", "tests/samples/vllm/compiler-cpp.log", "--json"],
}


def user_seconds(command: list[str]) -> float:
    """User CPU seconds of one run, by the system's own account of the finished process."""
    process = subprocess.Popen(command, cwd=Path(__file__).parent.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return usage.ru_utime


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(options.runs + 1):
        for name, command in COMMANDS.items():
            took = user_seconds(command)
            if number:  # the first round fills the caches
                seconds[name].append(took)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    floor = medians["python -c pass"]
    rows = [
        {"name": name, "user_ms": round(median * 1000, 1), "times_python": round(median / floor, 2), "within": median < LIMIT}
        for name, median in medians.items()
    ]
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            print(
                f"{row['name']:<56} {row['user_ms']:>7} ms  {row['times_python']:>5} x  {'' if row['within'] else 'TOO SLOW'}"
            )
    return 0 if all(row["within"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
