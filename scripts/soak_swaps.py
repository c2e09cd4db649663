#!/usr/bin/env python3
"""Swaps engines again and again under clients that ask without pause: `scripts/soak swaps [--rounds N] [--clients N]`.

A little world whose two engines are the stub of the tests, `launcher serve` in one process, the clients in another one, half of
them streaming. N swaps with room for both, N without, and N to another model. Every answer must be whole; no request
may fail. One line of JSON a swap, a summary for each kind: how long a swap was, the longest that it kept requests from an
engine, as the gateway's side knows it, and the longest wait for a first byte that a client saw in it, against that in as long a
time without one. Exit code 1 if anything was wrong.
"""

import argparse
import asyncio
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from launcher import keys, ports, store  # noqa: E402 - of this very checkout
from launcher.commands import down, swap, up  # noqa: E402
from launcher.hosting import Host  # noqa: E402
from launcher.server import ServerSpec  # noqa: E402
from launcher.world import World  # noqa: E402
from tests.ports_for_tests import own_port  # noqa: E402
from tests.stub_engine import ANSWER  # noqa: E402
from tests.world import POLICY, StubEngine, little_world, roomy  # noqa: E402

MODEL = "tiny"
# Seconds for each token: an answer takes some tenths of a second, so that each swap finds many of them running.
PACE = ("--fault", "slow 0.05")
# What is swapped to and back; the last one has room for one model alone too.
KINDS = {"beside": ("sglang", "vllm"), "in turn": ("sglang", "vllm"), "another model": ("other", MODEL)}
# So long the clients ask before and after each swap (seconds).
REST = 1.0
# What a swap beside may keep a request from an engine (seconds).
LONGEST = 0.1


def world_of(root: Path, kind: str) -> World:
    """The same world in each process that calls this."""
    made = little_world(root, models=(MODEL,)) if kind == "beside" else roomy(root)
    return replace(made, engines={name: StubEngine({"": PACE}, name) for name in ("vllm", "sglang")}, attend=lambda _: None)


