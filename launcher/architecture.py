"""The facts of a model's config.json that decide how much memory it takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher.errors import LauncherError

# Decoders whose layers all hold one grouped-query attention and one gated MLP: the sizes below follow from these facts alone.
DENSE = frozenset({"llama", "qwen2", "qwen3", "mistral"})


@dataclass(frozen=True, slots=True)
class Architecture:
    """A dense decoder. Counts are numbers of elements; `context` is the native window in tokens (max_position_embeddings)."""

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

    @property
    def linear_parameters(self) -> int:
        """Elements of all attention and MLP projections: what weight quantisation applies to."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def embedding_parameters(self) -> int:
        """Elements of the token embedding and, unless it is tied to that, the output head: never quantised by the engines."""
        return self.vocab * self.hidden * (1 if self.tied_embeddings else 2)

    @property
    def other_parameters(self) -> int:
        """Elements of norms and biases, which every tensor-parallel rank holds (nearly) whole."""
        bias = self.head_dim * (self.heads + 2 * self.kv_heads) if self.qkv_bias else 0
        return self.layers * (2 * self.hidden + bias) + self.hidden

    @property
    def parameters(self) -> int:
        return self.linear_parameters + self.embedding_parameters + self.other_parameters


def read(config: Mapping[str, Any], *, where: str) -> Architecture:
    """The facts in a config.json's content; `where` names the file in errors.

    Raises LauncherError for a fact that is missing, and for a kind of model whose memory is not modelled.
    """
    model_type = str(config.get("model_type", ""))
    if model_type not in DENSE:
        raise LauncherError(
            f"{where}: model_type {model_type!r} is not one whose memory can be planned yet",
            hint=f"planned are {', '.join(sorted(DENSE))}",
        )
    needed = (
        "num_hidden_layers",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "vocab_size",
        "max_position_embeddings",
    )
    wrong = [key for key in needed if not isinstance(config.get(key), int) or config[key] <= 0]
    if wrong:
        raise LauncherError(f"{where}: no whole number for {', '.join(wrong)}", hint="copy these from the model's config.json")
    heads = config["num_attention_heads"]
    # Qwen2 has biases on q, k and v without saying so in its config.json (transformers, models/qwen2/modeling_qwen2.py).
    return Architecture(
        model_type=model_type,
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        intermediate=config["intermediate_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        vocab=config["vocab_size"],
        context=config["max_position_embeddings"],
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
        qkv_bias=model_type == "qwen2" or bool(config.get("attention_bias", False)),
        rope_theta=float((config.get("rope_parameters") or config).get("rope_theta", 10_000.0)),
    )
