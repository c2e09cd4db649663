"""How long a start goes on, by what earlier ones took. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from launcher.phases import ORDER, READY, WEIGHTS
from launcher.starts import Setup, Start
from launcher.watch import Watch

# Of many starts the last ones tell most: drivers, disks and caches change.
LAST = 3


@dataclass(frozen=True, slots=True)
class Past:
    """The starts on record, the oldest first, and the setup that is started now; by itself it tells nothing."""

    starts: Sequence[Start] = ()
    setup: Setup | None = None


def estimate(past: Past, watch: Watch, at: float) -> float | None:
    """Seconds until it is ready; None where no earlier start tells.

    Each phase is taken to last as long as usual. One that lasts longer leaves those after it: never less than nothing.
    """
    usual = _usual(past, ahead=watch.ahead)
    if not usual or watch.now.name == READY:
        return None
    later = sum(usual.get(name, 0.0) for name in ORDER[ORDER.index(watch.now.name) + 1 :])
    left = usual.get(watch.now.name, 0.0) - (at - watch.since)
    if watch.now.name == WEIGHTS and watch.now.share:
        left = _by_share(left, watch, at, watch.now.share)
    return max(0.0, left) + later


def _by_share(left: float, watch: Watch, at: float, share: float) -> float:
    """The rest of a phase of which a share is done: the more is done, the more its own pace counts."""
    took = watch.told - watch.since
    at_this_pace = took * (1 - share) / share - (at - watch.told)
    return share * at_this_pace + (1 - share) * left


def _usual(past: Past, *, ahead: bool) -> dict[str, float]:
    """Seconds by phase: the middle ones of the last starts of the same setup, else of this model on this engine."""
    told = [start for start in past.starts if start.seconds and past.setup]
    same = [start for start in told if start.setup == past.setup]
    alike = [start for start in same if start.ahead == ahead]
    kin = [start for start in told if past.setup and _same_model(start.setup, past.setup)]
    group = (alike or same or kin)[-LAST:]
    return {name: median(start.seconds.get(name, 0.0) for start in group) for name in ORDER[:-1]} if group else {}


def _same_model(one: Setup, other: Setup) -> bool:
    return (one.engine, one.model) == (other.engine, other.model)
