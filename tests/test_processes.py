"""Which processes belong to a server, as a table; and what is read of real ones."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from launcher import processes
from launcher.processes import Seen
from launcher.runners.base import Handle

ME = 1000
HANDLE = Handle(pid=100, started=5000.0, server_id="mine", environment=Path("/home/me/env"))
INIT = Seen(pid=1, ppid=0, session=1, started=1.0, uid=0, server_id="", maps_environment=False)
USER_INIT = Seen(pid=20, ppid=1, session=20, started=2.0, uid=ME, server_id="", maps_environment=False)
SHELL = Seen(pid=30, ppid=20, session=30, started=3.0, uid=ME, server_id="", maps_environment=False)
LEADER = Seen(pid=100, ppid=30, session=100, started=5000.0, uid=ME, server_id="mine", maps_environment=False)
OTHER_LEADER = Seen(pid=500, ppid=30, session=500, started=5100.0, uid=ME, server_id="other", maps_environment=False)
MACHINE = (INIT, USER_INIT, SHELL)


def seen(  # the facts that a case is about, the rest as for an engine core
    pid: int,
    *,
    ppid: int = 1,
    session: int = 100,
    started: float = 5010.0,
    uid: int = ME,
    server_id: str | None = None,
    maps: bool = True,
) -> Seen:
    return Seen(pid, ppid, session, started, uid, server_id, maps)


@dataclass(frozen=True)
class Case:
    name: str
    others: tuple[Seen, ...]
    ours: set[int]


CASES = [
    Case("nothing runs", (), set()),
    Case("the leader belongs", (LEADER,), {100}),
    Case("a child in the leader's session belongs", (LEADER, seen(101, ppid=100, maps=False)), {100, 101}),
    Case("a child that cleaned its environment belongs", (LEADER, seen(101, ppid=100, server_id="", maps=False)), {100, 101}),
    Case("a token is enough", (seen(101, session=101, server_id="mine", maps=False),), {101}),
    Case("a token is enough when the clock was set back", (seen(101, session=7, server_id="mine", started=90.0),), {101}),
    Case("a core in the session of a dead leader belongs", (seen(101),), {101}),
    Case("a core without the environment in the session of a dead leader belongs", (seen(101, maps=False),), {101}),
    Case("another server's leader does not belong", (LEADER, OTHER_LEADER), {100}),
    Case("another server's core does not belong", (LEADER, OTHER_LEADER, seen(501, ppid=500, session=500)), {100}),
    Case("another server's token counts more than our session", (LEADER, seen(101, server_id="other")), {100}),
    Case(
        "another server's orphan in its own session does not belong while it runs",
        (LEADER, OTHER_LEADER, seen(501, ppid=1, session=500)),
        {100},
    ),
    Case("a child in a session of its own belongs", (LEADER, seen(101, ppid=100, session=101, maps=False)), {100, 101}),
    Case(
        "a grandchild in a session of its own belongs",
        (seen(102, ppid=101, session=102, server_id="", maps=False), LEADER, seen(101, ppid=100, session=101)),
        {100, 101, 102},
    ),
    Case("an orphan of the environment belongs", (LEADER, seen(101, session=101)), {100, 101}),
    Case("an orphan of the environment belongs without a leader", (seen(101, session=101),), {101}),
    Case("an orphan's child belongs", (seen(101, session=101), seen(102, ppid=101, session=102, maps=False)), {101, 102}),
    Case("an orphan that a subreaper took belongs", (seen(101, ppid=20, session=99),), {101}),
    Case("an orphan whose parent ended a moment ago belongs", (seen(101, ppid=77, session=101),), {101}),
    Case("what is started from outside of a container does not belong", (seen(101, ppid=0, session=0),), set()),
    Case("an orphan without the environment does not belong", (seen(101, session=101, maps=False),), set()),
    Case("an orphan with an environment to read does not belong", (seen(101, session=101, server_id=""),), set()),
    Case("an orphan of another user does not belong", (seen(101, session=101, uid=0),), set()),
    Case("an orphan older than the command does not belong", (seen(101, session=101, started=4990.0),), set()),
    Case("what a person runs in a shell from the environment does not belong", (LEADER, seen(90, ppid=30, session=30)), {100}),
    Case("what a person runs in the background does not belong", (LEADER, seen(90, ppid=1, session=30)), {100}),
    Case(
        "a process that was given the leader's pid does not belong, nor does its session",
        (seen(100, ppid=30, server_id="", started=9000.0), seen(110, ppid=100, started=9001.0)),
        set(),
    ),
    Case(
        "another server that was given the leader's pid does not belong",
        (seen(100, ppid=30, server_id="other"), seen(110, ppid=100)),
        set(),
    ),
    Case("a daemon whose session has the leader's old number does not belong", (seen(110, server_id="", maps=False),), set()),
    Case("a session member older than the command does not belong", (seen(101, started=4000.0),), set()),
    Case(
        "with the clock set back, the leader's own start is what others are compared with",
        (seen(100, ppid=30, server_id="mine", started=900.0), seen(101, ppid=100, started=901.0)),
        {100, 101},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_which_processes_belong(case: Case) -> None:
    # As the kernel lists them, and the other way round: the answer must not hang on the order.
    for order in ((*MACHINE, *case.others), (*case.others, *MACHINE)[::-1]):
        assert {s.pid for s in processes.belonging(order, HANDLE, uid=ME)} == case.ours


@pytest.mark.parametrize("pid", [0, 1])
def test_a_damaged_handle_finds_nothing(pid: int) -> None:
    outside = tuple(seen(number, ppid=0, session=0, server_id=token) for number, token in ((1, None), (300, None), (301, "")))
    assert processes.belonging(outside, Handle(pid, 5000.0, "", Path("/home/me/env")), uid=ME) == ()


@pytest.mark.parametrize(
    ("process", "leads"),
    [
        pytest.param(LEADER, True, id="pid, start time and token agree"),
        pytest.param(seen(100, server_id=None), False, id="a later start without a token is another process"),
        pytest.param(seen(100, server_id=None, started=5001.0), True, id="the kernel rounds the time of boot"),
        pytest.param(seen(100, server_id="mine", started=900.0), True, id="the token counts when the clock was set"),
        pytest.param(seen(100, server_id="other", started=5000.0), False, id="another token at the same time"),
        pytest.param(seen(101, server_id="mine", started=5000.0), False, id="another pid"),
    ],
)
def test_which_process_leads(process: Seen, leads: bool) -> None:  # noqa: FBT001  a table's column
    assert processes.leads(process, HANDLE) is leads


@pytest.fixture
def child(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits, with the environment variables that the test asks for."""
    with subprocess.Popen(["sleep", "60"], env=request.param, cwd=tmp_path) as process:  # noqa: S607  from PATH, as people type it
        await_program(process.pid)
        yield process
        process.kill()


