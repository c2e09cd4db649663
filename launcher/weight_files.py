"""The files of a model's repository: which of them an engine needs, and what each of them must be. Values only."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class File:
    """A file as the hub describes it: its size in bytes, and the hash that is the name of its content in the client's cache.

    A large file's `blob` is its sha256, any other's the SHA-1 that git gives it (Git LFS, and git's objects).
    """

    path: str
    size: int
    blob: str

    @property
    def is_large(self) -> bool:
        return len(self.blob) == _SHA256

    def digest(self) -> Any:
        """What to feed with the content; its hexdigest must then be `blob`."""
        if self.is_large:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)

    def says(self) -> str:
        """What its hash is called, for people."""
        return "sha256" if self.is_large else "git hash"


_SHA256 = 64


def wanted(names: Iterable[str], *, code: bool = False) -> list[str]:
    """The files that an engine needs: its weights in one format, safetensors if there are any, and small files.

    Engines load what lies at the top. `consolidated` is Mistral's own layout of the same weights. `code` takes modules too.
    """
    names = list(names)
    weights = shards(names)
    suffixes = (*_SMALL, ".py") if code else _SMALL
    return [*weights, *(name for name in names if _is_small(name, suffixes))] if weights else []


def shards(names: Iterable[str]) -> list[str]:
    """The files with weights that an engine loads."""
    top = [name for name in names if "/" not in name]
    return next((found for kind in _WEIGHTS if (found := [name for name in top if kind(name)])), [])


def modules(names: Iterable[str]) -> list[str]:
    """The files with code that an engine would run, if it were let."""
    return sorted(name for name in names if name.endswith(".py"))


def listed(names: Sequence[str], *, most: int = 5) -> str:
    """Names in a sentence, the first few of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def _is_safetensors(name: str) -> bool:
    return name.endswith(".safetensors") and not name.startswith("consolidated")


_WEIGHTS: tuple[Callable[[str], bool], ...] = (
    _is_safetensors,
    lambda name: name.endswith(".safetensors"),
    lambda name: name.startswith(("pytorch_model", "model")) and name.endswith(".bin"),
)
_SMALL = (".json", ".jinja", ".txt", ".model", ".tiktoken")


def _is_small(name: str, suffixes: tuple[str, ...]) -> bool:
    # A module may import from a folder beside it; nothing else that is needed lies in one, but for named templates.
    return name.endswith(suffixes) and (
        "/" not in name or name.startswith("additional_chat_templates/") or name.endswith(".py")
    )
