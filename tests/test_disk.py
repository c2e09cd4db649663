"""What a folder takes, and what comes free with it: measured on files of this file system."""

from pathlib import Path

from launcher import disk

MB = 1_000_000


def test_what_is_linked_from_elsewhere_is_counted_and_does_not_come_free(tmp_path: Path) -> None:
    cache, folder = tmp_path / "cache", tmp_path / "folder"
    cache.mkdir()
    (folder / "deep").mkdir(parents=True)
    (cache / "wheel").write_bytes(bytes(3 * MB))
    (folder / "own").write_bytes(bytes(2 * MB))
    (folder / "deep" / "linked").hardlink_to(cache / "wheel")
    (folder / "away").symlink_to(cache / "wheel")
    usage = disk.usage(folder)
    assert 5 * MB <= usage.size < 5.1 * MB
    assert 2 * MB <= usage.freed < 2.1 * MB


def test_a_file_with_all_of_its_names_inside_counts_once_and_comes_free(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(bytes(MB))
    (tmp_path / "other").hardlink_to(tmp_path / "one")
    usage = disk.usage(tmp_path)
    assert MB <= usage.size == usage.freed < 1.1 * MB


def test_a_folder_that_is_not_there_takes_nothing(tmp_path: Path) -> None:
    assert disk.usage(tmp_path / "none") == disk.Usage(0, 0)
