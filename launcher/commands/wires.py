"""`launcher wires`: which agents were told about the model, and where."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.results import copied
from launcher.wiring import apply
from launcher.wiring.apply import Wired
from launcher.wiring.base import Target
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class WiresResult:
    """For each target, the files of ours that are in place."""

    agents: Mapping[str, str]
    wired: tuple[Wired, ...]
    exit_code: int = 0

    def json(self) -> object:
        return [
            {
                "agent": agent,
                "target": name,
                "kind": "file",
                "wired": any(each.present for each in files),
                "files": [str(each.path) for each in files if each.present],
                "model": next((each.name for each in files), None),
                "base_url": next((each.base_url for each in files), None),
            }
            for name, agent, files in self._rows()
        ]

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        lines: list[RenderableType] = []
        rows = self._rows()
        for name, _, files in rows:
            if files:
                lines.append(Text(name, "bold"))
            for each in files:
                gone = "" if each.present else " (our entries are gone from it)"
                lines.append(copied(f"  {each.path}: {each.name} at {each.base_url}{gone}"))
        others = [name for name, _, files in rows if not files]
        if others:
            lines.append(Text.assemble(("Not wired: ", "dim"), ", ".join(others)))
        return Group(*lines)

    def _rows(self) -> list[tuple[str, str, list[Wired]]]:
        unknown = {each.target: each.agent for each in self.wired if each.target not in self.agents}
        agents = {**self.agents, **unknown}
        return [(name, agent, [each for each in self.wired if each.target == name]) for name, agent in agents.items()]


def run(world: World, targets: Mapping[str, Target]) -> WiresResult:
    """Look at the records and at the files; nothing is changed."""
    agents = {name: target.AGENT for name, target in targets.items()}
    return WiresResult(agents, apply.wired(targets, world.home))
