"""Connections that come: how many are taken at once, and what becomes of those that cannot be."""

import asyncio
import errno
import socket
from contextlib import ExitStack
from typing import Any

import pytest

from launcher.gateway.accepting import Listener
from tests.gateway.world import run, until


class Met(asyncio.Protocol):
    """Remembers who came."""

    def __init__(self, all_of_them: list["Met"]) -> None:
        self.all = all_of_them

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.all.append(self)


class Crowded(socket.socket):
    """A socket of a process that has had all its files for a while."""

    refusals = 1

    def accept(self) -> tuple[socket.socket, Any]:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def listening(kind: type[socket.socket] = socket.socket) -> socket.socket:
    made = kind(socket.AF_INET, socket.SOCK_STREAM)
    made.bind(("127.0.0.1", 0))
    return made


def test_all_that_wait_are_taken_before_anybody_else_has_a_turn() -> None:
    async def main() -> None:
        met: list[Met] = []
        bound = listening()
        listener = Listener(bound, lambda: Met(met), tls=None, handshake=1.0)
        with ExitStack() as clients:
            for _ in range(40):
                clients.enter_context(socket.create_connection(bound.getsockname()))
            for _ in range(4):
                # A turn for the reader, one for the tasks, and two for uvloop's own words to them.
                await asyncio.sleep(0)
            taken = len(met)
            await until(lambda: len(met) == 40)
            for each in met:
                each.transport.close()
        listener.close()
        assert taken == 40

    run(main())


def test_whoever_cannot_be_taken_for_lack_of_files_is_taken_later() -> None:
    async def main() -> None:
        met: list[Met] = []
        bound = listening(Crowded)
        listener = Listener(bound, lambda: Met(met), tls=None, handshake=1.0)
        with socket.create_connection(bound.getsockname()):
            await until(lambda: len(met) == 1)
            met[0].transport.close()
        listener.close()

    run(main())


def test_closed_it_takes_nobody() -> None:
    async def main() -> None:
        met: list[Met] = []
        bound = listening()
        place = bound.getsockname()
        listener = Listener(bound, lambda: Met(met), tls=None, handshake=1.0)
        listener.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(place)
        assert met == []

    run(main())
