"""`launcher serve`: the one process that keeps alive what is wanted."""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

from launcher import background, exposing, lock, store, unit
from launcher.exposure import Change, Exposure
from launcher.hosting import Host
from launcher.progress import Progress
from launcher.world import World

_TAKE_OVER = 2.0
_WORDS = {background.HAND_OVER: "hand over", background.LEAVE: "leave"}


@dataclass(frozen=True, slots=True)
class ServeResult:
    """What it was told when it ended: `stop` ended the servers too, `hand over` and `leave` let them run on."""

    reason: str

    @property
    def exit_code(self) -> int:
        """0 but for `leave`, after which systemd is not to start it again."""
        return unit.LEFT if self.reason == "leave" else 0

    def json(self) -> object:
        return {"ended": self.reason}

    def text(self) -> str:
        return f"serve ended: {self.reason}"


def run(world: World, *, stay: bool, exposure: Change | None = None) -> ServeResult:
    """Keep alive what is wanted until a signal; unless it is to `stay`, also only until nothing is wanted any more.

    INT and TERM end the servers too, which are started again by the next one; SIGUSR1 hands them over as they run, and so does
    SIGUSR2, after which systemd starts no other one. One that is to stay takes over from one in the background. Raises
    LauncherError if another process does this already, or `exposure` cannot be had.
    """
    world.home.make()
    wished = exposing.meant(world.home, exposure) if exposure else None
    if stay and (holder := background.at_work(world.home)) and holder.command != background.STAYING:
        background.hand_over(world.home, holder)
    told = _Told()
    command = background.STAYING if stay else background.COMMAND
    try:
        return _serve(world, told, command, stay=stay, wished=wished)
    except _AttendedError as attended:
        return ServeResult(f"{attended} is at work")


def _serve(world: World, told: "_Told", command: str, *, stay: bool, wished: Exposure | None) -> ServeResult:
    with lock.acquire(world.home.serving, command, waiting=_take_over if stay else _leave_to, timeout=_TAKE_OVER):
        say = _stamped(world.progress)
        say(f"{command} (pid {os.getpid()}) begins")
        if wished and wished != store.exposure(world.home):
            store.expose(world.home, wished)
        host = Host(world, say=say)
        host.run(told.is_set, stay=stay)
        if told.what == "stop":
            host.supervisor.close()
        reason = told.what or "nothing to do"
        say(f"{command} ends: {reason}")
        return ServeResult(reason)


class _AttendedError(Exception):
    """One that stays is at work already; were it waited for, what systemd stops would be started again behind its back."""


def _take_over(_: lock.Holder) -> None:
    """It was asked to hand over."""


def _leave_to(holder: lock.Holder) -> None:
    if background.stays(holder):
        raise _AttendedError(holder.command)


class _Told:
    """What signals say; they are only noted, so that no look at a server is cut off in its middle."""

    def __init__(self) -> None:
        self.what = ""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, *_WORDS):
                signal.signal(number, self._note)

    def is_set(self) -> bool:
        return bool(self.what)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.what = _WORDS.get(signal.Signals(number), "stop")


def _stamped(progress: Progress) -> Callable[[str], None]:
    return lambda text: progress.say(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}")
