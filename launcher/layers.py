"""What each layer of a model keeps of a sequence: keys and values, a latent, or a state of constant size.

Read from the facts of a config.json and, where it leaves one out, from the default of its class in transformers 5
(models/*/configuration_*.py), which is what an engine would take as well.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType
from typing import Any

FULL, SLIDING, CHUNKED, STATE, NOTHING = "full", "sliding", "chunked", "state", ""
ATTENDING = frozenset({FULL, SLIDING, CHUNKED})


@dataclass(frozen=True, slots=True)
class Attention:
    """Keys and values of `kv_heads` heads; `window` is how many tokens back it sees, 0 for all.

    `chunked`: the window starts anew at its multiples (Llama 4). `shared`: it reads an earlier layer's cache (Gemma 3n).
    """

    kv_heads: int
    key: int
    value: int
    window: int = 0
    chunked: bool = False
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention: one vector of `width` elements a token, the same on each tensor-parallel rank.

    `sparse`: it reads the most telling tokens only, by index keys of `indexer` elements (0: those of an earlier layer).
    `ratio` tokens are compressed into one vector, beside which the last `window` tokens are kept as they are (DeepSeek V4;
    a ratio of 0 keeps only those).
    """

    width: int
    indexer: int = 0
    ratio: int = 1
    window: int = 0
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """A state of constant size: the last `history` inputs of a convolution, and a recurrent part. Counts are elements.

    `groups` of `group` elements are in the convolution too, repeated where they do not divide among the ranks (Mamba 2).
    """

    convolution: int
    history: int
    recurrent: int
    recurrent_bytes: int = 2
    groups: int = 0
    group: int = 0


Cache = Attention | Latent | State


@dataclass(frozen=True, slots=True)
class Stage:
    """The layers from `first` up to `end` of `count`: what one step of a pipeline holds.

    The first stage has the token embedding, the last one the output head and the draft heads.
    """

    first: int
    end: int
    count: int

    @property
    def opens(self) -> bool:
        return self.first == 0

    @property
    def closes(self) -> bool:
        return self.end == self.count

    def held(self, numbers: Sequence[int]) -> int:
        """How many of these layers, in ascending order, are in the stage."""
        return bisect_left(numbers, self.end) - bisect_left(numbers, self.first)


def staged(sizes: Sequence[int]) -> tuple[Stage, ...]:
    """Stages of so many layers, one after another."""
    ends = tuple(accumulate(sizes))
    return tuple(Stage(end - size, end, ends[-1]) for size, end in zip(sizes, ends, strict=True))


# Defaults of the configuration classes, for what a config.json of that type leaves out. A pattern of n: each n-th is full.
_GDN = {
    "full_attention_interval": 4,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
}
_GEMMA3 = {"sliding_window": 4096, "sliding_window_pattern": 6}
_GEMMA3N = {"sliding_window": 512, "sliding_window_pattern": 5, "num_kv_shared_layers": 15}
_GEMMA4 = {"sliding_window": 512, "sliding_window_pattern": 6, "global_head_dim": 512}
_UNIFIED = {**_GEMMA4, "sliding_window": 1024}
_LLAMA4 = {"attention_chunk_size": 8192, "no_rope_layer_interval": 4}
_DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "gemma2": {"sliding_window": 4096, "sliding_window_pattern": 2},
        "gemma3": _GEMMA3,
        "gemma3_text": _GEMMA3,
        "gemma3n": _GEMMA3N,
        "gemma3n_text": _GEMMA3N,
        "gemma4": _GEMMA4,
        "gemma4_text": _GEMMA4,
        "gemma4_unified": _UNIFIED,
        "gemma4_unified_text": _UNIFIED,
        "gpt_oss": {"sliding_window": 128, "sliding_window_pattern": 2, "head_dim": 64},
        "cohere2": {"sliding_window": 4096, "sliding_window_pattern": 4},
        "llama4": _LLAMA4,
        "llama4_text": _LLAMA4,
        "qwen3_next": _GDN,
        "qwen3_5": _GDN,
        "qwen3_5_text": _GDN,
        "qwen3_5_moe": _GDN,
        "qwen3_5_moe_text": _GDN,
        "nemotron_h": {
            "ssm_state_size": 128, "mamba_num_heads": 128, "mamba_head_dim": 64, "n_groups": 8, "conv_kernel": 4,
            "mamba_ssm_cache_dtype": "float32",
        },
    }
)  # fmt: skip
# Qwen has a window in its config.json even where it is not used.
_WINDOW_ON_REQUEST = ("qwen2", "qwen3")
# Gemma 4's last layer always sees all (configuration_gemma4.py).
_LAST_IS_FULL = ("gemma4",)
_WORDS = (
    ("sliding", SLIDING), ("local", SLIDING), ("swa", SLIDING), ("chunk", CHUNKED),
    ("linear", STATE), ("mamba", STATE), ("conv", STATE), ("delta", STATE), ("kda", STATE), ("recurrent", STATE),
    ("ssm", STATE), ("moe", NOTHING), ("mlp", NOTHING), ("attention", FULL), ("full", FULL), ("global", FULL), ("attn", FULL),
)  # fmt: skip


