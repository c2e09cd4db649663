"""The access log: who asked for what, how it ended and how long it took. No bodies, no query, no key."""

import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

# Bytes of the file before it becomes the older one of two.
_MOST = 16 << 20


class Line(NamedTuple):
    """One request. `at` in seconds since the epoch; `took`, and `first` until the answer's first bytes (0.0: none), in seconds.

    `model` is `LOCAL>FALLBACK` where a fallback answered. A NamedTuple and not a dataclass, since it is made for each request.
    """

    at: float
    number: int
    key: str
    method: bytes
    url: bytes
    model: str
    status: int
    took: float
    first: float
    sent: int


def text(lines: Iterable[Line]) -> str:
    """The lines as they are written."""
    return "".join(_text(line) for line in lines)


def write(path: Path, lines: Sequence[Line]) -> None:
    """Add the lines to the file; called in a thread, and a full disk stops no request."""
    with suppress(OSError):
        if path.exists() and path.stat().st_size > _MOST:
            path.replace(path.with_name(f"{path.name}.1"))
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a") as file:
            file.write(text(lines))


def _text(line: Line) -> str:
    second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(line.at))
    path = line.url.partition(b"?")[0][:200].decode("latin-1").encode("unicode_escape").decode()
    first = f" first={line.first * 1000:.1f}ms" if line.first else ""
    return (
        f"{second}.{int(line.at % 1 * 1000):03d}Z req-{line.number:x} {line.key or '-'} {line.method.decode('latin-1') or '-'} "
        f"{path or '-'} {line.model or '-'} {line.status} {line.took * 1000:.1f}ms{first} {line.sent}B\n"
    )
