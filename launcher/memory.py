"""How many bytes a model takes on each GPU: weights, KV cache, and what an engine needs besides.

Each function is per tensor-parallel rank. Engines differ in how they turn a share of memory into KV tokens: their adapters
know that, and call these.
"""

from launcher.architecture import Architecture
from launcher.gpu import GIB

# Bits of one quantised element, scales included. mxfp4: 4 bits and one 8-bit exponent for each block of 32 (OCP MX 1.0).
BITS = {"bf16": 16.0, "fp16": 16.0, "fp8": 8.0, "mxfp4": 4.25}
KV_BYTES = {"bf16": 2, "fp16": 2, "fp8": 1}
SIXTEEN_BIT = 2  # bytes


def weights(architecture: Architecture, precision: str, tensor: int) -> int:
    """Bytes of the weights on one of `tensor` ranks; KV projections are repeated where there are more ranks than KV heads."""
    split = architecture.linear_parameters / tensor
    kv_heads = kv_heads_per_rank(architecture, tensor)
    repeated = kv_heads - architecture.kv_heads / tensor
    split += architecture.layers * 2 * architecture.hidden * architecture.head_dim * repeated
    embeddings = architecture.embedding_parameters / tensor
    return round(split * BITS[precision] / 8 + (embeddings + architecture.other_parameters) * SIXTEEN_BIT)


def kv_heads_per_rank(architecture: Architecture, tensor: int) -> int:
    """KV heads that one rank holds: at least one (vLLM: config/model.py, get_num_kv_heads)."""
    return max(1, architecture.kv_heads // tensor)


def kv_bytes_per_token(architecture: Architecture, kv_dtype: str, tensor: int) -> int:
    """Bytes of KV cache that one token takes on one rank: a key and a value in each layer."""
    return 2 * architecture.layers * kv_heads_per_rank(architecture, tensor) * architecture.head_dim * KV_BYTES[kv_dtype]


def activations(architecture: Architecture, *, tokens: int, sequences: int, tensor: int) -> int:
    """Peak bytes of a forward pass over `tokens` tokens, or of sampling for `sequences` rows, whichever is larger.

    The pass: residual, its norm and two projections of the hidden size, and the gated MLP's three intermediates, in 16 bits.
    Sampling: about four copies of the logits in 32 bits (published profiles of vLLM 0.17 to 0.19: 3.7 to 4.1).
    """
    forward = tokens * SIXTEEN_BIT * (4 * architecture.hidden + 3 * architecture.intermediate // tensor)
    sampling = 4 * sequences * architecture.vocab * 4
    return max(forward, sampling)


def outside_torch(tensor: int) -> int:
    """Bytes that CUDA's libraries and NCCL take beside PyTorch's.

    0.25 GiB alone, 2.1 GiB in a tensor-parallel group (published starts of vLLM 0.18 and 0.19).
    """
    return GIB // 4 if tensor == 1 else round(2.1 * GIB)
