#!/usr/bin/env python3
"""What the gateway costs, against none and against others, all in one run: `scripts/bench_gateway.py [--json] [--peers DIR]`.

An engine that answers at once and clients that ask as fast as they are answered are C (scripts/bench_gateway.c), so that they
take as little of the machine as can be. Peers are in environments of their own under DIR: `vllm-router`, `sglang-router`,
`litellm` (made with `--make-peers`, by pip); those that are not there are left out. Rounds go through all of them in turn, so
that a slow moment of the machine hits all. `--json`: a list of {name, clients, body, stream, rps, p50_ms, p99_ms, chunks_per_s,
rss_mb, cpu_us, rps_best}: medians of the rounds, and the best round's rate. `cpu_us` is processor time an answer.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
KEY = "sk-local-bench"
CHUNKS = 256
PACKAGES = {"vllm-router": "vllm-router", "sglang-router": "sglang-router", "litellm": "litellm[proxy]"}
CASES = [(clients, body, stream) for stream in (False, True) for body in (5_000, 400_000) for clients in (1, 16, 64)]


@dataclass(frozen=True)
class Server:
    """Something that listens: where, and the process to look at."""

    name: str
    port: int
    process: subprocess.Popen[bytes]

    @property
    def rss_mb(self) -> float:
        """Resident memory of the process and of those that it started."""
        import psutil

        top = psutil.Process(self.process.pid)
        return round(sum(each.memory_info().rss for each in (top, *top.children(recursive=True))) / 1e6, 1)

    @property
    def cpu_seconds(self) -> float:
        """Processor time of the same processes."""
        import psutil

        top = psutil.Process(self.process.pid)
        return float(sum(sum(each.cpu_times()[:2]) for each in (top, *top.children(recursive=True))))

    def ended(self) -> None:
        """Stop it, and whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def main() -> int:
    """Start all, measure in rounds, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "gateway-peers")
    parser.add_argument("--make-peers", action="store_true")
    parser.add_argument("--only", action="append", help="measure these alone (a name, as often as needed)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--quick", action="store_true", help="small bodies only")
    parser.add_argument("--serve", nargs=3, metavar=("PORT", "ENGINE", "BUSY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(int(options.serve[0]), int(options.serve[1]), busy=options.serve[2] == "busy")
    if options.make_peers:
        make_peers(options.peers)
    cases = [case for case in CASES if case[1] == CASES[0][1] or not options.quick]
    with tempfile.TemporaryDirectory() as folder:
        tool = compiled(Path(folder))
        with servers(tool, Path(folder), options.peers, options.only) as there:
            rows = measured(tool, there, cases, options)
    print(json.dumps(rows, indent=1) if options.json else table(rows))
    return 0


def compiled(folder: Path) -> Path:
    """The engine and the clients, by the system's compiler or by the one that the tests use."""
    compiler = [shutil.which("cc") or ""] if shutil.which("cc") else [sys.executable, "-m", "ziglang", "cc"]
    tool = folder / "bench_gateway"
    subprocess.run([*compiler, "-O2", "-o", tool, ROOT / "scripts" / "bench_gateway.c"], check=True)
    return tool


def make_peers(folder: Path) -> None:
    """An environment for each peer, with what the index has now."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, package in PACKAGES.items():
        if not (folder / name).exists():
            subprocess.run([sys.executable, "-m", "venv", folder / name], check=True)
            subprocess.run([folder / name / "bin" / "python", "-m", "pip", "install", "-q", package], check=True)


@contextlib.contextmanager
def servers(tool: Path, folder: Path, peers: Path, only: list[str] | None) -> Iterator[list[Server]]:
    """The engine alone and everything that can stand before it, all listening."""
    with contextlib.ExitStack() as stack:

        def start(name: str, port: int, argv: list[str | Path], env: dict[str, str] | None = None) -> Server:
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            process = subprocess.Popen(argv, stdout=log, stderr=log, env={**os.environ, **(env or {})}, start_new_session=True)
            server = Server(name, port, process)
            stack.callback(server.ended)
            return server

        engine = free_port()
        url = f"http://127.0.0.1:{engine}"
        there = [start("direct", engine, [tool, "serve", str(engine), str(CHUNKS)])]
        here: dict[str, list[str | Path]] = {
            "gateway": [sys.executable, __file__, "--serve", "PORT", str(engine), "idle"],
            "gateway, a busy thread beside it": [sys.executable, __file__, "--serve", "PORT", str(engine), "busy"],
        }
        router = [
            "--host",
            "127.0.0.1",
            "--port",
            "PORT",
            "--worker-urls",
            url,
            "--policy",
            "round_robin",
            "--log-level",
            "error",
        ]
        if (script := peers / "vllm-router" / "bin" / "vllm-router").exists():
            here["vllm-router"] = [script, *router, "--prometheus-port", str(free_port())]
        if (script := peers / "sglang-router" / "bin" / "sglang-router").exists():
            here["sglang-router"] = [script, "launch", *router, "--prometheus-port", str(free_port())]
        if (script := peers / "litellm" / "bin" / "litellm").exists():
            config = folder / "litellm.yaml"
            config.write_text(LITELLM.format(url=url, key=KEY))
            here["litellm"] = [script, "--config", config, "--host", "127.0.0.1", "--port", "PORT"]
        for name, argv in here.items():
            if only is None or name in only:
                port = free_port()
                env = {"PYTHONPATH": str(ROOT), "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
                there.append(start(name, port, [str(port) if word == "PORT" else word for word in argv], env))
        for server in there:
            wait_for(server, folder)
        yield there


LITELLM = """
model_list:
  - model_name: bench
    litellm_params:
      model: openai/bench
      api_base: {url}/v1
      api_key: none
