"""Two pieces of work at the same time, where the fault of one ends the other too."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from launcher.progress import Progress

T = TypeVar("T")
# How long work is waited for that was told to end; it tells what it does at least once a second.
GRACE = 15.0


class Ended(Exception):  # noqa: N818 - no fault of anybody: the work is not needed any more
    """Raised within work that the other piece of work does not need any more."""


@contextmanager
def beside(progress: Progress, name: str, work: Callable[[Progress], T]) -> Iterator[tuple[Future[T], Progress]]:
    """Run `work` in a thread while the block runs: its outcome to come, and the progress that the block must tell.

    What `work` raises is raised in the block too, when that next tells its progress or asks for the outcome. A block that is
    left by an exception ends the work.
    """
    outcome: Future[T] = Future()
    over = threading.Event()

    def end() -> None:
        if over.is_set():
            raise Ended

    def fail() -> None:
        if outcome.done() and (fault := outcome.exception()):
            raise fault

    with progress.beside(name) as shown:
        thread = threading.Thread(target=_run, args=(work, Checked(shown, end), outcome), daemon=True)
        thread.start()
        try:
            yield outcome, Checked(progress, fail)
            outcome.result()
        finally:
            over.set()
            thread.join(GRACE)


def _run(work: Callable[[Progress], T], progress: Progress, outcome: Future[T]) -> None:
    try:
        outcome.set_result(work(progress))
    except BaseException as fault:  # noqa: BLE001 - it is raised in the block
        outcome.set_exception(fault)


class Checked:
    """A Progress that asks, each time that it is told something, whether the work should go on."""

    def __init__(self, progress: Progress, check: Callable[[], None]) -> None:
        self._progress = progress
        self._check = check

    def phase(self, name: str) -> None:
        self._check()
        self._progress.phase(name)

    def say(self, text: str) -> None:
        self._check()
        self._progress.say(text)

    def update(self, text: str, done: int = 0, total: int = 0, *, left: float | None = None) -> None:
        self._check()
        self._progress.update(text, done, total, left=left)

    def beside(self, name: str) -> AbstractContextManager[Progress]:
        self._check()
        return self._progress.beside(name)

    def part(self, name: str) -> AbstractContextManager[Progress]:
        self._check()
        return self._progress.part(name)
