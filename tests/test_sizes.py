import os
import subprocess
from pathlib import Path

from launcher import sizes
from launcher.clearance import freed


def filled(path: Path, size: int = 100_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))
    return path


def on_disk(*paths: Path) -> int:
    """What du says, which counts a hard link once as well."""
    said = subprocess.run(["du", "--block-size=1", "-sc", *paths], check=True, capture_output=True, text=True).stdout  # noqa: S607
    return int(said.splitlines()[-1].split()[0])


def test_a_folder_takes_what_du_says(tmp_path: Path) -> None:
    one = filled(tmp_path / "a" / "one")
    (tmp_path / "a" / "again").hardlink_to(one)
    filled(tmp_path / "a" / "deep" / "er" / "two")
    (tmp_path / "a" / "link").symlink_to("/usr")
    footprint, _ = sizes.weigh(tmp_path / "a")
    assert footprint.size == freed([footprint]) == on_disk(tmp_path / "a") > 200_000


def test_what_is_linked_from_elsewhere_does_not_come_free(tmp_path: Path) -> None:
    filled(tmp_path / "cache" / "one")
    (tmp_path / "environment").mkdir()
    (tmp_path / "environment" / "one").hardlink_to(tmp_path / "cache" / "one")
    cache, environment = (sizes.weigh(tmp_path / name)[0] for name in ("cache", "environment"))
    assert freed([environment]) < 100_000 < environment.size
    assert freed([environment, cache]) == on_disk(tmp_path / "cache", tmp_path / "environment")


def test_a_file_by_itself_and_what_is_not_there(tmp_path: Path) -> None:
    assert sizes.weigh(filled(tmp_path / "one"))[0].size == on_disk(tmp_path / "one")
    assert sizes.weigh(tmp_path / "none") == (sizes.weigh(tmp_path / "nothing")[0], 0.0)
    assert sizes.weigh(tmp_path / "none")[0].size == 0


def test_when_it_was_last_used(tmp_path: Path) -> None:
    for name, read, written in (("a", 1000, 500), ("b", 200, 3000)):
        os.utime(filled(tmp_path / "folder" / name), (read, written))
    assert sizes.weigh(tmp_path / "folder")[1] == 3000
    assert (sizes.last_read(tmp_path / "folder" / "a"), sizes.last_read(tmp_path / "none")) == (1000, 0)
