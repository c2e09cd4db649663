"""The phases of an engine's start, in their order, and what a line of its log tells of them. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

IMPORTS, WEIGHTS, COMPILE, KV, GRAPHS, WARMUP, READY = ORDER = (
    "imports",
    "weights",
    "compile",
    "kv",
    "graphs",
    "warmup",
    "ready",
)
# Both forms of tqdm's bars: the engines' own for weights, and the common one.
_BAR = re.compile(r": +(\d+)%(?:\|| Completed \|)")

# A pattern that is searched in a line, the phase that such a line belongs to, and that in words for a person.
Lines = Iterable[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Phase:
    """Where a start is: the name of the phase, in words for a person, and how much of it is done (0 to 1; None: not told)."""

    name: str
    words: str
    share: float | None = None


BEGINNING = Phase(IMPORTS, "importing")


def phase_of(line: str, lines: Lines) -> Phase | None:
    """What a line of a log tells, by the first pattern that it meets; None for most lines."""
    for pattern, name, words in lines:
        if re.search(pattern, line):
            bar = _BAR.search(line)
            return Phase(name, words, int(bar[1]) / 100 if bar else None)
    return None
