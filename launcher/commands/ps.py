"""`launcher ps`: what was started here, and how it is."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher import background, ports, store
from launcher.endpoint import Window
from launcher.errors import LauncherError
from launcher.exposure import Opening
from launcher.server import Server, State, state_now
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType

_COLOURS = {
    "ready": "green",
    "starting": "yellow",
    "waiting": "yellow",
    "ending": "yellow",
    "idle": "cyan",
    "held": "cyan",
    "asleep": "cyan",
    "failed": "red",
    "stopped": "dim",
}


_RESTS = {
    "idle": "unloaded; the next request starts it",
    "asleep": "its GPUs' memory is free; the next request wakes it",
    "held": "another one has its place, or comes; it is back if that fails",
}


_LIVES = {"ready", "starting", "waiting", "idle", "held", "asleep"}


@dataclass(frozen=True, slots=True)
class Row:
    """A server as it is now; `now` in seconds since the epoch; `fallback` is the wish's."""

    server: Server
    state: State
    detail: str
    now: float
    fallback: str = ""

    @property
    def pid(self) -> int | None:
        handle = self.server.handle
        return handle.pid or None if handle and self.state in {"starting", "ready", "ending", "held", "asleep"} else None

    @property
    def words(self) -> str:
        """What a person wants to know beside the state: where a start is, or why there is none."""
        server = self.server
        if self.state == "starting":
            left = f", about {server.left:.0f} s left" if server.left is not None else ""
            share = f" {server.share:.0%}" if server.share is not None else ""
            return f"{server.phase or 'begins'}{share}{left}"
        if self.state == "waiting" and server.again > self.now:
            tries = f" (failure {server.restarts})" if server.restarts else ""
            return f"starts again in {server.again - self.now:.0f} s{tries}: {self.detail}"
        if self.state in _RESTS:
            return self.detail or _RESTS[self.state]
        if self.state == "ready":
            times = "once" if server.restarts == 1 else f"{server.restarts} times"
            return "; ".join(
                [*([f"restarted {times}"] if server.restarts else []), *server.notes, *([self.detail] if self.detail else [])]
            )
        return self.detail


@dataclass(frozen=True, slots=True)
class Far:
    """A provider's model that is served; `where` says who answers and what that means, `fault` why nobody does."""

    name: str
    provider: str
    window: Window
    where: str
    fault: str = ""

    def json(self, address: str) -> dict[str, object]:
        """As a server's row, as far as there is anything to say."""
        return {
            "name": self.name,
            "replica": None,
            "engine": None,
            "provider": self.provider or None,
            "state": "failed" if self.fault else "remote",
            "pid": None,
            "context": self.window.context or None,
            "base_url": address,
            "detail": self.fault or self.where,
        }


@dataclass(frozen=True, slots=True)
class PsResult:
    """All servers, running or not, and providers' models that are served.

    `attended` says whether a `launcher serve` is at work, without which nobody answers.
    """

    rows: tuple[Row, ...]
    far: tuple[Far, ...] = ()
    fallbacks: tuple[str, ...] = ()
    address: str = ""
    port: int = 0
    attended: bool = True
    reachable: tuple[Opening, ...] = ()
    exit_code: int = 0

    def json(self) -> object:
        servers = [
            {
                "name": row.server.name,
                "replica": row.server.replica,
                "engine": row.server.engine,
                "variant": row.server.variant,
                "state": row.state,
                "pid": row.pid,
                "context": row.server.context,
                "base_url": self.address,
                "attended": self.attended,
                "reachable": [each.url(self.port) for each in self.reachable if not each.fault],
                "engine_url": row.server.base_url,
                "since": row.server.since,
                "log": str(row.server.log),
                "detail": row.detail,
                "hint": row.server.hint,
                "restarts": row.server.restarts,
                "again": row.server.again or None,
                "phase": row.server.phase,
                "share": row.server.share,
                "left_s": row.server.left,
                "notes": list(row.server.notes),
                "fallback": row.fallback or None,
            }
            for row in self.rows
        ]
        return [*servers, *(each.json(self.address) for each in self.far)]

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        if not self.rows and not self.far:
            return "Nothing was started yet: `launcher up` starts the model that suits this machine."
        table = Table(box=None, header_style="dim", pad_edge=False)
        for header in ("NAME", "ENGINE", "STATE", "PID", "CONTEXT", "FOR", ""):
            table.add_column(header, no_wrap=bool(header))
        for row in self.rows:
            server = row.server
            state = Text(row.state, _COLOURS[row.state])
            duration = _duration(time.time() - server.since)
            table.add_row(
                server.label,
                server.engine,
                state,
                str(row.pid or "-"),
                f"{server.context:,}",
                duration,
                row.words,
            )
        for each in self.far:
            state = Text("failed", "red") if each.fault else Text("remote", "cyan")
            context = f"{each.window.context:,}" if each.window.context else "-"
            table.add_row(each.name, each.provider or "-", state, "-", context, "-", each.fault or each.where)
        if not self.far and not any(row.state in _LIVES for row in self.rows):
            return table
        if not self.attended:
            nobody = f"nobody answers at {self.address}: no `launcher serve` is at work; `launcher up` brings it back"
            return Group(table, Text(), Text.assemble(("! ", "yellow"), nobody))
        below = Table.grid(padding=(0, 1))
        below.add_column(style="dim", no_wrap=True)
        below.add_column(overflow="fold")
        below.add_row("address ", self.address)
        for opening in self.reachable:
            below.add_row("also", opening.text(self.port))
        for line in self.fallbacks:
            below.add_row("fallback", line)
        return Group(table, Text(), below)


def run(world: World) -> PsResult:
    """Look at the record and at the processes; nothing is changed."""
    wishes = {want.name: want.fallback for want in store.wishes(world.home)[0] if want.fallback}
    served = store.remotes(world.home)
    rows = []
    servers = store.seen(world.home)
    for server in servers:
        alive = server.handle is not None and world.runner.alive(server.handle)
        state, detail = state_now(server, alive=alive)
        if server.replica and state == "idle" and any(each.name == server.name and each.state == "ready" for each in servers):
            # No request waits for it, since the others answer.
            detail = f"unloaded to make room; `launcher up {server.name} --replicas {server.spec.replicas}` starts it"
        rows.append(Row(server, state, detail, time.time(), wishes.get(server.name, "")))
    attended = background.at_work(world.home) is not None
    return PsResult(
        tuple(rows),
        far=tuple(_far(world, name, window) for name, window in served.items()),
        fallbacks=tuple(line for name, fallback in wishes.items() for line in _told_of(world, name, fallback)),
        address=store.address(world.home),
        port=store.port(world.home) or ports.FIRST,
        attended=attended,
        reachable=store.openings(world.home) if attended else (),
    )


def _told_of(world: World, name: str, fallback: str) -> tuple[str, ...]:
    from launcher import remotes  # few have any

    return remotes.fallback_notes(world, name, fallback)


def _far(world: World, name: str, window: Window) -> Far:
    from launcher import remotes  # the same

    try:
        llm, made = remotes.asked(world, name)
    except LauncherError as fault:
        return Far(name, "", window, "", f"{fault.message} ({fault.hint})")
    return Far(name, llm.provider, window, remotes.where(llm, made))


def watch(world: World, *, every: float) -> Iterator[PsResult]:
    """The same again and again, `every` so many seconds, without end."""
    while True:
        yield run(world)
        time.sleep(every)


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
