"""Whether the host suits: kernel and processor, memory, shared memory, compilers, clock."""

from collections.abc import Sequence
from dataclasses import dataclass

from launcher.finding import Finding, fails, passes, warns
from launcher.gpu import GIB, Ram

MIB = 1 << 20
# API server, engine core and worker of vLLM on a CPU, without weights and KV cache (engines/vllm.py, CPU_PROCESSES).
ENGINE = 5 * GIB // 2
# A machine that has moved so much of its memory to a disk waits for it.
SWAPPED = 0.25
# What NVIDIA asks of containers in which several GPUs work together:
# https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/troubleshooting.html
SHARED_BY_GPUS = GIB
# Docker's default (`--shm-size` in https://docs.docker.com/reference/cli/docker/container/run/), with which one GPU works.
SHARED_LEAST = 60 * MIB
# Seconds after which certificates and signed tokens begin to be refused.
SKEW = 300.0


@dataclass(frozen=True, slots=True)
class System:
    """The host: `builds` are the builds of engines that there are for its processor; `container` is "" outside of one."""

    kernel: str
    arch: str
    python: str
    container: str = ""
    wsl: bool = False
    builds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MemorySeen:
    """Bytes: what may be had within the limits of our container, what the host has, what lies in its swap."""

    ram: Ram
    host: int
    swap: int = 0
    swapped: int = 0


@dataclass(frozen=True, slots=True)
class SharedMemory:
    """What processes share: whether /dev/shm is there, bytes in all and free, whether we may write there."""

    there: bool = True
    total: int = 0
    free: int = 0
    writable: bool = True


@dataclass(frozen=True, slots=True)
class Compilers:
    """The programs found for C and C++, "" for none, and the CUDA environments whose Python has no Python.h."""

    c: str = ""
    cxx: str = ""
    headless: tuple[str, ...] = ()


def system(seen: System) -> Finding:
    """Whether there is any engine for this kind of machine."""
    where = f", in a container ({seen.container})" if seen.container else ", under WSL" if seen.wsl else ""
    detail = f"Linux {seen.kernel} on {seen.arch}{where}; the launcher runs on Python {seen.python}"
    if seen.builds:
        return passes("system", detail)
    return fails("system", f"{detail}: no engine was built for this processor", "an NVIDIA GPU, or x86_64")


def memory(seen: MemorySeen) -> Finding:
    """Whether an engine's processes find room in the host's memory."""
    free = f"{seen.ram.available / GIB:.1f} of {seen.ram.total / GIB:.1f} GiB free"
    limited = f" (the host has {seen.host / GIB:.1f}, a limit of our container or session allows this)"
    detail = free + (limited if seen.ram.total < seen.host else "")
    remedy = "end other programs" + (", or raise the limit (docker run --memory)" if seen.ram.total < seen.host else "")
    if seen.ram.available < ENGINE:
        return fails("memory", f"{detail}; an engine's processes alone take {ENGINE / GIB:.1f}", remedy)
    if seen.swapped > seen.host * SWAPPED:
        return warns("memory", f"{detail}; {seen.swapped / GIB:.1f} GiB lie in the swap, on a disk", remedy)
    swap = f", {seen.swap / GIB:.1f} GiB of swap" if seen.swap else ", no swap"
    return passes("memory", detail + swap)


def shared_memory(seen: SharedMemory, gpus: int) -> Finding:
    """Whether the processes of an engine can share memory; `gpus` is how many may work together."""
    title = "shared memory"
    if not seen.there:
        return fails(title, "there is no /dev/shm", "`sudo mount -t tmpfs tmpfs /dev/shm`; in a container: --shm-size=1g")
    if not seen.writable:
        return fails(title, "we may not write to /dev/shm", "`sudo chmod 1777 /dev/shm`")
    detail = f"{_size(seen.free)} of {_size(seen.total)} free in /dev/shm"
    larger = "make it larger: `sudo mount -o remount,size=1g /dev/shm`; in a container: --shm-size=1g or --ipc=host"
    if seen.free < SHARED_LEAST:
        full = seen.total >= SHARED_LEAST
        return fails(title, detail, "`ls -l /dev/shm` shows what fills it; or " + larger if full else larger)
    if gpus > 1 and seen.free < SHARED_BY_GPUS:
        return warns(title, f"{detail}; {gpus} GPUs that work together may need {_size(SHARED_BY_GPUS)}", larger)
    return passes(title, detail)


def compilers(seen: Compilers) -> tuple[Finding, ...]:
    """Whether kernels can be compiled when an engine starts on a GPU: Triton takes C, FlashInfer C++; nvcc comes with both."""
    found = []
    install = "`sudo apt install build-essential`, or `dnf install gcc-c++`; CC and CXX may name others"
    if not seen.c:
        found.append(fails("compiler", "no C compiler: Triton compiles when an engine starts", install))
    elif not seen.cxx:
        found.append(warns("compiler", "no C++ compiler: FlashInfer compiles with it where it has no kernel at hand", install))
    for name in seen.headless:
        remedy = f"install the headers (python3-dev), or `launcher clean environments {name}`: a new one brings its own Python"
        found.append(fails("compiler", f"the Python of {name} has no Python.h: Triton compiles against it", remedy))
    return tuple(found) or (passes("compiler", f"{seen.c}, {seen.cxx}"),)


def clock(skew: float | None) -> Finding | None:
    """Whether the clock is right; `skew` is how many seconds it is ahead of a server's, None where none could be asked."""
    if skew is None:
        return None
    if abs(skew) <= SKEW:
        return passes("clock", "right, by the hub's")
    minutes = f"{abs(skew) / 60:,.0f} minutes {'ahead of' if skew > 0 else 'behind'} the hub's"
    return warns("clock", f"{minutes}: certificates and tokens may be refused", "`sudo timedatectl set-ntp true`")


def unsupported(names: Sequence[str]) -> tuple[Finding, ...]:
    """GPUs that are there and are of no use here."""
    return tuple(warns("GPU", f"{name} is not used", "only NVIDIA GPUs are: models run without it") for name in names)


def _size(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size // MIB} MiB"
