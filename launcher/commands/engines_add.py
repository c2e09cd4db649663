"""`launcher engines add`: take in an environment that somebody else made. It is never changed and never deleted."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import environments, images, inspecting
from launcher.environment import Environment
from launcher.errors import LauncherError
from launcher.profile import CPU, CUDA
from launcher.results import copied
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class AddResult:
    """What was found in it."""

    there: Environment
    exit_code: int = 0

    def json(self) -> object:
        release = self.there.release
        return {
            "name": self.there.name,
            "engine": self.there.engine,
            "version": release.version,
            "build": self.there.accelerator,
            "python": None if self.there.image else str(self.there.python),
            "image": self.there.image or None,
            "torch": release.torch,
            "cuda": ".".join(map(str, release.cuda or ())),
            "archs": list(release.archs),
        }

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        there, release = self.there, self.there.release
        inside = f"the image {there.tag}" if there.image else f"PyTorch {release.torch}"
        what = f": {there.engine} {release.version} for {there.accelerator}, {inside}".replace("  ", " ")
        return Group(
            Text.assemble(("✓ ", "green"), (there.name, "bold"), what),
            "`launcher up` serves with it once it is chosen:",
            copied(f"  launcher engines use {there.name}"),
        )


def run(world: World, name: str, python: Path) -> AddResult:
    """Ask the interpreter for its engine and note it; raises LauncherError if it has none, or if that cannot be imported."""
    environments.refuse_name(name, world.engines)
    interpreter = _interpreter(world.cwd / python)
    world.progress.phase("environment")
    there = look(world, Environment(name, world.home.environments / name, interpreter, made=time.time(), adopted=True))
    environments.adopt(world.home, there)
    return AddResult(there)


def run_image(world: World, name: str, tag: str, engine: str) -> AddResult:
    """Note an image of docker's, pulled if it is not there; raises LauncherError with what stood in the way."""
    environments.refuse_name(name, world.engines)
    world.progress.phase("environment")
    gpus = bool(world.inventory().gpus)
    made, _ = images.take(world.home, world.engines[engine], name, tag, gpus=gpus, env=world.env, progress=world.progress)
    return AddResult(made)


def look(world: World, there: Environment) -> Environment:
    """An adopted environment as it is now; raises LauncherError if its engine is gone, or cannot be imported."""
    engines, env, progress = tuple(world.engines.values()), world.env, world.progress
    first = inspecting.inspect(there.python, ("torch",), engines=engines, env=env, progress=progress)
    engine = next((engine for engine in engines if first.release(engine).version), None)
    if engine is None:
        hint = f"install one there, or let the launcher do it: `launcher engines install {engines[0].NAME}`"
        raise LauncherError(f"{there.python} has none of {', '.join(world.engines)}", hint=hint)
    accelerator = CUDA if first.cuda else CPU
    found = inspecting.inspect(there.python, engine.IMPORTS[accelerator], engines=(engine,), env=env, progress=progress)
    if found.fault:
        message = f"{engine.NAME} in {there.python} does not work: {found.fault}"
        raise LauncherError(message, hint="mend that environment, then add it")
    return Environment(
        name=there.name,
        path=there.path,
        python=there.python,
        engine=engine.NAME,
        accelerator=accelerator,
        release=found.release(engine),
        made=there.made,
        adopted=True,
    )


def _interpreter(path: Path) -> Path:
    """The interpreter that is named by itself or by the folder of its environment; as a link, since that makes it one."""
    python = path / "bin" / "python" if path.is_dir() else path
    if not python.exists():
        raise LauncherError(f"there is no {python}", hint="name an interpreter, such as /opt/vllm/bin/python")
    return python
