"""`launcher models`: the profiles there are, and which of them run here."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher import catalogue, planner
from launcher.gpu import Inventory
from launcher.plan import DoesNotFit, Plan
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class ModelsResult:
    """What planning each profile on this machine gave."""

    outcomes: tuple[Plan | DoesNotFit, ...]
    exit_code: int = 0

    def json(self) -> object:
        return [_plain(outcome) for outcome in self.outcomes]

    def text(self) -> "RenderableType":
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="dim", pad_edge=False)
        for header in ("NAME", "PARAMETERS", "RUNS", "CONTEXT"):
            table.add_column(header, no_wrap=header == "NAME")
        for outcome in self.outcomes:
            profile = outcome.profile
            if isinstance(outcome, Plan):
                here, context = Text(f"{outcome.variant.name} on {outcome.devices}", "green"), f"{outcome.context:,}"
            else:
                here, context = Text(outcome.rejections[-1].reason, "red"), "-"
            table.add_row(profile.name, f"{profile.architecture.parameters / 1e9:.1f} B", here, context)
        return table


def run(world: World, inventory: Inventory) -> ModelsResult:
    """Plan every profile; those that run here come first."""
    profiles = catalogue.load_all(world.profiles).values()
    outcomes = [planner.plan(profile, inventory, world.engines) for profile in profiles]
    return ModelsResult(tuple(sorted(outcomes, key=lambda outcome: (isinstance(outcome, DoesNotFit), outcome.profile.name))))


def _plain(outcome: Plan | DoesNotFit) -> dict[str, object]:
    profile = outcome.profile
    plain: dict[str, object] = {
        "name": profile.name,
        "title": profile.title,
        "about": profile.about,
        "parameters": profile.architecture.parameters,
        "context_max": profile.context_max,
        "variants": [variant.name for variant in profile.variants],
        "fits": isinstance(outcome, Plan),
    }
    if isinstance(outcome, Plan):
        return {**plain, "variant": outcome.variant.name, "engine": outcome.engine, "context": outcome.context}
    return {**plain, "reasons": [f"{each.variant}: {each.reason}" for each in outcome.rejections]}
