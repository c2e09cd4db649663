"""The facts of a model's config.json that decide how much memory it takes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from launcher import layers, parts, quantisation
from launcher.errors import LauncherError
from launcher.layers import Attention, Cache, Latent, State
from launcher.parts import Part
from launcher.quantisation import Quantisation

# What counts as a linear projection: what weight quantisation applies to.
LINEAR = frozenset({"attention", "mlp", "experts", "shared", "state"})
# Model types whose facts are read as their own code reads them. Others are planned by the same keys, and that is said.
KNOWN = frozenset(
    {
        "afmoe", "apertus", "arcee", "bailing_hybrid", "bailing_moe", "bailing_moe_v2", "bamba", "cohere", "cohere2", "dbrx",
        "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "devstral", "ernie4_5", "ernie4_5_moe", "exaone4",
        "falcon_h1", "gemma", "gemma2", "gemma3", "gemma3_text", "gemma3n", "gemma3n_text", "gemma4", "gemma4_text",
        "gemma4_unified", "gemma4_unified_text", "glm", "glm4", "glm4_moe", "glm4_moe_lite", "glm4v", "glm4v_moe",
        "glm_moe_dsa", "gpt_neox", "gpt_oss", "granite", "granitemoe", "granitemoehybrid", "hunyuan_v1_dense",
        "hunyuan_v1_moe", "internlm2", "internlm3", "internvl_chat", "jamba", "kimi_k2", "kimi_k25", "kimi_linear", "kimi_vl",
        "laguna", "lfm2", "lfm2_moe", "llama", "llama4", "llama4_text", "llava", "mimo", "mimo_v2_flash", "minimax",
        "minimax_m2", "minimax_text_01", "ministral", "ministral3", "mistral", "mistral3", "mistral4", "mixtral", "nemotron",
        "nemotron_h", "olmo", "olmo2", "olmo3", "olmoe", "opt", "phi", "phi3", "phi4_multimodal", "phimoe",
        "pixtral", "qwen2", "qwen2_5_vl", "qwen2_moe", "qwen2_vl", "qwen3", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text",
        "qwen3_5_text", "qwen3_moe", "qwen3_next", "qwen3_vl", "qwen3_vl_moe", "qwen3_vl_moe_text", "qwen3_vl_text",
        "seed_oss", "smollm3", "starcoder2", "step3", "step3p5", "zamba2",
    }
)  # fmt: skip
# Older config.jsons' words, and their modern ones.
_ALIASES = {
    "n_layer": "num_hidden_layers",
    "n_layers": "num_hidden_layers",
    "num_layers": "num_hidden_layers",
    "n_embd": "hidden_size",
    "d_model": "hidden_size",
    "n_head": "num_attention_heads",
    "n_heads": "num_attention_heads",
    "n_inner": "intermediate_size",
    "num_experts_per_token": "num_experts_per_tok",
    "n_positions": "max_position_embeddings",
    "seq_length": "max_position_embeddings",
    "max_seq_len": "max_position_embeddings",
    "max_sequence_length": "max_position_embeddings",
    "model_max_length": "max_position_embeddings",
}
_NEEDED = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "max_position_embeddings")
_OPTIONAL = (
    "intermediate_size",
    "moe_intermediate_size",
    "head_dim",
    "num_key_value_heads",
    "num_experts_per_tok",
    "sliding_window",
)
_DECODERS = ("text_config", "llm_config", "language_config", "thinker_config")
_BYTES = {"float32": 4, "float": 4}


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder. Counts are numbers of elements; `context` is the native window in tokens (max_position_embeddings).

    `kept` is what its layers keep of a sequence, and which of its `layers` do, `parts` are its weights. A tensor-parallel group
    must divide each number of `divisors`: heads of several kinds, and widths, with their names. `experts` of `expert_size` are
    in a layer that has any, `active` of them at work. `generic`: the model type is not known, and its facts were read by the
    keys that all config.jsons share. `quantisation` is the checkpoint's own; `element_bytes` its unquantised ones'.
    """

    model_type: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    tied_embeddings: bool
    qkv_bias: bool
    rope_theta: float
    kept: tuple[tuple[Cache, tuple[int, ...]], ...]
    parts: tuple[Part, ...]
    experts: int
    expert_size: int
    active: int
    vision: bool
    drafts: int
    divisors: tuple[tuple[str, int], ...]
    generic: bool
    quantisation: Quantisation | None
    element_bytes: int

    @property
    def linear_parameters(self) -> int:
        """Elements of all projections: what weight quantisation applies to."""
        return self._elements(LINEAR)

    @property
    def embedding_parameters(self) -> int:
        """Elements of the token embedding and, unless it is tied to that, the output head."""
        return self._elements({"embedding", "head"})

    @property
    def other_parameters(self) -> int:
        """Elements of norms, biases, routers and towers."""
        return self.parameters - self.linear_parameters - self.embedding_parameters

    @property
    def parameters(self) -> int:
        """Elements of all that lies in its files, draft heads apart."""
        return sum(part.elements for part in self.parts if not part.draft and part.kind not in parts.MADE)

    @property
    def kind(self) -> str:
        """How it remembers: `plain`, `latent`, `sliding` (or chunked) or `hybrid` (states of constant size)."""
        if any(isinstance(cache, State) for cache, _ in self.kept):
            return "hybrid"
        if any(isinstance(cache, Latent) for cache, _ in self.kept):
            return "latent"
        return "sliding" if any(isinstance(cache, Attention) and cache.window for cache, _ in self.kept) else "plain"

    @property
    def caches(self) -> tuple[Cache | None, ...]:
        """What each layer keeps, in their order; None for layers without any memory."""
        by_layer = {number: cache for cache, numbers in self.kept for number in numbers}
        return tuple(by_layer.get(number) for number in range(self.layers))

    def _elements(self, kinds: frozenset[str] | set[str]) -> int:
        return sum(part.elements for part in self.parts if part.kind in kinds and not part.draft)


