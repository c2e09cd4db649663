"""How SGLang 0.5.23 turns memory into KV tokens, from its own code (paths within sglang/srt)."""

import math
from dataclasses import dataclass

from launcher import memory
from launcher.architecture import Architecture
from launcher.gpu import GIB
from launcher.layers import Attention, Latent, Stage, State, staged

MIB = 1 << 20
# arg_groups/fields/schedule.py: defaults of --swa-full-tokens-ratio and --mamba-full-memory-ratio; DeepSeek V4's own first.
WINDOW_RATIO, WINDOW_RATIO_V4 = 0.8, 0.1
STATE_RATIO = 0.9
# What loading takes besides the weights: SGLang measures it by the free memory of the card (segments of PyTorch's allocator,
# libraries: 0.02 to 0.15 GiB in published starts), and where the system's memory is the card's by that of the system, the
# loading process's own included (GB10: 0.6 to 1.6 GiB). Source: utils/common.py, get_available_gpu_memory (is_integrated).
LOADING, LOADING_UNIFIED = GIB // 10, GIB
# Slots of states for each request: three, and two that follow it (MAMBA_CACHE_SIZE_MAX_RUNNING_REQUESTS_RATIO,
# get_mamba_tracking_slots).
_STATE_SLOTS = 5
# Inputs that DeepSeek V4's 4-to-1 compressors keep, in a page of 256 tokens (deepseek_v4_compress_state.py).
_V4_RING, _V4_PAGE = 8, 256


@dataclass(frozen=True, slots=True)
class Setting:
    """How a server is started, as far as its KV cache depends on it.

    `page` is --page-size, in tokens; `stage` the layers that the rank holds, None for all; `drafts` the layers of a draft head,
    which has a pool of as many tokens.
    """

    tensor: int = 1
    kv_dtype: str = "bf16"
    page: int = 1
    window_ratio: float | None = None
    state_ratio: float = STATE_RATIO
    stage: Stage | None = None
    drafts: int = 0


