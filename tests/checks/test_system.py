import pytest

from launcher.checks.system import Compilers, MemorySeen, SharedMemory, System, clock, compilers, memory, shared_memory, system
from launcher.finding import Finding
from launcher.gpu import GIB, Ram
from tests.checks.test_graphics import is_told

MIB = 1 << 20
BUILDS = ("vllm-0.32.0-cpu",)

SYSTEMS: dict[str, tuple[System, str, str, str]] = {
    "a plain machine": (System("6.8.0", "x86_64", "3.12.3", builds=BUILDS), "pass", "Linux 6.8.0 on x86_64; the", ""),
    "a container": (System("6.8.0", "x86_64", "3.12.3", "docker", builds=BUILDS), "pass", "in a container (docker)", ""),
    "WSL": (System("6.6.87", "x86_64", "3.12.3", wsl=True, builds=BUILDS), "pass", "under WSL", ""),
    "a processor without any engine": (
        System("6.8.0", "riscv64", "3.12.3"),
        "fail",
        "no engine was built",
        "x86_64",
    ),
}


@pytest.mark.parametrize(("seen", "level", "detail", "remedy"), SYSTEMS.values(), ids=SYSTEMS.keys())
def test_the_system(seen: System, level: str, detail: str, remedy: str) -> None:
    assert is_told(system(seen), level, detail, remedy), system(seen)


def ram(free: float, total: float = 64) -> Ram:
    return Ram(int(total * GIB), int(free * GIB))


MEMORIES: dict[str, tuple[MemorySeen, str, str, str]] = {
    "plenty": (MemorySeen(ram(48), 64 * GIB), "pass", "48.0 of 64.0 GiB free, no swap", ""),
    "a swap that is not used": (MemorySeen(ram(48), 64 * GIB, swap=8 * GIB), "pass", "8.0 GiB of swap", ""),
    "less than an engine's processes take": (
        MemorySeen(ram(2), 64 * GIB),
        "fail",
        "an engine's processes alone take 2.5",
        "end other programs",
    ),
    "the limit of a container": (
        MemorySeen(ram(2, 4), 64 * GIB),
        "fail",
        "2.0 of 4.0 GiB free (the host has 64.0",
        "docker run --memory",
    ),
    "a limit that leaves enough": (MemorySeen(ram(12, 16), 64 * GIB), "pass", "12.0 of 16.0 GiB free (the host has 64.0", ""),
    "a machine that swaps": (
        MemorySeen(ram(8), 64 * GIB, swap=64 * GIB, swapped=20 * GIB),
        "warn",
        "20.0 GiB lie in the swap",
        "end other programs",
    ),
}


@pytest.mark.parametrize(("seen", "level", "detail", "remedy"), MEMORIES.values(), ids=MEMORIES.keys())
def test_the_memory(seen: MemorySeen, level: str, detail: str, remedy: str) -> None:
    assert is_told(memory(seen), level, detail, remedy), memory(seen)


# Docker gives a container 64 MiB unless --shm-size says more.
DOCKER = SharedMemory(total=64 * MIB, free=64 * MIB)
SHARED: dict[str, tuple[SharedMemory, int, str, str, str]] = {
    "half of the memory, as usual": (SharedMemory(total=32 * GIB, free=32 * GIB), 8, "pass", "32.0 GiB of 32.0 GiB free", ""),
    "none at all": (SharedMemory(there=False), 0, "fail", "there is no /dev/shm", "mount -t tmpfs"),
    "closed to us": (SharedMemory(total=GIB, free=GIB, writable=False), 1, "fail", "may not write", "chmod 1777"),
    "a container's, with one GPU": (DOCKER, 1, "pass", "64 MiB of 64 MiB", ""),
    "a container's, with two GPUs": (DOCKER, 2, "warn", "2 GPUs that work together may need 1.0 GiB", "--shm-size=1g"),
    "a tiny one": (SharedMemory(total=16 * MIB, free=16 * MIB), 1, "fail", "16 MiB of 16 MiB", "--shm-size=1g"),
    "a full one": (SharedMemory(total=8 * GIB, free=MIB), 1, "fail", "1 MiB of 8.0 GiB free", "ls -l /dev/shm"),
}


@pytest.mark.parametrize(("seen", "gpus", "level", "detail", "remedy"), SHARED.values(), ids=SHARED.keys())
def test_the_shared_memory(seen: SharedMemory, gpus: int, level: str, detail: str, remedy: str) -> None:
    found = shared_memory(seen, gpus)
    assert is_told(found, level, detail, remedy), found


COMPILERS: dict[str, tuple[Compilers, tuple[tuple[str, str, str], ...]]] = {
    "both": (Compilers("gcc", "g++"), (("pass", "gcc, g++", ""),)),
    "none": (Compilers(), (("fail", "no C compiler", "build-essential"),)),
    "C alone": (Compilers("gcc"), (("warn", "no C++ compiler", "build-essential"),)),
    "a Python without its headers": (
        Compilers("gcc", "g++", ("vllm-0.32.0-cuda",)),
        (("fail", "the Python of vllm-0.32.0-cuda has no Python.h", "launcher clean environments vllm-0.32.0-cuda"),),
    ),
}


@pytest.mark.parametrize(("seen", "expected"), COMPILERS.values(), ids=COMPILERS.keys())
def test_the_compilers(seen: Compilers, expected: tuple[tuple[str, str, str], ...]) -> None:
    found = compilers(seen)
    assert len(found) == len(expected)
    assert all(is_told(each, *one) for each, one in zip(found, expected, strict=True)), found


CLOCKS: dict[str, tuple[float | None, tuple[str, str] | None]] = {
    "nobody to compare with": (None, None),
    "a second is nothing": (-1.0, ("pass", "right")),
    "an hour ahead": (3600.0, ("warn", "60 minutes ahead of")),
    "a day behind": (-86_400.0, ("warn", "1,440 minutes behind")),
}


@pytest.mark.parametrize(("skew", "expected"), CLOCKS.values(), ids=CLOCKS.keys())
def test_the_clock(skew: float | None, expected: tuple[str, str] | None) -> None:
    found: Finding | None = clock(skew)
    assert (found is None) is (expected is None)
    assert not (found and expected) or (found.level == expected[0] and expected[1] in found.detail)
