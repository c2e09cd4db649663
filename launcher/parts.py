"""The weights of a model in parts, counted from its config.json: what each is, and over how many ranks it splits."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from launcher import layers

# A part that splits over any number of ranks, and one that each rank holds whole.
ANY, WHOLE = 1 << 30, 1
# What engines make while they load: it lies in no file.
MADE = frozenset({"absorbed", "rotary"})
# Decoders with two matrices in an MLP, not three (no gate); the others of that kind say so by their activation.
_UNGATED = frozenset({"falcon", "gpt2", "gpt_bigcode", "gpt_neox", "mpt", "nemotron", "nemotron_h", "opt", "phi", "starcoder2"})
# Norms before and after both halves of a layer.
_SANDWICHED = ("gemma2", "gemma3", "gemma4")
_UNGATED_ACTIVATIONS = frozenset({"relu2", "gelu_new"})
# What the experts that every token goes through are called: their size together, or their number (Step's: share_expert_dim).
_SHARED_SIZES = (
    "shared_expert_intermediate_size",
    "moe_shared_expert_intermediate_size",
    "shared_intermediate_size",
    "share_expert_dim",
)
# The first layer with experts (ERNIE 4.5 names the last one too: moe_layer_end_index).
_FIRST_EXPERTS = ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index")
_SHARED_NUMBERS = ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts")


@dataclass(frozen=True, slots=True)
class Part:
    """`each` elements of one kind ("attention", "experts", "embedding") in each of `layers`, split over at most `shards` ranks.

    No layers: it stands outside of them, once. `modules` are where its weights lie within a layer, by the names that ignore
    lists use. `draft`: of a draft head (multi-token prediction), which engines load only for speculative decoding.
    """

    kind: str
    each: int
    shards: int = ANY
    modules: tuple[str, ...] = ()
    draft: bool = False
    layers: tuple[int, ...] = ()

    @property
    def elements(self) -> int:
        """Elements in the whole model."""
        return self.each * (len(self.layers) or 1)


@dataclass(frozen=True, slots=True)
class _Shape:
    """All that tells one layer from another: those of the same shape are counted once."""

    kind: str
    heads: int
    experts: bool
    mlp: bool
    shared: bool
    indexer: bool
    ratio: int


@dataclass(frozen=True, slots=True)
class _Decoder:
    """A decoder's facts, and what kind each of its layers is."""

    text: Mapping[str, Any]
    kinds: tuple[str, ...]

    @property
    def apart(self) -> bool:
        """Whether an attention, a Mamba, an MLP and experts are each a layer of their own (Nemotron-H)."""
        return isinstance(self.text.get("hybrid_override_pattern"), str) or layers.NOTHING in self.kinds

    def letter(self, layer: int) -> str:
        """What such a layer is called: a letter of a pattern, or a word of a list."""
        pattern = self.text.get("hybrid_override_pattern")
        named = self.text.get("layers_block_type") or self.text.get("layer_types") or ()
        return pattern.replace("|", "")[layer] if isinstance(pattern, str) else str(named[layer])

    def shapes(self) -> Mapping[_Shape, tuple[int, ...]]:
        """The layers of each shape."""
        found: dict[_Shape, list[int]] = {}
        for layer in range(len(self.kinds)):
            found.setdefault(self.shape(layer), []).append(layer)
        return {shape: tuple(numbers) for shape, numbers in found.items()}

    def shape(self, layer: int) -> _Shape:
        """What one layer is like."""
        text, kind = self.text, self.kinds[layer]
        ratios = text.get("compress_ratios") or ()
        expert = _has_experts(self, layer)
        return _Shape(
            kind=kind,
            heads=_heads(text, kind, layer),
            experts=expert,
            mlp=_has_mlp(self, layer, expert=expert),
            shared=layer >= len(self.kinds) - int(text.get("num_kv_shared_layers") or 0),
            indexer=bool(text.get("index_topk")) and layers.has_indexer(text, layer),
            ratio=int(ratios[layer]) if layer < len(ratios) else 0,
        )


def count(text: Mapping[str, Any], config: Mapping[str, Any], *, tied: bool) -> tuple[Part, ...]:
    """All parts of the model whose decoder has the facts `text`, and whose vision tower stands in `config`."""
    decoder = _Decoder(text, layers.kinds(text))
    each = [replace(part, layers=found) for shape, found in decoder.shapes().items() for part in _layer(decoder, shape)]
    drafts = [replace(part, draft=True) for part in _drafts(decoder)]
    return (*_merged(each), *_merged(drafts), *_ends(text, tied=tied), *_towers(text, config))


