"""The network interfaces of this machine, and Docker's bridge among them."""

import shutil
import socket
import subprocess

from launcher.exposure import Interfaces

_BRIDGE = "docker0"
# A daemon that hangs must not keep anybody waiting (seconds).
_PATIENCE = 3.0


def read(*, docker: bool = False) -> Interfaces:
    """The addresses that there are now; with `docker`, its bridge's too.

    The bridge is there while Docker does not run as well, if it ran since this machine was started. One of another name is
    known to Docker alone.
    """
    import psutil

    families = {socket.AF_INET, socket.AF_INET6}
    found = {
        name: tuple(each.address for each in addresses if each.family in families)
        for name, addresses in psutil.net_if_addrs().items()
    }
    if not docker:
        return Interfaces(found)
    usual = next((address for address in found.get(_BRIDGE, ()) if ":" not in address), "")
    return Interfaces(found, usual or _asked({address for each in found.values() for address in each}))


def _asked(here: set[str]) -> str:
    """What Docker says of its bridge, if that is an address of this machine: a Docker in a virtual machine has it there."""
    program = shutil.which("docker")
    if program is None:
        return ""
    argv = [program, "network", "inspect", "bridge", "--format", "{{range .IPAM.Config}}{{println .Gateway}}{{end}}"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_PATIENCE, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next((line for line in done.stdout.split() if line in here), "")
