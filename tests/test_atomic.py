import fcntl
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher import atomic


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="an empty text"),
        pytest.param("a\nb\n", id="unix line ends"),
        pytest.param("a\r\nb\r\n", id="windows line ends stay"),
        pytest.param("a\rb", id="a lone carriage return stays"),
        pytest.param("größe \U0001f600", id="letters beyond ascii are utf-8"),
    ],
)
def test_the_bytes_are_exactly_the_text(tmp_path: Path, text: str) -> None:
    atomic.write(tmp_path / "file", text)
    assert (tmp_path / "file").read_bytes() == text.encode()


@pytest.mark.parametrize("wanted", [0o600, 0o644, 0o640])
def test_the_mode_is_the_one_given_whatever_the_umask_and_the_old_mode(tmp_path: Path, wanted: int) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o666)
    mask = os.umask(0o077)
    try:
        atomic.write(path, "new", mode=wanted)
    finally:
        os.umask(mask)
    assert mode(path) == wanted


def test_a_file_is_private_unless_said_otherwise(tmp_path: Path) -> None:
    atomic.write(tmp_path / "file", "key")
    assert mode(tmp_path / "file") == 0o600


@pytest.mark.parametrize("exists", [True, False], ids=["of a link that leads to a file", "of a link that leads nowhere yet"])
def test_the_file_behind_a_link_is_written_and_the_link_stays(tmp_path: Path, exists: bool) -> None:  # noqa: FBT001 - a table
    real = tmp_path / "elsewhere" / "real"
    real.parent.mkdir()
    if exists:
        real.write_text("old")
    link = tmp_path / "link"
    link.symlink_to(real)
    atomic.write(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_a_reader_that_opened_the_old_file_reads_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with path.open() as reader:
        atomic.write(path, "new")
        assert reader.read() == "old"


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        pytest.param("directory", "new", OSError, id="a directory is in its place"),
        pytest.param("file", "\ud800", UnicodeEncodeError, id="the text is not unicode"),
        pytest.param("absent/file", "new", FileNotFoundError, id="its directory is not there"),
    ],
)
def test_a_failed_write_leaves_everything_as_it_was(tmp_path: Path, name: str, text: str, error: type[Exception]) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text("old")
    with pytest.raises(error):
        atomic.write(tmp_path / name, text)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory", "file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_file_stays_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    if os.geteuid() == 0:  # only root can be handed another user's file, and only root could take it away
        os.chown(path, 12345, 12346)
    owner = (path.stat().st_uid, path.stat().st_gid)
    atomic.write(path, "new")
    assert (path.stat().st_uid, path.stat().st_gid) == owner


@pytest.mark.parametrize("how", ["write", "make"])
def test_what_a_dead_writer_left_is_cleared_by_the_next_and_nothing_else_is(tmp_path: Path, how: str) -> None:
    """A writer holds a lock on what it writes aside; the kernel takes the lock of one that is killed."""
    for name in (".a.launcher-dead", ".a.launcher-alive", ".a.launcher", "a.launcher-theirs"):
        (tmp_path / name).write_text("half")
    with (tmp_path / ".a.launcher-alive").open() as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        {"write": atomic.write, "make": atomic.make}[how](tmp_path / "b", "whole")
    assert {path.name for path in tmp_path.iterdir()} == {".a.launcher-alive", ".a.launcher", "a.launcher-theirs", "b"}


@pytest.mark.parametrize("how", ["write", "make"])
def test_writers_that_race_do_not_take_each_others_work_for_a_dead_ones(tmp_path: Path, how: str) -> None:
    code = (
        "import sys; from pathlib import Path; from launcher import atomic\n"
        "for n in range(150): getattr(atomic, sys.argv[2])(Path(sys.argv[1]) / (sys.argv[3] + str(n)), 'new')"
    )
    words = [sys.executable, "-c", code, str(tmp_path), how]
    writers = [subprocess.Popen([*words, name]) for name in ("a", "b", "c")]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(list(tmp_path.iterdir())) == 450


def test_of_those_who_make_a_file_one_is_first_and_the_others_are_told(tmp_path: Path) -> None:
    atomic.make(tmp_path / "file", "first")
    with pytest.raises(FileExistsError):
        atomic.make(tmp_path / "file", "second")
    assert (tmp_path / "file").read_text() == "first"
    assert mode(tmp_path / "file") == 0o600
    assert len(list(tmp_path.iterdir())) == 1


def test_a_reader_never_sees_half_of_a_file_whenever_its_writers_are_killed(tmp_path: Path) -> None:
    """A little of what scripts/soak does for hours: a file of the sum of its lines, written again and again."""
    path = tmp_path / "file"
    code = (
        "import itertools, sys; from pathlib import Path; from launcher import atomic\n"
        "for n in itertools.count(): atomic.write(Path(sys.argv[1]), f'{n % 10}' * 200_000)"
    )
    for number in range(10):
        with subprocess.Popen([sys.executable, "-c", code, path]) as writer:
            while not path.exists():
                time.sleep(0.001)
            time.sleep(0.2 + number / 400)
            writer.send_signal(signal.SIGKILL)
        text = path.read_text()
        assert text == text[0] * 200_000
    atomic.write(path, "the last")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
