"""What earlier starts on this device say of a plan's weights and overhead. Pure.

Two things are learnt. A start of the very same setup tells both: they replace the modelled ones. Starts of other models on the
same GPUs tell how far the modelled overhead is off there, since much of it (the CUDA context, NCCL's buffers, graphs) is
theirs and not the model's: it is raised by the middle one of what they took more, and lowered only where all of several had
some to spare, by no more than the least of it. No claim is ever changed by this: what is learnt moves KV cache within it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from launcher.engines.base import Budget
from launcher.gpu import GIB
from launcher.starts import Setup, Start

# What two starts of one setup differ by at most: what vLLM itself leaves for that (v1/worker/gpu_worker.py,
# redundancy_buffer_memory).
NOISE = 150 << 20
# Engines print hundredths of a GiB.
ROUNDING = GIB // 200 + 1
# Lowered for another model's sake only if so many models agree, and by so much of it at most. One may be raised to twice.
AGREEING, LOWERED_BY = 3, 0.25


@dataclass(frozen=True, slots=True)
class Corrected:
    """Weights and budget of a rank as earlier starts say, and that in words; "" where they say nothing."""

    weights: int
    budget: Budget
    note: str = ""


def corrected(weights: int, budget: Budget, setup: Setup, starts: Sequence[Start], *, growing: bool) -> Corrected:
    """The modelled `weights` and `budget` of a setup, corrected by the starts on record, the oldest first.

    `growing`: the overhead grows with the context (sparse attention's workspaces), so that one start tells too little of it.
    """
    same = [start for start in starts if start.setup == setup]
    if same:
        return _as_measured(weights, budget, same, growing=growing)
    return Corrected(weights, *_as_others_showed(budget, [start for start in starts if _kin(start.setup, setup)]))


def _as_measured(weights: int, budget: Budget, same: Sequence[Start], *, growing: bool) -> Corrected:
    """The worst of these starts, and the noise on top; but what was proven once is possible again."""
    telling = [each for each in same if _profiled(each)] or same
    loaded = max((each.measured.weights for each in telling if each.measured.weights), default=None) or weights
    profiled = max(_profiled(each) for each in telling)
    held = max((each.measured.peak - _cached(each) for each in telling if each.measured.peak), default=0)
    overhead = profiled + NOISE - loaded if profiled else max(budget.overhead, held - loaded)
    if growing:
        overhead = max(overhead, budget.overhead)
    proven = max((_proven(each) for each in same if each.planned.claim <= budget.claim), default=0)
    kv = max(budget.claim - loaded - overhead, min(proven, budget.claim - loaded))
    known = replace(budget, overhead=budget.claim - loaded - kv, kv=kv)
    return Corrected(loaded, known, _told(same, by_measure=overhead != budget.overhead))


def _told(same: Sequence[Start], *, by_measure: bool) -> str:
    """Which figures are those of earlier starts, in words."""
    last = same[-1]
    figures = ["weights"] * (last.measured.weights is not None) + ["overhead"] * by_measure
    if figures:
        return f"{' and '.join(figures)} as measured here on {last.on}"
    if last.measured.peak:
        return f"a start here on {last.on} took {last.measured.peak / GIB:.1f} GiB, no more than planned"
    return f"started so here on {last.on}"


def _profiled(start: Start) -> int:
    """Bytes of weights and overhead together; 0 where the engine does not tell both."""
    weights, overhead = start.measured.weights, start.measured.overhead
    return 0 if weights is None or overhead is None else weights + overhead


def _cached(start: Start) -> int:
    return start.planned.kv if start.measured.kv is None else start.measured.kv


def _proven(start: Start) -> int:
    """Bytes of KV cache that this start had and needed."""
    return min(start.planned.kv, _cached(start) + ROUNDING)


def _kin(one: Setup, other: Setup) -> bool:
    """Whether two setups share what is not the model's: like GPUs in like groups, and the engine."""
    return (one.ground, one.tensor, one.pipeline) == (other.ground, other.tensor, other.pipeline)


def _as_others_showed(budget: Budget, kin: Iterable[Start]) -> tuple[Budget, str]:
    newest = {
        start.setup: start.measured.overhead - start.planned.modelled.overhead for start in kin if start.measured.overhead
    }
    more = sorted(newest.values())
    change = _change(more, budget.overhead)
    if not change:
        return budget, ""
    known = replace(budget, overhead=budget.overhead + change, kv=budget.kv - change)
    others = f"{len(more)} other starts" if len(more) > 1 else "another start"
    return known, f"overhead {change / GIB:+.2f} GiB, as {others} on this kind of GPU showed"


def _change(more: Sequence[int], overhead: int) -> int:
    """Bytes to add to the modelled overhead, by what others took more than theirs, in ascending order.

    The middle one is robust: a single start that another program disturbed moves nothing.
    """
    if more and more[len(more) // 2] > 0:
        return min(more[len(more) // 2], overhead)
    if len(more) >= AGREEING and more[-1] < -NOISE:
        return -min(-more[-1] - NOISE, int(overhead * LOWERED_BY))
    return 0