def stages(layers: int, pipeline: int) -> tuple[Stage, ...]:
    """How a pipeline shares out its layers: what is left over goes to the last ones (distributed/utils.py, get_pp_indices)."""
    extra = layers % pipeline
    return staged([layers // pipeline] * (pipeline - extra) + [layers // pipeline + 1] * extra)


def static_share(
    total: int, *, tensor: int = 1, latent: bool = False, vision: bool = False, post_capture: bool = True
) -> float:
    """--mem-fraction-static where nobody gives it: what is left of the total after a reserve.

    With `post_capture` the cache is sized after graphs are captured, and the reserve is small; models with latents, and
    versions before that, reserve for activations and graphs. Source: arg_groups/memory_hook.py.
    """
    gpu = total / MIB
    if post_capture and not latent:
        reserved = 1536 + tensor / 8 * 1024 + (8 * 1024 if vision else 0)
        return round((gpu - reserved) / gpu, 3)
    prefill, sequences = batch_defaults(total, tensor)
    graphs = sequences * 2 + (1536 if latent else 8 * _prefill_graphs(prefill))
    reserved = 512 + 1.5 * max(prefill, 2048) + tensor / 8 * 1024 + graphs
    if gpu > 60 * 1024:
        reserved = max(reserved, 10 * 1024)
    # A tower of usual size; larger ones take up to a fifth (adjust_mem_fraction_for_vlm).
    return round((gpu - reserved) / gpu, 3) * (0.95 if vision else 1.0)


def batch_defaults(total: int, tensor: int) -> tuple[int, int]:
    """(chunked_prefill_size, largest batch of decode graphs) on such a card (arg_groups/memory_hook.py)."""
    few = tensor < 4  # noqa: PLR2004 - the source's own number
    for limit, prefill, alone, grouped in (
        (20, 2048, 8, 8), (35, 4096, 48, 160), (60, 4096, 32, 160), (160, 8192, 256, 512),
    ):  # fmt: skip
        if total < limit * GIB:
            return prefill, alone if few else grouped
    return 16_384, 512


def _prefill_graphs(tokens: int) -> int:
    """How many sizes are captured for prefill (arg_groups/cuda_graph_hook.py)."""
    sizes = [*range(4, 33, 4), *range(48, 257, 16), *range(288, 513, 32), *range(576, 1025, 64), *range(1280, 4097, 256)]
    return sum(size <= tokens for size in (*sizes, *range(4608, tokens + 1, 512)))


def loaded(weights: int, *, unified: bool = False) -> int:
    """Bytes that are gone of a device once its weights are loaded: "Load weight end ... mem usage"."""
    return weights + (LOADING_UNIFIED if unified else LOADING)


def pool(free_before: int, weights: int, share: float) -> int:
    """Bytes for KV cache and states: what is free after loading, less the slack, a share of what was free *before*.

    `weights` are what loading takes, as `loaded` tells.

    Source: mem_cache/kv_cache_configurator.py, _profile_available_bytes. Below zero where the server would not start.
    """
    return math.floor(free_before - weights - free_before * (1 - share))


def kv_pool(architecture: Architecture, bytes_left: int, setting: Setting) -> int:
    """What of the pool is for tokens: states of constant size take their share first (_handle_max_mamba_cache)."""
    if not any(isinstance(cache, State) for cache, _ in architecture.kept):
        return bytes_left
    return math.floor(bytes_left / (1 + setting.state_ratio))


def tokens(architecture: Architecture, kv: int, setting: Setting) -> int:
    """Tokens that `kv` bytes of a rank hold: those of layers that see all, in whole pages.

    Windows have a pool of their own, `window_ratio` of the tokens; where all layers have one, the ratio is not applied.
    Source: model_executor/pool_configurator.py (Default-, HybridSWA- and DSV4PoolConfigurator).
    """
    cell = cell_bytes(architecture, setting)
    return int(max(0, kv) / cell) // setting.page * setting.page if cell else 0


def kv_bytes(architecture: Architecture, context: int, sequences: float, setting: Setting) -> int:
    """Bytes of the KV pool on a rank for so many sequences of `context` tokens at once."""
    pages = math.ceil(context * sequences / setting.page)
    return math.ceil(pages * setting.page * cell_bytes(architecture, setting))


def cell_bytes(architecture: Architecture, setting: Setting) -> float:
    """Bytes that one token more takes, in all layers that the rank holds and in those of a draft head."""
    if any(isinstance(cache, Latent) and cache.window for cache, _ in architecture.kept):
        # Of DeepSeek V4 one layer more, as large as they are on average (pool_configurator.py, _spec_infl).
        more = 1 / architecture.layers if setting.drafts else 0.0
        return _v4_cell(architecture, setting) * (1 + more)
    full = window = 0
    for cache, numbers in architecture.kept:
        size = _token_bytes(cache, setting) * _held(numbers, setting)
        if isinstance(cache, Attention) and cache.window and not cache.chunked:
            window += size
        else:
            full += size
    ratio = WINDOW_RATIO if setting.window_ratio is None else setting.window_ratio
    return (full + ratio * window if full else window) + setting.drafts * _draft_bytes(architecture, setting)


def _draft_bytes(architecture: Architecture, setting: Setting) -> int:
    """Bytes of a token in a layer of a draft head, which is like the largest of the model's (DefaultPoolConfigurator)."""
    return max((_token_bytes(cache, setting) for cache, _ in architecture.kept), default=0)


def states(architecture: Architecture, sequences: int, speculated: int, setting: Setting) -> int:
    """Bytes of states without which a server that speculates would not take so many sequences.

    For each of them up to five slots, and one for each token that is verified; and once more of both, which is padding
    (mem_cache/kv_cache_configurator.py, _handle_max_mamba_cache and _calculate_mamba_ratio).
    """
    slots = _STATE_SLOTS * sequences + 1 + (speculated + 1) * (sequences + 1)
    held = [(cache, numbers) for cache, numbers in architecture.kept if isinstance(cache, State)]
    return slots * sum(memory.state_bytes(cache, setting.tensor) * _held(numbers, setting) for cache, numbers in held)


def _held(numbers: tuple[int, ...], setting: Setting) -> int:
    return len(numbers) if setting.stage is None else setting.stage.held(numbers)


def _token_bytes(cache: Attention | Latent | State | None, setting: Setting) -> int:
    """As any engine's, but that layers which share an earlier one's keys have a place of their own in the pool."""
    if isinstance(cache, Attention) and cache.shared:
        cache = Attention(cache.kv_heads, cache.key, cache.value, cache.window)
    return memory.token_bytes(cache, setting.kv_dtype, setting.tensor)


def _v4_cell(architecture: Architecture, setting: Setting) -> float:
    """DeepSeek V4: compressed latents and their index keys, and a share of a pool of windows with the compressors' inputs."""
    ratio = WINDOW_RATIO_V4 if setting.window_ratio is None else setting.window_ratio
    total = 0.0
    for cache, numbers in architecture.kept:
        if not isinstance(cache, Latent):
            continue
        row = memory.latent_bytes(cache, setting.kv_dtype)
        compressed = (row + memory.index_bytes(cache)) / cache.ratio if cache.ratio else 0.0
        inputs = _V4_RING / _V4_PAGE * 4 * 4 * (cache.width + cache.indexer) if cache.indexer else 0.0
        total += (compressed + ratio * (row + inputs)) * _held(numbers, setting)
    return total
