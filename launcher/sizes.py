"""How much files and folders take on the disk, hard links told apart, and when they were last used."""

import os
from collections.abc import Iterator
from pathlib import Path

from launcher.clearance import Footprint, Inode

_BLOCK = 512  # of st_blocks, whatever the file system's own blocks are (stat(2))


def weigh(path: Path) -> tuple[Footprint, float]:
    """What it takes, and when a file of it was last read or written (seconds since the epoch; 0 where nothing is there).

    Most systems note a read at most once a day. A folder that changes meanwhile is measured as far as it can be.
    """
    alone, used = 0, 0.0
    shared: dict[Inode, tuple[int, int, int]] = {}
    for status, is_folder in _entries(path):
        size = status.st_blocks * _BLOCK
        if is_folder or status.st_nlink == 1:
            alone += size
        else:
            inode = (status.st_dev, status.st_ino)
            shared[inode] = (size, status.st_nlink, shared.get(inode, (0, 0, 0))[2] + 1)
        if not is_folder:
            used = max(used, status.st_atime, status.st_mtime)
    return Footprint(alone, shared), used


def last_read(path: Path) -> float:
    """When one file was last read or written, 0 where it is not there."""
    try:
        status = path.stat()
    except OSError:
        return 0.0
    return max(status.st_atime, status.st_mtime)


def _entries(path: Path) -> Iterator[tuple[os.stat_result, bool]]:
    """Of the path and all beneath it what lstat says, and whether it is a folder; what vanishes meanwhile is left out."""
    try:
        status = path.lstat()
    except OSError:
        return
    if not path.is_dir() or path.is_symlink():
        yield status, False
        return
    yield status, True
    folders = [str(path)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    is_folder = entry.is_dir(follow_symlinks=False)
                    yield entry.stat(follow_symlinks=False), is_folder
                    if is_folder:
                        folders.append(entry.path)
        except OSError:
            continue
