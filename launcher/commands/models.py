"""`launcher models`: what runs here now, what would if memory were freed, and what does not fit."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from launcher import catalogue, history, planner, weights_record
from launcher.commands.clean import ago
from launcher.deciding import smallest_machine
from launcher.disk import gigabytes
from launcher.gpu import Gpu, GpuProcess, Inventory, holders, named
from launcher.plan import DoesNotFit, Plan
from launcher.profile import Profile
from launcher.release import Releases
from launcher.starts import Start
from launcher.stock import Stored, stored
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

Group = Literal["now", "if_freed", "does_not_fit"]
_HEADINGS: dict[Group, tuple[str, str]] = {
    "now": ("Runs now", "green"),
    "if_freed": ("Would run if memory were freed", "yellow"),
    "does_not_fit": ("Does not fit (`launcher plan NAME` says why)", "red"),
}


_NOTHING = Stored()


@dataclass(frozen=True, slots=True)
class Row:
    """A model: its plan here, or its plan once the holders are gone, or the machine that it would need.

    `stored` is what of its weights is on this disk.
    """

    outcome: Plan | DoesNotFit
    freed: Plan | None = None
    holders: tuple[GpuProcess, ...] = ()
    needs: str | None = None
    stored: Stored = _NOTHING

    @property
    def profile(self) -> Profile:
        return self.outcome.profile

    @property
    def group(self) -> Group:
        if isinstance(self.outcome, Plan):
            return "now"
        return "if_freed" if self.freed else "does_not_fit"


@dataclass(frozen=True, slots=True)
class ModelsResult:
    """What planning each profile on this machine gave, by group and name."""

    rows: tuple[Row, ...]
    exit_code: int = 0

    def json(self) -> object:
        return [_plain(row) for row in self.rows]

    def text(self) -> "RenderableType":
        from rich.console import Group as Lines
        from rich.text import Text

        width = max((len(row.profile.name) for row in self.rows), default=0)
        shown: list[RenderableType] = []
        for group, (heading, colour) in _HEADINGS.items():
            if rows := [row for row in self.rows if row.group == group]:
                shown += [Text(), Text(heading, f"bold {colour}"), _table(rows, width)]
        return Lines(*shown[1:])


def run(world: World, inventory: Inventory) -> ModelsResult:
    """Plan every profile, on the machine as it is and with all of its memory."""
    free = inventory.freed()
    starts, releases = history.read(world.home), world.releases()
    profiles = catalogue.load_all(
        world.profiles, faulty=lambda fault: world.progress.say(f"left out: {fault.message}")
    ).values()
    records = weights_record.read_all(world.home)
    rows = [
        replace(_row(world, profile, inventory, free, starts, releases), stored=stored(world.home, profile, records))
        for profile in profiles
    ]
    order = list(_HEADINGS)
    return ModelsResult(tuple(sorted(rows, key=lambda row: (order.index(row.group), row.profile.name))))


def _row(
    world: World, profile: Profile, inventory: Inventory, free: Inventory, starts: Sequence[Start], releases: Releases
) -> Row:
    outcome = planner.plan(profile, inventory, world.engines, starts=starts, releases=releases)
    if isinstance(outcome, Plan):
        return Row(outcome)
    again = free != inventory
    freed = planner.plan(profile, free, world.engines, starts=starts, releases=releases) if again else outcome
    if isinstance(freed, Plan):
        return Row(outcome, freed=freed, holders=tuple(holders(_now(inventory, freed))))
    return Row(outcome, needs=smallest_machine(world, profile))


def _now(inventory: Inventory, freed: Plan) -> Iterator[Gpu]:
    """The GPUs of a plan as they are now."""
    indexes = {gpu.index for gpu in freed.gpus}
    return (gpu for gpu in inventory.gpus if gpu.index in indexes)


# -- shown --


def _plain(row: Row) -> dict[str, object]:
    profile, outcome = row.profile, row.outcome
    plain: dict[str, object] = {
        "name": profile.name,
        "title": profile.title,
        "about": profile.about,
        "parameters": profile.architecture.parameters,
        "context_max": profile.context_max,
        "variants": [variant.name for variant in profile.variants],
        "fits": isinstance(outcome, Plan),
        "group": row.group,
        "on_disk": row.stored.size,
        "last_used": row.stored.used or None,
    }
    if isinstance(outcome, Plan):
        return {**plain, "variant": outcome.variant.name, "engine": outcome.engine, "context": outcome.context}
    plain["reasons"] = [f"{each.variant} on {each.engine}: {each.reason}" for each in outcome.rejections]
    if row.freed:
        holders = [{"pid": holder.pid, "name": holder.name, "used": holder.used} for holder in row.holders]
        return {**plain, "if_freed": {"variant": row.freed.variant.name, "context": row.freed.context}, "holders": holders}
    return {**plain, "needs": row.needs}


def _table(rows: list[Row], width: int) -> "Table":
    """The rows of a group; `width` is that of the names in all groups, so that their columns stand in line."""
    from rich.table import Table

    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("NAME", no_wrap=True, min_width=width)
    table.add_column("PARAMETERS", justify="right", no_wrap=True)
    fits = rows[0].group != "does_not_fit"
    # A line a model: what the disk has nothing of takes no room.
    kept = ("ON DISK", "USED") if any(row.stored.size for row in rows) else ()
    for header in ("CONTEXT", *kept, "RUNS") if fits else (*kept, "FITS ON"):
        table.add_column(header, justify="right" if header in {"CONTEXT", "ON DISK"} else "left", no_wrap=header in kept)
    for row in rows:
        plan = row.outcome if isinstance(row.outcome, Plan) else row.freed
        context = (f"{plan.context:,}",) if plan else ()
        parameters = f"{row.profile.architecture.parameters / 1e9:,.1f} B"
        disk = (gigabytes(row.stored.size) if row.stored.size else "", ago(row.stored.used)) if kept else ()
        table.add_row(row.profile.name, parameters, *context, *disk, _here(row))
    return table


def _here(row: Row) -> str:
    if isinstance(row.outcome, Plan):
        return _device(row.outcome)
    if row.freed:
        return f"{_device(row.freed)}, once {named(row.holders) or 'other programs'} let go of memory"
    return row.needs or row.outcome.missing.reason


def _device(plan: Plan) -> str:
    """The makers' words are left out: one line a model."""
    return f"{plan.variant.name} on {_MAKERS_WORDS.sub('', plan.devices)}"


_MAKERS_WORDS = re.compile(r"NVIDIA |GeForce |Tesla | Blackwell \w+ Edition| Generation")
