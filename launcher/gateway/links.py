"""Connections to engines: kept between requests, and watched for where an answer ends."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, cast

import httptools

if TYPE_CHECKING:
    from launcher.gateway.paths import Way
    from launcher.gateway.table import Remote

# An answer's head may have this many bytes.
_HEAD = 64 << 10
# Those that belong to the engine's connection and not to the client's, or that the gateway says itself.
_DROPPED = frozenset(
    {
        *(
            b"connection",
            b"keep-alive",
            b"proxy-connection",
            b"transfer-encoding",
            b"content-length",
            b"upgrade",
            b"trailer",
            b"te",
        ),
        *(
            b"server",
            b"date",
            b"x-request-id",
            b"access-control-allow-origin",
            b"access-control-allow-credentials",
            b"set-cookie",
        ),
        *(b"access-control-allow-methods", b"access-control-allow-headers", b"access-control-expose-headers", b"vary"),
    }
)
# What is passed of a provider's answer beside its length, and what the beginnings are of other names that are: the rest, its
# cookies among it, is between the provider and us.
_PASSED = frozenset(
    {b"content-type", b"content-encoding", b"cache-control", b"retry-after", b"retry-after-ms", b"x-should-retry"}
)
_PASSED_ALL = (b"x-ratelimit-", b"anthropic-ratelimit-")
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
CHUNKED = -1
UNTIL_CLOSE = -2


class Answered(Protocol):
    """Who waits for an answer; all are called in the loop."""

    def head(self, status: int, lines: list[bytes], length: int, body: bytes, *, complete: bool) -> None:
        """The answer has begun; `length` in bytes, CHUNKED, or UNTIL_CLOSE."""

    def more(self, piece: bytes, *, complete: bool) -> None:
        """The next bytes of the body, framed as the engine framed them."""

    def broken(self, link: "Link") -> None:
        """The engine went away, or spoke no HTTP, before the answer was complete."""


class Link(asyncio.Protocol):
    """One connection to an engine, with at most one request on it."""

    __slots__ = (
        *("_begun", "_complete", "_head", "_headed", "_length", "_lines", "_parser", "_streaming"),
        *("asker", "idle_since", "keep", "pool", "reused", "transport"),
    )

    def __init__(self, pool: "Pool") -> None:
        self.pool = pool
        self.transport: asyncio.Transport | None = None
        self.asker: Answered | None = None
        self.reused = False
        self.keep = True
        self.idle_since = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._lines: list[bytes] = []
        self._length = UNTIL_CLOSE
        self._begun = 0
        self._head = b""
        self._headed = self._streaming = self._complete = False

    def ask(self, asker: Answered, head: bytes, body: bytes) -> None:
        """Send a request; the answer goes to `asker`."""
        self.asker = asker
        self._lines = []
        self._length = UNTIL_CLOSE
        self._begun = 0
        self._headed = self._streaming = self._complete = False
        transport = self.transport
        assert transport is not None  # noqa: S101 - a link is asked once it is made
        if len(body) < _HEAD:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)

    @property
    def answering(self) -> bool:
        """Whether a byte of an answer came."""
        return self._begun > 0 or bool(self._head)

    def at_boundary(self) -> bool:
        """Whether the answer was cut between two chunks: only there the last chunk would end it. Spoils the parser."""
        if self._length != CHUNKED:
            return False
        self._complete = False
        try:
            self._parser.feed_data(b"0\r\n\r\n")
        except httptools.HttpParserError:
            return False
        return self._complete

    def drop(self) -> None:
        """Close at once: the engine sees that nobody waits, and stops."""
        self.asker = None
        if self.transport is not None:
            self.transport.abort()

    # -- asyncio.Protocol --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by name

    def data_received(self, data: bytes) -> None:
        asker = self.asker
        if asker is None:
            self.drop()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._break()
            return
        if self._begun > 1:
            # More than the one answer: what would follow is no answer to anything.
            self._break()
        elif self._streaming:
            complete = self._complete
            if complete:
                self._end()
            asker.more(data, complete=complete)
        else:
            self._take_head(asker, self._head + data)

    def _take_head(self, asker: Answered, data: bytes) -> None:
        if not self._headed:
            self._head = data
            if len(data) > _HEAD:
                self._break()
            return
        self._head = b""
        self._streaming = True
        status = self._parser.get_status_code()
        if status < 200:  # noqa: PLR2004 - no interim answers were asked for
            self._break()
            return
        complete = self._complete
        if complete:
            self._end()
        asker.head(status, self._lines, self._length, data[data.index(b"\r\n\r\n") + 4 :], complete=complete)

    def connection_lost(self, error: Exception | None) -> None:
        self.pool.forget(self)
        asker, self.asker = self.asker, None
        if asker is None:
            return
        if error is None and self._streaming and self._length == UNTIL_CLOSE:
            asker.more(b"", complete=True)
        else:
            asker.broken(self)

    def _break(self) -> None:
        asker, self.asker = self.asker, None
        self.drop()
        if asker is not None:
            asker.broken(self)

    def _end(self) -> None:
        self.asker = None
        if self.keep:
            self.pool.give_back(self)
        else:
            self.drop()

    # -- httptools --

    def on_message_begin(self) -> None:
        self._begun += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._headed:
            return  # a trailer
        lower = name.lower()
        if lower in _DROPPED:
            if lower == b"content-length":
                self._length = int(value)
            elif lower == b"transfer-encoding":
                self._length = CHUNKED
        else:
            self._lines.append(b"%b: %b\r\n" % (name, value))

    def on_headers_complete(self) -> None:
        self._headed = True
        self.keep = self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        self._complete = True


class FarLink(Link):
    """One connection to a provider."""

    __slots__ = ()

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower in _PASSED or lower in _FRAMING or lower.startswith(_PASSED_ALL):
            super().on_header(name, value)


class Pool:
    """The connections to one backend, and how many requests are there now."""

    def __init__(
        self, connect: Callable[[Callable[[], Link]], Awaitable[Link]], *, host: str, key: str, idle: float, timeout: float
    ) -> None:
        self.in_flight = 0
        # Until then it is not asked: it did not answer just now (`time.monotonic`).
        self.bad_until = 0.0
        self.retired = False
        self.links: set[Link] = set()
        self._connect = connect
        self._idle: list[Link] = []
        self._idle_time = idle
        self._timeout = timeout
        self._heads: dict[tuple[bytes, str], bytes] = {}
        self._host = host
        self._key = key

    def head(self, method: bytes, way: "Way") -> bytes:
        """How a request to this backend begins: the part that is always the same."""
        head = self._heads.get((method, way.path))
        if head is None:
            authorization = f"Authorization: Bearer {self._key}\r\n" if self._key else ""
            text = f"{method.decode()} {way.path} HTTP/1.1\r\nHost: {self._host}\r\n{authorization}"
            head = self._heads[method, way.path] = f"{text}Content-Type: application/json\r\n".encode()
        return head

    def idle(self) -> Link | None:
        """A connection that is there already, the one that was used last."""
        while self._idle:
            link = self._idle.pop()
            if link.transport is not None and not link.transport.is_closing():
                link.reused = True
                return link
        return None

    async def connect(self) -> Link:
        """A new connection; raises OSError."""
        async with asyncio.timeout(self._timeout):
            link = await self._connect(self._link)
        self.links.add(link)
        return link

    def _link(self) -> Link:
        return Link(self)

    def give_back(self, link: Link) -> None:
        """Keep the connection for the next request."""
        if self.retired:
            link.drop()
        else:
            link.idle_since = time.monotonic()
            self._idle.append(link)

    def forget(self, link: Link) -> None:
        """The connection is gone."""
        self.links.discard(link)
        if link in self._idle:
            self._idle.remove(link)

    def sweep(self, now: float) -> None:
        """Close what was idle for as long as the engine lets it; it would close it in the moment that we ask."""
        while self._idle and now - self._idle[0].idle_since > self._idle_time:
            self._idle.pop(0).drop()

    def retire(self) -> None:
        """No request comes here any more; those that run go on to their end."""
        self.retired = True
        for link in self._idle:
            link.drop()
        self._idle.clear()


class FarPool(Pool):
    """The connections to one model of a provider. `fault` says what came of the last attempt to make one."""

    def __init__(
        self, connect: Callable[[Callable[[], Link]], Awaitable[Link]], remote: "Remote", *, idle: float, timeout: float
    ) -> None:
        super().__init__(connect, host=remote.host, key="", idle=idle, timeout=timeout)
        self.remote = remote
        self.fault = ""

    def head(self, method: bytes, way: "Way") -> bytes:  # noqa: ARG002 - the paths that providers have take POST alone
        """As the provider takes it."""
        return self.remote.head(way.path) or b""

    async def connect(self) -> Link:
        """A new connection; raises OSError."""
        self.fault = "it ended the connection, or spoke no HTTP"
        try:
            return await super().connect()
        except TimeoutError:
            self.fault = f"no connection in {self._timeout:g} s"
            raise
        except OSError as error:
            self.fault = getattr(error, "verify_message", "") or error.strerror or str(error)
            raise
        except ValueError as error:
            # A name that is none, such as one of an empty part (UnicodeError).
            self.fault = str(error)
            raise ConnectionRefusedError(None, self.fault) from None

    def _link(self) -> Link:
        return FarLink(self)
