"""`launcher down`: stop what runs, whole, and forget that it was wanted."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher import background, lock, store
from launcher.errors import LauncherError
from launcher.following import settled
from launcher.lock import Holder
from launcher.runners import spares
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class DownResult:
    """The names of what was stopped."""

    stopped: tuple[str, ...]
    exit_code: int = 0

    def json(self) -> object:
        return {"stopped": list(self.stopped)}

    def text(self) -> "RenderableType":
        if not self.stopped:
            return "Nothing was running."
        return (
            f"Stopped {', '.join(self.stopped)}. The agents' files stay as they are: `launcher unwire` takes our entries out."
        )


def run(world: World, name: str | None) -> DownResult:
    """Stop `name`, or everything; raises LauncherError for a name that was never started.

    A `launcher up` that is at work is interrupted first: it stops what it started.
    """
    if not world.home.root.exists():
        return DownResult(_known((), name))
    with lock.acquire(world.home.lock, "launcher down", waiting=lambda holder: _interrupt(world, holder), timeout=None):
        servers, damaged = store.look(world.home)
        wanted, unreadable = store.wishes(world.home)
        names = _known((*(server.name for server in servers), *(want.name for want in wanted)), name)
        there = (s.name for s in servers if s.name in names and s.handle and world.runner.processes(s.handle))
        running = tuple(dict.fromkeys(there))
        for each in names:
            store.unwant(world.home, each)
        if running:
            world.progress.phase("stop")
            world.progress.update(f"stopping {', '.join(running)}")
        settled(world, {server.ask for server in servers if server.name in names})
        if not store.wishes(world.home)[0]:
            background.wait_for_the_end(world.home)
        if not wanted and not any(server.handle for server in servers):
            spares.end(world.home)
    for fault in (*damaged, *unreadable.values()):
        raise fault
    return DownResult(running)


def _known(started: tuple[str, ...], name: str | None) -> tuple[str, ...]:
    names = tuple(sorted(set(started)))
    if name is None:
        return names
    if name not in names:
        hint = f"known here: {', '.join(names)}" if names else "nothing was started yet"
        raise LauncherError(f"{name} was never started here", hint=hint)
    return (name,)


def _interrupt(world: World, holder: Holder) -> None:
    if holder.command.startswith(("launcher up", "launcher swap")):
        world.progress.say(f"`{holder.command}` (pid {holder.pid}) is at work: it is interrupted and stops what it started")
        with suppress(ProcessLookupError):
            os.kill(holder.pid, signal.SIGINT)
    else:
        world.progress.say(f"waiting for `{holder.command}` (pid {holder.pid})")
