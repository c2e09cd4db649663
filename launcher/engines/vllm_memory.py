"""How vLLM turns memory into KV tokens, from its own code; rules that changed are by version."""

import math
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from launcher import memory
from launcher.architecture import Architecture
from launcher.gpu import GIB
from launcher.layers import Attention, Cache, Latent, Stage, State, staged

Version = tuple[int, int]
Kept = tuple[Cache, tuple[int, ...]]
CURRENT: Version = (0, 32)
BLOCK = 16  # config/cache.py, DEFAULT_BLOCK_SIZE
ANY_NUMBER = sys.maxsize

# Versions at which a rule changed, and what says so.
SLIDING_SINCE: Version = (0, 10)  # before, windows took a full cache (gpt-oss on 0.10.1.1 is the first that shows groups)
LEAN_SAMPLER: Version = (0, 17)  # profiled peaks of 9.6 to 9.9 times the logits before, 3.7 to 4.1 from then on
HEAVIER_CONTEXT: Version = (0, 18)  # 0.13 GiB outside PyTorch before, 0.25 from then on (published starts)
GRAPHS_COUNTED: Version = (0, 21)  # gpu_worker.py: graph memory is profiled "by default since v0.21.0"
SHARE_RISEN: Version = (0, 20)  # --gpu-memory-utilization: 0.90 before, 0.92 after
TWO_IN_FLIGHT: Version = (0, 26)  # pull request 47728: a window holds all that is scheduled and not yet settled
STATES_CACHED: Version = (0, 27)  # pull request 50991: hybrids cache prefixes by default, `mamba_cache_mode` "align"

LARGE, HUGE = 70 * GIB, 160 * GIB
# Tokens in a block of DeepSeek V4's compressed latents, and of its window; and the bytes to which pages are padded
# (models/deepseek_v4).
_V4_BLOCK, _V4_WINDOW_BLOCK, _V4_ALIGNMENT = 256, 64, 576
# A group that has fewer layers than this times another's is padded to it (kv_cache_utils.py).
_NEARLY = 1.5
_MLA_ALIGNMENT = 128  # platforms/interface.py: blocks of hybrids with latents
# Starts since 0.21 with up to 64 sequences tell 0.06 to 0.74 GiB for graphs on one card, 1.2 on each of eight.
GRAPHS, GRAPHS_IN_GROUP = GIB // 2, 5 * GIB // 4
# A draft head is captured too: 0.74 GiB on one card, 2.2 to 2.4 on each of eight.
GRAPHS_DRAFTING = 2


@dataclass(frozen=True, slots=True)
class Setting:
    """How a server is started, as far as its KV cache depends on it.

    `batched` is --max-num-batched-tokens; `drafts` the layers of a draft head, `speculated` the tokens that it proposes;
    `contexts` the ranks that share a sequence (decode context parallelism); `block` is --block-size, in tokens; `stage` the
    layers that the rank holds, None for all.
    """

    tensor: int = 1
    kv_dtype: str = "bf16"
    batched: int = 8192
    version: Version = CURRENT
    drafts: int = 0
    speculated: int = 0
    contexts: int = 1
    block: int = BLOCK
    stage: Stage | None = None


@dataclass(frozen=True, slots=True)
class Pages:
    """The KV cache of one layer: pages of `bytes` for `block` tokens. `window` tokens back are kept, 0 for all.

    `states`: a sequence takes this many pages, however long it is; 0 for attention.
    """

    bytes: int
    block: int
    window: int = 0
    chunked: bool = False
    states: int = 0

    def needed(self, context: int, in_flight: int) -> int:
        """Pages that one sequence of `context` tokens holds at most (v1/kv_cache_interface.py, max_memory_usage_bytes)."""
        if self.states:
            return self.states
        if not self.window:
            return math.ceil(context / self.block)
        if self.chunked:
            return math.ceil(min(self.window + in_flight, context) / self.block)
        return math.ceil(min(self.window - 1 + in_flight, context) / self.block) + 1


@dataclass(frozen=True, slots=True)
class Group:
    """Layers that share a block table: `pages` of all of them are one block of `bytes`."""

    pages: Pages
    bytes: int


