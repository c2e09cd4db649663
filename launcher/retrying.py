"""When a download that broke off is tried again, and in which way. Decisions only."""

from collections.abc import Sequence
from dataclasses import dataclass

# So long no byte may come before that is called a stall (seconds).
PATIENCE = 60.0
# Waits between two tries double from the first to the longest (seconds).
FIRST, LONGEST = 1.0, 60.0
# So many tries in a row without a byte are the last: about two minutes of waiting, and each try's own.
TRIES = 7
# So many stalls while Xet is on turn it off.
STALLS = 2


@dataclass(frozen=True, slots=True)
class Break:
    """How a try ended: `moved` says whether a byte came in it, `xet` whether Xet was on."""

    reason: str
    moved: bool
    xet: bool
    stalled: bool = False


@dataclass(frozen=True, slots=True)
class Again:
    """Try again after so many seconds, with Xet or by plain HTTP; `turned` says that this is another way than before."""

    wait: float
    xet: bool
    turned: bool = False


def after(breaks: Sequence[Break]) -> Again | None:
    """What to do after these; None gives up."""
    last = breaks[-1]
    idle = next((number for number, each in enumerate(reversed(breaks)) if each.moved), len(breaks))
    if idle >= TRIES:
        return None
    stalls = sum(each.stalled for each in breaks if each.xet)
    xet = last.xet and stalls < STALLS
    return Again(min(FIRST * 2 ** max(0, idle - 1), LONGEST), xet, turned=last.xet and not xet)
