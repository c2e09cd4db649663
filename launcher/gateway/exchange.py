"""One request and its answer: from the client's head to the last byte, through waiting, retries and faults."""

import asyncio
import time
from dataclasses import replace
from typing import Protocol

import httptools

from launcher.gateway import answers, body
from launcher.gateway.access_log import Line
from launcher.gateway.decisions import Refusal, destination
from launcher.gateway.links import CHUNKED, UNTIL_CLOSE, FarPool, Link, Pool
from launcher.gateway.paths import WAYS, Dialect, Way
from launcher.gateway.switchboard import Served, Switchboard
from launcher.gateway.tally import tokens

# How the engine's bytes reach the client: as they are; with chunks made here; freed of chunks, for HTTP/1.0; not at all, but
# told as an event, where an error meets a stream that was opened already; not at all, for HEAD.
_RAW, _WRAPPED, _PLAIN, _COLLECTED, _BARE = range(5)
_COLLECT = 64 << 10
# The client went away before the answer's end (nginx' number for it).
_LEFT = 499
_GONE = Refusal(502, "the engine ended before it had answered", "engine_gone")
_CUT = Refusal(502, "the engine ended in the middle of its answer", "engine_gone")
_FAR_CUT = Refusal(502, "the provider ended in the middle of its answer", "provider_gone")
# What providers are told of a client's headers, and what Anthropic's API does not answer without.
_TOLD = (b"accept:", b"user-agent:", b"anthropic-version:", b"anthropic-beta:")
_VERSION = b"anthropic-version: 2023-06-01\r\n"
# A client that says this is answered by the model that it asks for, or not at all.
_NO_OTHER = b"x-launcher-fallback: none\r\n"


class Client(Protocol):
    """Where the answer goes."""

    def write(self, content: bytes) -> None:
        """Send it, or keep it until the client takes it."""

    def done(self, exchange: "Exchange", *, close: bool) -> None:
        """The answer is whole, or all there will be."""

    def abort(self) -> None:
        """End the connection so that the client sees that something is missing."""


