#!/usr/bin/env python3
"""Clients that leave at random, engines that are killed: `scripts/soak_gateway.py [--requests N] [--kills N] [--json]`.

Afterwards nothing may be left of them: no connection, no task, no place in a queue, no request at an engine, no byte of a body.
Exit code 1 if something is, or if a client that stayed got no answer.
"""

import argparse
import asyncio
import collections
import contextlib
import gc
import json
import os
import random
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import uvloop

from launcher.gateway.gateway import Gateway
from launcher.gateway.limits import Limits
from launcher.gateway.table import Backend, Key, Route, Table

ENGINE = Path(__file__).parent.parent / "tests" / "gateway" / "engine.py"
KEY = "sk-local-soak"
AT_ONCE = 64
FATES = (
    "stay",
    "stay",
    "stream",
    "stream",
    "leave at once",
    "leave in the stream",
    "leave in the body",
    "leave in the head",
    "twice",
)


@dataclass
class Soak:
    """A gateway, the engine behind it, and what became of the requests."""

    random: random.Random
    gateway: Gateway
    port: int
    engine: asyncio.subprocess.Process | None = None
    fates: collections.Counter[str] = field(default_factory=collections.Counter)
    faults: list[str] = field(default_factory=list)

    async def start_engine(self) -> None:
        """Another engine, on another port, as after a restart."""
        engine = await asyncio.create_subprocess_exec(sys.executable, ENGINE, "0", stdout=asyncio.subprocess.PIPE)
        assert engine.stdout is not None  # noqa: S101 - it was asked for
        port = int(await engine.stdout.readline())
        self.engine = engine
        self.publish(Route("tiny", "ready", (Backend("127.0.0.1", port, "engine-key"),), slots=32))

    async def kill_engine(self) -> None:
        """As the kernel does it when memory is short; the supervisor needs a moment to see it."""
        engine = self.engine
        if engine is None:
            return
        engine.send_signal(signal.SIGKILL)
        await engine.wait()
        await asyncio.sleep(0.2)
        self.publish(Route("tiny", "starting"))
        await self.start_engine()

    def publish(self, route: Route) -> None:
        self.gateway.publish(Table.of([route], keys=[Key.of("default", KEY)]))

    async def one(self, fate: str) -> None:
        """One client."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        streams = fate in {"stream", "leave in the stream"}
        fields = {"model": "tiny", "stream": streams, "chunks": 8, "gap": 0.002, "delay": self.random.choice((0, 0, 0.01))}
        body = json.dumps({**fields, "prompt": "x" * self.random.choice((10, 5_000, 200_000))}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        said = head.encode() + body
        if fate == "leave in the head":
            said = said[: self.random.randrange(len(head))]
        elif fate == "leave in the body":
            said = said[: self.random.randrange(len(head), len(said))]
        writer.write(said * 2 if fate == "twice" else said)
        try:
            if fate in {"stay", "stream", "twice"}:
                await self.read_all(fate, reader)
            elif fate == "leave in the stream":
                await reader.readuntil(b"data: ")
                await asyncio.sleep(self.random.random() * 0.03)
            else:
                await asyncio.sleep(self.random.random() * 0.02)
        finally:
            writer.transport.abort()

    async def read_all(self, fate: str, reader: asyncio.StreamReader) -> None:
        """A whole answer, or one that says why it is none."""
        for _ in range(2 if fate == "twice" else 1):
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ")[1])
            if b"chunked" in head:
                body = await reader.readuntil(b"0\r\n\r\n")
                whole = b"[DONE]" in body or b"engine_gone" in body
                status = 200 if b"[DONE]" in body else 502
            else:
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                whole = len(await reader.readexactly(length)) == length
            self.fates[f"answered {status}"] += 1
            if not whole or status not in {200, 502}:
                self.faults.append(f"{fate}: {status}")

    async def client(self, fate: str) -> None:
        """One client, and what is wrong with what it got."""
        self.fates[fate] += 1
        try:
            async with asyncio.timeout(60):
                await self.one(fate)
        except asyncio.IncompleteReadError:
            # An engine that is killed in the middle of a plain answer's bytes leaves nothing to say.
            self.fates["broken off"] += 1
        except TimeoutError:
            self.faults.append(f"{fate}: no answer in 60 s")


async def soak(requests: int, kills: int, seed: int) -> dict[str, object]:
    """Run it; what was left."""
    listener = socket.create_server(("127.0.0.1", 0))
    gateway = Gateway(
        wake=lambda _: None, limits=Limits(tick=0.05, engine_idle=0.5, idle_time=1.0, head_time=1.0, body_grace=1.0)
    )
    await gateway.open()
    gateway.listen({listener: None})
    here = Soak(random.Random(seed), gateway, listener.getsockname()[1])  # noqa: S311 - chance, not secrets
    await here.start_engine()
    process = psutil.Process()
    await asyncio.gather(*(here.client("stay") for _ in range(AT_ONCE)))
    await asyncio.sleep(2)
    gc.collect()
    files, memory = process.num_fds(), process.memory_info().rss
    began = time.monotonic()
    gate = asyncio.Semaphore(AT_ONCE)
    moments = {requests * (number + 1) // (kills + 1) for number in range(kills)}
    killing: list[asyncio.Task[None]] = []

    async def gated(fate: str) -> None:
        try:
            await here.client(fate)
        finally:
            gate.release()

    async with asyncio.TaskGroup() as group:
        for number in range(requests):
            if number in moments:
                await asyncio.gather(*killing)
                killing.append(asyncio.create_task(here.kill_engine()))
            if number and number % 1000 == 0:
                print(f"{number} requests, {time.monotonic() - began:.0f} s", file=sys.stderr)
            await gate.acquire()
            group.create_task(gated(here.random.choice(FATES)))
    await asyncio.gather(*killing)
    took = time.monotonic() - began
    await asyncio.sleep(2.5)
    gc.collect()
    usage = gateway.usage()
    left = {
        "in_flight": sum(usage.in_flight.values()),
        "waiting": sum(route.waiting for route in usage.routes.values()),
        "connections": usage.connections,
        "buffered": gateway.buffered,
        "tasks": len(asyncio.all_tasks()) - 1,
        "files": max(0, process.num_fds() - files - 2 * len(killing)),
    }
    grown = process.memory_info().rss - memory
    await gateway.close(grace=0)
    if here.engine is not None:
        with contextlib.suppress(ProcessLookupError):
            here.engine.kill()
        await here.engine.wait()
    return {
        "requests": requests,
        "kills": len(killing),
        "seconds": round(took, 1),
        "fates": dict(sorted(here.fates.items())),
        "faults": here.faults[:20],
        "left": left,
        "grown_mb": round(grown / 1e6, 1),
    }


def main() -> int:
    """Soak, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=os.getpid())
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    told = uvloop.run(soak(options.requests, options.kills, options.seed))
    print(json.dumps(told, indent=None if options.json else 2))
    left = told["left"]
    return 1 if told["faults"] or (isinstance(left, dict) and any(left.values())) else 0


if __name__ == "__main__":
    sys.exit(main())
