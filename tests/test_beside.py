"""Two pieces of work at once, in real threads."""

import threading
import time
from typing import Any

import pytest

from launcher.beside import Ended, beside
from launcher.errors import LauncherError
from launcher.progress import Progress, Silent
from launcher.stopwatch import Stopwatch


def forever(progress: Progress) -> Any:
    while True:
        progress.update("working")
        time.sleep(0.01)


def test_both_are_done_at_the_same_time_and_timed_apart() -> None:
    watch = Stopwatch(Silent())
    watch.phase("environment")
    both = threading.Barrier(2, timeout=10)
    with beside(watch, "weights", lambda _: both.wait()) as (outcome, _):
        both.wait()
        assert outcome.result() in {0, 1}
    assert set(watch.seconds()) == {"environment", "weights"}


def test_the_fault_of_the_other_work_ends_this_one() -> None:
    def fails(_: Progress) -> None:
        raise LauncherError("the hub is away", hint="later")

    with pytest.raises(LauncherError, match="the hub is away"), beside(Silent(), "weights", fails) as (_, shown):
        forever(shown)


def test_a_fault_that_comes_last_is_told_too() -> None:
    begun = threading.Event()

    def fails(_: Progress) -> None:
        begun.wait(10)
        raise LauncherError("cut off", hint="again")

    with pytest.raises(LauncherError, match="cut off"), beside(Silent(), "weights", fails):
        begun.set()


@pytest.mark.parametrize("fault", [KeyboardInterrupt, LauncherError("no disk", hint="make room")], ids=["a person", "a fault"])
def test_what_ends_this_work_ends_the_other(fault: Any) -> None:
    ended = threading.Event()

    def works(progress: Progress) -> None:
        try:
            forever(progress)
        except Ended:
            ended.set()
            raise

    with pytest.raises((KeyboardInterrupt, LauncherError)), beside(Silent(), "weights", works):
        raise fault
    assert ended.is_set(), "it had ended when the block was left"
