#!/usr/bin/env python3
"""Starts the embedded model on the real engine, does it harm at a random moment, and checks that nothing is left behind.

`scripts/soak [--rounds N] [--seed N] [--home DIR]`. Each round: `launcher up`, a harm, `launcher down`; then no process may
show the server's id, its session or its environment, and the port must be free. One line of JSON a round, a summary last;
exit code 1 if anything was left. About 50 s a round on two cores.
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


class Round:
    """One start and what is done to it."""

    def __init__(self, home: Path, chance: random.Random) -> None:
        self.env = {**os.environ, "LAUNCHER_HOME": str(home), "PYTHONPATH": str(ROOT)}
        self.home = home
        self.chance = chance

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
    os.kill(each.handle()["pid"], signal.SIGKILL)
    return {}


def kill_any(each: Round) -> dict[str, Any]:
    """End one of the server's processes, whichever."""
    leader = each.handle()["pid"]
    members = [int(path.name) for path in Path("/proc").glob("[0-9]*") if _session(int(path.name)) == leader]
    victim = each.chance.choice(members)
    os.kill(victim, signal.SIGKILL)
    return {"killed": "leader" if victim == leader else "child"}


def restart(each: Round) -> dict[str, Any]:
    """Kill it and start it again over its orphans."""
    kill_leader(each)
    each.up()
    return {}


def interrupt_up(each: Round) -> dict[str, Any]:
    """^C `launcher up` at a random moment of its start."""
    return _end_up(each, signal.SIGINT)


def kill_up(each: Round) -> dict[str, Any]:
    """End `launcher up` with KILL at a random moment of its start: it cannot clean up."""
    return _end_up(each, signal.SIGKILL)


ON_A_MODEL: tuple[Callable[[Round], dict[str, Any]], ...] = (nothing, kill_leader, kill_any, restart)
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


def left_over(handles: list[dict[str, Any]]) -> list[str]:
    """Processes that show a sign of any of these servers."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environ, maps, name = (path / "environ").read_bytes(), (path / "maps").read_text(), (path / "comm").read_text()
        except OSError:
            continue
        session = _session(int(path.name))
        if any(
            each["server_id"].encode() in environ or session == each["pid"] or each["environment"] in maps for each in handles
        ):
            found.append(f"{path.name} {name.strip()}")
    return sorted(found)


def one_round(each: Round) -> dict[str, Any]:
    """Start, harm, stop, look."""
    begun = time.monotonic()
    harm = each.chance.choice([*ON_A_MODEL, *ON_A_START])
    handles = []
    if harm in ON_A_MODEL:
        each.up()
        handles.append(each.handle())
    told = harm(each)
    record = each.home / "state" / "seen" / "smollm2-135m.json"
    handles += [handle] if record.exists() and (handle := each.handle()) else []
    each.launcher("down", "--json")
    port = int(each.row().get("base_url", "http://127.0.0.1:0/v1").split(":")[2].split("/")[0])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
    return {"harm": harm.__name__, **told, "left": left_over(handles), "seconds": round(time.monotonic() - begun, 1)}


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
    bad = [each for each in rounds if each["left"]]
    print(json.dumps({"rounds": len(rounds), "bad": len(bad)}))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
