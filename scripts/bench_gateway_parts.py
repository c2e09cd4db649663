#!/usr/bin/env python3
"""What each feature of the gateway costs: `scripts/bench_gateway_parts.py [--json]`.

The gateway's own code from a client's bytes to the engine's and back, without sockets: on a machine that others use too, a
socket's cost differs more from second to second than a feature's. In each round all variants take their turn, each with one
feature taken out, and are compared with the whole of the same round: medians of the rounds' ratios, and the microseconds of
processor time that a request takes in the best round. `--json`: a list of {request, without, us, share}; `share` is the part
of the whole's time that the feature takes.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from launcher.gateway import decisions, exchange, front  # noqa: E402 - found by the line above
from launcher.gateway.front import Front  # noqa: E402 - the same
from launcher.gateway.limits import Limits  # noqa: E402 - the same
from launcher.gateway.links import Link, Pool  # noqa: E402 - the same
from launcher.gateway.switchboard import Switchboard  # noqa: E402 - the same
from launcher.gateway.table import Backend, Key, Route, Table  # noqa: E402 - the same
from launcher.gateway.tally import Spread  # noqa: E402 - the same

KEY = "sk-local-bench"
EVENT = b'data: {"id":"c-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'
ANSWER = b'{"id":"c-1","choices":[{"message":{"content":"Paris."}}],"usage":{"prompt_tokens":7,"completion_tokens":8}}'
KINDS = {"5 KB": (5_000, False), "400 KB": (400_000, False), "5 KB, a stream of 256 events": (5_000, True)}
# What stands for a feature: where its function is, and what does without.
WITHOUT: dict[str, list[tuple[Any, str, Callable[..., Any]]]] = {
    "nothing": [],
    "the access log": [(exchange, "Line", lambda *_: None)],
    "keys": [(decisions, "key_name", lambda *_: "default")],
    "the Host check": [(decisions, "_unknown_host", lambda *_: None)],
    "CORS": [(front, "allowed_origin", lambda *_: "")],
    "metrics": [(exchange.Exchange, "_count", lambda *_: None), (Spread, "add", lambda *_: None)],
}


class Wire:
    """A transport that leads nowhere."""

    def write(self, _: bytes) -> None:
        """It is gone."""

    def is_closing(self) -> bool:
        """Never."""
        return False


def main() -> int:
    """Measure in rounds, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    rows = [row for kind in KINDS for row in asyncio.run(measured(kind, options.rounds))]
    print(json.dumps(rows, indent=1) if options.json else table(rows))
    return 0


async def measured(kind: str, rounds: int) -> list[dict[str, Any]]:
    """The rows of one kind of request."""
    size, stream = KINDS[kind]
    board, ask = passage(size, stream=stream)
    count = 30 if stream or size > KINDS["5 KB"][0] else 300
    taken: dict[str, list[float]] = {name: [] for name in WITHOUT}
    for number in range(rounds):
        # Nobody is always first.
        names = list(WITHOUT)[number % len(WITHOUT) :] + list(WITHOUT)[: number % len(WITHOUT)]
        for name in names:
            with taken_out(name):
                # Python's interpreter learns anew what was put in a place (PEP 659), which is no cost of a feature.
                for _ in range(max(count // 2, 16)):
                    ask()
                start = time.process_time()
                for _ in range(count):
                    ask()
                taken[name].append((time.process_time() - start) / count * 1e6)
            board.log.clear()
    whole = taken["nothing"]
    return [
        {
            "request": kind,
            "without": name,
            "us": round(min(times), 2),
            "share": round(1 - statistics.median(each / all_of_it for each, all_of_it in zip(times, whole, strict=True)), 3),
        }
        for name, times in taken.items()
    ]


@contextmanager
def taken_out(name: str) -> Iterator[None]:
    """The gateway without a feature."""
    before = [(place, attribute, getattr(place, attribute)) for place, attribute, _ in WITHOUT[name]]
    for place, attribute, instead in WITHOUT[name]:
        setattr(place, attribute, instead)
    yield
    for place, attribute, was in before:
        setattr(place, attribute, was)


def passage(size: int, *, stream: bool) -> tuple[Switchboard, Callable[[], None]]:
    """A client's connection and an engine's, and one request with its answer on them."""

    async def connect(new: Callable[[], Link]) -> Link:
        return new()

    limits = Limits()
    pool = Pool(connect, host="127.0.0.1:1", key="engine-key", idle=1e9, timeout=5.0)
    board = Switchboard(limits, pool=lambda _: pool, pages=pool, wake=lambda _: None)
    route = Route("bench", "ready", (Backend("127.0.0.1", 1, "engine-key"),), context=8192, slots=256)
    board.adopt(Table.of([route], keys=[Key.of("default", KEY), Key.of("other", "sk-other")]))
    client, engine = Front(board, limits, set(), itertools.count(1 << 50).__next__), Link(pool)
    for each in (client, engine):
        each.connection_made(Wire())  # type: ignore[arg-type] # as much of a transport as is asked for
    pool.give_back(engine)
    asked, answered = request(size, stream=stream), answer(stream=stream)

    def ask() -> None:
        for piece in asked:
            client.data_received(piece)
        for piece in answered:
            engine.data_received(piece)

    ask()
    if pool.in_flight or board.log[-1].status != 200:  # noqa: PLR2004 - the status
        raise SystemExit("the request was not answered")
    return board, ask


def request(size: int, *, stream: bool) -> list[bytes]:
    """As OpenAI's client for Python writes it, in the pieces in which uvloop reads it."""
    front_part, tail = (
        '{"model": "bench", "messages": [{"role": "user", "content": "',
        f'"}}], "stream": {str(stream).lower()}}}',
    )
    filler = "some words of a prompt, " * (size // 24 + 1)
    body = (front_part + filler[: size - len(front_part) - len(tail)] + tail).encode()
    client = "".join(
        f"X-Stainless-{name}: x\r\n" for name in ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Retry-Count")
    )
    auth = f"Authorization: Bearer {KEY}\r\n"
    lines = f"Host: 127.0.0.1:8400\r\nAccept: application/json\r\nContent-Type: application/json\r\n{client}"
    head = f"POST /v1/chat/completions HTTP/1.1\r\n{lines}User-Agent: x\r\n{auth}Content-Length: {len(body)}\r\n\r\n"
    whole = head.encode() + body
    return [whole[start : start + 256_000] for start in range(0, len(whole), 256_000)]


def answer(*, stream: bool) -> list[bytes]:
    """As an engine writes it: a stream has a piece for each event."""
    if not stream:
        head = b"HTTP/1.1 200 OK\r\nServer: uvicorn\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
            ANSWER
        )
        return [head + ANSWER]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
    return [head, *[chunk] * 255, b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"]


def table(rows: list[dict[str, Any]]) -> str:
    """The same for people."""
    lines = [f"{'':<32}{'without':<18}{'us':>10}{'costs':>8}"]
    lines += [f"{row['request']:<32}{row['without']:<18}{row['us']:>10.2f}{row['share']:>8.1%}" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
