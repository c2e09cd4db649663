import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from launcher.errors import LauncherError
from launcher.gpu import GIB, Gpu, GpuProcess, Health, Load, NvLinks, Ram
from launcher.nvml import Driver
from tests.fake_nvml import (
    A100_80,
    DOWN,
    EIGHT_H100,
    GB10,
    H100,
    H100_SWITCHED,
    MIB,
    MIXED,
    RTX_3060,
    RTX_4090,
    SWITCH,
    ZIG,
    Card,
    Scenario,
    default_compiler,
    fake_driver,
    uuid,
)

ROOT = Path(__file__).parents[1]
RAM = Ram(total=120 * GIB, available=100 * GIB)
ME = os.getpid()
MY_NAME = psutil.Process().name()
NOBODY = 2**22 + 1  # above the largest pid that Linux gives out

# The library stays loaded and cached in a process, so each scenario has one of its own, and answers through its stdout.
ASK = """
import pickle, sys
from launcher import nvml
from launcher.errors import LauncherError
what, *words = pickle.load(sys.stdin.buffer)
try:
    answer = nvml.read(words[0], visible=words[1]) if what == "read" else getattr(nvml, what)(words)
except LauncherError as error:
    answer = error
import pynvml
try:
    pynvml.nvmlShutdown()
    left_open = True
except pynvml.NVMLError:
    left_open = False
pickle.dump((answer, left_open), sys.stdout.buffer)
"""


def ask(env: dict[str, str], visible: str | None = None) -> Driver | LauncherError:
    answer = answered(env, "read", RAM, visible)
    assert isinstance(answer, Driver | LauncherError)
    return answer


def answered(env: dict[str, str], *asked: object) -> object:
    run = subprocess.run(
        [sys.executable, "-c", ASK], env=os.environ | env, cwd=ROOT, input=pickle.dumps(asked), capture_output=True, check=True
    )
    answer, left_open = pickle.loads(run.stdout)  # noqa: S301 (from our own child)
    assert not left_open, "the driver was not shut down"
    return answer


def gpu(card: Card, /, index: int = 0, **others: object) -> Gpu:
    assert card.total is not None
    assert card.compute is not None
    seen = {
        "index": index,
        "uuid": uuid(index),
        "name": card.name,
        "total": (card.total - card.reserved) * MIB,
        "free": (card.total - card.reserved - card.used) * MIB,
        "compute": card.compute,
        "nvlinks": NvLinks(0),
    }
    return Gpu(**(seen | others))  # type: ignore[arg-type]  # a table of Gpu's own fields


DESKTOP = Card(
    "NVIDIA GeForce RTX 4090", 24564, 357, used=900, compute=(8, 9), computes=((ME, 500),), draws=((NOBODY, 400), (ME, 500))
)
SILENT = Card("NVIDIA GeForce RTX 4090", 24564, 357, used=900, compute=(8, 9), computes=((NOBODY, -1),))
UNTOLD = Card("NVIDIA GeForce RTX 4090", 24564, 357, used=900, compute=(8, 9), computes=((NOBODY, 3),), untold=True)
SLICE = Card("NVIDIA H100 80GB HBM3 MIG 3g.40gb", 40448, 75, used=100, computes=((NOBODY, 25),))
SPLIT = Card("NVIDIA H100 80GB HBM3", 81559, 479, compute=(9, 0), instances=(SLICE, SLICE))
LOST = 15  # NVML_ERROR_GPU_IS_LOST
FORBIDDEN = 4  # NVML_ERROR_NO_PERMISSION
LOST_LATER = Card("NVIDIA H100 80GB HBM3", 81559, 479, compute=(9, 0), calls=4, code=LOST)
# All but its links is told with ten calls.
LOST_AT_ITS_LINKS = Card("NVIDIA H100 80GB HBM3", 81559, 479, compute=(9, 0), calls=20, code=LOST, links=(SWITCH,) * 18)
LOST_BEFORE = Card("NVIDIA H100 80GB HBM3", 81559, 479, compute=(9, 0), code=LOST)
OF_OTHERS = Card("NVIDIA H100 80GB HBM3", 81559, 479, compute=(9, 0), code=FORBIDDEN)


def slices(*indexes: int, card: int) -> tuple[Gpu, ...]:
    process = (GpuProcess(pid=NOBODY, name="", used=25 * MIB),)
    return tuple(
        gpu(SLICE_OF_H100, index, uuid=uuid(card, slot), processes=process, card=card) for slot, index in enumerate(indexes)
    )


