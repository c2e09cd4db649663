"""Folders that come into being whole: built beside their place, then moved there."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staging(place: Path) -> Iterator[Path]:
    """A new folder beside `place`, gone again at the end unless it was moved."""
    folder = Path(tempfile.mkdtemp(prefix=_prefix(place), dir=place.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put(folder: Path, place: Path) -> None:
    """Move a whole folder to its place; an older one there is gone afterwards."""
    with staging(place) as old:
        if place.exists():
            place.replace(old)
        folder.replace(place)


def remove(place: Path) -> None:
    """Remove a file or a folder; a folder is moved aside first, so that a half of one is never taken for it.

    Raises OSError; what could not be removed then stays aside, for `clear`.
    """
    if not place.is_dir() or place.is_symlink():
        place.unlink()
        return
    if place.name.startswith("."):
        shutil.rmtree(place)
        return
    aside = Path(tempfile.mkdtemp(prefix=_prefix(place), dir=place.parent))
    place.replace(aside)
    shutil.rmtree(aside)


def clear(place: Path) -> None:
    """Remove what runs that were killed left beside `place`; only for who holds the lock on it."""
    for left in place.parent.glob(f"{_prefix(place)}*"):
        shutil.rmtree(left, ignore_errors=True)


def _prefix(place: Path) -> str:
    return f".{place.name}."
