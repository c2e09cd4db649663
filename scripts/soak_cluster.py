#!/usr/bin/env python3
"""Kills parts of a real cluster under clients that ask without pause: `scripts/soak cluster --ray PYTHON [--rounds N]`.

Three nodes of network namespaces (root), a Ray that PYTHON has (`uv pip install -r requirements/ray.txt`), real vLLM for CPUs:
first two replicas, then one server over all nodes. Each round kills one thing (a node, an engine's process, the process that
stands for a server) and waits until all serve again; a killed node returns. Of two replicas no request may fail; of one server
requests wait, and those that it was answering may. One line of JSON a round, and a summary. Exit code 1 if anything was wrong.
"""

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.ports_for_tests import own_port  # noqa: E402 - of this very checkout
from tests.real.conftest import Machine  # noqa: E402
from tests.real.test_cluster import NAME, SESSIONS, Asking, Cluster, awaited, host_of, servers  # noqa: E402

NODES = (1, 2, 3)
KILLED = ("node", "engine", "holder")
# A start on two busy cores takes a minute and a half; five of them and their delays are patience enough (seconds).
PATIENCE = 600.0


@dataclass
class Soak:
    """A launcher and a cluster, and what is done to them."""

    machine: Machine
    cluster: Cluster
    dice: random.Random

    def round(self, kind: str, what: str) -> dict[str, Any]:
        """One kill of KILLED, and how long it took until all served again."""
        before = {key: each["handle"]["server_id"] for key, each in servers(self.machine).items()}
        server = servers(self.machine)[self.dice.choice(sorted(before))]
        kills: dict[str, Callable[[dict[str, Any]], str]] = {"node": self._node, "engine": self._engine, "holder": self._holder}
        begun = time.monotonic()
        killed = kills[what](server)
        awaited(lambda: self._ids() != before and self._all_ready(len(before)), PATIENCE)
        return {"kind": kind, "killed": what, "which": killed, "seconds": round(time.monotonic() - begun, 1)}

    def _ids(self) -> dict[str, str]:
        return {key: (each["handle"] or {}).get("server_id", "") for key, each in servers(self.machine).items()}

    def _all_ready(self, count: int) -> bool:
        states = [each["state"] for each in servers(self.machine).values()]
        return states == ["ready"] * count

    def _node(self, server: dict[str, Any]) -> str:
        lost = next(node for node in NODES if self.cluster.host(node) == host_of(server))
        self.cluster.kill(lost)
        time.sleep(self.dice.uniform(0, 20))
        self.cluster.begin(lost)
        return self.cluster.host(lost)

    def _engine(self, server: dict[str, Any]) -> str:
        sign = f"LAUNCHER_SERVER_ID={server['handle']['server_id']}.".encode()
        pids = [pid for node in NODES for pid in self.cluster.pids(node) if sign in _environment(pid)]
        chosen = self.dice.choice(pids)
        name = Path(f"/proc/{chosen}/comm").read_text().strip()
        os.kill(chosen, signal.SIGKILL)
        return name

    def _holder(self, server: dict[str, Any]) -> str:
        os.kill(server["handle"]["pid"], signal.SIGKILL)
        return str(server["handle"]["pid"])


def main() -> int:
    """Soak it, and say what came of it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ray", type=Path, required=True, metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, help="a LAUNCHER_HOME with an environment and weights, where there is one")
    typed = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder, Cluster(typed.ray, Path(folder)) as cluster:
        root = Path(folder)
        machine = Machine(typed.home or root / "launcher", root / "home", root / "here", programs=typed.ray.parent)
        machine.user_home.mkdir()
        machine.here.mkdir()
        soak = Soak(machine, cluster, random.Random(typed.seed))  # noqa: S311 - a soak's dice, not a secret
        try:
            for kind, words in (("two replicas", ("--replicas", "2")), ("three nodes", ("--nodes", "3"))):
                wrong += _soaked(soak, kind, words, typed.rounds)
                machine.run("down")
        finally:
            machine.run("down")
    return 1 if wrong else 0


def _soaked(soak: Soak, kind: str, words: tuple[str, ...], rounds: int) -> int:
    options = ("--on-cluster", soak.cluster.address, *words, "--context", "4096", "--no-wire", "--no-proof")
    up = soak.machine.json("up", NAME, "--port", str(own_port()), *options)
    with Asking(up["base_url"], Path(up["key_file"]).read_text().strip()) as asking:
        told = []
        for number in range(rounds):
            told.append(soak.round(kind, KILLED[number % len(KILLED)]))
            _tell(told[-1] | {"answers": asking.answers, "faults": len(asking.faults)})
    seconds = [each["seconds"] for each in told]
    _tell({"kind": kind, "rounds": rounds, "answers": asking.answers, "faults": asking.faults[:5], "count": len(asking.faults)})
    _tell({"kind": kind, "median_s": statistics.median(seconds), "most_s": max(seconds)})
    # Of the only server, each kill may cut off what it was answering.
    return len(asking.faults) if kind == "two replicas" else max(0, len(asking.faults) - SESSIONS * rounds)


def _environment(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes()
    return b""


def _tell(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
