"""`launcher pack`: a folder with weights, profile, wheels and lock, for a machine without a network."""

import time
from dataclasses import dataclass
from pathlib import Path

from launcher import packing, preparing, weights
from launcher.deciding import decide, refusal
from launcher.disk import gigabytes
from launcher.gpu import Inventory
from launcher.packing import Pack
from launcher.plan import Plan
from launcher.server import ServerSpec
from launcher.world import World


@dataclass(frozen=True, slots=True)
class PackResult:
    """A pack that is whole, and the seconds that it took."""

    made: Pack
    seconds: float
    exit_code: int = 0

    def json(self) -> object:
        holds = self.made.holds
        return {
            "folder": str(self.made.folder),
            "model": holds.model,
            "variant": holds.variant,
            "engine": f"{holds.engine}-{holds.engine_version}-{holds.accelerator}",
            "arch": holds.arch,
            "python": holds.python,
            "weights": self.made.weights,
            "wheels": self.made.wheels,
            "seconds": round(self.seconds, 3),
        }

    def text(self) -> str:
        made, holds = self.made, self.made.holds
        sizes = f"weights {gigabytes(made.weights)}, wheels {gigabytes(made.wheels)}"
        needs = f"this launcher ({holds.launcher}), Python {holds.python} and {holds.arch}"
        return (
            f"{made.folder} holds {holds.model} ({holds.variant}) for {holds.engine} on {holds.accelerator}: {sizes}\n"
            f"It is served on a machine with {needs}, which needs no network:\n"
            f"  launcher up --offline --from {made.folder}"
        )


def run(world: World, spec: ServerSpec, folder: Path, inventory: Inventory) -> PackResult:
    """Fetch what is missing and make the folder; raises LauncherError."""
    began = time.monotonic()
    plan = decide(world, spec, inventory)
    if not isinstance(plan, Plan):
        raise refusal(world, spec, inventory, plan)
    world.progress.phase("weights")
    source = weights.fetch(
        world.home,
        weights.called(plan.profile.name, plan.variant.name),
        plan.variant.weights,
        environment_python=lambda: preparing.interpreter(
            preparing.environment(world.home, world.env, world.engines, plan, world.progress)
        ),
        progress=world.progress,
        env=world.env,
    )
    return PackResult(packing.pack(world, plan, source, folder), time.monotonic() - began)
