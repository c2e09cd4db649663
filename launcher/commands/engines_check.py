"""`launcher engines check`: whether an environment works, on this driver and these GPUs."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from launcher import cuda, environments, images, inspecting
from launcher.cuda import Refusal
from launcher.engines.base import Engine
from launcher.environment import Environment
from launcher.errors import LauncherError
from launcher.gpu import Inventory
from launcher.profile import CUDA
from launcher.release import Release
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What the environment is, and all that speaks against it."""

    there: Environment
    faults: tuple[Refusal, ...]
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        return 1 if self.faults else 0

    def json(self) -> object:
        release = self.there.release
        return {
            "name": self.there.name,
            "works": not self.faults,
            "engine": self.there.engine,
            "version": release.version,
            "build": self.there.accelerator,
            "image": self.there.image or None,
            "torch": release.torch,
            "cuda": ".".join(map(str, release.cuda or ())),
            "archs": list(release.archs),
            "faults": [{"reason": fault.reason, "remedy": fault.remedy} for fault in self.faults],
            "notes": list(self.notes),
        }

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        release = self.there.release
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="dim")
        facts.add_row("engine", f"{self.there.engine} {release.version} for {self.there.accelerator}")
        facts.add_row(*(("image", self.there.tag) if self.there.image else ("interpreter", str(self.there.python))))
        made_for = f", for CUDA {'.'.join(map(str, release.cuda))}" if release.cuda else ""
        facts.add_row("PyTorch", (release.torch or "its own") + made_for)
        if release.archs:
            facts.add_row("has code for", " ".join(release.archs))
        shown: list[RenderableType] = [facts, Text()]
        shown += [Text.assemble(("! ", "yellow"), note) for note in self.notes]
        for fault in self.faults:
            shown += [Text.assemble(("✗ ", "red"), fault.reason), Text(f"  {fault.remedy}", "dim")]
        if not self.faults:
            shown.append(Text.assemble(("✓ ", "green"), (self.there.name, "bold"), " works here"))
        return Group(*shown)


def run(world: World, name: str) -> CheckResult:
    """Import the engine and compare it with this machine; raises LauncherError only if there is no such environment.

    What an adopted one has become meanwhile is noted.
    """
    there = environments.named(world.home, name)
    engine = world.engines.get(there.engine)
    if there.broken or engine is None:
        return CheckResult(there, (Refusal(there.broken or f"{there.engine} is not known here", _anew(there)),))
    world.progress.phase("check")
    if there.image:
        return _image(world, engine, there)
    try:
        found = inspecting.inspect(
            there.python, engine.IMPORTS[there.accelerator], engines=(engine,), env=world.env, progress=world.progress
        )
    except LauncherError as fault:
        return CheckResult(there, (Refusal(fault.message, fault.hint),))
    if found.fault:
        return CheckResult(there, (Refusal(found.fault, _anew(there)),))
    seen = replace(there, release=found.release(engine))
    notes = tuple(_changes(there.release, seen.release))
    if there.adopted and seen != there:
        environments.record(seen)
    return CheckResult(seen, tuple(faults(engine, seen, world.inventory())), notes)


def _image(world: World, engine: Engine, there: Environment) -> CheckResult:
    """As docker has it, and as it would run here; its engine is not started for that."""
    try:
        now = images.seen(there, world.env)
    except LauncherError as fault:
        return CheckResult(there, (Refusal(fault.message, fault.hint),))
    if now.broken:
        return CheckResult(now, (Refusal(now.broken, _anew(there)),))
    return CheckResult(there, tuple(faults(engine, there, world.inventory())))


def faults(engine: Engine, there: Environment, inventory: Inventory) -> Iterator[Refusal]:
    """What speaks against the environment on this machine: the driver, and each GPU that it has no code for."""
    if there.accelerator != CUDA:
        return
    if not inventory.gpus:
        yield Refusal("it serves on NVIDIA GPUs, and there is none here", f"`launcher engines install {engine.NAME} --cpu`")
    if refused := cuda.refusal(engine.NAME, there.release, inventory.driver, (), engine.LAST_FOR_CUDA):
        yield refused
    for gpu in inventory.gpus:
        if refused := cuda.refusal(engine.NAME, there.release, "", [gpu], engine.LAST_FOR_CUDA):
            yield refused


def _changes(before: Release, now: Release) -> Iterator[str]:
    if before.version != now.version:
        yield f"it was {before.version} when it was noted"
    if before.torch != now.torch:
        yield f"its PyTorch was {before.torch} when it was noted"


def _anew(there: Environment) -> str:
    if there.image:
        return f"`docker pull {there.tag}`, or `launcher engines remove {there.name}` and take it anew"
    if there.adopted:
        return f"mend that environment, or forget it: `launcher engines remove {there.name}`"
    return f"`launcher engines remove {there.name}`, then `launcher engines install` makes it anew"
