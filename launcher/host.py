"""What the machine has besides its NVIDIA GPUs, and the inventory of it all."""

import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from launcher import nvml
from launcher.errors import LauncherError
from launcher.gpu import Cpu, Inventory, Ram

ROOT = Path("/")


def inventory(env: Mapping[str, str], *, root: Path = ROOT) -> Inventory:
    """All of this machine that a plan may use; `env` may hold CUDA_VISIBLE_DEVICES. Raises what `nvml.read` raises."""
    memory = ram(root=root)
    driver = nvml.read(memory, visible=env.get("CUDA_VISIBLE_DEVICES"))
    return Inventory(
        gpus=driver.gpus,
        cpu=cpu(root=root),
        ram=memory,
        driver=driver.version,
        unsupported=other_gpus(root=root),
        cuda=driver.cuda,
    )


def refuse_platform(system: str = sys.platform) -> None:
    """Raise LauncherError on anything but Linux; `system` is what sys.platform says. WSL2 is Linux."""
    if system.startswith("linux"):
        return
    if system in {"win32", "cygwin"}:
        raise LauncherError("Windows is not supported", hint="install WSL2 (`wsl --install`) and run this inside it")
    name = {"darwin": "macOS"}.get(system, system)
    raise LauncherError(f"{name} is not supported", hint="run this on Linux, x86_64 or aarch64, or on Windows under WSL2")


def cpu(*, root: Path = ROOT) -> Cpu:
    """The processor, with the cores that this process may run on."""
    arch = platform.machine()
    return Cpu(name=_cpu_name(_read(root / "proc/cpuinfo")) or arch, cores=len(os.sched_getaffinity(0)), arch=arch)


def _cpu_name(cpuinfo: str) -> str:
    """x86 says `model name`; most ARM machines say nothing that a person would know."""
    found = re.search(r"^(?:model name|Model)\s*:\s*(.+?)\s*$", cpuinfo, re.MULTILINE)
    return found[1] if found else ""


def ram(*, root: Path = ROOT, host: Ram | None = None) -> Ram:
    """The memory that can be had: the host's (asked of psutil if `host` is not given) within the limits of our cgroups."""
    memory = host or _host_ram()
    for limit, used in _limits(root):
        total = min(memory.total, limit)
        memory = Ram(total=total, available=min(memory.available, max(0, limit - used)))
    return memory


def _host_ram() -> Ram:
    import psutil

    memory = psutil.virtual_memory()
    return Ram(total=memory.total, available=memory.available)


class _Cgroups(NamedTuple):
    """Where one version of cgroups keeps memory limits: the controllers in /proc/self/cgroup, the mount, the files."""

    controllers: str
    mounts: tuple[str, ...]
    limit: str
    used: str
    cache: str


_VERSIONS = (
    _Cgroups("", ("sys/fs/cgroup", "sys/fs/cgroup/unified"), "memory.max", "memory.current", "inactive_file"),
    _Cgroups("memory", ("sys/fs/cgroup/memory",), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """(limit, used) in bytes of our cgroup and of every one around it, where there is a limit."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _number, controllers, path = line.split(":", 2)
        for version in _VERSIONS:
            if version.controllers in controllers.split(","):
                for mount in version.mounts:
                    yield from _limits_above(root / mount, path.lstrip("/"), version)


def _limits_above(mount: Path, path: str, version: _Cgroups) -> Iterator[tuple[int, int]]:
    """From the mount down to our own group: in a container the path can be the host's, and only the mount itself is there."""
    own = mount / path
    for group in (own, *own.parents):
        limit, used = _read(group / version.limit).strip(), _read(group / version.used).strip()
        if limit.isdecimal() and used.isdecimal():
            # The kernel drops inactive file pages before it refuses memory: a downloaded model must not count as used.
            cache = re.search(rf"^{version.cache} (\d+)$", _read(group / "memory.stat"), re.MULTILINE)
            yield int(limit), int(used) - (int(cache[1]) if cache else 0)
        if group == mount:
            return


_AMD = "0x1002"


def other_gpus(*, root: Path = ROOT) -> tuple[str, ...]:
    """The names of AMD's GPUs, which no environment here serves on; Intel's are mostly for the screen, and not told apart."""
    cards = (card for card in (root / "sys/class/drm").glob("card*") if re.fullmatch(r"card\d+", card.name))
    devices = [card / "device" for card in sorted(cards)]
    return tuple(_amd_name(device) for device in devices if _read(device / "vendor").strip() == _AMD)


def _amd_name(device: Path) -> str:
    return _read(device / "product_name").strip() or f"AMD GPU (device {_read(device / 'device').strip() or 'unknown'})"


def _read(path: Path) -> str:
    """The text of a file of the kernel; "" where this kernel has none or does not show it."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
