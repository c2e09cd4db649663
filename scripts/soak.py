#!/usr/bin/env python3
"""Starts the embedded model on the real engine, does it harm at a random moment, and checks that nothing is left behind.

`scripts/soak [--rounds N] [--seed N] [--home DIR]`. Each round: `launcher up`, a harm, `launcher down`. What was killed must
answer again by itself at the same address before that, or be ended in the midst of it; then no process may show the server's
id, its session or its environment, none may be `launcher serve` of that home, and the port must be free. One line of JSON a
round, a summary last; exit code 1 if anything was wrong. About 50 s a round on two cores. `scripts/soak stub` does it with an
engine that takes no time (soak_stub.py).
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LAUNCHER = [sys.executable, "-m", "launcher"]
LONGEST_START = 40.0
# So long may an engine take to be back, and this share of the kills is not waited for: `down` comes in the midst.
PATIENCE, HASTY = 180.0, 0.3


class Round:
    """One start and what is done to it."""

    def __init__(self, home: Path, chance: random.Random) -> None:
        self.env = {**os.environ, "LAUNCHER_HOME": str(home), "PYTHONPATH": str(ROOT)}
        self.home = home
        self.chance = chance
        self.faults: list[str] = []

    def launcher(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end."""
        return subprocess.run([*LAUNCHER, *words], env=self.env, capture_output=True, text=True, check=False)

    def row(self) -> dict[str, Any]:
        """What `ps` says of the model; empty before its first start."""
        rows = json.loads(self.launcher("ps", "--json").stdout)
        return rows[0] if rows else {}

    def handle(self) -> dict[str, Any]:
        """How the record finds the server."""
        content = json.loads((self.home / "state" / "seen" / "smollm2-135m.json").read_text())
        return content["handle"] or {}

    def up(self) -> None:
        """Start it and wait for the proof."""
        done = self.launcher("up", "--no-wire", "--json")
        if done.returncode:
            message = f"up: {done.stdout} {done.stderr}"
            raise RuntimeError(message)


def nothing(_: Round) -> dict[str, Any]:
    """Leave the model in peace: a plain up and down."""
    return {}


def kill_leader(each: Round) -> dict[str, Any]:
    """End the API server with KILL: engine core and worker live on."""
    before = each.handle()
    os.kill(before["pid"], signal.SIGKILL)
    return back(each, before)


def kill_any(each: Round) -> dict[str, Any]:
    """End one of the server's processes, whichever."""
    before = each.handle()
    leader = before["pid"]
    members = [int(path.name) for path in Path("/proc").glob("[0-9]*") if _session(int(path.name)) == leader]
    victim = each.chance.choice(members)
    os.kill(victim, signal.SIGKILL)
    return {"killed": "leader" if victim == leader else "child", **back(each, before)}


def kill_serve(each: Round) -> dict[str, Any]:
    """End `launcher serve` with KILL: the model goes on, and the next one finds it as it is."""
    before = each.handle()
    os.kill(serving(each)["pid"], signal.SIGKILL)
    each.up()
    if each.handle() != before:
        each.faults.append("the engine was started anew")
    return {}


def kill_both(each: Round) -> dict[str, Any]:
    """End `launcher serve` and the API server at once: the next one brings the model back."""
    before = each.handle()
    os.kill(serving(each)["pid"], signal.SIGKILL)
    os.kill(before["pid"], signal.SIGKILL)
    each.up()
    return {}


def restart(each: Round) -> dict[str, Any]:
    """Kill it, and ask for it while its supervisor brings it back."""
    os.kill(each.handle()["pid"], signal.SIGKILL)
    time.sleep(each.chance.uniform(0.0, 10.0))
    each.up()
    return {}


def back(each: Round, before: dict[str, Any]) -> dict[str, Any]:
    """Wait until the model is served again, by other processes at the same address, or not at all."""
    if each.chance.random() < HASTY:
        return {"waited": False}
    begun = time.monotonic()
    address = each.row()["base_url"]
    while (row := each.row())["state"] != "ready" or each.handle() == before:
        if time.monotonic() - begun > PATIENCE:
            each.faults.append(f"it does not come back: {row['state']} {row['detail']}")
            return {"waited": True}
        time.sleep(0.2)
    if row["base_url"] != address:
        each.faults.append(f"it moved from {address} to {row['base_url']}")
    each.up()
    return {"again": round(time.monotonic() - begun, 1)}


