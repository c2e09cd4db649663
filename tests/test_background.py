"""Real `launcher serve` processes in a home of their own: who keeps the models alive, who takes over, and what each is told."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher import __version__, background, lock, processes, unit
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.lock import Holder
from tests.homestead import Homestead, awaited, homestead, lives
from tests.ports_for_tests import own_port

# Plays a `launcher serve` of another version: its words, the seconds that it goes on after a signal, and what then runs.
ANOTHER = """
import signal, subprocess, sys, time
from pathlib import Path
from launcher import lock
told = []
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda number, _: told.append(number))
path, command, then = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
with lock.acquire(path, command, waiting=print, timeout=5):
    print("held", flush=True)
    while not told:
        time.sleep(0.02)
if then and signal.SIGUSR1 in told:
    time.sleep(0.5)
    sys.exit(subprocess.run(then).returncode)
"""


def another(place: Homestead, command: str, *then: str) -> "subprocess.Popen[str]":
    process = place.run([sys.executable, "-c", ANOTHER, str(place.home.serving), command, *then])
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Homestead]:
    with homestead(tmp_path) as made:
        yield made


@pytest.fixture
def port() -> int:
    return own_port()


@pytest.mark.parametrize(
    ("told", "code", "reason", "runs_on"),
    [
        pytest.param(signal.SIGTERM, 0, "stop", False, id="TERM stops the models too"),
        pytest.param(signal.SIGINT, 0, "stop", False, id="INT stops the models too"),
        pytest.param(background.HAND_OVER, 0, "hand over", True, id="USR1 lets them run on"),
        pytest.param(background.LEAVE, unit.LEFT, "leave", True, id="USR2 lets them run on, and keeps systemd from another"),
    ],
)
def test_what_it_is_told_decides_whether_models_run_on(
    place: Homestead, port: int, told: signal.Signals, code: int, reason: str, *, runs_on: bool
) -> None:
    place.want(port)
    process = place.staying()
    server = place.ready()
    process.send_signal(told)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (code, f"serve ended: {reason}\n")
    assert (lives(server), place.holder()) == (runs_on, None)
    # Whatever it was told: it is still wanted, and the next one sees to that.
    place.staying()
    again = place.ready()
    assert (again.handle == server.handle, again.restarts) == (runs_on, 0)


def test_a_staying_one_takes_over_from_one_in_the_background_and_restarts_nothing(place: Homestead, port: int) -> None:
    place.want(port)
    place.attend()
    server = place.ready()
    before = place.holder()
    assert before
    assert before.command == background.COMMAND
    process = place.staying()
    awaited(lambda: not processes.lives(before.pid, before.started))
    assert lives(server)
    assert place.ready().handle == server.handle
    process.send_signal(background.LEAVE)
    assert process.wait(30) == unit.LEFT
    place.attend()
    now = place.holder()
    assert now
    assert now.command == background.COMMAND
    assert place.ready().handle == server.handle
    assert (lives(server), place.ready().restarts) == (True, 0)


def test_a_second_one_that_would_stay_is_refused(place: Homestead) -> None:
    first = place.staying()
    second = place.serve()
    _, err = second.communicate(timeout=30)
    assert second.returncode == 1
    assert f"error: {background.STAYING} (pid {first.pid}) is still at work" in err
    assert first.poll() is None


def test_one_in_the_background_leaves_it_to_one_that_stays(place: Homestead) -> None:
    # Were it to wait, it would bring back what systemd has just stopped.
    place.staying()
    out, err = place.serve("--background").communicate(timeout=30)
    assert (out, err) == (f"serve ended: {background.STAYING} is at work\n", "")


def test_one_in_the_background_that_sees_nothing_to_do_ends(place: Homestead) -> None:
    process = place.serve("--background")
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "serve ended: nothing to do\n")


def test_one_in_the_background_waits_for_the_wish_of_an_up_that_still_prepares(place: Homestead) -> None:
    spare = place.home.spares / "spare.json"
    spare.parent.mkdir(parents=True)
    spare.write_text("made by that `up` for its server")
    with lock.acquire(place.home.lock, "launcher up tiny", waiting=lambda _: None, timeout=1.0):
        process = place.serve("--background")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(4.0)
        assert spare.exists()
    assert process.wait(30) == 0


def test_one_that_stays_goes_on_without_anything_to_do(place: Homestead) -> None:
    process = place.staying()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.0)


@pytest.mark.parametrize("words", [(), ("--background",)], ids=["one that stays", "one in the background"])
def test_who_is_at_work_is_left_at_work(place: Homestead, port: int, words: tuple[str, ...]) -> None:
    place.want(port)
    process = place.serve(*words)
    awaited(lambda: place.holder() is not None)
    place.ready()
    place.attend()
    holder = place.holder()
    assert holder
    assert (holder.pid, process.poll()) == (process.pid, None)


def test_attending_to_nothing_ends_at_once_and_says_nothing(place: Homestead) -> None:
    place.attend()
    awaited(lambda: place.holder() is None)
    assert place.home.serve_log.read_text().splitlines()[-1] == "serve ended: nothing to do"
    assert place.home.serve_log.stat().st_mode & 0o777 == 0o600


def test_one_that_cannot_come_up_is_told_with_its_last_words(place: Homestead) -> None:
    place.home.serving.symlink_to("/nonexistent/lock")
    expected = "the background process ended at once: error: cannot use the lock"
    with pytest.raises(LauncherError, match=expected) as caught:
        place.attend()
    assert caught.value.hint == f"its log: {place.home.serve_log}"


@pytest.mark.parametrize(
    ("log", "words"),
    [
        pytest.param(None, "it said nothing", id="no log at all"),
        pytest.param("\n \n", "it said nothing", id="nothing in it"),
        pytest.param("begins\nerror: no room\nhint:  make some\n\n", "error: no room", id="the error, not its hint"),
        pytest.param("x" * 400, "x" * 300, id="not more than a person reads"),
    ],
)
def test_its_last_words_are_what_it_said_last(tmp_path: Path, log: str | None, words: str) -> None:
    home = Home(tmp_path)
    if log is not None:
        home.logs.mkdir()
        home.serve_log.write_text(log)
    assert background.last_words(home) == words


@pytest.mark.parametrize("command", ["launcher serve 0.0.1 --background", "launcher serve 0.0.1"])
def test_one_of_another_version_makes_room_for_ours(place: Homestead, port: int, command: str) -> None:
    place.want(port)
    other = another(place, command)
    place.attend()
    assert other.wait(30) == 0
    holder = place.holder()
    assert holder
    assert holder.command == background.COMMAND


def test_one_that_systemd_starts_anew_is_waited_for(place: Homestead, port: int, tmp_path: Path) -> None:
    place.want(port)
    file = tmp_path / "model-launcher.service"
    file.touch()
    another(place, "launcher serve 0.0.1", sys.executable, "-m", "launcher", "serve")
    place.attend(file)
    holder = place.holder()
    assert holder
    assert holder.command == background.STAYING
    assert not place.home.serve_log.exists()


def test_a_unit_that_starts_another_version_is_told(place: Homestead, tmp_path: Path) -> None:
    file = tmp_path / "model-launcher.service"
    file.touch()
    command = "launcher serve 0.0.1"
    another(place, command, sys.executable, "-c", ANOTHER, str(place.home.serving), command)
    expected = f"model-launcher.service starts launcher serve 0.0.1, and this is {__version__}"
    with pytest.raises(LauncherError, match=expected) as caught:
        place.attend(file)
    assert "launcher enable" in caught.value.hint


def test_one_that_does_not_make_room_is_named(place: Homestead) -> None:
    other = another(place, "launcher serve 0.0.1")
    holder = place.holder()
    assert holder
    with pytest.raises(LauncherError, match=rf"\(pid {other.pid}\) does not hand over") as caught:
        # Nobody listens to this signal.
        background.hand_over(place.home, holder, by=signal.SIGCONT, patience=0.3)
    assert f"kill -KILL {other.pid}" in caught.value.hint


def test_a_holder_without_a_name_is_sent_no_signal(place: Homestead) -> None:
    other = another(place, "launcher serve 0.0.1")
    # To the kernel the process 0 is everybody in our own group: we would not be here any more.
    background.hand_over(place.home, Holder(pid=0, started=0.0, command="a process that did not say its name"))
    assert other.poll() is None
