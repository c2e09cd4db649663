"""A person's own options for an engine: what was typed -> words of its command, and which may not be given."""

import re
from collections.abc import Collection, Iterable

_NAME = re.compile(r"--[A-Za-z][A-Za-z0-9._-]*")
# Parts of the names of options that hold a secret. `--tokenizer-mode` and `--max-num-batched-tokens` have none of them.
_SECRET = frozenset({"key", "apikey", "token", "password", "passwd", "secret", "credential", "credentials"})


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
    if _SECRET & set(re.split(r"[._-]", found[0].lower())):
        return "looks like a secret, and arguments can be read by every program"
    names = {head, f"--{head.removeprefix('--no-')}"}
    if any(one.startswith(name) for one in decided for name in names):
        return "is decided by the launcher"
    return None