def head_counts(text: Mapping[str, Any]) -> tuple[int, ...]:
    """The numbers of attention heads that there are among its layers: each must divide over the ranks."""
    return tuple(
        dict.fromkeys(_heads(text, kind, number) for number, kind in enumerate(layers.kinds(text)) if kind in layers.ATTENDING)
    )


def experts(text: Mapping[str, Any]) -> int:
    """Routed experts in a layer that has any; 0 for dense models."""
    for key in ("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts"):
        value = text.get(key)
        if isinstance(value, list):
            value = max(value, default=0)
        if isinstance(value, int) and value > 1:
            return value
    return 0


def expert_size(text: Mapping[str, Any]) -> int:
    """Elements between the two halves of one expert."""
    for key in ("moe_intermediate_size", "expert_ffn_hidden_size", "moe_ffn_hidden_size", "intermediate_size"):
        value = text.get(key)
        if isinstance(value, list):
            value = max(value, default=0)
        if isinstance(value, int) and value > 0:
            return value
    return 0


def dense_size(text: Mapping[str, Any]) -> int:
    """Elements between the halves of a dense layer's MLP; Llama 4 calls its dense ones `intermediate_size_mlp`."""
    value = text.get("intermediate_size_mlp") or text.get("intermediate_size") or text.get("ffn_dim") or 0
    return int(max(value, default=0)) if isinstance(value, list) else int(value)


def _merged(parts: list[Part]) -> tuple[Part, ...]:
    """Parts of the same layers that are stored and split alike as one."""

    def key(part: Part) -> tuple[object, ...]:
        return part.kind, part.shards, part.draft, part.layers, part.modules

    same: dict[tuple[object, ...], Part] = {}
    for part in parts:
        known = same.get(key(part))
        same[key(part)] = part if known is None else replace(known, each=known.each + part.each)
    return tuple(same.values())


def _heads(text: Mapping[str, Any], kind: str, layer: int) -> int:
    each = text.get("num_attention_heads_per_layer")
    number = int(each[layer] if isinstance(each, list) and layer < len(each) else text["num_attention_heads"])
    other = text.get("attention_other_setting")  # Step 3.5
    told = other.get("num_attention_heads") if isinstance(other, Mapping) else text.get("swa_num_attention_heads")
    return int(told or number) if kind == layers.SLIDING else number


def _layer(decoder: _Decoder, shape: _Shape) -> Iterator[Part]:
    """The parts of one decoder layer: what mixes tokens, what works on each, and its norms."""
    text, kind = decoder.text, shape.kind
    if kind == layers.STATE:
        yield from _state(text)
    elif kind != layers.NOTHING and (text.get("q_lora_rank") or layers.latent_width(text)):
        yield from _latent(text, shape)
    elif kind != layers.NOTHING:
        yield from _attention(text, shape)
    if shape.experts:
        yield from _experts(text)
    if shape.mlp:
        matrices = 2 if _ungated(text) else 3
        # Gemma 4's small models widen it where a layer has no keys and values of its own.
        size = dense_size(text) * (2 if text.get("use_double_wide_mlp") and shape.shared else 1)
        yield Part("mlp", matrices * text["hidden_size"] * size, modules=("mlp.gate_proj", "mlp.down_proj"))
    norms = 1 if decoder.apart else 4 if str(text.get("model_type", "")).startswith(_SANDWICHED) else 2
    yield Part("norm", norms * text["hidden_size"], WHOLE)
    yield from _side_inputs(text)


def _has_mlp(decoder: _Decoder, layer: int, *, expert: bool) -> bool:
    if decoder.apart:
        return decoder.letter(layer) in {"-", "mlp"}
    # Gemma 4 has a dense MLP beside its experts.
    return not expert or str(decoder.text.get("model_type", "")).startswith("gemma4")


def _has_experts(decoder: _Decoder, layer: int) -> bool:
    """Whether a layer's MLP is a mixture of experts: by a list of layers, or else by a first one and a step."""
    if not experts(decoder.text):
        return False
    if decoder.apart:
        return decoder.letter(layer) in {"E", "moe"}
    listed = _listed_experts(decoder.text, layer)
    return _stepped_experts(decoder.text, layer) if listed is None else listed


def _listed_experts(text: Mapping[str, Any], layer: int) -> bool | None:
    named, listed, frequency = text.get("mlp_layer_types"), text.get("moe_layers"), text.get("moe_layer_freq")
    enumerated = text.get("moe_layers_enum")  # Step 3: "4,5,6"
    if isinstance(named, list):
        return str(named[layer]) != "dense"
    if isinstance(listed, list):
        return layer in listed
    if isinstance(frequency, list):
        return bool(frequency[layer])
    return str(layer) in re.split(r"\s*,\s*", enumerated) if isinstance(enumerated, str) and enumerated else None


