import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from launcher.commands import gpus
from launcher.gpu import GIB, Cpu, Gpu, GpuProcess, Inventory, Ram
from launcher.machines import from_json

CARD = Gpu(0, "GPU-1", "NVIDIA GeForce RTX 4090", 24 * GIB, 24 * GIB, (8, 9))
BARE = Inventory((), Cpu("AMD EPYC", 8, "x86_64"), Ram(64 * GIB, 48 * GIB))


def held(*processes: GpuProcess, free: int = 6) -> Inventory:
    return replace(BARE, gpus=(replace(CARD, free=free * GIB, processes=processes),), driver="580.95.05")


def shown(inventory: Inventory, *, encoding: str = "utf-8", width: int = 120) -> str:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    Console(file=out, width=width).print(gpus.run(inventory).text())
    out.seek(0)
    return out.read()


SHOWN = {
    "memory in use, with its share": (held(), ["18.0 / 24.0", "#########...", "8.9", "GeForce RTX 4090"]),
    "a card that nobody holds": (held(free=24), ["0.0 / 24.0", "............", " - "]),
    "who holds it": (held(GpuProcess(7, "Xorg", GIB)), ["Xorg (7) 1.0 GiB"]),
    "a process of unknown name and size": (held(GpuProcess(7, "", 0)), ["process (7) "]),
    "a name that looks like markup": (held(GpuProcess(7, "[red]", GIB)), ["[red] (7) 1.0 GiB"]),
    "a GPU's name that looks like markup": (replace(BARE, gpus=(replace(CARD, name="A [b]100"),)), ["A [b]100"]),
    "the largest three of many": (
        held(*(GpuProcess(pid, "python", pid * GIB) for pid in range(1, 6))),
        ["python (5) 5.0 GiB", "python (4)", "python (3)", "and 2 more"],
    ),
    "the driver": (held(), ["driver 580.95.05"]),
    "no GPU": (BARE, ["This machine has no NVIDIA GPU: models run on the CPU."]),
    "GPUs that are hidden": (replace(BARE, driver="580.95.05"), ["no NVIDIA GPU that may be used", "CUDA_VISIBLE_DEVICES"]),
    "the rest of the machine": (BARE, ["CPU AMD EPYC, 8 cores, x86_64", "RAM 48.0 GiB free of 64.0"]),
    "a single core": (replace(BARE, cpu=Cpu("[old]", 1, "x86_64")), ["CPU [old], 1 core, x86_64"]),
    "a GPU of another maker": (
        replace(BARE, unsupported=("Radeon [PRO]",)),
        ["Radeon [PRO] is not supported: only NVIDIA GPUs are."],
    ),
}


@pytest.mark.parametrize(("inventory", "parts"), SHOWN.values(), ids=SHOWN.keys())
def test_what_people_see(inventory: Inventory, parts: list[str]) -> None:
    text = shown(inventory)
    assert [part for part in parts if part not in text] == [], text


def test_a_narrow_terminal_breaks_no_name_and_no_size() -> None:
    text = shown(held(GpuProcess(1234567, "VLLM::EngineCore", 18 * GIB)), width=80)
    assert any("GeForce RTX 4090" in line and "18.0 / 24.0" in line for line in text.splitlines()), text


def test_a_terminal_without_utf8_can_show_it() -> None:
    assert "#########..." in shown(held(), encoding="ascii")


def test_programs_get_all_of_it() -> None:
    inventory = replace(held(GpuProcess(7, "Xorg", GIB)), unsupported=("Radeon",))
    value = json.loads(json.dumps(gpus.run(inventory).json()))
    assert list(value) == ["driver", "gpus", "cpu", "ram", "unsupported"]
    assert from_json(value) == inventory
