"""`launcher engines use`: which environment serves an engine and a build from now on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher import environments, lock, store
from launcher.engines.base import Engine
from launcher.errors import LauncherError
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class UseResult:
    """The environment that serves from now on; `own` says that it is the launcher's, and moves on with it."""

    name: str
    engine: str
    accelerator: str
    version: str
    own: bool
    note: str = ""
    exit_code: int = 0

    def json(self) -> object:
        return {
            "name": self.name,
            "engine": self.engine,
            "build": self.accelerator,
            "version": self.version,
            "own": self.own,
            "note": self.note,
        }

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        which = "this launcher's own, " if self.own else ""
        said = Text.assemble(("✓ ", "green"), f"{self.engine} on {self.accelerator}: {which}", (self.name, "bold"))
        note = [Text.assemble(("! ", "yellow"), self.note)] if self.note else []
        return Group(said, *note, "A model that runs goes on as it is; `launcher down` and `launcher up` start it with this.")


def run(world: World, name: str) -> UseResult:
    """Choose it; raises LauncherError if there is none of that name, or it cannot be used."""
    for engine in world.engines.values():
        for accelerator in engine.PYTHON:
            if environments.build_for(engine, accelerator).name == name:
                own = UseResult(name, engine.NAME, accelerator, engine.VERSION, own=True)
                return _choose(world, engine, accelerator, None, own)
    there = environments.named(world.home, name)
    if there.broken:
        raise LauncherError(f"{name} cannot be used: {there.broken}", hint=f"`launcher engines remove {name}`, or make it anew")
    chosen = world.engines.get(there.engine)
    if chosen is None:
        raise LauncherError(f"{name} is of {there.engine}, which this launcher does not know", hint="`launcher engines`")
    version = there.release.version
    note = f"this launcher was written for {chosen.NAME} {chosen.VERSION}: other versions may not take all of its options"
    result = UseResult(name, chosen.NAME, there.accelerator, version, own=False, note=note if version != chosen.VERSION else "")
    return _choose(world, chosen, there.accelerator, name, result)


def _choose(world: World, engine: Engine, accelerator: str, name: str | None, result: UseResult) -> UseResult:
    """An `up` that is at work goes on with what it has planned for."""
    world.home.make()

    def wait(holder: lock.Holder) -> None:
        world.progress.say(f"waiting for `{holder.command}` (pid {holder.pid}), which is at work")

    with lock.acquire(world.home.lock, f"launcher engines use {result.name}", waiting=wait, timeout=None):
        store.choose(world.home, environments.serves(engine.NAME, accelerator), name)
    return result