def await_program(pid: int) -> None:
    """Popen returns a moment before the kernel has given the new program its name and its environment."""
    while not psutil.Process(pid).cmdline():
        time.sleep(0.001)


@pytest.mark.parametrize(
    ("child", "token"),
    [
        pytest.param({"PATH": os.defpath, "LAUNCHER_SERVER_ID": "mine"}, "mine", id="a token"),
        pytest.param({"PATH": os.defpath}, "", id="an environment without a token"),
        pytest.param({}, None, id="an empty environment"),
    ],
    indirect=["child"],
)
def test_a_real_process_is_seen_as_psutil_sees_it(child: subprocess.Popen[bytes], token: str | None) -> None:
    found = processes.look(child.pid, Path("/usr/nowhere"))
    assert found == Seen(
        pid=child.pid,
        ppid=os.getpid(),
        session=os.getsid(child.pid),
        started=psutil.Process(child.pid).create_time(),
        uid=os.getuid(),
        server_id=token,
        maps_environment=False,
    )
    assert found in processes.scan(Path("/usr/nowhere"), uid=os.getuid())


def folder_of_libc(pid: int) -> Path:
    """Once the dynamic linker is done: it maps other files for a moment."""
    while True:
        for mapped in psutil.Process(pid).memory_maps():
            if Path(mapped.path).name.startswith("libc.so"):
                return Path(mapped.path).parent
        time.sleep(0.001)


