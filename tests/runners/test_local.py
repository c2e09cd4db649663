"""Real processes are started, lose their parents, refuse to end, and are ended all the same; foreign ones are left alone."""

import mmap
import os
import signal
import stat
import subprocess
import sys
import time
import uuid
from collections import UserDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest

from launcher.command import Command
from launcher.errors import LauncherError
from launcher.runners import local
from launcher.runners.base import Handle, Runner

STUB = Path(__file__).parents[1] / "stub_engine.py"
CORE = STUB.with_name("stub_core.py")
READY = "Application startup complete."
# Longer than any test may take: where stopping waits this long, the test fails by its own clock.
LONG = 60.0
# Above the largest that Linux can be told to give (PID_MAX_LIMIT, linux/threads.h).
NO_PID = (1 << 22) + 1


@dataclass
class World:
    """A directory with an engine environment, and the servers that run from it; all are killed at the end."""

    root: Path
    handles: list[Handle] = field(default_factory=list)
    foreign: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> Path:
        return self.root / "environment"

    def engine(self, *flags: str) -> tuple[Handle, set[int]]:
        """Start a stub engine and wait until it is ready: its handle, and the pids of its cores."""
        log = self.root / "logs" / f"{len(self.handles)}.log"
        command = Command((sys.executable, str(STUB), "--port", "0", "--environment", str(self.environment), *flags))
        handle = local.start(command, log=log, server_id=str(uuid.uuid4()), environment=self.environment)
        self.handles.append(handle)
        wait_for(lambda: READY in log.read_text())
        cores = {child.pid for child in psutil.Process(handle.pid).children()}
        assert len(cores) == (int(flags[flags.index("--children") + 1]) if "--children" in flags else 0)
        return handle, cores

    def stranger(self, *flags: str) -> int:
        """A core that maps the environment and belongs to no server of ours."""
        told, tell = os.pipe()
        argv = [sys.executable, "-I", "-S", str(CORE), str(tell), f"environment={self.environment}", *flags]
        self.foreign.append(subprocess.Popen(argv, env={}, pass_fds=(tell,), start_new_session=True))
        os.close(tell)
        os.read(told, 1)
        os.close(told)
        return self.foreign[-1].pid


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.environment.mkdir()
    yield world
    for process in world.foreign:
        process.kill()
        process.wait()
    for handle in world.handles:
        local.stop(handle, grace=0)


def wait_for(question: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not question():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def living(pids: set[int]) -> set[int]:
    return {pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE}


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not living({pid}))


def test_the_module_is_a_runner() -> None:
    runner: Runner = local
    assert runner.start is local.start


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param((), id="cores with their token"),
        pytest.param(("--blank",), id="cores that wiped their environment"),
        pytest.param(("--detach",), id="cores in sessions of their own"),
    ],
)
def test_cores_are_found_and_ended_after_their_leader_was_killed(world: World, flags: tuple[str, ...]) -> None:
    handle, cores = world.engine("--children", "2", *flags)
    assert set(local.processes(handle)) == {handle.pid, *cores}
    kill(handle.pid)
    assert not local.alive(handle)
    assert set(local.processes(handle)) == cores
    began = time.monotonic()
    local.stop(handle, grace=LONG)
    assert time.monotonic() - began < LONG / 4, "the cores were not asked with TERM"
    assert living(cores) == set()
    assert local.processes(handle) == ()


def test_what_only_its_parent_connects_with_the_server_is_ended_too(world: World) -> None:
    # A session of its own, an environment of its own, deaf to TERM; its parent ends at once.
    script = "(trap '' TERM; exec env -i A=1 setsid sleep 60) & wait"
    log = world.root / "a.log"
    handle = local.start(Command(("/bin/sh", "-c", script)), log=log, server_id="mine", environment=world.environment)
    world.handles.append(handle)
    wait_for(lambda: "sleep" in {child.name() for child in psutil.Process(handle.pid).children()})
    found = set(local.processes(handle))
    assert len(found) == 2
    local.stop(handle, grace=0.2)
    assert living(found) == set()


def test_stubborn_cores_are_killed_once_the_grace_is_over(world: World) -> None:
    handle, cores = world.engine("--children", "2", "--stubborn")
    began = time.monotonic()
    local.stop(handle, grace=0.4)
    assert 0.4 <= time.monotonic() - began < 5
    assert living({handle.pid, *cores}) == set()


def test_nothing_foreign_is_touched(world: World) -> None:
    older = world.stranger()
    other, other_cores = world.engine("--children", "1", "--blank")
    handle, cores = world.engine("--children", "1", "--blank")
    newer = world.stranger()
    kill(handle.pid)
    assert set(local.processes(handle)) == cores
    local.stop(handle, grace=LONG)
    assert living(cores) == set()
    foreign = {older, newer, other.pid, *other_cores}
    assert living(foreign) == foreign
    assert set(local.processes(other)) == {other.pid, *other_cores}
    assert local.alive(other)


