"""What a place that runs commands can do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from launcher.command import Command
from launcher.gpu import Inventory
from launcher.home import Home


@dataclass(frozen=True, slots=True)
class Handle:
    """Finds a running command again, in another process and on another day.

    `started` is the leader's start time as psutil gives it (seconds since the epoch), so that a pid used again is not taken for
    it; `server_id` is the token that all its processes carry as LAUNCHER_SERVER_ID; `environment` is the folder of the engine's
    own environment, which its processes have mapped; `scratch` is the folder of their temporary files, which goes with them.
    A command in a `container` of this name is what docker's own program runs for as long, at the address `daemon`.
    """

    pid: int
    started: float
    server_id: str
    environment: Path
    scratch: str = ""
    container: str = ""
    daemon: str = ""


@dataclass(frozen=True, slots=True)
class Size:
    """What a server takes of a cluster: `cpus` and `gpus` on each of `nodes`."""

    address: str
    nodes: int
    cpus: int
    gpus: int


@dataclass(frozen=True, slots=True)
class Placed:
    """A place on a cluster, held by a process that waits for its orders: the nodes' addresses, and free ports of the first."""

    handle: Handle
    folder: Path
    hosts: tuple[str, ...]
    ports: tuple[int, ...]


class Clusters(Protocol):
    """Machines that a scheduler of their own has. A server there is a process here, which a Runner ends with all of it."""

    def inventory(self, address: str, *, nodes: int) -> Inventory:
        """What so many nodes of a kind have together; raises LauncherError where the cluster cannot be asked or has too few."""

    def place(self, home: Home, size: Size) -> Placed:
        """Have a server placed that is told its orders later; raises LauncherError where it has no room."""

    def give(self, placed: Placed, commands: Sequence[Command], *, weights: Path, log: Path) -> Handle:
        """Start these, one on each node; what they print goes into `log`. Raises LauncherError if the place is gone."""


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
