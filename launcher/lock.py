"""One lock on a home: whoever changes things there holds it, and who that is can be read.

The lock is the kernel's (flock), so it is gone with its holder, however that ends. The file's text only tells who it is.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from launcher.errors import LauncherError

_POLL_SECONDS = 0.05
# A holder is told only after this time: a look at who holds the lock takes it for a moment too.
_PATIENCE_SECONDS = 0.15


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock: `started` is when it was taken, in seconds since the epoch."""

    pid: int
    started: float
    command: str


_UNKNOWN = Holder(pid=0, started=0.0, command="a process that did not say its name")


@contextmanager
def acquire(path: Path, command: str, *, waiting: Callable[[Holder], None], timeout: float | None) -> Iterator[None]:
    """Hold the lock; `command` is what others are told.

    If another process has it, `waiting` is called once with that one; then it is waited for, `timeout` seconds at most (None:
    without end). Raises LauncherError if it is not had by then or the file cannot be used.
    """
    descriptor = _take(path, waiting, timeout)
    try:
        _sign(descriptor, json.dumps(asdict(Holder(pid=os.getpid(), started=time.time(), command=command))))
        yield
    finally:
        _sign(descriptor, "")
        # Not left to close: a process that was forked meanwhile would keep the lock with its copy of the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def holder(path: Path) -> Holder | None:
    """Who holds the lock now, None if nobody does; the file is not made for it."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while _is_held(path):
        if named := _named(path):
            return named
        # Between taking the lock and signing there is a moment.
        if time.monotonic() >= deadline:
            return _UNKNOWN
        time.sleep(_POLL_SECONDS / 10)
    return None


def _take(path: Path, waiting: Callable[[Holder], None], timeout: float | None) -> int:
    began = time.monotonic()
    told = False
    while (descriptor := _try(path)) is None:
        waited = time.monotonic() - began
        if timeout is not None and waited >= timeout:
            raise _still_held(_named(path) or _UNKNOWN)
        if not told and waited >= _PATIENCE_SECONDS:
            told = True
            waiting(_named(path) or _UNKNOWN)
        time.sleep(_POLL_SECONDS)
    return descriptor


def _still_held(by: Holder) -> LauncherError:
    end_it = f", or end it with `kill {by.pid}`" if by.pid else ""
    return LauncherError(f"{by.command} (pid {by.pid or 'unknown'}) is still at work", hint=f"wait until it is done{end_it}")


def _try(path: Path) -> int | None:
    """The lock's descriptor, or None while another has it. os.open keeps it from the programs that are started meanwhile."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise LauncherError(f"cannot use the lock {path}: {error.strerror}") from None
    ours = False
    try:
        ours = _locks(descriptor, fcntl.LOCK_EX, path)
    finally:
        if not ours:
            os.close(descriptor)
    return descriptor if ours else None


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise LauncherError(f"cannot use the lock {path}: {error.strerror}") from None
    try:
        return not _locks(descriptor, fcntl.LOCK_SH, path)
    finally:
        os.close(descriptor)


def _locks(descriptor: int, kind: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        hint = "set LAUNCHER_HOME to a directory on a local disk"
        raise LauncherError(f"cannot lock {path}: {error.strerror}", hint=hint) from None
    return True


def _named(path: Path) -> Holder | None:
    with suppress(OSError, ValueError, TypeError):
        return Holder(**json.loads(path.read_text()))
    return None


def _sign(descriptor: int, text: str) -> None:
    # A full disk must not stop the one who wants to make room: who holds the lock is then not told.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
