"""How long work tells what it does, without knowing where it is shown."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Progress(Protocol):
    """Passed into everything that takes more than a moment."""

    def phase(self, name: str) -> None:
        """A new phase begins (`environment`, `weights`, `engine`, ...); the one before it is over and timed."""

    def say(self, text: str) -> None:
        """A line that stays on the screen: a decision, a warning, a replacement."""

    def update(self, text: str, done: int = 0, total: int = 0, *, left: float | None = None) -> None:
        """What the current phase is doing now; `done` of `total` in any one unit where that is known, else 0.

        `left` is an estimate of the seconds until it is over.
        """

    def beside(self, name: str) -> "AbstractContextManager[Progress]":
        """Show work under a name of its own, which goes on beside the current phase until the context ends."""

    def part(self, name: str) -> "AbstractContextManager[Progress]":
        """One of many pieces of the current phase, a file of a download: a line of its own in a terminal while it moves.

        Elsewhere it is told once, when its last `update` was of all of it.
        """


class Silent:
    """Shows nothing: for tests and for callers without a screen."""

    def phase(self, name: str) -> None: ...

    def say(self, text: str) -> None: ...

    def update(self, text: str, done: int = 0, total: int = 0, *, left: float | None = None) -> None: ...

    def beside(self, name: str) -> "AbstractContextManager[Progress]":  # noqa: ARG002 - a part of the protocol
        return nullcontext(self)

    def part(self, name: str) -> "AbstractContextManager[Progress]":  # noqa: ARG002 - the same
        return nullcontext(self)


def figures(done: int, total: int, left: float | None) -> str:
    """How far work is, behind the words for it: ` 45% · about 20 s left`; "" where nothing is known."""
    share = f" {done / total:.0%}" if total else ""
    return share if left is None or left < 1 else f"{share} · about {_rough(left)} left"


def _rough(seconds: float) -> str:
    """As exactly as an estimate is worth: to the second only where few are left."""
    for below, step in ((10, 1), (60, 5), (180, 10)):
        if seconds < below:
            return f"{max(1, round(seconds / step)) * step} s"
    return f"{round(seconds / 60)} min"
