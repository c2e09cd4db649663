#!/usr/bin/env python3
"""How long the gateway keeps others waiting while an engine starts: `scripts/bench_gateway_start.py HOME MODEL [--json]`.

HOME is a LAUNCHER_HOME in which MODEL was served before (its environment and weights are there) and nothing runs. A real
`launcher serve` there has one route more, to an engine in C that answers at once (scripts/bench_gateway.c). One client asks
it through the gateway and one asks it directly, both at the same time and 5 ms after each answer: first while nothing else
goes on, then while `launcher up MODEL` starts a real engine. What the direct client waits is the machine's; the rest is ours.
`--json`: {quiet, start: {gateway, direct: {answers, p50_ms, p99_ms, most_ms}}, seconds}.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from launcher import keys, ports, store  # noqa: E402 - found by the line above
from launcher.home import Home  # noqa: E402 - the same

PAUSE_MS = 5
SLICE = 2.0
QUIET = 20.0


def main() -> int:
    """Serve, ask, start, ask, and end all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("model")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", type=int, metavar="ENGINE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve)
    env = {**os.environ, "LAUNCHER_HOME": str(options.home.absolute()), "PYTHONPATH": str(ROOT)}
    home = Home(options.home.absolute())
    before = store.port(home)
    # Another launcher may be at work on the usual one.
    store.keep_port(home, free_port())
    with tempfile.TemporaryDirectory() as folder:
        tool = compiled(Path(folder))
        engine = free_port()
        playing = subprocess.Popen([tool, "serve", str(engine), "16"])
        serving = subprocess.Popen(
            [sys.executable, __file__, str(options.home), options.model, "--serve", str(engine)], env=env
        )
        try:
            told = measured(tool, engine, home, options.model, env)
        finally:
            subprocess.run([sys.executable, "-m", "launcher", "down"], env=env, check=False, stdout=subprocess.DEVNULL)
            for process in (serving, playing):
                process.terminate()
                process.wait(60)
            store.keep_port(home, before or ports.FIRST)
    print(json.dumps(told) if options.json else table(told))
    return 0


def measured(tool: Path, engine: int, home: Home, model: str, env: dict[str, str]) -> dict[str, Any]:
    """Both clients' waits, before the start and during it."""
    deadline = time.monotonic() + 30
    while store.listening(home) != (store.port(home), "") or not asked(tool, store.port(home) or 0, keys.ensure(home.key), 0.1):
        if time.monotonic() > deadline:
            raise SystemExit("the gateway does not answer")
        time.sleep(0.2)
    places = {"gateway": (store.port(home) or 0, keys.ensure(home.key)), "direct": (engine, "none")}
    over = time.monotonic() + QUIET
    quiet = waits(tool, places, lambda: time.monotonic() < over)
    began = time.monotonic()
    up = subprocess.Popen(
        [sys.executable, "-m", "launcher", "up", model, "--no-wire", "--no-spare"], env=env, stdout=subprocess.DEVNULL
    )
    start = waits(tool, places, lambda: up.poll() is None)
    if up.returncode:
        raise SystemExit("the start failed")
    return {"quiet": quiet, "start": start, "seconds": round(time.monotonic() - began, 1)}


def waits(tool: Path, places: dict[str, tuple[int, str]], goes_on: Callable[[], bool]) -> dict[str, dict[str, float]]:
    """What clients wait at each place, asked side by side for as long as it goes on."""
    times: dict[str, list[float]] = {name: [] for name in places}
    with ThreadPoolExecutor(len(places)) as both:
        while goes_on():
            asking = {name: both.submit(asked, tool, *place, SLICE) for name, place in places.items()}
            for name, each in asking.items():
                times[name] += each.result()
    return {name: summary(sorted(values)) for name, values in times.items()}


def asked(tool: Path, port: int, key: str, seconds: float) -> list[float]:
    """The milliseconds of each answer; none if there is no answer."""
    argv = [str(tool), "load", str(port), "1", str(seconds), "5000", "0", key, str(PAUSE_MS)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    times: list[float] = json.loads(done.stdout).get("times_ms", []) if done.returncode == 0 else []
    return times


def summary(times: list[float]) -> dict[str, float]:
    """The middle, the 99th percentile and the longest."""
    return {
        "answers": len(times),
        "p50_ms": times[len(times) // 2],
        "p99_ms": times[len(times) * 99 // 100],
        "most_ms": times[-1],
    }


def table(told: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"{'':<10}{'':<10}{'answers':>10}{'p50 ms':>10}{'p99 ms':>10}{'most ms':>10}"]
    for when in ("quiet", "start"):
        for name, row in told[when].items():
            figures = "".join(f"{row[field]:>10.3f}" for field in ("p50_ms", "p99_ms", "most_ms"))
            lines.append(f"{when:<10}{name:<10}{row['answers']:>10}{figures}")
    return "\n".join([*lines, f"the start took {told['seconds']} s"])


def compiled(folder: Path) -> Path:
    """The engine and the clients, by the system's compiler or by the one that the tests use."""
    compiler = [shutil.which("cc") or ""] if shutil.which("cc") else [sys.executable, "-m", "ziglang", "cc"]
    tool = folder / "bench_gateway"
    subprocess.run([*compiler, "-O2", "-o", tool, ROOT / "scripts" / "bench_gateway.c"], check=True)
    return tool


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def serve(engine: int) -> int:
    """`launcher serve` with a route to the engine in C beside its own."""
    from launcher import cli, hosting
    from launcher.gateway.gateway import Gateway
    from launcher.gateway.table import Backend, Route, Table

    bench = Route("bench", "ready", (Backend("127.0.0.1", engine, "engine-key"),), context=8192, slots=256)

    class Beside(Gateway):
        def publish(self, table: Table) -> None:
            super().publish(replace(table, routes={**table.routes, bench.name: bench}))

    # The one way to a route that nobody wished.
    hosting.Gateway = Beside  # type: ignore[attr-defined]
    return cli.main(["serve"])


if __name__ == "__main__":
    sys.exit(main())
