"""A person's own options for an engine: what was typed -> words of its command, and which may not be given."""

import re
from collections.abc import Collection, Iterable

from launcher.command import is_secret

_NAME = re.compile(r"--[A-Za-z][A-Za-z0-9._-]*")


def words(typed: Iterable[str]) -> tuple[str, ...]:
    """The words of the command: behind a `=` all is one value, else values stand apart."""
    return tuple(word for text in typed for word in ([text] if "=" in text.split(maxsplit=1)[0] else text.split()))


def fault(text: str, decided: Collection[str]) -> str | None:
    """Why this may not be given to an engine whose options `decided` are taken; None if it may.

    Engines take `_` for `-`, `--no-x` as they take `--x`, and the beginning of a name for the name.
    """
    found = _NAME.match(text.strip())
    if found is None or text.strip()[found.end() : found.end() + 1] not in {"", "=", " "}:
        return "is no option: it must begin with the whole name, as --name or --name=value"
    head = found[0].replace("_", "-").partition(".")[0]
    if is_secret(found[0]):
        return "looks like a secret, and arguments can be read by every program"
    names = {head, f"--{head.removeprefix('--no-')}"}
    if any(one.startswith(name) for one in decided for name in names):
        return "is decided by the launcher"
    return None
