"""What the host is like around us: kernel, container, swap, shared memory, compilers, what the kernel says of GPUs."""

import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from launcher.checks.graphics import DriverSeen
from launcher.checks.home import Room, Segment
from launcher.checks.system import Compilers, MemorySeen, SharedMemory, System
from launcher.gpu import Ram

ROOT = Path("/")
_NVIDIA = "0x10de"
_DISPLAY = "0x03"  # the class of a PCI device, include/linux/pci_ids.h
# What Python's multiprocessing (psm_, sem.mp-), PyTorch, NCCL and SGLang call their segments.
_SEGMENTS = ("psm_", "sem.mp-", "torch_", "nccl-", "sglang_")
# A segment of a program that is just starting may not be mapped yet (seconds).
_YOUNG = 60.0
_XID = re.compile(rb"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)\): (\d+)")


def system(builds: tuple[str, ...], *, root: Path = ROOT) -> System:
    """Kernel, processor and Python; `builds` are passed on."""
    kernel = platform.release()
    return System(
        kernel=kernel.split("-")[0],
        arch=platform.machine(),
        python=platform.python_version(),
        container=container(root=root),
        wsl="microsoft" in kernel.lower(),
        builds=builds,
    )


def container(*, root: Path = ROOT) -> str:
    """What kind of container we are in, "" for none that shows."""
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / "var/run/secrets/kubernetes.io").exists():
        return "kubernetes"
    # systemd keeps here what made the container (https://systemd.io/CONTAINER_INTERFACE/).
    return _read(root / "run/systemd/container").strip()


def memory(ram: Ram, *, root: Path = ROOT) -> MemorySeen:
    """The host's own figures (bytes) beside what may be had."""
    rows = (line.split() for line in _read(root / "proc/meminfo").splitlines())
    sizes = {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) > 1 and row[1].isdecimal()}
    swap = sizes.get("SwapTotal", 0)
    return MemorySeen(ram=ram, host=sizes.get("MemTotal", ram.total), swap=swap, swapped=swap - sizes.get("SwapFree", swap))


def shared_memory(path: Path = ROOT / "dev/shm") -> SharedMemory:
    """The place for it, with its bytes."""
    if not path.is_dir():
        return SharedMemory(there=False)
    status = os.statvfs(path)
    return SharedMemory(
        total=status.f_blocks * status.f_frsize,
        free=status.f_bavail * status.f_frsize,
        writable=os.access(path, os.W_OK | os.X_OK) and not status.f_flag & os.ST_RDONLY,
    )


def room(path: Path, *, needs: int = 0, for_what: str = "") -> Room:
    """What the disk of a folder offers, be the folder there or not."""
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    status = os.statvfs(there)
    return Room(
        path=path,
        free=status.f_bavail * status.f_frsize,
        needs=needs,
        for_what=for_what,
        files=status.f_favail if status.f_files else None,
        read_only=bool(status.f_flag & os.ST_RDONLY),
        no_exec=bool(status.f_flag & os.ST_NOEXEC),
    )


def compilers(env: Mapping[str, str], pythons: Mapping[str, Path]) -> Compilers:
    """Those that Triton (runtime/build.py) and nvcc would find, and which of these environments' Pythons have no headers."""
    path = env.get("PATH")

    def first(*names: str) -> str:
        return next((name for name in names if name and shutil.which(name, path=path)), "")

    return Compilers(
        c=first(env.get("CC", ""), "gcc", "clang"),
        cxx=first(env.get("CXX", ""), "g++", "clang++"),
        headless=tuple(name for name, python in pythons.items() if not _has_headers(python)),
    )


def driver(seen: DriverSeen, *, root: Path = ROOT) -> DriverSeen:
    """What the kernel knows of NVIDIA, added to what the driver's library said."""
    devices = (root / "sys/bus/pci/devices").glob("*")
    cards = sum(_read(d / "vendor").strip() == _NVIDIA and _read(d / "class").startswith(_DISPLAY) for d in devices)
    return DriverSeen(
        version=seen.version,
        cuda=seen.cuda,
        cards=cards,
        loaded=(root / "proc/driver/nvidia/version").exists(),
        hidden=seen.hidden,
        container=container(root=root),
        fault=seen.fault,
    )


def xids(path: Path = ROOT / "dev/kmsg") -> tuple[tuple[str, int], ...]:
    """What the NVIDIA driver told the kernel's log: (PCI address, Xid code), the newest last; nothing where we may not look."""
    return tuple((match[1].decode(), int(match[2])) for line in _kernel_log(path) if (match := _XID.search(line)))


def segments(path: Path = ROOT / "dev/shm", *, uid: int, now: float, proc: Path = ROOT / "proc") -> tuple[Segment, ...]:
    """The user's segments with the names that engines use, that no living process has mapped or open."""
    named = [entry for entry in path.glob("*") if entry.name.startswith(_SEGMENTS)]
    found = {
        str(entry): Segment(entry, status.st_blocks * 512)
        for entry in named
        if (status := _status(entry)) and status.st_uid == uid and now - status.st_mtime > _YOUNG
    }
    if found:
        for name in _open_files(proc, str(path)):
            found.pop(name, None)
    return tuple(found[name] for name in sorted(found))


def open_to_others(paths: Iterable[Path]) -> tuple[tuple[Path, int], ...]:
    """The mode of each of these that is there."""
    seen = ((path, _status(path)) for path in paths)
    return tuple((path, status.st_mode & 0o777) for path, status in seen if status)


def _has_headers(python: Path) -> bool:
    """Where an interpreter's own installation keeps Python.h: PREFIX/include/pythonX.Y."""
    real = python.resolve()
    return any(real.parents[1].glob("include/python3.*/Python.h")) if len(real.parents) > 1 else False


def _kernel_log(path: Path) -> Iterator[bytes]:
    """The records of /dev/kmsg, each one read; a read fails with EAGAIN at the end, and often for lack of permission."""
    try:
        log = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return
    try:
        while record := os.read(log, 8192):
            yield record
    except OSError:
        return
    finally:
        os.close(log)


def _open_files(proc: Path, folder: str) -> Iterator[str]:
    """The files beneath a folder that processes have mapped or open, as far as we may see."""
    for process in proc.glob("[0-9]*"):
        for line in _read(process / "maps").splitlines():
            at = line.find(folder + "/")
            if at >= 0:
                yield line[at:].removesuffix(" (deleted)")
        try:
            for descriptor in (process / "fd").iterdir():
                yield str(descriptor.readlink())
        except OSError:
            continue


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:
        return None


def _read(path: Path) -> str:
    """The text of a file of the kernel; "" where there is none, or none for us."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
