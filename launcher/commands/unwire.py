"""`launcher unwire`: the agents' files as they were."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher import lock
from launcher.errors import LauncherError
from launcher.wiring import apply
from launcher.wiring.apply import Undone
from launcher.wiring.base import Target
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType

_WORDS = {
    "removed": "it was ours alone and is gone",
    "restored": "it is byte for byte what it was before",
    "edited": "our entries are out; what others changed since stays",
    "left": "left as it is",
    "failed": "not possible",
}


@dataclass(frozen=True, slots=True)
class UnwireResult:
    """What became of each file."""

    undone: tuple[Undone, ...]

    @property
    def exit_code(self) -> int:
        return 1 if any(each.how == "failed" for each in self.undone) else 0

    def json(self) -> object:
        return [
            {"agent": each.agent, "target": each.target, "file": str(each.path), "how": each.how, "reason": each.reason}
            for each in self.undone
        ]

    def text(self) -> "RenderableType":
        if not self.undone:
            return "No agent's file was wired."
        lines = [f"{each.path}: {_WORDS[each.how]}{f' ({each.reason})' if each.reason else ''}" for each in self.undone]
        return "\n".join(lines)


def run(world: World, targets: Mapping[str, Target], agents: tuple[str, ...] = ()) -> UnwireResult:
    """Take our entries out of every agent's file, or of these agents' alone.

    What failed for one file is told, the others are done. Raises LauncherError for an agent that is not wired.
    """
    if not world.home.root.exists():
        return UnwireResult(())

    def wait(holder: lock.Holder) -> None:
        world.progress.say(f"waiting for `{holder.command}` (pid {holder.pid})")

    with lock.acquire(world.home.lock, "launcher unwire", waiting=wait, timeout=None):
        known = {word for each in apply.wired({}, world.home) for word in (each.agent, each.target)} if agents else set()
        for agent in agents:
            if agent not in known:
                there = ", ".join(sorted(known)) or "none"
                raise LauncherError(f"{agent} is not wired", hint=f"wired: {there}")
        return UnwireResult(apply.unwire(targets, world.home, agents=frozenset(agents) if agents else None))
