"""Whether a disk has room. All sizes are bytes."""

import os
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


def gigabytes(size: int) -> str:
    """A size for people: `3.4 GB`, and `270 MB` below one."""
    return f"{size / GB:.1f} GB" if size >= GB else f"{size / MB:.0f} MB"


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.exists())
