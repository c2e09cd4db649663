"""Connections of clients: their bytes become requests, one after another, and answers go back in that order."""

import asyncio
import ipaddress
import time
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools
import msgspec

from launcher.gateway import answers
from launcher.gateway.decisions import Admitted, Head, Preflight, Refusal, admit, allowed_origin
from launcher.gateway.exchange import Exchange
from launcher.gateway.limits import Limits
from launcher.gateway.paths import Way
from launcher.gateway.switchboard import Switchboard
from launcher.gateway.table import Table

# Headers that decide. One that comes twice is refused: two readers could take one each.
_DECIDING = frozenset(
    (
        b"host",
        b"authorization",
        b"x-api-key",
        b"expect",
        b"content-length",
        b"transfer-encoding",
        b"content-encoding",
        b"origin",
    )
)
# Headers that engines may be told; all others are between the client and the gateway. The last one is for the gateway, and
# engines skip it: to look for it apart would cost each request that has none.
_FORWARDED = frozenset(
    (b"accept", b"user-agent", b"anthropic-version", b"anthropic-beta", b"traceparent", b"tracestate", b"x-launcher-fallback")
)
# What a browser's preflight asks for.
_ASKED = b"access-control-request-headers"
_BEARER = b"bearer "
# As clients write it; whatever is written otherwise is one of the headers that decide.
_LENGTH = frozenset((b"Content-Length", b"content-length"))
# A TLS handshake or another protocol on our port: what comes is no HTTP from its first byte.
_NO_HTTP = Refusal(400, "this is not HTTP as RFC 9112 has it", "bad_request")
_HEAD_TOO_LARGE = Refusal(431, "the head of the request is too large", "headers_too_large")
_TOO_LARGE = Refusal(413, "the body is too large", "body_too_large")
_TOO_SLOW = Refusal(408, "the request did not come in time", "request_timeout")
_NO_ROOM = Refusal(503, "too many large requests at once", "no_room", retry_after=5)
_CROWDED = Refusal(503, "too many connections", "too_many_connections", retry_after=5)


class _Known(msgspec.Struct):
    """A head that was decided on by a table, without its length."""

    headers: list[tuple[bytes, bytes]]
    url: bytes
    method: bytes
    version: str
    table: Table
    way: Way | None
    key: str
    forwarded: list[bytes]


