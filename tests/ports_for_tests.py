"""Ports that no other test of this run was given, since tests may run beside a real launcher and beside each other."""

import itertools
import os
from collections.abc import Iterator

from launcher import ports

# Over those of engines (launching.py), under those that the kernel gives to clients (ip_local_port_range).
_RANGE = range(20_000, 32_000, 2)
_START = os.getpid() % len(_RANGE)
_OURS: Iterator[int] = itertools.cycle([*_RANGE[_START:], *_RANGE[:_START]])


def own_port() -> int:
    """A free port whose next one is free as well.

    None is given twice in turn: what the test before has started in the background may listen for a moment yet.
    """
    return next(port for port in _OURS if ports.is_free(port) and ports.is_free(port + 1))
