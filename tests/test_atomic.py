import os
import stat
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
