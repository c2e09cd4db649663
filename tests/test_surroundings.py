"""What is read of the host: made-up files of the kernel, real compilers and real processes."""

import mmap
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from launcher import surroundings
from launcher.checks.graphics import DriverSeen
from launcher.checks.system import MemorySeen, SharedMemory
from launcher.gpu import GIB, Ram
from tests.test_host import machine

CONTAINERS = {
    "none": ({}, ""),
    "docker's": ({".dockerenv": ""}, "docker"),
    "podman's": ({"run/.containerenv": "engine=podman\n"}, "podman"),
    "a pod": ({"var/run/secrets/kubernetes.io/serviceaccount/namespace": "x"}, "kubernetes"),
    "one that systemd tells of": ({"run/systemd/container": "lxc\n"}, "lxc"),
}


@pytest.mark.parametrize(("files", "name"), CONTAINERS.values(), ids=CONTAINERS.keys())
def test_the_kind_of_container(tmp_path: Path, files: dict[str, str], name: str) -> None:
    assert surroundings.container(root=machine(tmp_path, files)) == name


def test_the_system_is_this_one(tmp_path: Path) -> None:
    seen = surroundings.system(("vllm-0-cpu",), root=tmp_path)
    assert (seen.arch, seen.python, seen.builds) == (platform.machine(), platform.python_version(), ("vllm-0-cpu",))
    assert seen.kernel[0].isdigit()


RAM = Ram(total=8 * GIB, available=6 * GIB)
MEMORY = {
    "nothing to read": ("", MemorySeen(RAM, 8 * GIB)),
    "a host with a swap": (
        "MemTotal: 16777216 kB\nSwapTotal: 4194304 kB\nSwapFree: 3145728 kB\n",
        MemorySeen(RAM, 16 * GIB, swap=4 * GIB, swapped=GIB),
    ),
}


@pytest.mark.parametrize(("text", "expected"), MEMORY.values(), ids=MEMORY.keys())
def test_the_hosts_memory(tmp_path: Path, text: str, expected: MemorySeen) -> None:
    assert surroundings.memory(RAM, root=machine(tmp_path, {"proc/meminfo": text})) == expected


def test_shared_memory(tmp_path: Path) -> None:
    assert surroundings.shared_memory(tmp_path / "none") == SharedMemory(there=False)
    status = os.statvfs(tmp_path)
    seen = surroundings.shared_memory(tmp_path)
    assert (seen.there, seen.total, seen.writable) == (True, status.f_blocks * status.f_frsize, True)


def test_a_room_is_told_before_its_folder_is_there(tmp_path: Path) -> None:
    room = surroundings.room(tmp_path / "a" / "b", needs=5, for_what="x")
    assert (room.path, room.needs, room.for_what, room.read_only, room.no_exec) == (tmp_path / "a" / "b", 5, "x", False, False)
    assert 0 < room.free < os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize


def programs(folder: Path, *names: str) -> dict[str, str]:
    folder.mkdir()
    for name in names:
        (folder / name).touch(mode=0o755)
    return {"PATH": str(folder)}


COMPILERS = {
    "gcc comes before clang": (("gcc", "clang", "g++", "clang++"), {}, ("gcc", "g++")),
    "clang alone": (("clang",), {}, ("clang", "")),
    "what CC names": (("gcc", "zig"), {"CC": "zig"}, ("zig", "")),
    "a CC that is not there": (("gcc",), {"CC": "icc"}, ("gcc", "")),
    "nothing": ((), {}, ("", "")),
}


@pytest.mark.parametrize(("names", "more", "expected"), COMPILERS.values(), ids=COMPILERS.keys())
def test_the_compilers(tmp_path: Path, names: tuple[str, ...], more: dict[str, str], expected: tuple[str, str]) -> None:
    seen = surroundings.compilers({**programs(tmp_path / "bin", *names), **more}, {})
    assert (seen.c, seen.cxx) == expected


