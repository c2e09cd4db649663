#!/usr/bin/env python3
"""Kills the installation of a small environment at random moments; the next run must end whole, and leave nothing beside it.

`scripts/soak_installs.py [--rounds N] [--seed N]`. Each round installs three tiny packages of the index, pinned by
hash, in a home of its own: one to three runs are ended with KILL (or two run at once), then one runs to its end. One line of
JSON a round, a summary last; exit code 1 if an environment was not whole. About 4 s a round on two cores.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uv

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("iniconfig", "six", "idna")
# The share of rounds without a kill.
TWO_AT_ONCE = 0.2
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
NAME = "small-1-cuda"
INSTALL = f"""
import os, sys
from pathlib import Path
from launcher.environments import Build
from launcher.home import Home
from launcher.installing import ensure
from launcher.progress import Silent
home, lock = map(Path, sys.argv[1:])
print(ensure(Home(home), Build("small", "1", "cuda", "any", "{PYTHON}", lock), progress=Silent(), env=os.environ).python)
"""


def locked(folder: Path) -> Path:
    """A lock of the packages as they are today."""
    wanted, lock = folder / "small.in", folder / "small-1-cuda-any.txt"
    wanted.write_text("\n".join(PACKAGES) + "\n")
    words = ("pip", "compile", "--no-config", "--no-build", "--generate-hashes", "--no-header", "--no-annotate", "--quiet")
    subprocess.run([uv.find_uv_bin(), *words, "--python-version", PYTHON, wanted, "-o", lock], cwd=folder, check=True)
    return lock


class Round:
    """One home, and what happens to the installations in it; with a cache of their own they fetch too."""

    def __init__(self, root: Path, lock: Path, *, fetches: bool) -> None:
        self.home = root / "home"
        cache = {"UV_CACHE_DIR": str(root / "cache")} if fetches else {}
        self.env = {**os.environ, "PYTHONPATH": str(ROOT), **cache}
        self.command = [sys.executable, "-c", INSTALL, str(self.home), str(lock)]

    def start(self) -> subprocess.Popen[str]:
        """Begin an installation."""
        return subprocess.Popen(self.command, env=self.env, stdout=subprocess.PIPE, text=True)

    def killed(self, after: float) -> bool:
        """An installation that is ended with KILL; whether it was still at work."""
        with self.start() as run:
            time.sleep(after)
            at_work = run.poll() is None
            run.kill()
        return at_work

    def python(self) -> str:
        """The interpreter that an installation to its end gives."""
        with self.start() as run:
            out, _ = run.communicate(timeout=120)
        return out.strip() if run.returncode == 0 else ""

    def together(self) -> set[str]:
        """What two installations at once give."""
        with self.start() as one, self.start() as other:
            return {each.communicate(timeout=120)[0].strip() for each in (one, other)}

    def faults(self, python: str) -> list[str]:
        """What is wrong with what is there."""
        found = []
        check = f"import {', '.join(PACKAGES)}"
        if not python or subprocess.run([python, "-c", check], check=False).returncode:
            found.append("the environment does not work")
        there = {path.name for path in (self.home / "environments").iterdir()}
        return found + [f"left: {name}" for name in sorted(there - {NAME, f"{NAME}.lock"})]


def one_round(each: Round, chance: random.Random, whole: float) -> dict[str, Any]:
    """Harm, then one run to its end."""
    begun = time.monotonic()
    if chance.random() < TWO_AT_ONCE:
        pythons = each.together()
        told: dict[str, Any] = {"harm": "two at once"}
        python = pythons.pop() if len(pythons) == 1 else ""
    else:
        after = [round(chance.uniform(0.0, whole), 3) for _ in range(chance.randint(1, 3))]
        told = {"harm": "kill", "after": after, "at_work": [each.killed(seconds) for seconds in after]}
        python = each.python()
    return {**told, "faults": each.faults(python), "seconds": round(time.monotonic() - begun, 1)}


def main() -> int:
    """Run the rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    chance = random.Random(options.seed)  # noqa: S311 - a seed that can be run again, not a secret
    root = Path(tempfile.mkdtemp(prefix="soak-installs-"))
    lock = locked(root)
    begun = time.monotonic()
    Round(root / "first", lock, fetches=True).python()
    whole = time.monotonic() - begun
    print(json.dumps({"seed": options.seed, "undisturbed": round(whole, 1)}), flush=True)
    bad = 0
    for number in range(options.rounds):
        place = root / str(number)
        told = one_round(Round(place, lock, fetches=number % 2 == 0), chance, whole)
        bad += bool(told["faults"])
        print(json.dumps({"round": number, **told}), flush=True)
        shutil.rmtree(place, ignore_errors=True)
    print(json.dumps({"rounds": options.rounds, "bad": bad}))
    shutil.rmtree(root, ignore_errors=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
