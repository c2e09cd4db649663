"""Where a model answers."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible address: `base_url` ends in /v1, `context` is the window in tokens that the engine reports."""

    model: str
    base_url: str
    api_key: str = field(repr=False)
    context: int


@dataclass(frozen=True, slots=True)
class Window:
    """What a provider's model takes and gives, in tokens, 0 where nobody says; and whether it calls tools."""

    context: int = 0
    output: int = 0
    tools: bool = False


def place_of(base_url: str) -> tuple[str, int]:
    """The host and the port of such an address, ("", 0) of none."""
    host, _, port = base_url.removeprefix("http://").removesuffix("/v1").rpartition(":")
    return host, int(port or 0)


def base_url(host: str, port: int) -> str:
    """The address that OpenAI-compatible clients are given."""
    return f"http://{host}:{port}/v1"
