"""How many bytes a model takes on each GPU: weights, KV cache, and what an engine needs besides.

Each function is per tensor-parallel rank. Engines differ in how they turn a share of memory into KV tokens: their adapters
know that, and call these.
"""

import math

from launcher.architecture import Architecture
from launcher.gpu import GIB
from launcher.layers import Attention, Latent, Stage, State
from launcher.parts import MADE, Part
from launcher.quantisation import PRECISIONS, Quantisation

# Bits of one quantised element, scales included.
BITS = {name: each.bits for name, each in PRECISIONS.items()}
KV_BYTES = {"bf16": 2, "fp16": 2, "fp8": 1, "fp32": 4}
SIXTEEN_BIT = 2  # bytes
# An index key is kept in FP8 with a 32-bit scale for each 128 elements (vllm, models/deepseek_v2.py; sglang, DSATokenToKVPool).
_INDEX_BLOCK, _SCALE = 128, 4


def weights(
    architecture: Architecture,
    precision: str | Quantisation,
    tensor: int,
    *,
    files: int | None = None,
    drafts: bool = False,
    stage: Stage | None = None,
) -> int:
    """Bytes of the weights on one of `tensor` ranks, in a precision of quantisation.PRECISIONS or a checkpoint's own.

    Of a `stage` of a pipeline those of its layers, and of what stands before and behind them.

    What cannot split is held whole: norms and routers, latents' projections, and KV projections where there are more ranks
    than KV heads. `files` are the exact bytes of the safetensors, in the checkpoint's own precision: they then set the scale.
    `drafts`: multi-token prediction heads too, which are loaded for speculative decoding alone.
    """
    loaded = PRECISIONS[precision] if isinstance(precision, str) else precision
    counted = _bytes(architecture, loaded, tensor, drafts=drafts, stage=stage)
    if files is None:
        return round(counted)
    stored = architecture.quantisation or PRECISIONS["bf16" if architecture.element_bytes == SIXTEEN_BIT else "fp32"]
    made = _made(architecture, tensor)
    return round((counted - made) * files / _bytes(architecture, stored, 1, drafts=True, engine=False) + made)


def _made(architecture: Architecture, tensor: int) -> float:
    """Bytes of what an engine makes while loading, in 16 bits, whatever the files are in."""
    made = (part for part in architecture.parts if part.kind in MADE and not part.draft)
    return sum(part.elements * SIXTEEN_BIT / min(tensor, part.shards) for part in made)


def _bytes(
    architecture: Architecture,
    loaded: Quantisation,
    tensor: int,
    *,
    drafts: bool,
    engine: bool = True,
    stage: Stage | None = None,
) -> float:
    """Bytes of all parts; without `engine` as they lie in files: nothing made, nothing padded."""
    total = 0.0
    for part in architecture.parts:
        if (part.draft and not drafts) or (part.kind in MADE and not engine):
            continue
        number = (len(part.layers) or 1) if stage is None else _held(part, stage, tied=architecture.tied_embeddings)
        if not number:
            continue
        padding = _padding(architecture, loaded, tensor) if engine and part.kind == "experts" else 1.0
        bits = loaded.bits_of(part.kind, part.modules, part.layers)
        total += part.each * number * bits / 8 * padding / min(tensor, part.shards)
    return total


def _held(part: Part, stage: Stage, *, tied: bool) -> int:
    """How often a stage holds a part: its layers', embeddings at the first, the head and drafts at the last, towers everywhere.

    An embedding that is the output head too is on both (vllm, models/llama.py: is_first_rank or tied and is_last_rank).
    """
    if part.layers:
        return stage.held(part.layers)
    if part.draft or part.kind == "head":
        return int(stage.closes)
    if part.kind == "embedding":
        return int(stage.opens or (tied and stage.closes))
    return 1


def _padding(architecture: Architecture, loaded: Quantisation, tensor: int) -> float:
    """How much larger MXFP4 experts become for their kernels: the rank's share to 128, the hidden size to 256.

    Source: vllm, fused_moe/oracle/mxfp4.py (Marlin and TensorRT-LLM). Checked: gpt-oss-20b 13.72 GiB, 120b 65.97 GiB.
    """
    if loaded.method != "mxfp4" or not architecture.experts:
        return 1.0
    share = architecture.expert_size / tensor
    hidden = architecture.hidden
    return math.ceil(share / 128) * 128 / share * math.ceil(hidden / 256) * 256 / hidden


