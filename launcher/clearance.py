"""What takes room on the disk, and what of it may be freed: values and the choice among them. Sizes are bytes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from launcher.errors import LauncherError

Kind = Literal["environments", "caches", "logs", "weights", "staging"]
KINDS: tuple[Kind, ...] = ("environments", "caches", "logs", "weights", "staging")
Inode = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a file or a folder takes: `alone` is in files with no other name, `shared` in those with hard links.

    Of each shared file, by device and inode: its size, its links in all, and how many of them lie here.
    """

    alone: int = 0
    shared: Mapping[Inode, tuple[int, int, int]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """All of it, each file once."""
        return self.alone + sum(size for size, _, _ in self.shared.values())


def freed(footprints: Iterable[Footprint]) -> int:
    """What comes free when all of these go: a file with hard links only when its last one goes."""
    total = 0
    links: dict[Inode, tuple[int, int]] = {}
    for each in footprints:
        total += each.alone
        for inode, (size, count, here) in each.shared.items():
            links[inode] = (size, links.get(inode, (size, count))[1] - here)
    return total + sum(size for size, left in links.values() if left <= 0)


@dataclass(frozen=True, slots=True)
class Item:
    """Something that can be freed by itself. `used` is when it last was, in seconds since the epoch.

    `holder` says what it is in use by, "" for nothing. What is not `inside` LAUNCHER_HOME is others' too, and goes only when it
    is named.
    """

    kind: Kind
    name: str
    path: Path
    footprint: Footprint
    used: float
    holder: str = ""
    inside: bool = True


def choose(items: Sequence[Item], kind: Kind | Literal["all"], names: Sequence[str]) -> tuple[Item, ...]:
    """What a person asked to free: all of a kind that is free and ours, or what is named.

    Raises LauncherError for a name that is not there, and for one that is in use.
    """
    possible = [item for item in items if kind in {"all", item.kind}]
    if not names:
        return tuple(item for item in possible if item.inside and not item.holder)
    by_name = {item.name: item for item in possible}
    if missing := [name for name in names if name not in by_name]:
        known = ", ".join(by_name) or "nothing is there"
        raise LauncherError(f"there is no {missing[0]} among the {kind}", hint=f"to choose from: {known}")
    for name in names:
        if holder := by_name[name].holder:
            raise LauncherError(f"{name} is in use by {holder}", hint="`launcher ps` shows what runs, `launcher down` stops it")
    return tuple(by_name[name] for name in dict.fromkeys(names))
