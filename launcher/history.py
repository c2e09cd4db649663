"""The file of earlier starts. Whoever writes it holds the lock on the home."""

from collections import Counter
from collections.abc import Callable

from launcher import atomic, starts
from launcher.home import Home
from launcher.starts import Setup, Start

# Of each setup the newest tell all; and so many in all are read in a millisecond or two.
KEPT_OF_A_SETUP, KEPT = 3, 100


def read(home: Home) -> tuple[Start, ...]:
    """The starts on record, the oldest first; lines that are damaged are left out, and no file is no starts."""
    try:
        lines = home.starts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        # Plans are then made by the rules alone, as before the first start.
        return ()
    return tuple(start for line in lines if (start := starts.read(line)))


def add(home: Home, start: Start) -> None:
    """Put a start on record, in place of the oldest where there are many; raises OSError."""
    _write(home, _newest((*read(home), start)))


def drop(home: Home, which: Callable[[Start], bool]) -> None:
    """Take starts off the record; raises OSError."""
    before = read(home)
    after = [start for start in before if not which(start)]
    if len(after) < len(before):
        _write(home, after)


def _newest(rows: tuple[Start, ...]) -> list[Start]:
    seen: Counter[Setup] = Counter()
    kept = []
    for start in reversed(rows):
        seen[start.setup] += 1
        if seen[start.setup] <= KEPT_OF_A_SETUP:
            kept.append(start)
    return kept[:KEPT][::-1]


def _write(home: Home, rows: list[Start]) -> None:
    home.starts.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    atomic.write(home.starts, "".join(f"{starts.line(start)}\n" for start in rows))
