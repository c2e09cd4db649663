"""Waits with an engine's imports done and becomes a server when it is told to: `spare.py ORDERS IMPORTS BENEATH WORD...`.

Run by an engine's interpreter (`python -I`), never imported by us. IMPORTS is a JSON list of modules, or of programs' paths;
the words are those of a server like the one to come. ORDERS is a named pipe; one line of JSON is the
order: the words after the interpreter's name (`argv`), the whole environment (`env`) and the log. It ends by itself once the
pipe's name is gone.

An engine starts interpreters of its own (multiprocessing, start method spawn), which would import everything again. Those that
such a server started before stand in the variable CHILDREN, as JSON: the variables that each had more (`set`) or less (`unset`)
than its parent, and its own (`children`). The spare starts the same ones ahead, each a new interpreter with exactly these
variables that imports what BENEATH says (JSON too: `imports`, and the variables that come `late`, with each start another).
Where the engine then spawns, the waiting one takes over what a new one would be given: words, variables, open files. Same
parent, same start, same program: nothing is forked, so that it holds for CUDA and OpenMP too. One whose variables are not the
wanted ones is left alone, and ends.
"""

import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fcntl import F_DUPFD_CLOEXEC, fcntl
from multiprocessing import util
from multiprocessing.spawn import get_command_line
from pathlib import Path
from typing import Any

CHILDREN = "LAUNCHER_CHILDREN"
CHILD = "--child"
# What the kernel calls a child as long as it waits, and from then on: processes.py knows it by that.
WAITING, SPAWNED = "waiting", "spawned"
# Seconds between two looks whether anybody still knows of it; a child gives up after so many once its server has begun.
LOOK, LOOKS = 20.0, 6
_LONGEST = 1 << 20
_MOST_FILES = 250


@dataclass(frozen=True, slots=True)
class Kin:
    """What all of a spare's processes are started with."""

    orders: Path
    beneath: str
    words: Sequence[str]


@dataclass(frozen=True, slots=True)
class Child:
    """A new interpreter that waits; `begun` are the variables that it was started with."""

    pid: int
    control: socket.socket
    begun: Mapping[str, str]

    def suits(self, variables: Mapping[str, str], late: Iterable[str]) -> bool:
        """Whether one that is started with these variables would have been started as this was; the late ones may differ."""
        told = {*self.begun, *variables}.difference(late)
        return all(self.begun.get(name) == variables.get(name) for name in told)

    def take(self, words: Sequence[str], files: Iterable[int], late: Iterable[str]) -> bool:
        """Let it be the interpreter that these words start, with these open files; whether it still lives."""
        numbers = (0, 1, 2, *files)
        order = {
            "argv": words,
            "env": dict(os.environ),
            "files": numbers,
            "late": [*late],
            "limit": resource.getrlimit(resource.RLIMIT_NOFILE),
        }
        try:
            socket.send_fds(self.control, [json.dumps(order).encode()], numbers)
        except OSError:
            os.waitpid(self.pid, 0)
            return False
        finally:
            self.control.close()
        return True


def main(kin: Kin, imports: Sequence[str]) -> None:
    """Import, wait, and become what the order says."""
    # Open for writing too: whoever gives the order never waits, be the imports done or not.
    pipe = os.open(kin.orders, os.O_RDWR)
    begun, children = prepare(kin, imports)
    order = wait(pipe, kin.orders)
    if order is None:
        return
    os.close(pipe)
    kin.orders.unlink(missing_ok=True)
    late = [name for name in {*begun, *order["env"]} if begun.get(name) != order["env"].get(name)]
    lend(children, [*late, *json.loads(kin.beneath)["late"]])
    become(order["argv"], changed(order["env"], begun, os.environ), order["log"])


def child(kin: Kin, control: socket.socket, imports: Sequence[str]) -> None:
    """Import, wait, and become what multiprocessing would have started."""
    find_words()
    rename(WAITING)
    begun, children = prepare(kin, imports)
    told = listen(control, kin.orders)
    if told is None:
        return
    order, files = told
    control.close()
    rename(SPAWNED)
    resource.setrlimit(resource.RLIMIT_NOFILE, tuple(order["limit"]))
    clash = place(files, order["files"])
    words = order["argv"]
    if clash:
        # An import has opened a file under a number that is wanted: be a new interpreter after all.
        os.execve(words[0], words, order["env"])  # noqa: S606 - there is no shell, and none is wanted
    variables = changed(order["env"], begun, os.environ)
    os.environ.clear()
    os.environ.update(variables)
    lend(children, order["late"])
    code = words.index("-c") + 1
    sys.argv = ["-c", *words[code + 1 :]]
    exec(words[code], {"__name__": "__main__"})  # noqa: S102 - what `python -c` does


def prepare(kin: Kin, imports: Sequence[str]) -> tuple[dict[str, str], list[Child]]:
    """Do the imports and start the children; the variables that stood there before."""
    family = json.loads(os.environ.pop(CHILDREN, "[]"))
    begun = dict(os.environ)
    # What a program prepares for its imports may depend on its options.
    sys.argv = [*kin.words]
    for name in imports:
        try:
            # A program's first level alone: what a child of multiprocessing runs of it.
            if name.endswith(".py"):
                runpy.run_path(name, run_name="__mp_main__")
            else:
                importlib.import_module(name)
        except Exception:  # noqa: BLE001 - the server will fail at the same, where it is read: in its own log
            traceback.print_exc()
    return begun, [born(kin, begun, each) for each in family]


