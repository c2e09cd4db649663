"""Times the phases of long work while they are shown."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from launcher.progress import Progress


class Stopwatch:
    """A Progress that passes everything on and remembers how long each phase took, in seconds."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._seconds: dict[str, float] = {}
        self._name = ""
        self._begun = 0.0

    def phase(self, name: str) -> None:
        self._stop()
        self._name, self._begun = name, time.monotonic()
        self._progress.phase(name)

    def say(self, text: str) -> None:
        self._progress.say(text)

    def update(self, text: str, done: int = 0, total: int = 0, *, left: float | None = None) -> None:
        self._progress.update(text, done, total, left=left)

    @contextmanager
    def beside(self, name: str) -> Iterator[Progress]:
        """Its seconds count under its own name, beside those of the phases that go by meanwhile."""
        begun = time.monotonic()
        try:
            with self._progress.beside(name) as shown:
                yield shown
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - begun

    def part(self, name: str) -> AbstractContextManager[Progress]:
        return self._progress.part(name)

    def seconds(self) -> dict[str, float]:
        """Seconds by phase so far, the running one included."""
        self._stop()
        return {name: round(seconds, 3) for name, seconds in self._seconds.items()}

    def _stop(self) -> None:
        now = time.monotonic()
        if self._name:
            self._seconds[self._name] = self._seconds.get(self._name, 0.0) + now - self._begun
        self._begun = now
