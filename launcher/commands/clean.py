"""`launcher clean`: what takes room on the disk and who uses it; with a kind, free it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from launcher import clearing
from launcher.clearance import KINDS, Item, Kind, choose, freed
from launcher.clearing import Cleared
from launcher.disk import MB, gigabytes
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType

_DAY = 86_400


@dataclass(frozen=True, slots=True)
class CleanResult:
    """All that takes room for us."""

    items: tuple[Item, ...]
    exit_code: int = 0

    def json(self) -> object:
        return {"items": [_plain(item) for item in self.items], "size": sum(item.footprint.size for item in self.items)}

    def text(self) -> "RenderableType":
        from rich.console import Group

        if not self.items:
            return "Nothing of ours takes room yet."
        lines = [
            "`launcher clean KIND` frees what is not in use of that kind (or of all), `launcher clean KIND NAME` one thing.",
            "What is freed is fetched or compiled again when it is needed.",
        ]
        if any(not item.inside for item in self.items):
            lines.append("* lies outside of LAUNCHER_HOME, where other programs use it too: it goes only when it is named.")
        if any(item.footprint.shared for item in self.items):
            lines.append("Files that uv's cache has too (hard links) take their room once: it comes free when both go.")
        return Group(_table(self.items), "", *lines)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What would be freed; `skipped` is in use."""

    items: tuple[Item, ...]
    skipped: tuple[Item, ...] = ()
    exit_code: int = 0

    @property
    def question(self) -> str:
        return f"Free {gigabytes(freed(item.footprint for item in self.items))}?"

    def json(self) -> object:
        return [_plain(item) for item in self.items]

    def text(self) -> "RenderableType":
        return _table(self.items)


@dataclass(frozen=True, slots=True)
class FreeResult:
    """What is gone, and what stayed; 1 if something stayed that nobody used when it was chosen."""

    cleared: Cleared
    skipped: tuple[Item, ...] = ()

    @property
    def exit_code(self) -> int:
        return 1 if self.cleared.stayed else 0

    def json(self) -> object:
        return {
            "freed": self.cleared.freed,
            "removed": [_plain(item) for item in self.cleared.gone],
            "stayed": [{"name": name, "reason": reason} for name, reason in self._stayed()],
        }

    def text(self) -> str:
        lines = [f"{name} stays: {reason}" for name, reason in self._stayed()]
        if self.cleared.gone:
            names = ", ".join(item.name for item in self.cleared.gone)
            lines.append(f"Removed {names}: {_size(self.cleared.freed)} came free.")
        return "\n".join(lines) or "There was nothing to free."

    def _stayed(self) -> tuple[tuple[str, str], ...]:
        return (*((item.name, f"in use by {item.holder}") for item in self.skipped), *self.cleared.stayed)


def run(world: World) -> CleanResult:
    """Look; nothing is changed."""
    return CleanResult(clearing.survey(world))


def chosen(found: CleanResult, kind: Kind | Literal["all"], names: Sequence[str]) -> Chosen:
    """What these words would free; raises LauncherError for a name that is not there, or in use."""
    used = (item for item in found.items if kind in {"all", item.kind} and item.inside and item.holder)
    return Chosen(choose(found.items, kind, names), () if names else tuple(used))


def free(world: World, what: Chosen) -> FreeResult:
    """Free it; raises LauncherError while another verb is at work."""
    return FreeResult(clearing.clear(world, what.items), what.skipped)


def _plain(item: Item) -> dict[str, object]:
    return {
        "kind": item.kind,
        "name": item.name,
        "path": str(item.path),
        "size": item.footprint.size,
        "frees": freed([item.footprint]),
        "last_used": item.used or None,
        "in_use_by": item.holder or None,
        "inside": item.inside,
    }


def _table(items: Sequence[Item]) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", no_wrap=True)
    for header in ("size", "frees"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("last used", no_wrap=True)
    table.add_column("in use by", overflow="fold")
    for kind in KINDS:
        rows = [item for item in items if item.kind == kind]
        if rows:
            ours = [item.footprint for item in rows if item.inside]
            sums = (_size(sum(each.size for each in ours)), _size(freed(ours))) if ours else ("", "")
            table.add_row(Text(kind, "bold"), *sums, "", "")
        for item in rows:
            mark = "" if item.inside else " *"
            table.add_row(
                Text(f"  {item.name}{mark}"),
                _size(item.footprint.size),
                _size(freed([item.footprint])),
                ago(item.used),
                Text(item.holder, "yellow"),
            )
    return table


def _size(size: int) -> str:
    return gigabytes(size) if size >= MB else "< 1 MB" if size else "-"


def ago(used: float) -> str:
    """When that was, in days; "" where it is not known."""
    days = int((time.time() - used) // _DAY)
    if not used or days < 0:
        return ""
    return {0: "today", 1: "yesterday"}.get(days, f"{days} days ago")
