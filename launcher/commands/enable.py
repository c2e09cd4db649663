"""`launcher enable`: systemd starts `launcher serve` with this machine, so that what is wanted comes back."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import background, systemd, unit
from launcher.child import mask
from launcher.commands import disable
from launcher.errors import LauncherError
from launcher.unit import Unit
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class EnableResult:
    """The unit that is at work now, as process `pid`; `already`: nothing had to be done.

    `why_not` is why systemd does not start it with the machine, "" if it does.
    """

    name: str
    file: Path
    pid: int
    already: bool
    why_not: str = ""
    exit_code: int = 0

    def json(self) -> object:
        return {
            "unit": self.name,
            "file": str(self.file),
            "pid": self.pid,
            "already": self.already,
            "lingering": not self.why_not,
            "lingering_refused": self.why_not,
        }

    def text(self) -> "RenderableType":
        what = "was at work already" if self.already else "is at work"
        first = f"{self.name} {what} (pid {self.pid}): what `launcher up` starts is kept alive"
        if not self.why_not:
            return f"{first}, and comes back with this machine. `launcher disable` takes that back."
        return (
            f"{first} from your login until you log out. systemd refuses to start it with this machine ({self.why_not}).\n"
            f"For that: {systemd.LINGER}"
        )


@dataclass(frozen=True, slots=True)
class UnitResult:
    """The unit as it would be written."""

    file: Path
    content: str
    exit_code: int = 0

    def json(self) -> object:
        return {"unit": self.file.name, "file": str(self.file), "text": self.content}

    def text(self) -> "RenderableType":
        return f"{self.file}:\n\n{self.content.rstrip()}"


def dry_run(world: World) -> UnitResult:
    """What `run` would write, without touching anything; passwords in addresses are masked."""
    file = _place(world)
    return UnitResult(file, mask(unit.text(_unit(world, file.name))))


def run(world: World) -> EnableResult:
    """Have this user's systemd keep `launcher serve` at work, which takes over what runs without restarting it.

    Raises LauncherError where there is no systemd, or another one is at work that was not started by it.
    """
    file = _place(world)
    content = unit.text(_unit(world, file.name))
    before = systemd.written(file)
    systemd.awaken(world.env)
    now = systemd.look(world.env, file.name)
    _refuse_another(world, now.pid)
    already = now.pid != 0 and now.enabled == "enabled" and before == content
    try:
        if not already:
            _begin(world, file, content, pid=0 if before == content else now.pid)
        pid = _pid(world, file)
    except BaseException:
        if not before:
            disable.undo(world, file)
        raise
    return EnableResult(file.name, file, pid, already, systemd.linger(world.env))


def _begin(world: World, file: Path, content: str, *, pid: int) -> None:
    """Write, enable and start it; `pid` is the process of the unit as it was written before, 0 if there is none."""
    os.close(background.make_log(world.home))
    systemd.write(file, content)
    systemd.order(world.env, "daemon-reload")
    systemd.order(world.env, "enable", file.name)
    if pid and (holder := background.at_work(world.home)) and holder.pid == pid:
        # systemd's own restart would end the models.
        background.hand_over(world.home, holder)
    if pid or not systemd.look(world.env, file.name).pid:
        # Not `start`: between an end and the next start of its own, systemd refuses that.
        systemd.order(world.env, "restart", file.name)


def _pid(world: World, file: Path) -> int:
    """The process that came up; raises LauncherError with its last words if none did."""
    if holder := background.await_staying(world.home):
        return holder.pid
    hint = f"its log: {world.home.serve_log}; `journalctl --user -u {file.name}` may tell more"
    raise LauncherError(f"{file.name} does not come up: {background.last_words(world.home)}", hint=hint)


def _refuse_another(world: World, pid: int) -> None:
    holder = background.at_work(world.home)
    if holder and background.stays(holder) and holder.pid not in {0, pid}:
        hint = f"let it go with `kill -USR1 {holder.pid}` (the models run on), and run this again"
        raise LauncherError(f"`launcher serve` (pid {holder.pid}) is at work already, and systemd did not start it", hint=hint)


def _place(world: World) -> Path:
    return systemd.place(world.home, world.env, world.user_home)


def _unit(world: World, name: str) -> Unit:
    return Unit(
        name=name,
        root=world.home.root,
        python=Path(sys.executable),
        log=world.home.serve_log,
        paths="" if background.is_installed() else background.import_path(world.env),
        env=unit.passed_on(world.env),
    )
