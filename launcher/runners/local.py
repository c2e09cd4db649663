"""Runs commands on this machine, each in a session of its own, and ends all that came of them."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Self

from launcher import processes as machine
from launcher.command import Command
from launcher.errors import LauncherError
from launcher.processes import Seen
from launcher.runners.base import Handle

# How long killed processes are waited for: a driver may take its time to give back the memory of one.
KILL_SECONDS = 10.0
_POLL_SECONDS = 0.03

# A closed terminal sends HUP, often twice; a system that goes down sends TERM.
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Our own children, by pid: one that nobody waits for stays a zombie. And how those ended that were waited for.
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}
_ENDED: dict[int, int] = {}


def start(
    command: Command, *, log: Path, server_id: str, environment: Path, inherited: Mapping[str, str] = os.environ
) -> Handle:
    """Start `command`; raises LauncherError if it cannot be executed or its log cannot be written.

    It runs in the log's folder: in a user's folder an engine would import whatever `torch.py` lies there.
    """
    with _InterruptsHeld() as interrupts:
        variables = variables_of(command, server_id=server_id, inherited=inherited)
        scratch = _make_scratch(server_id, inherited)
        try:
            child = _spawn(command.argv, variables, log=log, environment=environment)
        except LauncherError:
            _remove(scratch)
            raise
        _CHILDREN[child.pid] = child
        _ENDED.pop(child.pid, None)
        started = machine.start_time(child.pid) or time.time()
        handle = Handle(pid=child.pid, started=started, server_id=server_id, environment=environment, scratch=scratch)
        if interrupts.noted:
            # The caller will never hold this handle.
            stop(handle, grace=0)
    return handle


def variables_of(command: Command, *, server_id: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of an engine: ours without what is meant for our own interpreter and for us, and the command's.

    SPT_NOENV keeps setproctitle from wiping the token.
    """
    ours = ("PYTHON", "VIRTUAL_ENV", "LAUNCHER_")
    kept = {key: value for key, value in inherited.items() if not key.startswith(ours)}
    own = {machine.SERVER_ID: server_id, "SPT_NOENV": "1"}
    scratch = _scratch(server_id, inherited)
    temporary = {"TMPDIR": scratch} if scratch else {}
    return {**kept, **temporary, **command.env, **command.secrets, **own}


def _scratch(server_id: str, inherited: Mapping[str, str]) -> str:
    """The folder of its temporary files, since vLLM leaves a socket for each of its processes; `""` where none may be.

    A socket's name has to fit into the 107 bytes of unix(7), and vLLM's takes 37 beside its folder.
    """
    scratch = f"{inherited.get('TMPDIR') or '/tmp'}/launcher-{server_id[:13]}"  # noqa: S108 - this user's alone, by chance named
    return scratch if len(scratch) + 37 <= 107 else ""  # noqa: PLR2004 - see above


def _make_scratch(server_id: str, inherited: Mapping[str, str]) -> str:
    scratch = _scratch(server_id, inherited)
    if not scratch:
        return ""
    try:
        Path(scratch).mkdir(mode=0o700)
    except OSError:
        # They use the one that all share (`tempfile.gettempdir`).
        return ""
    return scratch


def _remove(scratch: str) -> None:
    if scratch:
        shutil.rmtree(scratch, ignore_errors=True)


def alive(handle: Handle) -> bool:
    """Whether the command's first process still runs."""
    _reap(handle.pid)
    seen = machine.look(handle.pid, handle.environment)
    return seen is not None and machine.leads(seen, handle)


def exit_code(handle: Handle) -> int | None:
    """How its first process ended (-9: by signal 9); None while it runs, and where it was not ours to wait for."""
    _reap(handle.pid)
    return _ENDED.get(handle.pid)


def processes(handle: Handle) -> tuple[int, ...]:
    """The pids of everything that belongs to the command, orphans included."""
    return tuple(sorted(process.pid for process in _find(handle, frozenset())))


