"""Takes connections in, all that wait at once.

uvloop takes one in each turn of its loop, and a turn in which 63 clients are busy with large bodies lasts 8 ms: the last of
64 that come together would wait for half a second.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable

# As many as waited, or at most so many before those that are connected have their turn.
_AT_ONCE = 64
_BACKLOG = 1024
# Seconds until it is tried again where there are no more files or no memory, as asyncio does it.
_PAUSE = 1.0


class Listener:
    """One bound socket that is listened on until `close`; `tls` as the server proves itself, or clear text."""

    def __init__(
        self, listening: socket.socket, new: Callable[[], asyncio.Protocol], *, tls: ssl.SSLContext | None, handshake: float
    ) -> None:
        self._socket = listening
        self._new = new
        self._tls = tls
        self._handshake = handshake if tls else None
        self._welcomed: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        listening.setblocking(False)  # noqa: FBT003 - socket's signature
        listening.listen(_BACKLOG)
        self._loop.add_reader(listening, self._accept)

    def close(self) -> None:
        """Take no more; who is connected stays, who is not yet is let go."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        for task in self._welcomed:
            task.cancel()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                taken, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._loop.remove_reader(self._socket)
                self._pause = self._loop.call_later(_PAUSE, self._loop.add_reader, self._socket, self._accept)
                return
            task = self._loop.create_task(self._welcome(taken))
            self._welcomed.add(task)
            task.add_done_callback(self._welcomed.discard)

    async def _welcome(self, taken: socket.socket) -> None:
        try:
            taken.setblocking(False)  # noqa: FBT003 - socket's signature
            await self._loop.connect_accepted_socket(self._new, taken, ssl=self._tls, ssl_handshake_timeout=self._handshake)
        except (OSError, TimeoutError):  # it went, or speaks no TLS
            taken.close()
