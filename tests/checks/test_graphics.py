from dataclasses import replace

import pytest

from launcher.checks.graphics import DriverSeen, Needs, driver, gpu, xids
from launcher.finding import Finding
from launcher.gpu import GIB, Gpu, GpuProcess, Health

# What vLLM 0.32's lock and adapter say: nvidia-cuda-runtime==13.0.96, and code from Turing on.
VLLM = Needs("vllm 0.32.0", (13, 0), (7, 5))
OLDER = Needs("older 1.0", (12, 8), (7, 0))

DRIVERS: dict[str, tuple[DriverSeen, tuple[Needs, ...], str, str, str]] = {
    "a machine without any GPU runs models on the CPU": (DriverSeen(), (VLLM,), "pass", "no NVIDIA GPU", ""),
    "a new driver runs what was built for its CUDA": (
        DriverSeen("580.95.05", (13, 0)),
        (VLLM,),
        "pass",
        "580.95.05, which supports CUDA 13.0",
        "",
    ),
    "within a major version an older driver will do": (
        DriverSeen("580.95.05", (13, 0)),
        (replace(VLLM, cuda=(13, 2)),),
        "pass",
        "580.95.05",
        "",
    ),
    "a driver for CUDA 12 does not run builds for CUDA 13": (
        DriverSeen("570.86.10", (12, 8)),
        (VLLM,),
        "fail",
        "supports CUDA 12.8, but vllm 0.32.0 for CUDA 13.0",
        "install driver 580 or newer",
    ),
    "a driver that is too old for one of two engines is no end": (
        DriverSeen("570.86.10", (12, 8)),
        (VLLM, OLDER),
        "warn",
        "vllm 0.32.0 for CUDA 13.0",
        "580",
    ),
    "a CUDA that the driver does not tell is not guessed": (DriverSeen("580.95.05"), (VLLM,), "pass", "580.95.05", ""),
    "a card without a driver": (DriverSeen(cards=2), (VLLM,), "fail", "none, but 2 NVIDIA GPUs on the PCI bus", "580 or newer"),
    "a driver in the kernel without its library": (
        DriverSeen(cards=1, loaded=True),
        (VLLM,),
        "fail",
        "libnvidia-ml.so.1 is missing",
        "install the whole driver",
    ),
    "a container that was started without the host's GPU": (
        DriverSeen(cards=1, loaded=True, container="docker"),
        (VLLM,),
        "warn",
        "this container does not see",
        "--gpus all",
    ),
    "GPUs that are hidden on purpose are left alone": (
        DriverSeen(cards=1, loaded=True, hidden=True),
        (VLLM,),
        "pass",
        "CUDA_VISIBLE_DEVICES",
        "",
    ),
    "a driver that does not work tells why": (
        DriverSeen("580.95.05", fault=("the NVIDIA driver does not work: mismatch", "reboot")),
        (VLLM,),
        "fail",
        "does not work: mismatch",
        "reboot",
    ),
}


def is_told(found: Finding, level: str, detail: str, remedy: str) -> bool:
    return found.level == level and detail in found.detail and remedy in found.remedy and bool(remedy) is bool(found.remedy)


@pytest.mark.parametrize(("seen", "needs", "level", "detail", "remedy"), DRIVERS.values(), ids=DRIVERS.keys())
def test_the_driver(seen: DriverSeen, needs: tuple[Needs, ...], level: str, detail: str, remedy: str) -> None:
    found = driver(seen, needs)
    assert is_told(found, level, detail, remedy), found


# 1,313 MHz (https://www.techpowerup.com/gpu-specs/geforce-rtx-4090.c3889), eight bits a step: the driver says 10,501.
CARD = Gpu(0, "GPU-1", "NVIDIA GeForce RTX 4090", 24 * GIB, 23 * GIB, (8, 9))
WELL = Health(0, memory_clock=405, memory_clock_max=10_501, idle=True, persistent=True)


def held(*processes: GpuProcess, free: int = 12) -> Gpu:
    return replace(CARD, free=free * GIB, processes=processes)