def born(kin: Kin, begun: Mapping[str, str], like: Mapping[str, Any]) -> Child:
    """A child that is as the one that a server had."""
    variables = {name: value for name, value in begun.items() if name not in like["unset"]} | like["set"]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        words = [CHILD, str(theirs.fileno()), str(kin.orders), kin.beneath, *kin.words]
        # The flags that multiprocessing would give it, without its own three words.
        argv = [sys.executable, *get_command_line()[1:-3], __file__, *words]
        env = {**variables, CHILDREN: json.dumps(like["children"])}
        process = subprocess.Popen(argv, env=env, pass_fds=[theirs.fileno()], restore_signals=False)
    # Who waits for its end is multiprocessing.
    process.returncode = 0
    return Child(process.pid, ours, variables)


def wait(pipe: int, orders: Path) -> Any:
    """The order; None if the pipe was removed."""
    line = b""
    while not line.endswith(b"\n"):
        if select.select([pipe], [], [], LOOK)[0]:
            line += os.read(pipe, 1 << 16)
        elif not orders.exists():
            return None
    return json.loads(line)


def listen(control: socket.socket, orders: Path) -> tuple[Any, list[int]] | None:
    """The order and the open files that come with it; None if the parent is gone, or has long begun to serve without it."""
    looks = 0
    while looks < LOOKS:
        if select.select([control], [], [], LOOK)[0]:
            line, files, _, _ = socket.recv_fds(control, _LONGEST, _MOST_FILES)
            return (json.loads(line), files) if line else None
        looks += not orders.exists()
    return None


def lend(children: list[Child], late: Sequence[str]) -> None:
    """From now on the children take the places of those that multiprocessing would start."""
    ordinary: Callable[..., int] = util.spawnv_passfds

    def spawnv_passfds(path: str | bytes, args: Sequence[str | bytes], passfds: Sequence[int]) -> int:
        words = [os.fsdecode(word) for word in args]
        # Another program, or an interpreter that binds its memory first (vllm/utils/numa_utils.py), is none of ours.
        if os.fsdecode(path) == sys.executable and words[0] == sys.executable and "--multiprocessing-fork" in words:
            for each in [each for each in children if standing() == before and each.suits(os.environ, late)]:
                children.remove(each)
                if each.take(words, passfds, late):
                    return each.pid
        return ordinary(path, args, passfds)

    before = standing()
    if children:
        util.spawnv_passfds = spawnv_passfds  # type: ignore[assignment]  # it has no names for its words in typeshed


def standing() -> tuple[Any, ...]:
    """What a new process has of its parent beside variables and files."""
    return os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0), signal.pthread_sigmask(signal.SIG_BLOCK, ())


def find_words() -> None:
    """Let setproctitle look where the words of this process lie: it goes by the variables, and later these have moved."""
    try:
        from setproctitle import getproctitle  # type: ignore[import-not-found]  # engines have it
    except ImportError:
        return
    getproctitle()


def rename(name: str) -> None:
    """What the kernel calls this process from now on."""
    Path("/proc/self/comm").write_text(name, encoding="ascii")


def place(files: Sequence[int], numbers: Sequence[int]) -> bool:
    """Give each open file the number that it has in the parent; whether one of the numbers is taken by something else."""
    above = max(*files, *numbers) + 1
    moved = [fcntl(file, F_DUPFD_CLOEXEC, above) for file in files]
    for file in files:
        os.close(file)
    clash = any(number > 2 and is_open(number) for number in numbers)  # noqa: PLR2004 - the three that everybody has
    for file, number in zip(moved, numbers, strict=True):
        os.dup2(file, number)
        os.close(file)
    return clash


def is_open(number: int) -> bool:
    """Whether a file has this number."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def changed(wanted: Mapping[str, str], begun: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The wanted variables, with what the imports set or removed: they would do so in the server too."""
    by_imports = {name for name in {*begun, *now} if begun.get(name) != now.get(name) and begun.get(name) == wanted.get(name)}
    kept = {name: value for name, value in wanted.items() if name not in by_imports}
    return kept | {name: now[name] for name in by_imports if name in now}


def become(argv: Sequence[str], env: Mapping[str, str], log: str) -> None:
    """Run what `python *argv` would run, in this process."""
    os.environ.clear()
    os.environ.update(env)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    words = [word for word in argv if word != "-I"]
    if words[0] == "-m":
        sys.argv = words[1:]
        # It is imported already; run a second time, as the program.
        sys.modules.pop(words[1], None)
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1] == CHILD:
        number, orders, beneath, *words = sys.argv[2:]
        child(Kin(Path(orders), beneath, words), socket.socket(fileno=int(number)), json.loads(beneath)["imports"])
    else:
        orders, ahead, beneath, *words = sys.argv[1:]
        main(Kin(Path(orders), beneath, words), json.loads(ahead))