def serving(each: Round) -> dict[str, Any]:
    """The background process as its lock tells of it; empty if there is none."""
    text = (each.home / "serve.lock").read_text()
    return json.loads(text) if text else {}


def interrupt_up(each: Round) -> dict[str, Any]:
    """^C `launcher up` at a random moment of its start."""
    return _end_up(each, signal.SIGINT)


def kill_up(each: Round) -> dict[str, Any]:
    """End `launcher up` with KILL at a random moment of its start: it cannot clean up."""
    return _end_up(each, signal.SIGKILL)


ON_A_MODEL: tuple[Callable[[Round], dict[str, Any]], ...] = (
    nothing,
    kill_leader,
    kill_any,
    kill_serve,
    kill_both,
    restart,
)
ON_A_START: tuple[Callable[[Round], dict[str, Any]], ...] = (interrupt_up, kill_up)


def _end_up(each: Round, number: int) -> dict[str, Any]:
    with subprocess.Popen(
        [*LAUNCHER, "up", "--no-wire"], env=each.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as up:
        after = each.chance.uniform(0.1, LONGEST_START)
        time.sleep(after)
        up.send_signal(number)
        code = up.wait(120)
    return {"after": round(after, 1), "code": code}


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


def left_over(home: Path, handles: list[dict[str, Any]]) -> list[str]:
    """Processes that show a sign of any of these servers, and every `launcher serve` of this home."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environ, words = (path / "environ").read_bytes(), (path / "cmdline").read_bytes()
            maps, name = (path / "maps").read_text(), (path / "comm").read_text()
        except OSError:
            continue
        session = _session(int(path.name))
        # Engines inherit no such variable.
        supervises = f"LAUNCHER_HOME={home}\0".encode() in environ and b"launcher\0serve\0" in words
        if supervises or any(
            each["server_id"].encode() in environ or session == (each["pid"] or -1) or each["environment"] in maps
            for each in handles
        ):
            found.append(f"{path.name} {name.strip()}")
    return sorted(found)


def one_round(each: Round) -> dict[str, Any]:
    """Start, harm, stop, look."""
    begun = time.monotonic()
    harm = each.chance.choice([*ON_A_MODEL, *ON_A_START])
    handles = []
    told: dict[str, Any] = {}
    try:
        if harm in ON_A_MODEL:
            each.up()
            handles.append(each.handle())
        told = harm(each)
    except RuntimeError as fault:
        each.faults.append(str(fault))
    record = each.home / "state" / "seen" / "smollm2-135m.json"
    handles += [handle] if record.exists() and (handle := each.handle()) else []
    each.launcher("down", "--json")
    port = int(each.row().get("base_url", "http://127.0.0.1:0/v1").split(":")[2].split("/")[0])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            each.faults.append(f"port {port} is lost")
    each.faults += [f"left: {name}" for name in left_over(each.home, handles)]
    return {"harm": harm.__name__, **told, "faults": each.faults, "seconds": round(time.monotonic() - begun, 1)}


def main() -> int:
    """Run the rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--home", type=Path, default=None, help="a LAUNCHER_HOME to use again (default: a new one)")
    options = parser.parse_args()
    home = options.home or Path(tempfile.mkdtemp(prefix="soak-"))
    print(json.dumps({"seed": options.seed, "home": str(home)}), flush=True)
    chance = random.Random(options.seed)  # noqa: S311 - a seed that can be run again, not a secret
    rounds = []
    for number in range(options.rounds):
        rounds.append(one_round(Round(home, chance)))
        print(json.dumps({"round": number, **rounds[-1]}), flush=True)
    bad = [each for each in rounds if each["faults"]]
    print(json.dumps({"rounds": len(rounds), "bad": len(bad)}))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
