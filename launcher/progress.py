"""How long work tells what it does, without knowing where it is shown."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Progress(Protocol):
    """Passed into everything that takes more than a moment."""

    def phase(self, name: str) -> None:
        """A new phase begins (`environment`, `weights`, `engine`, ...); the one before it is over and timed."""

    def say(self, text: str) -> None:
        """A line that stays on the screen: a decision, a warning, a replacement."""

    def update(self, text: str, done: int = 0, total: int = 0) -> None:
        """What the current phase is doing now; `done` of `total` in any one unit where that is known, else 0."""

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

    def update(self, text: str, done: int = 0, total: int = 0) -> None: ...

    def beside(self, name: str) -> "AbstractContextManager[Progress]":  # noqa: ARG002 - a part of the protocol
        return nullcontext(self)

    def part(self, name: str) -> "AbstractContextManager[Progress]":  # noqa: ARG002 - the same
        return nullcontext(self)
