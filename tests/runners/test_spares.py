"""A real spare: it imports, waits, and becomes what it is told to."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import launching, processes
from launcher.command import Beneath, Command
from launcher.home import Home
from launcher.runners import local, spares
from launcher.runners.base import Handle

PROGRAM = """
import os, sys, colorsys
when = "before" if "colorsys" in BEFORE else "now"
print("imported", when, *sys.argv[1:], os.environ.get("SECRET"), os.getpid(), flush=True)
"""
ROOM = 16 << 30
MINE = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere"}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "launcher").make()
    yield made
    spares.end(made)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    program = tmp_path / "program.py"
    program.write_text("import sys\nBEFORE = set(sys.modules)\n" + PROGRAM)
    argv = (sys.executable, "-I", str(program), "--port", "1")
    return Command(argv, env={"ENGINE": "1"}, secrets={"SECRET": "sk-1"}, imports=("colorsys",))


def made(home: Home, command: Command) -> spares.Spare:
    spares.make(home, command, environment=Path(sys.prefix), room=ROOM, inherited=MINE)
    found = spares.find(home, command, inherited=MINE)
    assert found
    return found


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def said(log: Path) -> str:
    until(lambda: log.exists() and log.read_text().endswith("\n"))
    return log.read_text()


def test_a_spare_becomes_the_program_it_is_told_to(home: Home, command: Command, tmp_path: Path) -> None:
    spare = made(home, command)
    handle = spares.give(home, spare, command, log=tmp_path / "log", inherited=MINE)
    assert handle == spare.handle
    assert said(tmp_path / "log") == f"imported before --port 1 sk-1 {handle.pid}\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    assert spares.find(home, command, inherited=MINE) is None
    until(lambda: not list(home.spares.glob("*.orders")))
    local.stop(handle, grace=0)
    assert not Path(handle.scratch).exists()


def test_its_key_stands_nowhere_where_others_look(home: Home, command: Command, tmp_path: Path) -> None:
    slow = Command((*command.argv[:3], "--port", "2"), command.env, command.secrets, command.imports)
    Path(command.argv[2]).write_text("import sys, time\nprint('up', flush=True)\ntime.sleep(60)\n")
    handle = spares.give(home, made(home, slow), slow, log=tmp_path / "log", inherited=MINE)
    assert handle
    said(tmp_path / "log")
    kernel = Path(f"/proc/{handle.pid}")
    assert b"sk-1" not in (kernel / "environ").read_bytes() + (kernel / "cmdline").read_bytes()
    assert handle.server_id.encode() in (kernel / "environ").read_bytes()
    local.stop(handle, grace=0)


@pytest.mark.parametrize(
    ("other", "variables"),
    [
        pytest.param({"env": {"ENGINE": "2"}}, {}, id="the engine's own variables differ"),
        pytest.param({"imports": ("string",)}, {}, id="another program"),
        pytest.param({"imports": ()}, {}, id="a program that has nothing to import ahead"),
        pytest.param({}, {"VLLM_LOGGING_LEVEL": "DEBUG"}, id="the user has set a variable since"),
    ],
)
def test_a_spare_serves_only_what_it_was_made_for(
    home: Home, command: Command, other: dict[str, object], variables: dict[str, str]
) -> None:
    made(home, command)
    parts = {"argv": command.argv, "env": command.env, "secrets": command.secrets, "imports": command.imports}
    assert spares.find(home, Command(**{**parts, **other}), inherited={**MINE, **variables}) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"TERM": "vt100", "COLUMNS": "80"}, id="another terminal"),
        pytest.param({"SSH_CONNECTION": "10.0.0.1"}, id="another way in"),
        pytest.param({"LAUNCHER_HOME": "/elsewhere"}, id="a variable of our own, which engines do not get"),
    ],
)
def test_where_a_person_sits_makes_no_difference(home: Home, command: Command, change: dict[str, str]) -> None:
    made(home, command)
    assert spares.find(home, command, inherited={**MINE, **change})


def test_gpus_are_chosen_when_it_becomes_a_server(home: Home, command: Command) -> None:
    made(home, command)
    on_another = Command(command.argv, {**command.env, "CUDA_VISIBLE_DEVICES": "GPU-1"}, command.secrets, command.imports)
    assert spares.find(home, on_another, inherited=MINE)


def test_a_second_one_is_not_made(home: Home, command: Command) -> None:
    first = made(home, command)
    assert made(home, command) == first


def test_another_one_takes_its_place(home: Home, command: Command) -> None:
    first = made(home, command)
    second = made(home, Command(command.argv, {"ENGINE": "2"}, command.secrets, command.imports))
    assert not local.alive(first.handle)
    assert local.alive(second.handle)


def test_a_dead_one_is_not_found_and_gives_nothing(home: Home, command: Command, tmp_path: Path) -> None:
    spare = made(home, command)
    local.stop(spare.handle, grace=0)
    assert spares.find(home, command, inherited=MINE) is None
    assert spares.give(home, spare, command, log=tmp_path / "log", inherited=MINE) is None


def test_what_cannot_be_imported_fails_where_the_server_would(home: Home, command: Command, tmp_path: Path) -> None:
    Path(command.argv[2]).write_text("import no_such_module\n")
    broken = Command(command.argv, command.env, command.secrets, ("no_such_module",))
    handle = spares.give(home, made(home, broken), broken, log=tmp_path / "log", inherited=MINE)
    assert handle
    until(lambda: "No module named 'no_such_module'" in (tmp_path / "log").read_text())
    local.stop(handle, grace=0)


def test_it_ends_when_nothing_needs_it(home: Home, command: Command) -> None:
    spare = made(home, command)
    assert spares.end(home)
    assert not local.alive(spare.handle)
    assert not list(home.spares.iterdir())
    assert not spares.end(home)


def test_one_whose_start_was_cut_short_is_found_by_its_id(home: Home, command: Command) -> None:
    spare = made(home, command)
    record = home.spares / "spare.json"
    record.write_text(record.read_text().replace(f'"pid": {spare.handle.pid}', '"pid": 0'))
    assert spares.kept(home) == replace(spare, handle=replace(spare.handle, pid=0))
    assert spares.end(home)
    assert not local.alive(spare.handle)


@pytest.mark.parametrize(
    "text", [pytest.param("", id="empty"), pytest.param("{}", id="another's"), pytest.param("[1]", id="a list")]
)
def test_a_record_that_cannot_be_read_is_none(home: Home, text: str) -> None:
    home.spares.mkdir()
    (home.spares / "spare.json").write_text(text)
    assert spares.kept(home) is None


# Its child says whether it waited, what it was given, and whether all can read its secret; it ends when it is told to.
FAMILY = """
import sys
WAITED = "colorsys" in sys.modules
import multiprocessing, os, pathlib, time