def _stepped_experts(text: Mapping[str, Any], layer: int) -> bool:
    # Laguna's first layer is dense unless its config says otherwise (transformers, configuration_laguna.py).
    implied = 1 if text.get("model_type") == "laguna" else 0
    first = int(next((text[key] for key in _FIRST_EXPERTS if text.get(key)), implied))
    last = text.get("moe_layer_end_index")
    if layer < first or (isinstance(last, int) and layer > last >= 0) or layer in (text.get("mlp_only_layers") or ()):
        return False
    step = int(text.get("decoder_sparse_step") or text.get("interleave_moe_layer_step") or 1)
    period, offset = int(text.get("expert_layer_period") or 1), int(text.get("expert_layer_offset") or 0)
    frequency = int(text.get("moe_layer_freq") or 1)
    return (layer + 1) % step == 0 and layer % period == offset % period and layer % frequency == 0


def _ungated(text: Mapping[str, Any]) -> bool:
    activation = text.get("mlp_hidden_act") or text.get("hidden_act") or text.get("activation_function")
    return text.get("model_type") in _UNGATED or activation in _UNGATED_ACTIVATIONS


def _experts(text: Mapping[str, Any]) -> Iterator[Part]:
    """All routed experts of a layer (all are resident), those that every token goes through, and the router."""
    hidden, size, number = int(text["hidden_size"]), expert_size(text), experts(text)
    matrices = 2 if _ungated(text) else 3
    # Gemma 4's lie beside its MLP.
    inside = "" if str(text.get("model_type", "")).startswith("gemma4") else "mlp."
    # The larger models of Nemotron 3 and Kimi K3 project to a latent before their experts, and back.
    inner = int(text.get("moe_latent_size") or text.get("routed_expert_hidden_size") or hidden)
    modules = (f"{inside}experts.0.gate_proj", f"{inside}experts.0.down_proj")
    yield Part("experts", number * matrices * inner * size, modules=modules)
    if inner != hidden:
        yield Part("shared", 2 * hidden * inner, WHOLE, ("mlp.fc1_latent_proj",))
    if shared := _shared_size(text, size):
        yield Part("shared", matrices * hidden * shared, modules=("mlp.shared_experts.gate_proj",))
    yield Part("router", hidden * number, WHOLE)


def _shared_size(text: Mapping[str, Any], size: int) -> int:
    for key in _SHARED_SIZES:
        if text.get(key):
            return int(text[key]) * (int(text.get("n_shared_experts") or 1) if key.startswith("moe") else 1)
    number = next((text[key] for key in _SHARED_NUMBERS if text.get(key)), 0)
    number = max(number, default=0) if isinstance(number, list) else number
    if str(text.get("model_type", "")).startswith("llama4"):
        number = 1
    return int(number) * size


def _attention(text: Mapping[str, Any], shape: _Shape) -> Iterator[Part]:
    """Queries (doubled by an output gate), keys, values and the output; Gemma 4's full layers can take keys for values."""
    hidden, number = int(text["hidden_size"]), shape.heads
    kv_heads, key, value = layers.head_sizes(text, shape.kind)
    gate = 2 if text.get("attn_output_gate", str(text.get("model_type", "")).startswith(("qwen3_next", "qwen3_5"))) else 1
    yield Part("attention", hidden * number * (gate * key + value), modules=("self_attn.q_proj", "self_attn.o_proj"))
    same = shape.kind == layers.FULL and text.get("attention_k_eq_v")
    if not shape.shared:
        yield Part("attention", hidden * kv_heads * (key + (0 if same else value)), kv_heads, ("self_attn.k_proj",))
    if has_bias(text):
        yield Part("norm", number * key + kv_heads * (key + value), WHOLE)
    if text.get("use_qk_norm") or str(text.get("model_type", "")).startswith(("qwen3", "gemma3", "gemma4")):
        yield Part("norm", 2 * key, WHOLE)


def has_bias(text: Mapping[str, Any]) -> bool:
    """Whether q, k and v have biases: Qwen2 has them without saying so (transformers, models/qwen2/modeling_qwen2.py)."""
    return text.get("model_type") in {"qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl"} or bool(text.get("attention_bias", False))


