"""Whether a disk has room. All sizes are bytes."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import LauncherError

GB, MB = 10**9, 10**6


def free_bytes(path: Path) -> int:
    """What this user may still write where `path` is, or will be."""
    status = os.statvfs(_existing(path))
    return status.f_bavail * status.f_frsize


def same_disk(one: Path, other: Path) -> bool:
    """Whether both are, or will be, on one file system."""
    return _existing(one).stat().st_dev == _existing(other).stat().st_dev


def check(what: str, *, needs: int, free: int, path: Path, hint: str) -> None:
    """Raise LauncherError if `needs` is more than is `free` at `path`."""
    if needs > free:
        message = f"{what} needs {gigabytes(needs)} of disk, and {gigabytes(free)} are free in {path}"
        raise LauncherError(message, hint=hint)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a folder takes, and how much of it comes free with it: files that are linked from elsewhere too stay."""

    size: int
    freed: int


def usage(folder: Path) -> Usage:
    """The room of all that lies in a folder, each file once; what vanishes meanwhile counts as nothing."""
    size = freed = 0
    links: dict[tuple[int, int], int] = {}
    for status in _statuses(folder):
        if stat.S_ISDIR(status.st_mode) or status.st_nlink == 1:
            size += status.st_blocks * _BLOCK
            freed += status.st_blocks * _BLOCK
            continue
        inode = (status.st_dev, status.st_ino)
        seen = links[inode] = links.get(inode, 0) + 1
        size += status.st_blocks * _BLOCK if seen == 1 else 0
        freed += status.st_blocks * _BLOCK if seen == status.st_nlink else 0
    return Usage(size, freed)


# Of stat's st_blocks, whatever the file system's own are.
_BLOCK = 512


def _statuses(folder: Path) -> Iterator[os.stat_result]:
    waiting = [os.fspath(folder)]
    while waiting:
        with suppress(FileNotFoundError, PermissionError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    yield entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)


def gigabytes(size: int) -> str:
    """A size for people: `3.4 GB`, and `270 MB` below one."""
    return f"{size / GB:.1f} GB" if size >= GB else f"{size / MB:.0f} MB"


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.exists())
