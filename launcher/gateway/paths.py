"""The paths that exist: all others are 404, the engines' development endpoints among them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

# In whose form errors are told, in answers and in streams.
Dialect = Literal["openai", "anthropic", "responses"]


@dataclass(frozen=True, slots=True)
class Way:
    """What may be done at a path.

    `generates`: its success proves that the engine works; `page`: the gateway itself answers. `opened` to everyone, or to
    clients on this machine, without a key.
    """

    path: str
    dialect: Dialect = "openai"
    generates: bool = False
    page: bool = False
    opened: Literal["", "here", "all"] = ""

    @property
    def methods(self) -> tuple[bytes, ...]:
        return (b"GET", b"HEAD") if self.page else (b"POST",)


_WAYS = (
    Way("/v1/chat/completions", generates=True),
    Way("/v1/completions", generates=True),
    Way("/v1/responses", "responses", generates=True),
    Way("/v1/messages", "anthropic", generates=True),
    Way("/v1/messages/count_tokens", "anthropic"),
    Way("/v1/embeddings", generates=True),
    Way("/v1/rerank", generates=True),
    Way("/v1/score", generates=True),
    Way("/tokenize"),
    Way("/detokenize"),
    Way("/v1/models", page=True),
    Way("/v1/model/info", page=True),
    Way("/health", page=True, opened="all"),
    Way("/metrics", page=True, opened="here"),
)
WAYS: Mapping[bytes, Way] = MappingProxyType({way.path.encode(): way for way in _WAYS})