def _latent(text: Mapping[str, Any], shape: _Shape) -> Iterator[Part]:
    """Latent attention: the projections down are on each rank, the ones up to the heads are split."""
    hidden, heads = int(text["hidden_size"]), int(text["num_attention_heads"])
    rank, q_rank = int(text.get("kv_lora_rank") or 0), int(text.get("q_lora_rank") or 0)
    if not rank:
        yield from _latent_v4(text, shape)
        return
    rope, nope = int(text.get("qk_rope_head_dim") or 0), int(text.get("qk_nope_head_dim") or 0)
    value = int(text.get("v_head_dim") or nope)
    query = q_rank * heads * (nope + rope) if q_rank else hidden * heads * (nope + rope)
    yield Part("attention", query + rank * heads * (nope + value) + heads * value * hidden, modules=("self_attn.q_b_proj",))
    yield Part("attention", hidden * (q_rank + rank + rope), WHOLE, ("self_attn.kv_a_proj_with_mqa",))
    # Absorbed into queries and outputs: each engine keeps that projection a second time, in 16 bits (vllm, mla_attention.py).
    yield Part("absorbed", rank * heads * (nope + value))
    if shape.indexer:
        yield from _indexer(text)


def _latent_v4(text: Mapping[str, Any], shape: _Shape) -> Iterator[Part]:
    """DeepSeek V4 (vllm, models/deepseek_v4/attention.py): one latent head, a grouped low-rank output, compressors."""
    hidden, heads, size = int(text["hidden_size"]), int(text["num_attention_heads"]), int(text["head_dim"])
    q_rank, o_rank = int(text.get("q_lora_rank") or 0), int(text.get("o_lora_rank") or 0)
    groups = int(text.get("o_groups") or heads // 8)
    split = q_rank * heads * size + heads * size * o_rank + groups * o_rank * hidden
    yield Part("attention", split, modules=("self_attn.wq_b",))
    yield Part("attention", hidden * (q_rank + size), WHOLE, ("self_attn.wkv",))
    if shape.ratio:
        yield Part("router", (4 if shape.ratio == 4 else 2) * hidden * size, WHOLE)  # noqa: PLR2004 - overlapping windows
    if shape.ratio == 4:  # noqa: PLR2004 - only these have an indexer
        yield from _indexer(text)


def _indexer(text: Mapping[str, Any]) -> Iterator[Part]:
    if not text.get("index_topk") or not text.get("index_head_dim"):
        return
    hidden, q_rank = int(text["hidden_size"]), int(text.get("q_lora_rank") or text["hidden_size"])
    heads, size = int(text.get("index_n_heads") or 1), int(text["index_head_dim"])
    yield Part("attention", q_rank * heads * size + hidden * (size + heads), WHOLE, ("self_attn.indexer.wq_b",))


def _state(text: Mapping[str, Any]) -> Iterator[Part]:
    """Linear attention, Mamba and short convolutions (shapes: transformers, models/*/modeling_*.py)."""
    hidden = int(text["hidden_size"])
    state = layers.state(text)
    linear = text.get("linear_attn_config")
    if isinstance(linear, Mapping):
        size, head = int(linear["num_heads"]) * int(linear["head_dim"]), int(linear["head_dim"])
        yield Part(
            "state", 4 * hidden * size + hidden * int(linear["num_heads"]) + 2 * head * size, modules=("linear_attn.q_proj",)
        )
        yield Part("state", 2 * hidden * head, WHOLE, ("linear_attn.f_a_proj",))
        if linear.get("use_full_rank_gate"):
            yield Part("state", hidden * size, modules=("linear_attn.g_proj",))
    elif text.get("linear_num_value_heads"):
        keys, values = layers.gated_delta_sizes(text)
        names = "linear_attn.in_proj_qkv", "linear_attn.out_proj"
        yield Part("state", hidden * (2 * keys + 2 * values) + values * hidden, modules=names)
        yield Part("convolution", hidden * 2 * int(text["linear_num_value_heads"]))
    elif heads := layers.mamba_heads(text):
        inner = state.convolution
        yield Part("state", hidden * (2 * inner + state.groups * state.group + heads) + inner * hidden, modules=(
            "mixer.in_proj", "mixer.out_proj",
        ))  # fmt: skip
    elif text.get("mamba_d_state"):
        inner, size = state.convolution, int(text["mamba_d_state"])
        rank = int(text.get("mamba_dt_rank") or hidden // 16) if text.get("mamba_dt_rank") != "auto" else hidden // 16
        yield Part("state", 3 * hidden * inner + inner * (2 * rank + 3 * size), modules=("mamba.in_proj",))
    elif not state.recurrent:
        yield Part("state", 4 * hidden * state.convolution, modules=("conv.in_proj",))
    else:
        key = int(text.get("head_dim") or hidden // text["num_attention_heads"])
        yield Part("state", 5 * hidden * int(text["num_attention_heads"]) * key, modules=("linear_attn.qkv_proj",))
    yield Part("convolution", (state.history + 1) * (state.convolution + state.groups * state.group))


def _side_inputs(text: Mapping[str, Any]) -> Iterator[Part]:
    """Gemma 3n and Gemma 4 E: an embedding for each layer, and what brings it in."""
    if width := int(text.get("hidden_size_per_layer_input") or 0):
        words = int(text.get("vocab_size_per_layer_input") or text["vocab_size"])
        yield Part("embedding", words * width)
        yield Part("mlp", 3 * int(text["hidden_size"]) * width, WHOLE)


def _ends(text: Mapping[str, Any], *, tied: bool) -> Iterator[Part]:
    hidden, vocab = int(text["hidden_size"]), int(text["vocab_size"])
    yield Part("embedding", vocab * hidden)
    if not tied:
        yield Part("head", vocab * hidden, modules=("lm_head",))
    yield Part("norm", hidden, WHOLE)
    yield Part("rotary", _rotary(text), WHOLE)


def _rotary(text: Mapping[str, Any]) -> int:
    """Elements of the tables of sines and cosines for all positions, made while loading: 2.5 GiB for ten million (Llama 4).

    Source: vllm, model_executor/layers/rotary_embedding/base.py (cos_sin_cache, in the model's dtype). Gemma has one for its
    windows and one for what sees all.
    """
    share = float(text.get("partial_rotary_factor") or 1)
    latent = layers.latent_width(text) or text.get("q_lora_rank")
    if latent:
        width = float(text.get("qk_rope_head_dim") or 0)
    else:
        which = set(layers.kinds(text)) & layers.ATTENDING
        apart = str(text.get("model_type", "")).startswith(("gemma3", "gemma4"))
        kinds = sorted(which) if apart else sorted(which)[:1]
        width = share * sum(layers.head_sizes(text, kind)[1] for kind in kinds)
    return round(int(text["max_position_embeddings"]) * width)


def _drafts(decoder: _Decoder) -> Iterator[Part]:
    """Multi-token prediction: layers like the last one that sees all, and a projection of two hidden vectors into one."""
    text = decoder.text
    number = int(text.get("num_nextn_predict_layers") or text.get("mtp_num_hidden_layers") or 0)
    seeing = [layer for layer, kind in enumerate(decoder.kinds) if kind == layers.FULL]
    working = [layer for layer in range(len(decoder.kinds)) if decoder.apart and _has_experts(decoder, layer)]
    for _ in range(number):
        for layer in (*seeing[-1:], *working[-1:]):
            yield from _layer(decoder, decoder.shape(layer))
        yield Part("mlp", 2 * int(text["hidden_size"]) ** 2, WHOLE)


def _towers(text: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[Part]:
    """A vision tower: transformer layers, patches, and a projector to the decoder (usual shapes; 16 bits). One for sound."""
    vision, audio = config.get("vision_config"), config.get("audio_config")
    if isinstance(audio, Mapping) and audio.get("hidden_size") and audio.get("num_hidden_layers"):
        # A conformer layer: two MLPs four times as wide, attention with positions, a gated convolution (Gemma 4).
        yield Part("vision", int(audio["num_hidden_layers"]) * 24 * int(audio["hidden_size"]) ** 2)
    if not isinstance(vision, Mapping):
        return
    # Kimi's names begin with vt_.
    facts = {key.removeprefix("vt_"): value for key, value in vision.items()}
    if hidden := int(facts.get("hidden_size") or facts.get("embed_dim") or 0):
        yield Part("vision", _eyes(facts, hidden, int(text["hidden_size"])))


def _eyes(vision: Mapping[str, Any], hidden: int, decoder: int) -> int:
    """Elements of a vision tower `hidden` wide, and of its projector to a decoder's width."""
    depth = int(vision.get("num_hidden_layers") or vision.get("depth") or vision.get("num_layers") or 0)
    ratio = float(vision.get("mlp_ratio") or 4)
    between = int(vision.get("intermediate_size") or hidden * ratio)
    gate = 3 if str(vision.get("hidden_act", "")).startswith(("silu", "swiglu")) else 2
    patch = vision.get("patch_size") or 14
    side = int(patch if isinstance(patch, int) else max(patch))
    merged = int(vision.get("spatial_merge_size") or 1) ** 2 * hidden
    projector = merged * merged + merged * decoder if merged > hidden else hidden * decoder
    return depth * (4 * hidden**2 + gate * hidden * between) + 3 * side**2 * hidden + projector
