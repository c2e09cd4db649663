"""Machines with any GPUs: a driver library built from nvml.c that the real binding loads in a process of its own.

env = fake_driver(tmp_path, Scenario(RTX_4090))
subprocess.run([sys.executable, "-m", "launcher", "gpus"], env=os.environ | env)
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml.c")
MIB = 1 << 20
SWITCH, DOWN = -1, -2
# Where cards are on the PCI bus, and where the switches are: far from any card.
FIRST_BUS, SWITCH_BUS = 0x10, 0xC0
ZIG = (sys.executable, "-m", "ziglang", "cc")


@dataclass(frozen=True)
class Card:
    """A GPU as NVML sees it, sizes in MiB as nvidia-smi prints them; `total` None is a GPU without memory of its own.

    `used` is what the driver counts, `computes` and `draws` are the (pid, MiB) that it lists, -1 for a size that it does not
    tell. After `calls` calls, every call returns `code`. `links` are its NVLinks: the number of the card at the other end,
    SWITCH, or DOWN for one that is not connected; a card without any has no such thing.
    `health` are lines for nvml.c, such as "clock 1500 2619".
    """

    name: str
    total: int | None
    reserved: int = 0
    used: int = 0
    compute: tuple[int, int] | None = None
    computes: tuple[tuple[int, int], ...] = ()
    draws: tuple[tuple[int, int], ...] = ()
    untold: bool = False
    instances: tuple["Card", ...] = ()
    calls: int = 0
    code: int = 0
    links: tuple[int, ...] = ()
    health: tuple[str, ...] = ()


class Scenario:
    """What the driver says. `init` is what nvmlInit returns, `cuda` the version as it writes it, 0 for an error.

    `lacks` are the parts of nvml.c that a driver of this age does not have.
    """

    def __init__(
        self, *cards: Card, driver: str = "580.95.05", cuda: int = 13000, init: int = 0, lacks: tuple[str, ...] = ()
    ) -> None:
        self.cards = cards
        self.driver = driver
        self.cuda = cuda
        self.init = init
        self.lacks = lacks

    def text(self) -> str:
        """The file that nvml.c reads."""
        lines = [f"driver {self.driver}", f"cuda {self.cuda}", f"init {self.init}"]
        for number, card in enumerate(self.cards):
            lines += ["card", *_described(card, uuid(number)), f"pci {FIRST_BUS + number}", *map(_link, card.links)]
            for slot, instance in enumerate(card.instances):
                lines += ["instance", *_described(instance, uuid(number, slot))]
        return "\n".join(lines) + "\n"


def uuid(card: int, slot: int | None = None) -> str:
    """The UUID of the card with this number, or of an instance in this slot of it."""
    letter = "0123456789abcdef"[card]
    return f"GPU-{letter * 8}-fake" if slot is None else f"MIG-{letter * 8}-{slot}-fake"


def _described(card: Card, name: str) -> list[str]:
    lines = [f"name {card.name}", f"uuid {name}"]
    if card.total is not None:
        sizes = (card.total, card.reserved, card.total - card.reserved - card.used)
        lines.append("memory " + " ".join(str(size * MIB) for size in sizes))
    if card.compute:
        lines.append(f"compute {card.compute[0]} {card.compute[1]}")
    for word, processes in (("computes", card.computes), ("draws", card.draws)):
        lines += [f"{word} {pid} {used * MIB if used >= 0 else -1}" for pid, used in processes]
    if card.untold:
        lines.append("untold")
    lines += card.health
    if card.code:
        lines.append(f"falls {card.calls} {card.code}")
    return lines


def _link(end: int) -> str:
    """A link as nvml.c reads it; 0 and 2 are NVML_NVLINK_DEVICE_TYPE_GPU and ..._SWITCH."""
    if end == DOWN:
        return "link 0 255 0"
    return f"link 1 2 {SWITCH_BUS}" if end == SWITCH else f"link 1 0 {FIRST_BUS + end}"


RTX_3060 = Card("NVIDIA GeForce RTX 3060", 12288, 380, compute=(8, 6))
RTX_4090 = Card("NVIDIA GeForce RTX 4090", 24564, 357, compute=(8, 9))
A100_80 = Card("NVIDIA A100-SXM4-80GB", 81920, 768, compute=(8, 0))
H100 = Card("NVIDIA H100 80GB HBM3", 81559, 479, compute=(9, 0))
H100_SWITCHED = replace(H100, links=(SWITCH,) * 18)
GB10 = Card("NVIDIA GB10", None, compute=(12, 1))

EIGHT_H100 = Scenario(*[H100_SWITCHED] * 8)
MIXED = Scenario(RTX_4090, RTX_3060)


def fake_driver(folder: Path, scenario: Scenario | None, *, compiler: Sequence[str] = ()) -> dict[str, str]:
    """The environment in which a process meets `scenario`, None being no driver at all; `folder` is made and filled.

    `compiler` is by default gcc, or zig where there is none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / "libnvidia-ml.so.1"
    if scenario is None:
        # A file that is no library is refused by the loader before it comes to a driver that this machine may have.
        library.write_bytes(b"")
        return {"LD_LIBRARY_PATH": str(folder)}
    library.write_bytes(_built(tuple(compiler) or default_compiler(), scenario.lacks))
    described = folder / "scenario"
    described.write_text(scenario.text(), encoding="utf-8")
    return {"LD_LIBRARY_PATH": str(folder), "FAKE_NVML_SCENARIO": str(described)}


def default_compiler() -> tuple[str, ...]:
    """How C is compiled here."""
    gcc = shutil.which("gcc")
    return (gcc,) if gcc else ZIG


@cache
def _built(compiler: tuple[str, ...], lacks: tuple[str, ...]) -> bytes:
    """The library; compiled once for each way of building it."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "libnvidia-ml.so.1"
        flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *(f"-D{part}" for part in lacks)]
        subprocess.run([*compiler, *flags, "-o", str(library), str(SOURCE)], check=True, timeout=120)
        return library.read_bytes()
