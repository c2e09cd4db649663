"""Which TCP ports are free on this machine, and who holds one that is not."""

import errno
import socket
from collections.abc import Collection
from pathlib import Path

from launcher.errors import LauncherError

LOOPBACK = "127.0.0.1"
# Where agents find the model, unless somebody else was there first.
FIRST = 8400
_LAST = 65_535
_LISTENING = "0A"  # include/net/tcp_states.h, as /proc/net/tcp writes it


def free(start: int, *, host: str = LOOPBACK) -> int:
    """The first port from `start` on that an engine can listen on at `host`; raises LauncherError if there is none."""
    for port in range(start, _LAST + 1):
        if is_free(port, host=host):
            return port
    raise LauncherError(f"no port from {start} to {_LAST} is free on {host}", hint="choose a lower port")


def is_free(port: int, *, host: str = LOOPBACK) -> bool:
    """Whether a server could listen there, found by binding; raises LauncherError if `host` is not an address of this machine.

    IPv6's loopback has to be free too: whoever listens only there gets what clients send to `localhost`.
    """
    return _can_bind(host, port) and (not _has_ipv6() or _can_bind("::1", port))


def bound(host: str, port: int) -> socket.socket:
    """A socket at this very address and at no other; raises OSError where that cannot be had."""
    family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(place)
    except OSError:
        made.close()
        raise
    return made


def holder(port: int) -> str | None:
    """Who listens on the port, `nginx (pid 33)`, or a few words where that cannot be seen; None if nobody does."""
    import psutil

    try:
        listening = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    except psutil.AccessDenied:
        listening = []
    here = [connection for connection in listening if connection.laddr and connection.laddr.port == port]
    pids = [connection.pid for connection in here if connection.pid]
    if pids:
        return _called(min(pids))
    if here:
        return "another user's process"
    return None if is_free(port) else "a process that cannot be seen"


def is_held_by(port: int, pids: Collection[int]) -> bool:
    """Whether one of these processes listens on the port; where the system does not let us see that, it is taken for so."""
    import psutil

    try:
        listening = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    except psutil.AccessDenied:
        return True
    return any(each.laddr and each.laddr.port == port and each.pid in pids for each in listening)


def _called(pid: int) -> str:
    import psutil

    try:
        return f"{psutil.Process(pid).name()} (pid {pid})"
    except psutil.Error:
        return f"a process that just ended (pid {pid})"


def _can_bind(host: str, port: int) -> bool:
    """A plain bind fails if anything is on the port.

    What only remains of ended connections does not stop an engine, which binds with SO_REUSEADDR. But that alone would not
    notice an engine that is still loading: vLLM binds like this at its start, and listens when the model is loaded.
    """
    return _binds(host, port, reuse=False) or (_binds(host, port, reuse=True) and _has_remains(port))


def _binds(host: str, port: int, *, reuse: bool) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) or isinstance(error, socket.gaierror):
                raise LauncherError(f"{host} is not an address of this machine") from None
            return False
    return True


def _has_remains(port: int) -> bool:
    """Whether a connection, not a listener, has this local port; columns as in Documentation/networking/proc_net_tcp.rst."""
    suffix = f":{port:04X}"
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        rows = table.read_text().splitlines()[1:] if table.exists() else []
        if any(row.split()[1].endswith(suffix) and row.split()[3] != _LISTENING for row in rows):
            return True
    return False


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
