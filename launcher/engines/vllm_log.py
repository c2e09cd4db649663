"""What vLLM 0.32 prints as it starts: its phases, and its memory."""

import re
from collections.abc import Iterable, Sequence

from launcher.gpu import GIB
from launcher.phases import COMPILE, GRAPHS, IMPORTS, KV, READY, WARMUP, WEIGHTS, Phase, phase_of
from launcher.starts import Measured

# vLLM tells no phase as such; these lines were read off its starts on CPUs, and for GPUs off its source.
_PHASES = (
    # config/model.py; v1/engine/core.py; distributed/parallel_state.py.
    (r"Resolved architecture", IMPORTS, "read the model's configuration"),
    (r"Initializing a V1 LLM engine", IMPORTS, "starting the engine core"),
    (r"rank 0 in world size", IMPORTS, "starting the workers"),
    # v1/worker; model_executor/model_loader/weight_utils.py, whose bars differ by how weights are read.
    (r"Starting to load model|Loading model from scratch", WEIGHTS, "loading the weights"),
    (r"(?:Loading (?:safetensors|pt|np_cache)|Multi-thread loading) .*: +\d+%", WEIGHTS, "loading the weights"),
    # compilation/monitor.py, backends.py, decorators.py: what was compiled before is loaded.
    (r"Directly load (?:AOT compilation|the compiled graph)", COMPILE, "loading what was compiled"),
    (r"Starting torch\.compile|Dynamo bytecode transform|Compiling a graph|Cache the graph of", COMPILE, "compiling"),
    (r"torch\.compile (?:took|and initial)|Initial profiling/warmup run|Profiling CUDA graph", COMPILE, "measuring a pass"),
    # v1/worker/gpu_worker.py and cpu_worker.py; v1/core/kv_cache_utils.py.
    (r"Available KV cache memory|Explicitly set .* for KV cache", KV, "making the KV cache"),
    (r"KV cache size: [\d,]+ tokens", KV, "KV cache is ready; warming up"),
    # model_executor/warmup and v1/worker: kernels before graphs, both once the cache is there.
    (
        r"JIT kernel warmup starting|(?:JIT kernel|DeepGEMM) warmup.*: +\d+%|Compil(?:e and|ing CuTeDSL)",
        GRAPHS,
        "warming up kernels",
    ),
    (r"Using FlashInfer autotune cache|Warming up FlashInfer", GRAPHS, "warming up kernels"),
    (r"Capturing .*CUDA graphs.*: +\d+%", GRAPHS, "capturing CUDA graphs"),
    # v1/engine/core.py; entrypoints/launchers/api_server/entry.py; uvicorn.
    (r"init engine \(profile, create kv cache, warmup model\) took", WARMUP, "preparing the server"),
    (r"Starting vLLM server", WARMUP, "opening the address"),
    (r"Application startup complete", READY, "ready"),
)
# v1/worker/gpu_model_runner.py and v1/worker/gpu/model_runner.py; one line, or one of each worker.
_WEIGHTS = re.compile(r"Model loading took ([\d.]+) GiB")
# v1/core/kv_cache_utils.py, update_kv_cache_capacity: "GPU", "CPU", or what else the device is called.
_TOKENS = re.compile(r"KV cache size: ([\d,]+) tokens")
# v1/worker/gpu_worker.py, compile_or_warm_up_model; one line of each worker.
_REQUESTED = re.compile(r"Free memory on device .* Desired GPU memory utilization is \([\d.]+, ([\d.]+) GiB\)")
_KV = re.compile(r"Current kv cache memory in use is ([\d.]+) GiB")


def phase(line: str) -> Phase | None:
    """What a line tells of the start's phase; None for most lines."""
    return phase_of(line, _PHASES)


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
