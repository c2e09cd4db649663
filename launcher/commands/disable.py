"""`launcher disable`: nothing is started with this machine any more; what runs goes on."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import background, store, systemd
from launcher.errors import LauncherError
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class DisableResult:
    """Whether there was a unit to take away, and the models that go on without it; `lingers`: other units still may."""

    name: str
    was_there: bool
    models: tuple[str, ...] = ()
    lingers: bool = False
    exit_code: int = 0

    def json(self) -> object:
        return {"unit": self.name, "was_there": self.was_there, "models": list(self.models), "lingering": self.lingers}

    def text(self) -> "RenderableType":
        if not self.was_there:
            return "Nothing was enabled."
        lines = [f"{self.name} is gone: nothing is started with this machine any more."]
        if self.models:
            lines.append(
                f"{', '.join(self.models)}: kept alive in the background until `launcher down`, or the machine goes down."
            )
        if self.lingers:
            lines.append("Lingering stays on, since other units may count on it; `loginctl disable-linger` ends it.")
        return "\n".join(lines)


def run(world: World) -> DisableResult:
    """Take the unit away; a process in the background takes over what it kept alive, and restarts nothing."""
    file = systemd.place(world.home, world.env, world.user_home)
    if not systemd.written(file):
        return DisableResult(file.name, was_there=False)
    systemd.awaken(world.env)
    _take_away(world, file)
    models = tuple(want.name for want in store.wishes(world.home)[0])
    return DisableResult(file.name, was_there=True, models=models, lingers=systemd.lingers(world.env))


def undo(world: World, file: Path) -> None:
    """Take a unit away that did not come up, whatever of it there is: why it did not is what has to be told."""
    with suppress(LauncherError):
        _take_away(world, file)
    with suppress(LauncherError):
        systemd.remove(file)


def _take_away(world: World, file: Path) -> None:
    """Let the unit's process go while the models run on, and remove the unit."""
    pid = systemd.look(world.env, file.name).pid
    holder = background.at_work(world.home)
    systemd.order(world.env, "disable", file.name)
    if pid and holder and holder.pid == pid:
        background.hand_over(world.home, holder, by=background.LEAVE)
    # It has ended, or was not at work yet; this also keeps systemd from another attempt.
    systemd.order(world.env, "stop", file.name)
    systemd.remove(file)
    systemd.order(world.env, "daemon-reload")
    if world.home.root.exists():
        world.attend(world)