@pytest.mark.parametrize("child", [{}], indirect=True, ids=["an empty environment"])
def test_a_mapped_folder_is_recognised_through_a_link_and_by_whole_names(
    child: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    program = psutil.Process(child.pid).exe()
    link = tmp_path / "link"
    link.symlink_to(Path(program).parent)
    half_a_name = Path(program).parent.with_name(Path(program).parent.name[:-1])
    libraries = folder_of_libc(child.pid)
    answers = {folder: processes.look(child.pid, folder) for folder in (link, libraries, half_a_name)}
    assert {folder: found and found.maps_environment for folder, found in answers.items()} == {
        link: True,
        libraries: True,
        half_a_name: False,
    }


def test_a_zombie_does_not_live_but_has_a_start_time(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", ""], cwd=tmp_path) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        started = processes.start_time(ended.pid)
        assert started == psutil.Process(ended.pid).create_time()
        assert not processes.lives(ended.pid, started)
        assert processes.look(ended.pid, tmp_path) is None
    assert processes.start_time(ended.pid) is None
    assert processes.name(ended.pid) == ""


def test_a_name_with_spaces_and_parentheses_does_not_confuse(tmp_path: Path) -> None:
    odd = tmp_path / "a) S 1 (b"
    odd.symlink_to(Path("/bin/sleep").resolve())
    with subprocess.Popen([odd, "60"]) as process:
        await_program(process.pid)
        found = processes.look(process.pid, tmp_path)
        assert (found and found.ppid, processes.name(process.pid)) == (os.getpid(), "a) S 1 (b")
        assert processes.lives(process.pid, psutil.Process(process.pid).create_time())
        assert not processes.lives(process.pid, time.time() - 1000)
        process.kill()


def test_the_memory_of_processes_is_counted_once_and_without_files() -> None:
    # 64 MiB that a parent filled and its child still shares with it.
    script = "import os; block = bytearray(os.urandom(1)) * (64 << 20); os.fork(); print(os.getpid(), flush=True); input()"
    argv = [sys.executable, "-I", "-S", "-c", script]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout
        pids = [int(parent.stdout.readline()) for _ in range(2)]
        mib = processes.resident(pids) / (1 << 20)
        parent.communicate(b"")
    assert 64 <= mib < 90
    assert processes.resident(pids) == 0


HOLD = "import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=1); print(flush=True); input()"
STRAYS = [
    pytest.param({"LAUNCHER_SERVER_ID": "gone"}, "environments", True, id="a server's process that no record tells of"),
    pytest.param({"LAUNCHER_SERVER_ID": "gone"}, "elsewhere", False, id="a process of another home"),
    pytest.param({"LAUNCHER_SERVER_ID": "known"}, "environments", False, id="a server's process that has a record"),
    pytest.param({"PATH": os.defpath}, "environments", False, id="a program of the environment that is no server"),
    pytest.param({}, "environments", False, id="a process without an id whose parent lives"),
]


@pytest.mark.parametrize(("env", "maps", "expected"), STRAYS)
def test_strays_are_those_that_no_server_has(tmp_path: Path, env: dict[str, str], maps: str, *, expected: bool) -> None:
    (tmp_path / maps).mkdir()
    (tmp_path / maps / "torch.so").write_bytes(b"x" * 4096)
    words = [sys.executable, "-I", "-S", "-c", HOLD, str(tmp_path / maps / "torch.so")]
    with subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        for uid, ours in ((os.geteuid(), expected), (os.geteuid() + 1, False)):
            found = processes.strays(tmp_path / "environments", tmp_path / "logs", {"known"}, uid=uid)
            assert (process.pid in found) is ours
        assert processes.mentions(process.pid, tmp_path / maps)
        assert not processes.mentions(process.pid, tmp_path / maps[:-1])
        process.communicate(b"\n")


def test_a_stray_is_known_by_the_log_that_it_writes_too(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    with (tmp_path / "logs" / "m.log").open("wb") as log:
        argv = ["sleep", "60"]
        with subprocess.Popen(argv, env={"PATH": os.defpath, "LAUNCHER_SERVER_ID": "gone"}, stdout=log) as process:
            await_program(process.pid)
            assert process.pid in processes.strays(tmp_path / "environments", tmp_path / "logs", set(), uid=os.geteuid())
            assert process.pid not in processes.strays(tmp_path / "environments", tmp_path / "log", set(), uid=os.geteuid())
            process.kill()
