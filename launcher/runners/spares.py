"""Keeps a warm spare: a process of an engine's environment with its imports done, waiting to become the next server.

Imports are a third of a start. A spare is made once a server is proven, or while the weights of the first are still coming; it
is used by the next server of the same engine, environment and variables, and ended when nothing runs any more.
"""

import errno
import hashlib
import json
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from launcher import atomic
from launcher.command import Command
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.runners import local
from launcher.runners.base import Handle

SCRIPT = Path(__file__).with_name("spare.py")
# What it takes of the host's memory at most (vLLM 0.32 for CPUs: 0.41 GiB), and what must stay free beside it.
SIZE, RESERVE = 1 << 30, 2 << 30
_GRACE = 2.0
_POLL = 0.02
# Read when a CUDA context is made, which imports never do: it may differ from server to server.
_LATE = frozenset({"CUDA_VISIBLE_DEVICES"})
# What changes with each terminal and means nothing to an engine.
_OF_TERMINALS = frozenset({"_", "COLUMNS", "LINES", "OLDPWD", "PWD", "SHLVL", "TERM", "WINDOWID"})
_TERMINAL_PREFIXES = ("SSH_", "TMUX", "XDG_SESSION")


@dataclass(frozen=True, slots=True)
class Spare:
    """A waiting process; `orders` is the pipe that it listens to, `fits` what it was started with."""

    handle: Handle
    orders: Path
    fits: str


def find(home: Home, command: Command, *, inherited: Mapping[str, str] = os.environ) -> Spare | None:
    """The spare that can become this command, if there is one and it lives."""
    spare = kept(home)
    if spare is None or not command.imports or spare.fits != _digest(command, inherited):
        return None
    return spare if spare.orders.exists() and local.alive(spare.handle) else None


def give(home: Home, spare: Spare, command: Command, *, log: Path, inherited: Mapping[str, str] = os.environ) -> Handle | None:
    """Make it the server: from then on it runs `command` and writes into `log`; None if it has just died."""
    variables = local.variables_of(command, server_id=spare.handle.server_id, inherited=inherited)
    order = json.dumps({"argv": command.argv[1:], "env": variables, "log": str(log)}).encode() + b"\n"
    os.close(local.open_log(log))
    try:
        with os.fdopen(_open(spare), "wb") as orders:
            orders.write(order)
    except OSError:
        return None
    _record(home).unlink(missing_ok=True)
    return spare.handle


def _open(spare: Spare) -> int:
    """Its pipe, to write into; raises OSError where nobody listens."""
    while True:
        try:
            pipe = os.open(spare.orders, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            # One that has just been started does not listen yet.
            if error.errno != errno.ENXIO or not local.alive(spare.handle):
                raise
            time.sleep(_POLL)
        else:
            os.set_blocking(pipe, True)
            return pipe


def make(home: Home, command: Command, *, environment: Path, inherited: Mapping[str, str] = os.environ) -> None:
    """Start a spare for servers like this one, unless there is one; another one is ended first.

    That there is none is no fault: a start is slower then.
    """
    if not command.imports or find(home, command, inherited=inherited):
        return
    end(home)
    server_id = str(uuid.uuid4())
    orders = home.spares / f"{server_id}.orders"
    words = (str(SCRIPT), str(orders), json.dumps(command.imports), *program(command.argv))
    waiting = Command((command.argv[0], "-I", *words), env=command.env)
    # Recorded before it runs: should we be killed in between, its id finds it.
    spare = Spare(Handle(0, 0.0, server_id, environment), orders, _digest(command, inherited))
    with suppress(OSError, LauncherError):
        orders.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.mkfifo(orders, 0o600)
        _keep(home, spare)
        log = home.logs / "spare.log"
        handle = local.start(waiting, log=log, server_id=server_id, environment=environment, inherited=inherited)
        _keep(home, replace(spare, handle=handle))


def end(home: Home) -> bool:
    """End the spare, if there is one, whole; whether there was one."""
    spare = kept(home)
    if spare is None:
        return False
    local.stop(spare.handle, grace=_GRACE)
    spare.orders.unlink(missing_ok=True)
    _record(home).unlink(missing_ok=True)
    return True


def kept(home: Home) -> Spare | None:
    """The spare that is on record, alive or not; None too where the record cannot be read."""
    try:
        plain: dict[str, Any] = json.loads(_record(home).read_text(encoding="utf-8"))
        handle = Handle(**{**plain["handle"], "environment": Path(plain["handle"]["environment"])})
        return Spare(handle, Path(plain["orders"]), plain["fits"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def program(argv: Sequence[str]) -> tuple[str, ...]:
    """A Python program's own words: without the interpreter and its options."""
    words = argv[1:]
    return tuple(word for number, word in enumerate(words) if number > 1 or word not in {"-I", "-m"})


def _keep(home: Home, spare: Spare) -> None:
    atomic.write(_record(home), json.dumps(asdict(spare), default=str))


def _record(home: Home) -> Path:
    return home.spares / "spare.json"


def _digest(command: Command, inherited: Mapping[str, str]) -> str:
    """Two commands with the same digest see the same while they import."""
    variables = local.variables_of(Command(command.argv, env=command.env), server_id="", inherited=inherited)
    told = {
        name: value
        for name, value in variables.items()
        if name not in _LATE | _OF_TERMINALS and not name.startswith(_TERMINAL_PREFIXES)
    }
    return hashlib.sha256(json.dumps([command.argv[0], command.imports, sorted(told.items())]).encode()).hexdigest()
