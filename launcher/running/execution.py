"""Starts an agent in the terminal, in our place as far as anybody can tell, and takes away what it was given once it ends."""

import fcntl
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from launcher import atomic
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.running.base import Mirror, Start

# What is passed on to the agent: all that asks a program to end or tells it something.
_PASSED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
# ^C and ^\\ go to all of the terminal's foreground, the agent among it; the kernel is who sends them (sigaction(2), SI_KERNEL).
_OF_A_TERMINAL = {signal.SIGINT, signal.SIGQUIT}
_BY_THE_KERNEL = 0x80
# After this time (seconds), who is still stopped was stopped alone.
_STOPPED = 0.1
# What a shell adds to the number of the signal that ended a program.
_BY_SIGNAL = 128


@contextmanager
def room(home: Home) -> Iterator[Path]:
    """A new folder of this user's alone for one agent's files, gone at the end; what killed ones left is removed first.

    Its lock goes over to the agent, and is held for as long as the agent or one of its own lives. Raises LauncherError if it
    cannot be made.
    """
    try:
        home.make().running.mkdir(mode=0o700, exist_ok=True)
        _sweep(home.running)
        folder, descriptor = _locked(home.running)
    except OSError as error:
        raise LauncherError(
            f"cannot write in {home.running}: {error.strerror}", hint="make room, or mend its permissions"
        ) from None
    try:
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - it takes no keyword
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def fill(start: Start) -> None:
    """Write an agent's files, each for this user alone; raises LauncherError if they cannot be written."""
    try:
        if start.mirror:
            _reflect(start.mirror, {path.name for path in start.files})
        for path, text in start.files.items():
            atomic.write(path, text)
    except OSError as error:
        raise LauncherError(f"cannot write {error.filename}: {error.strerror}", hint="make room on the disk") from None


def run(program: str, start: Start, env: Mapping[str, str]) -> int:
    """Run the agent until it ends; its exit code, as a shell tells it. Raises LauncherError if it cannot be started."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*_PASSED, signal.SIGCHLD})
    try:
        pid = _spawn(program, start, env, before)
        code = _attend(pid)
    finally:
        # What came when the agent was gone already was meant for it.
        while signal.sigtimedwait(_PASSED, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return code if code >= 0 else _BY_SIGNAL - code


def _spawn(program: str, start: Start, env: Mapping[str, str], mask: set[int | signal.Signals]) -> int:
    command = start.command
    try:
        return os.posix_spawn(
            program,
            command.argv,
            {**env, **command.env, **command.secrets},
            setsigmask=mask,
            # Python ignores it, and others rely on it.
            setsigdef=[signal.SIGPIPE],
        )
    except OSError as error:
        raise LauncherError(f"cannot start {program}: {error.strerror}", hint="see that it runs by itself") from None


def _attend(pid: int) -> int:
    """Wait for the agent's end, pass on what comes meanwhile, and stop when it stopped itself; its exit status."""
    threading.Thread(target=_tell, args=(pid, threading.get_ident()), daemon=True).start()
    while True:
        # Not sigtimedwait: CPython's (3.11) tells of a signal that nobody sent once a stop has outlasted its time.
        told = signal.sigwaitinfo({*_PASSED, signal.SIGCHLD})
        if told.si_signo != signal.SIGCHLD:
            if not (told.si_signo in _OF_A_TERMINAL and told.si_code == _BY_THE_KERNEL):
                os.kill(pid, told.si_signo)
            continue
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if _is_stopped(pid):
            _stop_with(pid)


def _tell(pid: int, waiting: int) -> None:
    """Wake who waits for the agent's end, should another thread have taken the kernel's word of it."""
    with suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        signal.pthread_kill(waiting, signal.SIGCHLD)


def _is_stopped(pid: int) -> bool:
    """Whether the agent stopped by itself: where the terminal stopped us both, we were asleep, and it goes on with us."""
    stopped = _looks_stopped(pid)
    if stopped:
        time.sleep(_STOPPED)
    return stopped and _looks_stopped(pid)


def _looks_stopped(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None


def _stop_with(pid: int) -> None:
    """Give the terminal back to the shell, and go on together."""
    os.kill(os.getpid(), signal.SIGSTOP)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def _reflect(mirror: Mirror, written: set[str]) -> None:
    mirror.folder.mkdir(mode=0o700)
    if not mirror.of.is_dir():
        return
    for name in {*(path.name for path in mirror.of.iterdir()), *mirror.also} - written:
        (mirror.folder / name).symlink_to(mirror.of / name)


def _sweep(running: Path) -> None:
    """Remove the folders that nobody holds any more."""
    for folder in running.iterdir():
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _locked(running: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(dir=running))
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if folder.exists():
            return folder, descriptor
        # Another one's sweep came between.
        os.close(descriptor)
