"""Machines that are not here: named cards (`2xA100-80GB`), several of them, or what `launcher gpus --json` wrote elsewhere."""

import difflib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from launcher.errors import LauncherError
from launcher.gpu import GIB, Cpu, Gpu, GpuProcess, Inventory, NvLinks, Ram

T = TypeVar("T")
_ABSENT: Final = object()

# The most GPUs that one host was built with.
MOST_GPUS = 16
# Like machines of one cluster: more of them serve more copies of a model, not a larger one.
MOST_NODES = 64
LARGEST = 1024  # GiB of one GPU; beyond it somebody wrote MiB
CORES = 16
# The first driver for CUDA 13.
DRIVER = "580.65.06"
EXAMPLES = (
    "for example 2xA100-80GB, RTX-4090, 2xMY-CARD:48GiB, four machines as '4x(8xH100-80GB)', "
    "or machine.json as `launcher gpus --json` writes it"
)

# What an idle card's total is short of when an engine has begun: its own CUDA context. Seen on the H100: 78.57 of 79.18 GiB.
CONTEXT = 0.6
# On unified memory the system itself is short of more. Seen on the GB10: 112.04 of 119.63 GiB.
SYSTEM = 7.6


@dataclass(frozen=True, slots=True)
class Card:
    """A kind of GPU: `total` is CUDA's total memory in GiB, of which engines take their share, not the one on the box."""

    name: str
    total: float
    compute: tuple[int, int]
    taken: float = CONTEXT
    arch: str = "x86_64"
    unified: bool = False


