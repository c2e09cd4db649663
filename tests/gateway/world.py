"""A gateway on a real port, with engines behind it and clients that speak bytes."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import uvloop

from launcher.gateway.gateway import Gateway
from launcher.gateway.limits import Limits
from launcher.gateway.metrics import Reading
from launcher.gateway.table import Backend, Key, Route, Table
from tests.gateway.engine import Engine

KEY = "sk-local-test"
ENGINE_KEY = "engine-secret"
QUICK = Limits(tick=0.02, retry=0.05, grace=0.5, comments=0.1, linger=0.5)


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """In a loop as `launcher serve` has it; whatever takes half a minute hangs."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(coroutine, 30))


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """One connection, byte by byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, content: bytes) -> None:
        self.writer.write(content)
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), headers

    async def answer(self, *, bare: bool = False) -> Answer:
        status, headers = await self.head()
        if bare or status == 100:
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            pieces = []
            while piece := await self.chunk():
                pieces.append(piece)
            return Answer(status, headers, b"".join(pieces))
        if "content-length" in headers:
            return Answer(status, headers, await self.reader.readexactly(int(headers["content-length"])))
        return Answer(status, headers, await self.reader.read())

    async def chunk(self) -> bytes:
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def closed(self) -> bool:
        """Whether the other side ends without another byte."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionResetError:
            return True

    def leave(self) -> None:
        self.writer.transport.abort()


@dataclass
class Place:
    """The gateway, its engines, and what it said to the supervisor."""

    gateway: Gateway
    port: int
    engines: list[Engine]
    woken: list[str] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)

    async def client(self) -> Client:
        self.clients.append(Client(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self.clients[-1]

    async def ask(self, path: str = "/v1/chat/completions", key: str = KEY, **fields: Any) -> Answer:
        client = await self.client()
        await client.send(request(path, key=key, **fields))
        return await client.answer()

    async def get(self, path: str, key: str = KEY, method: str = "GET") -> Answer:
        client = await self.client()
        await client.send(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
        return await client.answer(bare=method == "HEAD")

    def publish(self, *routes: Route, **fields: Any) -> None:
        self.gateway.publish(Table.of(routes, keys=[Key.of("default", KEY), Key.of("other", f"{KEY}-2")], **fields))

    def ready(self, *engines: Engine, name: str = "tiny", **fields: Any) -> Route:
        backends = tuple(Backend("127.0.0.1", engine.port, ENGINE_KEY) for engine in engines or self.engines)
        return Route(name, "ready", backends, **{"context": 8192, "engine": "vllm", **fields})


def request(path: str = "/v1/chat/completions", *, key: str = KEY, headers: Sequence[str] = (), **fields: Any) -> bytes:
    """A request as clients write it; `fields` are its body."""
    body = json.dumps({"model": "tiny", "messages": [], **fields}).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost:8400",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def place(
    *,
    engines: int = 1,
    limits: Limits = QUICK,
    log: Path | None = None,
    gpus: Callable[[], Sequence[Reading]] = tuple,
    tls: ssl.SSLContext | None = None,
    trust: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    proxies: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Place]:
    """A gateway with a ready model `tiny` behind it."""
    started = [await Engine(f"engine-{number}").start() for number in range(engines)]
    woken: list[str] = []
    gateway = Gateway(wake=woken.append, gpus=gpus, limits=limits, log=log, trust=trust, proxies=lambda: proxies)
    listener = socket.create_server(("127.0.0.1", 0))
    here = Place(gateway, listener.getsockname()[1], started, woken)
    await gateway.open()
    gateway.listen({listener: tls})
    here.publish(here.ready())
    try:
        yield here
    finally:
        for client in here.clients:
            client.leave()
        await gateway.close(grace=0)
        for engine in started:
            await engine.stop()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for it: a few seconds at most."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for is another process' or the gateway's own, and tells nobody
            await asyncio.sleep(0.005)
