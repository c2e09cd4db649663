"""Replaces a file as a whole: a reader sees the old text or the new one, and a kill at any moment leaves one of them."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def write(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Make `text` the content of `path`, as UTF-8 and with its line ends as they are; raises OSError.

    A symbolic link stays one: the file that it points to is replaced. A file that was another user's stays theirs where that
    is allowed, so that root in a container does not take a mounted configuration away from its owner.
    """
    content = text.encode()
    real = Path(os.path.realpath(path))
    fd, temporary = tempfile.mkstemp(dir=real.parent, prefix=f".{real.name}.")
    try:
        with os.fdopen(fd, "wb") as file:
            _keep_owner(fd, real)
            os.fchmod(fd, mode)
            file.write(content)
            file.flush()
            os.fsync(fd)
        Path(temporary).replace(real)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_directory(real.parent)


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