# Totals are those that PyTorch and vLLM print on such a card, the usual one where drivers differ by some MiB.
CARDS = {
    "T4": Card("Tesla T4", 14.56, (7, 5)),
    "V100-16GB": Card("Tesla V100-SXM2-16GB", 15.77, (7, 0)),
    "V100-32GB": Card("Tesla V100-SXM2-32GB", 31.73, (7, 0)),
    "RTX-3060": Card("NVIDIA GeForce RTX 3060", 11.63, (8, 6)),
    "RTX-3090": Card("NVIDIA GeForce RTX 3090", 23.58, (8, 6)),
    "RTX-4060Ti-8GB": Card("NVIDIA GeForce RTX 4060 Ti", 7.6, (8, 9)),  # not measured: nominal less what its sister lacks
    "RTX-4060Ti-16GB": Card("NVIDIA GeForce RTX 4060 Ti", 15.57, (8, 9)),
    "RTX-4080": Card("NVIDIA GeForce RTX 4080", 15.57, (8, 9)),  # not measured: as the other 16 GB card of its generation
    "RTX-4090": Card("NVIDIA GeForce RTX 4090", 23.64, (8, 9)),
    "RTX-5080": Card("NVIDIA GeForce RTX 5080", 15.47, (12, 0)),
    "RTX-5090": Card("NVIDIA GeForce RTX 5090", 31.36, (12, 0)),
    "A10": Card("NVIDIA A10", 22.18, (8, 6)),
    "A10G": Card("NVIDIA A10G", 21.98, (8, 6)),
    "L4": Card("NVIDIA L4", 22.03, (8, 9)),
    "L40S": Card("NVIDIA L40S", 44.4, (8, 9)),
    "A6000": Card("NVIDIA RTX A6000", 47.4, (8, 6)),  # 47.4 to 47.53 on cards with 49,140 MiB
    "RTX-6000-Ada": Card("NVIDIA RTX 6000 Ada Generation", 47.4, (8, 9)),  # the same
    "RTX-PRO-6000": Card("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 94.97, (12, 0)),
    "A100-40GB": Card("NVIDIA A100-SXM4-40GB", 39.49, (8, 0)),
    "A100-80GB": Card("NVIDIA A100-SXM4-80GB", 79.25, (8, 0)),
    "H100-80GB": Card("NVIDIA H100 80GB HBM3", 79.18, (9, 0)),
    "H200": Card("NVIDIA H200", 139.8, (9, 0)),
    "B200": Card("NVIDIA B200", 178.35, (10, 0)),
    "B300": Card("NVIDIA B300 SXM6 AC", 267.69, (10, 3)),
    "GB10": Card("NVIDIA GB10", 119.63, (12, 1), taken=SYSTEM, arch="aarch64", unified=True),
}

SIZE = re.compile(r"-\d+GB$")
# Meant only where the size is said: the other one is what the name alone is taken for.
UNUSUAL = frozenset({"v10032gb"})

# A card that nobody named is taken for an Ampere: the oldest that runs bf16, and nothing of what came later.
UNKNOWN_COMPUTE = (8, 0)


def inventory_on(text: str) -> Inventory:
    """The machine that `--on` names: `[COUNTx]CARD`, `[COUNTx]NAME:SIZEGiB`, or the path of an inventory; else LauncherError.

    `NODESx(...)` are so many like machines.
    Of a machine with named cards the rest is assumed: an idle x86_64 host (aarch64 for the GB10) with 16 cores, twice as much
    RAM as GPU memory (the very same memory for the GB10), and a driver that is current.
    """
    if text.endswith(".json") or "/" in text:
        return _from_file(Path(text))
    if cluster := re.fullmatch(r"\s*(\d{1,4})\s*x\s*\((.*)\)\s*", text, re.IGNORECASE):
        return _cluster(int(cluster[1]), inventory_on(cluster[2]))
    count, name, size = _parts(text)
    return _machine(_card(name, size), count)


def _from_file(path: Path) -> Inventory:
    hint = f"a machine is given as a name or a file, {EXAMPLES}"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LauncherError(f"cannot read the machine {path}: {error.strerror}", hint=hint) from None
    except ValueError as error:
        raise LauncherError(f"{path} is not JSON: {error}", hint=hint) from None
    return from_json(value, source=str(path))


def _parts(text: str) -> tuple[int, str, float]:
    """Count, name and size in GiB (0 where the name must say it). A card's "GB" is 2^30 bytes on the box too."""
    form = re.fullmatch(r"\s*(?:(\d{1,4})\s*x)?\s*([^:]*?)\s*(?::\s*(\d+(?:\.\d+)?)\s*Gi?B?)?\s*", text, re.IGNORECASE)
    if not form or not form[2]:
        raise LauncherError(f"cannot understand the machine {text!r}", hint=EXAMPLES)
    count, size = int(form[1] or 1), float(form[3] or 0)
    if not 1 <= count <= MOST_GPUS:
        raise LauncherError(f"a machine has 1 to {MOST_GPUS} GPUs, not {count}", hint=EXAMPLES)
    if form[3] and not 1 <= size <= LARGEST:
        raise LauncherError(f"a GPU has 1 to {LARGEST} GiB, not {form[3]}", hint=EXAMPLES)
    return count, form[2], size


def _card(name: str, size: float) -> Card:
    matches = _matches(name)
    if size:
        known = CARDS[matches[0]] if matches else None
        return Card(known.name if known else name, size, known.compute if known else UNKNOWN_COMPUTE)
    if len(matches) == 1:
        return CARDS[matches[0]]
    if matches:
        raise LauncherError(f"{name} comes in several sizes", hint=f"say which: {' or '.join(matches)}")
    closest = difflib.get_close_matches(_plain(name), [_plain(key) for key in CARDS], n=1, cutoff=0.65)
    meant = [key for key in CARDS if _plain(key) in closest]
    hint = f"did you mean {meant[0]}? " if meant else ""
    raise LauncherError(f"unknown GPU {name!r}", hint=f"{hint}Known: {', '.join(CARDS)}; {EXAMPLES}")


def _matches(name: str) -> list[str]:
    """The cards that `name` can mean: exactly one by its full name, or all sizes of it."""
    wanted = _words(name)
    exact = [key for key, card in CARDS.items() if wanted in (_words(key), _words(card.name))]
    return exact or [key for key in CARDS if wanted == _words(SIZE.sub("", key)) and _plain(key) not in UNUSUAL]


def _words(name: str) -> list[str]:
    """Its words and numbers, in any order: `RTX 6000 Pro` is the RTX PRO 6000."""
    return sorted(re.findall(r"\d+|[a-z]+", _plain(name)))


def _plain(name: str) -> str:
    """`NVIDIA GeForce RTX 4090`, `rtx-4090` and `4090` are one."""
    return re.sub(r"nvidia|geforce|tesla|rtx|[\s_-]", "", name.lower())


def _machine(card: Card, count: int) -> Inventory:
    total = int(card.total * GIB)
    free = int((card.total - card.taken) * GIB)
    gpus = tuple(Gpu(index, str(index), card.name, total, free, card.compute, unified=card.unified) for index in range(count))
    ram = Ram(total, free) if card.unified else Ram(2 * count * total, 2 * count * total)
    return Inventory(gpus=gpus, cpu=Cpu(name="assumed", cores=CORES, arch=card.arch), ram=ram, driver=DRIVER)


def _cluster(nodes: int, each: Inventory) -> Inventory:
    """So many machines like this one; a GPU's index counts through all of them."""
    if not 1 <= nodes <= MOST_NODES:
        raise LauncherError(f"a cluster has 1 to {MOST_NODES} machines, not {nodes}", hint=EXAMPLES)
    if any(gpu.node for gpu in each.gpus):
        raise LauncherError("a cluster is made of machines, not of clusters", hint=EXAMPLES)
    size = len(each.gpus)
    gpus = (replace(gpu, index=node * size + gpu.index, node=node) for node in range(nodes) for gpu in each.gpus)
    return replace(each, gpus=tuple(gpus), ram=Ram(nodes * each.ram.total, nodes * each.ram.available))


def to_json(inventory: Inventory) -> dict[str, Any]:
    """The inventory as plain values: sizes in bytes, compute capabilities as nvidia-smi writes them ("8.9")."""
    gpus = [asdict(gpu) | {"compute": f"{gpu.compute[0]}.{gpu.compute[1]}"} for gpu in inventory.gpus]
    for gpu in gpus:
        gpu["processes"] = list(gpu["processes"])
        if gpu["nvlinks"]:
            gpu["nvlinks"]["peers"] = list(gpu["nvlinks"]["peers"])
    return {
        "driver": inventory.driver,
        "cuda": inventory.cuda,
        "gpus": gpus,
        "cpu": asdict(inventory.cpu),
        "ram": asdict(inventory.ram),
        "unsupported": list(inventory.unsupported),
    }


def from_json(value: object, *, source: str = "the inventory") -> Inventory:
    """The inventory that `to_json` wrote; a LauncherError naming `source` tells everything that is wrong with it at once.

    What no plan is made from (CUDA, links, cards of slices, whose memory it is) may be left out by a file written by hand.
    """
    faults: list[str] = []
    record = _Record(value, "", faults)
    gpus = tuple(_gpu(gpu) for gpu in record.records("gpus"))
    cpu, ram = record.record("cpu"), record.record("ram")
    inventory = Inventory(
        gpus=gpus,
        cpu=Cpu(name=cpu.text("name"), cores=cpu.number("cores", 1), arch=cpu.text("arch")),
        ram=Ram(total=ram.number("total", 1), available=ram.number("available")),
        driver=record.text("driver"),
        unsupported=record.texts("unsupported"),
        cuda=record.text("cuda", optional=True),
    )
    for each in (record, cpu, ram):
        each.close()
    faults = faults or _contradictions(gpus)
    if faults:
        raise LauncherError(f"{source} is not an inventory: {'; '.join(faults)}", hint="`launcher gpus --json` writes one")
    return inventory


def _gpu(record: "_Record") -> Gpu:
    processes = record.records("processes")
    links = record.record_or_null("nvlinks")
    gpu = Gpu(
        index=record.number("index"),
        uuid=record.text("uuid"),
        name=record.text("name"),
        total=record.number("total", 1),
        free=record.number("free"),
        compute=record.version("compute"),
        processes=tuple(GpuProcess(each.number("pid"), each.text("name"), each.number("used")) for each in processes),
        nvlinks=NvLinks(links.number("active"), links.numbers("peers"), links.flag("switched")) if links else None,
        card=record.number_or_null("card"),
        unified=record.flag("unified"),
        node=record.number_or_null("node") or 0,
    )
    for each in (record, *processes, *([links] if links else [])):
        each.close()
    return gpu


def _contradictions(gpus: tuple[Gpu, ...]) -> list[str]:
    """What is wrong between values that are each right."""
    indexes = [gpu.index for gpu in gpus]
    twice = [f"index {index} is there twice" for index in sorted({index for index in indexes if indexes.count(index) > 1})]
    return twice + [f"GPU {gpu.index} has more free than its total" for gpu in gpus if gpu.free > gpu.total]


def _is_number(value: object) -> bool:
    # type() and not isinstance: true and false are no numbers.
    return type(value) is int and value >= 0


class _Record:
    """An object at `path` of a JSON file: gives typed values, and notes in `faults` what is missing, wrong or unknown.

    What is absent or no object at all is noted once, and then gives defaults without a word.
    """

    def __init__(self, value: object, path: str, faults: list[str]) -> None:
        self._faults = faults
        self._path = path
        self._asked: list[str] = []
        self._values: dict[str, Any] | None = value if isinstance(value, dict) else None
        if self._values is None and value is not _ABSENT:
            faults.append(f"{path or 'it'} is not an object")

    def close(self) -> None:
        """Note every key that nobody asked for."""
        for key in sorted((self._values or {}).keys() - set(self._asked)):
            closest = difflib.get_close_matches(key, self._asked, n=1)
            self._faults.append(f"unknown key {self._at(key)}" + (f" (did you mean {closest[0]}?)" if closest else ""))

    def text(self, key: str, *, optional: bool = False) -> str:
        return self._get(key, lambda value: isinstance(value, str), "a text", "", optional=optional)

    def number(self, key: str, least: int = 0) -> int:
        return self._get(key, lambda value: _is_number(value) and value >= least, f"a whole number from {least} up", least)

    def number_or_null(self, key: str) -> int | None:
        wanted = "a whole number from 0 up, or null"
        return self._get(key, lambda value: value is None or _is_number(value), wanted, None, optional=True)

    def numbers(self, key: str) -> tuple[int, ...]:
        return tuple(
            self._get(key, lambda value: isinstance(value, list) and all(map(_is_number, value)), "a list of whole numbers", [])
        )

    def flag(self, key: str) -> bool:
        return self._get(key, lambda value: isinstance(value, bool), "true or false", default=False, optional=True)

    def version(self, key: str) -> tuple[int, int]:
        text = self._get(key, lambda value: re.fullmatch(r"\d+\.\d+", str(value)), "a version like 8.9", "0.0")
        major, minor = str(text).split(".")
        return int(major), int(minor)

    def texts(self, key: str) -> tuple[str, ...]:
        return tuple(
            self._get(key, lambda value: isinstance(value, list) and set(map(type, value)) <= {str}, "a list of texts", [])
        )

    def record(self, key: str) -> "_Record":
        return _Record(self._get(key, lambda _value: True, "", _ABSENT), self._at(key), self._faults)

    def record_or_null(self, key: str) -> "_Record | None":
        value = self._get(key, lambda _value: True, "", None, optional=True)
        return None if value is None else _Record(value, self._at(key), self._faults)

    def records(self, key: str) -> "list[_Record]":
        values: list[object] = self._get(key, lambda value: isinstance(value, list), "a list", [])
        return [_Record(value, f"{self._at(key)}[{index}]", self._faults) for index, value in enumerate(values)]

    def _get(self, key: str, fits: Callable[[Any], object], wanted: str, default: T, *, optional: bool = False) -> T:
        self._asked.append(key)
        if self._values is None:
            return default
        if key not in self._values:
            if optional:
                return default
            self._faults.append(f"{self._at(key)} is missing")
            return default
        value: T = self._values[key]
        if fits(value):
            return value
        self._faults.append(f"{self._at(key)} is not {wanted}")
        return default

    def _at(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key