SLICE_OF_H100 = Card(SLICE.name, SLICE.total, SLICE.reserved, SLICE.used, compute=(9, 0))

ALL_TO_ALL = tuple(
    gpu(H100, index, nvlinks=NvLinks(18, tuple(other for other in range(8) if other != index), switched=True))
    for index in range(8)
)
SEEN = {
    "no driver library": (None, ()),
    "a driver that is not loaded": (Scenario(init=9), ()),
    "a driver without cards": (Scenario(), ()),
    "one consumer card": (Scenario(RTX_4090), (gpu(RTX_4090),)),
    "two cards of 80 GB": (Scenario(A100_80, A100_80), (gpu(A100_80, 0), gpu(A100_80, 1))),
    "three equal cards": (Scenario(A100_80, A100_80, A100_80), tuple(gpu(A100_80, index) for index in range(3))),
    "eight cards behind switches": (EIGHT_H100, ALL_TO_ALL),
    "two kinds of cards": (MIXED, (gpu(RTX_4090, 0), gpu(RTX_3060, 1))),
    "a desktop's card, a process on both lists once": (
        Scenario(DESKTOP),
        (gpu(DESKTOP, processes=(GpuProcess(ME, MY_NAME, 500 * MIB), GpuProcess(NOBODY, "", 400 * MIB))),),
    ),
    "a driver that does not tell sizes": (Scenario(SILENT), (gpu(SILENT, processes=(GpuProcess(NOBODY, "", 0),)),)),
    "a driver that does not tell processes": (Scenario(UNTOLD), (gpu(UNTOLD),)),
    "a split card after a whole one": (Scenario(H100, SPLIT), (gpu(H100, 0), *slices(2, 3, card=1))),
    "a split card before a whole one": (Scenario(SPLIT, H100), (*slices(2, 3, card=0), gpu(H100, 1))),
    "memory shared with the host": (
        Scenario(GB10),
        (Gpu(0, uuid(0), "NVIDIA GB10", 120 * GIB, 100 * GIB, (12, 1), nvlinks=NvLinks(0), unified=True),),
    ),
    "a card that belongs to others": (Scenario(H100, OF_OTHERS, H100), (gpu(H100, 0), gpu(H100, 2))),
}


@pytest.mark.parametrize(("scenario", "gpus"), SEEN.values(), ids=SEEN.keys())
def test_the_gpus_are_those_that_the_driver_shows(tmp_path: Path, scenario: Scenario | None, gpus: tuple[Gpu, ...]) -> None:
    version, cuda = (scenario.driver, "13.0") if scenario and not scenario.init else ("", "")
    assert ask(fake_driver(tmp_path, scenario)) == Driver(version, gpus, cuda)


BRIDGED = (replace(A100_80, links=(1,) * 4 + (DOWN,)), replace(A100_80, links=(0,) * 4 + (DOWN,)))
RING = tuple(replace(A100_80, links=((card + 1) % 4, (card - 1) % 4)) for card in range(4))
LINKS: dict[str, tuple[Scenario, list[NvLinks | None]]] = {
    "two cards with a bridge": (Scenario(*BRIDGED), [NvLinks(4, (1,)), NvLinks(4, (0,))]),
    "a ring of four": (Scenario(*RING), [NvLinks(2, peers) for peers in ((1, 3), (0, 2), (1, 3), (0, 2))]),
    "links that are all down": (Scenario(replace(A100_80, links=(DOWN, DOWN))), [NvLinks(0)]),
    "one card of a machine with switches": (Scenario(H100_SWITCHED), [NvLinks(18, (), switched=True)]),
    "a pair behind switches, and a card that is not": (
        Scenario(H100_SWITCHED, H100, H100_SWITCHED),
        [NvLinks(18, (2,), switched=True), NvLinks(0), NvLinks(18, (0,), switched=True)],
    ),
    "a card that is split has no links to use": (
        Scenario(H100_SWITCHED, replace(SPLIT, links=(SWITCH,) * 18)),
        [NvLinks(18, (), switched=True), NvLinks(0), NvLinks(0)],
    ),
    "a driver that knows no links": (Scenario(*BRIDGED, lacks=("WITHOUT_NVLINK",)), [None, None]),
    "a driver that does not tell what is at their ends": (
        Scenario(*BRIDGED, lacks=("WITHOUT_LINK_TYPES",)),
        [NvLinks(4, (1,)), NvLinks(4, (0,))],
    ),
    "the same with switches": (Scenario(H100_SWITCHED, H100_SWITCHED, lacks=("WITHOUT_LINK_TYPES",)), [NvLinks(18)] * 2),
}


