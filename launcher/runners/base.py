"""What a place that runs commands can do."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from launcher.command import Command


@dataclass(frozen=True, slots=True)
class Handle:
    """Finds a running command again, in another process and on another day.

    `started` is the leader's start time as psutil gives it (seconds since the epoch), so that a pid used again is not taken for
    it; `server_id` is the token that all its processes carry as LAUNCHER_SERVER_ID; `environment` is the folder of the engine's
    own environment, which its processes have mapped; `scratch` is the folder of their temporary files, which goes with them.
    """

    pid: int
    started: float
    server_id: str
    environment: Path
    scratch: str = ""


class Runner(Protocol):
    """Starts commands and ends them, whole: engine cores and workers included."""

    def start(self, command: Command, *, log: Path, server_id: str, environment: Path, inherited: Mapping[str, str]) -> Handle:
        """Start `command` in a session of its own, both outputs appended to `log` (0600).

        `inherited` is the environment that it gets its own variables added to.
        """

    def alive(self, handle: Handle) -> bool:
        """Whether the command's first process still runs."""

    def exit_code(self, handle: Handle) -> int | None:
        """How its first process ended (-9: by signal 9); None while it runs, and where that cannot be known."""

    def processes(self, handle: Handle) -> tuple[int, ...]:
        """The pids of everything that belongs to the command, orphans included."""

    def stop(self, handle: Handle, *, grace: float) -> None:
        """End all of it: TERM, KILL after `grace` seconds; raises LauncherError if something survives."""