def with_defaults(text: Mapping[str, Any]) -> Mapping[str, Any]:
    """The facts, and for what is left out the defaults of the model type's class."""
    return {**_DEFAULTS.get(str(text.get("model_type", "")), {}), **text}


def kinds(text: Mapping[str, Any]) -> tuple[str, ...]:
    """What kind each layer is, by whichever of the ways to say so a config.json uses; with none, all layers see all."""
    count = int(text["num_hidden_layers"])
    for way in (_listed, _lettered, _linear_config, _periods, _intervals, _chunks, _windows):
        found = way(text, count)
        if found:
            return found
    return (FULL,) * count


def caches(text: Mapping[str, Any]) -> tuple[Cache | None, ...]:
    """What each layer keeps; None for layers without any memory (pure MLPs)."""
    which = kinds(text)
    shared = int(text.get("num_kv_shared_layers") or 0)
    ratios = text.get("compress_ratios")
    if isinstance(ratios, Sequence) and not isinstance(ratios, str):
        return tuple(_compressed(text, int(ratio)) for ratio in ratios[: len(which)])
    made: dict[tuple[str, bool], Cache | None] = {}
    found: list[Cache | None] = []
    for number, kind in enumerate(which):
        if kind == FULL and latent_width(text):
            found.append(_latent(text, number))
            continue
        like = kind, number >= len(which) - shared
        if like not in made:
            made[like] = _cache(text, kind, shared=like[1])
        found.append(made[like])
    return tuple(found)


def kept(caches: Sequence[Cache | None]) -> tuple[tuple[Cache, tuple[int, ...]], ...]:
    """The layers that keep the same, told together."""
    found: dict[Cache, list[int]] = {}
    for number, cache in enumerate(caches):
        if cache:
            found.setdefault(cache, []).append(number)
    return tuple((cache, tuple(numbers)) for cache, numbers in found.items())


def latent_width(text: Mapping[str, Any]) -> int:
    """Elements of the latent a token: kv_lora_rank and qk_rope_head_dim; 0 for models without one."""
    rank = text.get("kv_lora_rank")
    return int(rank) + int(text.get("qk_rope_head_dim") or 0) if isinstance(rank, int) and rank > 0 else 0


