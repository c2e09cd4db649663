"""One lock, several real processes: who has it, who waits, and what becomes of it when its holder dies."""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from launcher import lock
from launcher.errors import LauncherError
from launcher.lock import Holder

HOLD = """
import sys
from pathlib import Path
from launcher import lock
with lock.acquire(Path(sys.argv[1]), "launcher up", waiting=print, timeout=0):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its input is closed."""
    argv = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def unexpected(holder: Holder) -> None:
    pytest.fail(f"waited for {holder}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "lock"


def test_nobody_holds_a_lock_that_was_never_taken(path: Path) -> None:
    assert lock.holder(path) is None
    assert not path.exists()


def test_the_holder_is_known_while_it_holds(path: Path) -> None:
    with lock.acquire(path, "launcher up", waiting=unexpected, timeout=0):
        holder = lock.holder(path)
        assert holder
        assert (holder.pid, holder.command) == (os.getpid(), "launcher up")
        assert holder.started == pytest.approx(time.time(), abs=5)
        assert path.stat().st_mode & 0o777 == 0o600
    assert lock.holder(path) is None
    with lock.acquire(path, "launcher down", waiting=unexpected, timeout=0):
        assert lock.holder(path) != holder


def test_it_is_free_again_after_a_fault(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock.acquire(path, "launcher up", waiting=unexpected, timeout=0):
        _ = 1 // 0
    assert lock.holder(path) is None


def test_who_comes_second_is_told_once_and_waits(path: Path) -> None:
    with held_elsewhere(path) as process:
        told: list[Holder] = []

        def waiting(holder: Holder) -> None:
            told.append(holder)
            assert process.stdin
            process.stdin.close()

        with lock.acquire(path, "launcher down", waiting=waiting, timeout=None):
            assert process.wait() == 0
            holder = lock.holder(path)
            assert holder
            assert (holder.pid, holder.command) == (os.getpid(), "launcher down")
    assert [(holder.pid, holder.command) for holder in told] == [(process.pid, "launcher up")]


def test_a_holder_that_was_killed_holds_nothing(path: Path) -> None:
    with held_elsewhere(path) as process:
        process.kill()
        process.wait()
        assert json.loads(path.read_text())["pid"] == process.pid
        assert lock.holder(path) is None
        with lock.acquire(path, "launcher up", waiting=unexpected, timeout=0):
            pass


@pytest.mark.parametrize(("timeout", "told"), [(0, 0), (0.4, 1)], ids=["at once", "after a while"])
def test_who_does_not_want_to_wait_longer_learns_who_has_it(path: Path, timeout: float, told: int) -> None:
    seen: list[Holder] = []
    with held_elsewhere(path) as process:
        expected = rf"launcher up \(pid {process.pid}\) is still at work"
        with (
            pytest.raises(LauncherError, match=expected) as caught,
            lock.acquire(path, "launcher down", waiting=seen.append, timeout=timeout),
        ):
            pytest.fail("two hold the lock")
    assert f"kill {process.pid}" in caught.value.hint
    assert len(seen) == told


def test_a_look_at_the_holder_does_not_announce_a_holder(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    with path.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        with pytest.raises(LauncherError), lock.acquire(path, "launcher up", waiting=unexpected, timeout=0.1):
            pytest.fail("two hold the lock")


def test_a_holder_that_did_not_sign_is_still_a_holder(path: Path) -> None:
    with lock.acquire(path, "launcher up", waiting=unexpected, timeout=0):
        path.write_text("{")
        holder = lock.holder(path)
        assert holder
        assert holder.pid == 0
        with (
            pytest.raises(LauncherError, match=r"pid unknown") as caught,
            lock.acquire(path, "launcher down", waiting=unexpected, timeout=0),
        ):
            pytest.fail("two hold the lock")
        assert "kill" not in caught.value.hint


def test_an_engine_started_meanwhile_does_not_keep_the_lock(path: Path) -> None:
    with lock.acquire(path, "launcher up", waiting=unexpected, timeout=0):
        # close_fds=False: what is not inherited here is inherited nowhere.
        argv = [sys.executable, "-c", "print('runs', flush=True); input()"]
        engine = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, close_fds=False)
    with engine:
        assert engine.stdout
        assert engine.stdout.readline() == "runs\n"
        assert str(path) not in {file.path for file in psutil.Process(engine.pid).open_files()}
        assert lock.holder(path) is None
        engine.kill()


def test_a_home_that_cannot_be_made_is_a_known_fault(path: Path) -> None:
    path.parent.write_text("in the way")
    with pytest.raises(LauncherError, match="cannot use the lock"), lock.acquire(path, "up", waiting=unexpected, timeout=0):
        pytest.fail("a lock without a file")