def test_a_python_without_headers_is_named(tmp_path: Path) -> None:
    (tmp_path / "with" / "include" / "python3.12").mkdir(parents=True)
    (tmp_path / "with" / "include" / "python3.12" / "Python.h").touch()
    pythons = {}
    for name in ("with", "without"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin" / "python3.12").touch()
        (tmp_path / f"{name}-venv").symlink_to(tmp_path / name / "bin" / "python3.12")
        pythons[name] = tmp_path / f"{name}-venv"
    assert surroundings.compilers({}, pythons).headless == ("without",)


PCI = "sys/bus/pci/devices"
DRIVERS = {
    "no card": ({f"{PCI}/0/vendor": "0x8086\n", f"{PCI}/0/class": "0x030000\n"}, DriverSeen()),
    "a card and its sound": (
        {
            f"{PCI}/0/vendor": "0x10de\n",
            f"{PCI}/0/class": "0x030000\n",
            f"{PCI}/1/vendor": "0x10de\n",
            f"{PCI}/1/class": "0x040300\n",
        },
        DriverSeen(cards=1),
    ),
    "a data centre's card and a loaded driver, seen from a container": (
        {
            f"{PCI}/0/vendor": "0x10de\n",
            f"{PCI}/0/class": "0x030200\n",
            "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05\n",
            ".dockerenv": "",
        },
        DriverSeen(cards=1, loaded=True, container="docker"),
    ),
}


@pytest.mark.parametrize(("files", "expected"), DRIVERS.values(), ids=DRIVERS.keys())
def test_what_the_kernel_knows_of_nvidia(tmp_path: Path, files: dict[str, str], expected: DriverSeen) -> None:
    assert surroundings.driver(DriverSeen(), root=machine(tmp_path, files)) == expected


# Lines as the driver writes them (https://docs.nvidia.com/deploy/xid-errors/, "Viewing Xid Error Messages").
LOG = "6,1,2,-;NVRM: GPU at 0000:03:00: GPU-b850f46d\n3,1,2,-;NVRM: Xid (PCI:0000:03:00): 79, pid=1194, GPU has fallen off\n"
LOGS = {
    "an entry": (LOG, (("0000:03:00", 79),)),
    "the older form": ("[1.0] NVRM: Xid (0000:03:00): 14, Channel 00000001\n", (("0000:03:00", 14),)),
    "none": ("usb 1-1: new device\n", ()),
}


@pytest.mark.parametrize(("text", "expected"), LOGS.values(), ids=LOGS.keys())
def test_the_kernels_log(tmp_path: Path, text: str, expected: tuple[tuple[str, int], ...]) -> None:
    (tmp_path / "kmsg").write_text(text)
    assert surroundings.xids(tmp_path / "kmsg") == expected
    assert surroundings.xids(tmp_path / "none") == ()


HOLD = """
import mmap, sys
file = open(sys.argv[1], "r+b")
memory = mmap.mmap(file.fileno(), 0)
file.close()
print("holds", flush=True)
sys.stdin.read()
"""


def test_segments_that_nobody_holds_are_found_and_no_others(tmp_path: Path) -> None:
    for name in ("psm_left", "psm_held", "psm_young", "nccl-left", "mine"):
        (tmp_path / name).write_bytes(b"x" * mmap.PAGESIZE)
        os.utime(tmp_path / name, (0, 1000 if name == "psm_young" else 0))
    words = [sys.executable, "-c", HOLD, str(tmp_path / "psm_held")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        found = surroundings.segments(tmp_path, uid=os.geteuid(), now=1001.0)
        holder.communicate()
    assert [segment.path.name for segment in found] == ["nccl-left", "psm_left"]
    assert all(segment.size >= mmap.PAGESIZE for segment in found)
    assert surroundings.segments(tmp_path, uid=os.geteuid() + 1, now=1001.0) == ()
    assert surroundings.segments(tmp_path / "none", uid=os.geteuid(), now=1001.0) == ()


def test_modes_are_those_of_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "key").touch(mode=0o640)
    assert surroundings.open_to_others([tmp_path / "key", tmp_path / "none"]) == ((tmp_path / "key", 0o640),)