class Exchange:
    """A request on its way."""

    # The start of every field stands once, here: a request sets only what it has.
    url = b""
    method = b""
    version = "1.1"
    size = 0
    chunked = False
    # No request follows on this connection.
    last = False
    way: Way | None = None
    key = ""
    refusal: Refusal | None = None
    # Lines of each answer's head: for a browser's page, of a fallback; the headers that a preflight names.
    origin = b""
    preflight: bytes | None = None
    # Where it goes.
    model = ""
    stream = False
    served: Served | None = None
    # At a provider: whose fallback it is, if it is one. A provider that gave no byte is not asked again.
    far = False
    instead_of: Served | None = None
    far_fault = ""
    pool: Pool | None = None
    link: Link | None = None
    task: asyncio.Task[None] | None = None
    waiting = False
    prefix = b""
    faulted = 0.0
    tries = 0
    retried = False
    # What became of it.
    status = 0
    answered = False
    opened = False
    over = False
    sse = False
    mode = 0
    sent = 0
    events = 0
    asked_tokens = 0
    answered_tokens = 0
    sent_at = 0.0
    first_at = 0.0
    last_at = 0.0
    collected = b""
    decoder: "_Plain | None" = None

    def __init__(self, client: Client, board: Switchboard, number: int) -> None:
        self.client = client
        self.board = board
        self.number = number
        self.started = self.waits = time.monotonic()
        self.forwarded: list[bytes] = []
        self.body: list[bytes] = []

    @property
    def identity(self) -> bytes:
        """What logs, engines and clients call this request."""
        return b"req-%x" % self.number

    # -- towards an engine --

    def start(self) -> None:
        """The request is whole: decide what becomes of it."""
        way = self.way
        if self.preflight is not None and way is not None:
            self._tell_preflight(way, self.preflight)
        elif self.refusal is not None or way is None:
            self.refuse(self.refusal or _GONE)
        elif way.page:
            self.go(self.board.pages)
        else:
            self.route()

    def _tell_preflight(self, way: Way, headers: bytes) -> None:
        self.status = 204
        self.client.write(answers.preflight(way, self.origin, headers, request=self.identity, close=self.last))
        self._end(close=self.last)

    def route(self) -> None:
        """Go where the model is that it asks for, by the table as it is now."""
        content = self.body[0] if len(self.body) == 1 else b"".join(self.body)
        asked = body.read(content)
        if isinstance(asked, str):
            self.refuse(Refusal(400, asked, "bad_request"))
            return
        route = destination(self.board.table, asked.model)
        if isinstance(route, Refusal):
            self.refuse(route)
            return
        self.stream = bool(asked.stream)
        self.model = route.name
        if asked.model and asked.model != route.name:
            content = body.with_model(content, route.name)
        self.body = [content]
        if len(route.backends) > 1:
            self.prefix = body.prefix(content)
        served = self.served = self.board.served[route.name]
        served.asked = self.started
        self.waiting = True
        self.board.place(self, served)

    def go(self, pool: Pool) -> None:
        """Ask this backend; the request counts as being there from now on."""
        self.waiting = False
        self.pool = pool
        pool.in_flight += 1
        link = pool.idle()
        if link is not None:
            self._ask(link)
        else:
            self.task = asyncio.get_running_loop().create_task(self._connect(pool))

    def divert(self, far: Served) -> bool:
        """Ask this provider's model in the words that it knows, as nothing else than its path and name there changes."""
        pool, way, served = far.pools[0], self.way, self.served
        if not isinstance(pool, FarPool) or way is None or served is None or self.far_fault or not pool.remote.head(way.path):
            return False
        if far is not served and _NO_OTHER in map(bytes.lower, self.forwarded):
            return False
        self.far = True
        self.body = [body.with_model(self.body[0], pool.remote.model)]
        self.forwarded = [line for line in self.forwarded if line.startswith(_TOLD)]
        if way.dialect == "anthropic" and not any(line.startswith(b"anthropic-version") for line in self.forwarded):
            self.forwarded.append(_VERSION)
        if far is not served:
            self._tell_of(far, served)
        self.go(pool)
        return True

    def _tell_of(self, far: Served, instead_of: Served) -> None:
        """Who answers: in the head or the stream, in the log, in the counts."""
        name = far.route.name
        instead_of.tally.diverted[name] = instead_of.tally.diverted.get(name, 0) + 1
        self.instead_of, self.served = instead_of, far
        self.model = f"{instead_of.route.name}>{name}"
        told = answers.answered_by(name, opened=self.opened)
        if not self.opened:
            self.origin += told
        else:
            self.client.write(told if self.version == "1.0" else answers.chunk(told))

    async def _connect(self, pool: Pool) -> None:
        try:
            link = await pool.connect()
        except (OSError, TimeoutError):
            self.task = None
            self._unanswered()
            return
        self.task = None
        self._ask(link)

    def _ask(self, link: Link) -> None:
        way, pool = self.way, self.pool
        if way is None or pool is None:
            return
        self.link = link
        self.sent_at = time.monotonic()
        content = self.body[0] if self.body else b""
        method = b"GET" if self.method == b"HEAD" else self.method
        framing = b"Content-Length: %d\r\nX-Request-Id: %b\r\n%b\r\n" % (len(content), self.identity, b"".join(self.forwarded))
        link.ask(self, pool.head(method, way) + framing, content)

    # -- Answered: what the link tells --

    def head(self, status: int, lines: list[bytes], length: int, body: bytes, *, complete: bool) -> None:
        """The answer has begun."""
        self.status = status
        self.answered = True
        self.forget_body()
        if complete:
            self.link = None
            length = max(length, 0) if length == UNTIL_CLOSE else length
        if self.stream and self.served is not None:
            self.sse = any(line[:12].lower() == b"content-type" and b"text/event-stream" in line for line in lines)
        if self.opened:
            self._choose_when_opened(length)
        else:
            self._begin(status, lines, length, body)
            body = b"" if self.mode in {_RAW, _BARE} else body
        if complete or body:
            self.more(body, complete=complete)

    def more(self, piece: bytes, *, complete: bool) -> None:
        """The next bytes."""
        if complete:
            self.link = None
        if piece:
            self._count(piece)
            if self.mode == _RAW:
                self.client.write(piece)
            else:
                self._pass(piece)
        if complete:
            self._complete()

    def broken(self, link: Link) -> None:
        """The engine went away."""
        self.link = None
        if self.answered:
            self._cut(link)
        elif link.reused and not link.answering and not self.retried and self.pool is not None:
            # It was closed while it was idle, in the moment that we asked: the engine is there as before.
            self.retried = True
            self.task = asyncio.get_running_loop().create_task(self._connect(self.pool))
        else:
            self.tries += 1
            self._unanswered()

    def _begin(self, status: int, lines: list[bytes], length: int, body: bytes) -> None:
        """The head for the client, in our own words, with as much of the body as came with it."""
        parts = [answers.status_line(status), self.origin, *lines]
        if length >= 0:
            parts.append(b"Content-Length: %d\r\n" % length)
        elif self.version == "1.0":
            self.last = True
            self.mode = _PLAIN if length == CHUNKED else _RAW
        else:
            parts.append(b"Transfer-Encoding: chunked\r\n")
            self.mode = _RAW if length == CHUNKED else _WRAPPED
        if self.method == b"HEAD":
            self.mode = _BARE
        parts.append(
            b"X-Request-Id: %b\r\nConnection: close\r\n\r\n" % self.identity
            if self.last
            else b"X-Request-Id: %b\r\n\r\n" % self.identity
        )
        if self.mode == _RAW and body:
            self._count(body)
            parts.append(body)
        self.client.write(b"".join(parts))

    def _choose_when_opened(self, length: int) -> None:
        """The client has its 200 already: what comes now is put into its stream."""
        if self.status != 200 or not self.sse:  # noqa: PLR2004 - the status
            self.mode = _COLLECTED
        elif self.version == "1.0":
            self.mode = _PLAIN if length == CHUNKED else _RAW
        else:
            self.mode = _RAW if length == CHUNKED else _WRAPPED
        if length == CHUNKED and self.mode == _COLLECTED:
            self.decoder = _Plain()

    def _pass(self, piece: bytes) -> None:
        if self.mode == _WRAPPED:
            self.client.write(answers.chunk(piece))
        elif self.mode == _PLAIN:
            self.decoder = self.decoder or _Plain()
            self.client.write(self.decoder.feed(piece))
        elif self.mode == _COLLECTED and len(self.collected) < _COLLECT:
            self.collected += self.decoder.feed(piece) if self.decoder else piece

    def _count(self, piece: bytes) -> None:
        self.sent += len(piece)
        served = self.served
        if served is None:
            return
        if not self.first_at:
            self.first_at = self.last_at = time.monotonic()
        elif self.sse:
            now = time.monotonic()
            served.tally.between.add(now - self.last_at)
            self.last_at = now
        if self.sse:
            self.events += piece.count(b"data: ")
        if b'_tokens"' in piece and (told := tokens(piece)):
            self.asked_tokens, self.answered_tokens = told

    def _complete(self) -> None:
        if self.mode == _WRAPPED:
            self.client.write(answers.LAST_CHUNK)
        elif self.mode == _COLLECTED:
            self._tell_collected()
        served, way = self.served, self.way
        if served is not None and way is not None and way.generates and self.status == 200:  # noqa: PLR2004 - the status
            served.succeeded = time.monotonic()
        self._end(close=self.last)

    def _tell_collected(self) -> None:
        """The engine's refusal, as an event: its own message, where it tells one."""
        message = body.message(self.collected) or f"the engine answered with status {self.status}"
        self._end_stream(Refusal(self.status, message, "engine_refused"))

    def _cut(self, link: Link) -> None:
        """The engine went away in the middle: an event says so where one can stand, and the connection ends."""
        self.status = 502
        why = _FAR_CUT if self.far else _CUT
        if (
            (self.sse and self.mode == _RAW and self.version == "1.1" and link.at_boundary())
            or self.mode == _COLLECTED
            or (self.sse and (self.mode == _WRAPPED or self.version == "1.0"))
        ):
            self._end_stream(why)
        else:
            self._leave_engine()
            self._account()
            self.client.abort()
            return
        self._end(close=True)

    def _unanswered(self) -> None:
        """No byte of an answer came: the backend is left alone for a moment, and the request waits again, within reason."""
        now = time.monotonic()
        pool, served = self.pool, self.served
        if served is not None and isinstance(pool, FarPool):
            self._unanswered_there(pool, served)
            return
        if pool is None or served is None or self.tries > 1:
            self.refuse(_GONE)
            return
        pool.bad_until = now + self.board.limits.retry
        self.faulted = self.faulted or now
        self.pool = None
        self.waiting = True
        self.board.release(pool, None)
        self.board.again(self, served)

    def _unanswered_there(self, pool: FarPool, far: Served) -> None:
        """A provider gave no byte: whoever asked for a local model waits for that one, as if there were no fallback."""
        self.far_fault = f"{far.route.name} ({pool.remote.host}) does not answer: {pool.fault}"
        local = self.instead_of
        if local is None or self.tries > 1:
            self.refuse(Refusal(502, self.far_fault, "provider_gone"))
            return
        self.pool, self.far, self.instead_of, self.served = None, False, None, local
        self.model = local.route.name
        self.origin = self.origin.replace(answers.answered_by(far.route.name, opened=False), b"")
        self.body = [body.with_model(self.body[0], local.route.name)]
        self.waiting = True
        self.board.release(pool, far)
        self.board.again(self, local)

    # -- while it waits --

    def tick(self, now: float) -> None:
        """Time has passed: a stream that waits says so, one that waited too long ends."""
        served = self.served
        if not self.waiting or served is None:
            return
        limits = self.board.limits
        route = served.route
        if self.faulted and route.state == "ready" and now - self.faulted > limits.grace:
            self._leave_turns()
            self.refuse(_GONE)
        elif now - self.started > limits.wait:
            self._leave_turns()
            self.refuse(Refusal(503, f"{route.name} had no turn in {limits.wait:g} s", "waited_too_long", retry_after=5))
        elif self.stream and now - self.waits >= limits.comments:
            self.waits = now
            self._open()
            line = answers.comment(route.name, route.state, len(served.turns) - 1)
            self.client.write(line if self.version == "1.0" else answers.chunk(line))

    def _open(self) -> None:
        if self.opened:
            return
        self.opened = True
        self.last = self.last or self.version == "1.0"
        close = b"Connection: close\r\n" if self.last else b""
        framing = b"" if self.version == "1.0" else b"Transfer-Encoding: chunked\r\n"
        head = (answers.STREAM_HEAD, self.origin, framing, close, self.identity)
        self.client.write(b"%b%b%b%bX-Request-Id: %b\r\n\r\n" % head)

    def _leave_turns(self) -> None:
        if self.waiting and self.served is not None:
            self.served.turns.leave(self)
            self.waiting = False

    # -- its end --

    def refuse(self, why: Refusal) -> None:
        """Say why there is no other answer."""
        self.waiting = False
        if self.far_fault and self.far_fault != why.message:
            why = replace(why, message=f"{why.message}; {self.far_fault}")
        self.status = why.status
        if self.opened:
            self._end_stream(why)
            self._end(close=True)
            return
        bare = self.method == b"HEAD"
        self.client.write(
            answers.refusal(why, self._dialect, request=self.identity, close=self.last, bare=bare, origin=self.origin)
        )
        self._end(close=self.last)

    def abandon(self) -> None:
        """The client went away: nothing of the request stays."""
        if self.over:
            return
        self._leave_turns()
        if self.task is not None:
            self.task.cancel()
            self.task = None
        if self.link is not None:
            self.link.drop()
            self.link = None
        self.status = _LEFT
        self._leave_engine()
        self._account()

    def forget_body(self) -> None:
        """The body was taken: its room is free."""
        self.board.buffered -= self.size
        self.size = 0
        self.body = []

    def _end(self, *, close: bool) -> None:
        self._leave_engine()
        self._account()
        self.client.done(self, close=close)

    def _leave_engine(self) -> None:
        pool, self.pool = self.pool, None
        if pool is not None:
            self.board.release(pool, self.served)

    def _account(self) -> None:
        self.over = True
        self.forget_body()
        served = self.served
        now = time.monotonic()
        if served is not None:
            tally = served.tally
            tally.statuses[self.status] = tally.statuses.get(self.status, 0) + 1
            tally.whole.add(now - self.started)
            if self.sent_at:
                tally.waited.add(self.sent_at - self.started)
            if self.first_at:
                tally.first.add(self.first_at - self.started)
            tally.asked_tokens += self.asked_tokens
            # Where no tokens are told, an engine's event is one, but for the first and the last.
            tally.answered_tokens += self.answered_tokens or max(0, self.events - 2)
        first = self.first_at - self.started if self.first_at else 0.0
        self.board.log.append(
            Line(
                time.time(),
                self.number,
                self.key,
                self.method,
                self.url,
                self.model,
                self.status,
                now - self.started,
                first,
                self.sent,
            )
        )

    def _end_stream(self, why: Refusal) -> None:
        """What went wrong, as the last event."""
        event = answers.error_event(why, self._dialect)
        self.client.write(event if self.version == "1.0" else answers.chunk(event) + answers.LAST_CHUNK)

    @property
    def _dialect(self) -> Dialect:
        way = self.way or WAYS.get(self.url.partition(b"?")[0])
        return way.dialect if way is not None else "openai"


class _Plain:
    """Takes chunks away."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

    def feed(self, piece: bytes) -> bytes:
        self._pieces.clear()
        self._parser.feed_data(piece)
        return b"".join(self._pieces)

    def on_body(self, content: bytes) -> None:
        self._pieces.append(content)