def _listed(text: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """`layer_types` (transformers), `layers_block_type` (Zamba, Bamba, Nemotron), `hybrid_layer_pattern` (MiMo: 1 slides)."""
    for key in ("layer_types", "layers_block_type"):
        names = text.get(key)
        if isinstance(names, list) and names:
            return tuple(_kind(str(name)) for name in names[:count])
    pattern = text.get("hybrid_layer_pattern")
    if isinstance(pattern, list) and pattern:
        return tuple(SLIDING if each else FULL for each in pattern[:count])
    linear = text.get("attn_type_list")  # MiniMax: 0 linear, 1 softmax
    if isinstance(linear, list) and linear:
        return tuple(FULL if each else STATE for each in linear[:count])
    return ()


def _kind(name: str) -> str:
    return next((kind for word, kind in _WORDS if word in name.lower()), FULL)


def _lettered(text: Mapping[str, Any], _: int) -> tuple[str, ...]:
    """`hybrid_override_pattern` (Nemotron-H): M a Mamba, * an attention, E experts, - an MLP; each is a layer."""
    pattern = text.get("hybrid_override_pattern")
    letters = {"M": STATE, "*": FULL}
    return tuple(letters.get(letter, NOTHING) for letter in pattern if letter != "|") if isinstance(pattern, str) else ()


def _linear_config(text: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """`linear_attn_config` (Kimi-Linear) numbers its layers from 1; `full_attn_idxs` (LFM2) from 0."""
    told = text.get("linear_attn_config")
    if isinstance(told, Mapping) and told.get("full_attn_layers") is not None:
        full = {int(each) - 1 for each in told["full_attn_layers"]}
        return tuple(FULL if number in full else STATE for number in range(count))
    for key in ("full_attn_idxs", "attn_layer_indices"):
        indexes = text.get(key)
        if isinstance(indexes, list):
            return tuple(FULL if number in indexes else STATE for number in range(count))
    return ()


def _periods(text: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """`attn_layer_period` and `attn_layer_offset` (Jamba)."""
    period, offset = text.get("attn_layer_period"), int(text.get("attn_layer_offset") or 0)
    if not isinstance(period, int) or period < 1:
        return ()
    return tuple(FULL if number % period == offset else STATE for number in range(count))


def _intervals(text: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """`full_attention_interval` (Qwen3-Next) or `layer_group_size` (Ring and Ling 2.5): each n-th is full, others linear."""
    every = text.get("full_attention_interval") or text.get("layer_group_size")
    return _every(every, count, STATE) if isinstance(every, int) and every > 1 else ()


def _chunks(text: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """`attention_chunk_size` (Llama 4): layers with rotary positions are chunked, each n-th is not."""
    if not text.get("attention_chunk_size"):
        return ()
    rotary = text.get("no_rope_layers")
    if isinstance(rotary, list) and rotary:
        return tuple(CHUNKED if each else FULL for each in rotary[:count])
    return _every(int(text.get("no_rope_layer_interval") or 4), count, CHUNKED)


def _windows(text: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """`sliding_window`, everywhere or, by `sliding_window_pattern`, in all but each n-th layer."""
    model_type = str(text.get("model_type", ""))
    if not text.get("sliding_window") or text.get("use_sliding_window") is False:
        return ()
    if model_type.startswith(_WINDOW_ON_REQUEST):
        first = int(text.get("max_window_layers") or 0)
        return tuple(SLIDING if number >= first else FULL for number in range(count)) if text.get("use_sliding_window") else ()
    every = text.get("sliding_window_pattern") or text.get("_sliding_window_pattern")
    if not isinstance(every, int):
        return (SLIDING,) * count
    found = _every(every, count, SLIDING)
    return (*found[:-1], FULL) if model_type.startswith(_LAST_IS_FULL) else found


def _every(every: int, count: int, other: str) -> tuple[str, ...]:
    return tuple(other if (number + 1) % every else FULL for number in range(count))


def _cache(text: Mapping[str, Any], kind: str, *, shared: bool) -> Cache | None:
    if kind == NOTHING:
        return None
    if kind == STATE:
        return state(text)
    heads, key, value = head_sizes(text, kind)
    window = {SLIDING: "sliding_window", CHUNKED: "attention_chunk_size"}.get(kind)
    reach = int(text.get(window) or 0) if window else 0
    return Attention(heads, key, value, window=reach, chunked=kind == CHUNKED, shared=shared)


def _latent(text: Mapping[str, Any], layer: int) -> Latent:
    sparse = bool(text.get("index_topk"))
    indexer = int(text.get("index_head_dim") or 0) if sparse and has_indexer(text, layer) else 0
    return Latent(latent_width(text), indexer=indexer, sparse=sparse)


def has_indexer(text: Mapping[str, Any], layer: int) -> bool:
    """Whether a layer of sparse attention has index keys of its own, or shares an earlier one's (GLM 5.2).

    Source: vllm, model_executor/models/deepseek_v2.py (index_topk_pattern, index_topk_freq, index_skip_topk_offset).
    """
    listed, pattern = text.get("indexer_types"), text.get("index_topk_pattern")
    if isinstance(listed, list) and layer < len(listed):
        return str(listed[layer]) != "shared"
    if isinstance(pattern, str | list) and layer < len(pattern):
        return str(pattern[layer]) != "S"
    offset = int(text.get("index_skip_topk_offset") or 2)
    return max(layer - offset + 1, 0) % int(text.get("index_topk_freq") or 1) == 0


def head_sizes(text: Mapping[str, Any], kind: str) -> tuple[int, int, int]:
    """KV heads, and the width of a key and of a value, of a layer of this kind.

    Full layers of Gemma 4 have heads of their own (`global_head_dim`; with `attention_k_eq_v` their own number too), and
    sliding ones of MiMo V2 and Step 3.5 (`swa_*`).
    """
    heads = int(text.get("num_key_value_heads") or text.get("num_attention_groups") or text["num_attention_heads"])
    key = int(text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"])
    value = int(text.get("v_head_dim") or key) if not latent_width(text) else key
    if kind == FULL and text.get("global_head_dim"):
        wide = int(text["global_head_dim"])
        number = text.get("num_global_key_value_heads") if text.get("attention_k_eq_v") else None
        return int(number or heads), wide, wide
    if kind == SLIDING and (text.get("swa_head_dim") or text.get("swa_num_key_value_heads")):
        key = int(text.get("swa_head_dim") or key)
        return int(text.get("swa_num_key_value_heads") or heads), key, int(text.get("swa_v_head_dim") or value)
    return heads, key, value


def _compressed(text: Mapping[str, Any], ratio: int) -> Latent:
    """A layer of DeepSeek V4: compressed latents beside a window; only the 4-to-1 ones have an indexer."""
    indexer = int(text.get("index_head_dim") or 0) if ratio == 4 else 0  # noqa: PLR2004 - C4A in its paper
    return Latent(int(text["head_dim"]), indexer, ratio, int(text.get("sliding_window") or 0), sparse=True)


def state(text: Mapping[str, Any]) -> State:
    """The state of one linear-attention, Mamba or convolution layer.

    Shapes: vllm, model_executor/layers/mamba/mamba_utils.py (MambaStateShapeCalculator). The recurrent part is in the
    model's 16 bits unless the config says otherwise; Kimi's always is in 32.
    """
    linear = text.get("linear_attn_config")
    told = text.get("mamba_ssm_dtype") or text.get("mamba_ssm_cache_dtype")
    wide = 4 if told == "float32" else 2
    hidden = int(text["hidden_size"])
    if isinstance(linear, Mapping):
        size = int(linear["num_heads"]) * int(linear["head_dim"])
        history = int(linear.get("short_conv_kernel_size") or 4) - 1
        return State(3 * size, history, size * int(linear["head_dim"]), 4)
    if text.get("linear_num_value_heads"):
        keys, values = gated_delta_sizes(text)
        history = int(text.get("linear_conv_kernel_dim") or 4) - 1
        return State(2 * keys + values, history, values * int(text["linear_key_head_dim"]), wide)
    if heads := mamba_heads(text):
        width = heads * int(text.get("mamba_head_dim") or text.get("mamba_d_head") or hidden * 2 // heads)
        state = int(text.get("ssm_state_size") or text.get("mamba_d_state") or 128)
        history = int(text.get("conv_kernel") or text.get("mamba_d_conv") or 4) - 1
        groups = int(text.get("n_groups") or text.get("mamba_n_groups") or 1)
        return State(width, history, width * state, wide, groups, 2 * state)
    if text.get("mamba_d_state"):  # Mamba 1
        width = int(text.get("mamba_expand") or 2) * hidden
        return State(width, int(text.get("mamba_d_conv") or 4) - 1, width * int(text["mamba_d_state"]), wide)
    if text.get("conv_L_cache"):  # short convolutions (LFM2)
        return State(int(text.get("conv_dim") or hidden), int(text["conv_L_cache"]) - 1, 0)
    key = int(text.get("head_dim") or hidden // text["num_attention_heads"])
    return State(0, 0, int(text["num_attention_heads"]) * key * key, wide)


def state_heads(text: Mapping[str, Any]) -> tuple[int, ...]:
    """The numbers of heads that a state's layer is split by (vllm, mamba_utils.py: `divide` in each shape)."""
    linear = text.get("linear_attn_config")
    if isinstance(linear, Mapping):
        return (int(linear["num_heads"]),)
    if text.get("linear_num_value_heads"):
        return tuple(dict.fromkeys((int(text["linear_num_key_heads"]), int(text["linear_num_value_heads"]))))
    return (heads,) if (heads := mamba_heads(text)) else ()


def gated_delta_sizes(text: Mapping[str, Any]) -> tuple[int, int]:
    """Elements of all key heads and of all value heads of a gated delta net."""
    keys = int(text["linear_num_key_heads"]) * int(text["linear_key_head_dim"])
    return keys, int(text["linear_num_value_heads"]) * int(text["linear_value_head_dim"])


def mamba_heads(text: Mapping[str, Any]) -> int:
    """Heads of a Mamba 2 layer; 0 for models without one."""
    return int(text.get("mamba_num_heads") or text.get("mamba_n_heads") or 0)
