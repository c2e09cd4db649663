"""The one address: listens, takes tables from whoever supervises the engines, and tells what goes on."""

import asyncio
import concurrent.futures
import ctypes
import itertools
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.gateway import access_log, tls, tunnel
from launcher.gateway.accepting import Listener
from launcher.gateway.front import Front
from launcher.gateway.limits import Limits
from launcher.gateway.links import FarPool, Link, Pool
from launcher.gateway.metrics import Reading
from launcher.gateway.pages import Pages
from launcher.gateway.switchboard import Switchboard
from launcher.gateway.table import LOOPBACK_NAMES, Backend, Remote, Table, Usage

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

# Seconds that `publish` waits for the loop: it is never that busy, so a longer wait would be a bug.
_TAKEN = 30.0
_GIVE_WAY = 0.0005
# As malloc.h has them. By itself malloc gives each large body's pages back to the kernel and faults them in again for the next.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT, _MAPPED = 8 << 20, 4 << 20


class Gateway:
    """All requests of all clients, in one loop's thread; `publish` and `usage` may be called from any.

    `wake(name)` is called in the loop, once for each need, when a request comes for a model that does not run; it must not
    block. `gpus` is called in a thread, at most once in some seconds. `log` is the file of the access log.
    `trust` makes what providers' certificates are checked with, once, in a thread; `proxies` tells which are set for them.
    """

    def __init__(
        self,
        *,
        wake: Callable[[str], None],
        gpus: Callable[[], Sequence[Reading]] = tuple,
        limits: Limits | None = None,
        log: Path | None = None,
        trust: Callable[[], ssl.SSLContext] = tls.trust,
        proxies: Callable[[], Mapping[str, str]] = tunnel.settings,
    ) -> None:
        self._proxies = proxies
        self._trust = trust
        self._trusted: ssl.SSLContext | None = None
        self._limits = limits or Limits()
        self._log = log
        self._pages = Pages(self._switchboard, gpus)
        pages = Pool(self._pages.connect, host="gateway", key="", idle=60.0, timeout=self._limits.connect)
        self._board = Switchboard(self._limits, pool=self._pool, pages=pages, wake=wake)
        self._fronts: set[Front] = set()
        # Ordered and never the same twice, in this process or the one before it.
        self._count = itertools.count(time.time_ns() // 1000).__next__
        self._listeners: dict[socket.socket, Listener] = {}
        self._loop: AbstractEventLoop | None = None
        self._thread = 0
        self._opening: asyncio.Task[None] | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Get ready in the loop that this is called in; nobody is listened to yet."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        # Whoever else computes in this process gives way after so many seconds, not after Python's 5 ms.
        sys.setswitchinterval(_GIVE_WAY)
        _keep_freed_memory()
        # Beside what else the process begins with: whoever asks for a page waits for it.
        self._opening = asyncio.create_task(self._pages.open())

    def listen(self, sockets: Mapping[socket.socket, ssl.SSLContext | None]) -> None:
        """Listen on these bound sockets, each with its TLS or in clear text, and on no others; open connections go on."""
        for each, context in sockets.items():
            if each not in self._listeners:
                self._listeners[each] = Listener(each, self._front, tls=context, handshake=self._limits.head_time)
        for gone in self._listeners.keys() - sockets.keys():
            self._listeners.pop(gone).close()

    async def close(self, *, grace: float = 5.0) -> None:
        """Listen no more, give running requests `grace` seconds, then end them."""
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        for front in list(self._fronts):
            front.retire()
        deadline = time.monotonic() + grace
        while self._fronts and time.monotonic() < deadline:  # noqa: ASYNC110 - connections end by themselves, and tell nobody
            await asyncio.sleep(min(0.05, grace))
        for front in list(self._fronts):
            front.abort_now()
        while self._fronts:  # noqa: ASYNC110 - the same
            await asyncio.sleep(0)
        for pool in (*self._board.pools.values(), self._board.pages):
            pool.retire()
        await self._last_lines()
        if self._opening is not None:
            await self._opening
        await self._pages.close()

    async def _last_lines(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        for _ in range(2):
            if self._writing is not None:
                await self._writing
            self._flush()

    def publish(self, table: Table) -> None:
        """Decide by this table from now on: when this returns, no request goes to a backend that it does not name."""
        if self._loop is None or threading.get_ident() == self._thread:
            self._board.adopt(table)
            return
        taken: concurrent.futures.Future[None] = concurrent.futures.Future()

        def take() -> None:
            try:
                self._board.adopt(table)
                self._keep_sweeping()
            except BaseException as error:
                taken.set_exception(error)
                raise
            taken.set_result(None)

        self._loop.call_soon_threadsafe(take)
        taken.result(timeout=_TAKEN)

    def usage(self) -> Usage:
        """What goes on now."""
        return self._board.usage()

    @property
    def buffered(self) -> int:
        """Bytes of bodies that no engine has taken yet."""
        return self._board.buffered

    def _switchboard(self) -> Switchboard:
        return self._board

    def _front(self) -> Front:
        self._keep_sweeping()
        return Front(self._board, self._limits, self._fronts, self._count)

    def _pool(self, backend: Backend | Remote) -> Pool:
        return self._far_pool(backend) if isinstance(backend, Remote) else self._engine_pool(backend)

    def _far_pool(self, remote: Remote) -> Pool:
        async def connect(new: Callable[[], Link]) -> Link:
            if remote.tls and self._trusted is None:
                self._trusted = await asyncio.to_thread(self._trust)
            context = self._trusted if remote.tls else None
            if context and (through := tunnel.proxy(remote.host, remote.port, self._proxies())):
                link = new()
                await tunnel.connect(link, through, remote.host, remote.port, context)
                return link
            name = remote.host if context else None
            loop = asyncio.get_running_loop()
            _, link = await loop.create_connection(new, remote.host, remote.port, ssl=context, server_hostname=name)
            return link

        return FarPool(connect, remote, idle=self._limits.remote_idle, timeout=self._limits.remote_connect)

    def _engine_pool(self, backend: Backend) -> Pool:
        async def connect(new: Callable[[], Link]) -> Link:
            transport, link = await asyncio.get_running_loop().create_connection(new, backend.host, backend.port)
            if backend.host not in LOOPBACK_NAMES:
                _notice_silence(transport.get_extra_info("socket"))
            return link

        host = f"[{backend.host}]" if ":" in backend.host else backend.host
        limits = self._limits
        return Pool(connect, host=f"{host}:{backend.port}", key=backend.key, idle=limits.engine_idle, timeout=limits.connect)

    # -- time: one look at all that may not take for ever; none while nobody is there --

    def _keep_sweeping(self) -> None:
        if self._sweep is None and self._loop is not None:
            self._sweep = self._loop.call_later(self._limits.tick, self._look)

    def _look(self) -> None:
        self._sweep = None
        now = time.monotonic()
        for front in list(self._fronts):
            front.tick(now)
        busy = self._board.sweep(now)
        self._flush()
        if busy or self._fronts or self._board.log:
            self._keep_sweeping()

    def _flush(self) -> None:
        """Write the log in a thread, one at a time: a slow disk delays lines and no request."""
        lines = self._board.log
        if not lines or (self._writing is not None and not self._writing.done()):
            return
        self._board.log = []
        if self._log is not None and self._loop is not None:
            with suppress(RuntimeError):  # the loop's threads are gone at its very end
                self._writing = self._loop.run_in_executor(None, access_log.write, self._log, lines)


def _notice_silence(connection: socket.socket) -> None:
    """A machine that lost its power says nothing: the kernel asks it, and breaks the connection after about 20 s (tcp(7))."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 20_000)):
        if number := getattr(socket, option, None):
            connection.setsockopt(socket.IPPROTO_TCP, number, value)


def _keep_freed_memory() -> None:
    """Have malloc keep some that was freed, and map only what is larger than nearly all bodies; where malloc is glibc's."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_MMAP_THRESHOLD, _MAPPED)
