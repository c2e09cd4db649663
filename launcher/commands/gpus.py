"""`launcher gpus`: what this machine has, and who holds it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from launcher import machines
from launcher.gpu import GIB, Gpu, GpuProcess, Inventory, NvLinks

if TYPE_CHECKING:
    from rich.console import RenderableType

# More lines than this for one GPU hide the other GPUs.
MOST_PROCESSES = 3
BAR = 12


@dataclass(frozen=True, slots=True)
class GpusResult:
    """The inventory, for people and for programs."""

    inventory: Inventory
    exit_code: int = 0

    def json(self) -> object:
        """What `machines.from_json` reads and `--on FILE` takes."""
        return machines.to_json(self.inventory)

    def text(self) -> "RenderableType":
        from rich.console import Group

        return Group(*_parts(self.inventory))


def run(inventory: Inventory) -> GpusResult:
    """Show this inventory."""
    return GpusResult(inventory)


def watch(look: Callable[[], Inventory], *, every: float) -> Iterator[GpusResult]:
    """What `look` sees, again and again, `every` so many seconds; raises what it raises, when a GPU falls off the bus."""
    while True:
        begun = time.monotonic()
        yield run(look())
        time.sleep(max(0.0, every - (time.monotonic() - begun)))


def _parts(inventory: Inventory) -> "Iterator[RenderableType]":
    from rich.text import Text

    if inventory.gpus:
        yield _table(inventory.gpus)
        yield from map(Text, _remarks(inventory.gpus))
        yield f"driver {inventory.driver}, CUDA {f'up to {inventory.cuda}' if inventory.cuda else 'unknown'}"
    else:
        hidden = " that may be used (CUDA_VISIBLE_DEVICES hides GPUs)" if inventory.driver else ""
        yield f"This machine has no NVIDIA GPU{hidden}: models run on the CPU."
    yield from (Text(f"{name} is not supported: only NVIDIA GPUs are.") for name in inventory.unsupported)
    cpu, ram = inventory.cpu, inventory.ram
    yield Text(f"CPU {cpu.name}, {cpu.cores} {'core' if cpu.cores == 1 else 'cores'}, {cpu.arch}")
    yield f"RAM {_gib(ram.available)} GiB free of {_gib(ram.total)}"


def _table(gpus: tuple[Gpu, ...]) -> "RenderableType":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("NVIDIA GPU", no_wrap=True)
    table.add_column("used of GiB", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("compute", justify="right", min_width=7)
    table.add_column("held by")
    for gpu in gpus:
        used = gpu.total - gpu.free
        memory = f"{_gib(used)} / {_gib(gpu.total)}"
        compute = f"{gpu.compute[0]}.{gpu.compute[1]}"
        holders = "\n".join(_holders(gpu.processes)) or "-"
        # Text, since a name in [brackets] is markup to rich.
        table.add_row(
            str(gpu.index), Text(gpu.name.removeprefix("NVIDIA ")), memory, _bar(used, gpu.total), compute, Text(holders)
        )
    return table


def _remarks(gpus: tuple[Gpu, ...]) -> Iterator[str]:
    """What the table has no column for: it is true of few machines."""
    for gpu in gpus:
        if gpu.card is not None:
            yield f"GPU {gpu.index} is a MIG slice of card {gpu.card}: {gpu.uuid}"
        if gpu.unified:
            yield f"GPU {gpu.index} has unified memory: it is the host's RAM"
    whole = [gpu for gpu in gpus if gpu.card is None]
    if len(whole) > 1:
        yield f"NVLink {_links(whole)}"


def _links(gpus: list[Gpu]) -> str:
    """Who is joined to whom: those with the same links and the same circle of peers are told together."""
    if all(gpu.nvlinks is None for gpu in gpus):
        return "unknown: the driver does not tell"
    circles: dict[tuple[tuple[int, ...], NvLinks], None] = {}
    for gpu in gpus:
        if gpu.nvlinks and gpu.nvlinks.active:
            circle = tuple(sorted({gpu.index, *gpu.nvlinks.peers}))
            circles[circle, replace(gpu.nvlinks, peers=())] = None
    return "; ".join(_circle(circle, links) for circle, links in circles) or "none"


def _circle(circle: tuple[int, ...], links: NvLinks) -> str:
    count = f"{links.active} {'link' if links.active == 1 else 'links'} each"
    if len(circle) == 1:
        return f"{circle[0]} to GPUs that are not shown ({count})"
    return f"{'-'.join(map(str, circle))}{' all to all over switches' if links.switched else ''} ({count})"


def _bar(used: int, total: int) -> str:
    """Plain characters, which survive a pipe, a log and a terminal without UTF-8."""
    filled = round(BAR * used / total)
    return "#" * filled + "." * (BAR - filled)


def _holders(processes: tuple[GpuProcess, ...]) -> Iterator[str]:
    """The largest first; their names can be unknown, in a container, and their sizes, under WSL."""
    largest = sorted(processes, key=lambda process: -process.used)
    for process in largest[:MOST_PROCESSES]:
        size = f" {_gib(process.used)} GiB" if process.used else ""
        yield f"{process.name or 'process'} ({process.pid}){size}"
    if len(largest) > MOST_PROCESSES:
        yield f"and {len(largest) - MOST_PROCESSES} more"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}"
