"""What SGLang 0.5.23 prints of its memory as it starts; its "GB" are GiB (paths within sglang/srt)."""

import re
from collections import defaultdict
from collections.abc import Sequence

from launcher.gpu import GIB
from launcher.starts import Measured

# utils/common.py, configure_logger: "[2026-11-22 23:00:00 TP0] "; managers/scheduler.py adds the rank.
_RANK = re.compile(r"\[[\d-]+ [\d:.]+((?: [A-Z_]+\d+)*)\]")
# model_executor/model_runner.py, load_model.
_BEGIN = re.compile(r"Load weight begin\. avail mem=([\d.]+) GB")
_LOADED = re.compile(r"Load weight end\. .*mem usage=([\d.]+) GB")
# mem_cache/memory_pool.py: KV pools tell keys and values apart or together, and states of constant size their parts.
_POOL = re.compile(
    r"KV Cache is allocated\. .*?#tokens: \d+, (?:K size: ([\d.]+) GB, V size: ([\d.]+) GB|KV size: ([\d.]+) GB)"
)
_STATES = re.compile(r"Mamba Cache is allocated\. .*?conv_state size: ([\d.]+)GB, ssm_state size: ([\d.]+)GB")
# model_executor/model_runner_components/kv_pool_runtime.py: the pool that graphs left room for, in place of an upper bound.
_RESIZED = re.compile(r"Post-capture KV sizing: (?:draft )?KV cache allocated\. .*?KV size: ([\d.]+) GB")
# managers/scheduler.py, once all is there, of the first tensor rank of each stage.
_END = re.compile(r"max_total_num_tokens=(\d+), .*available_(?:gpu|cpu)_mem=([\d.]+) GB")


def measured(log: Sequence[str]) -> Measured:
    """The figures of the fullest rank; a draft model's weights and pools count with those of its target.

    SGLang profiles no pass, so that nothing tells the overhead with activations: `peak` is what was held once graphs were
    captured, of the ranks that tell both ends.
    """
    loaded: defaultdict[str, float] = defaultdict(float)
    cached: defaultdict[str, float] = defaultdict(float)
    before: dict[str, float] = {}
    held, tokens = [], []
    for each in log:
        rank = found[1] if (found := _RANK.search(each)) else ""
        if found := _BEGIN.search(each):
            before.setdefault(rank, float(found[1]))
        elif found := _LOADED.search(each):
            loaded[rank] += float(found[1])
        elif found := _POOL.search(each) or _STATES.search(each) or _RESIZED.search(each):
            cached[rank] += sum(float(size) for size in found.groups() if size)
        elif found := _END.search(each):
            tokens.append(int(found[1]))
            held.append(before.get(rank, 0.0) - float(found[2]))
    return Measured(
        weights=_bytes(max(loaded.values(), default=0.0)),
        kv=_bytes(min(cached.values(), default=0.0)),
        kv_tokens=min(tokens, default=None),
        peak=_bytes(max(held, default=0.0)),
    )


def _bytes(gib: float) -> int | None:
    """None for what was not told."""
    return round(gib * GIB) if gib > 0 else None
