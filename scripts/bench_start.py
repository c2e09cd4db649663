#!/usr/bin/env python3
"""How long a start takes, against the same engine started by hand: `scripts/bench_start.py [--engine E] [--rounds N]`.

In one run, round after round, all with SmolLM2 and from exec to the first right completion; `up` therefore without the question
that comes after it, whether the model calls tools (`--no-proof`):

  by hand            the engine's own command, everything installed
  up, no spare       `launcher up --no-spare`, everything installed
  up, with a spare   the same after the engine was killed, a spare waiting
  first up           `launcher up` with an empty LAUNCHER_HOME (packages come from uv's cache)
  its parts          installing and byte-compiling, fetching and converting, and a start by hand, one after the other

Exit code 1 if a ratio of medians is over its goal. LAUNCHER_HOMEs are made in a temporary folder and removed.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from launcher import background, catalogue, environments, host, installing, ports, preparing, probe, store, weights
from launcher.endpoint import Endpoint, base_url
from launcher.engines.base import Site
from launcher.engines.registry import ENGINES
from launcher.home import Home
from launcher.plan import Plan
from launcher.planner import plan as planned
from launcher.progress import Silent
from launcher.runners import local, spares

MODEL = "smollm2-135m"
KEY = "sk-bench"
SECONDS = 600.0
SPARE_SECONDS = 30.0
# Ratio -> (what, against what, the most that it may be).
GOALS = {
    "up without a spare": ("up, no spare", "by hand", 1.03),
    "up with a spare": ("up, with a spare", "by hand", 0.75),
    "first up": ("first up", "its parts", 0.80),
}


@dataclass(frozen=True)
class Bench:
    """One engine in one LAUNCHER_HOME."""

    home: Home
    engine: str
    port: int

    @property
    def plan(self) -> Plan:
        env = dict(os.environ)
        profile = catalogue.load([catalogue.shipped()], MODEL)
        made = planned(profile, host.inventory(env), {self.engine: ENGINES[self.engine]})
        if not isinstance(made, Plan):
            sys.exit(f"{MODEL} cannot run here on {self.engine}")
        return made

    def launcher(self, *words: str) -> float:
        """Seconds of a verb of the launcher, which must succeed."""
        begun = time.monotonic()
        command = [sys.executable, "-m", "launcher", *words, "--json"]
        env = {**os.environ, "LAUNCHER_HOME": str(self.home.root), "PYTHONPATH": str(Path(__file__).parents[1])}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"launcher {' '.join(words)} failed:\n{done.stderr}")
        return time.monotonic() - begun

    def up(self, *words: str) -> float:
        return self.launcher("up", MODEL, "--engine", self.engine, "--port", str(self.port), "--no-wire", "--no-proof", *words)

    def by_hand(self) -> float:
        """The engine's own command, as `launcher plan` shows it."""
        plan = self.plan
        there = preparing.expect(self.home, os.environ, ENGINES, plan)
        engine = ENGINES[self.engine]
        site = Site(python=there.python, weights=there.weights, host=ports.LOOPBACK, port=self.port, api_key=KEY)
        command = engine.command(plan, site).keeping(engine.CACHES, there.caches)
        endpoint = Endpoint(MODEL, base_url(ports.LOOPBACK, self.port), KEY, plan.context)
        begun = time.monotonic()
        handle = local.start(command, log=self.home.logs / "by-hand.log", server_id="bench", environment=there.environment)
        try:
            while not probe.healthy(endpoint.base_url, engine.READY_PATH):
                if time.monotonic() - begun > SECONDS or not local.alive(handle):
                    sys.exit(f"the engine did not start: {self.home.logs / 'by-hand.log'}")
                time.sleep(0.05)
            probe.prove(endpoint)
            return time.monotonic() - begun
        finally:
            local.stop(handle, grace=15)

    def kill(self) -> None:
        """End the engine with nobody there to start it again, and wait until the spare has done its imports."""
        deadline = time.monotonic() + SPARE_SECONDS
        while (spare := spares.kept(self.home)) is None or not spare.handle.pid:
            if time.monotonic() > deadline:
                sys.exit("no spare was kept: is there too little memory?")
            time.sleep(0.1)
        if holder := background.at_work(self.home):
            background.hand_over(self.home, holder)
        (server,) = [each for each in store.seen(self.home) if each.handle]
        if server.handle:
            local.stop(server.handle, grace=0)
        before = -1.0
        while (now := sum(_cpu_seconds(pid) for pid in local.processes(spare.handle))) != before:
            before = now
            time.sleep(2.0)

    def parts(self) -> float:
        """Everything that a first `up` does, one after the other."""
        env, plan = dict(os.environ), self.plan
        begun = time.monotonic()
        build = environments.build_for(ENGINES[self.engine], plan.build)
        there = installing.ensure(self.home, build, progress=Silent(), env=env)
        installing.compile_all(there, progress=Silent(), env=env)
        name = f"{plan.profile.name}-{plan.variant.name}"
        source = plan.variant.weights
        weights.fetch(self.home, name, source, environment_python=lambda: there.python, progress=Silent(), env=env)
        seconds = time.monotonic() - begun
        for folder in (self.home.caches, self.home.caches / there.name, self.home.logs):
            folder.mkdir(exist_ok=True)
        return seconds + self.by_hand()


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return float(fields[11]) + float(fields[12])


@contextmanager
def fresh(engine: str) -> Iterator[Bench]:
    """An empty LAUNCHER_HOME, from which nothing runs any more in the end."""
    with tempfile.TemporaryDirectory(prefix="bench-start-") as folder:
        bench = Bench(Home(Path(folder)).make(), engine, ports.free(20_000))
        try:
            yield bench
        finally:
            bench.launcher("down")


def measure(engine: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each kind of start, by its name."""
    seconds: dict[str, list[float]] = {
        name: [] for name in ("by hand", "up, no spare", "up, with a spare", "first up", "its parts")
    }

    def note(name: str, took: float) -> None:
        seconds[name].append(took)
        print(f"{name:<18} {took:6.1f} s", file=sys.stderr, flush=True)

    for _ in range(rounds):
        with fresh(engine) as bench:
            note("its parts", bench.parts())
            note("by hand", bench.by_hand())
            note("up, no spare", bench.up("--no-spare"))
            bench.launcher("down")
            bench.up()
            bench.kill()
            note("up, with a spare", bench.up("--no-spare"))
        with fresh(engine) as bench:
            note("first up", bench.up("--no-spare"))
    return seconds


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=sorted(ENGINES), default="vllm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    seconds = measure(options.engine, options.rounds)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {name: medians[what] / medians[against] for name, (what, against, _) in GOALS.items()}
    machine = {"cpu": host.cpu().name, "cores": os.cpu_count(), "arch": platform.machine(), "python": platform.python_version()}
    if options.json:
        print(json.dumps({"engine": options.engine, "machine": machine, "seconds": seconds, "ratios": ratios}, indent=2))
    else:
        for name, values in seconds.items():
            print(f"{name:<18} {medians[name]:6.1f} s   ({', '.join(f'{value:.1f}' for value in values)})")
        for name, ratio in ratios.items():
            _, against, goal = GOALS[name]
            print(f"{name:<18} {ratio:6.2f} of {against}{'' if ratio <= goal else f', over the goal of {goal}'}")
    return int(any(ratios[name] > goal for name, (_, _, goal) in GOALS.items()))


if __name__ == "__main__":
    sys.exit(main())