def stop(handle: Handle, *, grace: float) -> None:
    """End all of it: TERM to every process, KILL after `grace` seconds; raises LauncherError if something survives.

    Shared memory and temporary files that none of them took down go too: each start of an engine would leave some.
    Interrupted while it waits, it kills at once and passes the interrupt on.
    """
    known: set[Seen] = set()
    with _InterruptsHeld() as interrupts:
        shared = machine.shared_memory(processes(handle))
        _end(handle, known, signal.SIGTERM, seconds=grace, hurry=lambda: bool(interrupts.noted))
        survivors = _end(handle, known, signal.SIGKILL, seconds=KILL_SECONDS)
        for path in machine.left_behind(shared, uid=os.geteuid()):
            path.unlink(missing_ok=True)
        if not survivors:
            _remove(handle.scratch)
    if survivors:
        names = ", ".join(f"{machine.name(process.pid)} (pid {process.pid})" for process in survivors)
        hint = "in state D (see `ps -o pid,stat,wchan,args`) they wait for a driver or a disk; else another user owns them"
        raise LauncherError(f"could not end {names}", hint=hint)


def _spawn(argv: tuple[str, ...], variables: Mapping[str, str], *, log: Path, environment: Path) -> subprocess.Popen[bytes]:
    output = open_log(log)
    try:
        return subprocess.Popen(
            argv,
            cwd=log.parent,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    except OSError as error:
        hint = f"if its environment is damaged, remove {environment} and it is made again"
        raise LauncherError(f"cannot run {argv[0]}: {error.strerror}", hint=hint) from None
    finally:
        os.close(output)


def open_log(log: Path) -> int:
    """The log, opened to append to it, for this user alone; raises LauncherError."""
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise LauncherError(f"cannot write the log {log}: {error.strerror}") from None
    os.fchmod(output, 0o600)
    return output


def _find(handle: Handle, known: Iterable[Seen]) -> frozenset[Seen]:
    """What belongs now, and what belonged before and still lives: a dead parent takes the proof along, not the child."""
    uid = os.geteuid()
    seen = machine.scan(handle.environment, uid=uid)
    found = {process for process in machine.belonging(seen, handle, uid=uid) if process.pid != os.getpid()}
    again = {(process.pid, process.started) for process in known}
    return frozenset(found | {process for process in seen if (process.pid, process.started) in again})


def _end(
    handle: Handle, known: set[Seen], number: signal.Signals, *, seconds: float, hurry: Callable[[], bool] = lambda: False
) -> frozenset[Seen]:
    """Send a signal once to all that is found, new ones too, until the time is over or nothing is left; what is left."""
    deadline = time.monotonic() + seconds
    told: set[int] = set()
    while left := _find(handle, known):
        known |= left
        for process in left:
            if process.pid not in told:
                _send(process.pid, number)
        told |= {process.pid for process in left}
        # Each look costs one file for each of these, not a walk through all processes.
        while any(_remains(process) for process in left):
            if time.monotonic() >= deadline or hurry():
                return left
            time.sleep(_POLL_SECONDS)
    return left


def _send(pid: int, number: signal.Signals) -> None:
    # Gone meanwhile is what we want; what may not be signalled is told as a survivor.
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _remains(process: Seen) -> bool:
    _reap(process.pid)
    return machine.lives(process.pid, process.started)


def _reap(pid: int) -> None:
    """Take the exit status of a child that ended, of an orphan too that was handed to us (as pid 1 of a container)."""
    if child := _CHILDREN.get(pid):
        if (code := child.poll()) is not None:
            _ENDED[pid] = code
            _CHILDREN.pop(pid, None)
        return
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


class _InterruptsHeld:
    """Within it ^C and its like are only noted, and take effect at its end; elsewhere than in the main thread none arrives."""

    def __enter__(self) -> Self:
        self.noted = 0
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _INTERRUPTS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before or signal.SIG_DFL)
        if self.noted:
            signal.raise_signal(self.noted)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.noted = number
