"""Writes a file as a whole: a reader sees the old text or the new one, and a kill at any moment leaves one of them.

What a writer that was killed left beside it is removed by the next one that writes in that folder.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# In the names of what is written aside, so that no file of a user's is taken for one of ours.
_ASIDE = ".launcher-"


def write(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Make `text` the content of `path`, as UTF-8 and with its line ends as they are; raises OSError.

    A symbolic link stays one: the file that it points to is replaced. A file that was another user's stays theirs where that
    is allowed, so that root in a container does not take a mounted configuration away from its owner.
    """
    content = text.encode()
    real = Path(os.path.realpath(path))
    with _aside(real) as (descriptor, aside):
        _keep_owner(descriptor, real)
        _fill(descriptor, content, mode)
        aside.replace(real)
    _sync_directory(real.parent)


def make(path: Path, text: str, *, mode: int = 0o600) -> None:
    """The same for a file that must not be there; raises FileExistsError if another writer was first."""
    content = text.encode()
    with _aside(path) as (descriptor, aside):
        _fill(descriptor, content, mode)
        path.hardlink_to(aside)
    _sync_directory(path.parent)


@contextmanager
def _aside(path: Path) -> Iterator[tuple[int, Path]]:
    """A new file beside `path`, locked for as long as its writer lives, and gone at the end if it still has this name."""
    _clear(path.parent)
    descriptor, name = _locked(path)
    try:
        yield descriptor, Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path) -> tuple[int, str]:
    while True:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}{_ASIDE}")
        # Where there are no locks, nobody can clear either.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, name
        # Another writer saw it before it was locked, and took it for a dead one's.
        os.close(descriptor)


def _clear(folder: Path) -> None:
    """Remove what dead writers left: the kernel gave their locks back."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and _ASIDE in entry.name:
                _clear_one(entry.path)


def _clear_one(path: str) -> None:
    # Gone meanwhile, another user's, or locked by one who is writing.
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            Path(path).unlink()
        finally:
            os.close(descriptor)


def _fill(descriptor: int, content: bytes, mode: int) -> None:
    os.fchmod(descriptor, mode)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _keep_owner(fd: int, real: Path) -> None:
    with suppress(FileNotFoundError, PermissionError):
        old = real.stat()
        os.fchown(fd, old.st_uid, old.st_gid)


def _sync_directory(directory: Path) -> None:
    """Without this, a crash of the machine could undo two replacements in another order than they were made."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