def test_a_pid_that_was_used_again_is_not_taken_for_the_server(world: World) -> None:
    reused = world.stranger()
    started = psutil.Process(reused).create_time()
    handle = Handle(pid=reused, started=started - 1000, server_id="mine", environment=world.environment)
    assert not local.alive(handle)
    assert local.processes(handle) == ()
    local.stop(handle, grace=0)
    assert living({reused}) == {reused}
    assert local.alive(replace(handle, started=started))


def test_a_server_that_ended_is_not_alive_and_leaves_no_zombie(world: World) -> None:
    handle, _ = world.engine()
    assert local.alive(handle)
    os.kill(handle.pid, signal.SIGKILL)
    wait_for(lambda: not local.alive(handle))
    assert not psutil.pid_exists(handle.pid)
    local.stop(handle, grace=LONG)


def test_a_handle_says_when_its_process_started(world: World) -> None:
    handle, _ = world.engine()
    assert handle.started == psutil.Process(handle.pid).create_time()
    assert os.getsid(handle.pid) == handle.pid


STOPPER = """
import sys
from pathlib import Path
from launcher.runners import local
from launcher.runners.base import Handle
pid, started, server_id, environment, scratch = sys.argv[1:]
print("stopping", flush=True)
local.stop(Handle(int(pid), float(started), server_id, Path(environment), scratch), grace=60)
"""


@pytest.mark.parametrize("interrupts", [1, 3], ids=["once", "by an impatient person"])
def test_interrupted_while_stopping_it_kills_at_once(world: World, interrupts: int) -> None:
    handle, cores = world.engine("--children", "2", "--stubborn", "--blank")
    where = [str(handle.pid), repr(handle.started), handle.server_id, str(handle.environment), handle.scratch]
    argv = [sys.executable, "-c", STOPPER, *where]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as stopper:
        assert stopper.stdout
        assert stopper.stdout.readline() == "stopping\n"
        wait_for(lambda: not local.alive(handle))
        for _ in range(interrupts):
            stopper.send_signal(signal.SIGINT)
            time.sleep(0.005)
        _, errors = stopper.communicate(timeout=LONG / 4)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert living(cores) == set()


class Interrupting(UserDict[str, str]):
    """An environment in whose reading ^C arrives."""

    def __iter__(self) -> Iterator[str]:
        signal.raise_signal(signal.SIGINT)
        return super().__iter__()


def test_interrupted_while_starting_it_leaves_nothing(world: World) -> None:
    command = Command((sys.executable, str(STUB), "--port", "0"))
    log = world.root / "a.log"
    with pytest.raises(KeyboardInterrupt):
        local.start(command, log=log, server_id="mine", environment=world.environment, inherited=Interrupting(os.environ))
    assert log.exists()
    assert local.processes(Handle(pid=NO_PID, started=time.time(), server_id="mine", environment=world.environment)) == ()


@pytest.mark.parametrize(
    ("inherited", "expected"),
    [
        pytest.param({"PATH": "/bin", "HF_TOKEN": "t"}, {"PATH": "/bin", "HF_TOKEN": "t"}, id="what is a person's stays"),
        pytest.param({"PYTHONPATH": "/x", "PYTHONHOME": "/y", "PYTHONSTARTUP": "z"}, {}, id="our interpreter's stays here"),
        pytest.param({"VIRTUAL_ENV": "/venv", "VIRTUAL_ENV_PROMPT": "v"}, {}, id="our virtual environment stays here"),
        pytest.param({"LAUNCHER_HOME": "/home", "LAUNCHER_SERVER_ID": "old"}, {}, id="the launcher's own stays here"),
        pytest.param({"A": "old", "KEY": "old"}, {"A": "old"}, id="the command's counts more"),
        pytest.param({"SPT_NOENV": ""}, {}, id="the token cannot be wiped"),
        pytest.param(
            {"TMPDIR": "/big"}, {"TMPDIR": "/big/launcher-mine"}, id="its temporary files lie where a person wants them"
        ),
    ],
)
def test_an_engine_gets_a_clean_environment(inherited: dict[str, str], expected: dict[str, str]) -> None:
    command = Command(("engine",), env={"B": "1", "PYTHONHASHSEED": "0"}, secrets={"KEY": "secret"})
    assert local.variables_of(command, server_id="mine", inherited=inherited) == {
        "TMPDIR": "/tmp/launcher-mine",  # noqa: S108 - what a person's own would be
        **expected,
        "B": "1",
        "PYTHONHASHSEED": "0",
        "KEY": "secret",
        "LAUNCHER_SERVER_ID": "mine",
        "SPT_NOENV": "1",
    }