@pytest.mark.parametrize(("scenario", "links"), LINKS.values(), ids=LINKS.keys())
def test_who_is_joined_to_whom(tmp_path: Path, scenario: Scenario, links: list[NvLinks | None]) -> None:
    driver = ask(fake_driver(tmp_path, scenario))
    assert isinstance(driver, Driver)
    assert [gpu.nvlinks for gpu in driver.gpus] == links


def test_peers_are_those_that_may_be_used(tmp_path: Path) -> None:
    driver = ask(fake_driver(tmp_path, EIGHT_H100), "2,5,7")
    assert isinstance(driver, Driver)
    assert [gpu.nvlinks for gpu in driver.gpus] == [NvLinks(18, peers, switched=True) for peers in ((5, 7), (2, 7), (2, 5))]


CUDA = {
    "a whole version": (Scenario(RTX_4090, cuda=13000), "13.0"),
    "a minor one": (Scenario(RTX_4090, cuda=12080), "12.8"),
    "a driver that does not know it": (Scenario(RTX_4090, cuda=0), ""),
    "a driver that cannot be asked": (Scenario(RTX_4090, lacks=("WITHOUT_CUDA",)), ""),
}


@pytest.mark.parametrize(("scenario", "cuda"), CUDA.values(), ids=CUDA.keys())
def test_which_cuda_the_driver_runs(tmp_path: Path, scenario: Scenario, cuda: str) -> None:
    assert ask(fake_driver(tmp_path, scenario)) == Driver("580.95.05", (gpu(RTX_4090),), cuda)


VISIBLE = {
    "one number": ("1", [1]),
    "numbers in any order": ("2, 0", [0, 2]),
    "nothing": ("", []),
    "none": ("-1", []),
    "what a scheduler writes for none": ("NoDevFiles", []),
    "everything before a number that is not there": ("0,7,1", [0]),
    "a UUID": (uuid(1), [1]),
    "the beginning of a UUID": ("GPU-2", [2]),
    "a beginning that fits several": ("GPU-", []),
    "the first instance of a split card": ("3", [4]),
    "an instance": (uuid(3, 1), [5]),
}


@pytest.mark.parametrize(("visible", "indexes"), VISIBLE.values(), ids=VISIBLE.keys())
def test_what_cuda_visible_devices_leaves(tmp_path: Path, visible: str, indexes: list[int]) -> None:
    driver = ask(fake_driver(tmp_path, Scenario(H100, H100, H100, SPLIT)), visible)
    assert isinstance(driver, Driver)
    assert [gpu.index for gpu in driver.gpus] == indexes


FAULTS = {
    "a card that falls off the bus while it is asked": (
        Scenario(H100, LOST_LATER, H100),
        "GPU 1 does not answer the driver: GPU is lost",
        "CUDA_VISIBLE_DEVICES=0,2",
    ),
    "a card that falls off the bus while its links are asked": (
        Scenario(LOST_AT_ITS_LINKS, H100),
        "GPU 0 does not answer the driver: GPU is lost",
        "CUDA_VISIBLE_DEVICES=1",
    ),
    "a card that was lost before": (
        Scenario(LOST_BEFORE, H100),
        "GPU 0 does not answer the driver: GPU is lost",
        "CUDA_VISIBLE_DEVICES=1",
    ),
    "a driver from before version 510": (
        Scenario(H100, lacks=("OLD_DRIVER",), driver="470.256.02"),
        "the NVIDIA driver is too old",
        "580",
    ),
    "a driver that was updated under way": (
        Scenario(init=18),
        "the NVIDIA driver does not work: RM has detected an NVML/RM version mismatch.",
        "reboot",
    ),
}


@pytest.mark.parametrize(("scenario", "message", "hint"), FAULTS.values(), ids=FAULTS.keys())
def test_a_broken_driver_or_gpu_is_told(tmp_path: Path, scenario: Scenario, message: str, hint: str) -> None:
    fault = ask(fake_driver(tmp_path, scenario))
    assert isinstance(fault, LauncherError)
    assert fault.message == message
    assert hint in fault.hint