general_settings:
  master_key: {key}
litellm_settings:
  num_retries: 0
"""


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(server: Server, folder: Path) -> None:
    """Until a completion comes back through it."""
    body = json.dumps({"model": "bench", "messages": [{"role": "user", "content": "Hello"}]}).encode()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/v1/chat/completions", body, headers)
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and server.process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=30):  # noqa: S310 - loopback
            return
        time.sleep(0.5)
    raise SystemExit(f"{server.name} does not answer:\n{(folder / f'{server.name}.log').read_text(errors='replace')[-2000:]}")


def measured(
    tool: Path, there: list[Server], cases: list[tuple[int, int, bool]], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """The median round of each case for each server."""
    found: dict[tuple[str, int, int, bool], list[dict[str, Any]]] = {}
    for number in range(options.rounds):
        for clients, body, stream in cases:
            for server in there:
                # An answer through LiteLLM's proxy can take longer than all the time that the others need.
                seconds = options.seconds * (10 if server.name == "litellm" else 1)
                argv = [
                    str(tool),
                    "load",
                    str(server.port),
                    str(clients),
                    str(seconds),
                    str(body),
                    str(int(stream)),
                    KEY,
                ]
                spent = server.cpu_seconds
                done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
                if done.returncode:
                    print(f"{server.name}, {clients} clients: {done.stderr[:300]}", file=sys.stderr)
                    continue
                told = {**json.loads(done.stdout), "rss_mb": server.rss_mb}
                told["cpu_us"] = (server.cpu_seconds - spent) / max(told["answers"], 1) * 1e6
                if told["errors"]:
                    print(
                        f"{server.name}, {clients} clients: {told['errors']} errors: {done.stderr[:300]}",
                        file=sys.stderr,
                    )
                found.setdefault((server.name, clients, body, stream), []).append(told)
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    rows = []
    for (name, clients, body, stream), rounds in found.items():
        numbers = {
            field: statistics.median(told[field] for told in rounds)
            for field in ("rps", "p50_ms", "p99_ms", "chunks_per_s", "rss_mb", "cpu_us")
        }
        best = max(told["rps"] for told in rounds)
        rows.append({"name": name, "clients": clients, "body": body, "stream": stream, **numbers, "rps_best": best})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The same for people."""
    words = (
        f"{'':<34}",
        f"{'clients':>8}",
        f"{'body':>8}",
        f"{'stream':>7}",
        f"{'rps':>10}",
        f"{'p50 ms':>10}",
        f"{'p99 ms':>10}",
    )
    lines = ["".join(words) + f"{'chunks/s':>10}{'MB':>7}{'cpu us':>8}"]
    lines += [
        f"{row['name']:<34}{row['clients']:>8}{row['body'] // 1000:>5} KB{'yes' if row['stream'] else 'no':>7}"
        f"{row['rps']:>10.1f}{row['p50_ms']:>10.3f}{row['p99_ms']:>10.2f}{row['chunks_per_s']:>10.0f}{row['rss_mb']:>7.0f}"
        f"{row['cpu_us']:>8.0f}"
        for row in rows
    ]
    return "\n".join(lines)


def serve(port: int, engine: int, *, busy: bool) -> int:
    """The gateway with all that it has switched on; `busy` has a thread beside it that computes, as a supervisor's may."""
    import uvloop

    from launcher.gateway.gateway import Gateway
    from launcher.gateway.table import Backend, Key, Route, Table

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            gateway = Gateway(wake=lambda _: None, log=Path(folder) / "gateway.log")
            await gateway.open()
            gateway.listen({socket.create_server(("127.0.0.1", port), backlog=1024): None})
            route = Route("bench", "ready", (Backend("127.0.0.1", engine, "engine-key"),), context=8192, slots=256)
            gateway.publish(Table.of([route], keys=[Key.of("default", KEY), Key.of("other", "sk-other")]))
            if busy:
                threading.Thread(target=compute, daemon=True).start()
            await asyncio.Event().wait()

    uvloop.run(run())
    return 0


def compute() -> None:
    """A fifth of the time spent in Python, in pieces of 20 ms: a look at the machine, ten times a second."""
    while True:
        end = time.perf_counter() + 0.02
        while time.perf_counter() < end:
            sum(range(1000))
        time.sleep(0.08)


if __name__ == "__main__":
    sys.exit(main())
