"""`launcher engines remove`: free what an environment takes, or forget one that was adopted."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher import environments, images, lock, store
from launcher.disk import Usage, gigabytes
from launcher.environment import Environment
from launcher.errors import LauncherError
from launcher.runners import spares
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class RemoveResult:
    """What is gone; `back_to` is the environment that serves in its place, where it had been chosen."""

    there: Environment
    usage: Usage
    back_to: str = ""
    exit_code: int = 0

    def json(self) -> object:
        return {
            "removed": self.there.name,
            "adopted": self.there.adopted,
            "size": self.usage.size,
            "freed": self.usage.freed,
            "back_to": self.back_to or None,
        }

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        shown = [Text.assemble(("✓ ", "green"), self._said())]
        if not self.there.image and self.usage.size - self.usage.freed > self.usage.freed:
            kept = gigabytes(self.usage.size - self.usage.freed)
            shown.append(Text(f"{kept} of it stay in uv's cache, for the next installation."))
        if self.back_to:
            shown.append(Text(f"It was chosen: {self.back_to} serves in its place from now on."))
        return Group(*shown)

    def _said(self) -> str:
        if self.there.adopted:
            return f"{self.there.name} is forgotten; {self.there.tag or self.there.python} is left as it is"
        if self.there.image:
            return f"{self.there.name} is removed, and {self.there.tag} from docker"
        return f"{self.there.name} is removed: {gigabytes(self.usage.freed)} are free again"


def run(world: World, name: str) -> RemoveResult:
    """Remove it; raises LauncherError while a server runs from it, or while it is being installed."""
    there = environments.named(world.home, name)

    def wait(holder: lock.Holder) -> None:
        world.progress.say(f"waiting for `{holder.command}` (pid {holder.pid}), which is at work")

    # Held so that no `up` starts a server from it meanwhile.
    with lock.acquire(world.home.lock, f"launcher engines remove {name}", waiting=wait, timeout=None):
        _refuse_running(world, there)
        world.progress.phase("remove")
        world.progress.update(f"removing {name}")
        spare = spares.kept(world.home)
        if spare and spare.handle.environment == there.path:
            spares.end(world.home)
        if there.image:
            images.drop(world.home, there, world.env)
        key = environments.serves(there.engine, there.accelerator)
        chosen = store.chosen(world.home)
        keys = [each for each, chose in chosen.items() if chose == name]
        for each in keys:
            store.choose(world.home, each, None)
        usage = environments.remove(world.home, there)
    engine = world.engines.get(there.engine)
    back_to = environments.build_for(engine, there.accelerator).name if engine and key in keys else ""
    return RemoveResult(there, usage, back_to)


def _refuse_running(world: World, there: Environment) -> None:
    """Every process counts, not only the first: an engine's orphans use the environment too."""
    for server in store.look(world.home)[0]:
        handle = server.handle
        if handle and handle.environment == there.path and world.runner.processes(handle):
            raise LauncherError(f"{there.name} serves {server.name}", hint=f"`launcher down {server.name}` first")