def read(config: Mapping[str, Any], *, where: str) -> Architecture:
    """The facts in a config.json's content; `where` names the file in errors.

    Raises LauncherError for facts that are missing, or that contradict one another.
    """
    text = layers.with_defaults(_decoder(config))
    _check(text, where)
    try:
        return _architecture(text, config)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise LauncherError(
            f"{where}: its facts contradict one another ({error})", hint="compare with the model's own config.json"
        ) from None


def _architecture(text: Mapping[str, Any], config: Mapping[str, Any]) -> Architecture:
    tied = bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", _tied_by_default(text))))
    model_type = str(text.get("model_type", ""))
    caches = layers.caches(text)
    heads = int(text["num_attention_heads"])
    kv_heads, head_dim, _ = layers.head_sizes(text, layers.SLIDING)
    return Architecture(
        model_type=model_type,
        layers=len(caches),
        hidden=text["hidden_size"],
        intermediate=parts.dense_size(text) or parts.expert_size(text),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=text["vocab_size"],
        context=text["max_position_embeddings"],
        tied_embeddings=tied,
        qkv_bias=parts.has_bias(text),
        rope_theta=float((text.get("rope_parameters") or text).get("rope_theta") or 10_000.0),
        kept=layers.kept(caches),
        parts=parts.count(text, config, tied=tied),
        experts=parts.experts(text),
        expert_size=parts.expert_size(text) if parts.experts(text) else 0,
        active=int(text.get("num_experts_per_tok") or text.get("moe_topk") or text.get("moe_top_k") or 1),
        vision=isinstance(config.get("vision_config"), Mapping),
        drafts=int(text.get("num_nextn_predict_layers") or text.get("mtp_num_hidden_layers") or 0),
        divisors=tuple(_divisors(text, config)),
        generic=model_type not in KNOWN and str(config.get("model_type", "")) not in KNOWN,
        quantisation=quantisation.read(config),
        element_bytes=_BYTES.get(str(text.get("dtype") or text.get("torch_dtype") or config.get("torch_dtype")), 2),
    )


def _divisors(text: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """What engines split evenly over ranks, by name: heads that attend, that keep states, that see; and widths of MLPs."""
    for number in parts.head_counts(text):
        yield "attention heads", number
    if layers.STATE in layers.kinds(text):
        for number in layers.state_heads(text):
            yield "heads of linear attention", number
    vision = config.get("vision_config")
    if isinstance(vision, Mapping) and (number := int(vision.get("num_attention_heads") or vision.get("num_heads") or 0)):
        yield "heads of the vision tower", number
    if width := parts.dense_size(text):
        yield "elements between an MLP's halves", width
    if parts.experts(text):
        yield "elements between an expert's halves", parts.expert_size(text)


def _decoder(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The decoder's facts: of a model with more than text they are nested, with what it shares beside them."""
    text: Mapping[str, Any] = config
    for _ in range(2):
        inner = next((text[key] for key in _DECODERS if isinstance(text.get(key), Mapping)), None)
        if inner is None:
            break
        text = {"model_type": text.get("model_type", ""), **inner}
    return {**_counted(text), **{modern: text[old] for old, modern in _ALIASES.items() if old in text}, **text}


def _counted(text: Mapping[str, Any]) -> Mapping[str, Any]:
    """The number of layers, where only their kinds are told (Nemotron 3 Ultra)."""
    pattern, named = text.get("hybrid_override_pattern"), text.get("layers_block_type")
    if isinstance(pattern, str):
        return {"num_hidden_layers": len(pattern.replace("|", ""))}
    return {"num_hidden_layers": len(named)} if isinstance(named, list) else {}


def _tied_by_default(text: Mapping[str, Any]) -> bool:
    """Gemma and Cohere tie their embeddings by default, in transformers 5 as before; the others do not."""
    return str(text.get("model_type", "")).startswith(("gemma", "cohere"))


def _is_size(value: object) -> bool:
    """Whether a fact that may be missing is a size, or one for each layer."""
    sizes = value if isinstance(value, list) else [value]
    return all(each is None or (isinstance(each, int) and each >= 0) for each in sizes)


def _check(text: Mapping[str, Any], where: str) -> None:
    wrong = [key for key in _NEEDED if not isinstance(text.get(key), int) or isinstance(text[key], bool) or text[key] <= 0]
    wrong += [key for key in _OPTIONAL if not _is_size(text.get(key))]
    if not wrong and not parts.dense_size(text) and not parts.experts(text):
        wrong.append("intermediate_size")
    if wrong:
        raise LauncherError(f"{where}: no whole number for {', '.join(wrong)}", hint="copy these from the model's config.json")
