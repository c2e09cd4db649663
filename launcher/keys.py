"""The keys that servers ask for: made once, each in a file that only its user can read."""

import hashlib
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from launcher import atomic
from launcher.errors import LauncherError
from launcher.home import Home

PREFIX = "sk-local-"
_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
# What the key is called that `launcher up` makes and gives to agents.
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class NamedKey:
    """A key that the gateway takes, and what it is called in its log."""

    name: str
    text: str = field(repr=False)
    path: Path

    @property
    def fingerprint(self) -> str:
        """What tells keys apart and opens nothing."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]


def listed(home: Home) -> tuple[NamedKey, ...]:
    """All keys that are taken, the default one first; raises LauncherError if one cannot be read or holds no key."""
    paths = [(DEFAULT, home.key), *((path.stem, path) for path in sorted(home.named_keys.glob("*.key")))]
    found = [(name, read(path), path) for name, path in paths]
    return tuple(NamedKey(name, text, path) for name, text, path in found if text is not None)


def add(home: Home, name: str) -> NamedKey:
    """A new key of that name; raises LauncherError if there is one, or it cannot be kept."""
    if not _NAME.fullmatch(name):
        hint = "small letters, digits, dots, dashes and underscores, 32 at most"
        raise LauncherError(f"{name!r} is no name for a key", hint=hint)
    path = home.named_keys / f"{name}.key"
    if name == DEFAULT or path.exists():
        raise LauncherError(f"there is a key {name} already", hint=f"`launcher keys remove {name}`, or another name")
    return NamedKey(name, ensure(path), path)


def remove(home: Home, name: str) -> NamedKey:
    """Take a key away; raises LauncherError if there is none of that name, or it is the one that agents were given."""
    if name == DEFAULT:
        hint = f"remove {home.key}: the next `launcher up` makes a new one and tells the agents"
        raise LauncherError("the default key is the one that agents were given", hint=hint)
    found = next((key for key in listed(home) if key.name == name), None)
    if found is None:
        raise LauncherError(f"there is no key {name!r}", hint="`launcher keys` lists them")
    try:
        found.path.unlink()
    except OSError as error:
        raise LauncherError(f"cannot remove {found.path}: {error.strerror}") from None
    return found


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
    """The name appears with the whole key in it, and never in place of another's."""
    with suppress(FileExistsError):
        atomic.make(path, f"{PREFIX}{secrets.token_urlsafe(32)}\n")