CARDS: dict[str, tuple[Gpu, Health | None, tuple[tuple[str, str, str], ...]]] = {
    "a card that is well is one line": (
        CARD,
        WELL,
        (("pass", "GeForce RTX 4090, compute capability 8.9, 23.0 of 24.0 GiB free, memory clock up to 10,501 MHz", ""),),
    ),
    "a card that does not tell its health": (CARD, None, (("pass", "compute capability 8.9", ""),)),
    "a card from before Turing": (
        replace(CARD, name="Tesla P40", compute=(6, 1)),
        WELL,
        (("fail", "capability 6.1; vllm 0.32.0 and older 1.0 have code from 7.0 on", "CUDA_VISIBLE_DEVICES="),),
    ),
    "a card that only one engine serves": (
        replace(CARD, name="Tesla V100", compute=(7, 0)),
        WELL,
        (("warn", "capability 7.0; vllm 0.32.0 has code from 7.5 on", "use older 1.0"),),
    ),
    "half of it held by another program": (
        held(GpuProcess(7, "python", 11 * GIB)),
        WELL,
        (("warn", "python (pid 7) holds 11.0 of 24.0 GiB", "launcher gpus"),),
    ),
    "the largest of several holders is named": (
        held(GpuProcess(7, "Xorg", GIB), GpuProcess(8, "blender", 9 * GIB)),
        WELL,
        (("warn", "blender (pid 8) and 1 more hold 10.0 of 24.0 GiB", "launcher gpus"),),
    ),
    "holders whose sizes the driver does not tell hold what is not free": (
        held(GpuProcess(7, "", 0)),
        WELL,
        (("warn", "process (pid 7) holds 12.0 of 24.0 GiB", "launcher gpus"),),
    ),
    "a desktop on it is nothing to mend": (held(GpuProcess(7, "Xorg", GIB), free=23), WELL, (("pass", "23.0 of", ""),)),
    "our own server on it is nothing to mend": (held(GpuProcess(1, "VLLM", 12 * GIB)), WELL, (("pass", "12.0 of", ""),)),
    "a low memory clock while it rests": (CARD, replace(WELL, memory_clock=405), (("pass", "10,501", ""),)),
    "a low memory clock while it works": (
        CARD,
        replace(WELL, idle=False, memory_clock=5_001),
        (("warn", "clocked at 5,001 of 10,501 MHz", "nvidia-smi -rmc -i 0"),),
    ),
    "the small step that a GeForce makes when it computes": (
        CARD,
        replace(WELL, idle=False, memory_clock=9_501, memory_clock_max=9_751),
        (("pass", "9,751", ""),),
    ),
    "a card that is too hot": (CARD, replace(WELL, slowed=("too hot",)), (("warn", "slowed down: too hot", "cooling"),)),
    "persistence mode off on a card that nobody uses": (
        CARD,
        replace(WELL, persistent=False),
        (("warn", "persistence mode is off", "nvidia-smi -pm 1 -i 0"),),
    ),
    "persistence mode off on a card that is in use": (
        held(GpuProcess(7, "Xorg", GIB), free=23),
        replace(WELL, persistent=False),
        (("pass", "8.9", ""),),
    ),
    "faulty memory, before and after the reset, and errors": (
        CARD,
        replace(WELL, remap_pending=True, remap_failed=True, uncorrected=3),
        (
            ("fail", "could not be remapped", "replaced"),
            ("warn", "at the next reset", "--gpu-reset -i 0"),
            ("warn", "3 uncorrected memory errors", "restart"),
        ),
    ),
}


@pytest.mark.parametrize(("card", "health", "expected"), CARDS.values(), ids=CARDS.keys())
def test_a_gpu(card: Gpu, health: Health | None, expected: tuple[tuple[str, str, str], ...]) -> None:
    found = gpu(card, health, (VLLM, OLDER), ours={1})
    assert len(found) == len(expected), found
    assert all(is_told(each, *one) for each, one in zip(found, expected, strict=True)), found
    assert {each.title for each in found} == {"GPU 0"}


# Codes of https://docs.nvidia.com/deploy/xid-errors/: 31 is a program's fault, 79 the hardware's.
XIDS: dict[str, tuple[tuple[tuple[str, int], ...], str | None]] = {
    "nothing in the log": ((), None),
    "a program that crashed": ((("0000:01:00", 31),), None),
    "a card that is gone": (
        (("0000:01:00", 31), ("0000:01:00", 79)),
        "Xid 79 at 0000:01:00: the GPU fell off the bus",
    ),
    "several such entries": ((("0000:01:00", 48), ("0000:02:00", 79)), "the GPU fell off the bus (2 such entries)"),
}


@pytest.mark.parametrize(("codes", "detail"), XIDS.values(), ids=XIDS.keys())
def test_what_the_kernel_says_of_the_hardware(codes: tuple[tuple[str, int], ...], detail: str | None) -> None:
    found = xids(codes)
    assert (found is None) is (detail is None)
    assert found is None or is_told(found, "warn", detail or "", "restart the machine")
