"""`launcher models show`: all about one model, and its plan here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.commands import plan
from launcher.commands.plan import PlanResult
from launcher.deciding import find
from launcher.gpu import GIB, Inventory
from launcher.profile import Profile, Variant
from launcher.profile_weights import HubWeights, LocalWeights, ModelScopeWeights
from launcher.server import ServerSpec
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class ShowResult:
    """A profile, and what planning it gave."""

    profile: Profile
    plan: PlanResult
    exit_code: int = 0

    def json(self) -> object:
        profile = self.profile
        return {
            "name": profile.name,
            "title": profile.title,
            "about": profile.about,
            "source": profile.source,
            "checked": profile.checked.isoformat(),
            "origin": profile.origin,
            "parameters": profile.architecture.parameters,
            "context": profile.architecture.context,
            "context_max": profile.context_max,
            "runs_on": sorted(profile.runs_on),
            "context_min": profile.context_min,
            "tool_parser": dict(profile.tool_parser),
            "reasoning_parser": dict(profile.reasoning_parser),
            "min_version": dict(profile.min_version),
            "variants": [_plain(variant) for variant in profile.variants],
            "plan": self.plan.json(),
        }

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        profile = self.profile
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="dim")
        facts.add_row("about", profile.about)
        facts.add_row("source", f"{profile.source}, {profile.checked}")
        facts.add_row("parameters", f"{profile.architecture.parameters / 1e9:.1f} B")
        stretched = f", {profile.context_max:,} with YaRN" if profile.yarn_factor > 1 else ""
        facts.add_row("context", f"{profile.architecture.context:,} tokens{stretched}")
        facts.add_row("for agents", f"from {profile.context_min:,} tokens")
        facts.add_row("tool calls", _by_engine(profile.tool_parser) or "described in the prompt: no parser is known")
        if profile.reasoning_parser:
            facts.add_row("thoughts", _by_engine(profile.reasoning_parser))
        if profile.min_version:
            facts.add_row("needs", _by_engine(profile.min_version))
        for variant in profile.variants:
            size = f", {variant.size / GIB:.1f} GiB" if variant.size else ""
            facts.add_row("variant", f"{variant.name}: {_where(variant)}{size}")
        return Group(facts, Text(), self.plan.text())


def run(world: World, reference: str, inventory: Inventory) -> ShowResult:
    """Find the model and plan it; that it does not fit here is no fault."""
    return ShowResult(find(world, reference), plan.run(world, ServerSpec(model=reference), inventory))


def _by_engine(words: Mapping[str, str]) -> str:
    return ", ".join(f"{engine} {word}" for engine, word in words.items())


def _plain(variant: Variant) -> dict[str, object]:
    lowest = ".".join(map(str, variant.on.compute))
    return {
        "name": variant.name,
        "precision": variant.precision,
        "weights": _where(variant),
        "size": variant.size,
        "compute": lowest,
        "args": {engine: list(words) for engine, words in variant.args.items()},
    }


def _where(variant: Variant) -> str:
    weights = variant.weights
    if isinstance(weights, HubWeights):
        return weights.repo + (f" at {weights.revision}" if weights.revision else "")
    if isinstance(weights, ModelScopeWeights):
        return weights.repo
    return str(weights.path) if isinstance(weights, LocalWeights) else weights.requirement