def test_a_lost_gpu_that_is_left_out_does_not_stop_the_others(tmp_path: Path) -> None:
    env = fake_driver(tmp_path, Scenario(H100, LOST_BEFORE, LOST_LATER, H100))
    assert ask(env, "0,3") == Driver("580.95.05", (gpu(H100, 0), gpu(H100, 3)), "13.0")


def test_a_broken_driver_is_left_alone_when_no_gpu_is_wanted(tmp_path: Path) -> None:
    assert ask(fake_driver(tmp_path, Scenario(init=18)), "") == Driver("", ())


@pytest.mark.parametrize("compiler", [default_compiler(), ZIG], ids=["the compiler of this machine", "zig from a package"])
def test_the_fake_driver_can_be_built_by(compiler: tuple[str, ...], tmp_path: Path) -> None:
    env = fake_driver(tmp_path, Scenario(RTX_3060), compiler=compiler)
    assert ask(env) == Driver("580.95.05", (gpu(RTX_3060),), "13.0")


# Bits of nvmlClocksEventReasons in NVIDIA's nvml.h: 0x01 idle, 0x04 power cap, 0x20 and 0x40 heat, 0x80 power brake.
HEALTH = {
    "a card that tells nothing": ((), Health(0, idle=True)),
    "a card at rest": (("clock 405 10501", "reasons 1", "persistence 0"), Health(0, 405, 10_501, idle=True, persistent=False)),
    "a card at work, held to its rating": (("clock 2619 2619", "reasons 4", "ecc 0"), Health(0, 2_619, 2_619)),
    "a card that nothing holds back": (("reasons 0", "persistence 1"), Health(0, persistent=True)),
    "a hot card": (("reasons 96",), Health(0, slowed=("too hot", "near its highest temperature"))),
    "a card without enough power": (("reasons 128",), Health(0, slowed=("the power supply asks for it",))),
    "a card with faults": (
        ("ecc 3", "remapped 1 0", "reasons 0"),
        Health(0, uncorrected=3, remap_pending=True),
    ),
    "a card that is beyond repair": (("remapped 0 1", "reasons 0"), Health(0, remap_failed=True)),
}


@pytest.mark.parametrize(("lines", "expected"), HEALTH.values(), ids=HEALTH.keys())
def test_how_a_card_is(tmp_path: Path, lines: tuple[str, ...], expected: Health) -> None:
    env = fake_driver(tmp_path, Scenario(replace(H100, health=lines)))
    assert answered(env, "health", 0) == (expected,)


def test_a_driver_that_fails_while_it_is_asked_for_health_is_told(tmp_path: Path) -> None:
    fault = answered(fake_driver(tmp_path, Scenario(LOST_BEFORE)), "health", 0)
    assert isinstance(fault, LauncherError)
    assert "GPU is lost" in fault.message


# Milliwatts, percent and degrees Celsius, as nvml.h has nvmlDeviceGetPowerUsage, nvmlUtilization_t and nvmlTemperature_t.
WORK = ("busy 97", "warm 61", "power 412500")
LOADS = {
    "a card at work": (Scenario(replace(H100, health=WORK)), Load(97.0, 61.0, 412.5)),
    "a driver from before there was a newer way to ask for the temperature": (
        Scenario(replace(H100, health=WORK), lacks=("WITHOUT_TEMPERATURE_V",)),
        Load(97.0, 61.0, 412.5),
    ),
    "a card at rest does nothing, which is no missing figure": (
        Scenario(replace(H100, health=("busy 0", "warm 31"))),
        Load(0.0, 31.0, None),
    ),
    "a card that tells nothing": (Scenario(H100), Load()),
}


@pytest.mark.parametrize(("scenario", "expected"), LOADS.values(), ids=LOADS.keys())
def test_what_a_card_does(tmp_path: Path, scenario: Scenario, expected: Load) -> None:
    assert answered(fake_driver(tmp_path, scenario), "loads", 0) == {0: expected}


def test_a_driver_that_fails_while_it_is_asked_for_work_is_told(tmp_path: Path) -> None:
    fault = answered(fake_driver(tmp_path, Scenario(LOST_BEFORE)), "loads", 0)
    assert isinstance(fault, LauncherError)
    assert "GPU is lost" in fault.message
