"""`launcher engines install`: an environment for a version of an engine, made from a shipped lock or from one made now."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher import cuda, environments, images, installing, resolving
from launcher.commands.engines import running_in
from launcher.disk import gigabytes
from launcher.engines.base import Engine
from launcher.environment import Environment
from launcher.environments import Build
from launcher.errors import LauncherError
from launcher.gpu import Inventory
from launcher.profile import CPU, CUDA
from launcher.release import Release
from launcher.results import copied
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class InstallResult:
    """The environment; `already` says that it was there. `taken` says that `launcher up` serves with it."""

    there: Environment
    seconds: float
    already: bool
    taken: bool
    notes: tuple[str, ...] = ()
    exit_code: int = 0

    def json(self) -> object:
        return {
            "name": self.there.name,
            "engine": self.there.engine,
            "version": self.there.release.version,
            "build": self.there.accelerator,
            "image": self.there.image or None,
            "path": str(self.there.path),
            "size": self.there.size,
            "seconds": round(self.seconds, 1),
            "already": self.already,
            "taken": self.taken,
            "notes": list(self.notes),
        }

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        done = f"is {self.there.tag}" if self.there.image else "is installed"
        how = "was there already" if self.already else f"{done}, in {self.seconds:.0f} s"
        shown: list[RenderableType] = [
            Text.assemble(("✓ ", "green"), (self.there.name, "bold"), f" {how}: {gigabytes(self.there.size)}")
        ]
        shown += [Text.assemble(("! ", "yellow"), note) for note in self.notes]
        if self.taken:
            return Group(*shown, "`launcher up` serves with it.")
        choose = copied(f"  launcher engines use {self.there.name}")
        return Group(*shown, "`launcher up` serves with it once it is chosen:", choose)


def run(world: World, name: str, *, version: str | None, accelerator: str | None) -> InstallResult:
    """Install it; what this machine cannot run is refused before anything is fetched.

    Raises LauncherError for a version that does not exist, and for whatever the installation failed at.
    """
    begun = time.monotonic()
    engine, inventory = world.engines[name], world.inventory()
    accelerator = accelerator or (CUDA if inventory.gpus else CPU)
    if accelerator not in engine.REQUIREMENTS:
        raise LauncherError(f"{name} has no build for {accelerator}", hint=f"it has {', '.join(engine.REQUIREMENTS)}")
    build = environments.build_of(world.home, engine, accelerator, version)
    world.progress.phase("environment")
    found = environments.find(world.home, build)
    if found is None:
        _refuse_running(world, build)
        resolving.ensure(world.home, engine, build, progress=world.progress, env=world.env)
        _refuse(build, environments.release_of(build), inventory, engine)
    there = found or installing.ensure(world.home, build, progress=world.progress, env=world.env)
    if found is None:
        installing.compile_all(there, progress=world.progress, env=world.env)
    return InstallResult(
        there=there,
        seconds=time.monotonic() - begun,
        already=found is not None,
        taken=there.name == environments.taken(world.home, engine, accelerator),
        notes=tuple(_notes(engine, there, inventory)),
    )


def run_image(world: World, name: str, *, version: str | None, accelerator: str | None) -> InstallResult:
    """Have docker pull the image of the engine's makers; raises LauncherError with what stood in the way."""
    begun = time.monotonic()
    engine, inventory = world.engines[name], world.inventory()
    if accelerator == CPU:
        raise LauncherError(f"the image of {name} is built for NVIDIA GPUs", hint=f"`launcher engines install {name} --cpu`")
    version = version or engine.VERSION
    called, tag = images.name_of(engine, version), images.tag_of(engine, version)
    world.progress.phase("environment")
    there, already = images.take(
        world.home, engine, called, tag, gpus=bool(inventory.gpus), env=world.env, progress=world.progress
    )
    return InstallResult(
        there=there,
        seconds=time.monotonic() - begun,
        already=already,
        taken=there.name == environments.taken(world.home, engine, CUDA),
        notes=tuple(_notes(engine, there, inventory)),
    )


def _refuse(build: Build, release: Release, inventory: Inventory, engine: Engine) -> None:
    """Before gigabytes are fetched: a driver that is too old, or no GPU that there is code for."""
    faults = [
        cuda.refusal(engine.NAME, release, inventory.driver, [gpu], engine.LAST_FOR_CUDA)
        for gpu in inventory.gpus
        if build.accelerator == CUDA
    ]
    if faults and all(faults) and (first := faults[0]):
        raise LauncherError(f"{build.name} does not run here: {first.reason}", hint=first.remedy)


def _refuse_running(world: World, build: Build) -> None:
    """An environment that is stale is replaced: not under a server."""
    if models := running_in(world).get(build.name):
        raise LauncherError(f"{build.name} serves {', '.join(models)}", hint=f"`launcher down {models[0]}` first")


def _notes(engine: Engine, there: Environment, inventory: Inventory) -> Iterator[str]:
    if there.release.version != engine.VERSION:
        yield f"this launcher was written for {engine.NAME} {engine.VERSION}: other versions may not take all of its options"
    if there.accelerator == CUDA:
        yield from filter(None, (cuda.gpu_fault(there.release, gpu) for gpu in inventory.gpus))
        if not inventory.gpus:
            yield "there is no NVIDIA GPU here that it could serve on"
