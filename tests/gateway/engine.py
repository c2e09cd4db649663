"""A small engine that answers as it is told to, and remembers what it was sent. In the test's own loop, on real sockets.

    python tests/gateway/engine.py PORT

What it does stands in the request: `chunks` of a stream, `gap` seconds between them, `delay` before the answer, `size` of a
plain answer, `status`, `framing` ("length", "chunked" or "close"), `die` ("before", "head", "middle", "chunk"), `more` headers
of a plain answer, `raw` in place of any answer.
"""

import asyncio
import json
import ssl
import sys
from dataclasses import dataclass, field
from typing import Any, cast

import httptools

# Bytes, and requests, that are remembered: enough for a test, and no burden for thousands of clients.
MOST = 1 << 20
REMEMBERED = 1000


@dataclass
class Seen:
    """One request, as it came."""

    method: bytes
    path: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""

    @property
    def json(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.body)
        return content


@dataclass
class Engine:
    """Starts and stops; `seen` are its requests, `left` those whose client went before the answer's end."""

    name: str = "engine"
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    left: int = 0
    raw: bytes = b""
    connections: set["Connection"] = field(default_factory=set)
    server: asyncio.Server | None = None
    tls: ssl.SSLContext | None = None

    async def start(self) -> "Engine":
        self.server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self), "127.0.0.1", self.port, ssl=self.tls
        )
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """As if killed: no listener, and every connection ends."""
        assert self.server
        self.server.close()
        for connection in list(self.connections):
            connection.end()
        await self.server.wait_closed()

    def close_idle(self) -> None:
        for connection in list(self.connections):
            if connection.task is None:
                connection.end()


class Connection(asyncio.Protocol):
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.parser = httptools.HttpRequestParser(self)
        self.transport: asyncio.Transport
        self.task: asyncio.Task[None] | None = None
        self.request: Seen
        self.pieces: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by name
        self.engine.connections.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self.engine.connections.discard(self)
        if self.task is not None:
            self.engine.left += 1
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        if len(self.engine.raw) < MOST:
            self.engine.raw += data
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.request = Seen(b"", b"", [])

    def on_url(self, url: bytes) -> None:
        self.request.path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.request.headers.append((name.lower(), value))

    def on_body(self, content: bytes) -> None:
        self.pieces.append(content)

    def on_message_complete(self) -> None:
        self.request.method = self.parser.get_method()
        self.request.body = b"".join(self.pieces)
        self.pieces.clear()
        if len(self.engine.seen) < REMEMBERED:
            self.engine.seen.append(self.request)
        assert self.task is None, "a second request before the first was answered"
        self.task = asyncio.get_running_loop().create_task(self.answer(self.request))

    async def answer(self, request: Seen) -> None:
        try:
            asked = request.json if request.body else {}
        except ValueError:
            asked = {"status": 400}
        await asyncio.sleep(asked.get("delay", 0))
        if asked.get("die") == "before":
            self.end()
            return
        if "raw" in asked:
            self.transport.write(asked["raw"].encode())
            self.task = None
            return
        if asked.get("stream") and asked.get("status", 200) == 200:
            await self.stream(asked)
        else:
            self.plain(request, asked)
        self.task = None

    def plain(self, request: Seen, asked: dict[str, Any]) -> None:
        status = asked.get("status", 200)
        content: dict[str, Any] = {"engine": self.engine.name, "path": request.path.decode(), "model": asked.get("model")}
        if status != 200:
            content = {"error": {"message": f"no: {status}", "type": "BadRequestError", "param": None, "code": status}}
        if asked.get("size"):
            content["filler"] = "x" * asked["size"]
        content["usage"] = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        text = json.dumps(content).encode()
        if request.path == b"/metrics":
            text = b"# HELP vllm:running Running\n# TYPE vllm:running gauge\nvllm:running 1.0\n"
        head = b"HTTP/1.1 %d X\r\nServer: engine\r\nContent-Type: application/json\r\nX-Own: 1\r\n" % status
        head += "".join(f"{name}: {value}\r\n" for name, value in asked.get("more", {}).items()).encode()
        framing = asked.get("framing", "length")
        if framing == "length":
            self.transport.write(head + b"Content-Length: %d\r\n\r\n" % len(text))
            if asked.get("die") == "head":
                self.end()
                return
            self.transport.write(text)
        elif framing == "chunked":
            half = len(text) // 2
            pieces = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (text[:half], text[half:]))
            self.transport.write(head + b"Transfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n")
        else:
            self.transport.write(head + b"\r\n" + text)
            self.task = None
            self.end()

    async def stream(self, asked: dict[str, Any]) -> None:
        chunked = asked.get("framing", "chunked") == "chunked"
        framing = b"Transfer-Encoding: chunked\r\n" if chunked else b""
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + framing + b"\r\n")
        for number in range(asked.get("chunks", 3)):
            await asyncio.sleep(asked.get("gap", 0))
            event = b'data: {"n":%d}\n\n' % number
            if asked.get("die") == "chunk" and number == 1:
                self.transport.write(b"%x\r\n%b" % (len(event), event[:4]))
                await asyncio.sleep(0.02)
                self.end()
                return
            self.transport.write(b"%x\r\n%b\r\n" % (len(event), event) if chunked else event)
            if asked.get("die") == "middle" and number == 1:
                await asyncio.sleep(0.02)
                self.end()
                return
        self.transport.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n" if chunked else b"data: [DONE]\n\n")
        if not chunked:
            self.task = None
            self.end()

    def end(self) -> None:
        task, self.task = self.task, None
        self.transport.abort() if task is None else self.transport.close()


async def main(port: int) -> None:
    engine = await Engine(port=port).start()
    sys.stdout.write(f"{engine.port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