def stages(layers: int, pipeline: int) -> tuple[Stage, ...]:
    """How a pipeline shares out its layers; what is left over goes to the middle (distributed/utils.py, get_pp_indices)."""
    sizes = [layers // pipeline] * pipeline
    for place in range(2, layers % pipeline + 2):
        sizes[-place] += 1
    return staged(sizes)


def parse_version(text: str) -> Version:
    """(0, 23) of "v0.23.0", "0.10.1 (Aug 2025)" or "0.26.1rc1.dev608+g99a10304d"; the release of the month for "2026-07".

    A build from a checkout says 0.1.dev1 whatever its age: it is taken for 0.22.
    """
    if found := re.search(r"(\d{4})-(\d{2})", text):
        return _RELEASES.get((int(found[1]), int(found[2])), CURRENT)
    if found := re.search(r"\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\w* (\d{4})", text):
        dated = _RELEASES.get((int(found[2]), _MONTHS.index(found[1]) // 3 + 1), CURRENT)
    else:
        dated = CURRENT
    if found := re.search(r"\bv?(\d+)\.(\d+)", text):
        numbered = int(found[1]), int(found[2])
        return _CHECKOUT if numbered == (0, 1) else numbered
    return dated


_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"
_CHECKOUT: Version = (0, 22)
_RELEASES: dict[tuple[int, int], Version] = {
    (2024, 11): (0, 6), (2024, 12): (0, 6), (2025, 1): (0, 7), (2025, 2): (0, 7), (2025, 3): (0, 8), (2025, 4): (0, 8),
    (2025, 5): (0, 9), (2025, 6): (0, 9), (2025, 7): (0, 10), (2025, 8): (0, 10), (2025, 9): (0, 10), (2025, 10): (0, 11),
    (2025, 11): (0, 11), (2025, 12): (0, 13), (2026, 1): (0, 14), (2026, 2): (0, 16), (2026, 3): (0, 18), (2026, 4): (0, 19),
    (2026, 5): (0, 20), (2026, 6): (0, 22), (2026, 7): (0, 25), (2026, 8): (0, 26), (2026, 9): (0, 28), (2026, 10): (0, 30),
}  # fmt: skip


def batch_defaults(total: int | None, name: str, version: Version = CURRENT) -> tuple[int, int]:
    """(max_num_batched_tokens, max_num_seqs) of a server on such a card (engine/arg_utils.py, get_batch_defaults).

    `total` is None where NVML does not tell the memory (unified memory: GB10, Jetson): vLLM then takes the smallest.
    """
    if version < (0, 9):  # V0: batches as long as the context unless it is chunked, which long contexts are
        return 2_048, 256
    if total is not None and total >= HUGE and version >= (0, 20):
        return 16_384, 1_024
    if total is not None and total >= LARGE and "a100" not in name.lower():
        return 8_192, 1_024
    return 2_048, 256


def default_share(version: Version = CURRENT) -> float:
    """--gpu-memory-utilization where nobody gives it (config/cache.py)."""
    return 0.92 if version >= SHARE_RISEN else 0.9


def overhead(
    architecture: Architecture, setting: Setting, *, sequences: int, context: int | None = None, eager: bool = False
) -> int:
    """Bytes of a rank beside weights and KV cache: profiled activations, what lies outside PyTorch, graphs where counted.

    `context` is --max-model-len, the model's own where it is None: sparse attention has workspaces as long as that.
    Source: v1/worker/gpu_worker.py, determine_available_memory; factors from published starts (see the constants above).
    """
    version, tensor = setting.version, setting.tensor
    copies = 3.87 if version >= LEAN_SAMPLER else 9.7
    peak = memory.activations(architecture, tokens=setting.batched, sequences=sequences, tensor=tensor, copies=copies)
    graphs = 0 if eager or version < GRAPHS_COUNTED else GRAPHS if tensor == 1 else GRAPHS_IN_GROUP
    graphs *= GRAPHS_DRAFTING if setting.drafts else 1
    return peak + _sparse_workspaces(architecture, context or architecture.context) + _outside(version, tensor) + graphs


def _sparse_workspaces(architecture: Architecture, context: int) -> int:
    """Room for five contexts of latents in 16 bits, as many of index keys as fit beside (40), and the indexer's logits.

    Source: v1/attention/backends/mla/flashmla_sparse.py and indexer.py, VLLM_SPARSE_INDEXER_MAX_LOGITS_MB.
    """
    sparse = next((cache for cache, _ in architecture.kept if isinstance(cache, Latent) and cache.indexer), None)
    if sparse is None:
        return 0
    entries = context // max(1, sparse.ratio)
    return entries * (5 * sparse.width * 2 + 40 * memory.index_bytes(sparse)) + GIB // 2


def _outside(version: Version, tensor: int) -> int:
    if version >= HEAVIER_CONTEXT:
        return memory.outside_torch(tensor)
    return round((0.13 if tensor == 1 else 0.55 if tensor == 2 else 2.1) * GIB)  # noqa: PLR2004 - a pair needs fewer buffers


def tokens(architecture: Architecture, kv: int, context: int, setting: Setting) -> int:
    """Tokens that `kv` bytes of a rank hold in sequences of `context`: the maximum concurrency vLLM prints, times `context`.

    Whole blocks, padded groups, windows and states included: for hybrids it depends on `context`. Source:
    v1/core/kv_cache_utils.py, get_kv_cache_capacity. A stage of a pipeline that keeps nothing holds any number.
    """
    groups = kv_groups(architecture, setting)
    if not groups:
        return 0
    largest = max(group.bytes for group in groups)
    if not largest:
        return ANY_NUMBER
    return int(max(0, kv) // largest / blocks_needed(groups, context, setting) * context)


def kv_bytes(architecture: Architecture, context: int, sequences: float, setting: Setting) -> int:
    """Bytes of KV cache on a rank for so many sequences of `context` tokens at once: what `tokens` turns back."""
    groups = kv_groups(architecture, setting)
    blocks = math.ceil(blocks_needed(groups, context, setting) * sequences)
    return blocks * max((group.bytes for group in groups), default=0)


def block_bytes(architecture: Architecture, setting: Setting) -> int:
    """Bytes on a rank of the block that the pool never gives away (get_kv_cache_configs: "Reserve the null block")."""
    return max((group.bytes for group in kv_groups(architecture, setting)), default=0)


def blocks_needed(groups: Iterable[Group], context: int, setting: Setting) -> int:
    """Blocks that one sequence takes from the pool that all groups share (get_max_concurrency_for_kv_cache_config)."""
    in_flight = setting.batched * (2 if setting.version >= TWO_IN_FLIGHT else 1)
    length = math.ceil(context / setting.contexts)
    return max(1, sum(group.pages.needed(length, in_flight) for group in groups))


def kv_groups(architecture: Architecture, setting: Setting) -> tuple[Group, ...]:
    """Layers in groups of equal pages, as vLLM shares them out (v1/core/kv_cache_utils.py, get_kv_cache_groups).

    Groups are those of the whole model; a stage of a pipeline has of each the layers that it holds
    (_project_kv_cache_groups_to_worker).
    """
    return _kv_groups(architecture.kept, architecture.layers, setting)


@lru_cache(maxsize=1024)
def _kv_groups(kept: tuple[Kept, ...], count: int, setting: Setting) -> tuple[Group, ...]:
    """Asked again for each context that is tried: few kinds of layers, and one answer for all contexts."""
    layers = _with_drafts([each for each in kept if not (isinstance(each[0], Attention) and each[0].shared)], count, setting)
    if any(isinstance(cache, Latent) and cache.window for cache, _ in layers):
        return _packed(layers, setting)
    pages = _layer_pages(layers, setting)
    if all(not each.window and not each.states for each, _ in pages) or len(pages) == 1:
        return (Group(pages[0][0], sum(_held(numbers, setting) * each.bytes for each, numbers in pages)),) if pages else ()
    return _equal_groups(_equal_pages(pages), setting)


def _with_drafts(kept: list[Kept], count: int, setting: Setting) -> list[Kept]:
    """The layers of a draft head behind the last one: like the last that is no state, but seeing all."""
    growing = [each for each in kept if not isinstance(each[0], State)]
    if not setting.drafts or not growing:
        return kept
    grown, _ = max(growing, key=lambda each: each[1][-1])
    if isinstance(grown, Latent) and grown.sparse:  # a draft's layer has index keys of its own
        grown = replace(grown, indexer=max(cache.indexer for cache, _ in kept if isinstance(cache, Latent)))
    if isinstance(grown, Attention):
        grown = replace(grown, window=0)
    joined = dict(kept)
    joined[grown] = (*joined.get(grown, ()), *range(count, count + setting.drafts))
    return list(joined.items())


def _held(numbers: Sequence[int], setting: Setting) -> int:
    """How many of these layers a rank holds; drafts are numbered behind the last one, and stand in the last stage."""
    stage = setting.stage
    if stage is None:
        return len(numbers)
    return stage.held(numbers) + (sum(number >= stage.count for number in numbers) if stage.closes else 0)


def _layer_pages(layers: Iterable[Kept], setting: Setting) -> list[tuple[Pages, tuple[int, ...]]]:
    """Each layer's pages; in hybrids the block grows until a page of attention holds a whole state.

    Source: platforms/interface.py, _align_hybrid_block_size ("Setting attention block size to 784 tokens").
    """
    kept = tuple(layers)
    speculated = setting.speculated
    states = [_with_draft(cache, speculated) for cache, _ in kept if isinstance(cache, State)]
    attending = [cache for cache, _ in kept if not isinstance(cache, State)]
    one = max((memory.token_bytes(cache, setting.kv_dtype, setting.tensor) for cache in attending), default=0)
    largest = max((memory.state_bytes(state, setting.tensor) for state in states), default=0)
    block = setting.block
    if largest and one:
        step = _MLA_ALIGNMENT if any(isinstance(cache, Latent) for cache in attending) else setting.block
        block = step * max(1, math.ceil(largest / (step * one)))
    resident = (2 if setting.version >= STATES_CACHED else 1) + speculated
    found: dict[Pages, tuple[int, ...]] = {}
    for cache, numbers in kept:
        if isinstance(cache, State):
            pages = Pages(max(largest, one * block), block, states=resident)
        else:
            window = cache.window if setting.version >= SLIDING_SINCE else 0
            chunked = isinstance(cache, Attention) and cache.chunked
            pages = Pages(memory.token_bytes(cache, setting.kv_dtype, setting.tensor) * block, block, window, chunked)
        found[pages] = (*found.get(pages, ()), *numbers)
    return [(pages, tuple(sorted(numbers))) for pages, numbers in found.items()]


def _with_draft(state: State, speculated: int) -> State:
    """Speculation lengthens the convolution by as many inputs."""
    return replace(state, history=state.history + speculated)


def _equal_pages(pages: list[tuple[Pages, tuple[int, ...]]]) -> list[tuple[Pages, tuple[int, ...]]]:
    """All pages as large as the largest: by more tokens in a block where that comes out even, else by padding.

    Source: unify_kv_cache_spec_page_size.
    """
    largest = max(each.bytes for each, _ in pages)
    return [
        (replace(each, bytes=largest, block=each.block * (largest // each.bytes if largest % each.bytes == 0 else 1)), numbers)
        for each, numbers in pages
    ]


def _equal_groups(pages: list[tuple[Pages, tuple[int, ...]]], setting: Setting) -> tuple[Group, ...]:
    """Groups as large as the rarest kind of layer, or the most frequent one's size if that is not much more.

    Of n groups of a kind each has every n-th layer, so that stages of a pipeline hold like parts of all. Source:
    _get_kv_cache_groups_uniform_page_size.
    """
    fewest, most = (choice(len(numbers) for _, numbers in pages) for choice in (min, max))
    size = most if most < fewest * _NEARLY else fewest
    found = []
    for kind, numbers in pages:
        groups = math.ceil(len(numbers) / size)
        for each in range(groups):
            held = size if setting.stage is None else _held(numbers[each::groups], setting)
            found.append(Group(kind, held * kind.bytes))
    return tuple(found)


def _packed(layers: list[Kept], setting: Setting) -> tuple[Group, ...]:
    """DeepSeek V4: pages of several sizes packed into one block, windows and compressors' states in groups beside them.

    Source: _get_packed_kv_cache_groups, with the pages of models/deepseek_v4 (attention.py, compressor.py).
    """
    caches = [cache for cache, numbers in layers if isinstance(cache, Latent) for _ in range(_held(numbers, setting))]
    if not caches:
        return (Group(Pages(0, _V4_BLOCK), 0),)
    full = sum(_full_page(cache, setting) for cache in caches if cache.ratio)
    fine, coarse = ([cache for cache in caches if cache.ratio == ratio] for ratio in (4, 128))
    window = Pages(
        _aligned(memory.latent_bytes(caches[0], setting.kv_dtype) * _V4_WINDOW_BLOCK), _V4_WINDOW_BLOCK, caches[0].window
    )
    # A compressor keeps the inputs of the group of tokens that it is at, and scores for them, in 32 bits: of 4-to-1 twice.
    four = [(_compressor(cache.width, 2, 4), Pages(_compressor(cache.width, 2, 4), 4, 8)) for cache in fine]
    many = [(_compressor(cache.width, 1, 8), Pages(_compressor(cache.width, 1, 8), 8, 128)) for cache in coarse]
    fine_bytes = sum(size for size, _ in four) + sum(_compressor(cache.indexer, 2, 4) for cache in fine)
    coarse_bytes = sum(size for size, _ in many)
    repeats = _repeats([len(caches), len(fine), len(coarse)], least=len(fine))
    number = math.ceil(len(caches) / repeats)
    block = max(full, fine_bytes, coarse_bytes, math.ceil(len(caches) / number) * window.bytes)
    groups = [Group(Pages(full, _V4_BLOCK), block), *[Group(window, block)] * number]
    groups += [Group(pages, block) for _, pages in (*four[:1], *many[:1])]
    return tuple(groups)


def _full_page(cache: Latent, setting: Setting) -> int:
    rows = _V4_BLOCK // cache.ratio
    page = _aligned(memory.latent_bytes(cache, setting.kv_dtype) * rows)
    return page + (_aligned(memory.index_bytes(cache) * rows) if cache.indexer else 0)


def _compressor(width: int, overlap: int, block: int) -> int:
    return _aligned(2 * overlap * width * 4 * block)


def _repeats(counts: list[int], *, least: int) -> int:
    """The number of layers in a group that wastes fewest, not under `least`; of equals the largest (_approximate_gcd)."""
    sizes = range(max(1, least), max(counts) + 1)
    return min(sizes, key=lambda size: (sum(-count % size for count in counts), -size), default=1)


def _aligned(size: int) -> int:
    return math.ceil(size / _V4_ALIGNMENT) * _V4_ALIGNMENT
