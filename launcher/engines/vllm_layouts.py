"""Which layouts vLLM 0.32 starts a model in, by its own raise statements (paths within the package vllm)."""

import math
from collections.abc import Iterator

from launcher.architecture import Architecture
from launcher.layers import Attention, State
from launcher.quantisation import Quantisation

# Decoders that are not split over stages: their classes lack SupportsPP (model_executor/models; config/model.py,
# verify_with_parallel_config: "Pipeline parallelism is not supported for this model").
UNSTAGED = frozenset({"gemma3n", "gemma3n_text", "zamba2"})
# Methods whose experts take other blocks than the checkpoint's where a rank's share does not hold whole ones, down to this
# (fused_moe/oracle/fp8.py, refine_fp8_moe_block_shape; quantization/moe_wna16.py halves groups).
_REFINED = frozenset({"fp8", "gptq", "awq", "gptq_marlin", "awq_marlin"})
_FINEST = 32
# Experts in MXFP4 are padded to what their kernels need (fused_moe/oracle/mxfp4.py).
_PADDED = "mxfp4"


def fault(architecture: Architecture, loaded: Quantisation, *, tensor: int, pipeline: int) -> str | None:
    """Why vLLM would not start this layout; None if it would."""
    return next(_faults(architecture, loaded, tensor, pipeline), None)


def _faults(architecture: Architecture, loaded: Quantisation, tensor: int, pipeline: int) -> Iterator[str]:
    if pipeline > architecture.layers:
        yield f"{pipeline} pipeline stages are more than the model's {architecture.layers} layers"
    if pipeline > 1 and architecture.model_type in UNSTAGED:
        yield f"the engine splits no {architecture.model_type} over pipeline stages"
    if tensor > 1:
        yield from _undivided(architecture, tensor)
        yield from _broken_blocks(architecture, loaded, tensor)


def _undivided(architecture: Architecture, tensor: int) -> Iterator[str]:
    """Heads and widths that the ranks cannot share.

    Sources: config/model.py (verify_with_parallel_config); the asserts on KV heads in models/*.py; distributed/utils.py
    (`divide`: MLPs, vision towers, states); fused_moe/config.py (experts); mamba/mamba_mixer2.py (groups).
    """
    for what, number in architecture.divisors:
        if number % tensor:
            yield f"tensor parallel {tensor} does not divide the {number} {what}"
    for cache, _ in architecture.kept:
        if isinstance(cache, Attention) and cache.kv_heads % tensor and tensor % cache.kv_heads:
            yield f"tensor parallel {tensor} neither divides the {cache.kv_heads} KV heads nor is a multiple of them"
        if isinstance(cache, State) and cache.groups > 1 and cache.groups % tensor:
            yield f"tensor parallel {tensor} does not divide the {cache.groups} groups of its Mamba layers"


def _broken_blocks(architecture: Architecture, loaded: Quantisation, tensor: int) -> Iterator[str]:
    """Shares of a rank that do not hold whole blocks of what shares a scale.

    Sources: in quantization: utils/fp8_utils.py (validate_fp8_block_shape and ..._moe), online/mxfp4.py, modelopt.py; for GPTQ,
    AWQ and compressed-tensors distributed/utils.py (verify_group_size_divides_partition).
    Marlin's own tiles are padded (marlin_utils.py, marlin_padded_nk).
    """
    outputs, inputs = loaded.block
    for kind, width in _widths(architecture, tensor):
        if not _quantised(architecture, loaded, kind):
            continue
        share = width // tensor
        whole = not share % (inputs or 1) and not share % (outputs or 1)
        if not whole and not _made_whole(architecture, loaded, kind, share):
            block = max(outputs, inputs)
            yield f"tensor parallel {tensor} leaves {share} of {width} {_NAMES[kind]} to a rank: no whole blocks of {block}"


_NAMES = {
    "attention": "attention outputs",
    "mlp": "elements between an MLP's halves",
    "experts": "elements between an expert's halves",
}


def _widths(architecture: Architecture, tensor: int) -> Iterator[tuple[str, int]]:
    """What is split between two projections: the second one's inputs are the first one's outputs."""
    for value in dict.fromkeys(cache.value for cache, _ in architecture.kept if isinstance(cache, Attention)):
        if not architecture.heads % tensor:
            yield "attention", architecture.heads * value
    yield "mlp", architecture.intermediate
    if architecture.experts:
        yield "experts", architecture.expert_size


def _quantised(architecture: Architecture, loaded: Quantisation, kind: str) -> bool:
    parts = [part for part in architecture.parts if part.kind == kind and part.shards > 1 and not part.draft]
    return any(loaded.bits_of(kind, part.modules, part.layers) < loaded.rest for part in parts)


def _made_whole(architecture: Architecture, loaded: Quantisation, kind: str, share: int) -> bool:
    """Whether the engine takes smaller blocks, or pads, rather than refuse: for experts alone."""
    if kind != "experts":
        return False
    if loaded.method == _PADDED:
        return True
    largest = math.gcd(*(size for size in loaded.block if size > 1), share, architecture.hidden)
    return loaded.method in _REFINED and largest >= _FINEST
