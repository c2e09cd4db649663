"""What vLLM 0.32 prints of its memory as it starts."""

import re
from collections.abc import Iterable, Sequence

from launcher.gpu import GIB
from launcher.starts import Measured

# v1/worker/gpu_model_runner.py and v1/worker/gpu/model_runner.py; one line, or one of each worker.
_WEIGHTS = re.compile(r"Model loading took ([\d.]+) GiB")
# v1/core/kv_cache_utils.py, update_kv_cache_capacity: "GPU", "CPU", or what else the device is called.
_TOKENS = re.compile(r"KV cache size: ([\d,]+) tokens")
# v1/worker/gpu_worker.py, compile_or_warm_up_model; one line of each worker.
_REQUESTED = re.compile(r"Free memory on device .* Desired GPU memory utilization is \([\d.]+, ([\d.]+) GiB\)")
_KV = re.compile(r"Current kv cache memory in use is ([\d.]+) GiB")


def measured(log: Sequence[str]) -> Measured:
    """The figures of the fullest rank; the smallest KV cache is the one that all ranks use.

    The overhead is what a rank's share holds beside weights and KV cache: activations as profiled, CUDA graphs as estimated,
    and what lies outside PyTorch. A CPU build loads no weights that it would tell of, and is told the KV cache's size.
    """
    shares = [
        (_bytes(requested[1]), _bytes(kv[1]))
        for each in log
        if (requested := _REQUESTED.search(each)) and (kv := _KV.search(each))
    ]
    weights = max(map(_bytes, _found(_WEIGHTS, log)), default=None)
    tokens = [int(count.replace(",", "")) for count in _found(_TOKENS, log)]
    others = max((requested - kv for requested, kv in shares), default=None)
    return Measured(
        weights=weights,
        kv=min((kv for _, kv in shares), default=None),
        kv_tokens=tokens[-1] if tokens else None,
        overhead=None if others is None or weights is None else max(0, others - weights) or None,
    )


def _found(pattern: re.Pattern[str], log: Iterable[str]) -> list[str]:
    return [found[1] for each in log if (found := pattern.search(each))]


def _bytes(gib: str) -> int:
    return round(float(gib) * GIB)
