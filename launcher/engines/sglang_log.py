"""What SGLang 0.5.23 prints as it starts: its phases, and its memory, whose "GB" are GiB (paths within sglang/srt)."""

import re
from collections import defaultdict
from collections.abc import Sequence

from launcher.gpu import GIB
from launcher.phases import GRAPHS, IMPORTS, KV, READY, WARMUP, WEIGHTS, Phase, phase_of
from launcher.starts import Measured

# Read off its starts on CPUs, and for GPUs off its source.
_PHASES = (
    # entrypoints/engine.py; distributed/bootstrap.py.
    (r"\] server_args=", IMPORTS, "read the settings; starting the scheduler"),
    (r"Init parallel begin|Init torch distributed begin", IMPORTS, "starting the workers"),
    # model_executor/model_runner.py; model_loader/weight_utils.py, whose bars differ by how weights are read.
    (r"Load weight begin", WEIGHTS, "loading the weights"),
    (r"(?:Loading (?:safetensors|pt) |Multi-thread loading ).*: +\d+%", WEIGHTS, "loading the weights"),
    # The pools are made right after, and told of when they are there (mem_cache/memory_pool.py).
    (r"Load weight end", KV, "making the KV cache"),
    (r"KV Cache is allocated|KV Cache VA upper bound", KV, "KV cache is ready; warming up"),
    # model_executor/runner and layers/deep_gemm_wrapper: kernels before graphs. A graph is compiled piece by piece.
    (r"Running FlashInfer autotune|DeepGEMM warmup|DeepGEMM JIT Compiling", GRAPHS, "warming up kernels"),
    (r"Compiling num tokens .*: +\d+%", GRAPHS, "compiling"),
    (r"Capture .* graph begin|Capturing .*: +\d+%", GRAPHS, "capturing CUDA graphs"),
    # managers/scheduler.py; uvicorn, whose "startup complete" comes before the first generation; http_server.py.
    (r"\] max_total_num_tokens=\d+", WARMUP, "preparing the server"),
    (r"Uvicorn running on", WARMUP, "the address is open; generating for the first time"),
    (r"The server is fired up and ready to roll", READY, "ready"),
)
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


def phase(line: str) -> Phase | None:
    """What a line tells of the start's phase; None for most lines."""
    return phase_of(line, _PHASES)


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
