"""`launcher pull`: the weights of a model, there before they are needed; with --dry-run what that takes."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import disk, fetch_plan, fetching, preparing, weights, weights_record
from launcher.child import Log
from launcher.deciding import decide, find
from launcher.disk import gigabytes
from launcher.errors import LauncherError
from launcher.fetch_plan import FetchPlan
from launcher.gpu import Inventory
from launcher.plan import Plan
from launcher.profile import Profile, Variant
from launcher.profile_weights import HubWeights
from launcher.server import ServerSpec
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class PullResult:
    """Weights that are whole, where they are. `commit` is the hub's, "" for what is not from there; `size` in bytes."""

    name: str
    variant: str
    folder: Path
    commit: str
    size: int
    seconds: float
    exit_code: int = 0

    def json(self) -> object:
        return {
            "event": "done",
            "name": self.name,
            "variant": self.variant,
            "folder": str(self.folder),
            "commit": self.commit or None,
            "size": self.size,
            "seconds": round(self.seconds, 3),
        }

    def text(self) -> str:
        at = f" at commit {self.commit}" if self.commit else ""
        return f"{self.name} ({self.variant}){at} is whole: {gigabytes(self.size)} in {self.folder}"


@dataclass(frozen=True, slots=True)
class DryPullResult:
    """What would be fetched, and the room that there is for it."""

    name: str
    variant: str
    plan: FetchPlan
    free: int
    exit_code: int = 0

    def json(self) -> object:
        files = [{"path": part.file.path, "size": part.file.size, "missing": part.missing} for part in self.plan.parts]
        return {
            "event": "plan",
            "name": self.name,
            "variant": self.variant,
            "repo": self.plan.repo,
            "commit": self.plan.commit,
            "size": self.plan.size,
            "missing": self.plan.missing,
            "free": self.free,
            "files": files,
        }

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="dim")
        for header in ("FILE", "SIZE", "TO FETCH"):
            table.add_column(header, justify="left" if header == "FILE" else "right", no_wrap=True)
        for part in self.plan.parts:
            table.add_row(part.file.path, gigabytes(part.file.size), gigabytes(part.missing) if part.missing else "-")
        whole = (
            f"{gigabytes(self.plan.missing)} of {gigabytes(self.plan.size)} would be fetched, {gigabytes(self.free)} are free."
        )
        return Group(f"{self.plan.repo} at commit {self.plan.commit}, {self.variant}", table, whole)


def run(world: World, spec: ServerSpec, inventory: Inventory) -> PullResult:
    """Fetch what serving this model takes, at its branch as it is now; raises LauncherError."""
    began = time.monotonic()
    profile, variant, plan = chosen(world, spec, inventory)
    world.progress.phase("weights")

    def python() -> Path:
        if plan is None:
            message = f"{profile.name} does not run here, and what it is made of is converted by an engine that does"
            raise LauncherError(message, hint="run this on the machine that is to serve it")
        return preparing.interpreter(preparing.environment(world.home, world.env, world.engines, plan, world.progress))

    folder = weights.fetch(
        world.home,
        weights.called(profile.name, variant.name),
        variant.weights,
        environment_python=python,
        progress=world.progress,
        env=world.env,
        anew=True,
    )
    commit = weights.pin(world.home, variant.weights, folder).rpartition("@")[2]
    return PullResult(profile.name, variant.name, folder, commit, size(world, variant, folder), time.monotonic() - began)


def dry_run(world: World, spec: ServerSpec, inventory: Inventory) -> DryPullResult:
    """What `run` would fetch; raises LauncherError where the hub cannot be asked."""
    profile, variant, _ = chosen(world, spec, inventory)
    if not isinstance(variant.weights, HubWeights):
        raise LauncherError(f"{profile.name} ({variant.name}) is not from the hub", hint="leave --dry-run out")
    name = weights.called(profile.name, variant.name)
    world.home.make().weights.mkdir(mode=0o700, exist_ok=True)
    with Log(world.home.logs / f"plan-{name}.log") as log:
        told = fetching.plan(world.home, name, variant.weights, log=log, env=world.env)
    if "plan" not in told:
        raise LauncherError("the hub cannot be asked", hint="the cache has all of it: `launcher up` serves it")
    free = disk.free_bytes(weights.repository(variant.weights.repo, world.env))
    return DryPullResult(profile.name, variant.name, fetch_plan.read(told["plan"]), free)


def chosen(world: World, spec: ServerSpec, inventory: Inventory) -> tuple[Profile, Variant, Plan | None]:
    """The variant that would be served here or, where none would be, the one that is named, or the first."""
    outcome = decide(world, spec, inventory)
    if isinstance(outcome, Plan):
        return outcome.profile, outcome.variant, outcome
    profile = find(world, spec.model, trusted=spec.trust_remote_code)
    variant = next((each for each in profile.variants if each.name == spec.variant), profile.variants[0])
    world.progress.say(f"{profile.name} does not run on this machine: {outcome.missing.reason}")
    return profile, variant, None


def size(world: World, variant: Variant, folder: Path) -> int:
    """The bytes of what serving takes."""
    found = weights_record.find(world.home, variant.weights) if isinstance(variant.weights, HubWeights) else None
    if found and found.folder == folder:
        return found.size
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
