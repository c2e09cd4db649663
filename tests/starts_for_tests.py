"""Starts on record, as values for tables."""

from launcher.gpu import GIB
from launcher.plan import Memory, Modelled
from launcher.starts import Measured, Setup, Start

SETUP = Setup("GPU, 79 GiB", "vllm", "0.32.0", "tiny", "bf16", 1, 1, "bf16")


def size(gib: float) -> int:
    return round(gib * GIB)


def start(
    setup: Setup = SETUP,
    *,
    claim: float = 70,
    weights: float | None = None,
    overhead: float | None = None,
    kv: float | None = None,
    peak: float | None = None,
    planned_kv: float = 10,
    modelled: float = 2.0,
) -> Start:
    """A start of which the rules said 15 GiB of weights and `modelled` of overhead; what was measured in GiB too."""
    planned = Memory(size(15), size(planned_kv), size(modelled), size(claim), 80_000, Modelled(size(15), size(modelled)))
    told = [None if each is None else size(each) for each in (weights, kv, overhead, peak)]
    return Start(setup, "2026-11-22", 32_768, planned, Measured(weights=told[0], kv=told[1], overhead=told[2], peak=told[3]))
