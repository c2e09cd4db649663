"""Real processes: an agent in our place, its signals and its files."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.command import Command
from launcher.home import Home
from launcher.running import execution
from launcher.running.base import Mirror, Start

ROOT = Path(__file__).parents[2]
# A person's `launcher run`, with a Python program for the agent.
PERSON = """
import os, signal, sys
from pathlib import Path
from launcher.command import Command
from launcher.home import Home
from launcher.running import execution
from launcher.running.base import Start
signal.signal(signal.SIGTERM, signal.default_int_handler)
with execution.room(Home(Path(sys.argv[1]))) as folder:
    start = Start(Command((sys.executable, "-c", sys.argv[2], str(folder))), {folder / "key": "sk-secret"})
    execution.fill(start)
    code = execution.run(sys.executable, start, os.environ)
sys.exit(code)
"""
# An agent that tells what it gets, and ends with 9 on the third.
AGENT = """
import signal, sys, time
got = []
def get(number, _):
    got.append(number)
    print("got", signal.Signals(number).name, flush=True)
for name in ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2"):
    signal.signal(getattr(signal, f"SIG{name}"), get)
print("here", flush=True)
while len(got) < 3:
    time.sleep(0.05)
sys.exit(9)
"""


def person(tmp_path: Path, agent: str) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-c", PERSON, str(tmp_path / "launcher"), agent]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def awaited(happened: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def left(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "launcher" / "running").rglob("*")]


@pytest.mark.parametrize(
    ("agent", "code"),
    [
        pytest.param("pass", 0, id="all is well"),
        pytest.param("raise SystemExit(7)", 7, id="its own code"),
        pytest.param("import os; os.kill(os.getpid(), 15)", 143, id="a signal, as a shell tells it"),
    ],
)
def test_the_agents_exit_code_is_ours_and_its_files_are_gone(tmp_path: Path, agent: str, code: int) -> None:
    with person(tmp_path, agent) as process:
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (code, "", "")
    assert left(tmp_path) == []


def test_signals_reach_the_agent_which_decides_what_they_mean(tmp_path: Path) -> None:
    with person(tmp_path, AGENT) as process:
        assert process.stdout
        assert process.stdout.readline() == "here\n"
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            process.send_signal(number)
            assert process.stdout.readline() == f"got {number.name}\n"
        assert process.wait(20) == 9


def test_an_interrupt_from_the_terminal_comes_once(tmp_path: Path) -> None:
    """The kernel gives it to all of the foreground; passed on, it would come twice, and a second ^C means something else."""
    child, terminal = pty.fork()
    if not child:
        os.environ["PYTHONPATH"] = str(ROOT)
        argv = [sys.executable, "-c", PERSON, str(tmp_path / "launcher"), AGENT]
        os.execv(sys.executable, argv)  # noqa: S606 - the other side of a fork
    told = b""

    def tells(text: bytes) -> bool:
        nonlocal told
        told += os.read(terminal, 4096)
        return text in told

    awaited(lambda: tells(b"here"))
    os.write(terminal, b"\x03")
    awaited(lambda: tells(b"got SIGINT"))
    os.kill(child, signal.SIGTERM)
    awaited(lambda: tells(b"got SIGTERM"))
    assert told.count(b"got") == 2
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    os.close(terminal)


@pytest.mark.parametrize(
    "whom", [pytest.param("os.getpid()", id="itself alone"), pytest.param("0", id="all of the foreground, us with it")]
)
@pytest.mark.parametrize("seconds", [pytest.param(0.0, id="for a moment"), pytest.param(0.8, id="for a while")])
def test_an_agent_that_stops_gives_the_terminal_back_and_goes_on_with_us(tmp_path: Path, whom: str, seconds: float) -> None:
    agent = f"import os, signal, time; os.kill({whom}, signal.SIGSTOP); time.sleep(0.3); raise SystemExit(5)"
    with person(tmp_path, agent) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGCONT)
        assert process.wait(20) == 5


def test_files_are_for_this_user_alone(tmp_path: Path) -> None:
    code = "import os, sys; [print(oct(os.stat(p).st_mode & 0o777)) for p in (sys.argv[1], sys.argv[1] + '/key')]"
    with person(tmp_path, code) as process:
        out, _ = process.communicate(timeout=20)
    assert out.split() == ["0o700", "0o600"]


def test_what_a_killed_one_left_goes_with_the_next_but_not_while_the_agent_lives(tmp_path: Path) -> None:
    home = Home(tmp_path / "launcher")
    process = person(tmp_path, AGENT)
    assert process.stdout
    assert process.stdout.readline() == "here\n"
    (theirs,) = home.running.iterdir()
    agent = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    process.kill()
    process.wait()
    with execution.room(home) as ours:
        assert set(home.running.iterdir()) == {ours, theirs}
    os.kill(agent, signal.SIGKILL)
    process.communicate(timeout=20)  # its output ends with it
    with execution.room(home) as ours:
        assert set(home.running.iterdir()) == {ours}


def test_a_mirror_shows_the_users_folder_but_for_what_is_ours(tmp_path: Path) -> None:
    own, shown = tmp_path / "own", tmp_path / "room" / "shown"
    (own / "folder").mkdir(parents=True)
    shown.parent.mkdir()
    (own / "models").write_text("theirs")
    execution.fill(Start(Command(()), {shown / "models": "ours"}, Mirror(shown, own, ("log",))))
    (shown / "log").write_text("kept")
    (shown / "folder" / "file").write_text("kept too")
    assert ((own / "models").read_text(), (shown / "models").read_text()) == ("theirs", "ours")
    assert ((own / "log").read_text(), (own / "folder" / "file").read_text()) == ("kept", "kept too")


def test_a_mirror_of_a_folder_that_is_not_there_makes_none(tmp_path: Path) -> None:
    own, shown = tmp_path / "own", tmp_path / "shown"
    execution.fill(Start(Command(()), {shown / "models": "ours"}, Mirror(shown, own, ("log",))))
    assert [path.name for path in shown.iterdir()] == ["models"]
    assert not own.exists()