class Front(asyncio.Protocol):
    """One client's connection."""

    __slots__ = (
        *(
            "_at_work",
            "_board",
            "_closing",
            "_count",
            "_deaf",
            "_fronts",
            "_headers",
            "_head_size",
            "_incoming",
            "_limits",
            "_local",
        ),
        *("_known", "_lengths", "_parser", "_paused_at", "_pausing", "_queue", "_raw", "_since", "_turning", "_transport"),
    )

    def __init__(self, board: Switchboard, limits: Limits, fronts: "set[Front]", count: Callable[[], int]) -> None:
        self._board = board
        self._limits = limits
        self._fronts = fronts
        self._count = count
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._incoming: Exchange | None = None
        self._at_work: Exchange | None = None
        self._queue: deque[Exchange] = deque()
        self._head_size = self._raw = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._lengths: list[bytes] = []
        self._known: _Known | None = None
        # When the last thing began that may not take for ever: a pause between requests, a head, a body, a slow reader's pause.
        self._since = time.monotonic()
        self._paused_at = 0.0
        self._closing = 0.0
        self._deaf = self._turning = self._pausing = False
        self._local: bool | None = None

    # -- asyncio.Protocol --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by name
        self._fronts.add(self)
        self._board.connections = len(self._fronts)
        if len(self._fronts) > self._limits.connections:
            self._refuse(_CROWDED)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._fronts.discard(self)
        self._board.connections = len(self._fronts)
        self._deaf = True
        for exchange in (self._at_work, *self._queue, self._incoming):
            if exchange is not None:
                exchange.abandon()
        self._at_work = self._incoming = self._transport = None
        self._queue.clear()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        incoming = self._incoming
        if incoming is None or incoming.way is None:
            self._head_size += len(data)
        else:
            self._raw += len(data)
            # Chunks of one byte each make six of it; anything beyond has no purpose.
            if self._raw > 6 * self._limits.body + self._limits.head:
                self._refuse(_TOO_LARGE)
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(_NO_HTTP)  # it was refused by its head, where the head was whole
        except httptools.HttpParserError:
            self._refuse(_NO_HTTP)
        incoming = self._incoming
        if incoming is not None and incoming.way is None and self._head_size > self._limits.head:
            self._refuse(_HEAD_TOO_LARGE)

    def eof_received(self) -> None:
        """Whoever sends no more waits for no answer either: what is asked of an engine for them ends."""

    def pause_writing(self) -> None:
        self._paused_at = time.monotonic()
        exchange = self._at_work
        if exchange is not None and exchange.link is not None and exchange.link.transport is not None:
            exchange.link.transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused_at = 0.0
        exchange = self._at_work
        if exchange is not None and exchange.link is not None and exchange.link.transport is not None:
            exchange.link.transport.resume_reading()
        self._turn()

    # -- httptools --

    def on_message_begin(self) -> None:
        self._incoming = Exchange(self, self._board, self._count())
        self._since = self._incoming.started
        self._raw = 0
        self._headers = []
        self._lengths = []

    def on_url(self, url: bytes) -> None:
        if self._incoming is not None:
            self._incoming.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # Looked at when all are there: one loop is quicker than a dozen calls. Trailers come here too, and are never looked at.
        if name in _LENGTH:
            self._lengths.append(value)
        else:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        incoming, raw, lengths = self._incoming, self._headers, self._lengths
        self._headers = []
        if incoming is None or self._deaf:
            return
        parser, limits = self._parser, self._limits
        incoming.method = parser.get_method()
        incoming.version = parser.get_http_version()
        known = self._known
        if (
            known is not None
            and known.headers == raw
            and len(lengths) == 1
            and known.url == incoming.url
            and known.method == incoming.method
            and known.version == incoming.version
            and known.table is self._board.table
            and int(lengths[0]) <= limits.body
        ):
            self._head_size = 0
            incoming.way, incoming.key, incoming.forwarded = known.way, known.key, known.forwarded
            return
        incoming.last = not parser.should_keep_alive() or incoming.version != "1.1"
        # What was read at once may be a small head and a large body.
        large = self._head_size > limits.head and len(incoming.url) + sum(len(n) + len(v) for n, v in raw) > limits.head
        self._head_size = 0
        if large or len(raw) > limits.headers:
            self._refuse(_HEAD_TOO_LARGE)
            return
        self._decide(incoming, [*raw, *((b"content-length", length) for length in lengths)])

    def _decide(self, incoming: Exchange, raw: list[tuple[bytes, bytes]]) -> None:
        """What becomes of it by its head alone."""
        parser, limits = self._parser, self._limits
        headers: dict[bytes, bytes] = {}
        repeated = False
        for name, value in raw:
            lower = name.lower()
            if lower in _DECIDING:
                repeated = repeated or lower in headers
                headers[lower] = value
            elif lower in _FORWARDED:
                incoming.forwarded.append(b"%b: %b\r\n" % (lower, value))
        path = incoming.url.partition(b"?")[0]
        length = int(headers.get(b"content-length", b"-1"))
        incoming.chunked = b"transfer-encoding" in headers
        table = self._board.table
        if allowed := allowed_origin(table, headers.get(b"origin")) if table.origins else "":
            incoming.origin = answers.for_origin(allowed)
        verdict = admit(
            table,
            limits,
            Head(
                method=incoming.method,
                path=path,
                host=headers.get(b"host"),
                credentials=_credentials(headers),
                length=length,
                chunked=incoming.chunked,
                encoding=headers.get(b"content-encoding", b""),
                expect=headers.get(b"expect", b""),
                upgrade=parser.should_upgrade(),
                repeated=repeated,
                version=incoming.version,
                # A page that is let in is this machine's browser's, and no program of its.
                here=path != b"/metrics" or (self._here() and not allowed),
                preflight=bool(allowed) and incoming.method == b"OPTIONS" and length < 1 and not incoming.chunked,
            ),
        )
        if isinstance(verdict, Admitted):
            incoming.way = verdict.way
            incoming.key = verdict.key
            self._remember(incoming, headers, raw)
            if b"expect" in headers and (length > 0 or incoming.chunked) and self._at_work is None and not self._queue:
                self._write(answers.CONTINUE)
        else:
            self._answer_here(incoming, verdict, raw, whole=length < 1 and not incoming.chunked and not parser.should_upgrade())

    def _remember(self, incoming: Exchange, headers: dict[bytes, bytes], raw: list[tuple[bytes, bytes]]) -> None:
        """Keep what was decided for this head: a client asks again and again with the same one, but for its length."""
        plain = not incoming.last and not incoming.chunked and not incoming.origin and b"expect" not in headers
        self._known = None
        if plain and len(raw) > 1 and raw[-1][0] == b"content-length":
            self._known = _Known(
                headers=raw[:-1],
                url=incoming.url,
                method=incoming.method,
                version=incoming.version,
                table=self._board.table,
                way=incoming.way,
                key=incoming.key,
                forwarded=incoming.forwarded,
            )

    def _answer_here(
        self, incoming: Exchange, verdict: Preflight | Refusal, raw: list[tuple[bytes, bytes]], *, whole: bool
    ) -> None:
        """It reaches no engine; what is not `whole` has more to say, which nobody would hear."""
        if isinstance(verdict, Preflight):
            incoming.way = verdict.way
            incoming.preflight = next((value for name, value in raw if name.lower() == _ASKED), b"")
        elif whole:
            incoming.refusal = verdict
        else:
            self._refuse(verdict)

    def on_body(self, content: bytes) -> None:
        incoming = self._incoming
        if incoming is None or self._deaf:
            return
        incoming.size += len(content)
        self._board.buffered += len(content)
        if incoming.size > self._limits.body:
            self._refuse(_TOO_LARGE)
        elif self._board.buffered > self._limits.buffered:
            self._refuse(_NO_ROOM)
        elif incoming.way is not None and not incoming.way.page:
            incoming.body.append(content)

    def on_message_complete(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is None or self._deaf:
            return
        if incoming.last:
            self._deaf = True
        self._queue.append(incoming)
        self._turn()
        if len(self._queue) > self._limits.pipelined and not self._pausing and self._transport is not None:
            self._pausing = True
            self._transport.pause_reading()

    # -- Client: what an exchange tells --

    def write(self, content: bytes) -> None:
        if self._transport is not None:
            self._transport.write(content)

    def done(self, exchange: Exchange, *, close: bool) -> None:
        if exchange is not self._at_work:
            return
        self._at_work = None
        if close or self._closing:
            self._linger()
            return
        if self._incoming is None:
            self._since = time.monotonic()
        if self._pausing and self._transport is not None and len(self._queue) <= self._limits.pipelined // 2:
            self._pausing = False
            self._transport.resume_reading()
        self._turn()

    def abort(self) -> None:
        self._at_work = None
        if self._transport is not None:
            self._transport.abort()

    # -- time --

    def tick(self, now: float) -> None:
        """Time has passed: whoever takes too long is let go."""
        if self._closing or self._paused_at:
            if now > (self._closing or self._paused_at + self._limits.stall):
                self.abort_now()
        elif self._at_work is not None:
            self._at_work.tick(now)
        elif self._incoming is None and now - self._since > self._patience:
            self.abort_now()
        if self._incoming is not None and not self._deaf and self._is_late(self._incoming, now):
            self._refuse(_TOO_SLOW)

    @property
    def _patience(self) -> float:
        """Seconds until a client that asks nothing is let go: empty lines are no request, and no silence either."""
        return self._limits.head_time if self._head_size else self._limits.idle_time

    def retire(self) -> None:
        """The gateway ends: no further request is taken here."""
        self._deaf = True
        if self._at_work is None and not self._queue:
            self.abort_now()
        else:
            for exchange in (self._at_work, *self._queue):
                if exchange is not None:
                    exchange.last = True

    def abort_now(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _is_late(self, incoming: Exchange, now: float) -> bool:
        took = now - incoming.started
        if not incoming.method:
            return took > self._limits.head_time
        return took > self._limits.body_grace + incoming.size / self._limits.body_rate

    # -- turns on this connection --

    def _turn(self) -> None:
        """Start the next request, and those after it that are answered at once; a loop: hundreds can come at once."""
        if self._turning:
            return
        self._turning = True
        while self._queue and self._at_work is None and not (self._paused_at or self._closing):
            self._at_work = self._queue.popleft()
            self._at_work.start()
        self._turning = False

    def _refuse(self, why: Refusal) -> None:
        """Answer this after what was asked before, and hear no more: what follows on this connection cannot be trusted."""
        if self._deaf:
            return
        self._deaf = True
        exchange = self._incoming or Exchange(self, self._board, self._count())
        self._incoming = None
        exchange.refusal = why
        exchange.last = True
        exchange.forget_body()
        self._queue.append(exchange)
        if self._pausing and self._transport is not None:
            self._pausing = False
            self._transport.resume_reading()
        self._turn()

    def _linger(self) -> None:
        """Say that no more comes, and wait a moment for the client to hear it.

        Closing at once with its bytes unread would reset the connection under the answer (RFC 9112, 9.6).
        """
        transport = self._transport
        if transport is None:
            return
        self._deaf = True
        for exchange in self._queue:
            exchange.abandon()
        self._queue.clear()
        if transport.can_write_eof():
            transport.write_eof()
            self._closing = time.monotonic() + self._limits.linger
        else:
            transport.close()
            self._closing = time.monotonic() + self._limits.linger

    def _write(self, content: bytes) -> None:
        if self._transport is not None:
            self._transport.write(content)

    def _here(self) -> bool:
        if self._local is None:
            peer: tuple[str, int] | None = self._transport.get_extra_info("peername") if self._transport is not None else None
            self._local = peer is not None and ipaddress.ip_address(peer[0].partition("%")[0]).is_loopback
        return self._local


def _credentials(headers: dict[bytes, bytes]) -> bytes:
    """The key, as OpenAI's or as Anthropic's clients send it."""
    authorization = headers.get(b"authorization")
    if authorization is not None and authorization[:7].lower() == _BEARER:
        return authorization[7:].strip()
    return headers.get(b"x-api-key", b"")
