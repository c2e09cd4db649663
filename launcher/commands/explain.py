"""`launcher explain`: why an engine ended, read from its log: one of ours, or any other."""

import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import diagnosis, docker_faults, store
from launcher.diagnosis import Diagnosis, diagnose
from launcher.engines.base import Engine
from launcher.errors import LauncherError
from launcher.server import Server
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType

STDIN = "-"


@dataclass(frozen=True, slots=True)
class ExplainResult:
    """What a log says of its engine's end; `where` names the log, `engine` who wrote it: docker, where no engine came to it."""

    where: str
    engine: str
    found: Diagnosis
    exit_code: int = 0

    def json(self) -> object:
        retry = self.found.retry
        return {
            "log": self.where,
            "engine": self.engine,
            "fault": self.found.fault or None,
            "cause": self.found.cause,
            "evidence": self.found.evidence,
            "remedy": self.found.remedy or None,
            "retry": None if retry is None else {"context": retry.context},
        }

    def text(self) -> "RenderableType":
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        rows = (
            ("log", f"{self.where} ({self.engine})"),
            ("cause", self.found.cause),
            ("shown by", self.found.evidence),
            ("to do", self.found.remedy),
        )
        for title, words in rows:
            if words:
                table.add_row(title, Text(words))
        return table


def run(world: World, what: str | None, *, stdin: Iterable[str], engine: str | None = None) -> ExplainResult:
    """What the log says: of a server that was started here, in a file, or on stdin (`-`).

    Raises LauncherError if there is no such log, if its server runs, or if it is not clear which engine wrote it.
    """
    if what == STDIN:
        return _explained(world, "stdin", stdin, engine)
    servers = store.seen(world.home)
    meant = store.named(world.home, what) if what else servers[0] if len(servers) == 1 else None
    if meant:
        return _of_server(world, meant)
    if what is None:
        known = ", ".join(server.key for server in servers)
        hint = f"there are logs of {known}" if known else "`launcher explain FILE` reads any engine's log"
        raise LauncherError("which log?", hint=hint)
    return _of_file(world, Path(what).expanduser(), engine)


def _of_server(world: World, server: Server) -> ExplainResult:
    if server.handle and world.runner.alive(server.handle):
        raise LauncherError(f"{server.key} runs: there is no end to explain", hint="`launcher logs` shows what it writes")
    return _of_file(world, server.log, server.engine)


def _of_file(world: World, path: Path, engine: str | None) -> ExplainResult:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return _explained(world, str(path), file, engine)
    except FileNotFoundError:
        hint = "give a file, - for stdin, or a name that `launcher ps` shows"
        raise LauncherError(f"there is no log at {path}, and no server of that name", hint=hint) from None
    except IsADirectoryError:
        raise LauncherError(f"{path} is a folder", hint="give the file of the log") from None


def _explained(world: World, where: str, log: Iterable[str], engine: str | None) -> ExplainResult:
    # A progress bar writes over its own line.
    lines = [part for line in deque(log, maxlen=diagnosis.LINES) for part in line.rstrip("\n").split("\r")]
    name = engine or _writer(world.engines, lines)
    if name is None and (by_docker := diagnose(lines, docker_faults.FAULTS)).fault:
        # No engine ever wrote a line.
        return ExplainResult(where, "docker", by_docker)
    if name is None:
        raise LauncherError(f"no known engine wrote {where}", hint=f"name it with --engine: {', '.join(world.engines)}")
    return ExplainResult(where, name, diagnose(lines, world.engines[name].FAULTS))


def _writer(engines: Mapping[str, Engine], lines: Iterable[str]) -> str | None:
    """The engine that shows in the most lines; None if none does."""
    lines = list(lines)
    counts = {name: sum(bool(re.search(engine.SIGNS, line)) for line in lines) for name, engine in engines.items()}
    most = max(counts, key=counts.__getitem__)
    return most if counts[most] else None