def kv_heads_per_rank(architecture: Architecture, tensor: int) -> int:
    """KV heads that one rank holds: at least one (vLLM: config/model.py, get_num_kv_heads)."""
    return max(1, architecture.kv_heads // tensor)


def kv_bytes_per_token(architecture: Architecture, kv_dtype: str, tensor: int) -> int:
    """Bytes of KV cache that one token takes on one rank in all layers that keep tokens, within their windows.

    Exact for plain attention; for windows and states an adapter's own rule says how many tokens a number of bytes holds.
    """
    return sum(len(layers) * token_bytes(cache, kv_dtype, tensor) for cache, layers in architecture.kept)


def token_bytes(cache: Attention | Latent | State | None, kv_dtype: str, tensor: int) -> int:
    """Bytes of one token in one layer, on one rank."""
    if isinstance(cache, Attention) and not cache.shared:
        return max(1, cache.kv_heads // tensor) * (cache.key + cache.value) * KV_BYTES[kv_dtype]
    if isinstance(cache, Latent):
        return (latent_bytes(cache, kv_dtype) + index_bytes(cache)) // max(1, cache.ratio)
    return 0


def latent_bytes(cache: Latent, kv_dtype: str) -> int:
    """Bytes of one latent vector, the same on each rank.

    In FP8, sparse attention's latents have their own layouts: 656 bytes (512 in FP8, four 32-bit scales, 64 rotary in 16 bits;
    vllm, flashmla_sparse.py). DeepSeek V4's are in FP8 unless 16 bits are forced: 584 bytes (models/deepseek_v4/attention.py;
    sglang, overrides.py).
    """
    if cache.window:
        return 584
    if kv_dtype == "fp8" and cache.sparse:
        return 656
    return cache.width * KV_BYTES[kv_dtype]


def index_bytes(cache: Latent) -> int:
    """Bytes of one index key: FP8 with its scales."""
    return cache.indexer + cache.indexer // _INDEX_BLOCK * _SCALE


def state_bytes(state: State, tensor: int) -> int:
    """Bytes of one layer's state of one sequence, on one rank (vllm, mamba_utils.py, MambaStateShapeCalculator)."""
    groups = state.groups if state.groups % tensor == 0 else state.groups + tensor - state.groups
    convolution = (state.convolution + groups * state.group) // tensor * state.history
    return convolution * SIXTEEN_BIT + state.recurrent // tensor * state.recurrent_bytes


def activations(architecture: Architecture, *, tokens: int, sequences: int, tensor: int, copies: float = 3.87) -> int:
    """Peak bytes of a forward pass over `tokens` tokens, or of sampling for `sequences` rows, whichever is larger.

    The pass: three hidden-sized and three MLP-sized intermediates in 16 bits (vLLM 0.6.4: 2.071 and 2.991 GiB for 20,000 and
    29,000 tokens of Llama 3.1 8B). Sampling: `copies` of the logits in 32 bits, 3.7 to 4.1 in profiles of vLLM 0.17 to 0.19.
    Experts' workspaces stay beside them (vllm, fused_moe/modular_kernel.py); MXFP4 kernels have none.
    """
    forward = tokens * SIXTEEN_BIT * (3 * architecture.hidden + 3 * architecture.intermediate // tensor)
    sampling = round(copies * sequences * architecture.vocab * 4)
    return max(forward, sampling) + _workspaces(architecture, tokens, tensor)


def _workspaces(architecture: Architecture, tokens: int, tensor: int) -> int:
    if not architecture.experts or (architecture.quantisation and architecture.quantisation.method == "mxfp4"):
        return 0
    between = architecture.expert_size // tensor
    return tokens * architecture.active * (max(2 * between, architecture.hidden) + between) * SIXTEEN_BIT


def outside_torch(tensor: int) -> int:
    """Bytes that CUDA's libraries and NCCL take beside PyTorch's.

    0.25 GiB alone, 2.1 GiB in a tensor-parallel group (published starts of vLLM 0.18 and 0.19).
    """
    return GIB // 4 if tensor == 1 else round(2.1 * GIB)
