"""Keeps a warm spare: a process of an engine's environment with its imports done, waiting to become the next server.

Imports are a third of a start. A spare is made once a server is proven, or while the weights of the first are still coming; it
is used by the next server of the same engine, environment and variables, and ended when nothing runs any more. An engine's own
interpreters (vLLM's core and workers, SGLang's scheduler) wait beside it: a server that runs shows which there are, and with
which variables they were started. A server without the launcher's part would start them in the same way, only later.
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

from launcher import atomic, processes
from launcher.command import Command
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.processes import Spawned
from launcher.runners import local
from launcher.runners.base import Handle

SCRIPT = Path(__file__).with_name("spare.py")
# What tells it of the interpreters beneath it.
CHILDREN = "LAUNCHER_CHILDREN"
# What it takes of the host's memory at most (vLLM 0.32 for CPUs: 0.41 GiB), what each interpreter beneath it may take, and what
# must stay free beside them.
SIZE, BENEATH, RESERVE = 1 << 30, 3 << 28, 2 << 30
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


def learn(home: Home, command: Command, server: Handle, *, inherited: Mapping[str, str] = os.environ) -> None:
    """Note which interpreters a proven server has started for itself: the next spare has the same ones."""
    own = local.variables_of(command, server_id=server.server_id, inherited=inherited)
    seen = processes.spawned(server.pid, command.argv[0])
    noted = {"fits": _digest(command, inherited), "children": [_like(each, own, secrets=command.secrets) for each in seen]}
    with suppress(OSError):
        home.spares.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic.write(_children(home), json.dumps(noted))


def make(home: Home, command: Command, *, environment: Path, room: int, inherited: Mapping[str, str] = os.environ) -> None:
    """Start a spare for servers like this one, unless there is one; another one is ended first.

    `room` are the bytes of the host's memory that are free. That there is none is no fault: a start is slower then.
    """
    if not command.imports or room < SIZE + RESERVE or find(home, command, inherited=inherited):
        return
    end(home)
    server_id = str(uuid.uuid4())
    orders = home.spares / f"{server_id}.orders"
    told = (json.dumps(command.imports), json.dumps(asdict(command.beneath)))
    words = (str(SCRIPT), str(orders), *told, *program(command.argv))
    children = _known(home, _digest(command, inherited))
    if room < SIZE + RESERVE + BENEATH * _count(children):
        children = []
    # In a variable, which no other user can read: an engine may set some for its own.
    waiting = Command((command.argv[0], "-I", *words), env={**command.env, CHILDREN: json.dumps(children)})
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


def _like(seen: Spawned, parent: Mapping[str, str], *, secrets: Mapping[str, str]) -> dict[str, Any]:
    """How its variables differ from its parent's, without any secret: these come with the order."""
    hidden = {CHILDREN, *secrets, *(name for name, value in seen.variables.items() if value in secrets.values())}
    own = {name: value for name, value in seen.variables.items() if name not in hidden}
    return {
        "set": {name: value for name, value in own.items() if parent.get(name) != value},
        "unset": [name for name in parent if name not in own],
        "children": [_like(each, own, secrets=secrets) for each in seen.children],
    }


def _known(home: Home, fits: str) -> list[dict[str, Any]]:
    """The interpreters of the last server that was started like this; none where that is not on record."""
    try:
        noted: dict[str, Any] = json.loads(_children(home).read_text(encoding="utf-8"))
        children: list[dict[str, Any]] = noted["children"] if noted["fits"] == fits else []
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return children


def _count(children: Sequence[Mapping[str, Any]]) -> int:
    return sum(1 + _count(each["children"]) for each in children)


def _children(home: Home) -> Path:
    return home.spares / "children.json"


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
    return hashlib.sha256(
        json.dumps([command.argv[0], command.imports, asdict(command.beneath), sorted(told.items())]).encode()
    ).hexdigest()
