"""The keys that servers ask for: made once, each in a file that only its user can read."""

import os
import re
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from launcher.errors import LauncherError

_PREFIX = "sk-local-"
_PRINTABLE = re.compile(r"[\x21-\x7e]+")


def ensure(path: Path) -> str:
    """The key in `path`, made if there is none; of several processes that race, all get the same one.

    A file that others may read is closed to them, not refused: modes widen when a home is copied or mounted, which must not
    stop a start that nobody watches, and a new key would lock out agents that have this one. Raises LauncherError if the file
    cannot be had or closed, or holds no key.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
        for place, mode in ((path.parent, 0o700), (path, 0o600)):
            if place.stat().st_mode & 0o077:
                place.chmod(mode)
    except OSError as error:
        raise LauncherError(f"cannot keep a key in {path}: {error.strerror}") from None
    key = read(path)
    if key is None:
        raise LauncherError(f"the key {path} was removed just now", hint="try again")
    return key


def read(path: Path) -> str | None:
    """The key in `path`, None if there is no such file; raises LauncherError if it cannot be read or holds no key."""
    try:
        key = path.read_text(errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LauncherError(f"cannot read the key {path}: {error.strerror}") from None
    if not _PRINTABLE.fullmatch(key):
        raise LauncherError(f"{path} holds no key", hint="remove it: a new one is made, and agents are wired again with `up`")
    return key


def _make(path: Path) -> None:
    """Write aside, then link: the name appears with the whole key in it, and never in place of another's."""
    descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600 by definition
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{_PREFIX}{secrets.token_urlsafe(32)}\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(aside)
    finally:
        Path(aside).unlink()
