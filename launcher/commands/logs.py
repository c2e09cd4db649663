"""`launcher logs`: what an engine wrote."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import store
from launcher.errors import LauncherError
from launcher.server import Server
from launcher.tail import Tail
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType

_LOOK = 0.2


@dataclass(frozen=True, slots=True)
class LogsResult:
    """The last lines of a log."""

    name: str
    path: Path
    lines: tuple[str, ...]
    exit_code: int = 0

    def json(self) -> object:
        return {"name": self.name, "path": str(self.path), "lines": list(self.lines)}

    def text(self) -> "RenderableType":

        return "\n".join(self.lines)


def run(world: World, name: str | None, *, lines: int, previous: bool = False) -> LogsResult:
    """The last `lines` lines, of the start before the last if `previous`.

    Raises LauncherError if it is not clear whose log is meant.
    """
    server = _server(world, name)
    log = server.log.with_name(f"{server.log.name}.1") if previous else server.log
    if not log.exists():
        raise _no_log(server, log)
    with log.open(encoding="utf-8", errors="replace") as file:
        last = deque(file, maxlen=lines)
    return LogsResult(server.name, log, tuple(line.rstrip("\n") for line in last))


def follow(world: World, name: str | None, *, lines: int) -> Iterator[str]:
    """The last lines and then each new one as it comes, until the engine has ended; a log that begins anew is followed."""
    server = _server(world, name)
    if not server.log.exists():
        raise _no_log(server, server.log)
    tail = Tail(server.log)
    begun = tail.new()
    yield from begun[max(0, len(begun) - lines) :]
    while True:
        # Asked before the file is read, so that the last words of an engine are not missed.
        alive = _alive(world, server.key)
        new = tail.new()
        yield from new
        if not alive and not new:
            return
        time.sleep(_LOOK)


def _no_log(server: Server, log: Path) -> LauncherError:
    return LauncherError(f"{server.name} has no log at {log}", hint="each `launcher up` that starts it writes one")


def _server(world: World, name: str | None) -> Server:
    if name and (found := store.named(world.home, name)):
        return found
    servers = store.seen(world.home)
    running = [server for server in servers if server.handle is not None]
    chosen = [] if name else running or servers
    if len(chosen) == 1:
        return chosen[0]
    if not servers:
        raise LauncherError("nothing was started yet, so there is no log", hint="`launcher up` starts a model")
    known = ", ".join(server.key for server in servers)
    raise LauncherError(f"there is no log of {name}" if name else "which log?", hint=f"there are logs of {known}")


def _alive(world: World, key: str) -> bool:
    handle = next((server.handle for server in store.seen(world.home) if server.key == key), None)
    return handle is not None and world.runner.alive(handle)
