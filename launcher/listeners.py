"""The sockets on which the gateway listens: loopback's at the one port, and beyond it what a person wishes."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from launcher import interfaces, ports, store
from launcher.errors import LauncherError
from launcher.exposure import Exposure, Interfaces, Opening, openings
from launcher.gateway import tls
from launcher.gateway.gateway import Gateway
from launcher.home import Home

# How often an address that another program has is tried again, and how often we look whether addresses came, went, or can be
# had by now, and whether a certificate was renewed (seconds).
_AGAIN = 1.0
_LOOK = 5.0


@dataclass(frozen=True, slots=True)
class _Open:
    socket: socket.socket
    tls: ssl.SSLContext | None = None


class Listeners:
    """Sees to it that the gateway listens where it is wished, and tells what is reachable.

    Loopback's port comes first and never depends on the others: what cannot be had beyond it is told and tried again.
    """

    def __init__(self, home: Home, gateway: Gateway, say: Callable[[str], None]) -> None:
        self.exposure = Exposure()
        # What a Host header may say beside loopback's names.
        self.hosts: frozenset[str] = frozenset()
        self._home = home
        self._gateway = gateway
        self._say = say
        self._port = 0
        self._loopback: socket.socket | None = None
        self._beyond: dict[str, _Open] = {}
        self._told: tuple[Opening, ...] = ()
        self._certificate = _Certificate()
        self._tried = 0.0
        self._looked = 0.0
        self._seen = -1
        self._fault = ""

    async def attend(self, *, stay: bool) -> bool:
        """Look, and listen accordingly; whether the names or origins that are let in may have changed.

        One that is to `stay` takes the usual port where none was chosen.
        """
        moved = self._see_to_loopback(stay=stay)
        changed = store.changed(self._home.exposure)
        due = self.exposure.beyond and time.monotonic() - self._looked >= _LOOK
        if not self._port or not (moved or due or changed != self._seen):
            return False
        self._looked, self._seen = time.monotonic(), changed
        try:
            self.exposure = store.exposure(self._home)
        except LauncherError as fault:
            self._tell_once(fault.message)
            return False
        await self._see_to_the_rest(moved=moved)
        return True

    def _see_to_loopback(self, *, stay: bool) -> bool:
        """Whether the port is another one now."""
        wished = store.port(self._home)
        if wished is None and stay:
            wished = ports.FIRST
            store.keep_port(self._home, wished)
        if wished is None or wished == self._port or time.monotonic() - self._tried < _AGAIN:
            return False
        self._tried = time.monotonic()
        try:
            listening = _on_loopback(wished)
        except OSError as error:
            told = f"port {wished} is in use by {ports.holder(wished) or error.strerror}"
            store.keep_listening(self._home, 0, told, self._told)
            self._say(told)
            return False
        self._port, self._tried, self._loopback = wished, 0.0, listening
        self._listen(self._beyond)
        store.keep_listening(self._home, wished, "", self._told)
        self._say(f"the gateway listens on {ports.LOOPBACK}:{wished}")
        return True

    async def _see_to_the_rest(self, *, moved: bool) -> None:
        exposure = self.exposure
        found = Interfaces()
        if exposure.beyond:
            found = await asyncio.to_thread(interfaces.read, docker=exposure.docker)
        wished = {each.address: each for each in openings(exposure, found)}
        context = self._certificate.context(exposure.tls)
        if isinstance(context, str):
            # Never in clear text instead.
            wished = {address: _unless_plain(each, context) for address, each in wished.items()}
            context = None
        contexts = {address: context if each.tls else None for address, each in wished.items() if not each.fault}
        kept = {} if moved else {a: each for a, each in self._beyond.items() if a in contexts and each.tls is contexts[a]}
        if kept.keys() != self._beyond.keys():
            # What goes, goes first: an address may come back with TLS.
            self._listen(kept)
        for address in contexts.keys() - kept.keys():
            try:
                kept[address] = _Open(ports.bound(address, self._port), contexts[address])
            except OSError as error:
                wished[address] = replace(wished[address], fault=f"{address}:{self._port}: {error.strerror}")
        self._listen(kept)
        self.hosts = frozenset((*exposure.names, *kept))
        self._tell(tuple(wished.values()), moved=moved)

    def _listen(self, beyond: Mapping[str, _Open]) -> None:
        self._beyond = dict(beyond)
        all_of_them = {each.socket: each.tls for each in beyond.values()}
        if self._loopback is not None:
            all_of_them = {self._loopback: None, **all_of_them}
        self._gateway.listen(all_of_them)

    def _tell(self, told: tuple[Opening, ...], *, moved: bool) -> None:
        """Say what is new, and keep it for whoever asks."""
        before = set() if moved else set(self._told)
        for opening in told:
            if opening not in before:
                self._say(opening.text(self._port))
        for opening in self._told:
            if not opening.fault and opening.address not in {each.address for each in told}:
                self._say(f"{opening.url(self._port)} is not reachable any more")
        if told != self._told or moved:
            self._told = told
            store.keep_listening(self._home, self._port, "", told)

    def _tell_once(self, fault: str) -> None:
        if fault != self._fault:
            self._fault = fault
            self._say(fault)


def _on_loopback(port: int) -> socket.socket:
    """A socket on loopback's port; raises OSError where another program listens, be it on IPv6's loopback alone."""
    if not ports.is_free(port):
        raise OSError(None, "another program")
    return ports.bound(ports.LOOPBACK, port)


def _unless_plain(opening: Opening, fault: str) -> Opening:
    return replace(opening, fault=opening.fault or fault) if opening.tls else opening


class _Certificate:
    """What is proved to clients beyond this machine; renewed where its files are."""

    def __init__(self) -> None:
        self._files: tuple[Path, ...] = ()
        self._stamps: list[int] = []
        self._context: ssl.SSLContext | None = None

    def context(self, files: tuple[Path, ...]) -> ssl.SSLContext | str | None:
        """The same one while the files are the same, whatever they say by now; in words, why there is none."""
        if not files:
            self._context = None
            return None
        stamps = [store.changed(path) for path in files]
        if self._context is not None and files == self._files and stamps == self._stamps:
            return self._context
        try:
            if self._context is None or files != self._files:
                self._context = None
                self._context = tls.context(*files)
            else:
                tls.renew(self._context, *files)
        except LauncherError as fault:
            # A renewal that is not whole yet: the certificate from before is good for a while.
            return self._context or fault.message
        self._files, self._stamps = files, stamps
        return self._context
