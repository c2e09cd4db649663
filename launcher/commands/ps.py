"""`launcher ps`: what was started here, and how it is."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher import store
from launcher.server import Server, State, state_now
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType

_COLOURS = {"ready": "green", "starting": "yellow", "waiting": "yellow", "failed": "red", "stopped": "dim"}


@dataclass(frozen=True, slots=True)
class Row:
    """A server as it is now."""

    server: Server
    state: State
    detail: str

    @property
    def pid(self) -> int | None:
        handle = self.server.handle
        return handle.pid or None if handle and self.state in {"starting", "ready", "waiting"} else None


@dataclass(frozen=True, slots=True)
class PsResult:
    """All servers, running or not."""

    rows: tuple[Row, ...]
    exit_code: int = 0

    def json(self) -> object:
        return [
            {
                "name": row.server.name,
                "engine": row.server.engine,
                "variant": row.server.variant,
                "state": row.state,
                "pid": row.pid,
                "context": row.server.context,
                "base_url": row.server.base_url,
                "since": row.server.since,
                "log": str(row.server.log),
                "detail": row.detail,
            }
            for row in self.rows
        ]

    def text(self) -> "RenderableType":
        from rich.table import Table
        from rich.text import Text

        if not self.rows:
            return "Nothing was started yet: `launcher up` starts the model that suits this machine."
        table = Table(box=None, header_style="dim", pad_edge=False)
        for header in ("NAME", "ENGINE", "STATE", "PID", "CONTEXT", "BASE URL", "FOR", ""):
            table.add_column(header, no_wrap=header not in {"", "BASE URL"})
        for row in self.rows:
            server = row.server
            state = Text(row.state, _COLOURS[row.state])
            duration = _duration(time.time() - server.since)
            table.add_row(
                server.name,
                server.engine,
                state,
                str(row.pid or "-"),
                f"{server.context:,}",
                server.base_url,
                duration,
                row.detail,
            )
        return table


def run(world: World) -> PsResult:
    """Look at the record and at the processes; nothing is changed."""
    rows = []
    for server in store.seen(world.home):
        alive = server.handle is not None and world.runner.alive(server.handle)
        rows.append(Row(server, *state_now(server, alive=alive)))
    return PsResult(tuple(rows))


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
