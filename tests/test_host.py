import os
import platform
from pathlib import Path

import psutil
import pytest

from launcher import host
from launcher.errors import LauncherError
from launcher.gpu import GIB, Ram

HOST = Ram(total=64 * GIB, available=48 * GIB)


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/memory"

MEMORY = {
    "no cgroups at all": ({}, HOST),
    "version 2 without a limit": (
        {
            "proc/self/cgroup": "0::/user.slice\n",
            f"{V2}/user.slice/memory.max": "max\n",
            f"{V2}/user.slice/memory.current": "9\n",
        },
        HOST,
    ),
    "a container that sees its own group as the root": (
        {"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": f"{16 * GIB}\n", f"{V2}/memory.current": f"{4 * GIB}\n"},
        Ram(16 * GIB, 12 * GIB),
    ),
    "file pages that the kernel can drop are not in use": (
        {
            "proc/self/cgroup": "0::/\n",
            f"{V2}/memory.max": f"{16 * GIB}\n",
            f"{V2}/memory.current": f"{15 * GIB}\n",
            f"{V2}/memory.stat": f"anon 1\nactive_file 77\ninactive_file {11 * GIB}\n",
        },
        Ram(16 * GIB, 12 * GIB),
    ),
    "the narrowest of the groups around us": (
        {
            "proc/self/cgroup": "0::/a/b\n",
            f"{V2}/a/memory.max": f"{8 * GIB}\n",
            f"{V2}/a/memory.current": f"{7 * GIB}\n",
            f"{V2}/a/b/memory.max": f"{6 * GIB}\n",
            f"{V2}/a/b/memory.current": f"{2 * GIB}\n",
        },
        Ram(6 * GIB, 1 * GIB),
    ),
    "a limit above what the host has": (
        {"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": f"{999 * GIB}\n", f"{V2}/memory.current": "1\n"},
        HOST,
    ),
    "a group over its limit": (
        {"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": f"{2 * GIB}\n", f"{V2}/memory.current": f"{3 * GIB}\n"},
        Ram(2 * GIB, 0),
    ),
    "version 1 without a limit": (
        {
            "proc/self/cgroup": "4:memory:/a\n0::/\n",
            f"{V1}/a/memory.limit_in_bytes": "9223372036854771712\n",
            f"{V1}/a/memory.usage_in_bytes": "5\n",
        },
        HOST,
    ),
    "version 1 beside others, from a container that names the host's group": (
        {
            "proc/self/cgroup": "9:name=systemd:/docker/x\n4:cpu,memory:/docker/x\n0::/docker/x\n",
            f"{V1}/memory.limit_in_bytes": f"{10 * GIB}\n",
            f"{V1}/memory.usage_in_bytes": f"{5 * GIB}\n",
            f"{V1}/memory.stat": f"inactive_file 7\ntotal_inactive_file {1 * GIB}\n",
        },
        Ram(10 * GIB, 6 * GIB),
    ),
    "a group outside of our view": (
        {"proc/self/cgroup": "0::/../other\n", f"{V2}/memory.max": f"{3 * GIB}\n", f"{V2}/memory.current": f"{GIB}\n"},
        Ram(3 * GIB, 2 * GIB),
    ),
}


@pytest.mark.parametrize(("files", "memory"), MEMORY.values(), ids=MEMORY.keys())
def test_memory_within_the_limits_of_a_container(tmp_path: Path, files: dict[str, str], memory: Ram) -> None:
    assert host.ram(root=machine(tmp_path, files), host=HOST) == memory


def test_memory_is_the_hosts_by_default(tmp_path: Path) -> None:
    assert host.ram(root=tmp_path).total == psutil.virtual_memory().total


CPUS = {
    "x86": (
        "processor\t: 0\nmodel\t\t: 97\nmodel name\t: AMD Ryzen 9 7950X 16-Core Processor\n",
        "AMD Ryzen 9 7950X 16-Core Processor",
    ),
    "a board that names itself at the end": (
        "processor\t: 0\nBogoMIPS\t: 108\n\nModel\t\t: Raspberry Pi 5\n",
        "Raspberry Pi 5",
    ),
    "ARM without names": ("processor\t: 0\nCPU implementer\t: 0x41\n", platform.machine()),
    "nothing to read": ("", platform.machine()),
}


@pytest.mark.parametrize(("cpuinfo", "name"), CPUS.values(), ids=CPUS.keys())
def test_the_processor(tmp_path: Path, cpuinfo: str, name: str) -> None:
    cpu = host.cpu(root=machine(tmp_path, {"proc/cpuinfo": cpuinfo}))
    assert (cpu.name, cpu.cores, cpu.arch) == (name, len(os.sched_getaffinity(0)), platform.machine())


def test_amds_gpus_are_named_and_no_others(tmp_path: Path) -> None:
    drm = "sys/class/drm"
    files = {
        f"{drm}/card0/device/vendor": "0x10de\n",
        f"{drm}/card1/device/vendor": "0x1002\n",
        f"{drm}/card1/device/product_name": "Radeon PRO W7900\n",
        f"{drm}/card1-DP-1/device/vendor": "0x1002\n",
        f"{drm}/card2/device/vendor": "0x1002\n",
        f"{drm}/card2/device/device": "0x744c\n",
        f"{drm}/card3/device/vendor": "0x8086\n",
        f"{drm}/renderD128/device/vendor": "0x1002\n",
    }
    assert host.other_gpus(root=machine(tmp_path, files)) == ("Radeon PRO W7900", "AMD GPU (device 0x744c)")


def test_a_machine_without_a_graphics_card_has_no_other_gpus(tmp_path: Path) -> None:
    assert host.other_gpus(root=tmp_path) == ()


def test_the_inventory_puts_it_together(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": "model name : a CPU\n",
        "proc/self/cgroup": "0::/\n",
        f"{V2}/memory.max": f"{GIB}\n",
        f"{V2}/memory.current": "0\n",
        "sys/class/drm/card0/device/vendor": "0x1002\n",
    }
    inventory = host.inventory({"CUDA_VISIBLE_DEVICES": ""}, root=machine(tmp_path, files))
    assert (inventory.cpu.name, inventory.ram.total, inventory.unsupported) == ("a CPU", GIB, ("AMD GPU (device unknown)",))
    assert (inventory.gpus, inventory.driver) == ((), "")


def test_linux_is_not_refused() -> None:
    host.refuse_platform()


REFUSED = {
    "macOS": ("darwin", "macOS is not supported", "Linux"),
    "Windows": ("win32", "Windows is not supported", "WSL2"),
    "Cygwin": ("cygwin", "Windows is not supported", "WSL2"),
    "any other": ("freebsd14", "freebsd14 is not supported", "Linux"),
}


@pytest.mark.parametrize(("system", "message", "hint"), REFUSED.values(), ids=REFUSED.keys())
def test_other_platforms_are_refused(system: str, message: str, hint: str) -> None:
    with pytest.raises(LauncherError) as refused:
        host.refuse_platform(system)
    assert refused.value.message == message
    assert hint in refused.value.hint
