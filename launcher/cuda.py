"""Whether a build for CUDA runs with a driver and on a GPU, and what would, where it does not. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from launcher.gpu import Gpu
from launcher.release import Release

Version = tuple[int, int]

# The first driver of each major CUDA: within it, older drivers run newer minor versions.
# docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html, table 1.
DRIVERS: Mapping[int, int] = MappingProxyType({13: 580, 12: 525, 11: 450})

_SINCE_TURING = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
# The architectures of PyTorch's wheels, by machine and CUDA. 13.0 and 12.8: TORCH_CUDA_ARCH_FLAGS in the wheels of torch
# 2.13.0, 2.14.1 and 2.10.0; the others: pytorch/pytorch, .ci/manywheel/build_cuda.sh.
ARCHS: Mapping[str, Mapping[Version, tuple[str, ...]]] = MappingProxyType(
    {
        "x86_64": {
            (13, 0): _SINCE_TURING,
            (12, 9): ("sm_70", *_SINCE_TURING, "compute_120"),
            (12, 8): ("sm_70", *_SINCE_TURING),
            (12, 6): ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"),
        },
        "aarch64": {(13, 0): ("sm_80", "sm_90", "sm_100", "sm_110", "sm_120")},
    }
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a build does not run here, and what would."""

    reason: str
    remedy: str


def refusal(name: str, release: Release, driver: str, gpus: Iterable[Gpu], last: Mapping[int, str]) -> Refusal | None:
    """Why `release` of the engine `name` does not run here; None if it does, or if nothing is known against it.

    `driver` is the NVIDIA driver's version, "" where it is not known; `last` the engine's last version for each older CUDA.
    """
    if reason := driver_fault(release, driver):
        return Refusal(reason, _for_driver(name, release, driver, last))
    for gpu in gpus:
        if reason := gpu_fault(release, gpu):
            return Refusal(reason, _for_gpu(name, release, gpu, last))
    return None


def driver_fault(release: Release, driver: str) -> str | None:
    """Why the driver is too old for the build's CUDA."""
    needed, there = _needed(release), _major(driver)
    if needed is None or there is None or there >= needed:
        return None
    return f"needs NVIDIA driver {needed} or newer for CUDA {_dotted(release.cuda)}; this machine has {driver}"


def gpu_fault(release: Release, gpu: Gpu) -> str | None:
    """Why the build has no code for the GPU."""
    if not release.archs or has_code(release.archs, gpu.compute):
        return None
    return f"PyTorch {release.torch} has no code for {gpu.name}, of compute capability {_dotted(gpu.compute)}"


def has_code(archs: Iterable[str], compute: Version) -> bool:
    """Whether code for these architectures runs on a GPU of this compute capability.

    Machine code (`sm_86`) runs on the same major and an equal or higher minor version, PTX (`compute_80`) on anything newer;
    with an `a` for that very version only, with an `f` for its family (CUDA programming guide, "Compute capabilities").
    """
    return any(
        _runs(found[1], int(found[2]), int(found[3]), found[4], compute) for found in map(_ARCH.fullmatch, archs) if found
    )


_ARCH = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")


def _runs(kind: str, major: int, minor: int, suffix: str, compute: Version) -> bool:
    if suffix == "a":
        return compute == (major, minor)
    if kind == "compute" and not suffix:
        return compute >= (major, minor)
    return compute[0] == major and compute[1] >= minor


def _for_driver(name: str, release: Release, driver: str, last: Mapping[int, str]) -> str:
    there = _major(driver) or 0
    usable = next((cuda for cuda in sorted(last, reverse=True) if there >= DRIVERS[cuda]), None)
    newer = f"install NVIDIA driver {_needed(release)} or newer"
    return f"{newer}; or {_older(name, last[usable])}, the last for CUDA {usable}" if usable else newer


def _for_gpu(name: str, release: Release, gpu: Gpu, last: Mapping[int, str]) -> str:
    lowest = min((int(arch[2]), int(arch[3])) for arch in map(_ARCH.fullmatch, release.archs) if arch)
    if gpu.compute > lowest:
        return f"`launcher engines install {name}` makes this launcher's version, which may be newer"
    able = {cuda for (cuda, _), archs in ARCHS["x86_64"].items() if cuda in last and has_code(archs, gpu.compute)}
    return f"{_older(name, last[max(able)])}, the last for CUDA {max(able)}" if able else "serve on another GPU, or on the CPU"


def _older(name: str, version: str) -> str:
    return f"`launcher engines install {name} --version {version}`"


def _needed(release: Release) -> int | None:
    return DRIVERS.get(release.cuda[0]) if release.cuda else None


def _major(driver: str) -> int | None:
    found = re.match(r"\d+", driver)
    return int(found[0]) if found else None


def _dotted(version: Version | None) -> str:
    return ".".join(map(str, version or ()))