@dataclass
class Seen:
    """What the clients saw: each answer's beginning and its wait for a first byte (seconds), and what went wrong."""

    answers: list[tuple[float, float]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


async def _ask(url: str, key: str, seen: Seen, over: asyncio.Event, *, stream: bool) -> None:
    from aiohttp import ClientError, ClientSession, ClientTimeout

    body = {"model": MODEL, "messages": [{"role": "user", "content": "?"}], "stream": stream}
    async with ClientSession(timeout=ClientTimeout(total=120), headers={"Authorization": f"Bearer {key}"}) as session:
        while not over.is_set():
            begun = time.time()
            try:
                async with session.post(f"{url}/chat/completions", json=body) as answer:
                    first = await answer.content.readany()
                    waited = time.time() - begun
                    text = (first + await answer.read()).decode()
            except (ClientError, TimeoutError, OSError) as fault:
                seen.wrong.append(f"{begun:.3f}: {fault!r}")
                continue
            seen.answers.append((begun, waited))
            if answer.status != 200 or (_streamed(text) if stream else _whole(text)) != ANSWER:  # noqa: PLR2004 - HTTP's
                seen.wrong.append(f"{begun:.3f}: {answer.status} {text[-300:]}")


def _whole(text: str) -> str:
    with suppress(ValueError, LookupError):
        return str(json.loads(text)["choices"][0]["message"]["content"])
    return text


def _streamed(text: str) -> str:
    """The answer of a stream that came to its end, in the order of its pieces."""
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    if not events or events[-1] != "[DONE]":
        return "cut off"
    pieces = [json.loads(event)["choices"] for event in events[:-1]]
    return "".join(choice["delta"].get("content") or "" for choices in pieces for choice in choices)


async def _clients(root: Path, url: str, count: int) -> None:
    key, seen, over = keys.ensure(world_of(root, "beside").home.key), Seen(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    await asyncio.gather(*(_ask(url, key, seen, over, stream=bool(number % 2)) for number in range(count)))
    print(json.dumps({"answers": seen.answers, "wrong": seen.wrong}))


def _swaps(kind: str, rounds: int, clients: int) -> bool:
    """All rounds of one kind; whether nothing was wrong."""
    with tempfile.TemporaryDirectory(prefix="soak-swaps-") as folder:
        root, me, port = Path(folder), str(Path(__file__).resolve()), own_port()
        world = world_of(root, kind)
        world.home.make()
        serving = subprocess.Popen([sys.executable, me, "--as", "serve", "--kind", kind, "--root", folder])
        try:
            endpoint = up.run(world, up.UpRequest(spec=ServerSpec(MODEL, engine="vllm"), port=port, spare=False)).endpoint
            words = [
                sys.executable,
                me,
                "--as",
                "clients",
                "--clients",
                str(clients),
                "--root",
                folder,
                "--url",
                endpoint.base_url,
            ]
            asking = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            spans, results = [], []
            for number in range(rounds):
                time.sleep(2 * REST)
                begun = time.time()
                result = swap.run(world, swap.SwapRequest(KINDS[kind][number % 2]))
                spans.append((begun, time.time()))
                results.append(result)
                print(
                    json.dumps({"swap": number + 1, "seconds_in_all": round(spans[-1][1] - begun, 2), **_dict(result)}),
                    flush=True,
                )
            time.sleep(REST)
            asking.send_signal(signal.SIGTERM)
            told = json.loads(asking.communicate(timeout=120)[0])
            down.run(world, None)
            left = [server.name for server in store.look(world.home)[0] if server.handle]
        finally:
            serving.terminate()
            serving.wait(30)
        return _told(kind, results, spans, told, left, ports.holder(port))


def _dict(result: swap.SwapResult) -> dict[str, object]:
    told = result.json()
    return {key: told[key] for key in ("kind", "stall_ms", "held", "failed", "rolled_back")} if isinstance(told, dict) else {}


def _told(
    kind: str,
    results: list[swap.SwapResult],
    spans: list[tuple[float, float]],
    told: dict[str, list[tuple[float, float]]],
    left: list[str],
    holder: str | None,
) -> bool:
    longest = [_longest(told["answers"], begun, ended) for begun, ended in spans]
    without = [_longest(told["answers"], begun - REST, begun) for begun, _ in spans]
    stalls = [result.swapped.stall for result in results if result.swapped]
    summary = {
        "kind": kind,
        "swaps": len(results),
        "answers": len(told["answers"]),
        "failed": len(told["wrong"]),
        "wrong": told["wrong"][:5],
        "swap_s": _spread([ended - begun for begun, ended in spans]),
        "stall_ms": _spread([1000 * stall for stall in stalls]),
        "held": _spread([result.swapped.held for result in results if result.swapped]),
        "longest_first_byte_ms": _spread([1000 * each for each in longest]),
        "without_a_swap_ms": _spread([1000 * each for each in without]),
        "left": left,
        "port": holder,
    }
    print(json.dumps(summary), flush=True)
    right = len(stalls) == len(results) and all(
        (result.kind == "beside") == (kind == "beside") and not result.fault for result in results
    )
    quick = kind != "beside" or max(stalls) < LONGEST
    return right and quick and not told["wrong"] and not left and holder is None


def _longest(answers: list[tuple[float, float]], begun: float, ended: float) -> float:
    return max((waited for at, waited in answers if begun <= at + waited and at <= ended), default=0.0)


def _spread(values: list[float] | list[int]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 1), "most": round(max(values), 1)} if values else {}


def main() -> int:
    """All kinds, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--as", dest="role", choices=["serve", "clients"], help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=KINDS, help="only this kind")
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    typed = parser.parse_args()
    if typed.role == "serve":
        over: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: over.append(number))
        Host(world_of(typed.root, typed.kind), policy=POLICY).run(lambda: bool(over), stay=True)
        return 0
    if typed.role == "clients":
        asyncio.run(_clients(typed.root, typed.url, typed.clients))
        return 0
    kinds = (typed.kind,) if typed.kind else KINDS
    fine = [_swaps(kind, typed.rounds, typed.clients) for kind in kinds]
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
