"""A start as its log tells it: which phase it is in, and when each began. Pure: lines and the clock are fed to it."""

from dataclasses import dataclass, replace
from typing import Self

from launcher.phases import BEGINNING, GRAPHS, IMPORTS, KV, ORDER, READY, Phase


@dataclass(frozen=True, slots=True)
class Watch:
    """A start so far; all moments are of one clock, in seconds.

    `reached` names each phase with the moment of its first line, `told` is the moment of the newest line about `now`;
    `ahead` says that the engine's imports were done before (a warm spare).
    """

    reached: tuple[tuple[str, float], ...]
    now: Phase
    told: float
    ahead: bool = False

    @classmethod
    def begun(cls, at: float, *, ahead: bool = False) -> Self:
        """The watch of a start that begins now, with its imports."""
        return cls(reached=((IMPORTS, at),), now=BEGINNING, told=at, ahead=ahead)

    def fed(self, phase: Phase | None, at: float) -> Self:
        """The watch after a line that told this. Phases do not come back: of several processes, one is always behind."""
        if phase is None or not self._follows(phase.name):
            return self
        reached = self.reached if phase.name == self.now.name else (*self.reached, (phase.name, at))
        return replace(self, reached=reached, now=phase, told=at)

    def ended(self, at: float) -> Self:
        """The watch of a server that is ready, whatever its log said last."""
        return self.fed(Phase(READY, "ready"), at)

    @property
    def since(self) -> float:
        """When the phase that it is in began."""
        return self.reached[-1][1]

    @property
    def done(self) -> tuple[int, int]:
        """Hundredths of this phase that are done, of 100; 0 of 0 where nothing tells."""
        return (0, 0) if self.now.share is None else (round(self.now.share * 100), 100)

    def seconds(self) -> dict[str, float]:
        """How long each phase took that is over."""
        ends = [moment for _, moment in self.reached[1:]]
        return {name: round(end - begun, 3) for (name, begun), end in zip(self.reached, ends, strict=False)}

    def _follows(self, name: str) -> bool:
        # vLLM captures some graphs while it profiles its memory (v1/worker/gpu/cudagraph_utils.py, profile_cudagraph_memory).
        early = name == GRAPHS and KV not in dict(self.reached)
        return not early and ORDER.index(name) >= ORDER.index(self.now.name)
