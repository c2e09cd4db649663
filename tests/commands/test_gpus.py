import io
import json
import time
from dataclasses import replace

import pytest
from rich.console import Console

from launcher.commands import gpus
from launcher.errors import LauncherError
from launcher.gpu import GIB, Cpu, Gpu, GpuProcess, Inventory, NvLinks, Ram
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


def linked(*links: NvLinks | None) -> Inventory:
    return replace(BARE, gpus=tuple(replace(CARD, index=index, nvlinks=each) for index, each in enumerate(links)))


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
    "the driver": (replace(held(), cuda="13.0"), ["driver 580.95.05, CUDA up to 13.0"]),
    "a driver that does not tell its CUDA": (held(), ["driver 580.95.05, CUDA unknown"]),
    "a MIG slice": (
        replace(BARE, gpus=(replace(CARD, index=2, uuid="MIG-7", name="NVIDIA A30 MIG 1g.6gb", card=1),)),
        ["A30 MIG 1g.6gb", "GPU 2 is a MIG slice of card 1: MIG-7"],
    ),
    "unified memory": (replace(BARE, gpus=(replace(CARD, unified=True),)), ["GPU 0 has unified memory: it is the host's RAM"]),
    "a pair with a bridge": (linked(NvLinks(4, (1,)), NvLinks(4, (0,))), ["NVLink 0-1 (4 links each)"]),
    "two pairs": (
        linked(NvLinks(1, (2,)), NvLinks(1, (3,)), NvLinks(1, (0,)), NvLinks(1, (1,))),
        ["NVLink 0-2 (1 link each); 1-3 (1 link each)"],
    ),
    "switches": (
        linked(*(NvLinks(18, tuple({0, 1, 2} - {index}), switched=True) for index in range(3))),
        ["NVLink 0-1-2 all to all over switches (18 links each)"],
    ),
    "links to a GPU that is hidden": (linked(NvLinks(4), NvLinks(0)), ["NVLink 0 to GPUs that are not shown (4 links each)"]),
    "cards without links": (linked(NvLinks(0), NvLinks(0)), ["NVLink none"]),
    "a driver that knows no links": (linked(None, None), ["NVLink unknown: the driver does not tell"]),
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


@pytest.mark.parametrize(
    "inventory",
    [
        pytest.param(held(), id="one card"),
        pytest.param(replace(BARE, gpus=(replace(CARD, uuid="MIG-7", card=1), CARD)), id="a slice and one card"),
    ],
)
def test_one_whole_card_has_nobody_to_be_joined_to(inventory: Inventory) -> None:
    assert "NVLink" not in shown(inventory)


def test_watching_looks_each_time_and_ends_with_a_gpu_that_is_lost() -> None:
    left = [held(free=6), held(free=5)]

    def look() -> Inventory:
        if not left:
            raise LauncherError("GPU 0 does not answer the driver: GPU is lost")
        return left.pop(0)

    watched = gpus.watch(look, every=0.05)
    begun = time.monotonic()
    assert [next(watched).inventory.gpus[0].free // GIB for _ in range(2)] == [6, 5]
    with pytest.raises(LauncherError, match="GPU is lost"):
        next(watched)
    assert time.monotonic() - begun >= 2 * 0.05


def test_a_narrow_terminal_breaks_no_name_and_no_size() -> None:
    text = shown(held(GpuProcess(1234567, "VLLM::EngineCore", 18 * GIB)), width=80)
    assert any("GeForce RTX 4090" in line and "18.0 / 24.0" in line for line in text.splitlines()), text


def test_the_longest_name_leaves_the_headings_whole() -> None:
    slice_ = replace(CARD, name="NVIDIA H100 80GB HBM3 MIG 3g.40gb", uuid="MIG-7", card=0)
    assert "compute" in shown(replace(BARE, gpus=(slice_,)), width=80)


def test_a_terminal_without_utf8_can_show_it() -> None:
    assert "#########..." in shown(held(), encoding="ascii")


def test_programs_get_all_of_it() -> None:
    inventory = replace(held(GpuProcess(7, "Xorg", GIB)), unsupported=("Radeon",))
    value = json.loads(json.dumps(gpus.run(inventory).json()))
    assert list(value) == ["driver", "cuda", "gpus", "cpu", "ram", "unsupported"]
    assert from_json(value) == inventory