def test_outputs_are_appended_to_a_private_log_in_whose_folder_the_command_runs(world: World) -> None:
    log = world.root / "logs" / "deep" / "a.log"
    script = "pwd; echo $GREETING; cat; echo problem >&2"
    command = Command(("/bin/sh", "-c", script), env={"GREETING": "hello"})
    for _ in range(2):
        handle = local.start(command, log=log, server_id="mine", environment=world.environment)
        world.handles.append(handle)
        wait_for(lambda: not local.alive(handle))  # noqa: B023  waited for at once
        log.chmod(0o644)
    assert log.read_text() == f"{log.parent}\nhello\nproblem\n" * 2
    world.handles.append(local.start(command, log=log, server_id="mine", environment=world.environment))
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700


def test_a_command_that_cannot_be_executed_is_a_known_fault(world: World) -> None:
    command = Command((str(world.environment / "bin" / "python"), "serve"), secrets={"KEY": "secret"})
    server_id = str(uuid.uuid4())
    with pytest.raises(LauncherError, match=r"cannot run .*environment/bin/python: No such file or directory") as caught:
        local.start(command, log=world.root / "a.log", server_id=server_id, environment=world.environment)
    assert str(world.environment) in caught.value.hint
    assert not Path(f"/tmp/launcher-{server_id[:13]}").exists()  # noqa: S108 - where it would lie
    assert "secret" not in repr(caught.value)


def test_a_log_that_cannot_be_written_is_a_known_fault(world: World) -> None:
    (world.root / "logs").write_text("in the way")
    log = world.root / "logs" / "a.log"
    with pytest.raises(LauncherError, match=r"cannot write the log .*a.log"):
        local.start(Command(("true",)), log=log, server_id="mine", environment=world.environment)


# A socket and a folder, as vLLM leaves them, with names of the length of its own.
LEAVING = """
import socket, tempfile, time
print(tempfile.mkdtemp())
made = socket.socket(socket.AF_UNIX)
made.bind(tempfile.gettempdir() + "/00099049-37fa-4da2-ab48-c64fd4a25915")
print("ready", flush=True)
time.sleep(600)
"""


def test_temporary_files_of_an_engine_go_with_it(world: World) -> None:
    log = world.root / "a.log"
    server_id = str(uuid.uuid4())
    command = Command((sys.executable, "-c", LEAVING))
    handle = local.start(command, log=log, server_id=server_id, environment=world.environment, inherited={})
    wait_for(lambda: "ready" in log.read_text())
    scratch = Path(handle.scratch)
    assert stat.S_IMODE(scratch.stat().st_mode) == 0o700
    assert log.read_text().startswith(f"{scratch}/")
    assert len(list(scratch.iterdir())) == 2
    local.stop(handle, grace=5)
    assert not scratch.exists()


def test_where_temporary_files_can_have_no_folder_of_their_own_they_lie_where_all_do(world: World) -> None:
    inherited = {"TMPDIR": "/nowhere"}
    command = Command((sys.executable, "-c", LEAVING.replace("made.bind", "print")))
    log = world.root / "a.log"
    handle = local.start(command, log=log, server_id=str(uuid.uuid4()), environment=world.environment, inherited=inherited)
    wait_for(lambda: "ready" in log.read_text())
    assert handle.scratch == ""
    local.stop(handle, grace=5)
    Path(log.read_text().splitlines()[0]).rmdir()


# What an engine's libraries leave when they are killed: segments, a semaphore, and memory-mapped weights that are the user's.
SHARING = """
import _multiprocessing, mmap, sys, time
def mapped(path):
    with open(path, "w+b") as file:
        file.truncate(4096)
        return mmap.mmap(file.fileno(), 4096)
kept = [mapped(path) for path in sys.argv[2:]], _multiprocessing.SemLock(1, 1, 1, sys.argv[1], False)
print("ready", flush=True)
time.sleep(600)
"""


def test_shared_memory_of_a_killed_engine_goes_and_other_memory_stays(world: World) -> None:
    mark = uuid.uuid4().hex[:8]
    shared = Path("/dev/shm")  # noqa: S108 - where the kernel has it
    ours = [shared / f"psm_{mark}", shared / f"sglang_loads_{mark}.shm"]
    used, weights, foreign = shared / f"psm_used_{mark}", shared / f"model_{mark}.safetensors", shared / f"psm_other_{mark}"
    semaphore = shared / f"sem.mp-{mark}"
    log = world.root / "a.log"
    command = Command((sys.executable, "-c", SHARING, f"/mp-{mark}", *map(str, [*ours, used, weights])))
    try:
        foreign.write_bytes(b"another program's")
        handle = local.start(command, log=log, server_id=str(uuid.uuid4()), environment=world.environment)
        world.handles.append(handle)
        wait_for(lambda: "ready" in log.read_text())
        with used.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
            local.stop(handle, grace=0)
        left = [path.name for path in (*ours, semaphore, used, weights, foreign) if path.exists()]
        assert left == [used.name, weights.name, foreign.name]
    finally:
        for path in (*ours, semaphore, used, weights, foreign):
            path.unlink(missing_ok=True)
