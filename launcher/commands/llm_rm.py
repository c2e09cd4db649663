"""`launcher llm rm`: forget a configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher import configurations, store, telling
from launcher.errors import LauncherError
from launcher.wiring import apply
from launcher.wiring.base import Target
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class LLMRemoveResult:
    """What was forgotten."""

    name: str
    local: bool
    exit_code: int = 0

    def json(self) -> object:
        return {"name": self.name, "removed": True}

    def text(self) -> "RenderableType":
        return f"What you set of {self.name} is forgotten." if self.local else f"{self.name} and its key are forgotten."


def run(world: World, name: str, targets: Mapping[str, Target]) -> LLMRemoveResult:
    """Forget a configuration; raises LauncherError while an agent or the gateway has it."""
    told = telling.told(world, name)
    if told.llm.local and configurations.load(world.home, name) is None:
        raise LauncherError(f"{name} is served here, and you set nothing of it", hint=f"launcher down {name} stops it")
    wired = [each for each in apply.wired(targets, world.home) if each.present and each.name == name]
    if wired and not told.llm.local:
        raise LauncherError(
            f"{wired[0].agent} still has {name}, in {wired[0].path}",
            hint="launcher llm use ANOTHER --agent openhands, or launcher unwire",
        )
    if not told.llm.local and name in store.remotes(world.home):
        raise LauncherError(f"{name} is served under its own name", hint=f"launcher llm serve {name} --remove")
    behind = [want.name for want in store.wishes(world.home)[0] if want.fallback == name]
    if behind:
        raise LauncherError(f"{name} is the fallback of {behind[0]}", hint=f"launcher up {behind[0]} --no-fallback")
    configurations.remove(world.home, name)
    return LLMRemoveResult(name, told.llm.local)