def child(pipe, parent):
    secret = os.environ["SECRET"]
    hidden = secret.encode() not in pathlib.Path("/proc/self/environ").read_bytes()
    seen = "hidden" if hidden else "open"
    print("waited" if WAITED else "new", os.environ["WANTED"], secret, os.getppid() == parent, seen, flush=True)
    sys.exit(pipe.recv())

if __name__ == "__main__":
    os.environ["WANTED"] = sys.argv[1]
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs, os.getpid()))
    process.start()
    while not pathlib.Path(sys.argv[2]).exists():
        time.sleep(0.02)
    ours.send(7)
    process.join()
    print("ended", process.exitcode, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def family(tmp_path: Path) -> Command:
    program = tmp_path / "family.py"
    program.write_text(FAMILY)
    argv = (sys.executable, "-I", str(program), "1", str(tmp_path / "go"))
    return Command(argv, secrets={"SECRET": "sk-1"}, imports=("string",), beneath=Beneath(("colorsys",)))


def served(home: Home, command: Command, log: Path, *, room: int = ROOM) -> Handle:
    """The spare that is made after a server like the one to come has been proven."""
    first = local.start(command, log=log, server_id="first", environment=Path(sys.prefix), inherited=MINE)
    said(log)
    spares.learn(home, command, first, inherited=MINE)
    local.stop(first, grace=0)
    log.unlink()
    spares.make(home, command, environment=Path(sys.prefix), room=room, inherited=MINE)
    spare = spares.find(home, command, inherited=MINE)
    assert spare
    return spare.handle


def begun(home: Home, command: Command, log: Path) -> str:
    """The first line of the server that the spare becomes."""
    spare = spares.find(home, command, inherited=MINE)
    assert spare
    handle = spares.give(home, spare, command, log=log, inherited=MINE)
    assert handle
    try:
        return said(log).strip()
    finally:
        local.stop(handle, grace=0)


def test_an_interpreter_that_the_engine_would_start_has_waited_for_it(home: Home, family: Command, tmp_path: Path) -> None:
    served(home, family, tmp_path / "log")
    assert begun(home, family, tmp_path / "log") == "waited 1 sk-1 True hidden"


def test_its_end_is_told_to_who_started_it(home: Home, family: Command, tmp_path: Path) -> None:
    served(home, family, tmp_path / "log")
    (tmp_path / "go").touch()
    spare = spares.find(home, family, inherited=MINE)
    assert spare
    handle = spares.give(home, spare, family, log=tmp_path / "log", inherited=MINE)
    until(lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text().endswith("ended 7\n"))
    assert handle
    local.stop(handle, grace=0)


@pytest.mark.parametrize(
    ("room", "children"),
    [
        pytest.param(spares.SIZE + spares.RESERVE + spares.BENEATH, 1, id="room for both"),
        pytest.param(spares.SIZE + spares.RESERVE + spares.BENEATH - 1, 0, id="room for the spare alone"),
    ],
)
def test_they_wait_where_memory_allows(home: Home, family: Command, tmp_path: Path, room: int, children: int) -> None:
    served(home, family, tmp_path / "log", room=room)
    assert begun(home, family, tmp_path / "log").startswith("waited" if children else "new")


@pytest.mark.parametrize(
    ("late", "expected"),
    [
        pytest.param((), "new 2 sk-1 True open", id="a variable is another one than it waits with"),
        pytest.param(("WANTED",), "waited 2 sk-1 True hidden", id="a variable that each start has anew"),
    ],
)
def test_one_that_waits_with_other_variables_is_left_alone(
    home: Home, family: Command, tmp_path: Path, late: tuple[str, ...], expected: str
) -> None:
    command = replace(family, beneath=replace(family.beneath, late=late))
    served(home, command, tmp_path / "log")
    other = replace(command, argv=(*command.argv[:3], "2", *command.argv[4:]))
    assert begun(home, other, tmp_path / "log") == expected


def test_one_that_is_left_alone_may_end_while_the_server_runs(home: Home, family: Command, tmp_path: Path) -> None:
    served(home, family, tmp_path / "log")
    other = replace(family, argv=(*family.argv[:3], "2", *family.argv[4:]))
    spare = spares.find(home, other, inherited=MINE)
    assert spare
    handle = spares.give(home, spare, other, log=tmp_path / "log", inherited=MINE)
    assert handle
    said(tmp_path / "log")
    waiting = {pid for pid in local.processes(handle) if processes.name(pid) == "waiting"}
    assert waiting
    assert {pid for pid, _ in launching.members(local, handle)} == set(local.processes(handle)) - waiting
    local.stop(handle, grace=0)


def test_one_whose_import_took_a_file_s_number_begins_anew(home: Home, family: Command, tmp_path: Path) -> None:
    greedy = tmp_path / "greedy.py"
    greedy.write_text("import builtins, os\nbuiltins.taken = [os.open('/dev/null', os.O_RDONLY) for _ in range(64)]\n")
    command = replace(family, beneath=Beneath(("colorsys", str(greedy))))
    served(home, command, tmp_path / "log")
    assert begun(home, command, tmp_path / "log") == "new 1 sk-1 True open"


def test_they_end_with_the_spare(home: Home, family: Command, tmp_path: Path) -> None:
    handle = served(home, family, tmp_path / "log")
    until(lambda: len(local.processes(handle)) > 1)
    os.kill(handle.pid, signal.SIGKILL)
    until(lambda: not local.processes(handle))


def test_no_secret_is_noted(home: Home, family: Command, tmp_path: Path) -> None:
    served(home, family, tmp_path / "log")
    noted = home.spares / "children.json"
    (child,) = json.loads(noted.read_text())["children"]
    assert child["set"]["WANTED"] == "1"
    assert "sk-1" not in noted.read_text()
    assert noted.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text", [pytest.param("", id="empty"), pytest.param("{}", id="another's"), pytest.param("[1]", id="a list")]
)
def test_without_a_note_none_waits(home: Home, family: Command, tmp_path: Path, text: str) -> None:
    served(home, family, tmp_path / "log")
    spares.end(home)
    (home.spares / "children.json").write_text(text)
    spares.make(home, family, environment=Path(sys.prefix), room=ROOM, inherited=MINE)
    assert begun(home, family, tmp_path / "log") == "new 1 sk-1 True open"
